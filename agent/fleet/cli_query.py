"""`fleet query` and `fleet why`: rows as they arrive on stdout, the account of everyone on stderr."""

import asyncio
import json
import sqlite3
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, Final, Protocol

from agent import explaining
from agent.errors import UsageError
from agent.fleet.client import Fleet
from agent.fleet.exits import Exit
from agent.fleet.layers import flat
from agent.fleet.output import CELL_MAX, Output, Table, cell
from agent.fleet.presence import Device, parse_tags, select
from agent.fleet.reduce import Reducer
from agent.fleet.reduce import drawn as bar_lines
from agent.fleet.targets import drawn
from agent.payloads import QueryReply
from leafnode.base.nearest import hint

ID_WIDTH: Final = 16  # characters for device ids that nobody could tell beforehand


class Rows:
    """One table out of many answers: the first answer decides the columns."""

    def __init__(self, output: Output, longest_id: int, select: str | None = None) -> None:
        self._select = select
        self._output = output
        self._device_width = max(longest_id, len("device"))
        self._table: Table | None = None
        self._left_out: set[str] = set()

    def add(self, reply: QueryReply) -> None:
        columns, rows = _rows(reply)
        columns = labels(columns, self._select)
        if self._output.shape == "json":
            for row in rows:
                self._output.object({"device": reply.device, **dict(zip(columns, row, strict=False))})
            return
        if self._table is None:
            widths = [self._device_width, *_first_widths(columns, rows)]
            self._table = self._output.stream(["device", *columns], widths=widths)
        mine = self._table.columns[1:]
        if missing := set(columns) - set(mine) - self._left_out:
            self._left_out |= missing
            self._output.note(f"{reply.device} has more columns ({', '.join(sorted(missing))}): --json shows them")
        for row in rows:
            values = dict(zip(columns, row, strict=False))
            self._table.row([reply.device, *(values.get(column) for column in mine)])

    def end(self) -> None:
        """Everything is said."""

    def close(self) -> None:
        """Nothing is held."""


def _rows(reply: QueryReply) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    if reply.info is not None:
        leaves = flat(reply.info)
        return list(leaves), [list(leaves.values())]
    columns = list(reply.columns or ())
    rows: Sequence[Sequence[Any]] = reply.rows if reply.rows is not None and columns else [()]
    if columns[:1] == ["device"]:  # ours already
        return columns[1:], [row[1:] for row in rows]
    return columns, rows


def labels(columns: Sequence[str], select: str | None) -> list[str]:
    """Column names that tell columns apart.

    SQLite calls `host.name` and `os.name` both `name`; what was asked for says which is which. Names that are still
    the same are numbered.
    """
    asked = [word.strip() for word in (select or "").split(",")]
    if len(asked) == len(columns):
        pairs = zip(asked, columns, strict=True)
        columns = [word if word.rpartition(".")[2] == column else column for word, column in pairs]
    seen: dict[str, int] = {}
    unique = []
    for column in columns:
        seen[column] = seen.get(column, 0) + 1
        unique.append(column if seen[column] == 1 else f"{column}_{seen[column]}")
    return unique


