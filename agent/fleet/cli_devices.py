"""`fleet ls`, `fleet info` and `fleet top`: looking at devices."""

import asyncio
from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from agent.fleet.ages import ago
from agent.fleet.client import Fleet, now
from agent.fleet.exits import Exit
from agent.fleet.inventory import Readings
from agent.fleet.layers import flat
from agent.fleet.output import Output, cell, counted, plain
from agent.fleet.presence import STATES, Device, parse_tags
from agent.payloads import rfc3339

LINE_MAX: Final = 200  # characters of a value in `fleet info`; a row of a table needs room
TOP_METRICS: Final = ("cpu", "mem", "disk", "load", "temperature")


async def ls(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    tags = parse_tags(arguments.tag)
    found = await fleet.devices(group=arguments.group, tags=tags, state=arguments.state)
    if output.for_people:
        moment = now()
        rows = [
            (
                device.id,
                device.state,
                ago(device.seen, moment),
                list(device.groups),
                [f"{key}={value}" for key, value in sorted(device.tags.items())],
                device.os,
                device.agent_version,
            )
            for device in found
        ]
        columns = ("device", "state", "seen", "groups", "tags", "os", "agent")
        output.table(columns, rows, empty="no devices" if arguments.group or tags or arguments.state else NOBODY)
        if found:
            output.note(count(found))
    else:
        output.table(
            ("device", "state", "seen", "groups", "tags", "os", "agent"), [_plain_row(device) for device in found]
        )
    return Exit.OK


NOBODY: Final = "no devices yet: start fleet-agent on one, and look again"


def _plain_row(device: Device) -> Sequence[Any]:
    seen = rfc3339(device.seen) if device.seen else None
    return (device.id, device.state, seen, list(device.groups), dict(device.tags), device.os, device.agent_version)


def count(devices: Sequence[Device]) -> str:
    """`3 devices: 2 up, 1 absent`."""
    states = [device.state for device in devices]
    parts = [f"{states.count(state)} {state}" for state in STATES if state in states]
    return counted(len(devices), "device") + (f": {', '.join(parts)}" if parts else "")


async def info(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    device = await fleet.device(arguments.device)
    answer = await fleet.info(device.id, arguments.timeout)
    live = answer is not None
    facts: Mapping[str, Any] = answer or {"tags": dict(device.tags), "groups": list(device.groups), **device.facts}
    if output.for_people:
        lines = document({"device": device.id, "state": device.state, **facts})
        width = max(len(path) for path, _ in lines)
        for path, text in lines:
            output.line(f"{path.ljust(width)}  {text}")
    else:
        seen = rfc3339(device.seen) if device.seen else None
        output.object({"device": device.id, "state": device.state, "seen": seen, "live": live, "info": facts})
    if not live:
        output.note(f"{device.id} does not answer ({device.state}, seen {ago(device.seen, now())}): from the inventory")
    return Exit.OK if live else Exit.INCOMPLETE


def document(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(path, text) of everything that has a value; a table of many rows is a line a row."""
    lines = []
    for path, value in flat(facts).items():
        if isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
            lines += [(path, cell(_pairs(each), LINE_MAX)) for each in value]
        elif value is not None and value != []:
            lines.append((path, cell(value, LINE_MAX)))
    return lines


def _pairs(row: Any) -> str:
    if not isinstance(row, Mapping):
        return plain(row)
    return " ".join(f"{key}={plain(value)}" for key, value in row.items() if value is not None)


async def top(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    once = arguments.once
    live = not once and output.for_people and output.is_terminal and _live(output)
    view = live or _Plain(output)
    with view:
        while True:
            devices = await fleet.devices(group=arguments.group)
            view.show(top_rows(devices, await fleet.telemetry(), now() if output.for_people else None))
            if once:
                return Exit.OK
            try:
                async with asyncio.timeout(arguments.interval):
                    await stop.wait()
                return Exit.OK  # Ctrl-C is how one leaves
            except TimeoutError:
                continue


TOP_COLUMNS: Final = ("device", "state", "seen", "cpu", "mem", "disk", "load", "temperature")
_PERCENT: Final = ("percent", "value")
_FIRST: Final = {"load": ("m1", "value")}
"""The value of a metric that stands for it in one column; any other first number will do."""


def top_rows(devices: Sequence[Device], readings: Mapping[str, Readings], moment: datetime | None) -> list[list[Any]]:
    """One row a device; one that is not up shows no numbers: old ones would look like new ones. `seen` is how long
    before `moment`, or the time itself without one."""
    rows = []
    for device in devices:
        mine = readings.get(device.id, {}) if device.state == "up" else {}
        numbers = [number(metric, mine.get(metric)) for metric in TOP_METRICS]
        seen = ago(device.seen, moment) if moment else device.seen and rfc3339(device.seen)
        rows.append([device.id, device.state, seen, *numbers])
    return rows


def number(metric: str, values: Mapping[str, Any] | None) -> float | None:
    """The number that stands for a metric's values."""
    if not values:
        return None
    if metric == "temperature":  # one value for each sensor: the hottest matters
        return max((float(value) for value in values.values() if isinstance(value, int | float)), default=None)
    for key in _FIRST.get(metric, _PERCENT):
        if isinstance(values.get(key), int | float):
            return float(values[key])
    return next((float(value) for value in values.values() if isinstance(value, int | float)), None)


class _Plain:
    """A table after the other."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def __enter__(self) -> "_Plain":
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def show(self, rows: Sequence[Sequence[Any]]) -> None:
        self._output.table(TOP_COLUMNS, rows, empty=NOBODY)


class _Live(_Plain):
    """One table that is redrawn, with rich."""

    def __init__(self, output: Output) -> None:
        super().__init__(output)
        from rich.console import Console
        from rich.live import Live

        self._view = Live(console=Console(file=output.out), auto_refresh=False, screen=True)

    def __enter__(self) -> "_Live":
        self._view.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._view.__exit__(None, None, None)

    def show(self, rows: Sequence[Sequence[Any]]) -> None:
        from agent.fleet.output import rich_table

        self._view.update(rich_table(TOP_COLUMNS, rows), refresh=True)


def _live(output: Output) -> _Live | None:
    try:
        return _Live(output)
    except ImportError:
        return None
