"""Standing queries from the operator's side: what is registered, and the fleet's state rebuilt from what devices tell.

Devices send a full state now and then and differences in between (docs/fleet-protocol.md). A Picture replays them in
the order of the stream: reports of another revision of the watch are passed over, a repeated one counts once, and a
gap in a device's numbers makes what is known of it incomplete until its next full state.
"""

from collections.abc import AsyncGenerator, Container, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from agent import subjects
from agent.errors import PayloadError, UsageError
from agent.fleet.hub import Hub
from agent.fleet.reading import Reader, Stored
from agent.payloads import Watch, WatchReport
from leafnode.base.nearest import hint

WAIT_SECONDS: Final = 5.0  # for the next report before the reader looks again
LEAST_EVERY_SECONDS: Final = 1.0  # what devices keep to
BEGINS: Final = "registered"  # why a device sends a full state that is its first

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Registered:
    """A key of the bucket."""

    name: str
    revision: int
    at: datetime
    watch: Watch


async def registered(hub: Hub) -> list[Registered]:
    """Every watch that there is, by name."""
    found = await hub.keys(subjects.BUCKET_WATCHES)
    return [each for name, entry in sorted(found.items()) if (each := _registered(name, entry))]


def _registered(name: str, entry: Stored) -> Registered | None:
    if entry.deleted:
        return None
    try:
        return Registered(name, entry.sequence, entry.stored, Watch.from_bytes(entry.body))
    except PayloadError:  # a newer fleet's: one bad entry must not hide the others
        return None


async def one(hub: Hub, name: str) -> Registered:
    """The watch of this name, or UsageError with the nearest there is."""
    subjects.check_name(name, "watch")
    found = {each.name: each for each in await registered(hub)}
    if name not in found:
        raise UsageError(f"there is no watch {name!r}{hint(name, found)}: see `fleet watch ls`")
    return found[name]


async def add(hub: Hub, name: str, watch: Watch) -> int:
    """Register, or replace what has this name; the revision.

    Raises:
        UsageError: what no device would ask.
    """
    subjects.check_name(name, "watch")
    if bool(watch.sql) == bool(watch.where or watch.select):
        raise UsageError("watch something: a filter, --select, or a whole statement with --sql")
    if watch.key and not (watch.select or watch.sql):
        raise UsageError("--key names a column: show it with --select or --sql")
    if watch.every_s < LEAST_EVERY_SECONDS:
        raise UsageError(f"--every is at least {LEAST_EVERY_SECONDS:g} s")
    return await hub.put(subjects.BUCKET_WATCHES, name, watch.to_bytes())


async def remove(hub: Hub, name: str) -> None:
    """Devices end it when they learn of it."""
    await one(hub, name)
    await hub.delete(subjects.BUCKET_WATCHES, name)


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that changed on a device: `added`, `removed`, `error` or `ended`."""

    at: datetime
    """When it was so first, by the device's clock."""
    device: str
    event: str
    row: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    why: str = ""
    """Of what a full state brought to light: why it was sent."""

    def fields(self) -> dict[str, Any]:
        """As --json prints it."""
        more = {"error": self.error} if self.error else {}
        return {"at": self.at, "device": self.device, "event": self.event, "row": self.row, **more}


@dataclass(slots=True)
class Seen:
    """What one device told."""

    n: int
    at: datetime
    columns: tuple[str, ...] = ()
    rows: list[Row] = field(default_factory=list)
    error: str = ""
    complete: bool = False
    """Nothing between its last full state and now is missing."""
    damped: int = 0
    began: datetime | None = None
    """When it last began to count from 1."""


def _begins(report: WatchReport, seen: Seen) -> bool:
    """Whether the device forgot what it had told (a new card), and did not merely tell it twice."""
    return report.full == BEGINS and report.at != seen.began


