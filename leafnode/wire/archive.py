"""The archive of a stream's messages that nats-server 2.14 and later make for a snapshot.

    `NATSARC1`, then entries of: length of name, time, sequence, length of headers, length of payload (variable-length
    integers, the time with a sign), name, headers, payload

A message has its subject as name; an entry without anything is the end.
"""

from collections.abc import Iterator
from typing import NamedTuple

from leafnode.errors import ProtocolError

MAGIC = b"NATSARC1"
NAME_MAX = 1 << 20  # bytes
ENTRY_MAX = 64 << 20  # bytes of headers and payload: no server takes larger messages
_VARINT_MAX = 10  # bytes of a variable-length integer of 64 bits
_NUMBERS = 5  # at the head of an entry


class Entry(NamedTuple):
    name: bytes
    time: int  # nanoseconds
    sequence: int
    headers: bytes
    payload: bytes

    @property
    def is_end(self) -> bool:
        return not (self.name or self.time or self.sequence or self.headers or self.payload)


END = Entry(b"", 0, 0, b"", b"")


def invalid(reason: str) -> ProtocolError:
    return ProtocolError(f"archive: invalid archive stream: {reason}")


def write(entry: Entry) -> bytes:
    """The bytes of one entry; the first one follows MAGIC."""
    zigzag = entry.time << 1 if entry.time >= 0 else ~(entry.time << 1)
    lengths = (len(entry.headers), len(entry.payload))
    head = b"".join(map(_varint, (len(entry.name), zigzag, entry.sequence, *lengths)))
    return b"".join((head, entry.name, entry.headers, entry.payload))


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


class Reader:
    """Entries out of an archive that comes in pieces."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._is_begun = False

    def feed(self, data: bytes) -> Iterator[Entry]:
        """The entries that are complete now.

        Raises:
            ProtocolError: not an archive, or damaged.
        """
        self._rest += data
        if not self._is_begun:
            if len(self._rest) < len(MAGIC):
                return
            if not self._rest.startswith(MAGIC):
                raise invalid("it does not begin as one")
            del self._rest[: len(MAGIC)]
            self._is_begun = True
        taken = 0
        while (found := self._entry(taken)) is not None:
            entry, taken = found
            yield entry
        del self._rest[:taken]

    @property
    def is_between(self) -> bool:
        """No entry is incomplete."""
        return not self._rest

    def _entry(self, at: int) -> tuple[Entry, int] | None:
        numbers = []
        for _ in range(_NUMBERS):
            number = self._number(at)
            if number is None:
                return None
            value, at = number
            numbers.append(value)
        name, zigzag, sequence, headers, payload = numbers
        if name > NAME_MAX or headers + payload > ENTRY_MAX:
            raise invalid("an entry is too large")
        end = at + name + headers + payload
        if len(self._rest) < end:
            return None
        time = zigzag >> 1 ^ -(zigzag & 1)
        body = bytes(self._rest[at:end])
        return Entry(body[:name], time, sequence, body[name : name + headers], body[name + headers :]), end

    def _number(self, at: int) -> tuple[int, int] | None:
        value = 0
        for place in range(_VARINT_MAX):
            if at + place >= len(self._rest):
                return None
            byte = self._rest[at + place]
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return value, at + place + 1
        raise invalid("a number of too many bytes")
