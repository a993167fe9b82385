"""Deliveries that wait for their acknowledgement.

In the order of their stream sequence (that is the order of first delivery), so that the oldest one bounds the floor.
Deadlines are in a heap; an entry that was acknowledged or got another deadline is skipped when its old one comes up.
"""

import heapq
from collections import OrderedDict


class Pending:
    """One delivery. `due_ns` 0: no deadline (it waits in the queue of redeliveries)."""

    __slots__ = ("consumer_seq", "delivered_ns", "deliveries", "due_ns", "first_seq", "on_disk", "size", "subject")

    def __init__(self, consumer_seq: int, delivered_ns: int, subject: bytes = b"", size: int = 0) -> None:
        self.consumer_seq = consumer_seq  # of the last delivery
        self.first_seq = consumer_seq  # of the first delivery
        self.deliveries = 1
        self.delivered_ns = delivered_ns
        self.due_ns = 0
        self.subject = subject  # empty when read back from the disk
        self.size = size
        self.on_disk = False


class AckPending:
    """All of one consumer, by stream sequence."""

    def __init__(self) -> None:
        self.entries: OrderedDict[int, Pending] = OrderedDict()
        self._heap: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, seq: int) -> bool:
        return seq in self.entries

    def get(self, seq: int) -> Pending | None:
        return self.entries.get(seq)

    def add(self, seq: int, entry: Pending, due_ns: int) -> None:
        self.entries[seq] = entry
        self.schedule(seq, entry, due_ns)

    def put_back(self, seq: int, entry: Pending, due_ns: int) -> None:
        """Add one that may be older than others."""
        self.add(seq, entry, due_ns)
        self.entries = OrderedDict(sorted(self.entries.items()))

    def schedule(self, seq: int, entry: Pending, due_ns: int) -> None:
        """Set another deadline; 0: none."""
        entry.due_ns = due_ns
        if not due_ns:
            return
        heapq.heappush(self._heap, (due_ns, seq))
        if len(self._heap) > 2 * len(self.entries) + 64:  # mostly stale: acknowledged in time
            self._heap = [(kept.due_ns, number) for number, kept in self.entries.items() if kept.due_ns]
            heapq.heapify(self._heap)

    def pop(self, seq: int) -> Pending | None:
        return self.entries.pop(seq, None)

    def first(self) -> tuple[int, Pending] | None:
        """The oldest."""
        for seq, entry in self.entries.items():
            return seq, entry
        return None

    def upto(self, seq: int) -> list[int]:
        """All up to a sequence, oldest first."""
        found: list[int] = []
        for number in self.entries:
            if number > seq:
                break
            found.append(number)
        return found

    def next_ns(self) -> int | None:
        while self._heap and not self._is_current(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _is_current(self, item: tuple[int, int]) -> bool:
        entry = self.entries.get(item[1])
        return entry is not None and entry.due_ns == item[0]

    def due(self, now_ns: int) -> list[int]:
        """Sequences whose deadline has passed; they have none until scheduled again."""
        found: list[int] = []
        while (when := self.next_ns()) is not None and when <= now_ns:
            seq = heapq.heappop(self._heap)[1]
            self.entries[seq].due_ns = 0
            found.append(seq)
        return found

    def clear(self) -> None:
        self.entries.clear()
        self._heap.clear()
