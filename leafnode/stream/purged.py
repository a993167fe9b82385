"""What a purge means to consumers: where nothing is left that they want, they go on behind it.

A consumer that wants no more than what was purged moves to the first message of that which is left, or to the end of
the stream; any other one moves to the first message of all. So its position says what it can still get, and no deleted
sequence holds its floor back. The removals themselves were told one by one before.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from leafnode.route.subject import is_subset, overlap
from leafnode.stream import reads

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream


def tell_consumers(stream: "Stream", pattern: bytes, then: Callable[[], None]) -> None:
    """Everything of the purge is committed. `pattern`: its filter; `then` is called when consumers know."""
    ids = stream.subject_ids([pattern])
    if ids == ():
        _tell(stream, pattern, stream.contents.last_seq + 1)
        then()
        return

    def found(answer: reads.Metas) -> None:
        _tell(stream, pattern, answer.metas[0].seq if answer.metas else stream.contents.last_seq + 1)
        then()

    stream.around.reads.ask(reads.Weights(stream.id, 0, stream.committed, ids, found, limit=1))


def _tell(stream: "Stream", pattern: bytes, first_left: int) -> None:
    for consumer in list(stream.consumers.values()):
        wanted = consumer.filters or [b">"]
        if all(is_subset(one, pattern) for one in wanted):
            consumer.on_purged(first_left)
        elif any(overlap(one, pattern) for one in wanted):
            consumer.on_purged(stream.contents.first_seq)
