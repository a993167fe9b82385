"""Watching devices take up a new revision of their configuration. Pure: statuses come in, states come out.

State of a device in the scope of the change:

    applied, refused, reverted   it reported so, for this revision
    drifted                      it applied the revision, and its file was changed by hand since
    waiting                      it is up and has reported this item before, or says it is at it
    no item                      it says that it has no item of that name
    silent                       it is up, never reported this item, and did not say whether it has one
    released                     no layer of the item is left for it; the file stays as it was
    absent                       it is away and will take the revision up when it is back

A report counts for the revision when it lists the changed key at that revision or later; when the key was deleted, when
it is newer than the deletion and no longer lists the key.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from agent.errors import PayloadError
from agent.fleet.exits import Exit
from agent.fleet.presence import Device
from agent.payloads import ConfigStatus

FINAL: Final = ("applied", "refused", "reverted", "drifted")
STATES: Final = (*FINAL, "released", "waiting", "silent", "no item", "absent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a device last said about one item."""

    device: str
    name: str
    state: str
    revision: int = 0
    revisions: Mapping[str, int] = field(default_factory=dict)
    error: str = ""
    diff: str = ""
    overridden_until: str = ""
    at: datetime | None = None
    sequence: int = 0
    """Position in the status bucket: later reports have greater ones."""

    def lists(self, key: str, revision: int) -> bool:
        """Whether this report was made with `key` at `revision` or later."""
        return self.revisions[key] >= revision if key in self.revisions else False


def parse_status(key: str, body: bytes, sequence: int) -> Status | None:
    """A report from the status bucket's entry; None when its key is not ID.NAME. An unreadable one says so."""
    device, separator, name = key.partition(".")
    if not (separator and device and name):
        return None
    try:
        said = ConfigStatus.from_bytes(body)
    except PayloadError as error:
        return Status(device=device, name=name, state="unreadable", error=str(error), sequence=sequence)
    return Status(
        device=device,
        name=name,
        state=said.state,
        revision=said.revision,
        revisions=said.revisions,
        error=said.error,
        diff=said.diff,
        overridden_until=said.overridden_until,
        at=said.at,
        sequence=sequence,
    )


class Convergence:
    """Follows one change through the devices it concerns."""

    def __init__(
        self,
        scope: Iterable[Device],
        key: str,
        revision: int,
        *,
        managed: Iterable[str] = (),
        itemless: Iterable[str] = (),
        released: Iterable[str] = (),
        mark: int = 0,
        deleted: bool = False,
    ) -> None:
        """What is known beforehand.

        `managed` and `itemless` have and have not an item of this name, `released` have no layer left after a
        deletion. `mark`: the newest report before the change was made.
        """
        self._scope = {device.id: device for device in scope}
        self._key = key
        self._revision = revision
        self._managed = set(managed)
        self._itemless = set(itemless)
        self._released = set(released)
        self._mark = mark
        self._deleted = deleted
        self._now: dict[str, Status] = {}

    def report(self, status: Status) -> bool:
        """Take a report; True when it changed what is known about a device in scope."""
        if status.device not in self._scope or not self._counts(status):
            return False
        changed = self._now.get(status.device) != status
        self._now[status.device] = status
        return changed

    def _counts(self, status: Status) -> bool:
        if status.lists(self._key, self._revision):
            return True
        newer = status.sequence > self._mark
        if status.state not in FINAL:
            return newer  # pending: it is at it
        return self._deleted and newer and self._key not in status.revisions

    def state(self, device_id: str) -> str:
        status = self._now.get(device_id)
        if status and status.state in FINAL:
            return status.state
        if self._scope[device_id].state != "up" and status is None:
            return "absent"
        if device_id in self._itemless:
            return "no item"
        if device_id in self._released:
            return "released"
        return "waiting" if status or device_id in self._managed else "silent"

    def states(self) -> dict[str, str]:
        return {device: self.state(device) for device in self._scope}

    def error(self, device_id: str) -> str:
        status = self._now.get(device_id)
        return status.error if status else ""

    def settled(self, *, patient: bool) -> bool:
        """Whether nobody is worth waiting for; while `patient`, silent devices are."""
        states = set(self.states().values())
        return "waiting" not in states and not (patient and "silent" in states)

    def progress(self) -> str:
        """`3 applied, 1 refused, 2 waiting, 1 absent`; always starts with applied."""
        counts = Counter(self.states().values())
        parts = [f"{counts[state]} {state}" for state in STATES if counts[state] or state == "applied"]
        return ", ".join(parts)

    def exit_code(self) -> Exit:
        states = set(self.states().values())
        if states & {"refused", "reverted", "drifted"}:
            return Exit.FAILED
        if states & {"waiting", "absent"} or not states & {"applied", "released"}:
            return Exit.INCOMPLETE if states else Exit.OK
        return Exit.OK
