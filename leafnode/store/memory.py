"""Streams with `storage: memory`: messages in a dict, gone with the process.

Answers the same questions as the SQLite store, directly: no thread, no waiting.
"""

import bisect
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from leafnode.store.base import Answered
from leafnode.stream import reads
from leafnode.stream.journal import Batch, CreateStream, DropStream, StreamChanges, StreamState
from leafnode.stream.loaded import LoadedContents, LoadedStream
from leafnode.stream.stored import Stored
from leafnode.stream.tail import count


class _Table:
    """Messages of one stream. `order` may name removed ones; it is compacted when half of it is stale."""

    def __init__(self) -> None:
        self.messages: dict[int, Stored] = {}
        self.order: list[int] = []
        self.ids: dict[bytes, int] = {}
        self.subjects: dict[int, tuple[int, bytes, int, int, int]] = {}
        self.expiries: dict[int, int] = {}
        self.schedules: dict[bytes, tuple[int, int]] = {}
        self.origins: dict[str, int] = {}
        self.state = StreamState(0, 0, 0, 0, 0)

    def apply(self, changes: StreamChanges) -> None:
        for row in changes.subject_rows:
            self.ids[row[1]] = row[0]
            self.subjects[row[0]] = row
        for stored in changes.messages:
            self.messages[stored.seq] = stored
            self.order.append(stored.seq)
        if changes.cleared_to:
            for seq in [seq for seq in self.messages if seq <= changes.cleared_to]:
                del self.messages[seq]
        for seq in changes.removed:
            self.messages.pop(seq, None)
            self.expiries.pop(seq, None)
        self.expiries.update(changes.expiries)
        for subject, entry in changes.schedules.items():
            if entry is None:
                self.schedules.pop(subject, None)
            else:
                self.schedules[subject] = entry
        self.origins.update(changes.origins)
        for row in changes.subject_rows:
            if row[4] <= 0:
                self.subjects.pop(row[0], None)
                if self.ids.get(row[1]) == row[0]:
                    del self.ids[row[1]]
        if changes.settles:
            self.state = changes.state
        if len(self.order) > 2 * len(self.messages) + 64:
            self.order = [seq for seq in self.order if seq in self.messages]

    def between(self, after: int, upto: int, subject_ids: tuple[int, ...] | None) -> Iterator[Stored]:
        wanted = None if subject_ids is None else set(subject_ids)
        for place in range(bisect.bisect_right(self.order, after), len(self.order)):
            seq = self.order[place]
            if seq > upto:
                return
            stored = self.messages.get(seq)
            if stored is not None and (wanted is None or self.ids.get(stored.subject) in wanted):
                yield stored


class MemoryStore:
    """Keeps what it is told until the process ends."""

    def __init__(self, *, everything: bool = False) -> None:
        """`everything`: keep file streams too, for tests without a disk."""
        self._everything = everything
        self._tables: dict[int, _Table] = {}

    def apply(self, batch: Batch) -> None:
        """The memory streams' part of a batch."""
        for change in batch.catalog:
            if isinstance(change, CreateStream) and (change.in_memory or self._everything):
                self._tables.setdefault(change.stream_id, _Table())
            elif isinstance(change, DropStream):
                self._tables.pop(change.stream_id, None)
        for number, changes in batch.streams.items():
            table = self._tables.get(number)
            if table is not None:
                table.apply(changes)

    def holds(self, stream_id: int) -> bool:
        return stream_id in self._tables

    async def commit(self, batch: Batch) -> None:
        self.apply(batch)

    async def answer(self, questions: Sequence[reads.Question]) -> list[Answered]:
        return [self.answer_now(question) for question in questions]

    async def load(self) -> list[LoadedStream]:
        return []

    async def load_contents(self, stream_id: int) -> LoadedContents:
        return self.contents_now(stream_id)

    def contents_now(self, stream_id: int) -> LoadedContents:
        table = self._tables.get(stream_id) or _Table()
        tail = [
            (
                stored.seq,
                table.ids[stored.subject],
                stored.time,
                len(stored.headers),
                len(stored.headers) + len(stored.payload),
            )
            for stored in table.between(table.state.last_seq, sys.maxsize, None)
        ]
        state, subjects = count(table.state, list(table.subjects.values()), tail)
        return LoadedContents(
            state=state,
            subjects=subjects,
            expiries=list(table.expiries.items()),
            schedules=[(subject, *entry) for subject, entry in table.schedules.items()],
            origins=list(table.origins.items()),
            tail=tuple(row[1] for row in tail),
        )

    async def close(self) -> None:
        self._tables.clear()

    def answer_now(self, question: reads.Question) -> Answered:
        table = self._tables.get(question.stream_id) or _Table()
        return Answered(question.done, _answer(table, question))


def _answer(table: _Table, question: reads.Question) -> Any:
    match question:
        case reads.Messages():
            return _messages(table, question)
        case reads.BySequence(_, sequences):
            found = [table.messages[seq] for seq in sorted(sequences) if seq in table.messages]
            return reads.Rows(found, max(sequences, default=0))
        case reads.Weights(_, after, upto, ids, _, limit):
            metas: list[reads.Meta] = []
            for stored in table.between(after, upto, ids):
                metas.append(_meta(stored))
                if len(metas) >= limit:
                    return reads.Metas(metas, stored.seq)
            return reads.Metas(metas, upto)
        case reads.WeightsOf(_, sequences):
            present = [_meta(table.messages[seq]) for seq in sorted(sequences) if seq in table.messages]
            return reads.Metas(present, max(sequences, default=0))
        case reads.Count(_, after, upto, ids):
            return sum(1 for _ in table.between(after, upto, ids))
        case reads.FirstAt(_, time):
            later = (seq for seq in table.order if seq in table.messages and table.messages[seq].time >= time)
            return next(later, 0)
        case reads.LastOf(_, subject_id, upto):
            last = None
            for stored in table.between(0, upto, (subject_id,)):
                last = _meta(stored)
            return last
        case reads.Newest(_, subject_ids, upto, limit):
            newest = {stored.subject: stored.seq for stored in table.between(0, upto, subject_ids)}
            return sorted(newest.values())[:limit]
        case reads.Gaps(_, first, last_seq, limit):
            missing = (seq for seq in range(first, last_seq + 1) if seq not in table.messages)
            return [seq for seq, _ in zip(missing, range(limit), strict=False)]


def _messages(table: _Table, question: reads.Messages) -> reads.Rows:
    found: list[Stored] = []
    size = 0
    for stored in table.between(question.after, question.upto, question.subject_ids):
        if question.headed and not stored.headers and stored.seq != question.upto:
            continue
        found.append(stored)
        size += len(stored.headers) + len(stored.payload)
        if len(found) >= question.limit or size >= question.max_bytes:
            return reads.Rows(found, stored.seq)
    return reads.Rows(found, question.upto)


def _meta(stored: Stored) -> reads.Meta:
    return reads.Meta(stored.seq, stored.subject, stored.time, len(stored.headers), len(stored.payload))
