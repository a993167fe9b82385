"""Reading and deleting single messages: STREAM.MSG.GET, STREAM.MSG.DELETE, DIRECT.GET (spec jetstream-api section 6).

Every look-up waits until what was kept before it is committed: readers never see what might be lost.
"""

import base64
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leafnode.route.message import Message
from leafnode.route.subject import is_literal
from leafnode.stream import faults, reads, schema, times
from leafnode.stream.api import Api, Endpoint, Request, level_is_fine
from leafnode.stream.stored import Stored
from leafnode.stream.stream import Stream
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.jetstream import JetStream

MULTI_MAX = 1024  # subjects of one batch request; nats-server's
_GET: dict[str, schema.Kind] = {
    "seq": schema.unsigned,
    "last_by_subj": schema.text,
    "next_by_subj": schema.text,
    "start_time": schema.moment,
    "no_hdr": schema.boolean,
    "batch": schema.integer,
    "max_bytes": schema.integer,
    "multi_last": schema.list_of(schema.text),
    "up_to_seq": schema.unsigned,
    "up_to_time": schema.moment,
}
_DELETE: dict[str, schema.Kind] = {"seq": schema.unsigned, "no_erase": schema.boolean}
_BATCH_KEYS = ("batch", "max_bytes", "multi_last", "up_to_seq", "up_to_time")
Then = Callable[[Stored | None], None]


