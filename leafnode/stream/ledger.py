"""What one consumer has delivered, and what of it is done: deliveries that wait, the floor, the copy on the disk.

    pending      delivered, not acknowledged; each with its deadline
    again        those of them whose deadline passed, or that were asked for again: they go before new messages
    given_up     delivered max_deliver times: the stream keeps them, nobody gets them again
    floor        everything up to there is done

The floor rises as nats-server's does: with an acknowledgement that joins it, up to the oldest delivery that waits.
"""

from typing import TYPE_CHECKING

from leafnode.stream.journal import ConsumerChanges, ConsumerState
from leafnode.stream.pending import AckPending, Pending
from leafnode.stream.redelivery import Redelivery
from leafnode.stream.stored import Stored

if TYPE_CHECKING:
    from leafnode.stream.consumer import Consumer


class Ledger:
    """The deliveries of one consumer."""

    def __init__(self, consumer: "Consumer", state: ConsumerState) -> None:
        self._consumer = consumer
        self._stream = consumer.stream
        self._around = consumer.stream.around
        self.delivered_seq = state.delivered_seq  # consumer sequence of the last delivery
        self.floor_seq = state.floor_seq
        self.floor_stream_seq = state.floor_stream_seq
        self.done_to = state.floor_stream_seq  # the same, but when nothing waited: how far the feed had looked
        self.delivered_ns = 0  # when the last delivery was made
        self.acked_ns = 0
        self.pending = AckPending()
        self.given_up: dict[int, Pending] = {}
        self.again = Redelivery(self._stream, self.pending, gone=self.drop, pump=consumer.pump)
        self._changes: ConsumerChanges | None = None

    @property
    def num_redelivered(self) -> int:
        if self._consumer.config.max_deliver == 1:
            return 0
        return len(self.given_up) + sum(1 for entry in self.pending.entries.values() if entry.deliveries > 1)

    def holds(self, seq: int) -> bool:
        """Whether the stream must keep a delivered message for this consumer."""
        return seq in self.pending or seq in self.given_up

    def begin(self, position: int) -> None:
        """New, at a stream sequence."""
        self.floor_stream_seq = self.done_to = position
        self.changed(soon=True)

    def resume(self, rows: list[tuple[int, int, int, int]]) -> None:
        """Take back the deliveries read from the disk; each gets its whole ack_wait again."""
        now = self._around.now_ns()
        for seq, consumer_seq, first_seq, deliveries in rows:
            entry = Pending(consumer_seq, now)
            entry.first_seq = first_seq
            entry.deliveries = abs(deliveries)
            entry.on_disk = True
            if deliveries < 0:
                self.given_up[seq] = entry
            else:
                self.pending.add(seq, entry, self._due_ns(now, deliveries))

    # deliveries --------------------------------------------------------------------------------------------------

    def delivered(self, stored: Stored, number: int, now_ns: int) -> None:
        """A new message was sent, as the consumer's delivery `number`."""
        self.delivered_seq = number
        self.delivered_ns = now_ns
        if self._consumer.acks:
            entry = Pending(number, now_ns, stored.subject, self._stream.size_of_stored(stored))
            self.pending.add(stored.seq, entry, self._due_ns(now_ns, 1))
            self.changed(soon=False).pending[stored.seq] = entry
        else:
            self.floor_seq, self.floor_stream_seq = number, stored.seq
            self.done_to = stored.seq
            self.changed(soon=False)

    def delivered_again(self, stored: Stored, number: int, now_ns: int) -> None:
        """The first of `again` was sent."""
        self.again.advance()
        entry = self.pending.entries[stored.seq]
        self.delivered_seq = entry.consumer_seq = number
        self.delivered_ns = entry.delivered_ns = now_ns
        entry.deliveries += 1
        entry.subject, entry.size = stored.subject, self._stream.size_of_stored(stored)
        self.pending.schedule(stored.seq, entry, self._due_ns(now_ns, entry.deliveries))
        self.changed(soon=False).pending[stored.seq] = entry

    def wait_ns(self, deliveries: int) -> int:
        """How long the n-th delivery waits; 0: for ever."""
        backoff = self._consumer.config.backoff
        return backoff[min(deliveries, len(backoff)) - 1] if backoff else self._consumer.config.ack_wait

    def _due_ns(self, now_ns: int, deliveries: int) -> int:
        wait = self.wait_ns(deliveries)
        return now_ns + wait if wait else 0

    def is_worn(self, entry: Pending) -> bool:
        """It was delivered as often as may be."""
        return 0 < self._consumer.config.max_deliver <= entry.deliveries

    def on_time(self, now_ns: int) -> None:
        """What was not acknowledged in time is delivered once more, or given up at max_deliver."""
        for seq in self.pending.due(now_ns):
            entry = self.pending.entries[seq]
            if self.is_worn(entry):
                self.give_up(seq, entry)
            else:
                self.again.add(seq)

    def give_up(self, seq: int, entry: Pending) -> None:
        """Delivered often enough."""
        self.pending.pop(seq)
        self.again.discard(seq)
        self.given_up[seq] = entry
        self.changed(soon=True).pending[seq] = entry
        stream, name = self._stream.name, self._consumer.name
        self._around.advise(
            f"ADVISORY.CONSUMER.MAX_DELIVERIES.{stream}.{name}",
            "advisory.v1.max_deliver",
            stream=stream,
            consumer=name,
            stream_seq=seq,
            deliveries=entry.deliveries,
        )

    # done --------------------------------------------------------------------------------------------------------

    def drop(self, seq: int) -> None:
        """A delivery needs no acknowledgement any more."""
        if seq in self.given_up:
            self._forget_given_up(seq)
        entry = self.pending.get(seq)
        if entry is None:
            return
        self.acked_ns = self._around.now_ns()
        self._forget(seq, entry)
        self._raise_floor(entry)

    def drop_to(self, seq: int, consumer_seq: int) -> list[tuple[int, Pending]]:
        """Deliveries up to a stream sequence need none any more; those that waited for it."""
        if seq <= self.floor_stream_seq:
            return []
        dropped = [(number, self.pending.entries[number]) for number in self.pending.upto(seq)]
        for number, entry in dropped:
            self._forget(number, entry)
        for number in [number for number in self.given_up if number <= seq]:
            self._forget_given_up(number)
        self.acked_ns = self._around.now_ns()
        self.floor_seq, self.floor_stream_seq = max(self.floor_seq, consumer_seq), seq
        self.done_to = seq
        self.changed(soon=True)
        return dropped

    def drop_lost(self, seq: int) -> Pending | None:
        """A message is gone from the stream; the delivery that waited for its acknowledgement."""
        entry = self.pending.get(seq)
        if entry is None:
            if seq in self.given_up:
                self._forget_given_up(seq)
        elif self._consumer.acks_below:
            self._forget_among(seq, entry)
        else:
            self.drop(seq)
        return entry

    def put_back(self, seq: int, entry: Pending) -> None:
        """`drop_lost` was too early: the commit that took the message away was refused. It waits again, from now on."""
        if seq in self.pending or seq in self.given_up:
            return
        self.pending.put_back(seq, entry, self._due_ns(self._around.now_ns(), entry.deliveries))
        self.floor_seq = min(self.floor_seq, entry.first_seq - 1)
        self.floor_stream_seq = min(self.floor_stream_seq, seq - 1)
        self.done_to = min(self.done_to, seq - 1)
        self.changed(soon=True).pending[seq] = entry

    def _forget_among(self, seq: int, entry: Pending) -> None:
        """What is below it still waits; the floor stands at it only if nothing does."""
        first = self.pending.first()
        self._forget(seq, entry)
        if first is not None and first[0] == seq:
            self.floor_seq, self.floor_stream_seq = max(self.floor_seq, entry.first_seq), seq
            self.done_to = seq
            self.acked_ns = self._around.now_ns()

    def drop_all(self) -> None:
        for seq in [*self.pending.entries, *self.given_up]:
            self.drop(seq)

    def _forget(self, seq: int, entry: Pending) -> None:
        self.pending.pop(seq)
        self.again.discard(seq)
        self._forget_on_disk(seq, entry)

    def _forget_given_up(self, seq: int) -> None:
        self._forget_on_disk(seq, self.given_up.pop(seq))

    # the floor ---------------------------------------------------------------------------------------------------

    def _raise_floor(self, done: Pending) -> None:
        first = self.pending.first()
        if first is None:
            self.floor_seq, self.floor_stream_seq = self.delivered_seq, self._consumer.position
            self.done_to = self._consumer.feed.reach
        elif done.first_seq == self.floor_seq + 1:
            self.floor_seq, self.floor_stream_seq = first[1].first_seq - 1, first[0] - 1
            self.done_to = self.floor_stream_seq

    def purged_to(self, first_left: int) -> None:
        """Nothing that the consumer wants is left below; its position was moved already."""
        first = self.pending.first()
        if first is None:
            self.drop_all()
            self.floor_seq, self.floor_stream_seq = self.delivered_seq, self._consumer.position
        else:
            self.floor_stream_seq = max(self.floor_stream_seq, min(first_left, first[0]) - 1)
        self.done_to = self.floor_stream_seq
        self.changed(soon=True)

    def begin_anew(self, position: int) -> None:
        """As if nothing had ever been delivered."""
        self.drop_all()
        self.delivered_seq = self.floor_seq = 0
        self.delivered_ns = self.acked_ns = 0
        self.begin(position)

    # the disk ----------------------------------------------------------------------------------------------------

    def changed(self, *, soon: bool) -> ConsumerChanges:
        """This consumer's part of the batch being collected. A delivery can wait a little, an acknowledgement not."""
        if self._changes is None:
            self._changes = self._around.journal.consumer_changes(self._consumer, soon=soon)
        elif soon:
            self._around.journal.consumer_changes(self._consumer, soon=True)
        return self._changes

    def _forget_on_disk(self, seq: int, entry: Pending) -> None:
        changes = self.changed(soon=True)
        if entry.on_disk:
            changes.pending[seq] = None
        else:
            changes.pending.pop(seq, None)

    def close_changes(self, changes: ConsumerChanges) -> None:
        """The batch leaves for the disk. What was given up has a negative number of deliveries there."""
        self._changes = None
        position = self._consumer.position
        changes.state = ConsumerState(self.delivered_seq, position, self.floor_seq, self.floor_stream_seq)
        if changes.rewrite:
            changes.pending = {**self.pending.entries, **self.given_up}
        for seq, entry in changes.pending.items():
            if entry is None:
                changes.dropped.append(seq)
            else:
                entry.on_disk = True
                deliveries = -entry.deliveries if seq in self.given_up else entry.deliveries
                changes.rows.append((seq, entry.consumer_seq, entry.first_seq, deliveries))

    def on_not_kept(self) -> None:
        """The store's copy is old: write everything with the next commit."""
        self._changes = None
        if not self._consumer.deleted:
            self.changed(soon=True).rewrite = True
