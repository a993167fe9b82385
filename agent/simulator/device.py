"""One simulated device: the agent's query service, presence and inventory, and a link that comes and goes."""

import asyncio
import contextlib
import math
import random
import time
from typing import Final

from agent import identity
from agent.answering import QueryService
from agent.bus import Bus, BusOptions
from agent.errors import FleetError
from agent.facts.table import Facts
from agent.jetstream import Message
from agent.payloads import QueryReply
from agent.presence import InventoryTask, PresenceTask
from agent.settings import Query
from agent.simulator.profile import Part, Profile, facts
from leafnode import __version__

TIME_LIMIT_MS: Final = 5000  # for one expression: thousands of devices share a processor here, a real one has its own
INVENTORY: Final = ("os", "host", "cpu", "net", "pi")


class LateService(QueryService):
    """Answers after a while, as over a slow link."""

    delay_s = 0.0

    async def _reply(self, message: Message, reply: QueryReply) -> None:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        await super()._reply(message, reply)


class SimulatedDevice:
    """Lives until cancelled; `up` says whether it is connected now."""

    def __init__(self, part: Part, profile: Profile, options: BusOptions, interval_s: float, seed: str) -> None:
        self.part = part
        self.up = False
        self._profile = profile
        self._options = options
        self._interval_s = interval_s
        self._random = random.Random(f"{seed}/{part.number}/link")
        self._facts = facts(part, seed, __version__, time.monotonic)

    async def live(self, connecting: asyncio.Semaphore) -> None:
        """Connect, be a device, lose the link, and again, for ever. `connecting` bounds how many connect at once."""
        while True:
            with contextlib.suppress(FleetError):
                async with connecting:
                    bus = await Bus.open(self._options)
                    inventory = self._inventory(bus)
                    try:
                        service = await self._serve(bus)
                    except BaseException:
                        await bus.close()
                        raise
                try:
                    await self._session(bus, service, inventory)
                finally:
                    self.up = False
                    await service.stop()
                    await bus.close()
            if self.part.off:
                return
            await asyncio.sleep(self._drawn(self._profile.down_s))

    async def _serve(self, bus: Bus) -> LateService:
        service = LateService(bus, self.part.id, self.part.groups, Query(time_limit_ms=TIME_LIMIT_MS), self._facts)
        service.delay_s = self.part.delay_s
        if not self.part.off:
            await service.start(__version__)
        return service

    def _inventory(self, bus: Bus) -> InventoryTask:
        return InventoryTask(
            bus, self.part.id, self.part.groups, self.part.tags, __version__, lambda: slow_facts(self._facts)
        )

    async def _session(self, bus: Bus, service: LateService, inventory: InventoryTask) -> None:
        if self.part.off:
            await inventory.once()
            return
        presence = PresenceTask(bus, self.part.id, identity.boot_id(), self._interval_s)
        self.up = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._until_lost()), asyncio.TaskGroup() as group:
                group.create_task(presence.run())
                group.create_task(inventory.run())

    def _until_lost(self) -> float | None:
        return None if math.isinf(self._profile.up_s) else self._drawn(self._profile.up_s)

    def _drawn(self, mean: float) -> float:
        return self._random.expovariate(1 / mean) if mean else 0.0


def slow_facts(known: Facts) -> dict[str, object]:
    return known.document(INVENTORY)
