"""A simulated fleet: many devices in this process, or in several when one processor is not enough."""

import asyncio
import contextlib
import itertools
import multiprocessing
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from agent.bus import BusOptions
from agent.simulator.device import SimulatedDevice
from agent.simulator.profile import PROFILES, Profile, parts

T = TypeVar("T")
CONNECTING: Final = (
    50  # at once in one process: a hub takes a few thousand connections a second, a laptop's Python fewer
)
SPARE_FILES: Final = 100  # file descriptors besides one for each device
LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which devices, and how they live."""

    devices: int
    profile: str = "healthy"
    off: float | None = None
    """Replace the shares of the profile."""
    slow: float | None = None
    raising: float | None = None
    seed: str = "fleetleaf"
    prefix: str = "sim"
    interval_s: float = 10.0
    """Between two signs of life."""

    def resolved(self) -> Profile:
        """Raises KeyError for an unknown profile."""
        given = {name: getattr(self, name) for name in ("off", "slow", "raising") if getattr(self, name) is not None}
        return replace(PROFILES[self.profile], **given)


class Inline(ThreadPoolExecutor):
    """Runs what it is given at once: threads for thousands of devices would only take the turn from each other."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


def room_for(devices: int) -> int:
    """Raise the limit of open files as far as it may go; how many devices fit then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = devices + SPARE_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft - SPARE_FILES


async def run(plan: Plan, options: BusOptions, numbers: range, told: Callable[[int, int], None]) -> None:
    """Be the devices with these numbers until cancelled; `told(up, expected)` hears whenever their number changes."""
    asyncio.get_running_loop().set_default_executor(Inline(1))
    profile = plan.resolved()
    chosen = [part for part in parts(plan.devices, profile, plan.seed, plan.prefix) if part.number in numbers]
    devices = [
        SimulatedDevice(part, profile, replace(options, name=part.id), plan.interval_s, plan.seed) for part in chosen
    ]
    connecting = asyncio.Semaphore(CONNECTING)
    expected = sum(not part.off for part in chosen)
    async with asyncio.TaskGroup() as group:
        for device in devices:
            group.create_task(device.live(connecting), name=device.part.id)
        before = -1
        while True:
            up = sum(device.up for device in devices)
            if up != before:
                told(up, expected)
                before = up
            await asyncio.sleep(LOOK_SECONDS)


def slices(devices: int, processes: int) -> list[range]:
    """Who plays whom."""
    bounds = [devices * part // processes for part in range(processes + 1)]
    return [range(begin, end) for begin, end in itertools.pairwise(bounds)]


@contextlib.contextmanager
def helpers(plan: Plan, options: BusOptions, others: Sequence[range]) -> Iterator[None]:
    """Further processes for the other slices; ended with the block."""
    context = multiprocessing.get_context("spawn")
    started = [context.Process(target=_helper, args=(plan, options, numbers), daemon=True) for numbers in others]
    for process in started:
        process.start()
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.join()


def _helper(plan: Plan, options: BusOptions, numbers: range) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first process, which ends us
    room_for(len(numbers))
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(run(plan, options, numbers, lambda up, expected: None))
