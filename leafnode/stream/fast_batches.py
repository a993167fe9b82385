"""Fast batches (ADR-50): a long row of messages of one publisher, acknowledged now and then.

What belongs to which batch is in the reply subject, not in headers:

    <inbox>.<id>.<flow>.<gap: ok or fail>.<sequence>.<operation>.$FI

    operation    0 first, 1 more, 2 last, 3 end (not stored), 4 ping
    answers      {"type":"ack","seq":40,"msgs":20}: all up to 40 is on the disk, the next ack comes 20 messages later
                 {"type":"gap","last_seq":41,"seq":45}: 41 to 44 did not arrive
                 {"type":"err","seq":46,"error":{...}}: 46 was refused
                 a PubAck with batch and count, at the end

Messages are stored as they come. After a gap, or an error, a batch with gap `fail` ends with what is stored.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from leafnode.errors import ApiError
from leafnode.route.message import Message
from leafnode.stream import admission, faults, intake, schema, times
from leafnode.stream.admission import Draft, DuplicateError, Staged
from leafnode.stream.batches import ID_MAX, LEVEL, LEVEL_MAX
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream

SUFFIX = b".$FI"
BATCHES_MAX = 1000  # open at once on one stream; nats-server's
FLOW_MAX = 500  # messages between acks, shared by the publishers of a stream; nats-server's
FLOW_DEFAULT = 10  # if the publisher asks for none
FLOW_LIMIT = 65535  # that a publisher may ask for
IDLE_NS = 10 * times.SECOND  # a batch without a message for so long is forgotten
SEQUENCE_MAX = (1 << 64) - 2
START, APPEND, COMMIT, END, PING = range(5)
_TOKENS = 6  # id, flow, gap, sequence, operation, $FI


class Sign(NamedTuple):
    """What a reply subject says."""

    id: bytes
    flow: int
    gap_ok: bool
    sequence: int
    operation: int

    @property
    def ends(self) -> bool:
        return self.operation in (COMMIT, END)


def read(reply: bytes) -> Sign | None:
    """The place of a message in a fast batch; None if the reply subject makes no sense."""
    tokens = reply.rsplit(b".", _TOKENS)
    if len(tokens) <= _TOKENS:
        return None
    name, flow_word, gap, sequence_word, operation_word = tokens[1:-1]
    operation, sequence, flow = map(intake.number, (operation_word, sequence_word, flow_word))
    if not START <= operation <= PING or not 1 <= sequence <= SEQUENCE_MAX or gap not in (b"ok", b"fail"):
        return None
    if (operation == START) != (sequence == 1) and operation in (START, APPEND):
        return None
    if operation == END and sequence == 1:
        return None
    flow = min(flow, FLOW_LIMIT) if flow > 0 else FLOW_DEFAULT
    return Sign(name, flow, gap == b"ok", sequence, operation)


class FastBatch:
    """One open batch. Sequences are the batch's own."""

    __slots__ = (
        "acked",
        "commits",
        "flow",
        "flow_most",
        "gap_ok",
        "kept",
        "kept_as",
        "last_ns",
        "pending",
        "received",
        "reply",
    )

    def __init__(self, sign: Sign) -> None:
        self.gap_ok = sign.gap_ok
        self.flow_most = sign.flow
        self.flow = 0  # messages between acks
        self.received = 0  # the highest sequence that came
        self.kept = 0  # the highest that is on the disk, or needs not be
        self.kept_as = 0  # its number in the stream
        self.acked = 0  # the highest for which an ack was due
        self.pending = 0  # messages on their way to the disk
        self.commits = False
        self.reply = b""  # of the newest message that is kept
        self.last_ns = 0


