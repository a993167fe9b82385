"""Messages that need something from the disk before they can be taken, and all that came after them, in order.

Deciding about a message may take a message that is not in memory: a counter's last value, the newest sequence of a
subject whose newest message was deleted. The step raises NeedsLookUp, waits here until the answer has come, and runs
again. What waits counts as backlog of the journal, so that publishers are slowed down.
"""

from collections import deque
from collections.abc import Callable

from leafnode.stream.journal import Journal

Begin = Callable[[Callable[[], None]], None]


class NeedsLookUp(Exception):  # noqa: N818 -- not an error: the step is to be run again later
    """`begin(again)` asks the disk and calls `again` when the answer is there."""

    def __init__(self, begin: Begin) -> None:
        super().__init__("must be looked up")
        self.begin = begin


class LookUps:
    """The queue of one stream."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.queue: deque[tuple[Callable[[], None], int]] = deque()

    def run(self, step: Callable[[], None], size: int) -> None:
        """Run a step that may raise NeedsLookUp, behind those that wait. `size`: bytes that it holds."""
        if self.queue:
            self._add(step, size)
        else:
            self._try(step, size)

    def _add(self, step: Callable[[], None], size: int) -> None:
        self.queue.append((step, size))
        self._journal.hold_back(1, size)

    def _try(self, step: Callable[[], None], size: int) -> bool:
        try:
            step()
        except NeedsLookUp as need:
            self.queue.appendleft((step, size))
            self._journal.hold_back(1, size)
            need.begin(self._go_on)
            return False
        return True

    def _go_on(self) -> None:
        while self.queue:
            step, size = self.queue.popleft()
            self._journal.hold_back(-1, -size)
            if not self._try(step, size):
                return

    def clear(self) -> None:
        """Those that wait are dropped: the stream is deleted."""
        while self.queue:
            _, size = self.queue.popleft()
            self._journal.hold_back(-1, -size)
