"""Moments as people say them: `3 h ago`. Moments on the wire are RFC 3339 in UTC."""

from datetime import UTC, datetime

MINUTE, HOUR, DAY = 60, 3600, 86400  # seconds

_STEPS = ((2 * DAY, DAY, "d"), (2 * HOUR, HOUR, "h"), (2 * MINUTE, MINUTE, "min"), (0, 1, "s"))
"""From twice a unit upwards that unit is used: 90 min reads better than 1 h."""


def parse(text: object) -> datetime | None:
    """A moment from RFC 3339 text, or None: a device with a broken clock must not break a listing."""
    if not isinstance(text, str) or not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def duration(seconds: float) -> str:
    """`17 s`, `5 min`, `3 h`, `12 d`."""
    for at_least, unit, word in _STEPS:
        if seconds >= at_least:
            return f"{int(seconds // unit)} {word}"
    return "0 s"


def ago(moment: datetime | None, now: datetime) -> str:
    """`3 h ago`, `never`; a moment ahead of our clock is `just now`."""
    if moment is None:
        return "never"
    seconds = (now - moment).total_seconds()
    return f"{duration(seconds)} ago" if seconds >= 1 else "just now"
