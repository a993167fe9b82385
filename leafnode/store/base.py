"""What a store promises. Two keep them: `memory` forgets at the end, `sqlite` does not.

Both are driven by `net.storage` with batches of the journal and questions of the core, and pass the same tests.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from leafnode.stream.journal import Batch
from leafnode.stream.loaded import LoadedContents, LoadedStream
from leafnode.stream.reads import Question

Answer = Any  # what the question's `done` takes


class Damaged(NamedTuple):
    """A message that is not as it was stored."""

    stream_id: int
    seq: int
    subject: bytes  # as far as it can be told
    headers: int  # bytes
    payload: int  # bytes


class Answered(NamedTuple):
    """A question with its answer; the shell calls `done(answer)` in the event loop."""

    done: Callable[[Any], None]
    answer: Answer


class Store(Protocol):
    """Keeps streams and consumers."""

    async def commit(self, batch: Batch) -> None:
        """Return once the whole batch would survive a power cut.

        Raises:
            StoreError: none of the batch was kept.
        """
        ...

    async def answer(self, questions: Sequence[Question]) -> list[Answered]:
        """Look things up; all answers see at least every batch committed before the call.

        Raises:
            StoreError: the disk does not answer.
        """
        ...

    async def load(self) -> list[LoadedStream]:
        """Everything there is, without the messages."""
        ...

    async def load_contents(self, stream_id: int) -> LoadedContents:
        """Counters and indexes of one stream, as they are kept."""
        ...

    async def close(self) -> None: ...
