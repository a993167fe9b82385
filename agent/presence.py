"""Who is there: a key that expires unless it is refreshed, and an inventory that changes when the device does.

Expiry leaves a marker in the bucket: the last will of a device that lost its power. An orderly stop says so instead.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal

from agent import subjects
from agent.bucket import Bucket
from agent.bus import Bus
from agent.edges import Edge
from agent.errors import FleetError, NotAnswered, NotConnected
from agent.payloads import Inventory, Presence

log = logging.getLogger(__name__)

LIVES: Final = 3  # intervals that a key lives: one refresh may be late, one may be lost
DOWN_FACTOR: Final = 100  # a stopped device is told from a vanished one for this many times longer
STOP_SECONDS: Final = 2.0  # a stop does not wait longer than this to say so
INVENTORY_SECONDS: Final = 300.0  # between looks at the slow-moving facts
RETRY_SECONDS: Final = 2.0  # between attempts while the hub is away


class PresenceTask:
    """Keeps the device's key in `fleet_presence`."""

    def __init__(self, bus: Bus, device: str, boot_id: str, interval_s: float) -> None:
        self._bucket = Bucket(bus.hub, subjects.BUCKET_PRESENCE)
        self._device = device
        self._boot_id = boot_id
        self._interval_s = interval_s
        self._started = datetime.now(UTC)
        self._seq = 0
        self._edge = Edge(log, "presence")

    async def run(self) -> None:
        """For ever."""
        while True:
            wait_s = self._interval_s
            try:
                await self._put("up")
                self._edge.works()
            except FleetError as error:
                self._edge.failed(f"{error}; a hub is prepared by: fleet init" if _is_missing(error) else error)
                wait_s = min(RETRY_SECONDS, wait_s)
            await asyncio.sleep(wait_s)

    async def stopped(self, reason: str) -> None:
        """Say that this is an orderly stop; a hub that is away does not hold it up."""
        with contextlib.suppress(FleetError, TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._put("down", reason)

    async def _put(self, state: Literal["up", "down"], reason: str = "") -> None:
        self._seq += 1
        body = Presence(
            device=self._device,
            boot_id=self._boot_id,
            started=self._started,
            seq=self._seq,
            interval_s=self._interval_s,
            state=state,
            reason=reason,
        )
        ttl_s = self._interval_s * LIVES * (DOWN_FACTOR if state == "down" else 1)
        await self._bucket.put(self._device, body.to_bytes(), ttl_s=ttl_s)


class InventoryTask:
    """Keeps the device's key in `fleet_devices`."""

    def __init__(
        self,
        bus: Bus,
        device: str,
        groups: tuple[str, ...],
        tags: dict[str, str],
        version: str,
        facts: Callable[[], dict[str, Any]],
    ) -> None:
        self._bucket = Bucket(bus.hub, subjects.BUCKET_DEVICES)
        self._device = device
        self._groups = groups
        self._tags = tags
        self._version = version
        self._facts = facts
        self._put_digest = ""

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self._refresh()
                wait_s = INVENTORY_SECONDS
            except FleetError as error:
                log.debug("inventory waits reason=%r", str(error))
                wait_s = RETRY_SECONDS
            await asyncio.sleep(wait_s)

    async def _refresh(self) -> None:
        facts = await asyncio.to_thread(self._facts)
        digest = digest_of({"facts": facts, "groups": self._groups, "tags": self._tags, "version": self._version})
        if digest == self._put_digest:
            return
        body = Inventory(
            device=self._device,
            digest=digest,
            groups=self._groups,
            tags=self._tags,
            agent_version=self._version,
            facts=facts,
            seen=datetime.now(UTC),
        )
        await self._bucket.put(self._device, body.to_bytes())
        self._put_digest = digest


def _is_missing(error: FleetError) -> bool:
    """Whether the bucket itself may be absent: connected, and yet nobody takes what is put."""
    return isinstance(error, NotAnswered) and not isinstance(error, NotConnected)


def digest_of(values: Any) -> str:
    """The same for equal values, whatever their order of keys."""
    return f"sha256:{hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()}"
