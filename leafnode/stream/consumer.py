"""One consumer: what was delivered, what is acknowledged, what comes next.

Messages reach a reader on two ways: new ones in order, from the recent messages or from the store, and again those
whose acknowledgement did not come in time. To whom they go is the outlet's matter (`pull`, `push`). `pump` moves
messages as long as there is a taker; everything that may have changed that calls it.

`num_pending` is exact: counted once at the start, then kept by every message stored, delivered or removed.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from leafnode.route.message import Message, Subscription
from leafnode.route.subject import matches
from leafnode.stream import ack, reads, times
from leafnode.stream.consumer_config import ConsumerConfig
from leafnode.stream.contents import Weight
from leafnode.stream.journal import ConsumerChanges, ConsumerState
from leafnode.stream.pending import AckPending, Pending
from leafnode.stream.stored import Stored
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream

READY_MAX = 256  # messages read ahead of the reader
READY_BYTES = 1 << 20  # of their payloads and headers
AGAIN_MAX = 64  # messages read for redelivery at once
WANTS_CACHE_MAX = 4096  # subjects whose match is remembered


class Outlet(Protocol):
    """Where a consumer's messages go."""

    def is_open(self) -> bool:
        """Whether somebody takes a message now."""
        ...

    def offer(self, message: Message) -> bool:
        """Send one delivery; False if nobody took it after all."""
        ...

    def settle(self, *, exhausted: bool) -> None:
        """The pump stopped; `exhausted` when nothing is left to deliver."""
        ...

    def next_ns(self) -> int | None: ...

    def on_time(self, now_ns: int) -> None: ...

    def idle_since(self) -> int:
        """Since when nobody reads; 0 while somebody does."""
        ...

    def close(self, reason: str) -> None:
        """The consumer is going; tell whoever waits."""
        ...