class FastBatches:
    """The open batches of one stream."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream
        self._open: OrderedDict[bytes, FastBatch] = OrderedDict()  # the longest idle first
        self.armed_ns = 0

    def take(self, reply: bytes, draft: Draft, now_ns: int) -> None:
        """One message of a batch.

        Raises:
            ApiError: it has no place in a batch.
            NeedsLookUp: it needs something from the disk first; nothing has changed.
        """
        stream = self._stream
        if stream.deleted:
            return
        admission.check_open(stream)
        admission.check_size(stream, draft.headers, draft.payload)
        if not stream.config.allow_batched:
            raise faults.fault(faults.FAST_DISABLED)
        sign = read(reply)
        if sign is None:
            raise faults.fault(faults.FAST_PATTERN)
        if len(sign.id) > ID_MAX:
            raise faults.fault(faults.FAST_ID)
        batch = self._find(sign)
        self._check_level(sign, draft)
        if not batch.commits:
            batch.last_ns = now_ns
            self._open.move_to_end(sign.id)
            stream.around.timers.arm(self, now_ns + IDLE_NS)
        if sign.operation == PING:
            self._ping(sign, batch, reply)
        elif not batch.commits:
            self._message(sign, batch, reply, draft, now_ns)

    def _find(self, sign: Sign) -> FastBatch:
        batch = self._open.get(sign.id)
        if batch is None:
            if sign.sequence != 1:
                raise faults.fault(faults.FAST_UNKNOWN)
            if len(self._open) >= BATCHES_MAX:
                raise faults.fault(faults.FAST_TOO_MANY)
            batch = self._open[sign.id] = FastBatch(sign)
            batch.flow = 1 if len(self._open) > 1 else min(FLOW_MAX, sign.flow)
        return batch

    def _check_level(self, sign: Sign, draft: Draft) -> None:
        level = draft.wishes.get(LEVEL) if draft.wishes is not None else b""
        if not level:
            return
        if not 0 <= intake.number(level) <= LEVEL_MAX:
            del self._open[sign.id]
            raise faults.fault(faults.API_LEVEL)
        draft.headers = header_block.without(draft.headers, LEVEL)

    # gaps --------------------------------------------------------------------------------------------------------

    def _ping(self, sign: Sign, batch: FastBatch, reply: bytes) -> None:
        if sign.sequence > batch.received:
            self._say(reply, {"type": "gap", "last_seq": batch.received + 1, "seq": sign.sequence + 1})
            if batch.gap_ok:
                self._skip_to(batch, sign.sequence)
                if self._ack_if_due(batch, reply):
                    return
            elif self._end(sign.id, batch, reply):
                return
        self._ack(batch, reply)

    def _skip_to(self, batch: FastBatch, sequence: int) -> None:
        batch.received = sequence
        if not batch.pending:
            batch.kept = sequence

    def _message(self, sign: Sign, batch: FastBatch, reply: bytes, draft: Draft, now_ns: int) -> None:
        expected = batch.received + 1
        if sign.sequence > expected:
            self._say(reply, {"type": "gap", "last_seq": expected, "seq": sign.sequence})
        if sign.sequence != expected and not (batch.gap_ok and sign.sequence > expected):
            self._end(sign.id, batch, reply)
            return
        if sign.operation == END:
            self._skip_to(batch, sign.sequence - 1)
            self._end(sign.id, batch, reply)
            return
        self._store(sign, batch, reply, draft, now_ns)

    # storing -----------------------------------------------------------------------------------------------------

    def _store(self, sign: Sign, batch: FastBatch, reply: bytes, draft: Draft, now_ns: int) -> None:
        stream = self._stream
        refusal: ApiError | None = None
        before = batch.received
        try:
            admission.check_staged(stream, draft, Staged(), now_ns)
            admission.check_rollup_ready(stream, draft)
        except ApiError as error:
            refusal = error
        batch.received = sign.sequence
        if sign.sequence == 1 and not sign.ends:
            self._say(reply, {"type": "ack", "seq": 0, "msgs": batch.flow})
        if refusal is not None:
            self._refuse(sign, batch, reply, refusal, before)
            return
        if sign.ends:
            batch.commits = True
        batch.pending += 1
        seq = stream.keep_draft(draft, b"", now_ns)
        stream.around.journal.after(lambda failure: self._kept(sign, batch, reply, seq, failure))

    def _refuse(self, sign: Sign, batch: FastBatch, reply: bytes, error: ApiError, before: int) -> None:
        if isinstance(error, DuplicateError):
            if not batch.pending:
                batch.kept = sign.sequence
                self._ack_if_due(batch, reply)
            if not sign.ends:
                return
        if not sign.gap_ok and batch.received == 1:
            del self._open[sign.id]
            self._refuse_first(sign, reply, error)
            return
        if not isinstance(error, DuplicateError):
            body = {"code": error.code, "err_code": error.err_code, "description": error.description}
            self._say(reply, {"type": "err", "seq": sign.sequence, "error": body})
        if sign.gap_ok and not sign.ends:
            return
        if not isinstance(error, DuplicateError):
            self._skip_to(batch, before)
        self._end(sign.id, batch, reply)

    def _refuse_first(self, sign: Sign, reply: bytes, error: ApiError) -> None:
        """A batch of one message is answered like any publish."""
        if isinstance(error, DuplicateError) and error.seq:
            tail = b',"duplicate": true' + _tail(sign.id, sign.sequence)
            self._publish(reply, b"%b%d%b" % (self._stream.ack_head, error.seq, tail))
        else:
            self._stream.refuse(reply, error)

    def _kept(self, sign: Sign, batch: FastBatch, reply: bytes, seq: int, failure: str) -> None:
        """A message is on the disk."""
        if self._open.get(sign.id) is not batch:
            return
        if failure:
            del self._open[sign.id]
            self._stream.refuse(reply, faults.fault(faults.STORE_FAILED, failure))
            return
        batch.reply = reply
        batch.pending -= 1
        batch.kept_as = seq
        batch.kept = sign.sequence if batch.pending else batch.received
        if batch.commits and batch.kept == batch.received:
            self._finish(sign.id, batch, reply)
        else:
            self._ack_if_due(batch, reply)

    # answers -----------------------------------------------------------------------------------------------------

    def _end(self, name: bytes, batch: FastBatch, reply: bytes) -> bool:
        """No more messages; whether all that came is on the disk and the batch done."""
        batch.commits = True
        if batch.received != batch.kept:
            return False
        self._finish(name, batch, reply)
        return True

    def _finish(self, name: bytes, batch: FastBatch, reply: bytes) -> None:
        del self._open[name]
        self._publish(reply, b"%b%d%b" % (self._stream.ack_head, batch.kept_as, _tail(name, batch.received)))

    def _ack_if_due(self, batch: FastBatch, reply: bytes) -> bool:
        """An ack for each `flow` messages; the distance grows to the publisher's share, or shrinks to it."""
        if batch.kept < batch.acked + batch.flow:
            return False
        batch.acked += (batch.kept - batch.acked) // batch.flow * batch.flow
        share = min(max(1, FLOW_MAX // len(self._open)), batch.flow_most)
        if batch.flow < share:
            batch.flow = min(2 * batch.flow, share)
        elif batch.flow > share:
            batch.flow = max(batch.flow // 2, share)
        self._ack(batch, reply)
        return True

    def _ack(self, batch: FastBatch, reply: bytes) -> None:
        self._say(reply, {"type": "ack", "seq": batch.acked, "msgs": batch.flow})

    def _say(self, reply: bytes, body: dict[str, object]) -> None:
        self._stream.around.account.publish(Message(reply, payload=schema.encode(body)))

    def _publish(self, reply: bytes, body: bytes) -> None:
        self._stream.around.account.publish(Message(reply, payload=body))

    # end ---------------------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """The stream is deleted."""
        self._open.clear()
        self._stream.around.timers.disarm(self)

    def on_time(self, now_ns: int) -> None:
        """Those that are idle for too long are forgotten; what they stored stays."""
        while self._open:
            name, batch = next(iter(self._open.items()))
            if batch.last_ns + IDLE_NS > now_ns:
                self._stream.around.timers.arm(self, batch.last_ns + IDLE_NS)
                return
            del self._open[name]


def _tail(name: bytes, count: int) -> bytes:
    return b',"batch":%b,"count":%d}' % (schema.encode(name.decode(errors="replace")), count)
