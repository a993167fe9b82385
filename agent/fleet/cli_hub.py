"""`fleet init` and `fleet site`: what the hub holds and whom it collects from."""

import asyncio
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from agent.fleet.ages import duration
from agent.fleet.client import Fleet
from agent.fleet.exits import Exit
from agent.fleet.output import Output

if TYPE_CHECKING:
    from agent.fleet.provision import Step

USUAL_DOMAIN: Final = "hub"  # what agents and leafnodes expect unless their settings say otherwise


async def init(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    steps = await fleet.init()
    for site in arguments.site:
        steps += await fleet.add_site(site)
    domain = await fleet.hub_domain()
    if domain != USUAL_DOMAIN:
        output.note(
            f"warning: the hub's JetStream domain is {domain or 'not set'}: sites look for {USUAL_DOMAIN!r} unless "
            f"their settings say otherwise; set `jetstream {{ domain: {USUAL_DOMAIN} }}` there to collect from sites"
        )
    return _report(steps, output)


async def site_add(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    return _report(await fleet.add_site(arguments.site), output)


async def site_rm(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    return _report(await fleet.remove_site(arguments.site), output)


async def site_ls(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    sources = await fleet.sites()
    rows = [
        (
            source.domain,
            source.stream,
            source.behind,
            None if source.idle_seconds is None else f"{duration(source.idle_seconds)} ago",
            source.error or None,
        )
        for source in sources
    ]
    columns = ("site", "stream", "behind", "heard", "error")
    output.table(columns, rows, empty="no sites: add one with `fleet site add DOMAIN`")
    return Exit.FAILED if any(source.error for source in sources) else Exit.OK


def _report(steps: Sequence["Step"], output: Output) -> Exit:
    output.table(("what", "done", "detail"), [(step.name, step.what, step.detail or None) for step in steps])
    conflicts = [step for step in steps if step.what == "conflict"]
    if conflicts:
        output.note(
            f"{len(conflicts)} of {len(steps)} cannot be used as they are: change or delete them on the hub (see docs/"
            "fleet-protocol.md), then run `fleet init` again"
        )
    return Exit.FAILED if conflicts else Exit.OK
