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
from agent.bucket import Bucket, Conflict, Entry
from agent.bus import Bus
from agent.edges import Edge
from agent.errors import FleetError, NotAnswered, NotConnected, PayloadError
from agent.payloads import Inventory, Presence, rfc3339

log = logging.getLogger(__name__)

LIVES: Final = 3  # intervals that a key lives: one refresh may be late, one may be lost
DOWN_FACTOR: Final = 100  # a stopped device is told from a vanished one for this many times longer
STOP_SECONDS: Final = 2.0  # a stop does not wait longer than this to say so
INVENTORY_SECONDS: Final = 300.0  # between looks at the slow-moving facts
RETRY_SECONDS: Final = 2.0  # between attempts while the hub is away


class PresenceTask:
    """Keeps the device's key in `fleet_presence`."""

    def __init__(
        self,
        bus: Bus,
        device: str,
        boot_id: str,
        interval_s: float,
        on_new_hub: Callable[[], None] = lambda: None,
        on_reach: Callable[[bool], None] = lambda reached: None,
    ) -> None:
        """`on_new_hub` is called when the hub's store is another one than before: what it was told is forgotten.
        `on_reach` hears after each sign of life whether the hub took it."""
        self._bucket = Bucket(bus.hub, subjects.BUCKET_PRESENCE)
        self._device = device
        self._boot_id = boot_id
        self._interval_s = interval_s
        self._started = datetime.now(UTC)
        self._seq = 0
        self._edge = Edge(log, "presence")
        self._revision = 0  # of our last put; 0: none yet
        self._rival = False
        self._on_new_hub = on_new_hub
        self._on_reach = on_reach

    async def run(self) -> None:
        """For ever."""
        while True:
            wait_s = self._interval_s
            try:
                await self._put("up")
                self._edge.works()
                self._on_reach(True)
            except FleetError as error:
                self._on_reach(False)
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
        await self._store(body.to_bytes(), ttl_s)

    async def _store(self, body: bytes, ttl_s: float) -> None:
        """Put the key on top of our own last revision; where somebody else wrote meanwhile, look who."""
        revision = 0
        if self._revision:
            with contextlib.suppress(Conflict):
                revision = await self._bucket.update(self._device, body, self._revision, ttl_s=ttl_s)
            self._note_rival(None if revision else await self._bucket.get(self._device))
        revision = revision or await self._bucket.put(self._device, body, ttl_s=ttl_s)
        if revision <= self._revision:  # the numbers of one bucket only grow
            log.warning("the hub has a new store; telling it again who we are")
            self._on_new_hub()
        self._revision = revision

    def _note_rival(self, entry: Entry | None) -> None:
        """Say once that two agents use our id: each would answer, and either would take the device's commands."""
        theirs = _presence(entry)
        rival = theirs is not None and theirs.state == "up" and rfc3339(theirs.started) != rfc3339(self._started)
        if rival and not self._rival:
            assert theirs
            self._rival = True
            log.error(
                "another agent has our device id device=%s boot_id=%s started=%s; set [device] id on one of them",
                self._device,
                theirs.boot_id,
                rfc3339(theirs.started),
            )


def _presence(entry: Entry | None) -> Presence | None:
    """What a key says; None when it expired, or is no presence."""
    try:
        return Presence.from_bytes(entry.value) if entry else None
    except PayloadError:
        return None


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
        self._now = asyncio.Event()

    def again(self) -> None:
        """Put it once more, changed or not, and soon."""
        self._put_digest = ""
        self._now.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self._refresh()
                wait_s = INVENTORY_SECONDS
            except FleetError as error:
                log.debug("inventory waits reason=%r", str(error))
                wait_s = RETRY_SECONDS
            self._now.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._now.wait()

    async def once(self) -> None:
        """Put it now if it changed. Raises FleetError."""
        await self._refresh()

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
