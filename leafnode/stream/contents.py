"""What a stream holds, in as little memory as deciding needs.

Not one entry a message: counts, the newest message of each subject, and a window of weights at the old end, where
limits and age take messages away. The window is refilled from the store; everything further in is looked up there when
it is needed. Only streams that keep several messages a subject also remember the sequences of each subject.

A message that is gone here may still be in an answer that the store began earlier: `is_gone` says so.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from leafnode.route.subject import is_literal, matches

if TYPE_CHECKING:
    from leafnode.stream.stored import Stored

HEAD_MAX = 4096  # weights in the window at the old end, about 100 bytes each
HEAD_LOW = 1024  # refill below this


class Subject:
    """One subject in use: how many messages it has and which is the newest (0: must be looked up)."""

    __slots__ = ("count", "history", "id", "is_kept", "last_seq", "last_size", "name")

    def __init__(self, number: int, name: bytes, history: list[tuple[int, int]] | None = None) -> None:
        self.id = number
        self.name = name
        self.last_seq = 0
        self.last_size = 0
        self.count = 0
        self.is_kept = False  # the store has a row of it
        self.history = history  # (sequence, size) from oldest to newest


class Weight(NamedTuple):
    """What removing a message takes to know."""

    subject: Subject
    size: int
    time: int


class Contents:
    """Counters and indexes of one stream, as if everything in the journal were committed."""

    def __init__(self, first_seq: int = 1, *, with_history: bool = False) -> None:
        self.first_seq = first_seq
        self.last_seq = first_seq - 1
        self.messages = 0
        self.bytes = 0
        self.last_time = 0
        self.subjects: dict[bytes, Subject] = {}
        self.next_subject_id = 1
        self.head: OrderedDict[int, Weight] = OrderedDict()
        self.head_to = first_seq - 1  # every message up to here is in the window
        self.with_history = with_history
        self._gone: set[int] = set()  # removed, not yet on its way to the disk
        self._leaving: set[int] = set()  # removed; the store may still show them

    def subject(self, name: bytes) -> Subject:
        """The entry of a subject, made if it is new."""
        found = self.subjects.get(name)
        if found is None:
            history: list[tuple[int, int]] | None = [] if self.with_history else None
            found = self.subjects[name] = Subject(self.next_subject_id, name, history)
            self.next_subject_id += 1
        return found

    def add(self, seq: int, subject: Subject, size: int, time: int) -> None:
        """A message was taken; `seq` is above all others."""
        if not self.messages:
            self.first_seq = seq
        if self.head_to == self.last_seq and len(self.head) < HEAD_MAX:
            self.head[seq] = Weight(subject, size, time)
            self.head_to = seq
        self.last_seq = seq
        self.last_time = time
        self.messages += 1
        self.bytes += size
        subject.last_seq = seq
        subject.last_size = size
        subject.count += 1
        if subject.history is not None:
            subject.history.append((seq, size))

    def skip(self, seq: int) -> None:
        """Sequences up to `seq` are used up without a message."""
        if self.head_to == self.last_seq:
            self.head_to = seq
        self.last_seq = seq
        if not self.messages:
            self.first_seq = seq + 1

    def remove(self, seq: int, subject: Subject, size: int) -> None:
        """A message goes, wherever it is."""
        self.messages -= 1
        self.bytes -= size
        self._gone.add(seq)
        self.head.pop(seq, None)
        subject.count -= 1
        if subject.history:
            self._forget_in_history(subject.history, seq)
        if subject.count <= 0:
            self.subjects.pop(subject.name, None)
        elif subject.last_seq == seq:
            subject.last_seq, subject.last_size = subject.history[-1] if subject.history else (0, 0)
        if not self.messages:
            self.first_seq = self.last_seq + 1
            self.head.clear()
            self.head_to = self.last_seq
        elif seq == self.first_seq:
            self.first_seq = next(iter(self.head), self.head_to + 1)

    def _forget_in_history(self, history: list[tuple[int, int]], seq: int) -> None:
        if history[0][0] == seq:
            del history[0]
            return
        for place, (kept, _) in enumerate(history):
            if kept == seq:
                del history[place]
                return

    def clear(self) -> list[Subject]:
        """Everything goes; the subjects that were in use."""
        used = list(self.subjects.values())
        for subject in used:
            subject.count = 0
        self.subjects.clear()
        self.messages = self.bytes = 0
        self.first_seq = self.last_seq + 1
        self.head.clear()
        self.head_to = self.last_seq
        self._gone.clear()
        self._leaving.clear()
        return used

    def is_gone(self, seq: int) -> bool:
        """Whether a message that the store may still show is gone."""
        return seq < self.first_seq or seq in self._gone or seq in self._leaving

    def not_gone(self, messages: "list[Stored]") -> "list[Stored]":
        """Those that are still there."""
        first, gone, leaving = self.first_seq, self._gone, self._leaving
        if not (gone or leaving) and (not messages or messages[0].seq >= first):
            return messages
        return [each for each in messages if each.seq >= first and each.seq not in gone and each.seq not in leaving]

    def age_gone(self) -> None:
        """What was removed so far is on its way to the disk."""
        self._leaving |= self._gone
        self._gone = set()

    def forget_gone(self) -> None:
        """What was on its way has arrived, and no answer of the store can be older than that."""
        self._leaving.clear()

    @property
    def num_deleted(self) -> int:
        return max(0, self.last_seq - self.first_seq + 1 - self.messages) if self.messages else 0

    # the window at the old end --------------------------------------------------------------------------------------

    @property
    def wants_head(self) -> bool:
        """Whether the window should be refilled from the store."""
        return len(self.head) < HEAD_LOW and self.head_to < self.last_seq

    def extend_head(self, weights: Iterable[tuple[int, bytes, int, int]], scanned_to: int) -> None:
        """Weights (sequence, subject, size, time) of all committed messages after `head_to` up to `scanned_to`."""
        for seq, name, size, time in weights:
            subject = self.subjects.get(name)
            if seq > self.head_to and subject is not None and not self.is_gone(seq):
                self.head[seq] = Weight(subject, size, time)
        self.head_to = max(self.head_to, scanned_to)
        if self.messages:
            first = next(iter(self.head), None)
            self.first_seq = first if first is not None else self.head_to + 1

    def weight(self, seq: int) -> Weight | None:
        """What a message weighs, if that is known without asking the store."""
        return self.head.get(seq)

    # subjects ----------------------------------------------------------------------------------------------------

    def matching(self, pattern: bytes) -> list[Subject]:
        """The subjects in use that a filter covers."""
        if is_literal(pattern):
            found = self.subjects.get(pattern)
            return [found] if found else []
        if pattern == b">":
            return list(self.subjects.values())
        return [subject for name, subject in self.subjects.items() if matches(pattern, name)]

    def matching_any(self, patterns: Iterable[bytes]) -> list[Subject]:
        """The subjects that any of the filters covers, each once."""
        found: dict[int, Subject] = {}
        for pattern in patterns:
            for subject in self.matching(pattern):
                found[subject.id] = subject
        return list(found.values())
