"""Questions of the core as SQL. Runs in the reader's thread, on a connection that sees what is committed."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from leafnode.store.base import Answered, Damaged
from leafnode.stream import reads
from leafnode.stream.stored import Stored, checksum

SEQUENCES_PER_QUERY = 500  # bound values in one statement, below SQLite's limit


def answer(connection: sqlite3.Connection, questions: Sequence[reads.Question], bad: list[Damaged]) -> list[Answered]:
    """Answer each question; one about a stream that is gone finds nothing. Damaged messages are left out: in `bad`."""
    return [Answered(question.done, _answer(connection, question, bad)) for question in questions]


def _answer(connection: sqlite3.Connection, question: reads.Question, bad: list[Damaged]) -> Any:
    match question:
        case reads.Messages():
            return _messages(connection, question, bad)
        case reads.BySequence():
            return _by_sequence(connection, question, bad)
        case reads.Weights():
            return _weights(connection, question)
        case reads.WeightsOf():
            return _weights_of(connection, question)
        case reads.Count():
            return _count(connection, question)
        case reads.FirstAt():
            return _first_at(connection, question)
        case reads.LastOf():
            return _last_of(connection, question)
        case reads.Newest():
            return _newest(connection, question)
        case reads.Gaps():
            return _gaps(connection, question)


def _exists(connection: sqlite3.Connection, stream_id: int) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (f"m{stream_id}",)).fetchone()
    return found is not None


def _filter(subject_ids: tuple[int, ...] | None) -> tuple[str, tuple[object, ...]]:
    if subject_ids is None:
        return "", ()
    if len(subject_ids) == 1:
        return " AND m.subject = ?", (subject_ids[0],)
    return " AND m.subject IN (SELECT value FROM json_each(?))", (json.dumps(subject_ids),)


def _take(number: int, row: tuple[Any, ...], found: list[Stored], bad: list[Damaged]) -> int:
    """Put a row where it belongs; returns its bytes. Rows from before there were checksums are believed."""
    seq, name, time, headers, body, crc = row
    if isinstance(name, bytes) and isinstance(body, bytes) and isinstance(headers, int):
        if crc is None or crc == checksum(number, seq, name, time, headers, body):
            found.append(Stored(seq, name, time, body[:headers], body[headers:]))
        else:
            bad.append(Damaged(number, seq, name, min(headers, len(body)), max(len(body) - headers, 0)))
        return len(body)
    bad.append(Damaged(number, seq, name if isinstance(name, bytes) else b"", 0, 0))
    return 0


def _messages(connection: sqlite3.Connection, question: reads.Messages, bad: list[Damaged]) -> reads.Rows:
    number = question.stream_id
    found: list[Stored] = []
    if not _exists(connection, number):
        return reads.Rows(found, question.upto)
    where, values = _filter(question.subject_ids)
    if question.headed:
        where, values = f"{where} AND (m.headers > 0 OR m.seq = ?)", (*values, question.upto)
    cursor = connection.execute(
        f"SELECT m.seq, s.name, m.time, m.headers, m.body, m.crc FROM m{number} m LEFT JOIN s{number} s "
        f"ON s.id = m.subject WHERE m.seq > ? AND m.seq <= ?{where} ORDER BY m.seq LIMIT ?",
        (question.after, question.upto, *values, question.limit),
    )
    size = 0
    seen = last = 0
    for row in cursor:
        seen, last = seen + 1, row[0]
        size += _take(number, row, found, bad)
        if size >= question.max_bytes:
            break
    cursor.close()
    complete = size < question.max_bytes and seen < question.limit
    return reads.Rows(found, question.upto if complete else last)


def _by_sequence(connection: sqlite3.Connection, question: reads.BySequence, bad: list[Damaged]) -> reads.Rows:
    number = question.stream_id
    found: list[Stored] = []
    if _exists(connection, number):
        wanted = list(question.sequences)
        for begin in range(0, len(wanted), SEQUENCES_PER_QUERY):
            part = wanted[begin : begin + SEQUENCES_PER_QUERY]
            marks = ",".join("?" * len(part))
            rows = connection.execute(
                f"SELECT m.seq, s.name, m.time, m.headers, m.body, m.crc FROM m{number} m LEFT JOIN s{number} s "
                f"ON s.id = m.subject WHERE m.seq IN ({marks}) ORDER BY m.seq",
                part,
            )
            for row in rows:
                _take(number, row, found, bad)
    return reads.Rows(found, max(question.sequences, default=0))


def _weights(connection: sqlite3.Connection, question: reads.Weights) -> reads.Metas:
    number = question.stream_id
    if not _exists(connection, number):
        return reads.Metas([], question.upto)
    where, values = _filter(question.subject_ids)
    rows = connection.execute(
        f"SELECT m.seq, s.name, m.time, m.headers, length(m.body) - m.headers FROM m{number} m JOIN s{number} s "
        f"ON s.id = m.subject WHERE m.seq > ? AND m.seq <= ?{where} ORDER BY m.seq LIMIT ?",
        (question.after, question.upto, *values, question.limit),
    )
    metas = [reads.Meta(*row) for row in rows]
    return reads.Metas(metas, metas[-1].seq if len(metas) >= question.limit else question.upto)


def _weights_of(connection: sqlite3.Connection, question: reads.WeightsOf) -> reads.Metas:
    number = question.stream_id
    metas: list[reads.Meta] = []
    if _exists(connection, number):
        wanted = list(question.sequences)
        for begin in range(0, len(wanted), SEQUENCES_PER_QUERY):
            part = wanted[begin : begin + SEQUENCES_PER_QUERY]
            marks = ",".join("?" * len(part))
            rows = connection.execute(
                f"SELECT m.seq, s.name, m.time, m.headers, length(m.body) - m.headers FROM m{number} m "
                f"JOIN s{number} s ON s.id = m.subject WHERE m.seq IN ({marks}) ORDER BY m.seq",
                part,
            )
            metas += [reads.Meta(*row) for row in rows]
    return reads.Metas(metas, max(question.sequences, default=0))


def _count(connection: sqlite3.Connection, question: reads.Count) -> int:
    if not _exists(connection, question.stream_id):
        return 0
    where, values = _filter(question.subject_ids)
    row = connection.execute(
        f"SELECT count(*) FROM m{question.stream_id} m WHERE m.seq > ? AND m.seq <= ?{where}",
        (question.after, question.upto, *values),
    ).fetchone()
    return int(row[0])


def _first_at(connection: sqlite3.Connection, question: reads.FirstAt) -> int:
    """Times rise with sequences, so halving finds the place."""
    table = f"m{question.stream_id}"
    if not _exists(connection, question.stream_id):
        return 0
    low, high = connection.execute(f"SELECT min(seq), max(seq) FROM {table}").fetchone()
    if low is None:
        return 0
    found = 0
    while low <= high:
        middle = (low + high) // 2
        seq, time = connection.execute(
            f"SELECT seq, time FROM {table} WHERE seq >= ? ORDER BY seq LIMIT 1", (middle,)
        ).fetchone()
        if time >= question.time:
            found = seq
            high = middle - 1
        else:
            low = seq + 1
    return int(found)


def _last_of(connection: sqlite3.Connection, question: reads.LastOf) -> reads.Meta | None:
    number = question.stream_id
    if not _exists(connection, number):
        return None
    row = connection.execute(
        f"SELECT m.seq, s.name, m.time, m.headers, length(m.body) - m.headers FROM m{number} m JOIN s{number} s "
        f"ON s.id = m.subject WHERE m.subject = ? AND m.seq <= ? ORDER BY m.seq DESC LIMIT 1",
        (question.subject_id, question.upto),
    ).fetchone()
    return reads.Meta(*row) if row else None


def _newest(connection: sqlite3.Connection, question: reads.Newest) -> list[int]:
    if not _exists(connection, question.stream_id):
        return []
    where, values = _filter(question.subject_ids)
    rows = connection.execute(
        f"SELECT max(m.seq) FROM m{question.stream_id} m WHERE m.seq <= ?{where} GROUP BY m.subject ORDER BY 1 LIMIT ?",
        (question.upto, *values, question.limit),
    )
    return [seq for (seq,) in rows]


def _gaps(connection: sqlite3.Connection, question: reads.Gaps) -> list[int]:
    gaps: list[int] = []
    if not _exists(connection, question.stream_id):
        return gaps
    expected = question.first
    rows = connection.execute(
        f"SELECT seq FROM m{question.stream_id} WHERE seq BETWEEN ? AND ? ORDER BY seq", (question.first, question.last)
    )
    for (seq,) in rows:
        gaps.extend(range(expected, min(seq, expected + question.limit - len(gaps))))
        expected = seq + 1
        if len(gaps) >= question.limit:
            return gaps
    gaps.extend(range(expected, min(question.last + 1, expected + question.limit - len(gaps))))
    return gaps
