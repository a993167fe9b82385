"""SQLite files opened the same way everywhere: WAL, a chosen durability, numbered migrations.

A migration is a script, or a function that gets the names of the tables and returns one; the n-th of the sequence takes
the file from version n-1 to n (PRAGMA user_version). Each runs in one transaction together with the change of the
version, so that a power cut leaves a file of some whole version. Migrations are appended, never edited.
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import aiosqlite

Synchronous = Literal["FULL", "NORMAL", "OFF"]
Migration = str | Callable[[list[str]], str]
BUSY_TIMEOUT_MS = 5000  # another process, such as a backup, may hold the lock for a moment


class DatabaseError(Exception):
    """The file cannot be used; the text names it and says why and what to do."""


async def open_database(
    path: str | Path, migrations: Sequence[Migration], *, synchronous: Synchronous = "FULL"
) -> aiosqlite.Connection:
    """Open or create the file at `path` and bring it to version `len(migrations)`.

    With `synchronous="FULL"` a commit that returned survives a power cut; with "NORMAL" the last ones may be lost,
    but the file stays whole. Statements that write begin a transaction by themselves; `commit()` ends it.

    Raises:
        DatabaseError: not a database, written by a newer program, or not accessible. Nothing stays open.
    """
    _probe(path)
    connection = await aiosqlite.connect(path)
    try:
        await _prepare(connection, synchronous)
        await _migrate(connection, str(path), migrations)
    except sqlite3.Error as error:
        await connection.close()
        raise DatabaseError(_explain(str(path), error)) from error
    except BaseException:
        await connection.close()
        raise
    return connection


def _probe(path: str | Path) -> None:
    """Find out that a file cannot be opened before a thread exists for it: aiosqlite does not wait for that thread."""
    try:
        sqlite3.connect(path).close()
    except sqlite3.Error as error:
        raise DatabaseError(f"{path}: cannot be opened ({error}): check that the folder exists and is ours") from error


async def _prepare(connection: aiosqlite.Connection, synchronous: Synchronous) -> None:
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        f"synchronous = {synchronous}",
        "foreign_keys = ON",
    ):
        async with connection.execute(f"PRAGMA {pragma}"):
            pass


async def _migrate(connection: aiosqlite.Connection, path: str, migrations: Sequence[Migration]) -> None:
    async with connection.execute("PRAGMA user_version") as cursor:
        row = await cursor.fetchone()
    version = int(row[0]) if row else 0
    if version > len(migrations):
        raise DatabaseError(
            f"{path}: has version {version}, this program knows {len(migrations)}: "
            "run the newer program again or restore a backup"
        )
    for number, migration in enumerate(migrations[version:], start=version + 1):
        script = migration if isinstance(migration, str) else migration(await _tables(connection))
        await connection.executescript(f"BEGIN IMMEDIATE;\n{script};\nPRAGMA user_version = {number};\nCOMMIT;")


async def _tables(connection: aiosqlite.Connection) -> list[str]:
    async with connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name") as cursor:
        return [str(row[0]) for row in await cursor.fetchall()]


def _explain(path: str, error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_NOTADB":
        return f"{path}: is not a SQLite database: move it away, or name another file"
    if name.startswith("SQLITE_CORRUPT"):
        return f"{path}: is damaged ({error}): move it away or restore a backup"
    if name.startswith("SQLITE_BUSY"):
        return f"{path}: is locked by another process for more than {BUSY_TIMEOUT_MS} ms: stop that process"
    return f"{path}: cannot be used: {error}"
