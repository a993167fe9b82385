"""What a stream must look up on the disk to decide: weights of old messages, the ids of the window, predecessors.

Answers come later. What was removed meanwhile is marked as gone until no question is under way (`contents.is_gone`); an
answer to a question from before a restore is thrown away.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from leafnode.stream import intake, reads
from leafnode.stream.contents import Subject, Weight
from leafnode.stream.stored import Stored

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream


class Recall:
    """A stream's questions to the store."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream
        self._under_way = 0
        self._generation = 0
        self._head_asked = False
        self._history_to = 0
        self.history_known = True
        self._waiting_for_history: list[Callable[[], None]] = []

    # questions under way -----------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """No answer is on its way that could show what was removed."""
        return not self._under_way

    def started(self) -> None:
        self._under_way += 1

    def finished(self) -> None:
        self._under_way -= 1

    def restore(self) -> None:
        """The contents are new: fill the window and the histories again."""
        contents = self._stream.contents
        self._generation += 1
        self._head_asked = False
        self.history_known = not contents.with_history or not contents.messages
        self.refill_head()
        if not self.history_known:
            self.learn_history()

    # weights -----------------------------------------------------------------------------------------------------

    def weight(self, seq: int) -> Weight | None:
        """What a message weighs, if that is known without asking."""
        stream = self._stream
        known = stream.contents.weight(seq)
        if known is not None:
            return known
        stored = stream.shelf.messages.get(seq)
        subject = stream.contents.subjects.get(stored.subject) if stored is not None else None
        if stored is None or subject is None:
            return None
        return Weight(subject, stream.size_of_stored(stored), stored.time)

    def weights(self, sequences: list[int], then: Callable[[dict[int, Weight]], None]) -> None:
        """Call with the weights of those that exist on the disk."""

        def found(answer: reads.Metas) -> None:
            self.finished()
            then({meta.seq: weight for meta in answer.metas if (weight := self.weigh(meta)) is not None})

        self.started()
        self._stream.around.reads.ask(reads.WeightsOf(self._stream.id, sequences, found))

    def weigh(self, meta: reads.Meta) -> Weight | None:
        """A row as a weight; None if the message is gone meanwhile."""
        contents = self._stream.contents
        subject = contents.subjects.get(meta.subject)
        if subject is None or contents.is_gone(meta.seq):
            return None
        return Weight(subject, self._stream.size_of(len(meta.subject), meta.headers, meta.payload), meta.time)

    # the window at the old end -------------------------------------------------------------------------------------

    def refill_head(self) -> None:
        stream = self._stream
        contents = stream.contents
        if self._head_asked or not contents.wants_head or contents.head_to >= stream.committed:
            return
        generation = self._generation

        def found(answer: reads.Metas) -> None:
            self.finished()
            if self._generation == generation:
                self._head_found(answer)

        self._head_asked = True
        self.started()
        stream.around.reads.ask(reads.Weights(stream.id, contents.head_to, stream.committed, None, found))

    def _head_found(self, answer: reads.Metas) -> None:
        stream = self._stream
        self._head_asked = False
        size = stream.size_of
        rows = [
            (meta.seq, meta.subject, size(len(meta.subject), meta.headers, meta.payload), meta.time)
            for meta in answer.metas
        ]
        stream.contents.extend_head(rows, answer.scanned_to)
        stream.retention.enforce(None)
        stream.aging.arm()
        self.refill_head()

    # sequences of each subject -------------------------------------------------------------------------------------

    def begin_history(self) -> None:
        """From now on each subject's sequences are kept; what is there is learnt when it is committed."""
        contents = self._stream.contents
        contents.with_history = True
        for subject in contents.subjects.values():
            subject.history = []
        self.history_known = False
        self._history_to = contents.last_seq
        self._stream.around.journal.after(lambda _failure: self._ask_history(0))

    def when_history_is_known(self, call: Callable[[], None]) -> None:
        if self.history_known:
            call()
        else:
            self._waiting_for_history.append(call)

    def learn_history(self) -> None:
        self._history_to = self._stream.contents.last_seq
        self._ask_history(0)

    def _ask_history(self, after: int) -> None:
        generation = self._generation

        def found(answer: reads.Metas) -> None:
            self.finished()
            if self._generation == generation:
                self._history_found(answer)

        self.started()
        upto = min(self._history_to, self._stream.committed)
        self._stream.around.reads.ask(reads.Weights(self._stream.id, after, upto, None, found))

    def _history_found(self, answer: reads.Metas) -> None:
        stream = self._stream
        contents = stream.contents
        for meta in answer.metas:
            subject = contents.subjects.get(meta.subject)
            if subject is not None and subject.history is not None and not contents.is_gone(meta.seq):
                size = stream.size_of(len(meta.subject), meta.headers, meta.payload)
                subject.history.append((meta.seq, size))
        if answer.scanned_to < min(self._history_to, stream.committed):
            self._ask_history(answer.scanned_to)
            return
        self.history_known = True
        for subject in list(contents.subjects.values()):
            if subject.history:
                subject.history.sort()
            stream.retention.enforce(subject)
        waiting, self._waiting_for_history = self._waiting_for_history, []
        for call in waiting:
            call()

    def last_of(self, subject: Subject) -> None:
        """The newest message of a subject went and an older one took its place: find out which."""
        if self._stream.config.retention == "limits":  # work queues come here often and nobody asks
            self.look_up_last(subject)

    def look_up_last(self, subject: Subject, then: Callable[[], None] | None = None) -> None:
        """Ask the store for the newest message of a subject; `then` is called when it is known or the subject gone."""
        stream = self._stream

        def found(meta: reads.Meta | None) -> None:
            self.finished()
            is_current = stream.contents.subjects.get(subject.name) is subject
            if meta is not None and not subject.last_seq and is_current:
                if stream.contents.is_gone(meta.seq):
                    self.look_up_last(subject, then)
                    return
                subject.last_seq = meta.seq
                subject.last_size = stream.size_of(len(subject.name), meta.headers, meta.payload)
                stream.changes().subjects[subject.id] = subject
            if then is not None:
                then()

        def ask(_failure: str) -> None:
            self.started()
            stream.around.reads.ask(reads.LastOf(stream.id, subject.id, stream.committed, found))

        stream.around.journal.after(ask)

    # ids of the duplicate window -----------------------------------------------------------------------------------

    def learn_duplicates(self) -> None:
        """Read back the ids of the window: once, at start."""
        stream = self._stream
        if stream.config.duplicate_window and stream.contents.messages:
            since = stream.around.now_ns() - stream.config.duplicate_window
            stream.around.reads.ask(reads.FirstAt(stream.id, since, self._learn_ids_from))

    def _learn_ids_from(self, seq: int) -> None:
        stream = self._stream
        if seq:
            asked = reads.Messages(stream.id, seq - 1, stream.committed, None, self._learn_ids, headed=True)
            stream.around.reads.ask(asked)

    def _learn_ids(self, rows: reads.Rows) -> None:
        duplicates = self._stream.duplicates
        for stored in rows.messages:
            wishes = intake.read(stored.headers)
            duplicates.last_id = wishes.msg_id if wishes is not None else b""
            if wishes is not None and wishes.msg_id:
                duplicates.add(wishes.msg_id, stored.seq, stored.time)
        if rows.scanned_to < self._stream.committed:
            self._learn_ids_from(rows.scanned_to + 1)

    # messages ----------------------------------------------------------------------------------------------------

    def message(self, seq: int, then: Callable[[Stored | None], None]) -> None:
        """Call with one committed message, at once if it is recent."""
        stream = self._stream
        if seq > stream.committed or stream.contents.is_gone(seq):
            then(None)
            return
        recent = stream.shelf.messages.get(seq)
        if recent is not None or seq > stream.shelf.floor:
            then(recent)
            return

        def found(rows: reads.Rows) -> None:
            self.finished()
            stored = rows.messages[0] if rows.messages else None
            then(stored if stored is not None and not stream.contents.is_gone(stored.seq) else None)

        self.started()
        stream.around.reads.ask(reads.BySequence(stream.id, [seq], found))
