"""Messages with a time of their own to go (ADR-43): Nats-TTL and delete markers.

Kept in memory while they live, one small entry each: they are the exception (presence, leases), and the next deadline
must be known without asking the disk.
"""

import heapq

NEVER = 0  # as kept: exempt from the stream's max_age
MARKER_SIGN = -1  # a marker's time is kept negative


class Expiry:
    """When messages with their own TTL go; which are exempt; which are markers."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []
        self._when: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._when)

    def add(self, seq: int, kept: int) -> None:
        """`kept`: a time, NEVER, or the negative time of a marker."""
        self._when[seq] = kept
        if kept != NEVER:
            heapq.heappush(self._heap, (abs(kept), seq))

    def discard(self, seq: int) -> None:
        self._when.pop(seq, None)

    def clear(self) -> None:
        self._heap.clear()
        self._when.clear()

    def is_exempt(self, seq: int) -> bool:
        return self._when.get(seq) == NEVER

    def is_marker(self, seq: int) -> bool:
        return self._when.get(seq, 0) < 0

    def next_ns(self) -> int | None:
        """The next time at which a message goes."""
        while self._heap and abs(self._when.get(self._heap[0][1], 0)) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now_ns: int) -> list[int]:
        """Sequences whose time has come; they stay until discarded."""
        found: list[int] = []
        while (when := self.next_ns()) is not None and when <= now_ns:
            found.append(heapq.heappop(self._heap)[1])
        return found
