"""The requests that wait at a pull consumer, in the order in which they are served.

Each message goes to the next one in turn: a request that wants more goes to the end of the queue, or, when requests
have priorities, to the end of those of its own.
"""

from collections import deque
from collections.abc import Iterator

from leafnode.stream.request import Request


class Waiting:
    """A queue that turns."""

    def __init__(self) -> None:
        self._queue: deque[Request] = deque()
        self.due_ns = 0  # no request has anything to do before; 0: none has a time

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._queue)

    @property
    def head(self) -> Request:
        return self._queue[0]

    def add(self, request: Request, *, by_rank: bool = False) -> None:
        """Behind all others, or behind those of the same rank."""
        queue = self._queue
        due = request.due_ns
        if due and (not self.due_ns or due < self.due_ns):
            self.due_ns = due
        if not by_rank or not queue or queue[-1].rank <= request.rank:
            queue.append(request)
            return
        place = next(place for place, other in enumerate(queue) if other.rank > request.rank)
        queue.insert(place, request)

    def drop_head(self) -> None:
        self._queue.popleft()

    def turn(self, *, by_rank: bool = False) -> None:
        """The first one was served, or passed over: others go before it."""
        if len(self._queue) > 1:
            self.add(self._queue.popleft(), by_rank=by_rank)

    def keep(self, requests: list[Request]) -> None:
        """Only these, in this order."""
        self._queue = deque(requests)
        self.due_ns = min((request.due_ns for request in requests if request.due_ns), default=0)

    def take_all(self) -> list[Request]:
        taken = list(self._queue)
        self.keep([])
        return taken
