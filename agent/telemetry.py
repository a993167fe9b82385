"""Readings at an interval, and events, into the nearest TELEMETRY stream, each acknowledged before the next is sent.

While the broker is away readings wait in memory, the newest so many; what is dropped is counted and said.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from agent import subjects
from agent.bus import Bus
from agent.edges import Edge
from agent.errors import FleetError
from agent.facts.table import Facts
from agent.payloads import DeviceEvent, Reading, WatchReport, rfc3339
from agent.settings import Metric
from agent.settings import Telemetry as TelemetrySettings

log = logging.getLogger(__name__)

EVENT: Final = "event"  # in the place of a metric: tele.ID.event
RETRY_SECONDS: Final = 2.0  # between attempts while broker or stream is away
TABLES: Final[dict[Metric, str]] = {
    "cpu": "cpu",
    "mem": "mem",
    "disk": "disk",
    "load": "load",
    "temperature": "temperature",
}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message on its way to the stream."""

    id: str
    subject: str
    body: bytes
    sent: Callable[[], None] = lambda: None
    """Called when the stream has it."""


class Outbox:
    """The newest messages; counts what it had to drop."""

    def __init__(self, limit: int) -> None:
        self._waiting: deque[Outgoing] = deque()
        self._limit = limit
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, message: Outgoing) -> None:
        if len(self._waiting) >= self._limit:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(message)

    def first(self) -> Outgoing | None:
        return self._waiting[0] if self._waiting else None

    def sent(self, message_id: str) -> None:
        """The stream has it. It may have been dropped meanwhile."""
        if self._waiting and self._waiting[0].id == message_id:
            self._waiting.popleft()


def readings(device: str, metrics: Iterable[Metric], facts: Facts, at: datetime) -> Iterator[Reading]:
    """One reading of each metric that has a value now."""
    for metric in metrics:
        values = _values(metric, facts)
        if values:
            yield Reading(device=device, metric=metric, at=at, values=values)


def _values(metric: Metric, facts: Facts) -> dict[str, float]:
    table = facts[TABLES[metric]]
    if metric == "temperature":
        return {str(row["sensor"]): float(row["celsius"]) for row in table.records()}
    return _numbers(table.records()[0])


def _numbers(record: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in record.items() if isinstance(value, int | float)}


class TelemetryTask:
    """Samples and sends."""

    def __init__(self, bus: Bus, device: str, settings: TelemetrySettings, facts: Facts, run_id: str) -> None:
        self._bus = bus
        self._device = device
        self._settings = settings
        self._facts = facts
        self._run_id = run_id
        self._seq = 0
        self._outbox = Outbox(settings.queue)
        self._work = asyncio.Event()

    async def sample(self) -> None:
        """For ever, at the interval, without drift."""
        due = time.monotonic()
        while True:
            taken = await asyncio.to_thread(self._take)
            for reading in taken:
                self._add(subjects.telemetry(self._device, reading.metric), reading.to_bytes())
            due = max(due + self._settings.interval_s, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    def tell(self, event: DeviceEvent) -> None:
        """Send an event, in order with the readings."""
        self._add(subjects.telemetry(self._device, EVENT), event.to_bytes())

    def tell_watch(self, report: WatchReport, sent: Callable[[], None]) -> None:
        """Send what a standing query found, in order with the readings; told again later, it is stored once."""
        message_id = f"{self._device}-{report.watch}-{report.n}-{rfc3339(report.at)}"
        self._put(Outgoing(message_id, subjects.watch(self._device, report.watch), report.to_bytes(), sent))

    @property
    def dropped(self) -> int:
        """How many messages were given up, as too many waited for the broker."""
        return self._outbox.dropped

    def _add(self, subject: str, body: bytes) -> None:
        self._seq += 1
        self._put(Outgoing(f"{self._device}-{self._run_id}-{self._seq}", subject, body))

    def _put(self, message: Outgoing) -> None:
        self._outbox.add(message)
        self._work.set()

    def _take(self) -> list[Reading]:
        return list(readings(self._device, self._settings.metrics, self._facts, datetime.now(UTC)))

    async def send(self) -> None:
        """For ever, oldest first."""
        edge = Edge(log, "telemetry")
        told = 0
        while True:
            await self._work.wait()
            self._work.clear()
            while waiting := self._outbox.first():
                try:
                    await self._bus.local.publish(waiting.subject, waiting.body, message_id=waiting.id)
                except FleetError as error:
                    edge.failed(error)
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                self._outbox.sent(waiting.id)
                waiting.sent()
                edge.works()
                if self._outbox.dropped > told:
                    log.warning("readings dropped count=%d reason=queue-full", self._outbox.dropped - told)
                    told = self._outbox.dropped
