"""Streams in one SQLite file: WAL, synchronous=FULL, one writer, one reader, one checkpointer.

    writer        a thread of its own; a batch is one hop: BEGIN, inserts, COMMIT with its fsync
    reader        another connection and thread: sees what is committed, never waits for the writer
    checkpointer  a third, used when enough was written: passive, so that nobody waits for it

Automatic checkpoints are off: they would run inside some publisher's commit. While the writer never rests, a passive
checkpoint never gets all of the log and the log would grow for ever: from a size on, the writer moves what is left
between two batches, and then writes at the log's beginning again. So the log has a longest length, which `reserve`
keeps free on the disk.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import aiosqlite

from leafnode.base.sqlite import DatabaseError, open_database
from leafnode.errors import StoreError
from leafnode.store import reading, writing
from leafnode.store.base import Answered
from leafnode.store.schema import MIGRATIONS
from leafnode.stream.journal import Batch, ConsumerState, StreamState
from leafnode.stream.loaded import LoadedConsumer, LoadedContents, LoadedStream
from leafnode.stream.reads import Question

CHECKPOINT_BYTES = 2 << 20  # written since the last checkpoint: half of what the log may have
COMMIT_BYTES = 3 * 4096  # what a small commit writes besides its messages: pages of counters, subjects, the b-tree
LOG_MAX_BYTES = 4 << 20  # beyond, the writer moves the log itself; a thousand pages, as SQLite would
RECLAIM_PAGES = 1024  # given back to a full disk in one step; the log holds as many while it happens
PAGE_BYTES = 4096
Result = TypeVar("Result")


class SqliteStore:
    """The store of a broker: `leafnode.db`."""

    def __init__(
        self, path: Path, writer: aiosqlite.Connection, reader: aiosqlite.Connection, cleaner: aiosqlite.Connection
    ) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader
        self._cleaner = cleaner
        self._written = 0  # bytes since the last checkpoint, estimated
        self._log = 0  # bytes in the log, estimated

    @classmethod
    async def open(cls, path: Path) -> "SqliteStore":
        """Open or create the file.

        Raises:
            StoreError: it cannot be used; says why and what to do.
        """
        opened: list[aiosqlite.Connection] = []
        try:
            await asyncio.to_thread(_make, path)
            for _ in ("writer", "reader", "checkpointer"):
                opened.append(await open_database(path, MIGRATIONS, synchronous="FULL"))  # noqa: PERF401 -- closed on error
            for connection in opened:
                await _in_thread(connection, _prepare)
        except (DatabaseError, sqlite3.Error) as error:
            for connection in opened:
                await connection.close()
            raise StoreError(str(error)) from error
        return cls(path, *opened)

    async def commit(self, batch: Batch) -> None:
        try:
            await _in_thread(self._writer, lambda connection: writing.write(connection, batch))
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: cannot store {batch.messages} messages: {error}") from error
        size = batch.bytes + COMMIT_BYTES
        self._written += size
        self._log += size
        if self._log > LOG_MAX_BYTES:
            await self._checkpoint(self._writer, "PASSIVE")

    async def answer(self, questions: Sequence[Question]) -> list[Answered]:
        try:
            return await _in_thread(self._reader, lambda connection: reading.answer(connection, questions))
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: cannot read: {error}") from error

    async def load(self) -> list[LoadedStream]:
        return await _in_thread(self._reader, _load)

    async def load_contents(self, stream_id: int) -> LoadedContents:
        try:
            return await _in_thread(self._reader, lambda connection: _load_contents(connection, stream_id))
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: cannot read stream {stream_id}: {error}") from error

    async def notes(self, owner: str) -> dict[str, bytes]:
        """What one part of the broker keeps (`Journal.note`)."""
        query = "SELECT key, value FROM notes WHERE owner = ?"
        try:
            return await _in_thread(self._reader, lambda connection: dict(connection.execute(query, (owner,))))
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: cannot read the notes of {owner}: {error}") from error

    def wants_checkpoint(self) -> bool:
        """Whether enough was written to be moved from the log into the file."""
        return self._written > CHECKPOINT_BYTES

    async def checkpoint(self) -> None:
        """Move what is committed into the file without making anybody wait."""
        await self._checkpoint(self._cleaner, "PASSIVE")

    async def shorten(self) -> None:
        """The disk is full: move the whole log into the file and give its space back, as far as that is possible."""
        await self._checkpoint(self._writer, "TRUNCATE")

    async def reclaim(self) -> None:
        """Give space that removed messages left in the file back to the disk, a bounded portion at a time."""
        with contextlib.suppress(sqlite3.Error):  # there is not even room for that: something else must go first
            await _in_thread(self._writer, _vacuum)
        await self.shorten()

    async def _checkpoint(self, connection: aiosqlite.Connection, mode: str) -> None:
        self._written = 0
        before = self._log
        with contextlib.suppress(sqlite3.Error):  # tried again when as much was written once more
            left = await _in_thread(connection, lambda raw: _checkpoint(raw, mode))
            self._log = left + self._log - before  # what was committed meanwhile is still in it

    async def close(self) -> None:
        for connection in (self._cleaner, self._reader, self._writer):
            await connection.close()


async def _in_thread(connection: aiosqlite.Connection, call: Callable[[sqlite3.Connection], Result]) -> Result:
    """Run one function with the real connection in its thread: one hop, whatever the function does.

    aiosqlite offers a method for each call of sqlite3 and each is a hop; `_execute` is what they are made of.
    """
    raw = connection._conn
    return await connection._execute(call, raw)  # type: ignore[no-any-return, no-untyped-call]


def _prepare(connection: sqlite3.Connection) -> None:
    connection.isolation_level = None  # transactions begin where we say
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_MAX_BYTES}")


def _make(path: Path) -> None:
    """A new file learns to shrink before its first table; an old one stays as it is."""
    if path.exists():
        return
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
    finally:
        connection.close()


def _vacuum(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA incremental_vacuum({RECLAIM_PAGES})").fetchall()


def _checkpoint(connection: sqlite3.Connection, mode: str) -> int:
    """Returns the bytes of log that are left; the log begins anew when all of it was moved."""
    busy, pages, moved = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    return 0 if not busy and moved >= pages else int(pages) * PAGE_BYTES


def _load(connection: sqlite3.Connection) -> list[LoadedStream]:
    rows = connection.execute("SELECT id, account, config, created FROM streams ORDER BY id").fetchall()
    return [
        LoadedStream(
            id=number,
            account=account,
            config=config,
            created=created,
            contents=_load_contents(connection, number),
            consumers=_load_consumers(connection, number),
        )
        for number, account, config, created in rows
    ]


def _load_contents(connection: sqlite3.Connection, number: int) -> LoadedContents:
    connection.execute("BEGIN")  # one view of all three tables
    try:
        state = connection.execute(
            "SELECT first_seq, last_seq, messages, bytes, last_time FROM streams WHERE id = ?", (number,)
        ).fetchone()
        if state is None:
            return LoadedContents(state=StreamState(0, 0, 0, 0, 0), subjects=[], expiries=[], schedules=[], origins=[])
        subjects = connection.execute(f"SELECT id, name, last_seq, last_size, count FROM s{number}").fetchall()
        expiries = connection.execute("SELECT seq, at FROM expiries WHERE stream = ?", (number,)).fetchall()
        schedules = connection.execute("SELECT subject, seq, at FROM schedules WHERE stream = ?", (number,)).fetchall()
        origins = connection.execute("SELECT source, seq FROM origins WHERE stream = ?", (number,)).fetchall()
    finally:
        connection.execute("COMMIT")
    return LoadedContents(
        state=StreamState(*state), subjects=subjects, expiries=expiries, schedules=schedules, origins=origins
    )


def _load_consumers(connection: sqlite3.Connection, stream: int) -> list[LoadedConsumer]:
    rows = connection.execute(
        "SELECT id, name, config, created, delivered, delivered_stream, floor, floor_stream FROM consumers "
        "WHERE stream = ? ORDER BY id",
        (stream,),
    ).fetchall()
    return [
        LoadedConsumer(
            id=number,
            name=name,
            config=config,
            created=created,
            state=ConsumerState(*state),
            pending=connection.execute(
                "SELECT seq, consumer_seq, first_seq, deliveries FROM pending WHERE consumer = ? ORDER BY seq",
                (number,),
            ).fetchall(),
        )
        for number, name, config, created, *state in rows
    ]
