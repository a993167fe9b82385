"""Facts as tables: names, columns and how to collect them. Pure: what collects is passed in.

A table is *single* (always one row, so that `os.name` works in an expression as it stands) or has many rows. Rows are
collected only when somebody asks for the table.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    columns: tuple[str, ...]
    single: bool
    collect: Callable[[], Iterable[Row]]

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


class Facts:
    """The tables of a device by name."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self._tables = {table.name: table for table in tables}

    def __getitem__(self, name: str) -> Table:
        return self._tables[name.lower()]

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._tables

    def names(self) -> list[str]:
        return list(self._tables)

    def columns(self) -> list[str]:
        """Every `table.column`."""
        return [f"{table.name}.{column}" for table in self._tables.values() for column in table.columns]

    def document(self, names: Iterable[str]) -> dict[str, Any]:
        """The named tables as JSON: an object for a single one, else a list of objects."""
        return {name: self._part(self[name]) for name in names}

    def _part(self, table: Table) -> Any:
        records = table.records()
        return records[0] if table.single else records


def single(name: str, collect: Callable[[], Mapping[str, Any]], columns: Sequence[str]) -> Table:
    """A table of one row from a function that returns a mapping; absent columns are NULL."""

    def row() -> list[Row]:
        values = collect()
        return [tuple(values.get(column) for column in columns)]

    return Table(name, tuple(columns), True, row)


def many(name: str, collect: Callable[[], Iterable[Mapping[str, Any]]], columns: Sequence[str]) -> Table:
    """A table of many rows from a function that returns mappings; absent columns are NULL."""

    def rows() -> list[Row]:
        return [tuple(record.get(column) for column in columns) for record in collect()]

    return Table(name, tuple(columns), False, rows)
