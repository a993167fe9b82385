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
        """Since when nobody reads, as far as that is known without looking; 0 while somebody does."""
        ...

    def is_idle(self) -> bool:
        """Whether nobody reads; looks."""
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
        self.given_up: dict[int, Pending] = {}  # delivered max_deliver times: kept in the stream, not delivered again
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
        if self.config.max_deliver == 1:
            return 0
        return len(self.given_up) + sum(1 for entry in self.pending.entries.values() if entry.deliveries > 1)

    def needs(self, seq: int) -> bool:
        """Interest retention: whether a message it wants has still to be seen or acknowledged."""
        return seq > self.feed.reach or seq in self.pending or seq in self.given_up

    def has_reached(self, seq: int) -> bool:
        """Whether it was delivered, or passed over because nothing further on is left to deliver."""
        return seq <= self.feed.reach

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
        self._forget_deliveries()
        self.delivered_seq = self.floor_seq = 0
        self.delivered_ns = self.acked_ns = 0
        self.begin(first, then)

    def resume(self, rows: list[tuple[int, int, int, int]]) -> None:
        """Take back the deliveries read from the disk; each gets its whole ack_wait again."""
        now = self.stream.around.now_ns()
        for seq, consumer_seq, first_seq, deliveries in rows:
            entry = Pending(consumer_seq, now)
            entry.first_seq = first_seq
            entry.deliveries = abs(deliveries)
            entry.on_disk = True
            if deliveries < 0:
                self.given_up[seq] = entry
            else:
                self.pending.add(seq, entry, self._due_ns(now, deliveries))

    # the stream's events -----------------------------------------------------------------------------------------

    def on_stored(self, stored: Stored) -> None:
        """A message it wants is committed; `pump` follows."""
        self.feed.on_stored(stored, taken=self.outlet.is_open())

    def on_removed(self, seq: int, *, advise: bool = True) -> None:
        """A message it wants is gone from the stream."""
        entry = self.pending.get(seq)
        if entry is not None:
            if self.acks_below:
                self._drop_lost(seq, entry)
            else:
                self.drop_pending(seq)
            if advise:
                self.answers.on_removed(seq, entry)
        elif seq in self.given_up:
            self._forget_given_up(seq)
        else:
            self.feed.on_removed(seq)

    def on_cleared(self) -> None:
        """Everything is gone from the stream."""
        self._forget_deliveries()
        self.feed.on_cleared()
        self.floor_seq, self.floor_stream_seq = self.delivered_seq, self.feed.position
        self.changed(soon=True)

    def on_purged(self, first: int) -> None:
        """Nothing that it wants is left below `first`."""
        self.feed.move_to(first - 1)
        if not len(self.pending):
            self._forget_deliveries()
            self.floor_seq, self.floor_stream_seq = self.delivered_seq, self.feed.position
        else:
            self.floor_stream_seq = max(self.floor_stream_seq, min(first, next(iter(self.pending.entries))) - 1)
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
            if self._max_ack_pending and len(self.pending) >= self._max_ack_pending:
                return False
            stored = self.feed.peek()
            if stored is None:
                if not self.feed.is_exhausted:
                    return False
                self.feed.look_to_the_end()
                return True
            if self._must_wait(stored):
                return False
            if not self._deliver_new(stored):
                return True
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
            self.pending.add(seq, entry, self._due_ns(now, 1))
            self.changed(soon=False).pending[seq] = entry
        else:
            self.floor_seq, self.floor_stream_seq = number, seq
            self.changed(soon=False)
            if self.stream.config.retention == "interest" and not self.stream.is_needed(seq, stored.subject):
                self.stream.retention.settled(seq)
        return True

    def _deliver_again(self, stored: Stored) -> bool:
        """The first of the redeliveries; False if nobody takes it now."""
        entry = self.pending.entries[stored.seq]
        if self._is_worn(entry):
            self._give_up(stored.seq, entry)
            return True
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
        self.pending.schedule(stored.seq, entry, self._due_ns(now, entry.deliveries))
        self.changed(soon=False).pending[stored.seq] = entry
        return True

    def _dressed(self, stored: Stored, reply: bytes) -> Message:
        if not self.config.headers_only:
            return Message(stored.subject, reply, stored.headers, stored.payload)
        size = b"%d" % len(stored.payload)
        return Message(stored.subject, reply, header_block.with_lines(stored.headers, (b"Nats-Msg-Size", size)), b"")

    # deliveries that wait for their acknowledgement ----------------------------------------------------------------

    def wait_ns(self, deliveries: int) -> int:
        """How long the n-th delivery waits; 0: for ever."""
        backoff = self.config.backoff
        return backoff[min(deliveries, len(backoff)) - 1] if backoff else self.config.ack_wait

    def _due_ns(self, now_ns: int, deliveries: int) -> int:
        wait = self.wait_ns(deliveries)
        return now_ns + wait if wait else 0

    def _is_worn(self, entry: Pending) -> bool:
        return 0 < self.config.max_deliver <= entry.deliveries

    def _is_overdue(self, seq: int, entry: Pending) -> None:
        """Its acknowledgement did not come in time: once more, or given up at max_deliver."""
        if self._is_worn(entry):
            self._give_up(seq, entry)
        else:
            self.again.add(seq)

    def _give_up(self, seq: int, entry: Pending) -> None:
        self.pending.pop(seq)
        self.again.discard(seq)
        self.given_up[seq] = entry
        self.changed(soon=True).pending[seq] = entry
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
        if seq in self.given_up:
            self._forget_given_up(seq)
        entry = self.pending.pop(seq)
        if entry is None:
            return
        self.acked_ns = self.stream.around.now_ns()
        self.again.discard(seq)
        self._forget_on_disk(seq, entry)
        self._raise_floor(entry)

    def drop_pending_to(self, seq: int, consumer_seq: int) -> list[tuple[int, Pending]]:
        """Deliveries up to a stream sequence need none any more; those that waited for it."""
        if seq <= self.floor_stream_seq:
            return []
        dropped = [(number, self.pending.entries[number]) for number in self.pending.upto(seq)]
        for number, entry in dropped:
            self.pending.pop(number)
            self.again.discard(number)
            self._forget_on_disk(number, entry)
        for number in [number for number in self.given_up if number <= seq]:
            self._forget_given_up(number)
        self.acked_ns = self.stream.around.now_ns()
        self.floor_seq, self.floor_stream_seq = max(self.floor_seq, consumer_seq), seq
        self.changed(soon=True)
        return dropped

    def _drop_lost(self, seq: int, entry: Pending) -> None:
        """Its message is gone: what is below it still waits, and the floor stands at it only if nothing does."""
        first = self.pending.first()
        self.pending.pop(seq)
        self.again.discard(seq)
        self._forget_on_disk(seq, entry)
        if first is not None and first[0] == seq:
            self.floor_seq, self.floor_stream_seq = max(self.floor_seq, entry.first_seq), seq
            self.acked_ns = self.stream.around.now_ns()

    def _forget_on_disk(self, seq: int, entry: Pending) -> None:
        changes = self.changed(soon=True)
        if entry.on_disk:
            changes.pending[seq] = None
        else:
            changes.pending.pop(seq, None)

    def _forget_given_up(self, seq: int) -> None:
        self._forget_on_disk(seq, self.given_up.pop(seq))

    def _forget_deliveries(self) -> None:
        for seq in [*self.pending.entries, *self.given_up]:
            self.drop_pending(seq)

    def _raise_floor(self, done: Pending) -> None:
        """The floor goes up to the oldest delivery that still waits, if what was below it is done."""
        first = self.pending.first()
        if first is None:
            self.floor_seq, self.floor_stream_seq = self.delivered_seq, self.feed.position
        elif done.first_seq == self.floor_seq + 1:
            self.floor_seq, self.floor_stream_seq = first[1].first_seq - 1, first[0] - 1

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
        for seq in self.pending.due(now_ns):
            entry = self.pending.get(seq)
            if entry is not None:
                self._is_overdue(seq, entry)
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
            changes.pending = {**self.pending.entries, **self.given_up}
        for seq, entry in changes.pending.items():
            if entry is None:
                changes.dropped.append(seq)
            else:
                entry.on_disk = True
                deliveries = -entry.deliveries if seq in self.given_up else entry.deliveries
                changes.rows.append((seq, entry.consumer_seq, entry.first_seq, deliveries))

    def on_not_kept(self, changes: ConsumerChanges) -> None:
        """The store's copy is old: write everything with the next commit."""
        self._changes = None
        if not self.deleted:
            self.changed(soon=True).rewrite = True


def _nobody(_consumer: Consumer) -> None:
    """Nobody wants to know."""


def _not_pull(_message: Message) -> None:
    """A push consumer takes no requests."""
