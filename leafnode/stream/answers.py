"""What readers answer to deliveries: acknowledgements of every kind (spec jetstream-api section 8).

An answer that itself wants an answer gets an empty message when its effect is on the disk. Retention may let a message
go when it is acknowledged.
"""

from typing import TYPE_CHECKING

from leafnode.route.message import Message, Subscription
from leafnode.stream import ack
from leafnode.stream.contents import Weight
from leafnode.stream.pending import Pending
from leafnode.stream.short_hash import short_hash

if TYPE_CHECKING:
    from leafnode.stream.consumer import Consumer

_MORE = (ack.Kind.NAK, ack.Kind.NEXT)  # there is something to deliver after these
DELETED_REASON = "Unacknowledged message was deleted"


class Answers:
    """The sink of one consumer's `$JS.ACK` subjects."""

    is_remote = False

    def __init__(self, consumer: "Consumer") -> None:
        self._consumer = consumer
        self._stream = consumer.stream
        self._around = consumer.stream.around
        self._sampled = 0  # percent of an acknowledgement: at 100 one is reported
        # five tokens follow the consumer's name, as nats-server advertises it; in version 2 there may be more
        where = f"{self._around.domain or '_'}.{short_hash(self._around.account.name)}"
        second = f"{ack.PREFIX.decode()}{where}.{self._stream.name}.{consumer.name}.*.*.*.*.>"
        self._subscriptions = (
            Subscription(consumer.ack_head + b"*.*.*.*.*", self),
            Subscription(second.encode(), self),
        )

    def subscribe(self) -> None:
        """Nobody answers for a consumer that wants no acknowledgements."""
        if not self._consumer.acks:
            return
        for subscription in self._subscriptions:
            self._around.account.subscribe(subscription)

    def unsubscribe(self) -> None:
        if not self._consumer.acks:
            return
        for subscription in self._subscriptions:
            self._around.account.unsubscribe(subscription)

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        which = ack.delivery(to or message.subject)
        consumer = self._consumer
        if which is None or not consumer.acks or not which.stream_seq:
            return True
        kind, rest = ack.answer(message.payload)
        reply = message.reply
        was_full = consumer.is_full
        if kind is ack.Kind.ACK:
            if not self._acknowledge(which, sample=True):
                return True
        elif kind is ack.Kind.NEXT:
            self._acknowledge(which, sample=True)
            consumer.next_request(Message(message.subject, reply, b"", rest))
            reply = b""
        elif kind is ack.Kind.TERM:
            if not self._acknowledge(which, sample=False):
                reply = b""
            reason = {"reason": rest.decode(errors="replace")} if rest else {}
            self._advise("MSG_TERMINATED", "terminated", which, **reason)
        elif kind is ack.Kind.NAK:
            self._again_after(which, ack.nak_delay_ns(rest))
        elif kind is ack.Kind.PROGRESS:
            self._restart_wait(which)
        if reply:
            self._answer_later(reply)
        if was_full or kind in _MORE:
            consumer.pump()
        return True

    def _answer_later(self, reply: bytes) -> None:
        def kept(failure: str) -> None:
            if not failure:
                self._around.account.publish(Message(reply))

        self._around.journal.after(kept)

    # kinds -------------------------------------------------------------------------------------------------------

    def _acknowledge(self, which: ack.Delivery, *, sample: bool) -> bool:
        """Never again; False for what was not delivered yet."""
        consumer = self._consumer
        if not consumer.has_reached(which.stream_seq):
            return False
        if consumer.acks_below:
            self.acknowledge_to(which.stream_seq, which.consumer_seq)
            return True
        entry = consumer.pending.get(which.stream_seq)
        if sample and entry is not None and consumer.config.sample_freq:
            self._sample(which, entry)
        self._done_with(which.stream_seq)
        return True

    def acknowledge_to(self, stream_seq: int, consumer_seq: int) -> None:
        """Everything delivered up to there is acknowledged: by one for all, or by an answer to flow control."""
        for seq, entry in self._consumer.ledger.drop_to(stream_seq, consumer_seq):
            self._release(seq, entry)

    def _again_after(self, which: ack.Delivery, delay_ns: int) -> None:
        consumer = self._consumer
        entry = consumer.pending.get(which.stream_seq)
        if entry is None or not consumer.ledger.floor_seq < which.consumer_seq <= consumer.delivered_seq:
            return
        self._advise("MSG_NAKED", "nak", which)
        if delay_ns > 0:
            consumer.again.discard(which.stream_seq)
            consumer.pending.schedule(which.stream_seq, entry, self._around.now_ns() + delay_ns)
        elif which.stream_seq not in consumer.again:
            entry.due_ns = 0
            consumer.again.add(which.stream_seq)

    def _restart_wait(self, which: ack.Delivery) -> None:
        consumer = self._consumer
        entry = consumer.pending.get(which.stream_seq)
        if entry is not None and entry.due_ns:
            due = self._around.now_ns() + consumer.ledger.wait_ns(entry.deliveries)
            consumer.pending.schedule(which.stream_seq, entry, due)

    def on_removed(self, seq: int, entry: Pending) -> None:
        """Its message went before the acknowledgement came."""
        which = ack.Delivery(entry.deliveries, seq, entry.first_seq)
        self._advise("MSG_TERMINATED", "terminated", which, reason=DELETED_REASON)

    # done --------------------------------------------------------------------------------------------------------

    def _done_with(self, seq: int) -> None:
        ledger = self._consumer.ledger
        entry = ledger.pending.get(seq)
        ledger.drop(seq)
        ledger.acked_ns = self._around.now_ns()
        self._release(seq, entry)

    def _release(self, seq: int, entry: Pending | None) -> None:
        """Retention may let it go."""
        stream = self._stream
        if stream.config.retention == "limits" or stream.contents.is_gone(seq):
            return
        weight = self._weight(entry)
        if weight is not None:
            self._settle(seq, weight)
        else:
            stream.recall.weights([seq], lambda found: self._settle(seq, found.get(seq)))

    def _weight(self, entry: Pending | None) -> Weight | None:
        """What a delivery's message weighs; not known of deliveries read back from the disk."""
        if entry is None or not entry.subject:
            return None
        subject = self._stream.contents.subjects.get(entry.subject)
        return Weight(subject, entry.size, 0) if subject is not None else None

    def _settle(self, seq: int, weight: Weight | None) -> None:
        stream = self._stream
        if weight is not None and not stream.is_needed(seq, weight.subject.name):
            stream.retention.settled(seq, weight)

    # events ------------------------------------------------------------------------------------------------------

    def _sample(self, which: ack.Delivery, entry: Pending) -> None:
        """Report so many of a hundred acknowledgements, evenly spread."""
        self._sampled += min(100, int(self._consumer.config.sample_freq.removesuffix("%")))
        if self._sampled < 100:
            return
        self._sampled -= 100
        stream, consumer = self._stream, self._consumer
        self._around.advise(
            f"METRIC.CONSUMER.ACK.{stream.name}.{consumer.name}",
            "metric.v1.consumer_ack",
            stream=stream.name,
            consumer=consumer.name,
            consumer_seq=which.consumer_seq,
            stream_seq=which.stream_seq,
            ack_time=max(0, self._around.now_ns() - entry.delivered_ns),
            deliveries=which.deliveries,
        )

    def _advise(self, subject: str, kind: str, which: ack.Delivery, **more: object) -> None:
        stream, consumer = self._stream, self._consumer
        self._around.advise(
            f"ADVISORY.CONSUMER.{subject}.{stream.name}.{consumer.name}",
            f"advisory.v1.{kind}",
            stream=stream.name,
            consumer=consumer.name,
            consumer_seq=which.consumer_seq,
            stream_seq=which.stream_seq,
            deliveries=which.deliveries,
            **more,
        )
