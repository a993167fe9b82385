"""The newest messages of all streams, so that live readers and hot keys do not touch the disk.

One limit in bytes for the whole broker account; the oldest go first, of whatever stream. Each stream has a shelf on
which everything newer than `floor` stands (unless it was removed).
"""

from collections import deque
from collections.abc import Iterator

from leafnode.stream.stored import Stored

RECENT_BYTES = 8 << 20  # of messages and their estimated overhead, per account
OVERHEAD_BYTES = 300  # the tuple, its bytes objects and two table entries


class Shelf:
    """Recent messages of one stream. `floor`: every message above it that exists is here."""

    __slots__ = ("floor", "messages")

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.messages: dict[int, Stored] = {}

    def clear(self, floor: int) -> None:
        self.messages.clear()
        self.floor = floor

    def after(self, seq: int, upto: int) -> Iterator[Stored]:
        """Messages above `seq` up to `upto`, in order; only complete when `seq >= floor`."""
        messages = self.messages
        if upto - seq > 4 * len(messages):  # sparse: most numbers in between do not exist any more
            yield from [stored for number, stored in messages.items() if seq < number <= upto]
            return
        for number in range(seq + 1, upto + 1):
            stored = messages.get(number)
            if stored is not None:
                yield stored


class Recent:
    """Shelves with a common limit."""

    def __init__(self, limit_bytes: int = RECENT_BYTES) -> None:
        self._limit = limit_bytes
        self._order: deque[tuple[Shelf, int, int]] = deque()
        self._bytes = 0

    def add(self, shelf: Shelf, messages: list[Stored]) -> None:
        """They are newer than everything on their shelf."""
        for stored in messages:
            seq, _, _, headers, payload = stored
            size = len(payload) + len(headers) + OVERHEAD_BYTES
            shelf.messages[seq] = stored
            self._order.append((shelf, seq, size))
            self._bytes += size
        while self._bytes > self._limit:
            old, seq, freed = self._order.popleft()
            self._bytes -= freed
            old.messages.pop(seq, None)
            old.floor = max(old.floor, seq)
