"""A local layer with an end: what somebody at the device wants of an item for some hours, whatever the fleet says.

`fleet-agent override NAME --file FILE --for 2h` writes it into the state directory, where the running agent finds it.
It is laid on the merged layers and goes by itself; after a reboot it has the rest of its time.
"""

import json
import re
import sys
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent.errors import UsageError
from agent.record import FOLDER_MODE, MODE, moment, remaining_s
from agent.settings import Item
from leafnode.base import files

_UNITS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
MAX_SECONDS: Final = 30 * 86_400  # what is to stay longer belongs into the fleet's configuration


@dataclass(frozen=True, slots=True)
class Override:
    """One item's local values."""

    values: dict[str, Any]
    began: tuple[str, float, float]
    for_s: float

    @property
    def until(self) -> datetime:
        return datetime.fromtimestamp(int(self.began[2] + self.for_s), UTC)

    def is_over(self) -> bool:
        return not remaining_s(self.began, self.for_s, moment())


def path_of(state_dir: Path, name: str) -> Path:
    return state_dir / "overrides" / f"{name}.json"


def read(state_dir: Path, name: str) -> Override | None:
    """The item's override; None without one, when its time is over, or when it cannot be read."""
    try:
        body = json.loads(path_of(state_dir, name).read_bytes())
        boot, since_boot, unix = body["began"]
        found = Override(dict(body["values"]), (str(boot), float(since_boot), float(unix)), float(body["for_s"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return None if found.is_over() else found


def write(state_dir: Path, name: str, values: dict[str, Any], for_s: float) -> Override:
    """Have `values` laid on the item for so long; raises OSError."""
    made = Override(values, moment(), for_s)
    path = path_of(state_dir, name)
    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    body = {"values": values, "began": list(made.began), "for_s": for_s}
    files.write_atomic(path, json.dumps(body).encode(), MODE)
    return made


def clear(state_dir: Path, name: str) -> None:
    path_of(state_dir, name).unlink(missing_ok=True)


def values_of(file: str, item: Item) -> dict[str, Any]:
    """The values in a file (`-`: standard input): JSON or TOML, and for items of format text the text itself.

    Raises:
        UsageError: it cannot be read, or is none of these.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read as text: {error}") from error
    if item.format == "text":
        return {"text": text}
    try:
        values = tomllib.loads(text) if file.endswith(".toml") else json.loads(text)
        json.dumps(values)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{file} is neither a JSON object nor, named .toml, TOML without times: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{file} is no JSON object")
    return values


def seconds(text: str) -> float:
    """`90s`, `15min`, `2h`, `3d`; UsageError otherwise."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|min|h|d)", text)
    for_s = float(found.group(1)) * _UNITS[found.group(2)] if found else 0.0
    if not 0 < for_s <= MAX_SECONDS:
        raise UsageError(f"{text!r} is not a time up to 30d: write for example 90s, 15min, 2h or 3d")
    return for_s