class MessageApi:
    """Handlers of one account's message requests."""

    def __init__(self, jetstream: "JetStream", api: Api) -> None:
        self._js = jetstream
        self._around = jetstream.around
        api.endpoint("STREAM.MSG.GET", Endpoint(self.get, "stream_msg_get_response"), tokens=1)
        api.endpoint("STREAM.MSG.DELETE", Endpoint(self.delete, "stream_msg_delete_response"), tokens=1)
        api.raw("DIRECT.GET", self.direct)

    def get(self, request: Request) -> None:
        if not request.body.strip():
            raise faults.fault(faults.BAD_REQUEST)
        asked = schema.parse(request.body, _GET)
        stream = self._js.stream(request.tokens[0])
        if any(asked.get(key) for key in _BATCH_KEYS) or not _is_one_style(asked):
            raise faults.fault(faults.BAD_REQUEST)
        bare = asked.get("no_hdr", False)

        def found(stored: Stored | None) -> None:
            if stored is None:
                request.fail(faults.fault(faults.NO_MESSAGE))
            else:
                request.answer({"message": _as_json(stored, bare=bare)})

        self.find(stream, asked, found)

    def find(self, stream: Stream, asked: dict[str, Any], then: Then) -> None:
        """Look one message up once everything before is committed."""
        self._around.journal.after(lambda _failure: _find(stream, asked, then))

    def delete(self, request: Request) -> None:
        if not request.body.strip():
            raise faults.fault(faults.BAD_REQUEST)
        asked = schema.parse(request.body, _DELETE)
        stream = self._js.stream(request.tokens[0])
        seq = asked.get("seq", 0)
        if stream.config.sealed:
            raise faults.fault(faults.SEALED)
        if stream.config.deny_delete:
            raise faults.fault(faults.MESSAGE_DELETE, "message delete not permitted")
        if not seq:
            raise faults.fault(faults.MESSAGE_DELETE, "no message found")
        if seq > stream.contents.last_seq:
            raise faults.fault(faults.MESSAGE_DELETE, "stream store EOF")
        if stream.contents.is_gone(seq):
            raise faults.fault(faults.SEQUENCE_NOT_FOUND, seq)
        self._around.journal.after(lambda failure: request.attempt(lambda: self._delete(request, stream, seq, failure)))

    def _delete(self, request: Request, stream: Stream, seq: int, failure: str) -> None:
        if failure:
            raise faults.fault(faults.MESSAGE_DELETE, failure)

        def removed(weights: dict[int, Any]) -> None:
            weight = weights.get(seq)
            if weight is None or stream.contents.is_gone(seq):
                request.fail(faults.fault(faults.SEQUENCE_NOT_FOUND, seq))
                return
            stream.remove(seq, weight.subject, weight.size)
            self._around.journal.after(done)

        def done(late: str) -> None:
            if late:
                request.fail(faults.fault(faults.MESSAGE_DELETE, late))
            else:
                request.answer({"success": True})

        known = stream.recall.weight(seq)
        if known is not None:
            removed({seq: known})
        else:
            stream.recall.weights([seq], removed)

    # direct get --------------------------------------------------------------------------------------------------

    def direct(self, message: Message, rest: str, subject: bytes) -> bool:
        """Answer with the message itself; not taken when no stream here answers directly."""
        name, _, wanted = rest.partition(".")
        stream = self._js.direct_stream(name)
        if stream is None:
            return False
        if not message.reply:
            return True
        if not level_is_fine(message.headers):
            self._status(message.reply, 412, "Required Api Level")
            return True
        if wanted:
            asked: dict[str, Any] = {"last_by_subj": wanted}
            if message.payload.strip():
                self._status(message.reply, 408, "Bad Request")
                return True
        else:
            try:
                read = json.loads(message.payload) if message.payload.strip() else {}
                asked = schema.read({key: item for key, item in read.items() if key in _GET}, _GET)
            except (ValueError, AttributeError, RecursionError):
                self._status(message.reply, 408, "Malformed Request")
                return True
        self._answer(stream, message.reply, asked)
        return True

    def _answer(self, stream: Stream, reply: bytes, asked: dict[str, Any]) -> None:
        asked = {key: item for key, item in asked.items() if item}
        if not asked or set(asked) == {"no_hdr"}:
            self._status(reply, 408, "Empty Request")
        elif asked.get("batch") or asked.get("multi_last"):
            self._answer_many(stream, reply, asked)
        elif not _is_one_style(asked):
            self._status(reply, 408, "Bad Request")
        else:
            bare = asked.get("no_hdr", False)
            self.find(stream, asked, lambda stored: self._send_one(stream, reply, stored, bare=bare))

    def _send_one(self, stream: Stream, reply: bytes, stored: Stored | None, *, bare: bool) -> None:
        if stored is None:
            self._status(reply, 404, "Message Not Found")
            return
        headers = b"" if bare else direct_headers(stream, stored)
        self._around.account.publish(Message(reply, b"", headers, stored.payload))

    def _answer_many(self, stream: Stream, reply: bytes, asked: dict[str, Any]) -> None:
        multi = asked.get("multi_last")
        if multi and (asked.get("last_by_subj") or asked.get("next_by_subj")):
            self._status(reply, 408, "Bad Request")
        elif multi:
            self._around.journal.after(lambda _failure: self._multi_last(stream, reply, asked, multi))
        elif asked.get("last_by_subj"):
            self._status(reply, 408, "Bad Request")
        else:
            self._around.journal.after(lambda _failure: self._batch(stream, reply, asked))

    def _multi_last(self, stream: Stream, reply: bytes, asked: dict[str, Any], multi: list[str]) -> None:
        upto = asked.get("up_to_seq") or stream.committed
        if asked.get("up_to_time") or upto < stream.committed:
            self._status(reply, 408, "Bad Request")  # the past of a subject is not kept in memory
            return
        subjects = stream.contents.matching_any([pattern.encode() for pattern in multi])
        sequences = sorted(subject.last_seq for subject in subjects if subject.last_seq)
        if not sequences:
            self._status(reply, 404, "No Results")
        elif len(sequences) > MULTI_MAX:
            self._status(reply, 413, "Too Many Results")
        else:
            batch = asked.get("batch") or len(sequences)
            sender = _BatchSender(self, stream, reply, asked, len(sequences), upto=stream.committed)
            self._around.reads.ask(reads.BySequence(stream.id, sequences[:batch], sender.send_rows))

    def _batch(self, stream: Stream, reply: bytes, asked: dict[str, Any]) -> None:
        wanted = asked.get("next_by_subj", "").encode()
        filters = [wanted] if wanted and wanted != b">" else []
        after = max(asked.get("seq", 1), stream.contents.first_seq) - 1
        ids = stream.subject_ids(filters)

        def counted(total: int) -> None:
            if not total:
                self._status(reply, 404, "Message Not Found")
                return
            sender = _BatchSender(self, stream, reply, asked, total)
            limit = min(asked["batch"], MULTI_MAX)
            self._around.reads.ask(
                reads.Messages(stream.id, after, stream.committed, ids, sender.send_rows, limit=limit)
            )

        self._around.reads.ask(reads.Count(stream.id, after, stream.committed, ids, counted))

    def publish(self, message: Message) -> None:
        self._around.account.publish(message)

    def _status(self, reply: bytes, code: int, text: str) -> None:
        self._around.account.publish(Message(reply, headers=header_block.status(code, text)))


