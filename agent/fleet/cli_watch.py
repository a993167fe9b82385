"""`fleet watch`: queries that devices ask themselves, and what they tell of them."""

import asyncio
from argparse import Namespace
from collections.abc import Sequence
from contextlib import aclosing

from agent.fleet.ages import ago
from agent.fleet.cli_query import Rows, check
from agent.fleet.client import Fleet, now
from agent.fleet.exits import Exit
from agent.fleet.following import until
from agent.fleet.output import Output, Table, counted, plain
from agent.fleet.presence import Device
from agent.fleet.watches import Difference, Picture, Registered
from agent.payloads import QueryReply, Watch, rfc3339
from leafnode.base.nearest import hint

WIDTHS = (24, 16, 9, 4)  # of moment, device and event in a table that grows


async def add(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    check(arguments.where, arguments.sql)
    watch = Watch(
        where=arguments.where,
        select=arguments.select,
        sql=arguments.sql,
        key=arguments.key or "",
        every_s=arguments.every,
        hold_s=arguments.hold,
        group=arguments.group or "",
        on=arguments.on or (),
    )
    revision = await fleet.add_watch(arguments.name, watch)
    if output.for_people:
        output.line(f"{arguments.name} is watched (revision {revision}): fleet watch follow {arguments.name}")
    else:
        output.object({"watch": arguments.name, "revision": revision})
    known = await fleet.devices()
    if arguments.group and not any(arguments.group in device.groups for device in known):
        groups = sorted({group for device in known for group in device.groups})
        output.note(f"no known device is in group {arguments.group!r} yet{hint(arguments.group, groups)}")
    return Exit.OK


async def ls(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    moment = now()
    rows = [
        (
            each.name,
            _asked(each.watch),
            each.watch.key,
            each.watch.every_s,
            each.watch.hold_s,
            _whom(each.watch),
            ago(each.at, moment) if output.for_people else rfc3339(each.at),
        )
        for each in await fleet.watches()
    ]
    columns = ("watch", "asks", "key", "every", "hold", "devices", "changed")
    output.table(columns, rows, empty='nothing is watched yet: fleet watch add NAME "FILTER"')
    return Exit.OK


def _asked(watch: Watch) -> str:
    if watch.sql:
        return watch.sql
    return " WHERE ".join(filter(None, (watch.select and f"SELECT {watch.select}", watch.where)))


def _whom(watch: Watch) -> str:
    return ",".join(watch.on) or (f"group {watch.group}" if watch.group else "all")


async def rm(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    await fleet.remove_watch(arguments.name)
    output.note(f"{arguments.name} is no longer watched")
    return Exit.OK


async def show(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    watch, picture = await fleet.watched(arguments.name)
    sink = Rows(output, max(map(len, picture.devices), default=0), watch.watch.select)
    for device, seen in sorted(picture.devices.items()):
        if seen.error:
            output.note(f"{device}: {seen.error}")
            continue
        sink.add(QueryReply(device=device, matched=True, columns=seen.columns, rows=tuple(seen.rows)))
        if not seen.complete:
            output.note(f"{device}: reports are missing; its next full state mends that")
    return _account(output, watch, picture, await fleet.devices())


def _account(output: Output, watch: Registered, picture: Picture, known: Sequence[Device]) -> Exit:
    """Who told what, and of whom nothing was heard; the exit code."""
    meant = {device.id for device in known if watch.watch.concerns(device.id, device.groups)}
    silent = sorted((meant | set(watch.watch.on)) - set(picture.devices))
    failing = sum(bool(seen.error) for seen in picture.devices.values())
    rows = sum(len(seen.rows) for seen in picture.devices.values() if not seen.error)
    damped = sum(seen.damped for seen in picture.devices.values())
    told = len(picture.devices) - failing
    text = f"{counted(rows, 'row')} of {counted(told, 'device')}, {failing} errored, {len(silent)} not heard of"
    if silent:
        text += f" ({', '.join(silent[:3])}{', …' if len(silent) > 3 else ''})"
    output.note(f"{text}, {counted(damped, 'change')} damped")
    if failing:
        return Exit.FAILED
    complete = not silent and all(seen.complete for seen in picture.devices.values())
    return Exit.OK if complete else Exit.INCOMPLETE


async def follow(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    table = output.stream(("at", "device", "event", "text"), widths=WIDTHS)
    async with aclosing(until(stop, fleet.follow_watch(arguments.name))) as differences:
        async for difference in differences:
            _say(difference, output, table)
    return Exit.OK


def _say(difference: Difference, output: Output, table: Table) -> None:
    if output.shape == "json":
        output.object({**difference.fields(), "at": rfc3339(difference.at)})
        return
    text = difference.error or ", ".join(f"{name}={plain(value)}" for name, value in difference.row.items())
    table.row((rfc3339(difference.at), difference.device, difference.event, text))
