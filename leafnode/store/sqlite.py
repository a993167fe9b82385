"""Streams in one SQLite file: WAL, synchronous=FULL, one writer, one reader, one checkpointer.

    writer        a thread of its own; a batch is one hop: BEGIN, inserts, COMMIT with its fsync
    reader        another connection and thread: sees what is committed, never waits for the writer
    checkpointer  a third, used when enough was written: passive, so that nobody waits for it

Automatic checkpoints are off: they would run inside some publisher's commit. While the writer never rests, a passive
checkpoint never gets all of the log, and only when all of it is in the file may the writer begin again at its start.
So the checkpointer moves nearly all and syncs the file, which takes long, and the writer then moves the few pages that
came meanwhile, between two batches. The log has a longest length, which `reserve` keeps free on the disk.

The log is made that long at the start, in one piece: a commit then overwrites, and its fsync has no new length of a
file to write down. That halves the time of a small commit (measured on ext4: 270 -> 150 us).
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from leafnode.base.sqlite import BUSY_TIMEOUT_MS, DatabaseError, Synchronous, open_database
from leafnode.errors import DamagedError, StoreError
from leafnode.store import erasing, health, loading, reading, space, untrusted, writing
from leafnode.store.base import Answered, Damaged
from leafnode.store.salvage import Report, salvage
from leafnode.store.schema import MIGRATIONS
from leafnode.store.space import PAGE_BYTES
from leafnode.store.writer import Writer
from leafnode.stream.journal import Batch
from leafnode.stream.loaded import LoadedContents, LoadedStream
from leafnode.stream.reads import Question

CHECKPOINT_BYTES = 4 << 20  # written since the last checkpoint: half of what the log may have
COMMIT_BYTES = 4096  # what a small commit writes besides its messages
LOG_MAX_BYTES = 8 << 20  # beyond, the writer moves the log itself; half of it: 10 % more bytes written (measured)
LOG_PIECE = bytes(4096)  # written at once when the log is made: larger ones make Linux write larger ones ever after
RECLAIM_PAGES = 1024  # given back to a full disk in one step; the log holds as many while it happens
SHRINK_PAGES = 32  # given back in one step of normal operation: some 4 ms where 200 MB are free
SPARE_PAGES = 1024  # free in the file and not worth being given back: 4 MiB
SPARE_PART = 4  # nor is less than a quarter of the file: moving pages wears a card; half of that is left
Result = TypeVar("Result")
log = logging.getLogger(__name__)


class SqliteStore:
    """The store of a broker: `leafnode.db`."""

    def __init__(
        self, path: Path, writer: Writer, reader: aiosqlite.Connection, cleaner: aiosqlite.Connection, file: int
    ) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader
        self._cleaner = cleaner
        self._file = file  # for fsync alone; closed last, because closing gives up SQLite's locks
        self._written = 0  # bytes since the last checkpoint, estimated
        self._log = 0  # bytes in the log, estimated
        self._damaged: list[Damaged] = []
        self.loaded: list[LoadedStream] = []  # what there was when it was opened
        self.salvaged: Report | None = None  # what was done to open it
        self._nearly_moved = False  # the checkpointer left a few pages to the writer
        self._shrinks = False  # more space than worth keeping is free, and is being given back

    @classmethod
    async def open(cls, path: Path, *, synchronous: Synchronous = "FULL") -> "SqliteStore":
        """Open or create the file; a damaged one is salvaged first.

        Raises:
            StoreError: it cannot be used; says why and what to do.
        """
        report = await asyncio.to_thread(health.make_sound, path)
        try:
            store = await cls._open(path, synchronous)
        except DamagedError as error:
            report = await asyncio.to_thread(salvage, path, str(error))
            store = await cls._open(path, synchronous)
        store.salvaged = report
        return store

    @classmethod
    async def _open(cls, path: Path, synchronous: Synchronous) -> "SqliteStore":
        """Raises StoreError; DamagedError where salvage helps."""
        opened: list[aiosqlite.Connection] = []
        try:
            await asyncio.to_thread(_make, path)
            opened.append(reader := await open_database(path, MIGRATIONS, synchronous=synchronous))
            opened.append(cleaner := await open_database(path, MIGRATIONS, synchronous=synchronous))
            for connection in opened:
                await _in_thread(connection, _prepare)
            writing_connection = await asyncio.to_thread(_open_writer, path, synchronous)
            await _in_thread(reader, _read_any_text)
            loaded = await _in_thread(reader, loading.load)
        except (DatabaseError, sqlite3.Error, LookupError, ValueError, TypeError) as error:
            for connection in opened:
                await connection.close()
            raise _explained(path, error) from error
        writer = Writer(writing_connection)
        store = cls(path, writer, reader, cleaner, os.open(path, os.O_RDONLY))
        store.loaded = loaded
        writer.submit(lambda _connection: _make_log(path), _say_why_not)
        return store

    def submit(self, batch: Batch, done: Callable[[StoreError | None], None]) -> None:
        """Commit; `done` is called in the event loop, with None once the batch would survive a power cut."""
        size = batch.bytes + COMMIT_BYTES
        self._written += size
        self._log += size
        finish = self._nearly_moved or self._log > LOG_MAX_BYTES
        self._nearly_moved = False

        def committed(_: Any, error: BaseException | None) -> None:
            if error is None:
                done(None)
            elif isinstance(error, sqlite3.Error):
                done(self._trouble(f"cannot store {batch.messages} messages", error))
            else:
                raise error

        self._writer.submit(lambda connection: _write(connection, batch), committed)
        if finish:
            self._submit_checkpoint()

    def _submit_checkpoint(self) -> None:
        """By the writer, between two batches: of what the checkpointer has left, or of all if it does not keep up."""
        before, self._log, self._written = self._log, 0, 0

        def moved(left: Any, error: BaseException | None) -> None:
            self._log += left if error is None else before

        self._writer.submit(lambda connection: _checkpoint(connection, "PASSIVE"), moved)

    async def commit(self, batch: Batch) -> None:
        ended: asyncio.Future[StoreError | None] = asyncio.get_running_loop().create_future()
        self.submit(batch, ended.set_result)
        error = await ended
        if error is not None:
            raise error

    async def answer(self, questions: Sequence[Question]) -> list[Answered]:
        try:
            return await _in_thread(
                self._reader, lambda connection: reading.answer(connection, questions, self._damaged)
            )
        except sqlite3.Error as error:
            raise self._trouble("cannot read", error) from error

    async def load(self) -> list[LoadedStream]:
        return await _in_thread(self._reader, loading.load)

    async def load_contents(self, stream_id: int) -> LoadedContents:
        try:
            return await _in_thread(self._reader, lambda connection: loading.load_contents(connection, stream_id))
        except sqlite3.Error as error:
            raise self._trouble(f"cannot read stream {stream_id}", error) from error

    async def notes(self, owner: str) -> dict[str, bytes]:
        """What one part of the broker keeps (`Journal.note`)."""
        query = "SELECT key, value FROM notes WHERE owner = ?"
        try:
            return await _in_thread(self._reader, lambda connection: dict(connection.execute(query, (owner,))))
        except sqlite3.Error as error:
            raise self._trouble(f"cannot read the notes of {owner}", error) from error

    def take_damaged(self) -> list[Damaged]:
        """Messages that were left out of answers because they are not as they were stored."""
        taken, self._damaged = self._damaged, []
        return taken

    def _trouble(self, what: str, error: sqlite3.Error) -> StoreError:
        """The error to raise; damage is also marked, so that it is salvaged whoever opens the file next."""
        text = f"{self._path}: {what}: {error}"
        if not untrusted.is_damage(error):
            return StoreError(text)
        health.mark(self._path, text)
        return DamagedError(text)

    def wants_checkpoint(self) -> bool:
        """Whether enough was written to be moved from the log into the file."""
        return self._written > CHECKPOINT_BYTES

    async def checkpoint(self) -> None:
        """Move what is committed into the file without making anybody wait."""
        before, self._log, self._written = self._log, 0, 0
        left = before
        with contextlib.suppress(sqlite3.Error, OSError):  # tried again when as much was written once more
            left = await _in_thread(self._cleaner, lambda raw: _checkpoint(raw, "PASSIVE", self._file))
        self._nearly_moved = self._log > 0  # committed meanwhile
        self._log += left

    async def shorten(self) -> None:
        """The disk is full: move the whole log into the file and give its space back, as far as that is possible."""
        with contextlib.suppress(sqlite3.Error):
            self._log = await self._writer.run(lambda raw: _checkpoint(raw, "TRUNCATE"))

    async def reclaim(self) -> None:
        """Give space that removed messages left in the file back to the disk, a bounded portion at a time."""
        with contextlib.suppress(sqlite3.Error):  # there is not even room for that: something else must go first
            await self._writer.run(lambda raw: space.give_back(raw, RECLAIM_PAGES))
        await self.shorten()

    async def shrink(self) -> bool:
        """Give a little of what removed messages left in the file back to the disk, if it is much; whether there is
        more. The file gets shorter with the next checkpoint.
        """
        with contextlib.suppress(sqlite3.Error):  # another time: nothing depends on it
            free, pages = await _in_thread(self._cleaner, space.measure)
            part = 2 * SPARE_PART if self._shrinks else SPARE_PART
            self._shrinks = free > max(SPARE_PAGES, pages // part)
            if self._shrinks:
                await self._writer.run(lambda raw: space.give_back(raw, SHRINK_PAGES))
                self._written += SHRINK_PAGES * PAGE_BYTES
                self._log += SHRINK_PAGES * PAGE_BYTES
            return self._shrinks
        self._shrinks = False
        return False

    async def close(self) -> None:
        await self._writer.close()
        for connection in (self._cleaner, self._reader):
            await connection.close()
        os.close(self._file)


def _explained(path: Path, error: Exception) -> StoreError:
    """Why a file cannot be opened."""
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    if cause is None or untrusted.is_trouble_of_the_disk(cause) or not path.is_file():
        return StoreError(str(error))
    return DamagedError(str(error))


def _open_writer(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, cached_statements=writing.STATEMENTS)
    for pragma in (f"busy_timeout = {BUSY_TIMEOUT_MS}", f"synchronous = {synchronous}"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    _prepare(connection)
    erasing.prepare(connection)
    return connection


def _write(connection: sqlite3.Connection, batch: Batch) -> None:
    if not any(changes.erases for changes in batch.streams.values()):
        writing.write(connection, batch)
        return
    erasing.begin(connection)
    try:
        writing.write(connection, batch)
    finally:
        erasing.finish(connection)


def _make_log(path: Path) -> None:
    """Give the log its length. In the writer's thread, so that nobody writes there now."""
    with open(f"{path}-wal", "r+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            while end < LOG_MAX_BYTES:
                end += file.write(LOG_PIECE[: LOG_MAX_BYTES - end])
            os.fsync(file.fileno())
        except OSError:
            pass  # a full disk: it grows when there is room


def _say_why_not(_: Any, error: BaseException | None) -> None:
    if error is not None:
        log.info("log not made longer in advance, commits take longer: %s", error)


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


def _read_any_text(connection: sqlite3.Connection) -> None:
    """Damage may make text of what was bytes: that must not be an error of its own."""
    connection.text_factory = lambda data: data.decode(errors="replace")


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


def _checkpoint(connection: sqlite3.Connection, mode: str, sync: int | None = None) -> int:
    """Returns the bytes of log that are left; the log begins anew when all of it was moved.

    SQLite syncs the file only when all was moved; `sync` does it in any case, so that little is left to do then.
    """
    busy, pages, moved = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    if sync is not None:
        os.fdatasync(sync)
    return 0 if not busy and moved >= pages else int(pages) * PAGE_BYTES
