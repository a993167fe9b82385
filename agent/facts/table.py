"""Facts as tables: names, columns and how to collect them. Pure: what collects is passed in.

A table is *single* (always one row, so that `os.name` works in an expression as it stands) or has many rows. Rows are
collected only when somebody asks for the table, and costly ones not more often than their `age_s` says.

Columns come as a mapping from name to meaning, so that the reference page is made of the code
(`agent.facts.reference`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Row = Sequence[Any]
Columns = Sequence[str] | Mapping[str, str]
"""Names, or names with what they mean and their unit."""


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    columns: tuple[str, ...]
    single: bool
    collect: Callable[[], Iterable[Row]]
    about: str = ""
    """What one row is, for the reference."""
    meanings: Mapping[str, str] = field(default_factory=dict)
    """Column -> what it means."""
    age_s: float = 0.0
    """Rows may be this old: what is costly to collect, or starts a process, is not collected for every question."""

    def rows(self) -> list[Row]:
        """What is true now. A source that fails costs its own rows only: one row of NULL, or none."""
        try:
            found: list[Row] = [tuple(row) for row in self.collect()]
        except (OSError, ValueError, KeyError, IndexError, RuntimeError):
            found = []
        if self.single:
            return found[:1] or [(None,) * len(self.columns)]
        return found

    def records(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows()]


class MoreTables(Protocol):
    """Tables that are not known beforehand (`agent.facts.custom`)."""

    def names(self) -> list[str]: ...

    def table(self, name: str) -> Table | None: ...


class Facts:
    """The tables of a device by name, and the rows of costly ones for as long as they may be shown."""

    def __init__(
        self,
        tables: Iterable[Table],
        more: MoreTables | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """A table of `more` that has the name of one of `tables` is not seen. Without a clock nothing is kept."""
        self._tables = {table.name: table for table in tables}
        self.more = more
        self.clock = clock
        self._kept: dict[str, tuple[float, list[Row]]] = {}

    def __iter__(self) -> Iterator[Table]:
        return iter(self._tables.values())

    def rows(self, name: str) -> list[Row]:
        """The rows of a table, collected now or less than its `age_s` ago."""
        table = self[name]
        if not table.age_s or self.clock is None:
            return table.rows()
        now = self.clock()
        kept = self._kept.get(table.name)
        if kept is None or now - kept[0] >= table.age_s:
            kept = self._kept[table.name] = (now, table.rows())
        return kept[1]

    def __getitem__(self, name: str) -> Table:
        """Raises KeyError for a name that is none, QueryError for a custom table that cannot be had."""
        name = name.lower()
        if (table := self._tables.get(name)) is not None:
            return table
        if self.more is not None and (table := self.more.table(name)) is not None:
            return table
        raise KeyError(name)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._tables or (self.more is not None and name.lower() in self.more.names())

    def names(self) -> list[str]:
        return list(dict.fromkeys([*self._tables, *(self.more.names() if self.more else ())]))

    def columns(self) -> list[str]:
        """Every `table.column` of the tables that are known beforehand."""
        return [f"{table.name}.{column}" for table in self._tables.values() for column in table.columns]

    def document(self, names: Iterable[str]) -> dict[str, Any]:
        """The named tables as JSON: an object for a single one, else a list of objects."""
        return {name: self._part(self[name]) for name in names}

    def _part(self, table: Table) -> Any:
        records = table.records()
        return records[0] if table.single else records


def single(
    name: str, collect: Callable[[], Mapping[str, Any]], columns: Columns, about: str = "", age_s: float = 0.0
) -> Table:
    """A table of one row from a function that returns a mapping; absent columns are NULL."""
    names = tuple(columns)

    def row() -> list[Row]:
        values = collect()
        return [tuple(values.get(column) for column in names)]

    return Table(name, names, True, row, about, _meanings(columns), age_s)


def many(
    name: str,
    collect: Callable[[], Iterable[Mapping[str, Any]]],
    columns: Columns,
    about: str = "",
    age_s: float = 0.0,
) -> Table:
    """A table of many rows from a function that returns mappings; absent columns are NULL."""
    names = tuple(columns)

    def rows() -> list[Row]:
        return [tuple(record.get(column) for column in names) for record in collect()]

    return Table(name, names, False, rows, about, _meanings(columns), age_s)


def _meanings(columns: Columns) -> Mapping[str, str]:
    return columns if isinstance(columns, Mapping) else {}
