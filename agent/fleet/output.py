"""What people and programs get to see: results on stdout, everything else on stderr.

Three shapes of a table: for people (boxes with rich on a terminal, aligned text otherwise), `--json` (one object a
line, values as they are) and `--csv`. A Table prints row by row as they come, so that a query of a large fleet shows
its first answer at once; column widths are then a guess that wide values overrule.
"""

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, Final

WIDTH_MIN: Final = 4  # characters of a column in a table that is printed while it grows
CELL_MAX: Final = 60  # characters of a value in a table for people; programs use --json


class Output:
    """Where a command writes; `shape` is "table", "json" or "csv"."""

    def __init__(self, shape: str = "table", out: IO[str] | None = None, err: IO[str] | None = None) -> None:
        self.shape = shape
        self.out = out or sys.stdout
        self.err = err or sys.stderr
        self._progress = ""

    @property
    def for_people(self) -> bool:
        return self.shape == "table"

    @property
    def is_terminal(self) -> bool:
        return self.out.isatty()

    def note(self, text: str) -> None:
        """A line on stderr: a summary, a warning, what to do next. A progress line that says the same was enough."""
        said = text == self._progress and not self.err.isatty()
        self._clear()
        if said:
            return
        print(text, file=self.err, flush=True)

    def progress(self, text: str) -> None:
        """Where long work stands: rewrites itself on a terminal, a line per change otherwise."""
        if text == self._progress:
            return
        if self.err.isatty():
            self._clear()
            print(text, end="", file=self.err, flush=True)
        else:
            print(text, file=self.err, flush=True)
        self._progress = text

    def _clear(self) -> None:
        if self._progress and self.err.isatty():
            print("\r\033[K", end="", file=self.err)
        self._progress = ""

    def line(self, text: str) -> None:
        """Plain text on stdout, for people."""
        self._clear()
        print(text, file=self.out, flush=True)

    def object(self, fields: Mapping[str, Any]) -> None:
        """One JSON object on one line of stdout."""
        self._clear()
        print(json.dumps(fields, ensure_ascii=False, default=str), file=self.out, flush=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "") -> None:
        """A whole table at once; `empty` is said on stderr when there are no rows."""
        rows = [list(row) for row in rows]
        if not rows and empty:
            self.note(empty)
        if self.for_people and rows and self.is_terminal and self._rich(columns, rows):
            return
        stream = self.stream(columns, widths=_widths(columns, rows))
        for row in rows:
            stream.row(row)
        if self.shape == "csv":
            stream.head()

    def _rich(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bool:
        try:
            from rich.console import Console
        except ImportError:
            return False
        self._clear()
        Console(file=self.out).print(rich_table(columns, rows))
        return True

    def stream(self, columns: Sequence[str], *, widths: Sequence[int] = ()) -> "Table":
        """A table to which rows are added as they come."""
        return Table(self, columns, widths)


class Table:
    """Prints rows at once. The heading comes with the first row."""

    def __init__(self, output: Output, columns: Sequence[str], widths: Sequence[int]) -> None:
        self._output = output
        self.columns = list(columns)
        self._widths = list(widths)
        self._headed = False
        self._csv = csv.writer(output.out, lineterminator="\n")

    def head(self) -> None:
        """Print the heading if it was not yet."""
        if self._headed:
            return
        self._headed = True
        if self._output.shape == "csv":
            self._csv.writerow(self.columns)
        elif self._output.for_people:
            self._output.line(_aligned([column.upper() for column in self.columns], self._widths))

    def row(self, values: Sequence[Any]) -> None:
        if self._output.shape == "json":
            self._output.object(dict(zip(self.columns, values, strict=False)))
            return
        if self._output.shape == "csv":
            self.head()
            self._csv.writerow([plain(value) for value in values])
            self._output.out.flush()
            return
        cells = [cell(value) for value in values]
        if not self._widths:
            self._widths = _widths(self.columns, [values])
        self.head()
        self._output.line(_aligned(cells, self._widths))


def rich_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Any:
    """A rich table; values are text, never markup."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(value), style=_STYLES.get(str(value), "")) for value in row))
    return table


_STYLES: Final = {
    **dict.fromkeys(("up", "succeeded", "applied", "created", "added"), "green"),
    **dict.fromkeys(("absent", "queued", "pending", "waiting", "stopped", "running", "behind"), "yellow"),
    **dict.fromkeys(("failed", "refused", "reverted", "timed_out", "unknown", "conflict", "expired"), "red"),
}


def counted(number: int, what: str) -> str:
    """`1 device`, `3 devices`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def plain(value: Any) -> str:
    """A value as one piece of text, whole."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return ",".join(value)
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def cell(value: Any, most: int = CELL_MAX) -> str:
    """A value for people: on one line, not endless, three decimals, no control characters for the terminal."""
    if isinstance(value, float):
        value = round(value, 3)
    text = "".join(letter if letter.isprintable() else "·" for letter in plain(value).replace("\n", " "))
    return text if len(text) <= most else text[: most - 1] + "…"


def _widths(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[int]:
    widths = [max(WIDTH_MIN, len(column)) for column in columns]
    for row in rows:
        for index, value in enumerate(row[: len(widths)]):
            widths[index] = max(widths[index], len(cell(value)))
    return widths


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [text.ljust(widths[index] if index < len(widths) else 0) for index, text in enumerate(cells)]
    return "  ".join(padded).rstrip()
