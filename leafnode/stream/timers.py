"""One queue of deadlines for everything in JetStream that must be called at some time.

An owner has at most one deadline; arming it again earlier supersedes, later ones are forgotten (when it is called it
arms itself anew). Stale heap entries are skipped, so the heap holds at most a few entries an owner.
"""

import heapq
import itertools
from collections.abc import Callable
from typing import Protocol


class Timed(Protocol):
    """Something with a deadline. `armed_ns` belongs to Timers: 0 when not armed."""

    armed_ns: int

    def on_time(self, now_ns: int) -> None: ...


class Timers:
    """Earliest deadline first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timed]] = []
        self._order = itertools.count()
        self.wake: Callable[[], None] = _nobody

    def arm(self, owner: Timed, deadline_ns: int) -> None:
        """Call `owner.on_time` once, at `deadline_ns` or at the deadline that it has if that is earlier."""
        if owner.armed_ns and owner.armed_ns <= deadline_ns:
            return
        owner.armed_ns = deadline_ns
        heapq.heappush(self._heap, (deadline_ns, next(self._order), owner))
        if self._heap[0][2] is owner:
            self.wake()

    def disarm(self, owner: Timed) -> None:
        owner.armed_ns = 0

    def next_deadline_ns(self) -> int | None:
        while self._heap and self._heap[0][2].armed_ns != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def on_time(self, now_ns: int) -> None:
        """Call everyone whose deadline has come; each at most once."""
        due: list[Timed] = []
        while self._heap and self._heap[0][0] <= now_ns:
            deadline, _, owner = heapq.heappop(self._heap)
            if owner.armed_ns == deadline:
                owner.armed_ns = 0
                due.append(owner)
        for owner in due:
            owner.on_time(now_ns)


def _nobody() -> None:
    """Nobody waits yet."""