class Picture:
    """The state of a watch over all devices. Pure; fed with reports in the order of the stream."""

    def __init__(self, revision: int) -> None:
        self._revision = revision
        self.devices: dict[str, Seen] = {}

    def take(self, report: WatchReport) -> list[Difference]:
        """What this report says that was not known."""
        if report.revision != self._revision:
            return []
        seen = self.devices.get(report.device)
        if seen and report.n <= seen.n and not _begins(report, seen):
            return []
        if report.full == "ended":
            self.devices.pop(report.device, None)
            return [Difference(report.at, report.device, "ended")]
        if seen is None:
            seen = self.devices[report.device] = Seen(report.n - 1, report.at)
        seen.complete = bool(report.full) or (seen.complete and report.n == seen.n + 1)
        seen.n, seen.at = report.n, report.at
        seen.began = report.at if report.full == BEGINS else seen.began
        seen.damped += report.damped
        if report.error:
            seen.error = report.error
            return [Difference(report.at, report.device, "error", error=report.error)]
        return self._whole(seen, report) if report.full else self._part(seen, report)

    def _whole(self, seen: Seen, report: WatchReport) -> list[Difference]:
        rows = list(report.rows or ())
        recovered = [Difference(report.at, report.device, "recovered")] if seen.error else []
        gone = _without(seen.rows, rows)
        came = _without(rows, seen.rows)
        said = [
            *(_difference(report, "removed", seen.columns, row, report.full) for row in gone),
            *(_difference(report, "added", report.columns, row, report.full) for row in came),
        ]
        seen.columns, seen.rows, seen.error = report.columns, rows, ""
        return recovered + said

    def _part(self, seen: Seen, report: WatchReport) -> list[Difference]:
        seen.columns = report.columns
        seen.rows = [*_without(seen.rows, report.removed), *report.added]
        return [
            *(_difference(report, "removed", report.columns, row) for row in report.removed),
            *(_difference(report, "added", report.columns, row) for row in report.added),
        ]


def _without(rows: Iterable[Row], others: Iterable[Row]) -> list[Row]:
    gone: Container[Row] = {_hashable(row) for row in others}
    return [row for row in rows if _hashable(row) not in gone]


def _hashable(row: Row) -> Row:
    """Devices send plain values; whoever sends lists must not break a reader."""
    return tuple(value if isinstance(value, str | int | float) or value is None else repr(value) for value in row)


def _difference(report: WatchReport, event: str, columns: Iterable[str], row: Row, why: str = "") -> Difference:
    values = dict(zip(columns, row, strict=False))
    return Difference(report.since or report.at, report.device, event, values, why=why)


def read(message: Stored) -> WatchReport | None:
    """A report, if the body is one and of the device that its subject names."""
    try:
        report = WatchReport.from_bytes(message.body)
    except PayloadError:
        return None
    return report if message.subject.split(".")[1] == report.device else None


async def picture(hub: Hub, watch: Registered) -> Picture:
    """The state now, over all devices, as far as the hub has heard."""
    found = Picture(watch.revision)
    for message in await hub.snapshot(
        subjects.STREAM_TELEMETRY, subjects.watch_of_all(watch.name), deliver_policy="all"
    ):
        if report := read(message):
            found.take(report)
    return found


async def follow(hub: Hub, watch: Registered) -> AsyncGenerator[Difference | None, None]:
    """Differences as they come, for ever; None now and then, so that the reader can end. What is known is no news."""
    known = Picture(watch.revision)
    last = await hub.last_sequence(subjects.STREAM_TELEMETRY)
    pattern = subjects.watch_of_all(watch.name)
    async with (
        hub.reader(subjects.STREAM_TELEMETRY, pattern, deliver_policy="all") as reader,
        aclosing(_messages(reader)) as messages,
    ):
        async for message in messages:
            report = read(message) if message else None
            found = known.take(report) if report else []
            if message is None:
                yield None
            elif message.sequence > last:
                for difference in found:
                    yield difference


async def _messages(reader: Reader) -> AsyncGenerator[Stored | None, None]:
    while True:
        yield await reader.next(WAIT_SECONDS)
