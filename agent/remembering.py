"""The device's past: samples at an interval, committed together, off the event loop."""

import asyncio
import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from agent.edges import Edge
from agent.errors import FleetError
from agent.facts.history import History, samples
from agent.facts.table import Facts
from agent.settings import History as HistorySettings

log = logging.getLogger(__name__)


class HistoryTask:
    """Samples and commits, for ever."""

    def __init__(self, history: History, facts: Facts, settings: HistorySettings) -> None:
        self._history = history
        self._facts = facts
        self._settings = settings
        self._tables = [name for name in settings.tables if name in facts]
        for name in unknown(settings.tables, facts):
            log.warning("history table not known name=%s known=%s", name, ",".join(facts.names()))

    async def run(self) -> None:
        """At the interval, without drift; a write that fails is said once, and the next is tried."""
        edge = Edge(log, "history")
        due = committed = time.monotonic()
        while True:
            await asyncio.to_thread(self._take)
            if time.monotonic() - committed >= self._settings.commit_s:
                committed = time.monotonic()
                try:
                    await asyncio.to_thread(self._history.flush)
                    edge.works()
                except FleetError as error:
                    edge.failed(error)
            due = max(due + self._settings.interval_s, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    def _take(self) -> None:
        try:
            self._history.add(list(samples(self._facts, self._tables, datetime.now(UTC))))
        except FleetError as error:  # a custom table that cannot be had now
            log.info("sample not taken reason=%r", str(error))


def unknown(names: Iterable[str], facts: Facts) -> list[str]:
    """Names that are no table."""
    return [name for name in names if name not in facts]
