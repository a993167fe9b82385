"""One batch of the journal as one SQLite transaction. Runs in the writer's thread."""

import functools
import sqlite3
from binascii import crc32
from collections.abc import Iterable, Iterator, Mapping

from leafnode.store.schema import CREATE_MESSAGES, CREATE_SUBJECTS
from leafnode.stream.journal import (
    Batch,
    Catalog,
    ConsumerChanges,
    CreateConsumer,
    CreateStream,
    DropConsumer,
    DropStream,
    SetAside,
    StreamChanges,
    UpdateConsumer,
    UpdateStream,
)

COLUMNS = 6  # of a message row
SUBJECT_COLUMNS = 5  # of a subject row
GROUP = 256  # rows in one INSERT; groups beat executemany by a third (measured)
EXACT = 16  # up to so many rows have a statement of their own, more are put together from powers of two
STATEMENTS = 256  # kept prepared: those of the streams that are written most


def write(connection: sqlite3.Connection, batch: Batch) -> None:
    """All of the batch or nothing of it.

    Raises:
        sqlite3.Error: nothing was kept; the connection can be used again.
    """
    if _is_one_statement(batch):
        (changes,) = batch.streams.values()
        _insert(connection, f"m{changes.stream.id}", COLUMNS, changes.rows)
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for change in batch.catalog:
            _change_catalog(connection, change)
        for changes in batch.streams.values():
            if changes.stream.config.storage != "memory":
                _write_stream(connection, changes)
        for consumer_changes in batch.consumers.values():
            if consumer_changes.consumer.is_kept:
                _write_consumer(connection, consumer_changes)
        if batch.notes:
            _write_notes(connection, batch.notes)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _is_one_statement(batch: Batch) -> bool:
    """A few messages and nothing else: the statement is a transaction by itself, which saves two others."""
    if len(batch.streams) != 1 or batch.catalog or batch.consumers or batch.notes:
        return False
    (changes,) = batch.streams.values()
    return (
        not (changes.settles or changes.subject_rows or changes.expiries or changes.schedules or changes.origins)
        and 0 < len(changes.rows) <= EXACT * COLUMNS
        and not changes.stream.deleted
        and changes.stream.config.storage != "memory"
    )


def _change_catalog(connection: sqlite3.Connection, change: Catalog) -> None:
    match change:
        case CreateStream(number, account, config, created, in_memory):
            if not in_memory:
                connection.execute(
                    "INSERT OR REPLACE INTO streams (id, account, config, created, crc) VALUES (?,?,?,?,?)",
                    (number, account, config, created, crc32(config)),
                )
                connection.execute(CREATE_MESSAGES.format(number))
                connection.execute(CREATE_SUBJECTS.format(number))
        case SetAside(number, seq):
            connection.execute(f"INSERT INTO damaged SELECT {number}, * FROM m{number} WHERE seq = ?", (seq,))
        case UpdateStream(number, config):
            connection.execute("UPDATE streams SET config = ?, crc = ? WHERE id = ?", (config, crc32(config), number))
        case DropStream(number):
            connection.execute(f"DROP TABLE IF EXISTS m{number}")
            connection.execute(f"DROP TABLE IF EXISTS s{number}")
            connection.execute("DELETE FROM expiries WHERE stream = ?", (number,))
            connection.execute("DELETE FROM schedules WHERE stream = ?", (number,))
            connection.execute("DELETE FROM origins WHERE stream = ?", (number,))
            connection.execute(
                "DELETE FROM pending WHERE consumer IN (SELECT id FROM consumers WHERE stream = ?)", (number,)
            )
            connection.execute("DELETE FROM consumers WHERE stream = ?", (number,))
            connection.execute("DELETE FROM streams WHERE id = ?", (number,))
        case CreateConsumer(number, stream, name, config, created):
            connection.execute(
                "INSERT OR REPLACE INTO consumers (id, stream, name, config, created, crc) VALUES (?,?,?,?,?,?)",
                (number, stream, name, config, created, crc32(config)),
            )
        case UpdateConsumer(number, config):
            connection.execute("UPDATE consumers SET config = ?, crc = ? WHERE id = ?", (config, crc32(config), number))
        case DropConsumer(number):
            connection.execute("DELETE FROM pending WHERE consumer = ?", (number,))
            connection.execute("DELETE FROM consumers WHERE id = ?", (number,))


def _write_notes(connection: sqlite3.Connection, notes: Mapping[tuple[str, str], bytes | None]) -> None:
    kept = [(owner, key, value) for (owner, key), value in notes.items() if value is not None]
    gone = [place for place, value in notes.items() if value is None]
    connection.executemany("INSERT OR REPLACE INTO notes VALUES (?,?,?)", kept)
    connection.executemany("DELETE FROM notes WHERE owner = ? AND key = ?", gone)


