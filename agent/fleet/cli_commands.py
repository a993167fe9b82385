"""`fleet run`, `fleet commands` and `fleet result`: things to be done on devices, and what became of them."""

import asyncio
import shlex
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.errors import UsageError
from agent.fleet.accounting import named, whereabouts
from agent.fleet.ages import ago
from agent.fleet.client import Fleet, Running, now
from agent.fleet.exits import Exit, worst
from agent.fleet.output import Output, counted
from agent.fleet.tracking import STATES, Result, exit_code
from agent.payloads import rfc3339


async def run(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    running = await fleet.run(
        arguments.words + (arguments.command_line or []),
        on=arguments.on,
        group=arguments.group,
        where=arguments.where,
        everyone=arguments.all,
        **terms(arguments),
    )
    asked = running.asked
    if asked and (asked.absent or asked.unmatched):
        output.note(f"chosen by filter: {asked.summary()}")
    results = running.tracker.results()
    if arguments.detach:
        if output.shape == "json":
            output.object({"command": running.command, "devices": [each.device for each in results]})
        else:
            output.line(running.command)
        output.note(f"sent to {counted(len(results), 'device')}; see: fleet result {running.command}")
        return Exit.OK
    output.note(f"command {running.command} sent to {counted(len(results), 'device')}")
    async for result in running.follow(arguments.wait, stop):
        if result.done:
            show(result, output, alone=len(results) == 1)
        output.progress(running.tracker.progress())
    return _finish(running, output, interrupted=stop.is_set())


def _finish(running: Running, output: Output, *, interrupted: bool) -> Exit:
    results = running.tracker.results()
    late = {each.device: f"{each.state}, {_where(running, each.device)}" for each in results if not each.done}
    if output.shape == "json":
        for each in results:
            if not each.done:
                output.object(each.fields())
    output.note(f"{running.tracker.progress()}{named(late)}")
    if interrupted:
        output.note("interrupted: the command was not taken back")
    if late:
        output.note(f"later: fleet result {running.command}")
    code = exit_code(each.state for each in results)
    return worst(code, Exit.INTERRUPTED) if interrupted else code


def _where(running: Running, device_id: str) -> str:
    device = running.devices.get(device_id)
    return whereabouts(device, now()) if device else "not known yet"


def terms(arguments: Namespace) -> dict[str, Any]:
    """The command's conditions, as fields of payloads.Command."""
    env = {}
    for pair in arguments.env:
        key, separator, value = pair.partition("=")
        if not (key and separator):
            raise UsageError(f"--env {pair!r} is not KEY=VALUE: write for example --env LANG=C")
        env[key] = value
    return {
        "timeout_s": arguments.timeout,
        "cwd": arguments.cwd,
        "env": env,
        "stdin": _content(arguments.stdin) if arguments.stdin else None,
        "on_unknown": arguments.on_unknown,
        "not_after": now() + arguments.expires if arguments.expires else None,
    }


def _content(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--stdin {name} cannot be read as UTF-8 text: {error}") from error


def show(result: Result, output: Output, *, alone: bool = False) -> None:
    """One device's outcome with its output: on stdout what the command wrote there, its stderr on ours."""
    if output.shape == "json":
        output.object(result.fields())
        return
    if not alone or result.state != "succeeded":
        output.line(f"{result.device}: {headline(result)}")
    for line in result.stdout.splitlines():
        output.line(line if alone else f"  {line}")
    for line in result.stderr.splitlines():
        output.note(line if alone else f"  {result.device}: {line}")
    if result.truncated:
        output.note(f"{result.device}: its output was longer than a device sends")


def headline(result: Result) -> str:
    """`succeeded in 1.2 s`, `failed, exit code 3`, `refused: …`."""
    text = result.state
    if result.exit_code:
        text += f", exit code {result.exit_code}" if result.exit_code > 0 else f", signal {-result.exit_code}"
    if result.started and result.finished:
        text += f" in {(result.finished - result.started).total_seconds():.1f} s"
    if result.attempt > 1:
        text += f", attempt {result.attempt}"
    return f"{text}: {result.error}" if result.error else text


async def commands(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    moment = now()
    rows = []
    for job in await fleet.commands(moment - arguments.since, arguments.limit):
        counts = Counter(each.state for each in job.results)
        states: Any = {state: counts[state] for state in STATES if counts[state]}
        if output.shape != "json":
            states = ", ".join(f"{number} {state}" for state, number in states.items())
        at = (ago(job.at, moment) if output.for_people else rfc3339(job.at)) if job.at else None
        devices = [each.device for each in job.results]
        shown: Any = devices if output.shape == "json" else _few(devices)
        rows.append((job.command, at, states, shown, shlex.join(job.argv) or None))
    output.table(("command", "since", "states", "devices", "argv"), rows, empty="no commands in this time: --since 7d")
    return Exit.OK


def _few(devices: Sequence[str], most: int = 3) -> str:
    more = f" +{len(devices) - most}" if len(devices) > most else ""
    return ",".join(devices[:most]) + more


async def result(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    found = await fleet.results(arguments.id, arguments.device)
    if output.shape == "csv":
        columns = list(found[0].fields())
        output.table(columns, [list(each.fields().values()) for each in found])
    else:
        for each in found:
            show(each, output)
    return exit_code(each.state for each in found)
