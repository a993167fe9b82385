"""Which commits write a stream's counters. Most need not: reading the newest messages gives them again.

A commit that only appends changes one page of messages, and would change two more for the counters of the stream and of
its subjects: three times the bytes, and a third more time. So the store's counters lag behind. They are written

    with every commit after which counting the messages above the old counters would not give the new ones (a removal,
    a number that is skipped), and
    after `SETTLE_MESSAGES`, so that little is left to count when the file is opened.

A subject's row is written when the subject is new, because messages name it by its number. It counts everything up to
its own newest sequence; what is above that and above the stream's counters is added when the file is opened.
"""

from typing import TYPE_CHECKING

from leafnode.stream.contents import Contents, Subject
from leafnode.stream.journal import StreamChanges, StreamState
from leafnode.stream.stored import file_size

if TYPE_CHECKING:
    from leafnode.stream.loaded import LoadedContents

SETTLE_MESSAGES = 4096  # counted at most when the file is opened: some 5 ms a stream
SubjectRow = tuple[int, bytes, int, int, int]  # id, name, last sequence, its size, count
TailRow = tuple[int, int, int, int, int]  # sequence, subject's id, time, bytes of headers, bytes of headers and payload


def count(state: StreamState, subjects: list[SubjectRow], tail: list[TailRow]) -> tuple[StreamState, list[SubjectRow]]:
    """The counters as they were written, and what was appended since."""
    if not tail:
        return state, subjects
    first_seq, _, messages, size, last_time = state
    by_id = {row[0]: row for row in subjects}
    for seq, subject, time, headers, length in tail:
        number, name, last_seq, _, uses = by_id[subject]
        weight = file_size(len(name), headers, length - headers)
        first_seq = first_seq if messages else seq
        messages += 1
        size += weight
        last_time = time
        if seq > last_seq:
            by_id[subject] = (number, name, seq, weight, uses + 1)
    return StreamState(first_seq, tail[-1][0], messages, size, last_time), list(by_id.values())


class Tail:
    """What the store's counters of one stream do not have yet."""

    def __init__(self, *, always: bool) -> None:
        """`always`: write them with every commit, because that costs nothing."""
        self._always = always
        self._state = StreamState(0, 0, 0, 0, 0)  # after the newest commit
        self._messages = 0
        self._subjects: dict[int, Subject] = {}

    def close(self, changes: StreamChanges) -> None:
        """Decide for a batch that leaves for the disk; `changes.state` is set."""
        self._subjects |= changes.subjects
        self._messages += len(changes.messages)
        changes.settles = self._always or self._messages >= SETTLE_MESSAGES or not self._follows(changes)
        if changes.settles:
            subjects = list(self._subjects.values())
            self._subjects = {}
            self._messages = 0
        else:
            subjects = [subject for subject in changes.subjects.values() if not subject.is_kept]
        changes.subject_rows = [
            (subject.id, subject.name, subject.last_seq, subject.last_size, subject.count) for subject in subjects
        ]
        for subject in subjects:
            subject.is_kept = True
        self._state = changes.state

    def _follows(self, changes: StreamChanges) -> bool:
        """Whether counting the appended messages leads from the state before to the state now."""
        before, now, messages = self._state, changes.state, changes.messages
        if changes.removed or changes.cleared_to:
            return False
        if not messages:
            return now == before
        first, last = messages[0], messages[-1]
        return (
            now.last_seq == last.seq
            and now.last_time == last.time
            and now.messages == before.messages + len(messages)
            and now.first_seq == (before.first_seq if before.messages else first.seq)
        )

    def restore(self, contents: Contents, loaded: "LoadedContents") -> None:
        """The stream is as the store has it."""
        self._state = loaded.state
        self._messages = len(loaded.tail)
        late = set(loaded.tail)
        self._subjects = {subject.id: subject for subject in contents.subjects.values() if subject.id in late}
