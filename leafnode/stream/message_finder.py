"""One message by sequence, subject or time, for STREAM.MSG.GET and DIRECT.GET (spec jetstream-api section 6)."""

from collections.abc import Callable
from typing import Any

from leafnode.route.subject import is_literal
from leafnode.stream import reads, schema
from leafnode.stream.stored import Stored
from leafnode.stream.stream import Stream

GET: dict[str, schema.Kind] = {
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
"""Everything that may be asked for."""
Asked = dict[str, Any]
Then = Callable[[Stored | None], None]


def is_one_style(asked: Asked) -> bool:
    """Whether exactly one way of finding a message is asked for."""
    seq, last = bool(asked.get("seq")), bool(asked.get("last_by_subj"))
    following, start = bool(asked.get("next_by_subj")), bool(asked.get("start_time"))
    if last:
        return not (seq or following or start)
    if start:
        return not seq
    return seq or following


def find(stream: Stream, asked: Asked, then: Then) -> None:
    """Look one message up, once everything before is committed."""
    stream.around.journal.after(lambda _failure: _find(stream, asked, then))


def _find(stream: Stream, asked: Asked, then: Then) -> None:
    last = asked.get("last_by_subj")
    if last:
        only = stream.contents.subjects.get(last.encode())  # a subject with wildcards in use covers others too
        if only is not None and only.last_seq and is_literal(only.name):
            stream.recall.message(only.last_seq, then)
            return
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


def _find_next(stream: Stream, asked: Asked, seq: int, then: Then) -> None:
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
