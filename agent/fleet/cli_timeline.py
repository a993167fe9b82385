"""`fleet timeline` and `fleet events`: what happened to a device, and what happens to the fleet."""

import asyncio
from argparse import Namespace
from contextlib import aclosing

from agent.fleet import timeline as past
from agent.fleet.client import Fleet, now
from agent.fleet.exits import Exit
from agent.fleet.following import until
from agent.fleet.output import Output
from agent.payloads import rfc3339

WIDTHS = (24, 16, 9, 4)  # of moment, device and event in a table that grows


async def timeline(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    device = await fleet.device(arguments.device)
    found = await past.timeline(fleet.hub, device.id, now() - arguments.since)
    rows = [(rfc3339(each.at), each.event, each.text) for each in found]
    output.table(("at", "event", "text"), rows, empty=f"nothing is known of {device.id} in this time")
    return Exit.OK


async def events(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    table = output.stream(("at", "device", "event", "text"), widths=WIDTHS)
    async with aclosing(until(stop, past.follow(fleet.hub))) as happenings:
        async for happening in happenings:
            table.row((rfc3339(happening.at), happening.device, happening.event, happening.text))
    return Exit.OK
