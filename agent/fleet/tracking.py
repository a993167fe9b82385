"""What became of a command on each device. Pure: result messages come in, states come out.

queued      sent, and nothing was heard: the device is away, or has not got to it
running     it said `started`
succeeded, failed, timed_out, unknown, refused, expired    the outcome it reported; it never changes again
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agent.errors import PayloadError
from agent.fleet.exits import Exit
from agent.payloads import CommandResult, rfc3339

OUTCOMES: Final = ("succeeded", "failed", "timed_out", "unknown", "refused", "expired")
STATES: Final = (*OUTCOMES, "running", "queued")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One step of one command on one device, as reported."""

    command: str
    device: str
    state: str
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""
    truncated: bool = False
    started: datetime | None = None
    finished: datetime | None = None
    attempt: int = 1
    error: str = ""
    stored: datetime | None = None
    argv: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        return self.state in OUTCOMES

    def fields(self) -> dict[str, Any]:
        """For programs: one flat object."""
        return {
            "command": self.command,
            "device": self.device,
            "state": self.state,
            "exit_code": self.exit_code,
            "stdout": self.stdout,
            "stderr": self.stderr,
            "truncated": self.truncated,
            "started": _moment(self.started),
            "finished": _moment(self.finished),
            "attempt": self.attempt,
            "error": self.error,
        }


def _moment(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None


def parse_result(command: str, device: str, body: bytes, stored: datetime | None = None) -> Result:
    """A step from its message body; what cannot be read is an `unknown` outcome that says why, never an exception."""
    try:
        step = CommandResult.from_bytes(body)
    except PayloadError as error:
        return Result(command=command, device=device, state="unknown", error=str(error), stored=stored)
    running = step.step == "started"
    return Result(
        command=command,
        device=device,
        state="running" if running else step.outcome or "unknown",
        exit_code=None if running else step.exit_code,
        stdout=step.stdout,
        stderr=step.stderr,
        truncated=step.truncated,
        started=step.started,
        finished=step.finished,
        attempt=step.attempt,
        error=step.error,
        stored=stored,
        argv=step.argv,
    )


class Tracker:
    """Follows one command on the devices it was sent to."""

    def __init__(self, command: str, targets: Iterable[str], up: Iterable[str] = ()) -> None:
        self.command = command
        self._results = {device: Result(command=command, device=device, state="queued") for device in targets}
        self._up = set(up)

    def report(self, result: Result) -> bool:
        """Take a step; True when it changed the device's state. A late `started` never undoes an outcome."""
        before = self._results.get(result.device)
        if before is not None and (before.done or before.state == result.state):
            return False
        self._results[result.device] = result
        return True

    def results(self) -> list[Result]:
        """The latest step of every device, by device."""
        return [self._results[device] for device in sorted(self._results)]

    def pending(self) -> list[str]:
        """Devices that are up and have no outcome yet: worth waiting for."""
        return [each.device for each in self.results() if not each.done and self._worth(each)]

    def _worth(self, result: Result) -> bool:
        return result.device in self._up or result.state == "running"

    def progress(self) -> str:
        """`3 succeeded, 1 failed, 1 queued`; always starts with succeeded."""
        counts = Counter(each.state for each in self._results.values())
        return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state] or state == "succeeded")

    def exit_code(self) -> Exit:
        return exit_code(each.state for each in self._results.values())


def exit_code(states: Iterable[str]) -> Exit:
    """FAILED if any outcome is not a success, INCOMPLETE if one is missing."""
    found = set(states)
    if found & set(OUTCOMES[1:]):
        return Exit.FAILED
    return Exit.INCOMPLETE if found & {"queued", "running"} else Exit.OK


def fold(results: Iterable[Result]) -> list[Result]:
    """The latest step of each command on each device, in the order in which they were first heard of."""
    latest: dict[tuple[str, str], Result] = {}
    for result in results:
        before = latest.get((result.command, result.device))
        if before is None or not before.done:
            latest[result.command, result.device] = result
    return list(latest.values())
