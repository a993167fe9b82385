"""DIRECT.GET: messages themselves as the answer, one, several in a row, or the newest of many subjects (ADR-31).

A batch is sent in portions, read one after the other, so that no answer fills the memory; it ends with a status that
says how many are left. Every look-up waits until what was kept before it is committed.
"""

import json
from typing import TYPE_CHECKING, Any

from leafnode.route.message import Message
from leafnode.stream import reads, schema, times
from leafnode.stream.api import level_is_fine
from leafnode.stream.message_finder import GET, Asked, find
from leafnode.stream.stored import Stored
from leafnode.stream.stream import Stream
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.jetstream import JetStream

MULTI_MAX = 1024  # subjects of one request; nats-server's
BYTES_MAX = 32 << 20  # of one batch that names no limit: half of what may wait for a client
PORTION = 64  # messages of a multi request that are read at once
_STARTS = ("seq", "last_by_subj", "next_by_subj", "multi_last", "start_time")


class DirectGets:
    """Direct gets of one account."""

    def __init__(self, jetstream: "JetStream") -> None:
        self._js = jetstream
        self._around = jetstream.around

    def take(self, message: Message, rest: str, subject: bytes) -> bool:
        """Answer with the message itself; not taken when no stream here answers directly."""
        name, _, wanted = rest.partition(".")
        stream = self._js.direct_stream(name)
        if stream is None:
            return False
        if not message.reply:
            return True
        problem = self._answer(stream, message, wanted)
        if problem is not None:
            self.say(message.reply, *problem)
        return True

    def _answer(self, stream: Stream, message: Message, wanted: str) -> tuple[int, str] | None:
        """Begin to answer; what is wrong with the request otherwise."""
        if not level_is_fine(message.headers):
            return 412, "Required Api Level"
        if not message.payload and not wanted:
            return 408, "Empty Request"
        if not message.payload:  # the newest of a subject: what buckets ask for
            self._send_one(stream, message.reply, {"last_by_subj": wanted})
            return None
        try:
            asked = _read(message.payload)
        except (ValueError, AttributeError, RecursionError):
            return 408, "Malformed Request"
        if wanted:
            if any(asked.get(key) for key in (*_STARTS, "batch", "up_to_seq", "up_to_time")):
                return 408, "Bad Request"
            asked["last_by_subj"] = wanted
        if not any(asked.get(key) for key in _STARTS):
            return 408, "Empty Request"
        if _conflicts(asked):
            return 408, "Bad Request"
        if asked.get("multi_last"):
            self._around.journal.after(lambda _failure: _Multi(self, stream, message.reply, asked).start())
        elif asked.get("batch"):
            self._around.journal.after(lambda _failure: _Row(self, stream, message.reply, asked).start())
        else:
            self._send_one(stream, message.reply, asked)
        return None

    def _send_one(self, stream: Stream, reply: bytes, asked: Asked) -> None:
        def found(stored: Stored | None) -> None:
            if stored is None:
                self.say(reply, 404, "Message Not Found")
            else:
                headers = b"" if asked.get("no_hdr") else direct_headers(stream, stored)
                self.send(Message(reply, b"", headers, stored.payload))

        find(stream, asked, found)

    def send(self, message: Message) -> None:
        self._around.account.publish(message)

    def say(self, reply: bytes, code: int, text: str, *lines: tuple[str, str]) -> None:
        self.send(Message(reply, headers=header_block.status(code, text, *lines)))


def _read(payload: bytes) -> Asked:
    """What is asked for; unknown keys are not looked at."""
    value = json.loads(payload) if payload else {}
    return schema.read({key: item for key, item in value.items() if key in GET}, GET)


def _conflicts(asked: Asked) -> bool:
    seq, last, following = asked.get("seq"), asked.get("last_by_subj"), asked.get("next_by_subj")
    start, multi = asked.get("start_time"), asked.get("multi_last")
    return bool(
        (seq and (last or start))
        or (last and (start or following or multi or asked.get("batch", 0) > 0))
        or (following and multi)
        or (asked.get("up_to_seq") and asked.get("up_to_time"))
    )


class _Answer:
    """An answer of several messages with an end."""

    def __init__(self, gets: DirectGets, stream: Stream, reply: bytes, asked: Asked) -> None:
        self._gets = gets
        self._stream = stream
        self._reply = reply
        self._asked = asked
        self._most_bytes = asked.get("max_bytes") or BYTES_MAX
        self._bytes = 0
        self._count = 0
        self._pending = 0  # that would come after those that were sent
        self._last = 0  # sequence of the one before

    def _send(self, stored: Stored, *, bare: bool) -> bool:
        """Whether more may come."""
        if not bare:
            self._pending = max(0, self._pending - 1)
        lines = [(b"Nats-Num-Pending", b"%d" % self._pending), (b"Nats-Last-Sequence", b"%d" % self._last)]
        headers = b"" if bare else header_block.with_lines(direct_headers(self._stream, stored), *lines)
        self._gets.send(Message(self._reply, b"", headers, stored.payload))
        self._last = stored.seq
        self._bytes += len(stored.subject) + len(stored.headers) + len(stored.payload)
        self._count += 1
        batch = self._asked.get("batch", 0)
        return self._bytes < self._most_bytes and not 0 < batch <= self._count

    def _end(self, *lines: tuple[str, str]) -> None:
        counts = (("Nats-Num-Pending", str(self._pending)), ("Nats-Last-Sequence", str(self._last)))
        self._gets.say(self._reply, 204, "EOB", *counts, *lines)


