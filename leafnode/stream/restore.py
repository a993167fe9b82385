"""STREAM.RESTORE: a stream from the archive of a snapshot, ours or nats-server's.

    the request names the configuration; the answer says where to send the archive
    each chunk is answered with nothing when what it held is on the disk; an empty chunk is the end
    the end is answered like a created stream, or with what went wrong

The stream exists for nobody until then: what a broken restore has left is removed, at the latest at the next start.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from leafnode.errors import ApiError, LeafnodeError
from leafnode.route.message import Message, Subscription
from leafnode.stream import faults, schema, times
from leafnode.stream.consumer_config import SHAPE as CONSUMER_SHAPE
from leafnode.stream.consumer_config import ConsumerConfig
from leafnode.stream.journal import ConsumerState
from leafnode.stream.snapshot import CONSUMERS, STATE
from leafnode.stream.stored import Stored
from leafnode.stream.stream import Stream, error_json
from leafnode.stream.stream_config import StreamConfig
from leafnode.wire import archive, s2

if TYPE_CHECKING:
    from leafnode.stream.jetstream import JetStream

STALLED_NS = 5 * times.SECOND  # without a chunk the sender is gone; nats-server's
SEQUENCE_MAX = 1 << 62  # half of what SQLite counts
TYPE = "io.nats.jetstream.api.v1.stream_create_response"
_PAIR: dict[str, schema.Kind] = {"consumer_seq": schema.unsigned, "stream_seq": schema.unsigned}


class RestoreError(LeafnodeError):
    """Why the archive is none of a stream."""


class RestoredConsumer(NamedTuple):
    name: str
    config: ConsumerConfig
    state: ConsumerState
    pending: list[tuple[int, int, int, int]]  # stream sequence, consumer sequence, first one, deliveries


class Restore:
    """One restore under way. `describe(stream)` makes the answer; `done()` is called at its end."""

    is_remote = False

    def __init__(
        self,
        jetstream: "JetStream",
        config: StreamConfig,
        describe: Callable[[Stream], dict[str, Any]],
        done: Callable[[int], None],
    ) -> None:
        self._js = jetstream
        self._around = jetstream.around
        self._config = config
        self._describe = describe
        self._done = done
        self.subject = f"$JS.SNAPSHOT.RESTORE.{config.name}.{self._around.new_id()}"
        self._subscription = Subscription(self.subject.encode(), self)
        self._unpacker = s2.Unpacker()
        self._reader = archive.Reader()
        self._stream: Stream | None = None
        self._consumers: list[RestoredConsumer] = []
        self._consumers_left = 0
        self._last_seq = 0  # of the stream when the snapshot was made
        self._is_complete = False
        self._error = ""
        self._bytes = 0
        self._deadline_ns = 0
        self.armed_ns = 0

    def start(self) -> None:
        self._around.account.subscribe(self._subscription)
        self._stay()

    def _stay(self) -> None:
        self._deadline_ns = self._around.now_ns() + STALLED_NS
        self._around.timers.arm(self, self._deadline_ns)

    def on_time(self, now_ns: int) -> None:
        """A sender that stopped is given up."""
        if now_ns < self._deadline_ns:
            self._around.timers.arm(self, self._deadline_ns)
        else:
            self._end()

    # chunks ------------------------------------------------------------------------------------------------------

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        """A part of the archive, or its end."""
        if sub is not self._subscription:
            return False
        if not message.reply:
            self._end()
        elif message.payload:
            self._take(message)
        else:
            self._finish(message.reply)
        return True

    def _take(self, message: Message) -> None:
        self._stay()
        self._bytes += len(message.payload)
        if not self._error:
            try:
                for plain in self._unpacker.feed(message.payload):
                    for entry in self._reader.feed(plain):
                        self._enter(entry)
            except (LeafnodeError, ValueError, KeyError, TypeError) as error:
                self._error = error.description if isinstance(error, ApiError) else str(error)
                self._remove()
        self._around.journal.after(lambda _failure: self._answer(message.reply, b""))

    def _answer(self, reply: bytes, body: bytes) -> None:
        self._around.account.publish(Message(reply, payload=body))

    # entries -----------------------------------------------------------------------------------------------------

    def _enter(self, entry: archive.Entry) -> None:
        if self._stream is None:
            if entry.name != STATE:
                raise RestoreError("expected state.json first")
            self._begin(json.loads(entry.payload))
        elif self._consumers_left:
            if not entry.name.startswith(CONSUMERS):
                raise RestoreError(f'expected consumer, found "{entry.name.decode(errors="replace")}"')
            self._consumers_left -= 1
            self._consumers.append(_consumer(entry.name[len(CONSUMERS) :].decode(), json.loads(entry.payload)))
        elif self._is_complete:
            raise RestoreError("there is more after the end")
        elif entry.is_end:
            self._is_complete = True
        else:
            self._message(self._stream, entry)

    def _begin(self, state: dict[str, Any]) -> None:
        first, self._last_seq = int(state["first_seq"]), int(state["last_seq"])
        self._consumers_left = int(state.get("consumer_count", 0))
        if not 0 <= first <= SEQUENCE_MAX or not 0 <= self._last_seq <= SEQUENCE_MAX:
            raise RestoreError("error in state.json: sequences out of range")
        self._stream = self._js.begin_restore(self._config)
        if first > 1:
            self._stream.contents.skip(first - 1)
            self._stream.changes()

    def _message(self, stream: Stream, entry: archive.Entry) -> None:
        seq = entry.sequence
        if stream.suspended:
            raise RestoreError(stream.suspended)
        if not seq:
            raise RestoreError("expected message sequence")
        if not stream.contents.last_seq < seq <= SEQUENCE_MAX or not 0 <= entry.time <= times.LATEST:
            raise RestoreError(f"message sequence {seq} out of order")
        if 0 <= stream.config.max_msg_size < len(entry.headers) + len(entry.payload):
            raise RestoreError(f"message sequence {seq} exceeds maximum message size")
        if stream.usage.is_over:
            raise faults.fault(faults.NO_MEMORY if stream.config.storage == "memory" else faults.NO_STORAGE)
        stream.keep_restored(Stored(seq, entry.name, entry.time, entry.headers, entry.payload))

    # end ---------------------------------------------------------------------------------------------------------

    def _finish(self, reply: bytes) -> None:
        stream = self._stream
        try:
            if self._error:
                raise RestoreError(self._error)
            self._unpacker.finish()
            if stream is None or not self._is_complete or not self._reader.is_between:
                raise RestoreError("backup was truncated")
            if stream.contents.last_seq < self._last_seq:
                stream.contents.skip(self._last_seq)
                stream.changes()
            self._js.finish_restore(stream, self._consumers)
        except LeafnodeError as error:
            description = error.description if isinstance(error, ApiError) else str(error)
            self._refuse(reply, description)
            return
        self._stream = None
        self._around.journal.after(lambda failure: self._tell(stream, reply, failure))

    def _tell(self, stream: Stream, reply: bytes, failure: str) -> None:
        if failure:
            self._js.delete_stream(stream)
            self._refuse(reply, failure)
            return
        self._end()
        self._answer(reply, schema.encode({"type": TYPE, **self._describe(stream)}))

    def _refuse(self, reply: bytes, reason: str) -> None:
        self._end()
        error = error_json(faults.fault(faults.RESTORE, reason))
        self._answer(reply, schema.encode({"type": TYPE, "error": error}))

    def _remove(self) -> None:
        if self._stream is not None:
            self._js.abort_restore(self._stream)
            self._stream = None

    def _end(self) -> None:
        self._remove()
        self._around.account.unsubscribe(self._subscription)
        self._around.timers.disarm(self)
        self._done(self._bytes)


def _consumer(name: str, value: dict[str, Any]) -> RestoredConsumer:
    """A consumer as an archive has it."""
    config = ConsumerConfig.from_json(schema.read(value["config"], CONSUMER_SHAPE))
    state = value["state"]
    delivered, floor = (schema.read(state[key], _PAIR) for key in ("delivered", "ack_floor"))
    again = state.get("redelivered") or {}
    pending = [
        (int(seq), int(entry["Sequence"]), int(entry["Sequence"]), int(again.get(seq, 1)))
        for seq, entry in sorted((state.get("pending") or {}).items(), key=lambda item: int(item[0]))
    ]
    position = ConsumerState(
        delivered.get("consumer_seq", 0),
        delivered.get("stream_seq", 0),
        floor.get("consumer_seq", 0),
        floor.get("stream_seq", 0),
    )
    return RestoredConsumer(name, config, position, pending)
