"""What the agent knows of itself: its tags and groups, its managed files, the commands it ran."""

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from agent.facts import system
from agent.facts.table import Table, many, single
from agent.payloads import CommandResult, rfc3339

AGENT: Final = {
    "device": "its id",
    "version": "of the agent",
    "started": "when the agent did",
    "pid": "process id",
    "rss": "resident bytes",
    "uptime_s": "seconds since it started",
}
TAG: Final = {"name": "free name", "value": "text; in a filter also `tag.NAME`"}
GROUPS: Final = {"name": "of the group; the later one's configuration wins"}
CONFIG: Final = {
    "name": "of the managed item",
    "path": "of the file",
    "state": "`applied`, `refused`, `reverted`, `pending`",
    "revision": "highest revision among the layers merged",
    "digest": "of the file's content, sha256",
    "error": "why not",
    "at": "when it was found",
}
COMMAND: Final = {
    "id": "of the command",
    "outcome": "`succeeded`, `failed`, `timed_out`, `unknown`, `refused`, `expired`",
    "exit_code": "of the program",
    "started": "when",
    "finished": "when",
    "attempt": "1 unless it was tried again",
    "error": "why it did not run or end well",
}


def tables(
    device: str,
    version: str,
    started: datetime,
    groups: Iterable[str],
    tags: Mapping[str, str],
    configured: Callable[[], Iterable[Mapping[str, Any]]],
    commanded: Callable[[], Iterable[CommandResult]],
) -> list[Table]:
    """`configured` and `commanded` are asked at every question."""
    named = list(tags.items())
    members = [(group,) for group in groups]
    return [
        single("agent", lambda: _agent(device, version, started), AGENT, "the agent"),
        Table("tag", tuple(TAG), False, lambda: named, "one tag", TAG),
        Table("groups", tuple(GROUPS), False, lambda: members, "one group of the device", GROUPS),
        many("config", configured, CONFIG, "one managed file"),
        many("command", lambda: map(_command, commanded()), COMMAND, "one command, of the newest 50"),
    ]


def _agent(device: str, version: str, started: datetime) -> dict[str, Any]:
    return {
        "device": device,
        "version": version,
        "started": rfc3339(started),
        "pid": os.getpid(),
        "rss": system.own_rss(),
        "uptime_s": int((datetime.now(UTC) - started).total_seconds()),
    }


def _command(result: CommandResult) -> dict[str, Any]:
    return {
        "id": result.id,
        "outcome": result.outcome,
        "exit_code": result.exit_code,
        "started": rfc3339(result.started) if result.started else None,
        "finished": rfc3339(result.finished) if result.finished else None,
        "attempt": result.attempt,
        "error": result.error,
    }
