"""One consumer: what was delivered, what is acknowledged, what comes next.

    feed           new messages, in order
    again          messages whose acknowledgement did not come in time: they go first
    outlet         who takes them: waiting requests (`pull`) or a deliver subject with interest (`push`)
    answers        acknowledgements

`pump` moves messages as long as there is a taker; everything that may have changed that calls it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from leafnode.route.message import Message
from leafnode.route.subject import matches
from leafnode.stream import times
from leafnode.stream.answers import Answers
from leafnode.stream.consumer_config import ConsumerConfig
from leafnode.stream.feed import Feed
from leafnode.stream.journal import ConsumerChanges, ConsumerState
from leafnode.stream.pending import AckPending, Pending
from leafnode.stream.redelivery import Redelivery
from leafnode.stream.stored import Stored
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream

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
        self.delivered_seq = state.delivered_seq
        self.floor_seq = state.floor_seq
        self.floor_stream_seq = state.floor_stream_seq
        self.delivered_ns = 0  # when the last delivery was made
        self.acked_ns = 0
        self.ack_head = f"$JS.ACK.{stream.name}.{name}.".encode()
        self.pending = AckPending()
        self.feed = Feed(
            stream, state.delivered_stream_seq, wants=self.wants, filters=lambda: self.filters, pump=self.pump
        )
        self.again = Redelivery(stream, self.pending, gone=self.drop_pending, pump=self.pump)
        self.outlet: Outlet
        self.next_request: Callable[[Message], None] = _not_pull
        self.on_inactive: Callable[[Consumer], None] = _nobody
        self._wanted: dict[bytes, bool] = {}
        self._changes: ConsumerChanges | None = None
        self._pumping = False
        self._pace_ns = 0  # not before: original replay and rate limit
        self._last_stored_time = 0
        self.configure(config)
        self.answers = Answers(self)

    def configure(self, config: ConsumerConfig) -> None:
        """Take on a configuration that `consumer_rules` has accepted."""
        self.config = config
        self.filters = config.filters
        self._wanted.clear()
        self.acks = config.ack_policy in ("explicit", "all")
        self._max_ack_pending = config.max_ack_pending if self.acks and config.max_ack_pending > 0 else 0
        self._is_paced = config.replay_policy == "original" or config.rate_limit_bps > 0
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

    def needs(self, seq: int) -> bool:
        """Interest retention: whether a message it wants has still to be seen or acknowledged."""
        return seq > self.feed.position or seq in self.pending

    # start -------------------------------------------------------------------------------------------------------

    def begin(self, first: int, then: Callable[[], None] | None = None) -> None:
        """Start before sequence `first`; call `then` when num_pending is known."""
        self.floor_stream_seq = max(0, first - 1)
        self.changed(soon=True)
        self.feed.begin(first, then)

    def begin_selected(self, sequences: list[int]) -> None:
        """Deliver these first, then what is new: last_per_subject."""
        self.feed.begin_selected(sequences)
        self.floor_stream_seq = self.feed.position
        self.changed(soon=True)

    def reset(self, first: int, then: Callable[[], None]) -> None:
        """CONSUMER.RESET: as if newly created before sequence `first`; `then` when num_pending is known."""
        for seq in list(self.pending.entries):
            self.drop_pending(seq)
        self.delivered_seq = self.floor_seq = 0
        self.delivered_ns = self.acked_ns = 0
        self.begin(first, then)

    def resume(self, rows: list[tuple[int, int, int, int]]) -> None:
        """Take back the deliveries read from the disk; each gets its whole ack_wait again."""
        now = self.stream.around.now_ns()
        for seq, consumer_seq, first_seq, deliveries in rows:
            entry = Pending(consumer_seq, now)
            entry.first_seq = first_seq
            entry.deliveries = deliveries
            entry.on_disk = True
            self.pending.add(seq, entry, now + self.wait_ns(deliveries))

    # the stream's events -----------------------------------------------------------------------------------------

    def on_stored(self, stored: Stored) -> None:
        """A message it wants is committed; `pump` follows."""
        self.feed.on_stored(stored, taken=self.outlet.is_open())

    def on_removed(self, seq: int) -> None:
        """A message it wants is gone from the stream."""
        if seq in self.pending:
            self.drop_pending(seq)
        else:
            self.feed.on_removed(seq)

    def on_cleared(self) -> None:
        """Everything is gone from the stream."""
        for seq in list(self.pending.entries):
            self.drop_pending(seq)
        self.feed.on_cleared()
        self._raise_floor()
        self.changed(soon=True)

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
        """Returns whether nothing is left to deliver."""
        if self.is_paused():
            return False
        while self.outlet.is_open():
            if self.again:
                if self._deliver_again():
                    continue
                if self.again:
                    return False  # their messages are being read, or nobody took one
            if self._max_ack_pending and len(self.pending) >= self._max_ack_pending:
                return False
            stored = self.feed.peek()
            if stored is None:
                return self.feed.is_exhausted
            if self._must_wait(stored) or not self._deliver_new(stored):
                return False
        return False

    def is_paused(self) -> bool:
        return self.config.pause_until > 0 and self.config.pause_until > self.stream.around.now_ns()

    def _must_wait(self, stored: Stored) -> bool:
        """Original replay and rate limits hold a message back until its time."""
        if not self._is_paced:
            return False
        if self.config.replay_policy == "original" and self._last_stored_time and not self.feed.is_live:
            self._pace_ns = max(self._pace_ns, self.delivered_ns + stored.time - self._last_stored_time)
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
        self.delivered_seq = number
        self.delivered_ns = now
        if self._is_paced:
            self._keep_pace(stored, now)
        if self.acks:
            entry = Pending(number, now, stored.subject, self.stream.size_of_stored(stored))
            self.pending.add(seq, entry, now + self.wait_ns(1))
            self.changed(soon=False).pending[seq] = entry
        else:
            self.floor_seq, self.floor_stream_seq = number, seq
            self.changed(soon=False)
            if self.stream.config.retention == "interest" and not self.stream.is_needed(seq, stored.subject):
                self.stream.retention.settled(seq)
        return True

    def _deliver_again(self) -> bool:
        """The first of the redeliveries; False if nothing could be sent now."""
        stored = self.again.peek()
        entry = self.pending.get(stored.seq) if stored is not None else None
        if stored is None or entry is None:
            return False
        number = self.delivered_seq + 1
        now = self.stream.around.now_ns()
        numbers = (self.ack_head, entry.deliveries + 1, stored.seq, number, stored.time, self.num_pending)
        if not self.outlet.offer(self._dressed(stored, b"%b%d.%d.%d.%d.%d" % numbers)):
            return False
        self.again.advance()
        self.delivered_seq = entry.consumer_seq = number
        self.delivered_ns = entry.delivered_ns = now
        entry.deliveries += 1
        entry.subject, entry.size = stored.subject, self.stream.size_of_stored(stored)
        self.pending.schedule(stored.seq, entry, now + self.wait_ns(entry.deliveries))
        self.changed(soon=False).pending[stored.seq] = entry
        return True

    def _dressed(self, stored: Stored, reply: bytes) -> Message:
        if not self.config.headers_only:
            return Message(stored.subject, reply, stored.headers, stored.payload)
        size = b"%d" % len(stored.payload)
        return Message(stored.subject, reply, header_block.with_lines(stored.headers, (b"Nats-Msg-Size", size)), b"")

    # deliveries that wait for their acknowledgement ----------------------------------------------------------------

    def wait_ns(self, deliveries: int) -> int:
        """How long the n-th delivery waits."""
        backoff = self.config.backoff
        return backoff[min(deliveries, len(backoff)) - 1] if backoff else self.config.ack_wait

    def deliver_again(self, seq: int, entry: Pending) -> None:
        """Its time has come: once more, or given up at max_deliver."""
        if 0 < self.config.max_deliver <= entry.deliveries:
            self._give_up(seq, entry)
        else:
            self.again.add(seq)

    def _give_up(self, seq: int, entry: Pending) -> None:
        self.drop_pending(seq)
        self.stream.around.advise(
            f"ADVISORY.CONSUMER.MAX_DELIVERIES.{self.stream.name}.{self.name}",
            "advisory.v1.max_deliver",
            stream=self.stream.name,
            consumer=self.name,
            stream_seq=seq,
            deliveries=entry.deliveries,
        )

    def drop_pending(self, seq: int) -> None:
        """A delivery needs no acknowledgement any more."""
        entry = self.pending.pop(seq)
        if entry is None:
            return
        self.acked_ns = self.stream.around.now_ns()
        self.again.discard(seq)
        changes = self.changed(soon=True)
        if entry.on_disk:
            changes.pending[seq] = None
        else:
            changes.pending.pop(seq, None)
        self._raise_floor()

    def _raise_floor(self) -> None:
        first = self.pending.first()
        if first is None:
            self.floor_seq, self.floor_stream_seq = self.delivered_seq, self.feed.position
        else:
            self.floor_seq = max(self.floor_seq, min(first[1].first_seq, first[1].consumer_seq) - 1)
            self.floor_stream_seq = max(self.floor_stream_seq, first[0] - 1)

    @property
    def num_redelivered(self) -> int:
        return sum(1 for entry in self.pending.entries.values() if entry.deliveries > 1)

    # time --------------------------------------------------------------------------------------------------------

    def rearm(self) -> None:
        """Ask to be called for the earliest of everything that waits."""
        deadlines = [self.pending.next_ns(), self.outlet.next_ns()]
        now = self.stream.around.now_ns()
        deadlines += [when for when in (self._pace_ns, self.config.pause_until) if when > now]
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
                self.deliver_again(seq, entry)
        self.outlet.on_time(now_ns)
        since = self.outlet.idle_since()
        if self.config.inactive_threshold and since and since + self.config.inactive_threshold <= now_ns:
            self.on_inactive(self)
            return
        self.pump()

    def close(self, reason: str) -> None:
        """It is deleted."""
        if self.deleted:
            return
        self.deleted = self.feed.closed = True
        self.stream.around.timers.disarm(self)
        self.answers.unsubscribe()
        self.outlet.close(reason)

    # the disk ----------------------------------------------------------------------------------------------------

    def changed(self, *, soon: bool) -> ConsumerChanges:
        """This consumer's part of the batch being collected. A delivery can wait a little, an acknowledgement not."""
        if self._changes is None:
            self._changes = self.stream.around.journal.consumer_changes(self, soon=soon)
        elif soon:
            self.stream.around.journal.consumer_changes(self, soon=True)
        return self._changes

    def close_changes(self, changes: ConsumerChanges) -> None:
        """The batch leaves for the disk."""
        self._changes = None
        changes.state = ConsumerState(self.delivered_seq, self.feed.position, self.floor_seq, self.floor_stream_seq)
        if changes.rewrite:
            changes.pending = dict(self.pending.entries)
        for seq, entry in changes.pending.items():
            if entry is None:
                changes.dropped.append(seq)
            else:
                entry.on_disk = True
                changes.rows.append((seq, entry.consumer_seq, entry.first_seq, entry.deliveries))

    def on_not_kept(self, changes: ConsumerChanges) -> None:
        """The store's copy is old: write everything with the next commit."""
        self._changes = None
        if not self.deleted:
            self.changed(soon=True).rewrite = True


def _nobody(_consumer: Consumer) -> None:
    """Nobody wants to know."""


def _not_pull(_message: Message) -> None:
    """A push consumer takes no requests."""
