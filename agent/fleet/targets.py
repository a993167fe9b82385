"""Which devices are meant: names from a list, a file or a pipe, a tag, and a share of all by lot. Pure but for reading.

A share is drawn with a seed, so that the same words mean the same devices again and `10%` of today is part of `20%` of
tomorrow: devices are ordered by a digest of seed and id, and the first so many are taken.
"""

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from agent import subjects
from agent.errors import UsageError

STDIN = "-"
FROM_FILE = "@"
MAX_LINE = 1_000_000  # characters of a line of a list; a line of JSON may carry a whole answer


@dataclass(frozen=True, slots=True)
class Share:
    """At most so many devices, or such a part of them."""

    count: int | None = None
    percent: float | None = None

    def of(self, total: int) -> int:
        """How many of `total`; a part of something is at least one."""
        if self.count is not None:
            return min(self.count, total)
        return min(total, max(1, math.floor(total * (self.percent or 0) / 100 + 0.5))) if total else 0


def share(text: str) -> Share:
    """`10` or `5%`.

    Raises:
        UsageError: neither.
    """
    number, percent, rest = text.strip().partition("%")
    try:
        if percent and not rest and 0 < float(number) <= 100:
            return Share(percent=float(number))
        if not percent and int(number) > 0:
            return Share(count=int(number))
    except ValueError:
        pass
    raise UsageError(f"{text!r} is not a share of the devices: write a number such as 10, or a part such as 5%")


def drawn(ids: Iterable[str], limit: Share, seed: str) -> list[str]:
    """The devices that the lot falls on, in the order of their names."""
    ordered = sorted(dict.fromkeys(ids), key=lambda device: hashlib.sha256(f"{seed}/{device}".encode()).digest())
    return sorted(ordered[: limit.of(len(ordered))])


def names(text: str, stdin: IO[str] | None = None) -> tuple[str, ...]:
    """Devices from `pi-1,pi-2`, from `@FILE`, or from `-` (standard input), each once, in order.

    A file has an id a line; anything behind the first word is left out, as are empty lines, those that begin with `#`
    and the heading `DEVICE`. A line that is a JSON object names its `device`: what `fleet query --json` prints works.

    Raises:
        UsageError: no device in it, a word that is no id, or a file that cannot be read.
    """
    if text == STDIN:
        return _checked(_lines(stdin or sys.stdin), "standard input")
    if text.startswith(FROM_FILE):
        try:
            with Path(text[1:]).expanduser().open(encoding="utf-8") as file:
                return _checked(_lines(file), text[1:])
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the devices in {text[1:]!r} cannot be read: {error}") from error
    return _checked([word.strip() for word in text.split(",") if word.strip()], text)


def _lines(file: Iterable[str]) -> list[str]:
    found = []
    for number, line in enumerate(file, start=1):
        words = line[:MAX_LINE].replace(",", " ").split()
        if line.startswith("{"):
            try:
                found.append(str(json.loads(line)["device"]))
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(f"line {number} is JSON without a device: {line.strip()[:60]!r}") from error
        elif words and not words[0].startswith("#") and words[0].lower() != "device":
            found.append(words[0])
    return found


def _checked(found: Sequence[str], where: str) -> tuple[str, ...]:
    if not found:
        raise UsageError(f"{where!r} names no device: write for example pi-1,pi-2")
    return tuple(dict.fromkeys(subjects.check_device_id(each) for each in found))
