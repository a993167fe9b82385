"""Deliveries whose acknowledgement did not come in time, or that were asked for again: they go before new messages."""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from leafnode.stream import reads
from leafnode.stream.pending import AckPending
from leafnode.stream.stored import Stored

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream

AGAIN_MAX = 64  # messages read for redelivery at once


class Redelivery:
    """The queue of stream sequences to deliver again, and their messages as far as they are read."""

    def __init__(
        self, stream: "Stream", pending: AckPending, *, gone: Callable[[int], None], pump: Callable[[], None]
    ) -> None:
        """`gone` is called for a sequence whose message no longer exists."""
        self._stream = stream
        self._pending = pending
        self._gone = gone
        self._pump = pump
        self._queue: OrderedDict[int, None] = OrderedDict()
        self._ready: deque[Stored] = deque()
        self._asked = False

    def __len__(self) -> int:
        return len(self._queue)

    def __contains__(self, seq: int) -> bool:
        return seq in self._queue

    def add(self, seq: int) -> None:
        self._queue[seq] = None

    def discard(self, seq: int) -> None:
        self._queue.pop(seq, None)

    def peek(self) -> Stored | None:
        """The next message to deliver again; None: there is none, or it is being read."""
        while True:
            while self._ready:
                if self._ready[0].seq == self._head():
                    return self._ready[0]
                self._ready.popleft()
            if not self._fetch():
                return None

    def _head(self) -> int:
        """The first of the queue that still waits for its acknowledgement; 0: none does."""
        while self._queue:
            seq = next(iter(self._queue))
            if seq in self._pending:
                return seq
            del self._queue[seq]
        return 0

    def advance(self) -> None:
        """The message that `peek` showed is delivered."""
        self._queue.pop(self._ready.popleft().seq, None)

    def _fetch(self) -> bool:
        """Get the messages at the head of the queue; True if some are ready now."""
        if self._asked:
            return False
        for seq in [seq for seq in self._queue if seq not in self._pending]:
            del self._queue[seq]
        wanted = [seq for seq, _ in zip(self._queue, range(AGAIN_MAX), strict=False)]
        if not wanted:
            return False
        recent = self._stream.shelf.messages
        if all(seq in recent for seq in wanted):
            self._ready.extend(recent[seq] for seq in wanted)
            return True
        self._asked = True
        self._stream.recall.started()
        self._stream.around.reads.ask(reads.BySequence(self._stream.id, wanted, lambda rows: self._found(wanted, rows)))
        return False

    def _found(self, wanted: list[int], rows: reads.Rows) -> None:
        self._stream.recall.finished()
        self._asked = False
        present = {stored.seq: stored for stored in rows.messages}
        self._ready.extend(present[seq] for seq in wanted if seq in present)  # the store's order is its own
        for seq in wanted:
            if seq not in present:
                self._gone(seq)
        self._pump()