def _write_stream(connection: sqlite3.Connection, changes: StreamChanges) -> None:
    stream = changes.stream
    if stream.deleted:
        return
    number = stream.id
    removed = changes.removed
    rows = changes.rows
    if rows:
        if removed or changes.cleared_to:
            rows, removed = _without_removed(rows, removed, changes.cleared_to)
        _insert(connection, f"m{number}", COLUMNS, rows)
    if changes.cleared_to:
        connection.execute(f"DELETE FROM m{number} WHERE seq <= ?", (changes.cleared_to,))
        connection.execute("DELETE FROM expiries WHERE stream = ? AND seq <= ?", (number, changes.cleared_to))
    if removed:
        ranges = list(_ranges(removed))
        connection.executemany(f"DELETE FROM m{number} WHERE seq BETWEEN ? AND ?", ranges)
        if stream.config.allow_msg_ttl:
            connection.executemany(
                "DELETE FROM expiries WHERE stream = ? AND seq BETWEEN ? AND ?",
                [(number, first, last) for first, last in ranges],
            )
    if changes.expiries:
        connection.executemany(
            "INSERT OR REPLACE INTO expiries VALUES (?,?,?)", [(number, seq, at) for seq, at in changes.expiries]
        )
    if changes.schedules:
        _write_schedules(connection, number, changes.schedules)
    if changes.origins:
        connection.executemany(
            "INSERT OR REPLACE INTO origins VALUES (?,?,?)",
            [(number, source, seq) for source, seq in changes.origins.items()],
        )
    used = [row for row in changes.subject_rows if row[4] > 0]
    gone = [(row[0],) for row in changes.subject_rows if row[4] <= 0]
    if used:
        _insert(connection, f"s{number}", SUBJECT_COLUMNS, [value for row in used for value in row])
    if gone:
        connection.executemany(f"DELETE FROM s{number} WHERE id = ?", gone)
    if not changes.settles:
        return
    connection.execute(
        "UPDATE streams SET first_seq = ?, last_seq = ?, messages = ?, bytes = ?, last_time = ? WHERE id = ?",
        (*changes.state, number),
    )


def _write_schedules(
    connection: sqlite3.Connection, number: int, schedules: dict[bytes, tuple[int, int] | None]
) -> None:
    connection.executemany(
        "DELETE FROM schedules WHERE stream = ? AND subject = ?",
        [(number, subject) for subject, entry in schedules.items() if entry is None],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO schedules VALUES (?,?,?,?)",
        [(number, subject, *entry) for subject, entry in schedules.items() if entry is not None],
    )


def _insert(connection: sqlite3.Connection, table: str, columns: int, flat: list[int | bytes]) -> None:
    """Rows, many in one statement."""
    begin, left = 0, len(flat) // columns
    while left:
        group = left if left <= EXACT else min(GROUP, 1 << (left.bit_length() - 1))
        end = begin + group * columns
        values = flat if end - begin == len(flat) else flat[begin:end]
        connection.execute(f"INSERT OR REPLACE INTO {table} VALUES {_marks(columns, group)}", values)
        begin = end
        left -= group


@functools.cache
def _marks(columns: int, rows: int) -> str:
    row = "(" + ",".join("?" * columns) + ")"
    return ",".join([row] * rows)


def _without_removed(
    rows: list[int | bytes], removed: list[int], cleared_to: int
) -> tuple[list[int | bytes], list[int]]:
    """Rows that came and went within the batch are not written at all."""
    first = rows[0]
    assert isinstance(first, int)
    gone = {seq for seq in removed if seq >= first}
    if not gone and cleared_to < first:
        return rows, removed
    kept: list[int | bytes] = []
    for place in range(0, len(rows), COLUMNS):
        seq = rows[place]
        if seq not in gone and seq > cleared_to:  # type: ignore[operator]
            kept += rows[place : place + COLUMNS]
    return kept, [seq for seq in removed if seq < first]


def _ranges(sequences: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Neighbours joined: most removals are runs."""
    first = last = -1
    for seq in sorted(sequences):
        if seq == last + 1:
            last = seq
            continue
        if last >= 0:
            yield first, last
        first = last = seq
    if last >= 0:
        yield first, last


def _write_consumer(connection: sqlite3.Connection, changes: ConsumerChanges) -> None:
    number = changes.consumer.id
    if changes.consumer.deleted:
        return
    if changes.rewrite:
        connection.execute("DELETE FROM pending WHERE consumer = ?", (number,))
    if changes.rows:
        connection.executemany(
            "INSERT OR REPLACE INTO pending VALUES (?,?,?,?,?)", [(number, *row) for row in changes.rows]
        )
    if changes.dropped:
        connection.executemany(
            "DELETE FROM pending WHERE consumer = ? AND seq = ?", [(number, seq) for seq in changes.dropped]
        )
    connection.execute(
        "UPDATE consumers SET delivered = ?, delivered_stream = ?, floor = ?, floor_stream = ? WHERE id = ?",
        (*changes.state, number),
    )
