"""The past as tables: what the device measured, in a SQLite file within a budget of bytes.

Every measured table `T` has a table `history_T` with the moment in front: `history_cpu(at, count, percent, mhz)`,
`history_temperature(at, sensor, celsius)`. Numbers of a single-row table are kept, and the whole rows of one with many.
A question reads the file itself, so that a month of samples costs nothing until somebody asks.

Samples are gathered in memory and committed together: a page of the card is written for many of them, not for each. A
power cut costs those since the last commit; what is on disk stays whole. Over the budget the oldest go first.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent.errors import FleetError
from agent.facts.table import Facts, Table

PREFIX: Final = "history_"
AT: Final = "at"
PAGE_BYTES: Final = 4096
DROPPED_SHARE: Final = 0.1  # of each table when the budget is reached, so that it is not reached again at once
BUSY_SECONDS: Final = 5.0  # a question may be reading while we write


class HistoryError(FleetError):
    """The file cannot be used; the device goes on without a past."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of a table at a moment."""

    table: str
    at: str
    columns: tuple[str, ...]
    values: tuple[Any, ...]


def samples(facts: Facts, names: Iterable[str], at: datetime) -> Iterator[Sample]:
    """What the named tables say now."""
    moment = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for name in names:
        table = facts[name]
        for row in facts.rows(name):
            yield from _sample(table, row, moment)


def _sample(table: Table, row: Sequence[Any], moment: str) -> Iterator[Sample]:
    pairs = list(zip(table.columns, row, strict=True))
    if table.single:
        pairs = [(column, value) for column, value in pairs if isinstance(value, int | float)]
    if pairs and any(value is not None for _, value in pairs):
        columns, values = zip(*pairs, strict=True)
        yield Sample(table.name, moment, columns, values)


class History:
    """The file. Used from worker threads; every method may be called from any of them."""

    def __init__(self, path: Path, budget_bytes: int) -> None:
        """Open or make the file.

        Raises:
            HistoryError: it cannot be used. A damaged one is put aside and begun anew: it is worth less than the rest.
        """
        self.path = path
        self._budget_pages = max(16, budget_bytes // PAGE_BYTES)
        self._lock = threading.Lock()
        self._waiting: list[Sample] = []
        try:
            self._database = self._opened()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise HistoryError(f"history {path}: {error}") from error
            with contextlib.suppress(OSError):
                path.replace(path.with_suffix(".damaged"))
            try:
                self._database = self._opened()
            except sqlite3.Error as again:
                raise HistoryError(f"history {path}: {again}") from again

    def _opened(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            self._columns = {name: _columns(database, name) for name in _tables(database)}
        except BaseException:
            database.close()
            raise
        return database

    def add(self, found: Iterable[Sample]) -> None:
        """Remember; on disk after the next `flush`."""
        with self._lock:
            self._waiting.extend(found)

    def flush(self) -> None:
        """Write what waits in one transaction, and keep within the budget.

        Raises:
            HistoryError: it could not be written (a full disk); the samples are given up, their number is in the text.
        """
        with self._lock:
            taken, self._waiting = self._waiting, []
            if not taken:
                return
            try:
                self._database.execute("BEGIN IMMEDIATE")
                for sample in taken:
                    self._write(sample)
                self._database.execute("COMMIT")
                self._trim()
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise HistoryError(f"history {self.path}: {len(taken)} samples not written: {error}") from error

    def _write(self, sample: Sample) -> None:
        name = PREFIX + sample.table
        known = self._columns.get(name)
        if known is None:
            columns = ", ".join(_quoted(column) for column in sample.columns)
            self._database.execute(f"CREATE TABLE IF NOT EXISTS {_quoted(name)} (at TEXT NOT NULL, {columns})")
            self._database.execute(f"CREATE INDEX IF NOT EXISTS {_quoted(name + '_at')} ON {_quoted(name)} (at)")
            known = self._columns[name] = set(sample.columns)
        for column in sample.columns:
            if column not in known:  # a newer agent measures more
                self._database.execute(f"ALTER TABLE {_quoted(name)} ADD COLUMN {_quoted(column)}")
                known.add(column)
        columns = ", ".join(map(_quoted, sample.columns))
        marks = ", ".join("?" * len(sample.columns))
        self._database.execute(
            f"INSERT INTO {_quoted(name)} (at, {columns}) VALUES (?, {marks})", (sample.at, *sample.values)
        )

    def _trim(self) -> None:
        """Drop the oldest of every table when the file has its budget of pages."""
        pages = self._database.execute(
            "SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count"
        )
        if pages.fetchone()[0] <= self._budget_pages:
            return
        for name in self._columns:
            table = _quoted(name)
            self._database.execute(
                f"DELETE FROM {table} WHERE rowid <= (SELECT min(rowid) + (max(rowid) - min(rowid)) * ? FROM {table})",
                (DROPPED_SHARE,),
            )
        self._database.executescript("PRAGMA incremental_vacuum")  # executed, it would free one page

    def columns(self) -> dict[str, tuple[str, ...]]:
        """`history_T` -> its columns, as far as anything was ever measured."""
        with self._lock:
            return {name: (AT, *sorted(known)) for name, known in self._columns.items()}

    def close(self) -> None:
        """Write what waits, close."""
        with contextlib.suppress(HistoryError):
            self.flush()
        self._database.close()


def _tables(database: sqlite3.Connection) -> list[str]:
    found = database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'history!_%' ESCAPE '!'"
    )
    return [row[0] for row in found]


def _columns(database: sqlite3.Connection, name: str) -> set[str]:
    found = database.execute("SELECT name FROM pragma_table_info(?)", (name,))
    return {row[0] for row in found} - {AT}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
