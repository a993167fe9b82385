"""Questions to the store. The core asks, the shell reads on its own connection, the answer comes back to `done`.

All that a question sees is committed. Each kind of question has one answer type; they are small and bounded, so that a
long backlog is read in steps and no answer fills the memory.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from leafnode.stream.stored import Stored

ROWS_PER_READ = 256  # messages an answer holds at most; about one commit's worth
BYTES_PER_READ = 1 << 20  # payload and headers in one answer, except that one message always fits
META_PER_READ = 2048  # weights in one answer; refills half a head window


class Meta(NamedTuple):
    """What a message weighs, without its body."""

    seq: int
    subject: bytes
    time: int
    headers: int  # bytes
    payload: int  # bytes


class Rows(NamedTuple):
    """Messages found, and how far the search has come."""

    messages: list[Stored]
    scanned_to: int


class Metas(NamedTuple):
    metas: list[Meta]
    scanned_to: int


class Messages(NamedTuple):
    """Messages after a sequence, up to another, of some subjects (None: of all), in order.

    `headed`: only those with headers, and the one at `upto`.
    """

    stream_id: int
    after: int
    upto: int
    subject_ids: tuple[int, ...] | None
    done: Callable[[Rows], None]
    limit: int = ROWS_PER_READ
    max_bytes: int = BYTES_PER_READ
    headed: bool = False


class BySequence(NamedTuple):
    """Messages of these sequences; those that do not exist are left out."""

    stream_id: int
    sequences: Sequence[int]
    done: Callable[[Rows], None]


class Weights(NamedTuple):
    """Weights of messages after a sequence, up to another, of some subjects."""

    stream_id: int
    after: int
    upto: int
    subject_ids: tuple[int, ...] | None
    done: Callable[[Metas], None]
    limit: int = META_PER_READ


class WeightsOf(NamedTuple):
    """Weights of these sequences."""

    stream_id: int
    sequences: Sequence[int]
    done: Callable[[Metas], None]


class Count(NamedTuple):
    """How many messages there are after a sequence, up to another, of some subjects."""

    stream_id: int
    after: int
    upto: int
    subject_ids: tuple[int, ...] | None
    done: Callable[[int], None]


class FirstAt(NamedTuple):
    """The first sequence taken at a time or later; 0 if there is none."""

    stream_id: int
    time: int
    done: Callable[[int], None]


class LastOf(NamedTuple):
    """The newest message of one subject at or below a sequence: its weight, or None."""

    stream_id: int
    subject_id: int
    upto: int
    done: Callable[[Meta | None], None]


class Newest(NamedTuple):
    """The newest sequences of subjects at or below one, in order; `limit` at most."""

    stream_id: int
    subject_ids: tuple[int, ...]
    upto: int
    limit: int
    done: Callable[[list[int]], None]


class Gaps(NamedTuple):
    """Sequences between two that are not there."""

    stream_id: int
    first: int
    last: int
    limit: int
    done: Callable[[list[int]], None]


Question = Messages | BySequence | Weights | WeightsOf | Count | FirstAt | LastOf | Newest | Gaps


class Reads:
    """Questions waiting for the shell."""

    def __init__(self) -> None:
        self._waiting: deque[Question] = deque()
        self.wake: Callable[[], None] = _nobody

    def ask(self, question: Question) -> None:
        self._waiting.append(question)
        if len(self._waiting) == 1:
            self.wake()

    def take(self) -> list[Question]:
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


def _nobody() -> None:
    """Nobody waits yet."""
