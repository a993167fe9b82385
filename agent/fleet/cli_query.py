"""`fleet query`: rows as they arrive on stdout, the account of everyone on stderr."""

import asyncio
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, Final

from agent.errors import UsageError
from agent.fleet.client import Fleet
from agent.fleet.exits import Exit
from agent.fleet.layers import flat
from agent.fleet.output import CELL_MAX, Output, Table, cell
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

    def note_limit(self, reply: QueryReply) -> None:
        if reply.truncated:
            self._output.note(f"{reply.device} has more rows than it sent: raise --limit")


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
    known = await fleet.devices_if_known()
    asking = await fleet.query(
        arguments.where,
        select=arguments.select,
        sql=arguments.sql,
        group=arguments.group,
        on=arguments.on,
        limit=arguments.limit,
        timeout=arguments.timeout,
        stop=stop,
        known=known,
        blind=known is None,
    )
    rows = Rows(output, max((len(device.id) for device in known or ()), default=ID_WIDTH), arguments.select)
    async for reply in asking.replies():
        if reply.error:
            output.note(f"{reply.device}: {reply.error}")
        elif reply.matched:
            rows.add(reply)
            rows.note_limit(reply)
    outcome = asking.outcome
    if stop.is_set():
        output.note("interrupted: this is what had come")
    output.note(outcome.summary())
    if arguments.group and known is not None and not stop.is_set() and not outcome.total:
        groups = sorted({group for device in known for group in device.groups})
        raise UsageError(
            f"no known device is in group {arguments.group!r}{hint(arguments.group, groups)}"
            f" (groups there are: {', '.join(groups) or 'none'})"
        )
    return outcome.exit_code()
