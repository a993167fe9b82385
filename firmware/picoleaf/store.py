"""What is waiting to be sent: a bounded queue in RAM, continued in flash.

A reading is a `Ticket` in RAM. While the link is up it goes RAM -> in flight -> acknowledged and flash is not touched.
When the link is down for a while, when RAM fills up, or when readings get old, those to be kept (`must`) are written to
the log and leave RAM. Readings leave in the order of their numbers: what was in flight when a connection broke, then
the log, then RAM. That order is what makes "exactly once" decidable after a reconnect (see link.py).
"""

from . import record
from .flash import Loss

LATEST = 0  # keep only the newest waiting reading of a name
MUST = -1  # keep until acknowledged, in flash if need be
RAM_READINGS = 64  # about 170 bytes each with the value: 11 KB, what a Pico W can spare
SPILL_READINGS = 48  # RAM this full is spilled even while the link is up
BATCH_READINGS = 8  # while the link is down so many share one flash file: 270 B and 0.08 erases a reading
SPILL_AFTER_MS = 5000  # a broker's restart is over by then and costs no flash
MAX_LOSS_MS = 60000  # no reading to be kept is older than this without being in flash: what a power cut may cost
FLASH_RETRY_MS = 10000  # after the file system refused a write
MAX_VALUE_BYTES = 800  # name and value of one reading; the message must fit one transmit buffer


def ring(count):
    """Policy: keep the newest `count` waiting readings of a name."""
    return count


class Ticket:
    """One reading and what became of it: queued, stored, sent, acked or dropped."""

    def __init__(self, store, key, name, value, ms, timed, keep):
        self._store = store
        self._state = "queued"
        self.key = key
        self.name = name
        self.value = value
        self.ms = ms
        self.timed = timed
        self.keep = keep
        self.home = None  # the file in flash that also has it
        self.doubt = False  # it may have reached the stream already

    @property
    def id(self):
        """Its message id: `DEVICE-BOOT-SEQ`."""
        return "%s-%d-%d" % ((self._store.device,) + self.key)

    @property
    def state(self):
        return self._store.fate(self.key) if self._state == "spilled" else self._state


