"""Message ids of the duplicate window: which sequence an id was stored as.

An entry lives for the window from its first arrival; a duplicate does not extend it and removing the message does not
remove it (spec jetstream-api section 4).
"""

from collections import deque


class Duplicates:
    """Ids seen within the window."""

    def __init__(self, window_ns: int) -> None:
        self.window_ns = window_ns
        self.last_id = b""
        self._ids: dict[bytes, int] = {}
        self._order: deque[tuple[int, bytes]] = deque()

    def find(self, msg_id: bytes, now_ns: int) -> int | None:
        """The sequence that an id has, if it is still remembered."""
        self._expire(now_ns)
        return self._ids.get(msg_id)

    def add(self, msg_id: bytes, seq: int, now_ns: int) -> None:
        self._ids[msg_id] = seq
        self._order.append((now_ns, msg_id))

    def _expire(self, now_ns: int) -> None:
        horizon = now_ns - self.window_ns
        while self._order and self._order[0][0] <= horizon:
            self._ids.pop(self._order.popleft()[1], None)

    def forget_above(self, seq: int) -> None:
        """Sequences above `seq` were never kept."""
        self._ids = {msg_id: kept for msg_id, kept in self._ids.items() if kept <= seq}
        self._order = deque((when, msg_id) for when, msg_id in self._order if msg_id in self._ids)

    def clear(self) -> None:
        self._ids.clear()
        self._order.clear()
        self.last_id = b""
