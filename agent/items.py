"""The configured items of a device, for as long as the agent runs: with a broker, without one, between two connections.

What is wanted comes from whoever follows the bucket, and what came of it goes to him. Only this outlives a connection:
a change that cuts the link must be undone by somebody who does not need the link.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from agent.apply import FileApplier
from agent.desired import Desired, overlay
from agent.errors import FleetError
from agent.hook import HookApplier
from agent.override import Override
from agent.override import read as read_override
from agent.payloads import rfc3339
from agent.record import Applied
from agent.settings import Item

log = logging.getLogger(__name__)

PROBE_SECONDS: Final = 5.0  # for one attempt to reach the hub: a link that is being set up loses the first one
DRIFT_SECONDS: Final = 30.0  # between looks for changes by hand: one stat of each file
OVERRIDE_SECONDS: Final = 1.0  # between looks for local overrides: somebody stands there and waits
LOOK_SECONDS: Final = 0.5  # between attempts

Told = Callable[[str, Applied], None]
Reach = Callable[[str, Applied], Awaitable[None]]


class Items:
    """Brings about what is wanted of each item, one change of an item at a time."""

    def __init__(self, items: Mapping[str, Item], state_dir: Path, drift_s: float = DRIFT_SECONDS) -> None:
        self._drift_s = drift_s
        self.appliers: dict[str, FileApplier | HookApplier] = {
            name: (HookApplier if item.hook else FileApplier)(name, item, state_dir) for name, item in items.items()
        }
        self._state_dir = state_dir
        self._fleets: dict[str, Desired] = {}
        """What the fleet wants; `_wanted` is that with the local overrides on it."""
        self._overrides: dict[str, Override | None] = {}
        self._wanted: dict[str, Desired] = {}
        self._wake = asyncio.Event()
        self._unconfirmed = asyncio.Event()
        self._unconfirmed.set()
        self._told: Told | None = None
        self._reach: Reach | None = None

    def attach(self, told: Told, reach: Reach) -> None:
        """From now on `told` hears what came of each attempt. `reach` stores that status at the hub, or raises
        FleetError: having done so is what confirms a change that could have cut the link."""
        self._told, self._reach = told, reach

    def detach(self) -> None:
        """The connection ended; what is under way goes on."""
        self._told = self._reach = None

    def want(self, name: str, desired: Desired) -> None:
        """Have the item like this, as soon as it can be."""
        self._fleets[name] = desired
        self._overrides[name] = override = read_override(self._state_dir, name)
        self._wanted[name] = overlay(desired, override.values, rfc3339(override.until)) if override else desired
        self._wake.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._apply(), name="config apply")
            group.create_task(self._confirm(), name="config confirm")
            group.create_task(self._look(), name="config drift")
            group.create_task(self._follow_overrides(), name="config overrides")

    async def _apply(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for name in list(self._wanted):
                if not self.appliers[name].unconfirmed:  # else when that is settled: the old file is of one change
                    await self._apply_one(name, self._wanted.pop(name))

    async def _apply_one(self, name: str, wanted: Desired) -> None:
        applier = self.appliers[name]
        try:
            async with applier.lock:
                applied = await applier.apply(wanted)
        except OSError as error:
            log.error("config not applied item=%s reason=%r", name, str(error))
            reason = f"cannot be recorded: {error}"
            applied = Applied(state="refused", revision=wanted.revision, revisions=wanted.revisions, error=reason)
        self._unconfirmed.set()
        self._tell(name, applied)

    async def _confirm(self) -> None:
        """Confirm or undo changes that could have cut the link."""
        while True:
            waiting = [each for each in self.appliers.values() if isinstance(each, FileApplier) and each.unconfirmed]
            if not waiting:
                await self._unconfirmed.wait()
                self._unconfirmed.clear()
                continue
            for applier in waiting:
                await self._confirm_one(applier)
            await asyncio.sleep(LOOK_SECONDS)

    async def _confirm_one(self, applier: FileApplier) -> None:
        reason = await self._not_reached(applier)
        try:
            async with applier.lock:
                applied = await applier.confirm(reason)
        except OSError as error:  # the record cannot be written: what it says still holds, and this is tried again
            log.error("config not confirmed item=%s reason=%r", applier.name, str(error))
            return
        if applied is not None:
            self._wake.set()
            self._tell(applier.name, applied)

    async def _look(self) -> None:
        """Notice changes by hand; from the start, as they may have been made while no agent ran."""
        while True:
            for name, applier in self.appliers.items():
                await self._look_one(name, applier)
            await asyncio.sleep(self._drift_s)

    async def _look_one(self, name: str, applier: FileApplier | HookApplier) -> None:
        try:
            async with applier.lock:
                applied = await applier.look()
        except OSError as error:
            log.error("config not looked after item=%s reason=%r", name, str(error))
            return
        if applied is not None:
            self._unconfirmed.set()
            self._tell(name, applied)

    async def _follow_overrides(self) -> None:
        """Notice local overrides that come, change and end."""
        while True:
            for name, desired in list(self._fleets.items()):
                if read_override(self._state_dir, name) != self._overrides[name]:
                    self.want(name, desired)
            await asyncio.sleep(OVERRIDE_SECONDS)

    async def _not_reached(self, applier: FileApplier) -> str:
        """Why the hub was not reached after the change; empty when it was."""
        if not applier.may_confirm or applier.last is None:
            return "it is too early to tell"
        if self._reach is None:
            return "there is no broker to ask"
        try:
            async with asyncio.timeout(min(PROBE_SECONDS, applier.left_s() + LOOK_SECONDS)):
                await self._reach(applier.name, applier.last)
        except FleetError as error:
            return str(error)
        except TimeoutError:
            return "no answer"
        return ""

    def _tell(self, name: str, applied: Applied | None) -> None:
        if applied is not None and self._told is not None:
            self._told(name, applied)
