"""What became of each command, on disk before anybody is told: the memory that makes a command run once.

    received → started → finished → reported

Each step is committed with an fsync before the next begins. After a crash a command found `received` has not run and
may; one found `started` has run, perhaps half: it is never run again unless it said so; one found `finished` is
reported again, and its message id makes the stream keep one outcome.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import aiosqlite

from agent.errors import FleetError
from agent.payloads import Command, CommandResult
from leafnode.base import sqlite

State = Literal["received", "started", "finished", "reported"]

MIGRATIONS: Final = [
    """
    CREATE TABLE command (
        number   INTEGER PRIMARY KEY AUTOINCREMENT,
        id       TEXT NOT NULL UNIQUE,
        state    TEXT NOT NULL CHECK (state IN ('received', 'started', 'finished', 'reported')),
        attempt  INTEGER NOT NULL DEFAULT 0,
        boot_id  TEXT NOT NULL DEFAULT '',
        received TEXT NOT NULL,
        started  TEXT,
        body     BLOB NOT NULL,
        result   BLOB
    ) STRICT;
    CREATE INDEX command_unreported ON command (number) WHERE state <> 'reported'
    """
]


class LedgerError(FleetError):
    """The ledger cannot be used; commands stop, because running one unrecorded might run it twice."""


@dataclass(frozen=True, slots=True)
class Record:
    id: str
    state: State
    attempt: int
    started: datetime | None
    body: bytes
    result: CommandResult | None


class Ledger:
    """The file of commands. Open it with `Ledger.open`; one task uses it at a time."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, path: Path) -> "Ledger":
        """Raises LedgerError when the file cannot be used."""
        try:
            return cls(await sqlite.open_database(path, MIGRATIONS, synchronous="FULL"))
        except sqlite.DatabaseError as error:
            raise LedgerError(str(error)) from error

    async def close(self) -> None:
        await self._connection.close()

    async def find(self, command_id: str) -> Record | None:
        found = await self._records("WHERE id = ?", command_id)
        return found[0] if found else None

    async def received(self, command_id: str, body: bytes) -> None:
        """The command is ours to run. Again is the same as once."""
        await self._write(
            "INSERT INTO command (id, state, received, body) VALUES (?, 'received', ?, ?) ON CONFLICT (id) DO NOTHING",
            command_id,
            datetime.now(UTC).isoformat(),
            body,
        )

    async def started(self, command_id: str, boot_id: str, moment: datetime) -> int:
        """From here on it may have run. Returns the number of this attempt, from 1."""
        await self._write(
            "UPDATE command SET state = 'started', attempt = attempt + 1, boot_id = ?, started = ? WHERE id = ?",
            boot_id,
            moment.isoformat(),
            command_id,
        )
        record = await self.find(command_id)
        return record.attempt if record else 1

    async def finished(self, result: CommandResult) -> None:
        """The outcome is known and will not change."""
        await self._write(
            "UPDATE command SET state = 'finished', result = ? WHERE id = ? AND state IN ('received', 'started')",
            result.to_bytes(),
            result.id,
        )

    async def reported(self, command_id: str) -> None:
        """The results stream has the outcome."""
        await self._write("UPDATE command SET state = 'reported' WHERE id = ?", command_id)

    async def interrupted(self) -> list[Record]:
        """Commands that were running when the agent ended."""
        return await self._records("WHERE state = 'started' ORDER BY number")

    async def unreported(self, limit: int) -> list[Record]:
        """Outcomes that the results stream may not have, oldest first."""
        return await self._records("WHERE state = 'finished' ORDER BY number LIMIT ?", limit)

    async def recent(self, limit: int) -> list[Record]:
        """The newest commands, newest first."""
        return await self._records("ORDER BY number DESC LIMIT ?", limit)

    async def forget(self, kept: int) -> None:
        """Drop reported commands beyond the newest `kept`. Their messages are acknowledged: none comes again."""
        await self._write(
            "DELETE FROM command WHERE state = 'reported' AND number <= (SELECT max(number) FROM command) - ?",
            kept,
        )

    async def _records(self, where: str, *values: str | int) -> list[Record]:
        try:
            async with self._connection.execute(
                f"SELECT id, state, attempt, started, body, result FROM command {where}", values
            ) as cursor:
                return [_record(row) for row in await cursor.fetchall()]
        except aiosqlite.Error as error:
            raise LedgerError(f"the ledger cannot be read: {error}") from error

    async def _write(self, sql: str, *values: str | bytes | int) -> None:
        try:
            async with self._connection.execute(sql, values):
                pass
            await self._connection.commit()
        except aiosqlite.Error as error:
            raise LedgerError(f"the ledger cannot be written: {error}") from error


def _record(row: aiosqlite.Row) -> Record:
    command_id, state, attempt, started, body, result = row
    return Record(
        command_id,
        state,
        attempt,
        datetime.fromisoformat(started) if started else None,
        body,
        CommandResult.from_bytes(result) if result else None,
    )


def command_of(record: Record) -> Command:
    """Raises PayloadError if the body is none."""
    return Command.from_bytes(record.body)