class Consumer:
    """A reader's position on a stream and its rules."""

    def __init__(
        self, number: int, stream: "Stream", name: str, config: ConsumerConfig, created: int, state: ConsumerState
    ) -> None:
        self.id = number
        self.stream = stream
        self.name = name
        self.created = created
        self.armed_ns = 0
        self.deleted = False
        self.position = state.delivered_stream_seq
        self.delivered_seq = state.delivered_seq
        self.floor_seq = state.floor_seq
        self.floor_stream_seq = state.floor_stream_seq
        self.delivered_ns = 0  # when the last delivery was made
        self.acked_ns = 0
        self.num_pending = 0
        self.pending = AckPending()
        self.outlet: Outlet
        self.on_inactive: Callable[[Consumer], None] = lambda _consumer: None
        self._again: OrderedDict[int, None] = OrderedDict()
        self._again_ready: deque[Stored] = deque()
        self._again_asked = False
        self._ready: deque[Stored] = deque()
        self._ready_bytes = 0
        self._dropped: set[int] = set()  # removed while they stood in _ready
        self._scanned = self.position
        self._caught_up = False
        self._asked = 0  # serial of the question under way, 0: none
        self._serial = 0
        self._counting = False
        self._recount = False
        self._selected: OrderedDict[int, None] | None = None
        self._selected_to = 0
        self._wanted: dict[bytes, bool] = {}
        self._changes: ConsumerChanges | None = None
        self._pumping = False
        self._subscription: Subscription | None = None
        self.is_remote = False
        self.next_request: Callable[[Message, bytes], None] = lambda _message, _reply: None
        self._pace_ns = 0  # not before: original replay and rate limit
        self._last_stored_time = 0
        self.configure(config)

    def configure(self, config: ConsumerConfig) -> None:
        """Take on a configuration that `consumer_rules` has accepted."""
        self.config = config
        self._filters = config.filters
        self._wanted.clear()
        self._acks = config.ack_policy in ("explicit", "all")
        self._max_ack_pending = config.max_ack_pending if self._acks and config.max_ack_pending > 0 else 0
        self._ack_head = f"$JS.ACK.{self.stream.name}.{self.name}.".encode()
        self.is_kept = not (config.mem_storage or config.direct or self.stream.config.storage == "memory")

    def subscribe(self) -> None:
        """Listen for acknowledgements: five tokens, as nats-server advertises them."""
        self._subscription = Subscription(self._ack_head + b"*.*.*.*.*", self)
        self.stream.around.account.subscribe(self._subscription)

    # what it wants -----------------------------------------------------------------------------------------------

    def wants(self, subject: bytes) -> bool:
        """Whether the filters let a subject through."""
        if not self._filters:
            return True
        known = self._wanted.get(subject)
        if known is None:
            if len(self._wanted) >= WANTS_CACHE_MAX:
                self._wanted.clear()
            known = self._wanted[subject] = any(matches(pattern, subject) for pattern in self._filters)
        return known

    def needs(self, seq: int) -> bool:
        """Interest retention: whether a message it wants has still to be seen or acknowledged."""
        return seq > self.position or seq in self.pending

    @property
    def filters(self) -> list[bytes]:
        return self._filters

    # start -------------------------------------------------------------------------------------------------------

    def begin(self, first: int, then: Callable[[], None] | None = None) -> None:
        """Start before sequence `first`; call `then` when num_pending is known."""
        self.position = self._scanned = max(0, first - 1)
        self.floor_stream_seq = self.position
        self.changed(soon=True)
        self.count(then)

    def begin_selected(self, sequences: list[int]) -> None:
        """Deliver these first, then what is new: last_per_subject."""
        self._selected = OrderedDict.fromkeys(sorted(sequences))
        self._selected_to = self.stream.committed
        first = next(iter(self._selected), self._selected_to + 1)
        self.position = self.floor_stream_seq = max(0, first - 1)
        self._scanned = self._selected_to
        self.num_pending = len(sequences)
        self.changed(soon=True)

    def count(self, then: Callable[[], None] | None = None) -> None:
        """Find out num_pending."""
        stream, contents = self.stream, self.stream.contents
        committed = stream.committed
        if self.position >= committed or not contents.messages:
            self.num_pending = 0
        elif self.position < contents.first_seq and committed == contents.last_seq:
            subjects = contents.matching_any(self._filters) if self._filters else None
            self.num_pending = contents.messages if subjects is None else sum(subject.count for subject in subjects)
        else:
            ids = stream.subject_ids(self._filters)
            self._counting = True
            self._recount = False
            self.num_pending = 0
            self._then = then
            stream.around.reads.ask(reads.Count(stream.id, self.position, committed, ids, self._counted))
            return
        if then:
            then()

    def _counted(self, number: int) -> None:
        self._counting = False
        then, self._then = self._then, None
        if self._recount:
            self.count(then)
            return
        self.num_pending += number
        if then:
            then()
        self.pump()

    _then: Callable[[], None] | None = None

    # the stream's events -----------------------------------------------------------------------------------------

    def on_stored(self, stored: Stored) -> None:
        """A message it wants is committed; `pump` follows."""
        self.num_pending += 1
        if not self._caught_up:
            return
        if self.outlet.is_open() and len(self._ready) < READY_MAX and self._ready_bytes < READY_BYTES:
            self._make_ready(stored)
        else:
            self._caught_up = False

    def on_removed(self, seq: int) -> None:
        """A message it wants is gone from the stream."""
        if seq in self.pending:
            self._drop_pending(seq)
            return
        if seq <= self.position or seq > self.stream.committed:
            return
        if self._selected is not None and seq <= self._selected_to:
            if seq in self._selected:
                del self._selected[seq]
                self.num_pending -= 1
                self._dropped.add(seq)
            return
        if self._counting:
            self._recount = True
            return
        self.num_pending -= 1
        if seq <= self._scanned:
            self._dropped.add(seq)

    def on_cleared(self) -> None:
        """Everything is gone from the stream."""
        for seq in list(self.pending.entries):
            self._drop_pending(seq)
        self._reset_reading(self.stream.contents.last_seq)
        self.position = max(self.position, self._scanned)
        self._raise_floor()
        self.num_pending = 0
        self.changed(soon=True)

    def on_restored(self) -> None:
        """The stream was reloaded: what it was about to deliver may not exist."""
        self.restart(self.pump)

    def restart(self, then: Callable[[], None]) -> None:
        """Read and count anew from where it is."""
        self._reset_reading(min(self.position, self.stream.committed))
        self.count(then)

    def _reset_reading(self, scanned: int) -> None:
        self._ready.clear()
        self._ready_bytes = 0
        self._dropped.clear()
        self._selected = None
        self._asked = 0
        self._scanned = scanned
        self._caught_up = False
        self._counting = False

    # the pump ----------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Deliver as long as there is something and somebody."""
        if self._pumping or self.deleted:
            return
        self._pumping = True
        try:
            exhausted = self._run()
        finally:
            self._pumping = False
        if not self.deleted:
            self.outlet.settle(exhausted=exhausted)
            self.rearm()

    def _run(self) -> bool:
        """Returns whether nothing is left to deliver."""
        if self.is_paused():
            return False
        while self.outlet.is_open():
            if self._again:
                if self._deliver_again():
                    continue
                if self._again:
                    return False  # their messages are being read, or nobody took it
            if self._max_ack_pending and len(self.pending) >= self._max_ack_pending:
                return False
            stored = self._peek()
            if stored is None:
                return self.num_pending <= 0 and not self._counting
            if self._must_wait(stored) or not self._deliver_new(stored):
                return False
        return False

    def is_paused(self) -> bool:
        return self.config.pause_until > self.stream.around.now_ns()

    def _must_wait(self, stored: Stored) -> bool:
        """Original replay and rate limits hold a message back until its time."""
        if self.config.replay_policy == "instant" and not self.config.rate_limit_bps:
            return False
        now = self.stream.around.now_ns()
        if self.config.replay_policy == "original" and self._last_stored_time and stored.seq <= self._replay_to():
            gap = stored.time - self._last_stored_time
            self._pace_ns = max(self._pace_ns, self.delivered_ns + gap)
        return self._pace_ns > now

    def _replay_to(self) -> int:
        """Messages after the first time it caught up are live."""
        if self._caught_up and not self._ready:
            self._last_stored_time = 0
        return self.stream.committed

    def _peek(self) -> Stored | None:
        """The next new message; it stays until delivered."""
        while True:
            while self._ready:
                stored = self._ready[0]
                if stored.seq not in self._dropped:
                    return stored
                self._dropped.discard(stored.seq)
                self._take_ready()
            if self._asked or not self._fetch():
                return None

    def _take_ready(self) -> None:
        stored = self._ready.popleft()
        self._ready_bytes -= len(stored.payload) + len(stored.headers)

    def _make_ready(self, stored: Stored) -> None:
        self._ready.append(stored)
        self._ready_bytes += len(stored.payload) + len(stored.headers)
        self._scanned = max(self._scanned, stored.seq)

    def _fetch(self) -> bool:
        """Look for more; True if something became ready."""
        if self._selected is not None:
            return self._fetch_selected()
        stream = self.stream
        if self._caught_up or self._scanned >= stream.committed:
            self._caught_up = True
            return False
        if self._scanned >= stream.shelf.floor:
            return self._fetch_recent()
        ids = stream.subject_ids(self._filters)
        if ids == () or self.num_pending <= 0:
            self._scanned = stream.committed
            self._caught_up = True
            return False
        upto = stream.committed
        self._ask(lambda done: reads.Messages(stream.id, self._scanned, upto, ids, done))
        return False

    def _fetch_recent(self) -> bool:
        stream = self.stream
        for stored in stream.shelf.after(self._scanned, stream.committed):
            if len(self._ready) >= READY_MAX or self._ready_bytes >= READY_BYTES:
                return True
            self._scanned = stored.seq
            if self.wants(stored.subject):
                self._make_ready(stored)
        self._scanned = stream.committed
        self._caught_up = True
        return bool(self._ready)

    def _fetch_selected(self) -> bool:
        assert self._selected is not None
        wanted: list[int] = []
        for seq in self._selected:
            wanted.append(seq)
            if len(wanted) >= READY_MAX:
                break
        if not wanted:
            self._selected = None
            self._dropped.clear()
            self.position = max(self.position, self._selected_to)
            self._scanned = self._selected_to
            return self._fetch()
        messages = self.stream.shelf.messages
        if all(seq in messages for seq in wanted):
            for seq in wanted:
                self._ready.append(messages[seq])
                self._ready_bytes += len(messages[seq].payload) + len(messages[seq].headers)
            return True
        self._ask(lambda done: reads.BySequence(self.stream.id, wanted, done))
        return False

    def _ask(self, question: Callable[[Callable[[reads.Rows], None]], reads.Question]) -> None:
        self._serial += 1
        serial = self._asked = self._serial
        self.stream.recall.started()

        def found(rows: reads.Rows) -> None:
            self.stream.recall.finished()
            if self._asked == serial and not self.deleted:
                self._asked = 0
                self._supply(rows)

        self.stream.around.reads.ask(question(found))

    def _supply(self, rows: reads.Rows) -> None:
        is_gone = self.stream.contents.is_gone
        for stored in rows.messages:
            if not is_gone(stored.seq):
                self._ready.append(stored)
                self._ready_bytes += len(stored.payload) + len(stored.headers)
            elif self._selected is not None:
                self._selected.pop(stored.seq, None)
        if self._selected is None:
            self._scanned = max(self._scanned, rows.scanned_to)
        elif not self._ready:
            self._selected.clear()
        self.pump()

    # delivery ----------------------------------------------------------------------------------------------------

    def _deliver_new(self, stored: Stored) -> bool:
        now = self.stream.around.now_ns()
        seq = stored.seq
        number = self.delivered_seq + 1
        left = max(0, self.num_pending - 1)
        reply = b"%b1.%d.%d.%d.%d" % (self._ack_head, seq, number, stored.time, left)
        if not self.outlet.offer(self._dressed(stored, reply)):
            return False
        self._take_ready()
        if self._selected is not None:
            self._selected.pop(seq, None)
        self.num_pending = left
        self.delivered_seq = number
        self.position = seq
        self.delivered_ns = now
        self._keep_pace(stored, now)
        if self._acks:
            self._expect_ack(stored, number, now)
        else:
            self.floor_seq, self.floor_stream_seq = number, seq
            self.changed(soon=False)
            if self.stream.config.retention == "interest" and not self.stream.is_needed(seq, stored.subject):
                self.stream.retention.settled(seq)
        return True

    def _keep_pace(self, stored: Stored, now: int) -> None:
        self._last_stored_time = stored.time
        if self.config.rate_limit_bps:
            bits = 8 * (len(stored.payload) + len(stored.headers) + len(stored.subject))
            self._pace_ns = max(self._pace_ns, now) + bits * times.SECOND // self.config.rate_limit_bps

    def _dressed(self, stored: Stored, reply: bytes) -> Message:
        if not self.config.headers_only:
            return Message(stored.subject, reply, stored.headers, stored.payload)
        size = b"%d" % len(stored.payload)
        return Message(stored.subject, reply, header_block.with_lines(stored.headers, (b"Nats-Msg-Size", size)), b"")

    def _expect_ack(self, stored: Stored, number: int, now: int) -> None:
        entry = Pending(number, now, stored.subject, self.stream.size_of_stored(stored))
        self.pending.add(stored.seq, entry, now + self._wait_ns(1))
        self.changed(soon=False).pending[stored.seq] = entry

    def _wait_ns(self, deliveries: int) -> int:
        backoff = self.config.backoff
        if backoff:
            return backoff[min(deliveries, len(backoff)) - 1]
        return self.config.ack_wait

    def _deliver_again(self) -> bool:
        """The first of the redeliveries; False if nothing could be sent now."""
        while self._again_ready:
            stored = self._again_ready[0]
            entry = self.pending.get(stored.seq)
            if entry is None or stored.seq not in self._again:
                self._again_ready.popleft()
                continue
            number = self.delivered_seq + 1
            now = self.stream.around.now_ns()
            numbers = (self._ack_head, entry.deliveries + 1, stored.seq, number, stored.time, max(0, self.num_pending))
            if not self.outlet.offer(self._dressed(stored, b"%b%d.%d.%d.%d.%d" % numbers)):
                return False
            self._again_ready.popleft()
            del self._again[stored.seq]
            self.delivered_seq = entry.consumer_seq = number
            self.delivered_ns = entry.delivered_ns = now
            entry.deliveries += 1
            entry.subject, entry.size = stored.subject, self.stream.size_of_stored(stored)
            self.pending.schedule(stored.seq, entry, now + self._wait_ns(entry.deliveries))
            self.changed(soon=False).pending[stored.seq] = entry
            return True
        return self._fetch_again()

    def _fetch_again(self) -> bool:
        """Get the messages of the next redeliveries; True if some are ready now."""
        if self._again_asked:
            return False
        for seq in [seq for seq in self._again if seq not in self.pending]:
            del self._again[seq]
        wanted = [seq for seq, _ in zip(self._again, range(AGAIN_MAX), strict=False)]
        if not wanted:
            return False
        recent = self.stream.shelf.messages
        if all(seq in recent for seq in wanted):
            self._again_ready.extend(recent[seq] for seq in wanted)
            return self._deliver_again()
        self._again_asked = True
        self.stream.recall.started()
        self.stream.around.reads.ask(
            reads.BySequence(self.stream.id, wanted, lambda rows: self._again_found(wanted, rows))
        )
        return False

    def _again_found(self, wanted: list[int], rows: reads.Rows) -> None:
        self.stream.recall.finished()
        self._again_asked = False
        self._again_ready.extend(rows.messages)
        present = {stored.seq for stored in rows.messages}
        for seq in wanted:
            if seq not in present:  # no longer in the stream
                self._drop_pending(seq)
        self.pump()

    # acknowledgements --------------------------------------------------------------------------------------------

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        """An answer to a delivery."""
        which = ack.delivery(to or message.subject)
        if which is None or not self._acks or which.stream_seq > self.stream.contents.last_seq:
            return True
        kind, rest = ack.answer(message.payload)
        reply = message.reply
        if kind is ack.Kind.ACK:
            self._acknowledge(which)
        elif kind is ack.Kind.NEXT:
            self._acknowledge(which)
            self.next_request(Message(message.subject, reply, b"", rest), reply)
            reply = b""
        elif kind is ack.Kind.TERM:
            self._terminate(which, rest)
        elif kind is ack.Kind.NAK:
            self._redeliver_after(which, ack.nak_delay_ns(rest))
        elif kind is ack.Kind.PROGRESS:
            self._restart_wait(which)
        if reply:
            self._answer_later(reply)
        self.pump()
        return True

    def _answer_later(self, reply: bytes) -> None:
        """An acknowledgement is acknowledged when it is on the disk."""
        account = self.stream.around.account
        self.stream.around.journal.after(lambda failure: None if failure else _reply_empty(account.publish, reply))

    def _acknowledge(self, which: ack.Delivery) -> None:
        if self.config.ack_policy == "all":
            sequences = []
            for seq in self.pending.entries:
                if seq > which.stream_seq:
                    break
                sequences.append(seq)
            for seq in sequences:
                self._done_with(seq)
        else:
            self._done_with(which.stream_seq)
        if self.config.sample_freq:
            self._sample(which)

    def _sample(self, which: ack.Delivery) -> None:
        now = self.stream.around.now_ns()
        self.stream.around.advise(
            f"METRIC.CONSUMER.ACK.{self.stream.name}.{self.name}",
            "metric.v1.consumer_ack",
            stream=self.stream.name,
            consumer=self.name,
            consumer_seq=which.consumer_seq,
            stream_seq=which.stream_seq,
            ack_time=max(0, now - self.delivered_ns),
            deliveries=which.deliveries,
        )

    def _done_with(self, seq: int) -> None:
        """Acknowledged or terminated: never again. Retention may let the message go."""
        entry = self.pending.get(seq)
        if entry is not None:
            self._drop_pending(seq)
        elif seq > self.position:
            return
        stream = self.stream
        if stream.config.retention == "limits" or stream.contents.is_gone(seq):
            return
        if entry is not None and entry.subject:
            subject = stream.contents.subjects.get(entry.subject)
            if stream.config.retention == "workqueue" or not stream.is_needed(seq, entry.subject):
                stream.retention.settled(seq, Weight(subject, entry.size, 0) if subject is not None else None)
        else:
            stream.recall.weights([seq], lambda found: self._settle(seq, found))

    def _settle(self, seq: int, found: dict[int, Weight]) -> None:
        weight = found.get(seq)
        if weight is not None and (
            self.stream.config.retention == "workqueue" or not self.stream.is_needed(seq, weight.subject.name)
        ):
            self.stream.retention.settled(seq, weight)

    def _drop_pending(self, seq: int) -> None:
        entry = self.pending.pop(seq)
        if entry is None:
            return
        self.acked_ns = self.stream.around.now_ns()
        self._again.pop(seq, None)
        changes = self.changed(soon=True)
        if entry.on_disk:
            changes.pending[seq] = None
        else:
            changes.pending.pop(seq, None)
        self._raise_floor()

    def _raise_floor(self) -> None:
        first = self.pending.first()
        if first is None:
            self.floor_seq, self.floor_stream_seq = self.delivered_seq, self.position
        else:
            self.floor_seq = max(self.floor_seq, min(first[1].first_seq, first[1].consumer_seq) - 1)
            self.floor_stream_seq = max(self.floor_stream_seq, first[0] - 1)

    def _terminate(self, which: ack.Delivery, reason: bytes) -> None:
        self._done_with(which.stream_seq)
        self._advise("MSG_TERMINATED", "terminated", which, reason=reason.decode(errors="replace"))

    def _advise(self, subject: str, kind: str, which: ack.Delivery, **more: object) -> None:
        self.stream.around.advise(
            f"ADVISORY.CONSUMER.{subject}.{self.stream.name}.{self.name}",
            f"advisory.v1.{kind}",
            stream=self.stream.name,
            consumer=self.name,
            consumer_seq=which.consumer_seq,
            stream_seq=which.stream_seq,
            deliveries=which.deliveries,
            **more,
        )

    def _redeliver_after(self, which: ack.Delivery, delay_ns: int) -> None:
        entry = self.pending.get(which.stream_seq)
        if entry is None or which.stream_seq in self._again:
            return
        if delay_ns > 0:
            self.pending.schedule(which.stream_seq, entry, self.stream.around.now_ns() + delay_ns)
        else:
            entry.due_ns = 0
            self._queue_again(which.stream_seq, entry)
        self._advise("MSG_NAKED", "nak", which)

    def _restart_wait(self, which: ack.Delivery) -> None:
        entry = self.pending.get(which.stream_seq)
        if entry is not None and entry.due_ns:
            self.pending.schedule(
                which.stream_seq, entry, self.stream.around.now_ns() + self._wait_ns(entry.deliveries)
            )

    def _queue_again(self, seq: int, entry: Pending) -> None:
        """Its time has come: once more, or given up at max_deliver."""
        if 0 < self.config.max_deliver <= entry.deliveries:
            self._give_up(seq, entry)
        else:
            self._again[seq] = None

    def _give_up(self, seq: int, entry: Pending) -> None:
        self._drop_pending(seq)
        self.stream.around.advise(
            f"ADVISORY.CONSUMER.MAX_DELIVERIES.{self.stream.name}.{self.name}",
            "advisory.v1.max_deliver",
            stream=self.stream.name,
            consumer=self.name,
            stream_seq=seq,
            deliveries=entry.deliveries,
        )

    @property
    def num_redelivered(self) -> int:
        return sum(1 for entry in self.pending.entries.values() if entry.deliveries > 1)

    # time --------------------------------------------------------------------------------------------------------

    def rearm(self) -> None:
        """Ask to be called for the earliest of everything that waits."""
        deadlines = [self.pending.next_ns(), self.outlet.next_ns()]
        now = self.stream.around.now_ns()
        if self._pace_ns > now:
            deadlines.append(self._pace_ns)
        if self.config.pause_until > now:
            deadlines.append(self.config.pause_until)
        if self.config.inactive_threshold:
            since = self.outlet.idle_since()
            deadlines.append(since + self.config.inactive_threshold if since else None)
        earliest = min((deadline for deadline in deadlines if deadline), default=0)
        if earliest:
            self.stream.around.timers.arm(self, earliest)

    def on_time(self, now_ns: int) -> None:
        if self.deleted:
            return
        for seq in self.pending.due(now_ns):
            entry = self.pending.get(seq)
            if entry is not None:
                self._queue_again(seq, entry)
        self.outlet.on_time(now_ns)
        since = self.outlet.idle_since()
        if self.config.inactive_threshold and since and since + self.config.inactive_threshold <= now_ns:
            self.on_inactive(self)
            return
        self.pump()

    # the disk ----------------------------------------------------------------------------------------------------

    def changed(self, *, soon: bool) -> ConsumerChanges:
        """This consumer's part of the batch being collected."""
        if self._changes is None:
            self._changes = self.stream.around.journal.consumer_changes(self, soon=soon)
        elif soon:
            self.stream.around.journal.consumer_changes(self, soon=True)
        return self._changes

    def state(self) -> ConsumerState:
        return ConsumerState(self.delivered_seq, self.position, self.floor_seq, self.floor_stream_seq)

    def close_changes(self, changes: ConsumerChanges) -> None:
        """The batch leaves for the disk."""
        self._changes = None
        changes.state = self.state()
        if changes.rewrite:
            changes.pending = dict(self.pending.entries)
        for seq, entry in changes.pending.items():
            if entry is None:
                changes.dropped.append(seq)
            else:
                entry.on_disk = True
                changes.rows.append((seq, entry.consumer_seq, entry.first_seq, entry.deliveries))

    def on_kept(self, changes: ConsumerChanges) -> None:
        """The position is on the disk: nothing depends on it."""

    def on_not_kept(self, changes: ConsumerChanges) -> None:
        """The store's copy is old: write everything with the next commit."""
        self._changes = None
        if not self.deleted:
            self.changed(soon=True).rewrite = True

    def resume(self, rows: list[tuple[int, int, int, int]]) -> None:
        """Take back the deliveries read from the disk; each gets its whole ack_wait again."""
        now = self.stream.around.now_ns()
        for seq, consumer_seq, first_seq, deliveries in rows:
            entry = Pending(consumer_seq, now)
            entry.first_seq = first_seq
            entry.deliveries = deliveries
            entry.on_disk = True
            self.pending.add(seq, entry, now + self._wait_ns(deliveries))

    def close(self, reason: str) -> None:
        """It is deleted."""
        if self.deleted:
            return
        self.deleted = True
        self.stream.around.timers.disarm(self)
        if self._subscription is not None:
            self.stream.around.account.unsubscribe(self._subscription)
        self.outlet.close(reason)

    def reset(self, first: int, then: Callable[[], None]) -> None:
        """CONSUMER.RESET: as if newly created before sequence `first`; `then` when num_pending is known."""
        for seq in list(self.pending.entries):
            self._drop_pending(seq)
        self._reset_reading(max(0, first - 1))
        self.delivered_seq = self.floor_seq = 0
        self.delivered_ns = self.acked_ns = 0
        self.begin(first, then)


def _reply_empty(publish: Callable[[Message], int], reply: bytes) -> None:
    publish(Message(reply))
