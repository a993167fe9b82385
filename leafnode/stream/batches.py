"""Atomic batches (ADR-50): messages that are stored all together or not at all.

Messages carry `Nats-Batch-Id` and `Nats-Batch-Sequence`; they wait in memory, each answered with nothing, until one
says `Nats-Batch-Commit`. Then all are checked against the stream as it is, numbered in a row, and kept in one commit of
the store: a reader sees all or none, and so does whoever looks after a power cut. A batch that is not finished leaves
no trace, except an advisory that says why.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING

from leafnode.errors import ApiError
from leafnode.route.message import Message
from leafnode.stream import admission, faults, intake, schema, times
from leafnode.stream.admission import Draft, Staged
from leafnode.stream.intake import Wishes
from leafnode.stream.lookups import NeedsLookUp
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream

BATCHES_MAX = 50  # open at once on one stream; nats-server's
ALL_BATCHES_MAX = 1000  # open at once in an account; nats-server's for a server
SIZE_MAX = 1000  # messages; nats-server's
STAGED_MAX = 64 << 20  # bytes that wait in the open batches of an account: they are in memory here
ID_MAX = 64  # characters
IDLE_NS = 10 * times.SECOND  # a batch without a message for so long is abandoned
ID, SEQUENCE, COMMIT = b"Nats-Batch-Id", b"Nats-Batch-Sequence", b"Nats-Batch-Commit"
LEVEL = b"Nats-Required-Api-Level"
END_ONLY = b"eob"  # as COMMIT: this message itself is not stored
LEVEL_MAX = 5  # of ADR-44


class Staging:
    """What the open batches of an account hold."""

    def __init__(self) -> None:
        self.batches = 0
        self.bytes = 0


class Batch:
    """One open batch."""

    __slots__ = ("bytes", "last_ns", "messages")

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes, bytes]] = []  # subject, headers, payload
        self.bytes = 0
        self.last_ns = 0


class AtomicBatches:
    """The open batches of one stream."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream
        self._open: OrderedDict[bytes, Batch] = OrderedDict()  # the longest idle first
        self._staging = stream.around.staging
        self.armed_ns = 0

    def take(self, reply: bytes, draft: Draft, now_ns: int) -> None:
        """One message of a batch.

        Raises:
            ApiError: refused; unless it had no place in a batch, the batch is gone.
            NeedsLookUp: the commit needs something from the disk first; nothing has changed.
        """
        stream, wishes = self._stream, draft.wishes
        assert wishes is not None
        if stream.deleted:
            return
        admission.check_open(stream)
        admission.check_size(stream, draft.headers, draft.payload)
        if not stream.config.allow_atomic:
            raise faults.fault(faults.BATCH_DISABLED)
        name = wishes.get(ID)
        if len(name) > ID_MAX:
            raise faults.fault(faults.BATCH_ID)
        sequence = intake.number(wishes.get(SEQUENCE))
        if sequence < 0:
            raise faults.fault(faults.BATCH_NO_SEQUENCE)
        commit = wishes.given.get(COMMIT)
        batch = self._find(name, sequence, commit)
        self._check_message(name, batch, sequence, wishes, commit)
        headers = header_block.without(draft.headers, LEVEL) if wishes.get(LEVEL) else draft.headers
        batch.last_ns = now_ns
        self._open.move_to_end(name)
        if commit is None:
            self._stage(name, batch, (draft.subject, headers, draft.payload))
            stream.around.timers.arm(self, now_ns + IDLE_NS)
            if reply and not stream.config.no_ack:
                stream.around.account.publish(Message(reply))
            return
        last = [] if commit == END_ONLY else [(draft.subject, headers, draft.payload)]
        self._commit(name, batch, batch.messages + last, reply, now_ns, ends_only=commit == END_ONLY)

    def _find(self, name: bytes, sequence: int, commit: bytes | None) -> Batch:
        batch = self._open.get(name)
        if batch is not None:
            return batch
        if sequence != 1:
            _check_count(sequence, commit)
            raise faults.fault(faults.BATCH_INCOMPLETE)
        is_full = len(self._open) >= BATCHES_MAX or self._staging.batches >= ALL_BATCHES_MAX
        if is_full or self._staging.bytes >= STAGED_MAX:
            raise faults.fault(faults.BATCH_TOO_MANY)
        batch = self._open[name] = Batch()
        self._staging.batches += 1
        return batch

    def _check_message(self, name: bytes, batch: Batch, sequence: int, wishes: Wishes, commit: bytes | None) -> None:
        if commit is not None and commit not in (b"1", END_ONLY):
            self._drop(name)
            raise faults.fault(faults.BATCH_COMMIT)
        level = wishes.get(LEVEL)
        if level and not 0 <= intake.number(level) <= LEVEL_MAX:
            self._abandon(name, "unsupported")
            raise faults.fault(faults.API_LEVEL)
        if sequence != len(batch.messages) + 1 or (sequence == 1 and commit == END_ONLY):
            self._abandon(name, "incomplete")
            raise faults.fault(faults.BATCH_INCOMPLETE)
        try:
            _check_count(sequence, commit)
        except ApiError:
            self._abandon(name, "large")
            raise

    def _stage(self, name: bytes, batch: Batch, message: tuple[bytes, bytes, bytes]) -> None:
        size = sum(map(len, message))
        if self._staging.bytes + size > STAGED_MAX:
            self._abandon(name, "large")
            raise faults.fault(faults.BATCH_TOO_MANY)
        batch.messages.append(message)
        batch.bytes += size
        self._staging.bytes += size

    # commit ------------------------------------------------------------------------------------------------------

    def _commit(
        self,
        name: bytes,
        batch: Batch,
        messages: list[tuple[bytes, bytes, bytes]],
        reply: bytes,
        now_ns: int,
        *,
        ends_only: bool,
    ) -> None:
        try:
            drafts = self._checked(messages, now_ns)
        except NeedsLookUp:
            raise  # the message comes again
        except ApiError:
            self._drop(name)
            raise
        self._drop(name)
        stream = self._stream
        tail = b',"batch":%b,"count":%d}' % (schema.encode(name.decode(errors="replace")), len(drafts))
        for draft in drafts[:-1]:
            stream.keep_draft(draft, b"", now_ns)
        last = drafts[-1]
        if ends_only:
            last.headers = header_block.with_lines(last.headers, (COMMIT, b"1"))
        stream.keep_draft(last, reply, now_ns, tail)

    def _checked(self, messages: list[tuple[bytes, bytes, bytes]], now_ns: int) -> list[Draft]:
        stream = self._stream
        staged = Staged()
        drafts = []
        for subject, headers, payload in messages:
            draft = Draft(stream.moved(subject), headers, payload, intake.read(headers))
            if draft.wishes is not None and draft.wishes.expected_id:
                raise faults.fault(faults.BATCH_HEADER, "Nats-Expected-Last-Msg-Id")
            admission.check_staged(stream, draft, staged, now_ns)
            drafts.append(draft)
        for draft in drafts:
            admission.check_rollup_ready(stream, draft)
        return drafts

    # end ---------------------------------------------------------------------------------------------------------

    def _drop(self, name: bytes) -> None:
        batch = self._open.pop(name)
        self._staging.batches -= 1
        self._staging.bytes -= batch.bytes

    def _abandon(self, name: bytes, reason: str) -> None:
        stream = self._stream
        self._drop(name)
        stream.around.advise(
            f"ADVISORY.STREAM.BATCH_ABANDONED.{stream.name}",
            "advisory.v1.stream_batch_abandoned",
            stream=stream.name,
            batch=name.decode(errors="replace"),
            reason=reason,
        )

    def clear(self) -> None:
        """The stream is deleted, or takes no batches any more."""
        for name in list(self._open):
            self._drop(name)
        self._stream.around.timers.disarm(self)

    def on_time(self, now_ns: int) -> None:
        """Those that are idle for too long are abandoned."""
        while self._open:
            name, batch = next(iter(self._open.items()))
            if batch.last_ns + IDLE_NS > now_ns:
                self._stream.around.timers.arm(self, batch.last_ns + IDLE_NS)
                return
            self._abandon(name, "timeout")


def _check_count(sequence: int, commit: bytes | None) -> None:
    """The message that only ends a batch does not count."""
    if sequence - (commit == END_ONLY) > SIZE_MAX:
        raise faults.fault(faults.BATCH_TOO_LARGE, SIZE_MAX)
