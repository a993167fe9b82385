"""Rows: many published frames in one look.

A loop over frames costs a few hundred nanoseconds for each; one regular expression that eats as many frames as follow
each other costs a fifth of that. The length of a payload stands in its line, and a regular expression cannot count:
so the sizes that a row may have are written into it, as a tree of their digits.

    PUB a.b 16 <16 bytes> PUB a.c 7 <7 bytes> …   eaten by   (PUB a\\.[^.]+ (16 .{16}|7 .{7}))*

A frame that is eaten here is one that the complete way would take as the same subject, reply and payload: single
spaces, CR LF at both ends, no white space elsewhere, a reply that nobody may forbid. All else ends the row.

The repeats are not possessive: before 3.11.5 Python leaves such a repeat at the wrong place if what it repeats can
backtrack (gh-106052). They cost the same here, as nothing comes after them that could fail.
"""

import re
from collections.abc import Iterable, Sequence

from leafnode.route.subject import RESERVED_REPLIES

ROW_MIN = 8  # frames for which a row is worth its start
ROW_PAYLOAD_MAX = 4096  # bytes; beyond, the bytes themselves are the cost

_TOKEN = rb"[^ .\t\r\n\v\f]+"
_SUBJECT = rb"[^ \t\r\n\v\f]+"
_STEM = rb"[^ \t\r\n\v\f]*\."
_NO_REPLY = b"|".join([b"[0-9]", *(re.escape(start) for start in RESERVED_REPLIES)])  # a digit begins the size
_REPLY = rb"(?:(?!%b)%b )?" % (_NO_REPLY, _SUBJECT)

Column = tuple[bytes, ...]


class Rows:
    """Rows of frames whose payloads have certain sizes."""

    def __init__(self, numbers: Iterable[bytes]) -> None:
        """`numbers`: sizes as they are written."""
        rest = _REPLY + _tree(sorted(numbers))
        self._of_subject = re.compile(rb"(?s:(?=PUB (%b) )(?:PUB \1 %b)*)" % (_SUBJECT, rest))
        self._of_stem = re.compile(rb"(?s:(?=PUB (%b)%b )(?:PUB \1%b %b)*)" % (_STEM, _TOKEN, _TOKEN, rest))
        self._rests = re.compile(rb"(?s:PUB %b (%b))" % (_SUBJECT, rest))
        self._frames = re.compile(rb"(?s:PUB (%b) (%b))" % (_SUBJECT, rest))

    def of_subject(self, data: bytes, position: int) -> tuple[bytes, list[bytes], int]:
        """Frames of one subject: that, what follows it in each of them (reply, size, payload, line ends), and where
        the row ends."""
        row = self._of_subject.match(data, position)
        if row is None or row.end() == position:
            return b"", [], position
        return row[1], self._rests.findall(data, position, row.end()), row.end()

    def of_stem(self, data: bytes, position: int) -> tuple[bytes, Column, Column, int]:
        """Frames whose subjects differ in the last token only: what they have in common with its dot, the subjects,
        what follows them, and where the row ends."""
        row = self._of_stem.match(data, position)
        if row is None or row.end() == position:
            return b"", (), (), position
        subjects, rests = zip(*self._frames.findall(data, position, row.end()), strict=True)
        return row[1], subjects, rests, row.end()


def row_of_line(line: bytes, payload: int) -> re.Pattern[bytes]:
    """Frames that all begin with the same line."""
    return re.compile(b"(?s:(?:%b.{%d}\r\n)*)" % (re.escape(line), payload))


def payload_bytes(rests: Sequence[bytes]) -> int:
    """Of all frames together; `rests` is what follows the subject in each."""
    lines = sum([rest.index(b"\n") for rest in rests])
    return sum(map(len, rests)) - lines - 3 * len(rests)  # the line end itself and CR LF at the end


def wants_answer(rest: bytes) -> bool:
    """Whether a reply subject stands in what follows a frame's subject."""
    return b" " in rest[: rest.index(b"\n")]


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