class Store:
    """The queue of one device. `log` is a flash.Log or None; `clock` a clock.Clock."""

    def __init__(self, device, log, clock, options=None):
        options = options or {}
        self.device = device
        self.log = log
        self.clock = clock
        self.loss = log.loss if log else Loss()
        self.boot = log.boot if log else 1
        self.seq = 0
        self.queue = []
        self.front = []
        self.flying = 0
        self.superseded = 0
        self.acked = 0
        self.flash_error = ""
        self.on_ready = lambda: None  # there is something to send
        self.on_full = lambda: None  # tick() is wanted soon
        self._ahead = []
        self._taken = (0, 0)
        self._open_keys = []
        self._dropped = None
        self._calm = False
        self._report = None
        self._retry_at = 0
        self._loss_saved = self.loss_count
        self.spill_after = int(options.get("spill_after_s", SPILL_AFTER_MS / 1000) * 1000)
        self.max_loss = int(options.get("max_loss_s", MAX_LOSS_MS / 1000) * 1000)

    # Coming in. Called by publish(): no flash, no socket, no waiting.

    def add(self, name, value, keep):
        """Queues one reading; `name` and `value` are bytes. Drops by policy when there is no room, and counts it."""
        if len(name) + len(value) > MAX_VALUE_BYTES:
            raise ValueError("reading %s: %d bytes; at most %d" % (name, len(name) + len(value), MAX_VALUE_BYTES))
        self.seq += 1
        ticket = Ticket(self, (self.boot, self.seq), name, value, self.clock.uptime_ms(), False, keep)
        if keep >= 0:
            self._supersede(name, max(keep, 1))
        if len(self.queue) >= RAM_READINGS:
            self._evict()
        self.queue.append(ticket)
        self.on_ready()
        if len(self.queue) >= SPILL_READINGS:
            self.on_full()
        return ticket

    def _supersede(self, name, count):
        same = [one for one in self.queue if one.keep >= 0 and one.name == name]
        for one in same[: max(0, len(same) - count + 1)]:
            self.queue.remove(one)
            one._state = "dropped"
            self.superseded += 1

    def _evict(self):
        """Makes room: the oldest that need not be kept, or else the oldest of all, which is a loss."""
        victim = self.queue[0]
        for one in self.queue:
            if one.keep >= 0:
                victim = one
                break
        if victim.keep >= 0:
            self.superseded += 1
        else:
            self._lose(victim.key)
        self.queue.remove(victim)
        victim._state = "dropped"

    def _lose(self, key):
        self.loss.add(key)
        self._note_dropped(key, key)

    # Going out. Called by the link.

    def take(self):
        """The reading to send next, in the order of the numbers; None when there is none."""
        if self.front:
            ticket = self.front.pop(0)
        elif self._ahead or self._read_ahead():
            ticket = self._ahead.pop(0)
        elif self.queue:
            ticket = self.queue.pop(0)
        else:
            return None
        if ticket.key > self._taken:
            self._taken = ticket.key
        ticket._state = "sent"
        self._open_keys.append(ticket.key)
        return ticket

    def _read_ahead(self):
        if not self.log or not self.log.unread():
            return False
        file, records = self.log.read()
        for boot, seq, ms, timed, name, value in records:
            ticket = Ticket(self, (boot, seq), name, value, ms, timed, MUST)
            ticket._state = "stored"
            ticket.home = file
            ticket.doubt = True
            self._ahead.append(ticket)
        return bool(self._ahead)

    def give_back(self, tickets, doubt=True):
        """Readings whose fate is unknown (`doubt`) or that were refused; they go out again, first."""
        for ticket in tickets:
            self._open_keys.remove(ticket.key)
            ticket._state = "stored" if ticket.home else "queued"
            ticket.doubt = doubt
            self.front.append(ticket)
        self.front.sort(key=lambda ticket: ticket.key)

    def settle(self, ticket):
        """The stream has it."""
        self._open_keys.remove(ticket.key)
        ticket._state = "acked"
        self.acked += 1
        if ticket.home and self.log:
            self.log.settle(ticket.home)

    def stamp(self, ticket):
        """(ms, known): Unix time of a reading if the clock was ever set during its boot."""
        if ticket.timed:
            return ticket.ms, True
        if ticket.key[0] == self.boot and self.clock.known:
            return self.clock.epoch_ms(ticket.ms), True
        return ticket.ms, False

    def fate(self, key):
        """What became of a reading that left RAM for the log."""
        if key in self._open_keys:
            return "sent"
        if self._dropped and self._dropped[0] <= key <= self._dropped[1]:
            return "dropped"
        waiting = key > self._taken or any(one.key == key for one in self.front + self._ahead)
        return "stored" if waiting else "acked"

    # Now and then, from a task of its own: the only place that writes flash.

    def tick(self, down_ms):
        """Spills, sweeps, reports. `down_ms` is how long the link has been down; 0 while it is up."""
        now = self.clock.uptime_ms()
        if down_ms == 0:
            self._calm = False
        if self.log and now >= self._retry_at:
            try:
                if self._due(now, down_ms):
                    self.spill()
                self.log.sweep()
                self._save_loss()
                self.flash_error = ""
            except Exception as error:  # a full or worn flash, or no RAM for a moment, must not end the device
                self.flash_error = "flash: %s" % (error or type(error).__name__)
                self._retry_at = now + FLASH_RETRY_MS
        if down_ms == 0:
            self._report_loss()

    def _due(self, now, down_ms):
        waiting = [one for one in self.front if one.keep == MUST and not one.home]
        waiting += [one for one in self.queue if one.keep == MUST]
        if not waiting:
            return False
        if len(self.queue) >= SPILL_READINGS:
            return True
        if down_ms >= self.spill_after and down_ms > 0 and (not self._calm or len(waiting) >= BATCH_READINGS):
            self._calm = True
            return True
        return any(now - one.ms >= self.max_loss for one in waiting if not one.timed)

    def spill(self):
        """Writes every reading that must be kept and is only in RAM. Those in `front` stay in RAM as well."""
        held = [one for one in self.front if one.keep == MUST and not one.home]
        if held:
            file = self.log.write([self._packed(one) for one in held], held[0].key, True)
            for one in held:
                one.home = file
                one._state = "stored"
        leaving = [one for one in self.queue if one.keep == MUST]
        if leaving:
            self.log.write([self._packed(one) for one in leaving], leaving[0].key, False)
            self.queue = [one for one in self.queue if one.keep != MUST]
            for one in leaving:
                one._state = "spilled"
            self.on_ready()
        self._give_up_dropped()

    def _packed(self, ticket):
        ms, timed = self.stamp(ticket)
        return record.pack(ticket.key[0], ticket.key[1], ms, timed, ticket.name, ticket.value)

    def _give_up_dropped(self):
        """A file that had to go takes its readings in RAM along: the oldest go first, wherever they are."""
        for waiting in (self.front, self._ahead):
            for one in [one for one in waiting if one.home and one.home.gone]:
                waiting.remove(one)
                one._state = "dropped"
                self._lose(one.key)
        loss = self.loss
        if loss.count:
            self._note_dropped(loss.first, loss.last)

    def _note_dropped(self, first, last):
        known = self._dropped
        self._dropped = (min(known[0], first), max(known[1], last)) if known else (first, last)

    # Loss is news: it is published like a reading, once the link is up.

    @property
    def loss_count(self):
        return self.loss.count

    def _save_loss(self):
        if self.loss_count != self._loss_saved:
            self.log.save_loss()
            self._loss_saved = self.loss_count

    def _report_loss(self):
        if self._report:
            ticket, count = self._report
            if ticket.state == "acked":
                self.loss.subtract(count)
            if ticket.state in ("acked", "dropped"):
                self._report = None
        loss = self.loss
        if loss.count and not self._report and len(self.queue) < RAM_READINGS:
            text = '"values":{"count":%d,"first":"%d-%d","last":"%d-%d","why":"full"}'
            ticket = self.add(b"lost", (text % ((loss.count,) + loss.first + loss.last)).encode(), ring(1))
            self._report = (ticket, loss.count)

    def stats(self):
        return {
            "queued": len(self.queue) + len(self.front),
            "in_flight": len(self._open_keys),
            "flash_bytes": self.log.bytes if self.log else 0,
            "acked": self.acked,
            "superseded": self.superseded,
            "lost": self.loss_count,
            "damaged_bytes": self.log.damaged if self.log else 0,
        }

    @property
    def room(self):
        """Readings that may be published now without anything being dropped."""
        return RAM_READINGS - len(self.queue)
