"""Push: messages go to a deliver subject while somebody listens there (spec jetstream-api section 10).

Flow control bounds what is on its way: a request for an answer goes in line when half a window is out, nothing more is
sent when it is full, and each answer doubles the window up to its limit. With the `flow_control` acknowledgement policy
the answers say, in headers, how far the reader is, and acknowledge everything up to there (ADR-60).
"""

from typing import TYPE_CHECKING

from leafnode.route.message import Message, Subscription
from leafnode.stream.short_hash import short_hash
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.consumer import Consumer

WINDOW_START = 2 << 20  # bytes in flight; nats-server's first window
WINDOW_MAX = 32 << 20  # bytes in flight; nats-server's largest
FLOW_ID = 4  # characters of a flow control subject's last token
DIGITS_MAX = 18  # of a sequence in a header: what fits in 64 bits


class Push:
    """The outlet of a push consumer."""

    is_remote = False

    def __init__(self, consumer: "Consumer") -> None:
        self._consumer = consumer
        self._account = consumer.stream.around.account
        self.bound = False
        self._window = WINDOW_START
        self._in_flight = 0
        self._asked = 0  # bytes that the outstanding request covers
        self._flow_subject = b""
        self._last_sent_ns = consumer.stream.around.now_ns()
        self.unbound_ns = self._last_sent_ns
        self._subscriptions: list[Subscription] = []
        self.subject = consumer.config.deliver_subject.encode()

    def subscribe(self) -> None:
        """Listen for answers to flow control."""
        if self._consumer.config.flow_control:
            stream, name = self._consumer.stream.name, self._consumer.name
            where = f"{self._consumer.stream.around.domain or '_'}.{short_hash(self._account.name)}"
            for subject in (f"$JS.FC.{stream}.{name}.*", f"$JS.FC.{where}.{stream}.{name}.*"):
                subscription = Subscription(subject.encode(), self)
                self._subscriptions.append(subscription)
                self._account.subscribe(subscription)

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        """The reader answers a flow control request."""
        if self._flow_subject and (to or message.subject) == self._flow_subject:
            self._flow_subject = b""
            self._in_flight = max(0, self._in_flight - self._asked)
            self._asked = 0
            self._window = min(2 * self._window, WINDOW_MAX)
            if self._acks_by_flow and message.headers:
                self._acknowledge(message.headers)
            self._consumer.pump()
        return True

    @property
    def _acks_by_flow(self) -> bool:
        return self._consumer.config.ack_policy == "flow_control"

    def _acknowledge(self, headers: bytes) -> None:
        """How far the reader is; no consumer sequence means that it got nothing since it began anew."""
        stream_seq = _number(headers, b"Nats-Last-Stream")
        if stream_seq:
            self._consumer.answers.acknowledge_to(stream_seq, _number(headers, b"Nats-Last-Consumer"))

    def move(self) -> None:
        """Another deliver subject was configured."""
        self.subject = self._consumer.config.deliver_subject.encode()
        self.bound = False

    def check_interest(self) -> bool:
        """Look whether somebody listens; True if that changed."""
        group = self._consumer.config.deliver_group.encode()
        bound = self._account.has_interest(self.subject, group)
        changed = bound != self.bound
        self.bound = bound
        if changed and not bound:
            self.unbound_ns = self._consumer.stream.around.now_ns()
            self._flow_subject = b""
            self._in_flight = 0
            self._window = WINDOW_START
        return changed

    # outlet ------------------------------------------------------------------------------------------------------

    def is_open(self) -> bool:
        return self.bound and not (self._consumer.config.flow_control and self._in_flight > self._window)

    def offer(self, message: Message) -> bool:
        if not self._account.publish(message, to=self.subject):
            return False
        consumer = self._consumer
        self._last_sent_ns = consumer.stream.around.now_ns()
        if consumer.config.flow_control:
            size = len(self.subject) + len(message.reply) + len(message.headers) + len(message.payload)
            self._in_flight += size
            if self._flow_subject:
                if self._in_flight - self._asked >= self._window:
                    self._asked += size
            elif self._in_flight > self._window // 2 or self._is_last_place():
                self._ask_for_answer()
        return True

    def _is_last_place(self) -> bool:
        """With what was just sent, as much waits for its acknowledgement as may."""
        most = self._consumer.config.max_ack_pending
        return self._acks_by_flow and 0 < most <= len(self._consumer.pending) + 1

    def _ask_for_answer(self) -> None:
        consumer = self._consumer
        token = consumer.stream.around.new_id()[-FLOW_ID:]
        self._flow_subject = f"$JS.FC.{consumer.stream.name}.{consumer.name}.{token}".encode()
        self._asked = self._in_flight
        self._account.publish(
            Message(self.subject, self._flow_subject, header_block.status(100, "FlowControl Request")), to=self.subject
        )

    def settle(self, *, exhausted: bool) -> None:
        """Nobody waits for the end of a push consumer's messages."""

    def next_ns(self) -> int | None:
        heartbeat = self._consumer.config.idle_heartbeat
        return self._last_sent_ns + heartbeat if heartbeat and self.bound else None

    def on_time(self, now_ns: int) -> None:
        heartbeat = self._consumer.config.idle_heartbeat
        if heartbeat and self.bound and now_ns - self._last_sent_ns >= heartbeat:
            self._last_sent_ns = now_ns
            self._heartbeat()
            if self._acks_by_flow and len(self._consumer.pending) and not self._flow_subject:
                self._ask_for_answer()

    def _heartbeat(self) -> None:
        consumer = self._consumer
        lines = [("Nats-Last-Consumer", str(consumer.delivered_seq)), ("Nats-Last-Stream", str(consumer.feed.reach))]
        if self._flow_subject:
            lines.append(("Nats-Consumer-Stalled", self._flow_subject.decode()))
        self._account.publish(Message(self.subject, headers=header_block.status(100, "Idle Heartbeat", *lines)))

    def idle_since(self) -> int:
        return 0 if self.bound else self.unbound_ns

    def is_idle(self) -> bool:
        return not self.bound

    def close(self, reason: str) -> None:
        for subscription in self._subscriptions:
            self._account.unsubscribe(subscription)
        self._subscriptions.clear()

    def farewell(self) -> None:
        """Its reader notices by the connection, or by missing heartbeats."""


def _number(headers: bytes, name: bytes) -> int:
    value = header_block.get(headers, name) or b""
    return int(value) if value.isdigit() and len(value) <= DIGITS_MAX else 0
