"""Follows the bucket of desired configuration, says what is wanted of each item, and reports what came of it.

The bucket is watched where it is nearest: the mirror of a site's leafnode, or the hub. When neither is there, the files
stay as they are: the last good version. What came of each item is reported into `fleet_config_status`; a report that
cannot be delivered is kept, the newest of each item, until it can.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from agent import desired, subjects
from agent.bucket import Bucket, Entry
from agent.bus import Bus
from agent.edges import Edge
from agent.errors import FleetError
from agent.items import Items
from agent.payloads import ConfigStatus, rfc3339
from agent.record import Applied
from agent.settings import Settings

log = logging.getLogger(__name__)

SETTLE_SECONDS: Final = 0.1  # of quiet before a change is applied: layers that come together are merged first
RETRY_SECONDS: Final = 2.0  # between attempts to report


class Configuration:
    """The managed files of one device."""

    def __init__(
        self,
        bus: Bus,
        settings: Settings,
        device: str,
        items: Items,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._bus = bus
        self._device = device
        self._groups = settings.device.groups
        self._items = items
        self._appliers = items.appliers
        self._layers: dict[str, desired.Layer] = {}
        self._unreported: dict[str, ConfigStatus] = {}
        self._report_now = asyncio.Event()
        self._now = now
        self._complete = False
        self._changed: set[str] = set()
        self._apply_now = asyncio.Event()
        self._seen_at: dict[str, datetime] = {}

    def rows(self) -> list[dict[str, Any]]:
        """The table `config`; safe to call from another thread."""
        return [
            {
                "name": name,
                "path": str(applier.item.path or applier.item.hook[0]),
                "state": applier.last.state if applier.last else "pending",
                "revision": applier.last.revision if applier.last else None,
                "digest": applier.last.digest if applier.last else None,
                "error": applier.last.error if applier.last else None,
                "at": rfc3339(self._seen_at[name]) if name in self._seen_at else None,
            }
            for name, applier in self._appliers.items()
        ]

    async def follow(self) -> None:
        """Learn what is desired, now and at each change, for ever."""
        self._items.attach(self._report, self._store)
        try:
            await self._follow()
        finally:
            self._items.detach()

    async def _follow(self) -> None:
        bucket = Bucket(self._bus.local, subjects.BUCKET_CONFIG)
        self.report_again()
        patterns = desired.patterns(self._device, self._groups)
        async with contextlib.aclosing(bucket.watch(*patterns, renewed=self._layers.clear)) as entries:
            async for entry in entries:
                if entry is None:
                    log.info("config complete items=%d layers=%d", len(self._appliers), len(self._layers))
                    self._complete = True
                    self._changed.update(self._appliers)
                else:
                    self._take(entry)
                if self._complete:
                    self._apply_now.set()

    def report_again(self) -> None:
        """Say what every item is like, whether or not it was said before."""
        for name, applier in self._appliers.items():
            if applier.last and applier.last.state != "pending":
                self._report(name, applier.last)

    async def apply(self) -> None:
        """Bring changed items about, for ever. A burst of changes, such as a mirror that fills, is one change."""
        while True:
            await self._apply_now.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            self._apply_now.clear()
            while self._changed:
                name = self._changed.pop()
                keys = desired.keys(name, self._device, self._groups)
                wanted = desired.resolve(self._layers, keys)
                self._items.want(name, desired.judge(wanted, self._layers.get(subjects.config_schema(name))))

    def _take(self, entry: Entry) -> None:
        name = desired.item_of(entry.key)
        if name not in self._appliers:
            return
        self._changed.add(name)
        if entry.is_put:
            self._layers[entry.key] = desired.Layer(entry.key, entry.revision, entry.value)
        else:
            self._layers.pop(entry.key, None)

    def _report(self, name: str, applied: Applied) -> None:
        self._seen_at[name] = self._now()
        self._unreported[name] = self._status(name, applied)
        self._report_now.set()

    def _status(self, name: str, applied: Applied) -> ConfigStatus:
        return ConfigStatus(
            device=self._device,
            name=name,
            state=applied.state,
            revision=applied.revision,
            revisions=applied.revisions,
            digest=applied.digest,
            error=applied.error,
            diff=applied.diff,
            overridden_until=applied.overridden_until,
            at=self._now(),
        )

    async def _store(self, name: str, applied: Applied) -> None:
        """Have the hub store this status: a round trip to its JetStream.

        Raises:
            FleetError: it is out of reach.
        """
        bucket = Bucket(self._bus.hub, subjects.BUCKET_CONFIG_STATUS)
        await bucket.put(subjects.config_status(self._device, name), self._status(name, applied).to_bytes())

    async def report(self) -> None:
        """Deliver reports, for ever."""
        bucket = Bucket(self._bus.hub, subjects.BUCKET_CONFIG_STATUS)
        edge = Edge(log, "config status")
        while True:
            await self._report_now.wait()
            self._report_now.clear()
            for name, status in list(self._unreported.items()):
                try:
                    await bucket.put(subjects.config_status(self._device, name), status.to_bytes())
                except FleetError as error:
                    edge.failed(error)
                    self._report_now.set()
                    await asyncio.sleep(RETRY_SECONDS)
                    break
                if self._unreported.get(name) is status:
                    del self._unreported[name]
                edge.works()