class _Row(_Answer):
    """Messages one after the other from a place on."""

    def start(self) -> None:
        if self._asked.get("start_time"):
            _seek(self._stream, self._asked["start_time"], self._begin)
        else:
            self._begin(self._asked.get("seq", 0))

    def _begin(self, first: int) -> None:
        stream = self._stream
        wanted = self._asked.get("next_by_subj", "").encode()
        self._ids = stream.subject_ids([wanted] if wanted else [])
        self._upto = stream.committed
        self._after = max(first, stream.contents.first_seq) - 1
        stream.around.reads.ask(reads.Count(stream.id, self._after, self._upto, self._ids, self._counted))

    def _counted(self, total: int) -> None:
        self._pending = total
        if self._asked["batch"] < 0:
            self._end()
        elif not total:
            self._gets.say(self._reply, 404, "Message Not Found")
        else:
            self._ask()

    def _ask(self) -> None:
        limit = min(self._asked["batch"] - self._count, reads.ROWS_PER_READ)
        question = reads.Messages(self._stream.id, self._after, self._upto, self._ids, self._found, limit=limit)
        self._stream.around.reads.ask(question)

    def _found(self, rows: reads.Rows) -> None:
        bare = bool(self._asked.get("no_hdr"))
        for stored in rows.messages:
            if not self._stream.contents.is_gone(stored.seq) and not self._send(stored, bare=bare):
                self._end()
                return
        self._after = rows.scanned_to
        if self._after < self._upto and not self._stream.deleted:
            self._ask()
        else:
            self._end()


class _Multi(_Answer):
    """The newest message of each subject, up to a sequence or a time."""

    def start(self) -> None:
        stream = self._stream
        if self._asked.get("up_to_time"):
            _seek(stream, self._asked["up_to_time"], lambda seq: self._begin(seq - 1, is_time=True))
        else:
            self._begin(self._asked.get("up_to_seq") or stream.committed)

    def _begin(self, upto: int, *, is_time: bool = False) -> None:
        stream = self._stream
        self._upto = upto
        subjects = stream.contents.matching_any(pattern.encode() for pattern in self._asked["multi_last"])
        if upto > stream.committed or not subjects or (is_time and upto < stream.contents.first_seq):
            self._choose([])
        elif all(0 < subject.last_seq <= upto for subject in subjects):
            self._choose(sorted(subject.last_seq for subject in subjects))
        else:
            ids = tuple(sorted(subject.id for subject in subjects))
            stream.around.reads.ask(reads.Newest(stream.id, ids, upto, MULTI_MAX + 1, self._choose))

    def _choose(self, sequences: list[int]) -> None:
        if not sequences:
            self._gets.say(self._reply, 404, "No Results")
            return
        if len(sequences) > MULTI_MAX:
            self._gets.say(self._reply, 413, "Too Many Results")
            return
        self._left = [seq for seq in sequences if seq >= self._asked.get("seq", 0)]
        self._pending = len(self._left)
        self._ask()

    def _ask(self) -> None:
        portion, self._left = self._left[:PORTION], self._left[PORTION:]
        if portion:
            self._stream.around.reads.ask(reads.BySequence(self._stream.id, portion, self._found))
        else:
            self._end(("Nats-UpTo-Sequence", str(self._upto)))

    def _found(self, rows: reads.Rows) -> None:
        for stored in rows.messages:
            if not self._stream.contents.is_gone(stored.seq) and not self._send(stored, bare=False):
                self._left = []
                break
        self._ask()


def _seek(stream: Stream, time: int, then: Any) -> None:
    """Call with the first sequence at a time or later, or with the one after the last."""
    stream.around.reads.ask(reads.FirstAt(stream.id, time, lambda seq: then(seq or stream.committed + 1)))


def direct_headers(stream: Stream, stored: Stored) -> bytes:
    """The stored headers and where the message comes from, in nats-server's order."""
    return b"%bNats-Stream: %b\r\nNats-Subject: %b\r\nNats-Sequence: %d\r\nNats-Time-Stamp: %b\r\n\r\n" % (
        header_block.opened(stored.headers),
        stream.name.encode(),
        stored.subject,
        stored.seq,
        times.to_text(stored.time).encode(),
    )
