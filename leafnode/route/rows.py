"""Rows: many published frames in one look.

A loop over frames costs a few hundred nanoseconds for each; one regular expression that splits as many frames as follow
each other costs a third of that. The length of a payload stands in its line, and a regular expression cannot count:
so the sizes that a row may have are written into it, as a tree of their digits. It finds what is between two subjects;
the subjects are what is left over, and they are looked at together.

    PUB a.b 16 <16 bytes> PUB a.c 7 <7 bytes> PUB …   split by   (16 .{16}|7 .{7})PUB

A frame of a row is one that the complete way would take as the same subject, reply and payload: single spaces, CR LF at
both ends, no white space elsewhere, a reply that nobody may forbid, a line far from the limit. All else ends the row.
"""

import re
from collections.abc import Iterable
from functools import cached_property
from itertools import takewhile

from leafnode.route.subject import RESERVED_REPLIES

ROW_MIN = 8  # frames for which a row is worth its start
ROW_PAYLOAD_MAX = 4096  # bytes; beyond, the bytes themselves are the cost
NAME_MAX = 1024  # bytes of a subject or a reply in a row
LINE_MAX = 2 * NAME_MAX + len("PUB   4096\r\n")

_VERB = b"PUB "
_BESIDE_NAMES = len(_VERB) + 1  # bytes of a frame that are neither its subject, nor its reply, nor its rest
_FORBIDDEN = b"|".join([b"[0-9]", *(re.escape(start) for start in RESERVED_REPLIES)])  # a digit begins the size
_REPLY = rb"((?:(?:_INBOX\.|(?!%b))[^ \t\r\n\v\f]{1,%d} )?)" % (_FORBIDDEN, NAME_MAX)
_AROUND = b"\5" * 15 + b"\6" * 91 + b"\7" * 901 + b"\10" * (ROW_PAYLOAD_MAX + 9 - 15 - 91 - 901)
"""By the length of a rest: how much of it is not payload, which is the digits of its size and 4."""


class Row:
    """Frames that follow each other, whose subjects are the same or differ in the last token only."""

    __slots__ = ("bytes", "is_one_subject", "payload", "replies", "rests", "stem", "subjects")

    def __init__(self, subjects: list[bytes], replies: list[bytes], rests: list[bytes]) -> None:
        """`replies`, if there are any: with the space behind them, or empty. `rests`: size, payload, line ends."""
        self.subjects = subjects
        self.replies = replies
        self.rests = rests
        self.stem = subjects[0][: subjects[0].rfind(b".") + 1]  # with its dot
        self.is_one_subject = False
        self.bytes = 0  # of all frames, and of their payloads; known when they are a row
        self.payload = 0

    def trim(self) -> bool:
        """Leave what is a row; False if that is hardly anything."""
        if self._is_row():
            return True
        self._keep(len(list(takewhile(self._belongs, self.subjects))))
        return self._is_row()

    def trim_to_first(self) -> bool:
        """Leave the frames of the first subject; False if they are hardly any."""
        if not self.is_one_subject:
            self._keep(len(list(takewhile(self.subjects[0].__eq__, self.subjects))))
        return self.is_one_subject or self._is_row()

    def _keep(self, count: int) -> None:
        del self.subjects[count:], self.replies[count:], self.rests[count:]

    def _belongs(self, subject: bytes) -> bool:
        token = subject[len(self.stem) :]
        if not self.stem:
            return subject == self.subjects[0]
        return subject.startswith(self.stem) and b"." not in token and token.split() == [token]

    def _is_row(self) -> bool:
        """A few looks at everything cost less than one look at each."""
        subjects, stem = self.subjects, self.stem
        count = len(subjects)
        if count < ROW_MIN:
            return False
        names = b"".join(subjects)
        least, greatest = min(subjects), max(subjects)
        self.is_one_subject = least == greatest
        if not self.is_one_subject:
            if not stem or least == stem or not (least.startswith(stem) and greatest.startswith(stem)):
                return False  # with the least and the greatest, all between them begin with the stem
            if names.count(b".") != count * stem.count(b"."):
                return False
        if names.split() != [names]:
            return False
        if len(names) - (count - 1) * (len(stem) + 1) > NAME_MAX < max(map(len, subjects)):
            return False
        lengths = list(map(len, self.rests))
        around = sum(map(_AROUND.__getitem__, lengths))
        total = sum(lengths)
        self.payload = total - around
        self.bytes = total + len(names) + sum(map(len, self.replies)) + count * _BESIDE_NAMES
        return True


class Rows:
    """Rows of frames whose payloads have certain sizes."""

    def __init__(self, numbers: Iterable[bytes]) -> None:
        """`numbers`: sizes as they are written."""
        self._size = _tree(sorted(numbers))

    @cached_property
    def _plain(self) -> re.Pattern[bytes]:
        return re.compile(b"(?s: (%b)%b)" % (self._size, _VERB))

    @cached_property
    def _asking(self) -> re.Pattern[bytes]:
        return re.compile(b"(?s: %b(%b)%b)" % (_REPLY, self._size, _VERB))

    def take(self, data: bytes, position: int, reach: int) -> Row | None:
        """The row that begins at a position, as far as it is seen within `reach` bytes, and without its last frame.
        None if there is none to speak of."""
        if not data.startswith(_VERB, position):
            return None
        start = position + len(_VERB)
        window = memoryview(data)[start : position + reach]
        asks = data.count(b" ", start, data.find(b"\n", start)) > 1
        pieces = (self._asking if asks else self._plain).split(window)
        columns = 3 if asks else 2  # subject, reply, rest, subject, …, and what is left
        if len(pieces) <= columns * ROW_MIN:
            return None
        row = Row(pieces[:-1:columns], pieces[1::3] if asks else [], pieces[columns - 1 :: columns])
        return row if row.trim() else None


def row_of_line(line: bytes, payload: int) -> re.Pattern[bytes]:
    """Frames that all begin with the same line."""
    return re.compile(b"(?s:(?:%b.{%d}\r\n)*)" % (re.escape(line), payload))


def _tree(numbers: list[bytes], depth: int = 0) -> bytes:
    """One alternative a digit: a size is found in as many steps as it has digits."""
    branches: dict[bytes, list[bytes]] = {}
    for number in numbers:
        branches.setdefault(number[depth : depth + 1], []).append(number)
    made = [
        digit + _tree(below, depth + 1) if digit else b"\r\n.{%d}\r\n" % int(below[0])
        for digit, below in branches.items()
    ]
    return made[0] if len(made) == 1 else b"(?:%b)" % b"|".join(made)
