"""Times and durations as JetStream writes them: RFC 3339 with nanoseconds in UTC, and Go's `1h2m3.5s`.

Inside, a time is an int: nanoseconds since 1970; 0 stands for Go's zero time.
"""

import datetime
import functools
import re

ZERO_TIME = "0001-01-01T00:00:00Z"
SECOND = 1_000_000_000  # nanoseconds
MILLISECOND = 1_000_000  # nanoseconds
MINUTE = 60 * SECOND
LATEST = (1 << 63) - 1  # nanoseconds; the year 2262, the end of what Go and SQLite count
LONGEST = 1 << 61  # nanoseconds; 73 years: a duration that can be added to any time of today

_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)")
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": 60 * MINUTE}


def to_text(time_ns: int) -> str:
    """As Go prints it: no trailing zeros in the fraction."""
    if time_ns == 0:
        return ZERO_TIME
    seconds, fraction = divmod(time_ns, SECOND)
    stamp = _second(seconds)
    return f"{stamp}.{fraction:09d}".rstrip("0") + "Z" if fraction else stamp + "Z"


@functools.lru_cache(maxsize=1024)  # messages of the same second are asked for together
def _second(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def from_text(text: str) -> int:
    """Nanoseconds since 1970; 0 for anything before.

    Raises:
        ValueError: not RFC 3339.
    """
    found = _STAMP.fullmatch(text)
    if not found:
        raise ValueError(f'parsing time "{text}" as RFC 3339: cannot parse')
    day, clock, fraction, zone = found.groups()
    moment = datetime.datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    if moment.year < 1970:
        return 0
    return min(LATEST, int(moment.timestamp()) * SECOND + int((fraction or "0").ljust(9, "0")))


def duration(text: str) -> int:
    """Nanoseconds of a Go duration such as `500ms` or `1h30m`.

    Raises:
        ValueError: not a duration.
    """
    if text == "0":
        return 0
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    total = 0.0
    position = 0
    while position < len(rest):
        part = _DURATION.match(rest, position)
        if not part:
            raise ValueError(f'invalid duration "{text}"')
        total += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    if not rest or total == float("inf"):
        raise ValueError(f'invalid duration "{text}"')
    return sign * min(int(total), LONGEST)


def to_go(time_ns: int) -> str:
    """As Go prints a duration: `1m30s`, `1.5s`, `250ms`, `0s`."""
    if abs(time_ns) < SECOND:
        for unit, size in (("ms", MILLISECOND), ("µs", 1000), ("ns", 1)):
            if abs(time_ns) >= size:
                return f"{_decimal(time_ns, size)}{unit}"
        return "0s"
    sign = "-" if time_ns < 0 else ""
    minutes, rest = divmod(abs(time_ns), MINUTE)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{text}{_decimal(rest, SECOND)}s"


def _decimal(value: int, unit: int) -> str:
    """`value / unit` without rounding and without trailing zeros."""
    whole, part = divmod(abs(value), unit)
    digits = len(str(unit)) - 1
    text = f"{whole}.{part:0{digits}d}".rstrip("0").rstrip(".") if part else str(whole)
    return ("-" if value < 0 else "") + text
