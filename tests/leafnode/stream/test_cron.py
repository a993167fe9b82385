"""When schedules are due: patterns, zones, clocks that are set."""

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leafnode.stream import cron, times


def ns(text: str) -> int:
    return times.from_text(text)


def after(pattern: str, start: str, zone: str = "UTC") -> str:
    return times.to_text(cron.following(pattern, cron.zone(zone), ns(start)))


@pytest.mark.parametrize(
    ("pattern", "start", "due"),
    [
        ("* * * * * *", "2026-03-01T10:00:00.5Z", "2026-03-01T10:00:01Z"),
        ("*/15 * * * * *", "2026-03-01T10:00:00Z", "2026-03-01T10:00:15Z"),
        ("0 30 7 * * mon-fri", "2026-03-06T07:30:00Z", "2026-03-09T07:30:00Z"),
        ("0 0 0 29 feb *", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("5/20 * * * * *", "2026-03-01T10:00:10Z", "2026-03-01T10:00:25Z"),
        ("0 0 12 1,15 * fri", "2026-03-01T13:00:00Z", "2026-03-06T12:00:00Z"),  # either kind of day is enough
        ("0 0 12 1 * *", "2026-03-01T13:00:00Z", "2026-04-01T12:00:00Z"),
        ("@hourly", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"),
        ("@weekly", "2026-03-01T00:00:00Z", "2026-03-08T00:00:00Z"),
        ("@yearly", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
    ],
)
def test_next_time(pattern: str, start: str, due: str) -> None:
    assert after(pattern, start) == due


def test_in_a_time_zone() -> None:
    assert after("0 0 9 * * *", "2026-01-10T12:00:00Z", "Europe/Berlin") == "2026-01-11T08:00:00Z"
    assert after("0 0 9 * * *", "2026-07-10T12:00:00Z", "Europe/Berlin") == "2026-07-11T07:00:00Z"


def test_the_hour_that_comes_twice_is_taken_twice() -> None:
    first = after("0 30 2 * * *", "2026-10-24T23:00:00Z", "Europe/Berlin")
    assert first == "2026-10-25T00:30:00Z"
    assert after("0 30 2 * * *", first, "Europe/Berlin") == "2026-10-25T01:30:00Z"


def test_the_hour_that_is_left_out_is_not_waited_for_a_year() -> None:
    due = after("0 30 2 * * *", "2026-03-28T12:00:00Z", "Europe/Berlin")
    assert due == "2026-03-30T00:30:00Z"


NO_PATTERNS = [
    "",
    "* * * * *",
    "60 * * * * *",
    "* * * 0 * *",
    "* * * * 13 *",
    "* * * * * 7",
    "a * * * * *",
    "*/0 * * * * *",
    "5-3 * * * * *",
    "1-2-3 * * * * *",
    "1/2/3 * * * * *",
    ", * * * * *",
    "-1 * * * * *",
    "@nightly",
]


@pytest.mark.parametrize("pattern", NO_PATTERNS)
def test_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- the text is for people
        cron.parse(pattern)


def test_a_day_that_never_comes() -> None:
    with pytest.raises(ValueError, match="five years"):
        cron.following("0 0 0 30 2 *", datetime.UTC, ns("2026-03-01T00:00:00Z"))


@pytest.mark.parametrize("name", ["Mars/X", "../etc/passwd", "America", ""])
def test_no_zone(name: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- the text is for people
        cron.zone(name)


_FIELD = st.sampled_from(["*", "*/7", "3", "2-5", "1,4", "2/3"])


@settings(max_examples=60, deadline=None)
@given(
    fields=st.tuples(_FIELD, _FIELD, _FIELD, _FIELD, _FIELD, _FIELD),
    start=st.integers(ns("2026-01-01T00:00:00Z"), ns("2030-01-01T00:00:00Z")),
)
def test_every_time_matches_and_none_is_left_out(fields: tuple[str, ...], start: int) -> None:
    """Against a look at every second of the hour before."""
    pattern = " ".join(fields)
    second, minute, hour, day, month, weekday = cron.parse(pattern)

    def fits(moment: datetime.datetime) -> bool:
        by_date, by_week = moment.day in day.values, moment.isoweekday() % 7 in weekday.values
        return (
            moment.second in second.values
            and moment.minute in minute.values
            and moment.hour in hour.values
            and moment.month in month.values
            and (by_date and by_week if day.any or weekday.any else by_date or by_week)
        )

    due = cron.following(pattern, datetime.UTC, start) // times.SECOND
    assert fits(datetime.datetime.fromtimestamp(due, datetime.UTC))
    earliest = max(start // times.SECOND + 1, due - 3600)
    assert not any(fits(datetime.datetime.fromtimestamp(at, datetime.UTC)) for at in range(earliest, due))
