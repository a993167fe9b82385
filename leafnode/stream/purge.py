"""Taking many messages away: purge by filter, sequence and number to keep (spec jetstream-api section 5).

A purge of everything is one step. Any other looks weights up in the store, in bounded portions, and removes message by
message, so that every counter stays exact; what is published meanwhile is beyond its bound. It begins when everything
kept before it is committed, because only then the store can be asked.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from leafnode.stream import reads

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream


def _nobody(_removed: int, _failure: str) -> None:
    """Nobody waits for the end."""


class Purge:
    """One purge under way. `done(removed, failure)` is called when the removals are handed to the journal."""

    def __init__(
        self,
        stream: "Stream",
        filters: list[bytes] | None,
        *,
        below: int = 0,
        keep: int = 0,
        done: Callable[[int, str], None] = _nobody,
    ) -> None:
        """`below`: sequences from there on stay (0: none does); `keep`: so many of the newest stay."""
        self._stream = stream
        self._filters = filters or []
        self._bound = min(below - 1 if below else stream.contents.last_seq, stream.contents.last_seq)
        self._beyond = below - 1 if below > stream.contents.last_seq + 1 and not filters else 0
        self._keep = keep
        self._done = done
        self._left = 0  # how many may still go, if some are kept
        self._removed = 0

    def start(self) -> None:
        contents = self._stream.contents
        if not self._filters and not self._keep and self._bound >= contents.last_seq:
            removed = self._stream.clear()
            if self._beyond:  # the next message has the sequence that was named
                contents.skip(self._beyond)
            self._done(removed, "")
            return
        if self._keep:
            self._left = self._too_many()
            if self._left <= 0:
                self._done(0, "")
                return
        self._stream.around.journal.after(self._begin)

    def _too_many(self) -> int:
        """How many of those that are there now are beyond the number to keep."""
        subjects = self._stream.contents.matching_any(self._filters or [b">"])
        return sum(subject.count for subject in subjects) - self._keep

    def _begin(self, failure: str) -> None:
        if failure:
            self._done(0, failure)
        else:
            self._ask(0)

    def _ask(self, after: int) -> None:
        stream = self._stream
        ids = stream.subject_ids(self._filters)
        after = max(after, stream.contents.first_seq - 1)
        if after >= self._bound or not stream.contents.messages or ids == () or stream.deleted:
            self._done(self._removed, "")
            return
        stream.recall.started()
        stream.around.reads.ask(reads.Weights(stream.id, after, self._bound, ids, self._found))

    def _found(self, answer: reads.Metas) -> None:
        stream = self._stream
        stream.recall.finished()
        if self._keep:  # others may have removed some of them meanwhile
            self._left = min(self._left, self._too_many())
        for meta in answer.metas:
            if self._keep and self._left <= 0:
                break
            weight = stream.recall.weigh(meta)
            if weight is not None:
                stream.remove(meta.seq, weight.subject, weight.size, "deleted", purged=True)
                self._removed += 1
                self._left -= 1
        if self._keep and self._left <= 0:
            self._done(self._removed, "")
        else:
            self._ask(answer.scanned_to)
