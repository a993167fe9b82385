"""The answers of a whole fleet as one table, to be asked again: `--reduce` and `--histogram`.

Rows go into a temporary SQLite database that spills to disk, so that a hundred thousand of them cost little memory. The
table is `r`; its first column is `device`, the others are those of the answers, as they come.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.errors import UsageError

TABLE: Final = "r"
BINS: Final = 10  # bars of a histogram of numbers; a screen has room for them
BAR_WIDTH: Final = 40  # characters of the longest bar
CACHE_KIB: Final = 8192  # of the database in memory; the rest is in a temporary file
MAX_VALUES: Final = 30  # bars of a histogram of texts; the most frequent ones


class Reducer:
    """Collects rows, then answers statements about them."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # empty name: temporary, on disk when it grows
        self._database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._database.execute(f"CREATE TABLE {TABLE} (device)")
        self._database.execute("BEGIN")
        self._columns = ["device"]

    def add(self, device: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """One device's rows; columns that are new are added."""
        for column in columns:
            if column.lower() not in (known.lower() for known in self._columns):
                self._database.execute(f"ALTER TABLE {TABLE} ADD COLUMN {_quoted(column)}")
                self._columns.append(column)
        names = ", ".join(_quoted(column) for column in ("device", *columns))
        marks = ", ".join("?" * (len(columns) + 1))
        self._database.executemany(
            f"INSERT INTO {TABLE} ({names}) VALUES ({marks})", ((device, *map(_storable, row)) for row in rows)
        )

    def ask(self, statement: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """Columns and rows of a SELECT over `r`.

        Raises:
            UsageError: what SQLite says, and the columns that there are.
        """
        try:
            cursor = self._database.execute(statement)
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise UsageError(f"--reduce: {error} (table r has {', '.join(self._columns)})") from error
        if cursor.description is None:
            raise UsageError("--reduce: only a SELECT over the table r can be asked")
        return [each[0] for each in cursor.description], iter(cursor)

    def histogram(self, column: str) -> "list[Bar]":
        """How often which value: ranges of equal width for numbers, the values themselves otherwise.

        Raises:
            UsageError: no such column.
        """
        known = {name.lower(): name for name in self._columns}
        if column.lower() not in known:
            raise UsageError(f"--histogram: no column {column!r} (there are {', '.join(self._columns)})")
        name = _quoted(known[column.lower()])
        kinds = f"SELECT count(*), count({name}), sum(typeof({name}) IN ('integer', 'real')), min({name}), max({name})"
        [[total, valued, numbers, low, high]] = self._database.execute(f"{kinds} FROM {TABLE}").fetchall()
        empty = [Bar("(none)", total - valued)] if total > valued else []
        if valued and numbers == valued and low < high:
            return [*self._ranges(name, float(low), float(high)), *empty]
        counted = f"SELECT {name}, count(*) FROM {TABLE} WHERE {name} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?"
        return [*(Bar(str(value), count) for value, count in self._database.execute(counted, (MAX_VALUES,))), *empty]

    def _ranges(self, name: str, low: float, high: float) -> "list[Bar]":
        width = (high - low) / BINS
        place = f"min(CAST(({name} - ?) / ? AS INTEGER), {BINS - 1})"
        found = dict(
            self._database.execute(
                f"SELECT {place}, count(*) FROM {TABLE} WHERE {name} IS NOT NULL GROUP BY 1", (low, width)
            )
        )
        return [Bar(f"{low + i * width:g} – {low + (i + 1) * width:g}", found.get(i, 0)) for i in range(BINS)]

    def close(self) -> None:
        """Give up the rows."""
        self._database.close()


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a histogram."""

    label: str
    count: int


def drawn(bars: Sequence[Bar]) -> list[str]:
    """Lines for people, the longest bar BAR_WIDTH wide."""
    most = max((bar.count for bar in bars), default=0) or 1
    labels = max((len(bar.label) for bar in bars), default=0)
    numbers = len(str(most))
    return [
        f"{bar.label.rjust(labels)}  {bar.count:{numbers}}  {'█' * round(BAR_WIDTH * bar.count / most)}".rstrip()
        for bar in bars
    ]


def _storable(value: Any) -> Any:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value)
    return value if value is None or isinstance(value, int | float | str) else str(value)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
