"""One consumer: what was delivered, what is acknowledged, what comes next.

    feed           new messages, in order
    ledger         what was delivered; what of it was not acknowledged in time goes first
    outlet         who takes them: waiting requests (`pull`) or a deliver subject with interest (`push`)
    answers        acknowledgements

`pump` moves messages as long as there is a taker; everything that may have changed that calls it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from leafnode.route.message import Message
from leafnode.route.subject import matches
from leafnode.stream import times
from leafnode.stream.answers import Answers
from leafnode.stream.consumer_config import ConsumerConfig
from leafnode.stream.feed import Feed
from leafnode.stream.journal import ConsumerState
from leafnode.stream.ledger import Ledger
from leafnode.stream.outlet import Outlet
from leafnode.stream.pending import Pending
from leafnode.stream.stored import Stored
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream

WANTS_CACHE_MAX = 4096  # subjects whose match is remembered


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
        self.ack_head = f"$JS.ACK.{stream.name}.{name}.".encode()
        self.feed = Feed(
            stream, state.delivered_stream_seq, wants=self.wants, filters=lambda: self.filters, pump=self.pump
        )
        self.ledger = Ledger(self, state)
        self.pending = self.ledger.pending
        self.again = self.ledger.again
        self.outlet: Outlet
        self.next_request: Callable[[Message], None] = _not_pull
        self.on_inactive: Callable[[Consumer], None] = _nobody
        self._wanted: dict[bytes, bool] = {}
        self._pumping = False
        self._pace_ns = 0  # not before: original replay and rate limit
        self._last_stored_time = 0
        self._paused_to_ns = 0  # an advisory follows when that has come
        self.idle_from_ns = 0  # somebody may have been at work until then
        self.configure(config)
        self.answers = Answers(self)

    def configure(self, config: ConsumerConfig) -> None:
        """Take on a configuration that `consumer_rules` has accepted."""
        self.config = config
        self.filters = config.filters
        self._wanted.clear()
        self.acks = config.ack_policy != "none"
        self.acks_below = config.ack_policy in ("all", "flow_control")
        self._max_ack_pending = config.max_ack_pending if self.acks and config.max_ack_pending > 0 else 0
        self._is_paced = config.replay_policy == "original" or config.rate_limit_bps > 0
        self._paused_to_ns = config.pause_until if self.is_paused() else 0
        self.is_kept = not (config.mem_storage or config.direct or self.stream.config.storage == "memory")

    @property
    def position(self) -> int:
        """Stream sequence of the last new delivery."""
        return self.feed.position

    @property
    def num_pending(self) -> int:
        return max(0, self.feed.num_pending)

    # what it wants -----------------------------------------------------------------------------------------------

    def wants(self, subject: bytes) -> bool:
        """Whether the filters let a subject through."""
        if not self.filters:
            return True
        known = self._wanted.get(subject)
        if known is None:
            if len(self._wanted) >= WANTS_CACHE_MAX:
                self._wanted.clear()
            known = self._wanted[subject] = any(matches(pattern, subject) for pattern in self.filters)
        return known

    @property
    def num_queued_again(self) -> int:
        """Messages that will be delivered once more."""
        return len(self.again)

    @property
    def num_redelivered(self) -> int:
        return self.ledger.num_redelivered

    @property
    def delivered_seq(self) -> int:
        """Consumer sequence of the last delivery."""
        return self.ledger.delivered_seq

    def needs(self, seq: int) -> bool:
        """Interest retention: whether a message it wants has still to be seen or acknowledged."""
        return seq > self.feed.reach or self.ledger.holds(seq)

    def has_reached(self, seq: int) -> bool:
        """Whether it was delivered, or passed over because nothing further on is left to deliver."""
        return seq <= self.feed.reach

    # start -------------------------------------------------------------------------------------------------------

    def begin(self, first: int, then: Callable[[], None] | None = None) -> None:
        """Start before sequence `first`; call `then` when num_pending is known."""
        self.ledger.begin(max(0, first - 1))
        self.feed.begin(first, then)

    def begin_selected(self, sequences: list[int]) -> None:
        """Deliver these first, then what is new: last_per_subject."""
        self.feed.begin_selected(sequences)
        self.ledger.begin(self.feed.position)

    def reset(self, first: int, then: Callable[[], None]) -> None:
        """CONSUMER.RESET: as if newly created before sequence `first`; `then` when num_pending is known."""
        self.ledger.begin_anew(max(0, first - 1))
        self.feed.begin(first, then)

    # the stream's events -----------------------------------------------------------------------------------------

    def on_stored(self, stored: Stored) -> None:
        """A message it wants is committed; `pump` follows."""
        self.feed.on_stored(stored, taken=self.outlet.is_open())

    def on_removed(self, seq: int, *, advise: bool = True) -> Pending | None:
        """A message it wants is gone from the stream; returns the delivery that waited for its acknowledgement."""
        was_full = self.is_full
        entry = self.ledger.drop_lost(seq)
        if entry is None:
            self.feed.on_removed(seq)
            return None
        if advise:
            self.answers.on_removed(seq, entry)
        if was_full:  # there is room for another delivery, once the stream has done with this change
            self.stream.around.journal.after(lambda _failure: self.pump())
        return entry

    def on_cleared(self) -> None:
        """Everything is gone from the stream."""
        self.ledger.drop_all()
        self.feed.on_cleared()
        self.ledger.purged_to(self.feed.position + 1)

    def on_purged(self, first: int) -> None:
        """Nothing that it wants is left below `first`."""
        self.feed.move_to(first - 1)
        self.ledger.purged_to(first)

    def on_restored(self) -> None:
        """The stream was reloaded: what it was about to deliver may not exist."""
        self.feed.restart(self.pump)

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
        """Returns whether nothing can be delivered before something new happens; acknowledgements do not count."""
        if self.is_paused():
            return True
        while self.outlet.is_open():
            if self.again:
                again = self.again.peek()
                if again is not None:
                    if self._deliver_again(again):
                        continue
                    return True
                if self.again:
                    return False  # their messages are being read
            if self.is_full:
                return False
            stored = self.feed.peek()
            if stored is None:
                if not self.feed.is_exhausted:
                    return False
                self.feed.look_to(self.stream.committed)
                return True
            if self._must_wait(stored):
                return False
            if not self._deliver_new(stored):
                self.feed.look_to(stored.seq - 1)
                return True
        return False

    @property
    def is_full(self) -> bool:
        """As many deliveries wait for their acknowledgement as may."""
        return 0 < self._max_ack_pending <= len(self.pending.entries)

    def is_paused(self) -> bool:
        return self.config.pause_until > 0 and self.config.pause_until > self.stream.around.now_ns()

    def _must_wait(self, stored: Stored) -> bool:
        """Original replay and rate limits hold a message back until its time."""
        if not self._is_paced:
            return False
        if self.config.replay_policy == "original" and self._last_stored_time and not self.feed.is_live:
            self._pace_ns = max(self._pace_ns, self.ledger.delivered_ns + stored.time - self._last_stored_time)
        return self._pace_ns > self.stream.around.now_ns()

    def _keep_pace(self, stored: Stored, now: int) -> None:
        self._last_stored_time = 0 if self.feed.is_live else stored.time
        if self.config.rate_limit_bps:
            bits = 8 * (len(stored.payload) + len(stored.headers) + len(stored.subject))
            self._pace_ns = max(self._pace_ns, now) + bits * times.SECOND // self.config.rate_limit_bps

    # delivery ----------------------------------------------------------------------------------------------------

    def _deliver_new(self, stored: Stored) -> bool:
        now = self.stream.around.now_ns()
        seq = stored.seq
        number = self.delivered_seq + 1
        reply = b"%b1.%d.%d.%d.%d" % (self.ack_head, seq, number, stored.time, max(0, self.feed.num_pending - 1))
        if not self.outlet.offer(self._dressed(stored, reply)):
            return False
        self.feed.advance()
        self.ledger.delivered(stored, number, now)
        if self._is_paced:
            self._keep_pace(stored, now)
        if not self.acks:
            self._release(stored)
        return True

    def _release(self, stored: Stored) -> None:
        """Nobody acknowledges: an interest stream lets a message go once everybody had it."""
        stream = self.stream
        if stream.config.retention == "interest" and not stream.is_needed(stored.seq, stored.subject):
            stream.retention.settled(stored.seq)

    def _deliver_again(self, stored: Stored) -> bool:
        """The first of the redeliveries; False if nobody takes it now."""
        entry = self.pending.entries[stored.seq]
        if self.ledger.is_worn(entry):
            self.ledger.give_up(stored.seq, entry)
            return True
        number = self.delivered_seq + 1
        now = self.stream.around.now_ns()
        numbers = (self.ack_head, entry.deliveries + 1, stored.seq, number, stored.time, self.num_pending)
        if not self.outlet.offer(self._dressed(stored, b"%b%d.%d.%d.%d.%d" % numbers)):
            return False
        self.ledger.delivered_again(stored, number, now)
        return True

    def _dressed(self, stored: Stored, reply: bytes) -> Message:
        if not self.config.headers_only:
            return Message(stored.subject, reply, stored.headers, stored.payload)
        size = b"%d" % len(stored.payload)
        return Message(stored.subject, reply, header_block.with_lines(stored.headers, (b"Nats-Msg-Size", size)), b"")

    # time --------------------------------------------------------------------------------------------------------

    def rearm(self) -> None:
        """Ask to be called for the earliest of everything that waits."""
        deadlines = [self.pending.next_ns(), self.outlet.next_ns()]
        now = self.stream.around.now_ns()
        deadlines += [when for when in (self._pace_ns, self.config.pause_until) if when > now]
        deadlines.append(self._end_of_life_ns())
        earliest = min((deadline for deadline in deadlines if deadline), default=0)
        if earliest:
            self.stream.around.timers.arm(self, earliest)

    def _end_of_life_ns(self) -> int:
        """When it goes if nobody reads from now on; 0: never."""
        threshold = self.config.inactive_threshold
        since = self.outlet.idle_since() if threshold else 0
        return max(since, self.idle_from_ns) + threshold if since else 0

    def on_time(self, now_ns: int) -> None:
        if self.deleted:
            return
        self.ledger.on_time(now_ns)
        self.outlet.on_time(now_ns)
        self._look_at_pause(now_ns)
        end = self._end_of_life_ns()
        if end and end <= now_ns and self._is_abandoned(now_ns):
            self.on_inactive(self)
            return
        self.pump()

    def _is_abandoned(self, now_ns: int) -> bool:
        """Nobody reads, nor can be at work on what was delivered."""
        if not self.outlet.is_idle():
            self.idle_from_ns = now_ns
            return False
        if self.config.is_push:
            return True
        self.idle_from_ns = max((entry.due_ns for entry in self.pending.entries.values()), default=0)
        return self._end_of_life_ns() <= now_ns

    def _look_at_pause(self, now_ns: int) -> None:
        if 0 < self._paused_to_ns <= now_ns:
            self._paused_to_ns = 0
            self.advise_pause()

    def advise_pause(self) -> None:
        """Tell whoever listens whether it is paused."""
        until = self.config.pause_until
        self.stream.around.advise(
            f"ADVISORY.CONSUMER.PAUSE.{self.stream.name}.{self.name}",
            "advisory.v1.consumer_pause",
            stream=self.stream.name,
            consumer=self.name,
            paused=self.is_paused(),
            pause_until=times.to_text(until),
        )

    def close(self, reason: str) -> None:
        """It is deleted."""
        if self.deleted:
            return
        self.deleted = self.feed.closed = True
        self.stream.around.timers.disarm(self)
        self.answers.unsubscribe()
        self.outlet.close(reason)


def _nobody(_consumer: Consumer) -> None:
    """Nobody wants to know."""


def _not_pull(_message: Message) -> None:
    """A push consumer takes no requests."""
