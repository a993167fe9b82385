"""When a message may go: rates as token buckets, and hours of the day."""

from collections.abc import Callable, Sequence

from leafnode.forward.plan import DAY_MINUTES, SECOND, Hours, Rate

BURST_NS = SECOND  # what was not used may be caught up, of one second

MinuteOf = Callable[[int], tuple[int, int]]
"""Day of the week (Monday is 0) and minute of the day of a time, at the site."""


class Bucket:
    """Tokens for one rate; 0 = no limit. May go into debt by one message, so that a large one is not kept for ever."""

    def __init__(self, per_second: float) -> None:
        self._rate = per_second
        self._tokens = per_second * BURST_NS / SECOND
        self._at_ns = 0

    def ready_ns(self, now_ns: int) -> int:
        """When something may go; `now_ns` or earlier: now."""
        if not self._rate:
            return now_ns
        self._fill(now_ns)
        return now_ns if self._tokens > 0 else now_ns + int((1e-9 - self._tokens) / self._rate * SECOND) + 1

    def take(self, amount: int) -> None:
        if self._rate:
            self._tokens -= amount

    def _fill(self, now_ns: int) -> None:
        if self._at_ns:
            gained = max(0, now_ns - self._at_ns) * self._rate / SECOND
            self._tokens = min(self._tokens + gained, self._rate * BURST_NS / SECOND)
        self._at_ns = now_ns


class Meter:
    """Messages and bytes of one `Rate`."""

    def __init__(self, rate: Rate) -> None:
        self._messages = Bucket(rate.messages)
        self._bytes = Bucket(rate.bytes)

    def ready_ns(self, now_ns: int) -> int:
        return max(self._messages.ready_ns(now_ns), self._bytes.ready_ns(now_ns))

    def take(self, size: int) -> None:
        self._messages.take(1)
        self._bytes.take(size)


def is_open(hours: Sequence[Hours], day: int, minute: int) -> bool:
    """Whether something may go at a minute of a day."""
    if not hours:
        return True
    for part in hours:
        wraps = part.last_minute <= part.first_minute
        if day in part.days and part.first_minute <= minute and (wraps or minute < part.last_minute):
            return True
        if wraps and (day - 1) % 7 in part.days and minute < part.last_minute:
            return True
    return False


def minutes_until_open(hours: Sequence[Hours], day: int, minute: int) -> int:
    """Minutes until something may go; a week at most."""
    starts = [((begin - day) % 7) * DAY_MINUTES + part.first_minute - minute for part in hours for begin in part.days]
    return min((wait if wait > 0 else wait + 7 * DAY_MINUTES for wait in starts), default=0)
