"""Who was asked, who answered, who is missing: matched + unmatched + errored + absent is always the known fleet.

A Tally starts from the devices that inventory and presence know in the query's scope. Answers move a device out of
`absent` once; a second answer of the same device (it is connected twice, or a route echoed) changes nothing. A device
that answers without being known (it enrolled this second) joins the known fleet. The query may end early as soon as
nobody who is up is still silent.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from agent.fleet.ages import ago
from agent.fleet.exits import Exit
from agent.fleet.presence import Device

NAMED_MAX = 5  # absent devices named in a summary line; the rest is a number


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished count. `absent` maps device to the reason, in words."""

    matched: int
    unmatched: int
    errored: int
    absent: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    blind: bool = False
    """The inventory could not be read: who is absent is not known, only who answered."""

    @property
    def total(self) -> int:
        return self.matched + self.unmatched + self.errored + len(self.absent)

    def summary(self) -> str:
        """`118 matched, 2 unmatched, 0 errored, 1 absent (pi-17, last seen 3 h ago)`."""
        counts = f"{self.matched} matched, {self.unmatched} unmatched, {self.errored} errored"
        if self.blind and not self.absent:
            return f"{counts}; who is absent only the hub knows, and it cannot be reached"
        return f"{counts}, {len(self.absent)} absent{named(self.absent)}"

    def exit_code(self) -> Exit:
        if self.interrupted:
            return Exit.INTERRUPTED
        if self.errored:
            return Exit.FAILED
        return Exit.INCOMPLETE if self.absent or self.blind else Exit.OK


class Tally:
    """Counts the answers to one query. `blind`: who is in the fleet is not known, `known` are those asked by name."""

    def __init__(self, known: Iterable[Device], *, blind: bool = False) -> None:
        self.blind = blind
        self._known = {device.id: device for device in known}
        self._matched: set[str] = set()
        self._unmatched: set[str] = set()
        self._errored: set[str] = set()
        self._unreachable: set[str] = set()

    def answer(self, device: str, matched: bool | None) -> bool:
        """Count an answer (`matched` None: the device reported an error); False if the device already answered."""
        if device in self._matched or device in self._unmatched or device in self._errored:
            return False
        self._unreachable.discard(device)
        if matched is None:
            self._errored.add(device)
        elif matched:
            self._matched.add(device)
        else:
            self._unmatched.add(device)
        return True

    def unreachable(self, device: str) -> None:
        """The broker says that nobody listens for `device`: no use waiting for it."""
        self._unreachable.add(device)

    def waiting(self) -> set[str]:
        """Devices that are up and have neither answered nor been found unreachable."""
        answered = self._matched | self._unmatched | self._errored | self._unreachable
        return {device.id for device in self._known.values() if device.state == "up"} - answered

    def outcome(self, now: datetime, waited_seconds: float, *, interrupted: bool = False) -> Outcome:
        """The sum, with a reason for everyone who is absent."""
        answered = self._matched | self._unmatched | self._errored
        absent = {
            device.id: self._reason(device, now, waited_seconds)
            for device in self._known.values()
            if device.id not in answered
        }
        counts = (len(self._matched), len(self._unmatched), len(self._errored))
        return Outcome(*counts, absent, interrupted, self.blind)

    def _reason(self, device: Device, now: datetime, waited_seconds: float) -> str:
        if self.blind:
            return "does not answer"
        if device.state == "up":
            unreachable = device.id in self._unreachable
            return "up but not reachable" if unreachable else f"up but silent for {waited_seconds:g} s"
        return whereabouts(device, now)


def whereabouts(device: Device, now: datetime) -> str:
    """`up`, `stopped 2 d ago`, `last seen 3 h ago`, `never seen`."""
    if device.state == "up":
        return "up"
    if device.seen is None:
        return "never seen"
    return f"{'stopped' if device.state == 'stopped' else 'last seen'} {ago(device.seen, now)}"


def named(reasons: dict[str, str]) -> str:
    """` (pi-17, last seen 3 h ago; pi-18, stopped 2 d ago)`, shortened; empty for nobody."""
    if not reasons:
        return ""
    shown = [f"{device}, {reason}" for device, reason in sorted(reasons.items())[:NAMED_MAX]]
    more = len(reasons) - len(shown)
    return " (" + "; ".join(shown) + (f"; and {more} more" if more else "") + ")"
