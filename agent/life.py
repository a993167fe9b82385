"""What a device did while nobody saw it: why its agent began anew, when the hub was out of reach, when it stood still.

A small file says when the agent was last known to be alive, in which boot, and whether it ended in order. The next
start judges by it:

    ended in order, same boot      `stopped`: somebody stopped the agent, and started it again
    ended in order, another boot   `rebooted`
    not in order, same boot        `killed`: the agent crashed, or was killed
    not in order, another boot     `power lost`: or the kernel died; the evidence says whether the supply was weak

Events go the way of readings: stored at the site, once, in order, with the time at which they happened.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from agent.payloads import DeviceEvent, rfc3339
from leafnode.base import files

log = logging.getLogger(__name__)

WRITE_SECONDS: Final = 300.0  # between notes that we are alive: the card wears, and 5 minutes is near enough
LOOK_SECONDS: Final = 5.0  # between looks at the clock and the supply
FROZEN_SECONDS: Final = 30.0  # a look that comes this late: the process, or the whole machine, stood still
FILE: Final = "life.json"

Tell = Callable[[DeviceEvent], None]


@dataclass(frozen=True, slots=True)
class Life:
    """The note: boot, start and last sign of life of an agent, and whether it ended in order."""

    boot_id: str
    started: str
    alive: str
    ended: bool


def reason(previous: Life | None, boot_id: str) -> str:
    """Why the agent starts now."""
    if previous is None:
        return "new"
    if previous.ended:
        return "stopped" if previous.boot_id == boot_id else "rebooted"
    return "killed" if previous.boot_id == boot_id else "power lost"


def read(path: Path) -> Life | None:
    """The note of the agent before; None without one that can be read."""
    try:
        return Life(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


class LifeTask:
    """Keeps the note, and tells what happened."""

    def __init__(
        self,
        folder: Path,
        device: str,
        boot_id: str,
        supply: Callable[[], Mapping[str, Any]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`supply`: the facts of the power supply (`under_voltage`, `under_voltage_seen`), empty where unknown."""
        self._path = folder / FILE
        self._device = device
        self._boot_id = boot_id
        self._supply = supply
        self._now = now
        self._clock = clock
        self._started = now()
        self._away_since: datetime | None = None
        self._low = False
        self._events: list[DeviceEvent] = []
        self._tell: Tell | None = None

    def begin(self) -> None:
        """Judge how the agent before ended, and note that this one lives."""
        previous = read(self._path)
        evidence: dict[str, Any] = {"boot_id": self._boot_id}
        if previous:
            evidence |= {
                "boot_id_before": previous.boot_id,
                "under_voltage_seen": self._supply().get("under_voltage_seen"),
            }
        self._say(
            "started",
            reason(previous, self._boot_id),
            since=_moment(previous.alive) if previous else None,
            evidence=evidence,
        )
        self._note(ended=False)

    def to(self, tell: Tell | None) -> None:
        """Tell from now on, beginning with what could not be told yet."""
        self._tell = tell
        while tell and self._events:
            tell(self._events.pop(0))

    def hub_lost(self) -> None:
        """The hub stopped taking our signs of life."""
        self._away_since = self._away_since or self._now()

    def hub_back(self) -> None:
        """It takes them again."""
        if self._away_since:
            self._say("link", "hub out of reach", since=self._away_since)
            self._away_since = None

    def end(self) -> None:
        """In order."""
        self._note(ended=True)

    async def run(self) -> None:
        """Look at clock and supply, for ever."""
        written = before = self._clock()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = self._clock()
            if now - before >= FROZEN_SECONDS:
                self._say("frozen", "stood still", since=self._now() - timedelta(seconds=now - before))
            before = now
            self._look_at_supply()
            if now - written >= WRITE_SECONDS:
                written = now
                await asyncio.to_thread(self._note, ended=False)

    def _look_at_supply(self) -> None:
        low = bool(self._supply().get("under_voltage"))
        if low and not self._low:
            self._say("power", "low voltage")
        self._low = low

    def _say(self, event: str, why: str, since: datetime | None = None, evidence: dict[str, Any] | None = None) -> None:
        happened = DeviceEvent(
            device=self._device, event=event, reason=why, at=self._now(), since=since, evidence=evidence or {}
        )
        log.info("%s reason=%r%s", event, why, f" since={rfc3339(since)}" if since else "")
        if self._tell:
            self._tell(happened)
        else:
            self._events.append(happened)

    def _note(self, *, ended: bool) -> None:
        life = Life(self._boot_id, rfc3339(self._started), rfc3339(self._now()), ended)
        try:
            files.write_atomic(self._path, json.dumps(asdict(life)).encode())
        except OSError as error:
            log.warning("life not noted path=%s reason=%r", self._path, str(error))


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