def _first_widths(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[int]:
    """A guess from the first answer, with room for somewhat longer values to come."""
    room = 4
    widths = []
    for index, column in enumerate(columns):
        longest = max((len(cell(row[index])) for row in rows if index < len(row)), default=0)
        widths.append(min(CELL_MAX, max(len(column), longest + room)))
    return widths


async def query(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    if not (arguments.where or arguments.select or arguments.sql):
        raise UsageError("ask something: a filter, --select or --sql; for everything about one device: fleet info ID")
    check(arguments.where, arguments.sql)
    known = await fleet.devices_if_known()
    asking = await fleet.query(
        arguments.where,
        select=arguments.select,
        sql=arguments.sql,
        group=None if _chosen(arguments) else arguments.group,
        on=_devices(arguments, known),
        limit=arguments.rows,
        timeout=arguments.timeout,
        stop=stop,
        known=known,
        blind=known is None,
        explain=arguments.explain,
    )
    sink = _sink(arguments, output, known)
    try:
        async for reply in asking.replies():
            if reply.error:
                output.note(f"{reply.device}: {reply.error}")
            elif reply.matched or arguments.explain:
                sink.add(reply)
                if reply.truncated:
                    output.note(f"{reply.device} has more rows than it sent: raise --rows")
        sink.end()
    finally:
        sink.close()
    outcome = asking.outcome
    if stop.is_set():
        output.note("interrupted: this is what had come")
    output.note(outcome.summary())
    if arguments.group and known is not None and not stop.is_set() and not outcome.total:
        raise _nobody(arguments.group, known)
    return outcome.exit_code()


def _nobody(group: str, known: Sequence[Device]) -> UsageError:
    groups = sorted({group for device in known for group in device.groups})
    there = f" (groups there are: {', '.join(groups) or 'none'})"
    return UsageError(f"no known device is in group {group!r}{hint(group, groups)}{there}")


def check(where: str | None, sql: str | None = None) -> None:
    """Find a slip of the pen here, before the whole fleet is asked.

    Raises:
        UsageError: the place, marked, and what may have been meant.
    """
    text = where or sql
    if not text:
        return
    statement = f"SELECT 1 WHERE ({where}\n)" if where else text
    try:
        sqlite3.connect(":memory:").execute(f"EXPLAIN {statement}")
    except (sqlite3.Error, sqlite3.Warning) as error:
        said = str(error)
        if where and said.startswith('near ")"') and ")" not in where:
            said = "incomplete input"
        told = explaining.stumble(said, text)
        if told != said:
            raise UsageError(told) from error


def _chosen(arguments: Namespace) -> bool:
    """Devices are asked one by one: the inventory says which."""
    return bool(arguments.on or arguments.tag or arguments.limit)


def _devices(arguments: Namespace, known: Sequence[Device] | None) -> tuple[str, ...] | None:
    """Those that --on, --group, --tag and --limit leave; None for all of a group or everybody."""
    if not _chosen(arguments):
        return None
    if known is None:
        if arguments.tag or arguments.limit:
            raise UsageError(
                "--tag and --limit need the inventory, and the hub cannot be reached: name devices with --on"
            )
        return tuple(arguments.on)
    found = select(known, group=arguments.group, tags=parse_tags(arguments.tag), ids=arguments.on)
    if not found:
        raise UsageError("no known device is meant: --group, --tag and --on together leave nobody")
    ids = [device.id for device in found]
    return tuple(drawn(ids, arguments.limit, arguments.seed) if arguments.limit else ids)


# What becomes of the answers


class Sink(Protocol):
    """Takes answers as they come; `end` when all are there, `close` in any case."""

    def add(self, reply: QueryReply) -> None: ...

    def end(self) -> None: ...

    def close(self) -> None: ...


def _sink(arguments: Namespace, output: Output, known: Sequence[Device] | None) -> Sink:
    longest = max((len(device.id) for device in known or ()), default=ID_WIDTH)
    if arguments.explain:
        return Explained(output)
    if arguments.ids:
        return Ids(output)
    if arguments.reduce or arguments.histogram:
        return Reduced(output, arguments.reduce, arguments.histogram, arguments.select)
    return Rows(output, longest, arguments.select)


class Ids:
    """The devices that match: input for the next command."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def add(self, reply: QueryReply) -> None:
        if self._output.shape == "json":
            self._output.object({"device": reply.device})
        else:
            self._output.line(reply.device)

    def end(self) -> None:
        """Everything is said."""

    def close(self) -> None:
        """Nothing is held."""


class Reduced:
    """One table of all answers, asked once more when they are there."""

    def __init__(self, output: Output, statement: str | None, histogram: str | None, select: str | None) -> None:
        self._output = output
        self._statement = statement
        self._histogram = histogram
        self._select = select
        self._reducer = Reducer()

    def add(self, reply: QueryReply) -> None:
        columns, rows = _rows(reply)
        self._reducer.add(reply.device, [column.rpartition(".")[2] for column in labels(columns, None)], rows)

    def end(self) -> None:
        if self._statement:
            columns, rows = self._reducer.ask(self._statement)
            self._output.table(columns, rows, empty="no rows")
            return
        bars = self._reducer.histogram((self._histogram or "").rpartition(".")[2])
        if self._output.for_people:
            for line in bar_lines(bars):
                self._output.line(line)
        else:
            self._output.table(("value", "count"), [(bar.label, bar.count) for bar in bars])

    def close(self) -> None:
        self._reducer.close()


class Explained:
    """The parts of the filter on each device, as a tree."""

    MARKS: Final = {1: "✓", 0: "✗", None: "?"}

    def __init__(self, output: Output) -> None:
        self._output = output

    def add(self, reply: QueryReply) -> None:
        if not self._output.for_people:
            self._table(reply)
            return
        self._output.line(reply.device)
        rows = reply.rows or ()
        width = max((2 * int(depth) + len(cell(part)) for depth, part, _, _ in rows), default=0)
        for place, (depth, part, result, values) in enumerate(rows):
            deeper = place + 1 < len(rows) and rows[place + 1][0] > depth
            text = f"{'  ' * int(depth)}{self.MARKS.get(result, '?')} {cell(part)}"
            seen = (
                "" if deeper else ", ".join(f"{name} = {_literal(value)}" for name, value in json.loads(values).items())
            )
            self._output.line(f"  {text.ljust(width + 2)}  {seen}".rstrip())

    def _table(self, reply: QueryReply) -> None:
        for depth, part, result, values in reply.rows or ():
            fields = {"depth": depth, "part": part, "result": result, "values": json.loads(values)}
            if self._output.shape == "json":
                self._output.object({"device": reply.device, **fields})
            else:
                self._output.stream(["device", *fields]).row([reply.device, *fields.values()])

    def end(self) -> None:
        """Everything is said."""

    def close(self) -> None:
        """Nothing is held."""


def _literal(value: Any) -> str:
    """As one would write it in a filter."""
    if value is None:
        return "NULL"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


async def why(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    check(arguments.where)
    known = await fleet.devices_if_known()
    asking = await fleet.query(
        arguments.where,
        on=[arguments.device],
        timeout=arguments.timeout,
        stop=stop,
        known=known,
        blind=known is None,
        explain=True,
    )
    explained = Explained(output)
    async for reply in asking.replies():
        if reply.error:
            output.note(f"{reply.device}: {reply.error}")
        else:
            explained.add(reply)
            output.note(f"{reply.device} {'matches' if reply.matched else 'does not match'}")
    outcome = asking.outcome
    if outcome.absent or outcome.errored:
        output.note(outcome.summary())
    return outcome.exit_code()
