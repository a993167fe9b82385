"""Reads tables of a file that may be damaged: every row that can be read, and between which rows some cannot.

A range that SQLite refuses is halved until what is refused is single rows. Each message proves itself by its checksum.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from leafnode.stream.stored import checksum

REFUSALS_MAX = 4_000  # reads of one table that SQLite refuses before the rest counts as unreadable: a second
DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")
NOT_DAMAGE = ("SQLITE_BUSY", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")


def is_damage(error: BaseException) -> bool:
    """Whether an error of SQLite says that the file is not what was written."""
    return getattr(error, "sqlite_errorname", "").startswith(DAMAGE)


def is_trouble_of_the_disk(error: BaseException) -> bool:
    """Whether it says that the disk, its rights or another process are in the way, and the file may be good."""
    return getattr(error, "sqlite_errorname", "").startswith(NOT_DAMAGE)


class Unreadable(NamedTuple):
    """Rows from `first` to `last`, as far as there were any."""

    first: int
    last: int


class Message(NamedTuple):
    """One row of a stream's messages; whether it is as it was stored."""

    row: tuple[int, int, int, int, bytes, int | None]  # as in the table
    is_good: bool

    @property
    def seq(self) -> int:
        return self.row[0]


def table_rows(
    connection: sqlite3.Connection, table: str, key: str, columns: Sequence[str], upto: int
) -> Iterator[tuple[Any, ...] | Unreadable]:
    """Rows in the order of their whole-numbered `key`, unreadable ranges between them. No key is above `upto`."""
    query = f"SELECT {','.join(columns)} FROM {table} WHERE {key} BETWEEN ? AND ? ORDER BY {key}"
    place = list(columns).index(key)
    waiting = [(0, _last_key(connection, table, key, upto))]
    refusals = 0
    while waiting:
        first, last = waiting.pop()
        try:
            for row in connection.execute(query, (first, last)):
                yield row
                first = max(first, row[place] + 1)
        except (sqlite3.DatabaseError, OverflowError) as error:
            refusals += 1
            if first >= last or refusals > REFUSALS_MAX or "no such" in str(error):
                yield Unreadable(first, max(first, last))
                continue
            middle = (first + last) // 2
            waiting += [(middle + 1, last), (first, middle)]


def _last_key(connection: sqlite3.Connection, table: str, key: str, upto: int) -> int:
    try:
        last = connection.execute(f"SELECT max({key}) FROM {table}").fetchone()[0]
    except sqlite3.DatabaseError:
        return upto
    return min(int(last), upto) if isinstance(last, int) else 0


def plain_rows(connection: sqlite3.Connection, table: str, columns: Sequence[str]) -> tuple[list[Any], bool]:
    """Rows of a small table, and whether those are all."""
    rows: list[Any] = []
    try:
        for row in connection.execute(f"SELECT {','.join(columns)} FROM {table}"):
            rows.append(row)  # noqa: PERF402 -- what came before an error counts
    except sqlite3.DatabaseError:
        return rows, False
    return rows, True


def messages(
    connection: sqlite3.Connection, stream_id: int, names: dict[int, bytes], upto: int
) -> Iterator[Message | Unreadable]:
    """Every message of a stream, judged."""
    columns = ("seq", "subject", "time", "headers", "body", "crc")
    for row in table_rows(connection, f"m{stream_id}", "seq", columns, upto):
        yield row if isinstance(row, Unreadable) else Message(row, is_good(stream_id, row, names))


def is_good(stream_id: int, row: Sequence[Any], names: dict[int, bytes]) -> bool:
    """Whether a message's row is as it was stored; those from before there were checksums are believed."""
    seq, subject, time, headers, body, crc = row
    name = names.get(subject) if isinstance(subject, int) else None
    if name is None or not isinstance(body, bytes) or not isinstance(time, int) or not isinstance(headers, int):
        return False
    if crc is None:
        return 0 <= headers <= len(body)
    return bool(checksum(stream_id, seq, name, time, headers, body) == crc)
