"""What the agent knows of each configured item, kept across restarts: its last attempt, and the bytes around it.

An attempt that touches the device is recorded as `pending` before it does, so that whoever starts after a power cut
finds where it stood. Managed files may hold secrets, and so do the copies here: nobody else may read the folder.
"""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from agent import identity
from agent.payloads import ConfigState
from leafnode.base import files

MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
NOBODY: Final = -1  # an owner that is not recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """An attempt and what came of it."""

    state: ConfigState
    revision: int = 0
    revisions: dict[str, int] = field(default_factory=dict)
    digest: str = ""
    """SHA-256 of what was wanted."""
    error: str = ""
    diff: str = ""
    """Of a file that was changed by hand: what is there against what was wanted."""
    overridden_until: str = ""
    """When the local override that this was made with ends (RFC 3339); empty without one."""
    existed: bool = True
    """Whether there was a file before; this and what follows only for `pending`."""
    old_mode: int = 0o644
    old_user: int = NOBODY
    old_group: int = NOBODY
    confirm_s: float = 0.0
    """Within this time from `began` the hub must be reached, or the change is undone; 0: it need not be."""
    verified: bool = False
    """Only reaching the hub is outstanding."""
    began: tuple[str, float, float] = ("", 0.0, 0.0)
    """Boot id, seconds since that boot, and Unix time."""


def moment() -> tuple[str, float, float]:
    """Now, as `Applied.began` has it."""
    return identity.boot_id(), time.clock_gettime(time.CLOCK_BOOTTIME), time.time()


def left_s(attempt: Applied, now: tuple[str, float, float]) -> float:
    """Seconds that the attempt has left to be confirmed."""
    return remaining_s(attempt.began, attempt.confirm_s, now)


def remaining_s(began: tuple[str, float, float], window_s: float, now: tuple[str, float, float]) -> float:
    """Seconds left of a window, between 0 and all of it.

    Within one boot the clock that nobody sets counts. Across boots there is only the time of day, which on a device
    without a battery may have stood still: it then gets more time than it should, never more than the window.
    """
    boot, since_boot, unix = began
    passed = now[1] - since_boot if now[0] == boot else now[2] - unix
    return min(max(window_s - passed, 0.0), window_s)


class Record:
    """The files of one item below the state directory."""

    def __init__(self, state_dir: Path, name: str) -> None:
        folder = state_dir / "config"
        self._attempt = folder / f"{name}.json"
        self.previous = folder / f"{name}.previous"
        """The file that an attempt replaces."""
        self.wanted = folder / f"{name}.applied"
        """The content that was applied: what drift is measured against."""

    def read(self) -> Applied | None:
        """None if there is none, or it is not ours: the item is then applied as if for the first time."""
        try:
            values: Any = json.loads(self._attempt.read_bytes())
            return Applied(**{**values, "began": tuple(values.get("began") or ("", 0.0, 0.0))})
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def write(self, attempt: Applied) -> None:
        self.keep(self._attempt, json.dumps(asdict(attempt)).encode())

    def keep(self, path: Path, data: bytes) -> None:
        """Write one of our files, durably."""
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        files.write_atomic(path, data, MODE)
