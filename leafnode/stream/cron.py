"""When a repeating schedule is due: six fields as in crontab with seconds, in a time zone (ADR-51).

    second minute hour day-of-month month day-of-week      `0 30 7 * * mon-fri`, `*/10 * * * * *`

A field is a list of numbers, ranges and steps; months and days of the week have names. If both kinds of day are
restricted, either is enough, as with cron. Where a clock is set forward, what falls into the gap is left out or comes
right after it; where it is set back, it comes twice.
"""

import datetime
import functools
import re
import zoneinfo
from typing import NamedTuple

from leafnode.stream import times

YEARS_AHEAD = 5  # a date that does not come within them never comes (30 February)
LOCAL_ZONE_FILE = "/etc/localtime"
PREDEFINED = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
_MINUTE, _HOUR = 60, 3600  # seconds
_NUMBER = re.compile(r"\+?[0-9]{1,9}")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class Range(NamedTuple):
    """What one field may say."""

    low: int
    high: int
    names: tuple[str, ...] = ()  # of the numbers from `low` on


class Field(NamedTuple):
    """What one field says. `any`: it has a star, so the other kind of day decides alone."""

    values: frozenset[int]
    any: bool


_RANGES = (Range(0, 59), Range(0, 59), Range(0, 23), Range(1, 31), Range(1, 12, _MONTHS), Range(0, 6, _DAYS))


def zone(name: str) -> datetime.tzinfo:
    """A time zone by its IANA name, `UTC` or `Local`.

    Raises:
        ValueError: this machine does not know it.
    """
    try:
        if name == "Local":
            with open(LOCAL_ZONE_FILE, "rb") as file:
                return zoneinfo.ZoneInfo.from_file(file)
        return zoneinfo.ZoneInfo(name)
    except (KeyError, OSError) as error:
        raise ValueError(f"unknown time zone {name}") from error


@functools.lru_cache(maxsize=256)
def parse(pattern: str) -> tuple[Field, ...]:
    """The six fields.

    Raises:
        ValueError: not such a pattern.
    """
    words = PREDEFINED.get(pattern, pattern).split()
    if len(words) != len(_RANGES):
        raise ValueError(f"a schedule has {len(_RANGES)} fields, not {len(words)}")
    return tuple(_field(word, allowed) for word, allowed in zip(words, _RANGES, strict=True))


def _field(word: str, allowed: Range) -> Field:
    values: set[int] = set()
    has_star = False
    for part in word.split(","):
        if part:
            numbers, star = _part(part, allowed)
            values.update(numbers)
            has_star = has_star or star
    if not values:
        raise ValueError(f"nothing is chosen by {word}")
    return Field(frozenset(values), has_star)


def _part(part: str, allowed: Range) -> tuple[range, bool]:
    """`3`, `3-7`, `3/2` (from 3 to the end), `*`, `*/2`, `3-7/2`."""
    bounds, slash, step_word = part.partition("/")
    low_word, dash, high_word = bounds.partition("-")
    step = _number(step_word) if slash else 1
    if not step:
        raise ValueError(f"a step of {part} is nothing")
    if low_word in ("*", "?"):
        return range(allowed.low, allowed.high + 1, step), step == 1
    low = _value(low_word, allowed)
    high = _value(high_word, allowed) if dash else (allowed.high if slash else low)
    if not allowed.low <= low <= high <= allowed.high:
        raise ValueError(f"{part} is outside {allowed.low}-{allowed.high} or backwards")
    return range(low, high + 1, step), False


def _value(word: str, allowed: Range) -> int:
    if word.lower() in allowed.names:
        return allowed.low + allowed.names.index(word.lower())
    return _number(word)


def _number(word: str) -> int:
    if not _NUMBER.fullmatch(word):
        raise ValueError(f"{word} is not a number")
    return int(word)


def following(pattern: str, where: datetime.tzinfo, after_ns: int) -> int:
    """The first time after `after_ns` that the pattern names, in nanoseconds.

    Raises:
        ValueError: not a pattern, or no such time within YEARS_AHEAD.
    """
    second, minute, hour, day, month, weekday = parse(pattern)
    now = after_ns // times.SECOND + 1
    last_year = _local(now, where).year + YEARS_AHEAD
    while True:
        moment = _local(now, where)
        if moment.year > last_year:
            raise ValueError("no such time within five years")
        if moment.month not in month.values:
            now = _midnight(moment.year + moment.month // 12, moment.month % 12 + 1, 1, where)
        elif not _is_day(moment, day, weekday):
            tomorrow = moment.date() + datetime.timedelta(days=1)
            now = max(_midnight(tomorrow.year, tomorrow.month, tomorrow.day, where), now + 1)
        elif moment.hour not in hour.values:
            now += _HOUR - moment.minute * _MINUTE - moment.second
        elif moment.minute not in minute.values:
            now += _MINUTE - moment.second
        elif moment.second not in second.values:
            now += 1
        else:
            return now * times.SECOND


def _is_day(moment: datetime.datetime, day: Field, weekday: Field) -> bool:
    by_date = moment.day in day.values
    by_week = moment.isoweekday() % 7 in weekday.values
    return by_date and by_week if day.any or weekday.any else by_date or by_week


def _local(seconds: int, where: datetime.tzinfo) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, where)


def _midnight(year: int, month: int, day: int, where: datetime.tzinfo) -> int:
    return int(datetime.datetime(year, month, day, tzinfo=where).timestamp())