class _BatchSender:
    """Sends the messages of a batch request, then the end mark (ADR-31)."""

    def __init__(
        self, api: MessageApi, stream: Stream, reply: bytes, asked: dict[str, Any], total: int, *, upto: int = 0
    ) -> None:
        self._api = api
        self._stream = stream
        self._reply = reply
        self._bytes = asked.get("max_bytes", 0)
        self._pending = total
        self._upto = upto
        self._last = 0

    def send_rows(self, rows: reads.Rows) -> None:
        sent = 0
        for stored in rows.messages:
            if self._stream.contents.is_gone(stored.seq):
                continue
            sent += len(stored.payload) + len(stored.headers)
            if self._bytes and sent > self._bytes and self._last:
                break
            self._pending -= 1
            lines = [(b"Nats-Num-Pending", b"%d" % self._pending), (b"Nats-Last-Sequence", b"%d" % self._last)]
            headers = header_block.with_lines(direct_headers(self._stream, stored), *lines)
            self._api.publish(Message(self._reply, b"", headers, stored.payload))
            self._last = stored.seq
        end = [("Nats-Num-Pending", str(self._pending)), ("Nats-Last-Sequence", str(self._last))]
        if self._upto:
            end.append(("Nats-UpTo-Sequence", str(self._upto)))
        self._api.publish(Message(self._reply, headers=header_block.status(204, "EOB", *end)))


def direct_headers(stream: Stream, stored: Stored) -> bytes:
    """The stored headers and where the message comes from, in nats-server's order."""
    return header_block.with_lines(
        stored.headers,
        (b"Nats-Stream", stream.name.encode()),
        (b"Nats-Subject", stored.subject),
        (b"Nats-Sequence", b"%d" % stored.seq),
        (b"Nats-Time-Stamp", times.to_text(stored.time).encode()),
    )


def _is_one_style(asked: dict[str, Any]) -> bool:
    seq, last = bool(asked.get("seq")), bool(asked.get("last_by_subj"))
    following, start = bool(asked.get("next_by_subj")), bool(asked.get("start_time"))
    if last:
        return not (seq or following or start)
    if start:
        return not seq
    return seq or following


def _find(stream: Stream, asked: dict[str, Any], then: Then) -> None:
    last = asked.get("last_by_subj")
    if last:
        newest = max((subject.last_seq for subject in stream.contents.matching(last.encode())), default=0)
        stream.recall.message(newest, then) if newest else _find_last_slowly(stream, last.encode(), then)
    elif asked.get("start_time"):
        stream.around.reads.ask(
            reads.FirstAt(stream.id, asked["start_time"], lambda seq: _find_next(stream, asked, seq, then))
        )
    elif asked.get("next_by_subj"):
        _find_next(stream, asked, asked.get("seq") or 1, then)
    else:
        stream.recall.message(asked["seq"], then)


def _find_last_slowly(stream: Stream, pattern: bytes, then: Then) -> None:
    """The newest message of a subject was removed and its predecessor is not known yet."""
    subjects = stream.contents.matching(pattern)
    if not subjects or not is_literal(pattern):
        then(None)
        return
    stream.around.reads.ask(
        reads.LastOf(
            stream.id,
            subjects[0].id,
            stream.committed,
            lambda meta: stream.recall.message(meta.seq, then) if meta else then(None),
        )
    )


def _find_next(stream: Stream, asked: dict[str, Any], seq: int, then: Then) -> None:
    pattern = asked.get("next_by_subj", ">").encode()
    ids = stream.subject_ids([] if pattern == b">" else [pattern])
    if not seq or ids == ():
        then(None)
        return

    def found(rows: reads.Rows) -> None:
        live = [stored for stored in rows.messages if not stream.contents.is_gone(stored.seq)]
        if live:
            then(live[0])
        elif rows.scanned_to < stream.committed:
            ask(rows.scanned_to)
        else:
            then(None)

    def ask(after: int) -> None:
        stream.around.reads.ask(reads.Messages(stream.id, after, stream.committed, ids, found, limit=1))

    ask(seq - 1)


def _as_json(stored: Stored, *, bare: bool) -> dict[str, object]:
    shown: dict[str, object] = {"subject": stored.subject.decode(errors="replace"), "seq": stored.seq}
    if stored.headers and not bare:
        shown["hdrs"] = base64.b64encode(stored.headers).decode()
    if stored.payload:
        shown["data"] = base64.b64encode(stored.payload).decode()
    shown["time"] = times.to_text(stored.time)
    return shown
