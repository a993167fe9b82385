"""`fleet simulate`: devices to try things on, against a hub prepared by `fleet init`."""

import asyncio
import contextlib
from argparse import Namespace

from agent.errors import UsageError
from agent.fleet.client import Fleet
from agent.fleet.exits import Exit
from agent.fleet.output import Output
from agent.simulator import fleet as simulator


async def simulate(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    plan = simulator.Plan(
        devices=arguments.devices,
        profile=arguments.profile,
        off=arguments.off,
        slow=arguments.slow,
        raising=arguments.raising,
        seed=arguments.seed,
        prefix=arguments.prefix,
        interval_s=arguments.interval,
    )
    mine, *others = simulator.slices(plan.devices, arguments.processes)
    fits = simulator.room_for(len(mine))
    if fits < len(mine):
        raise UsageError(f"open files are limited to {fits} devices a process: raise `ulimit -n`, or --processes")
    profile = plan.resolved()
    output.note(
        f"{plan.devices} devices {plan.prefix}-…: {profile.off:.1%} off, {profile.slow:.1%} slow,"
        f" {profile.raising:.1%} raising; Ctrl-C ends them"
    )

    def told(up: int, expected: int) -> None:
        output.progress(f"{up} of {expected} up{' in this process' if others else ''}")

    with simulator.helpers(plan, fleet.hub.bus.options, others):
        playing = asyncio.create_task(simulator.run(plan, fleet.hub.bus.options, mine, told))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({playing, stopping}, timeout=arguments.duration, return_when=asyncio.FIRST_COMPLETED)
        for task in (playing, stopping):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await playing
    output.note(f"{plan.devices} devices are gone")
    return Exit.OK
