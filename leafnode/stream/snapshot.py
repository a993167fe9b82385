"""STREAM.SNAPSHOT: a stream and its consumers as an archive, in chunks that the receiver acknowledges.

The archive is nats-server's (`wire.archive`, packed in `wire.s2`), so that a backup of one server is restored by the
other. It is made while it is sent: so many chunks are on their way as the window holds, and no more is read.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leafnode.route.message import Message, Subscription
from leafnode.stream import reads, schema, times
from leafnode.stream.stream import Stream
from leafnode.wire import archive, s2
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.consumer import Consumer

CHUNK_DEFAULT, CHUNK_MIN, CHUNK_MAX = 128 << 10, 1 << 10, 1 << 20  # bytes; nats-server's
WINDOW_DEFAULT, WINDOW_MAX = 8 << 20, 32 << 20  # bytes on their way; nats-server's
INTEREST_NS = 2 * times.SECOND  # for the receiver to subscribe
LOOK_NS = 50 * times.MILLISECOND  # between looks whether it did
ACK_NS = 5 * times.SECOND  # without an acknowledgement the receiver is gone
PIECE = 16 << 10  # bytes packed at once: a few milliseconds on a small processor
STATE = b"state.json"
CONSUMERS = b"consumers/"


class Snapshot:
    """One snapshot under way. `done(error)` is called at its end, with "" if all was sent."""

    is_remote = False

    def __init__(
        self, stream: Stream, asked: dict[str, Any], state: dict[str, Any], done: Callable[[str], None]
    ) -> None:
        """`state`: as stream info shows it."""
        chunk = asked.get("chunk_size") or CHUNK_DEFAULT
        window = asked.get("window_size") or WINDOW_DEFAULT
        self._stream = stream
        self._around = stream.around
        self._to = asked["deliver_subject"].encode()
        self._chunk = min(max(CHUNK_MIN, chunk), CHUNK_MAX)
        self._most = max(min(max(CHUNK_MIN, window), WINDOW_MAX), self._chunk) // self._chunk
        self._done = done
        self._acks = f"$JS.SNAPSHOT.ACK.{stream.name}.{self._around.new_id()}".encode()
        self._subscription = Subscription(self._acks + b".>", self)
        self._plain = bytearray(archive.MAGIC)
        self._packed = bytearray(s2.IDENTIFIER)
        self._after = stream.contents.first_seq - 1
        self._upto = stream.committed
        self._is_read = self._is_asking = self._is_over = False
        self._sent = self._acked = 0  # chunks
        self._deadline_ns = self._around.now_ns() + INTEREST_NS
        self._is_waiting = True  # for the receiver
        self.armed_ns = 0
        self._begin_archive(state, [] if asked.get("no_consumers") else list(stream.consumers.values()))

    def _begin_archive(self, state: dict[str, Any], consumers: "list[Consumer]") -> None:
        kept = [consumer for consumer in consumers if consumer.is_kept]
        now = self._around.now_ns()
        described = schema.encode({**state, "consumer_count": len(kept)})
        self._plain += archive.write(archive.Entry(STATE, now, 0, b"", described))
        for consumer in kept:
            self._plain += archive.write(
                archive.Entry(CONSUMERS + consumer.name.encode(), now, 0, b"", schema.encode(consumer_json(consumer)))
            )

    def start(self) -> None:
        self._around.account.subscribe(self._subscription)
        self.on_time(self._around.now_ns())

    # the receiver ------------------------------------------------------------------------------------------------

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        """A chunk was received."""
        self._acked = min(self._acked + 1, self._sent)
        self._deadline_ns = self._around.now_ns() + ACK_NS
        self._pump()
        return True

    def on_time(self, now_ns: int) -> None:
        if self._is_over:
            return
        if self._is_waiting and self._around.account.has_interest(self._to):
            self._is_waiting = False
            self._deadline_ns = now_ns + ACK_NS
            self._pump()
        elif now_ns >= self._deadline_ns and (self._is_waiting or self._sent - self._acked >= self._most):
            self._end("no interest" if self._is_waiting else "no flow response", 408)
            return
        next_ns = now_ns + LOOK_NS if self._is_waiting else max(self._deadline_ns, now_ns + times.SECOND)
        self._around.timers.arm(self, next_ns)

    # chunks ------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Send what the window lets through; read more when that is used up."""
        while not self._is_over and self._sent - self._acked < self._most:
            self._pack()
            if len(self._packed) >= self._chunk:
                self._send_chunk()
            elif not self._is_read:
                self._read()
                return
            elif self._plain:
                continue
            else:
                if self._packed:
                    self._publish(Message(self._to, payload=bytes(self._packed)))
                self._end("", 204 if self._sent else 0)

    def _pack(self) -> None:
        while len(self._packed) < self._chunk and self._plain and (self._is_read or len(self._plain) >= PIECE):
            self._packed += s2.pack(bytes(self._plain[:PIECE]))
            del self._plain[:PIECE]

    def _send_chunk(self) -> None:
        self._sent += 1
        data = bytes(self._packed[: self._chunk])
        del self._packed[: self._chunk]
        self._deadline_ns = self._around.now_ns() + ACK_NS
        reply = b"%b.%d.%d" % (self._acks, len(data), self._sent)
        if not self._publish(Message(self._to, reply, b"", data)):
            self._end("no interest", 408)

    def _publish(self, message: Message) -> bool:
        return bool(self._around.account.publish(message))

    def _read(self) -> None:
        if self._is_asking:
            return
        if self._after >= self._upto:
            self._plain += archive.write(archive.END)
            self._is_read = True
            self._pump()
            return
        self._is_asking = True
        question = reads.Messages(self._stream.id, self._after, self._upto, None, self._found)
        self._around.reads.ask(question)

    def _found(self, rows: reads.Rows) -> None:
        self._is_asking = False
        if self._stream.deleted:
            self._end("stream not found", 500)
            return
        for stored in rows.messages:
            if not self._stream.contents.is_gone(stored.seq):
                self._plain += archive.write(
                    archive.Entry(stored.subject, stored.time, stored.seq, stored.headers, stored.payload)
                )
        self._after = rows.scanned_to
        self._pump()

    def _end(self, error: str, code: int) -> None:
        if self._is_over:
            return
        self._is_over = True
        headers = header_block.status(code, error.title() if code == 408 else error) if code else b""
        self._publish(Message(self._to, headers=headers))
        self._around.account.unsubscribe(self._subscription)
        self._around.timers.disarm(self)
        self._done(error)


def consumer_json(consumer: "Consumer") -> dict[str, Any]:
    """A consumer's configuration and position, as the archive has them."""
    entries = consumer.ledger.pending.entries.items()
    state: dict[str, Any] = {
        "delivered": {"consumer_seq": consumer.delivered_seq, "stream_seq": consumer.position},
        "ack_floor": {"consumer_seq": consumer.ledger.floor_seq, "stream_seq": consumer.ledger.floor_stream_seq},
    }
    if entries:
        state["pending"] = {
            str(seq): {"Sequence": entry.consumer_seq, "Timestamp": entry.delivered_ns} for seq, entry in entries
        }
    again = {str(seq): entry.deliveries for seq, entry in entries if entry.deliveries > 1}
    if again:
        state["redelivered"] = again
    return {"config": consumer.config.to_json(), "state": state}
