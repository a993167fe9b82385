"""Commands at the hub: send to devices, follow what they report, look back.

A command is stored once per device in the work queue; a device takes its own when it can, today or next week. The same
id goes to all devices of one `fleet run`, so that one word names the whole job afterwards.
"""

import asyncio
import getpass
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from agent import subjects
from agent.errors import UsageError
from agent.fleet.hub import Hub
from agent.fleet.reading import Stored
from agent.fleet.tracking import Result, Tracker, fold, parse_result
from agent.payloads import Command, rfc3339
from leafnode.base import nuid

WAIT_SECONDS: Final = 90.0  # how long we wait for outcomes: the command's own time and some to be delivered
SEND_AT_ONCE: Final = 64  # publishes under way; the hub answers each after storing it
LOOK_SECONDS: Final = 0.5  # how often a wait looks at the clock and at Ctrl-C
LOOK_BACK: Final = timedelta(days=1)


def whoami() -> str:
    """user@host of the operator, for the record."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


async def send(hub: Hub, targets: Sequence[str], argv: Sequence[str], **terms: Any) -> str:
    """Store the command for every target; returns its id once all are stored. `terms` are fields of payloads.Command.

    Raises:
        ApiError, ConnectionFailed: some may be stored; the message says for whom it is not.
    """
    if not argv:
        raise UsageError("no command given: write it after `--`, e.g. fleet run --on pi-1 -- uptime")
    if not targets:
        raise UsageError("no device to send the command to: look at `fleet ls`")
    command = Command(id=nuid.new(), argv=tuple(argv), issued=datetime.now(UTC), issued_by=whoami(), **terms)
    body = command.to_bytes()
    for start in range(0, len(targets), SEND_AT_ONCE):
        some = targets[start : start + SEND_AT_ONCE]
        await asyncio.gather(*(_send_one(hub, device, command.id, body) for device in some))
    return command.id


async def _send_one(hub: Hub, device: str, command: str, body: bytes) -> None:
    headers = {"Nats-Msg-Id": f"{command}.{device}"}
    await hub.publish(subjects.command(device, command), body, headers)


async def follow(
    hub: Hub, tracker: Tracker, *, seconds: float = WAIT_SECONDS, stop: asyncio.Event | None = None
) -> AsyncIterator[Result]:
    """Yield each change of state until no device worth waiting for is left, time is over, or `stop` is set."""
    pattern = subjects.results_of("*", tracker.command)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    async with hub.reader(subjects.STREAM_RESULTS, pattern, patient=True, deliver_policy="all") as reader:
        while tracker.pending() and not (stop and stop.is_set()):
            left = deadline - loop.time()
            if left <= 0:
                return
            stored = await reader.next(min(left, LOOK_SECONDS))
            result = _result(stored) if stored else None
            if result and tracker.report(result):
                yield result


def _result(stored: Stored) -> Result:
    device, command = subjects.device_and_command(stored.subject)
    return parse_result(command, device, stored.body, stored.stored)


async def results(hub: Hub, command: str, device: str | None = None) -> list[Result]:
    """Where one command stands on every device that was sent it, by device. UsageError if nobody knows it."""
    subjects.check_name(command, "command id")
    pattern = subjects.results_of(device or "*", command)
    reported = await hub.snapshot(subjects.STREAM_RESULTS, pattern, deliver_policy="all")
    found = {result.device: result for result in fold(_result(each) for each in reported)}
    queued = await _queued(hub, f"fleet.cmd.{device or '*'}.{command}")
    for result in queued:
        found.setdefault(result.device, result)
    if not found:
        raise UsageError(f"no command {command} is known{f' for {device}' if device else ''}: see `fleet commands`")
    return [found[each] for each in sorted(found)]


async def _queued(hub: Hub, pattern: str) -> list[Result]:
    """Commands still in the work queue. They are counted, not read: reading would take them away from devices."""
    waiting = [
        subjects.device_and_command(subject) for subject in await hub.subjects(subjects.STREAM_COMMANDS, pattern)
    ]
    return [Result(command=command, device=device, state="queued") for device, command in waiting]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One command over all its devices."""

    command: str
    argv: tuple[str, ...]
    """As devices reported it, or as it waits in the work queue."""

    at: datetime | None
    results: tuple[Result, ...]


async def recent(hub: Hub, since: datetime, limit: int) -> list[Job]:
    """Commands that are queued or were heard of since then, the newest last."""
    reported = await hub.snapshot(
        subjects.STREAM_RESULTS, subjects.RESULTS_ALL, deliver_policy="by_start_time", opt_start_time=rfc3339(since)
    )
    known = {(each.command, each.device): each for each in fold(_result(each) for each in reported)}
    for result in await _queued(hub, subjects.COMMANDS_ALL):
        known.setdefault((result.command, result.device), result)
    by_command: dict[str, list[Result]] = {}
    for result in known.values():
        by_command.setdefault(result.command, []).append(result)
    jobs = [await _job(hub, command, found) for command, found in by_command.items()]
    jobs.sort(key=lambda job: job.at or datetime.min.replace(tzinfo=UTC))
    return jobs[-limit:]


async def _job(hub: Hub, command: str, found: Iterable[Result]) -> Job:
    results_ = tuple(sorted(found, key=lambda result: result.device))
    argv = next((result.argv for result in results_ if result.argv), ())
    at = min((result.stored for result in results_ if result.stored), default=None)
    waiting = next((result.device for result in results_ if result.state == "queued"), None)
    if waiting:
        stored = await hub.last(subjects.STREAM_COMMANDS, subjects.command(waiting, command))
        body = stored.json() if stored else {}
        argv = argv or tuple(str(word) for word in body.get("argv") or ())
        at = min(filter(None, (at, stored.stored if stored else None)), default=None)
    return Job(command=command, argv=argv, at=at, results=results_)
