"""What readers answer to deliveries: acknowledgements of every kind (spec jetstream-api section 8).

An answer that itself wants an answer gets an empty message when its effect is on the disk. Retention may let a message
go when it is acknowledged.
"""

from typing import TYPE_CHECKING

from leafnode.route.message import Message, Subscription
from leafnode.stream import ack
from leafnode.stream.contents import Weight
from leafnode.stream.pending import Pending

if TYPE_CHECKING:
    from leafnode.stream.consumer import Consumer


class Answers:
    """The sink of one consumer's `$JS.ACK` subjects."""

    is_remote = False

    def __init__(self, consumer: "Consumer") -> None:
        self._consumer = consumer
        self._stream = consumer.stream
        self._around = consumer.stream.around
        # five tokens follow the consumer's name, as nats-server advertises it
        self._subscription = Subscription(consumer.ack_head + b"*.*.*.*.*", self)

    def subscribe(self) -> None:
        self._around.account.subscribe(self._subscription)

    def unsubscribe(self) -> None:
        self._around.account.unsubscribe(self._subscription)

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        which = ack.delivery(to or message.subject)
        consumer = self._consumer
        if which is None or not consumer.acks or which.stream_seq > self._stream.contents.last_seq:
            return True
        kind, rest = ack.answer(message.payload)
        reply = message.reply
        if kind is ack.Kind.ACK:
            self._acknowledge(which)
        elif kind is ack.Kind.NEXT:
            self._acknowledge(which)
            consumer.next_request(Message(message.subject, reply, b"", rest))
            reply = b""
        elif kind is ack.Kind.TERM:
            self._terminate(which, rest)
        elif kind is ack.Kind.NAK:
            self._again_after(which, ack.nak_delay_ns(rest))
        elif kind is ack.Kind.PROGRESS:
            self._restart_wait(which)
        if reply:
            self._answer_later(reply)
        consumer.pump()
        return True

    def _answer_later(self, reply: bytes) -> None:
        def kept(failure: str) -> None:
            if not failure:
                self._around.account.publish(Message(reply))

        self._around.journal.after(kept)

    # kinds -------------------------------------------------------------------------------------------------------

    def _acknowledge(self, which: ack.Delivery) -> None:
        consumer = self._consumer
        if consumer.config.ack_policy == "all":
            for seq in consumer.pending.upto(which.stream_seq):
                self._done_with(seq)
        else:
            self._done_with(which.stream_seq)
        if consumer.config.sample_freq:
            self._sample(which)

    def _terminate(self, which: ack.Delivery, reason: bytes) -> None:
        self._done_with(which.stream_seq)
        self._advise("MSG_TERMINATED", "terminated", which, reason=reason.decode(errors="replace"))

    def _again_after(self, which: ack.Delivery, delay_ns: int) -> None:
        consumer = self._consumer
        entry = consumer.pending.get(which.stream_seq)
        if entry is None or which.stream_seq in consumer.again:
            return
        if delay_ns > 0:
            consumer.pending.schedule(which.stream_seq, entry, self._around.now_ns() + delay_ns)
        else:
            entry.due_ns = 0
            consumer.deliver_again(which.stream_seq, entry)
        self._advise("MSG_NAKED", "nak", which)

    def _restart_wait(self, which: ack.Delivery) -> None:
        consumer = self._consumer
        entry = consumer.pending.get(which.stream_seq)
        if entry is not None and entry.due_ns:
            due = self._around.now_ns() + consumer.wait_ns(entry.deliveries)
            consumer.pending.schedule(which.stream_seq, entry, due)

    # done --------------------------------------------------------------------------------------------------------

    def _done_with(self, seq: int) -> None:
        """Acknowledged or terminated: never again."""
        consumer, stream = self._consumer, self._stream
        entry = consumer.pending.get(seq)
        if entry is not None:
            consumer.drop_pending(seq)
        elif seq > consumer.feed.position:
            return
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
        if weight is None:
            return
        if stream.config.retention == "workqueue" or not stream.is_needed(seq, weight.subject.name):
            stream.retention.settled(seq, weight)

    # events ------------------------------------------------------------------------------------------------------

    def _sample(self, which: ack.Delivery) -> None:
        stream, consumer = self._stream, self._consumer
        self._around.advise(
            f"METRIC.CONSUMER.ACK.{stream.name}.{consumer.name}",
            "metric.v1.consumer_ack",
            stream=stream.name,
            consumer=consumer.name,
            consumer_seq=which.consumer_seq,
            stream_seq=which.stream_seq,
            ack_time=max(0, self._around.now_ns() - consumer.delivered_ns),
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
