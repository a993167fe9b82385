"""Streams in the S2 format, Snappy's successor: what nats-server packs a snapshot in.

    stream   id chunk, then chunks of: kind (1 byte), length (3 bytes), checksum of the plain data (4 bytes), data
    data     as it is, or packed: literals and copies of what came before

Written is only the plain kind, which every reader takes; read is everything that a writer may send. Limits hold what a
hostile stream can make of few bytes.
"""

import struct
from collections.abc import Iterator

from leafnode.errors import ProtocolError
from leafnode.wire.crc32c import crc32c

IDENTIFIER = b"\xff\x06\x00\x00S2sTwO"
_SNAPPY = b"\xff\x06\x00\x00sNaPpY"
PLAIN_MAX = 1 << 16  # bytes of plain data that go into one chunk; Snappy's readers take no more
DECODED_MAX = 4 << 20  # bytes that one chunk may hold when it is unpacked; the format's limit
_PACKED, _PLAIN, _IDENTIFIER, _FIRST_SKIPPABLE = 0x00, 0x01, 0xFF, 0x80
_HEAD = 4  # bytes before a chunk's content
_CHECKSUM = 4  # bytes before its data
_MASK = 0xA282EAD8
_WORD = 0xFFFFFFFF
_LONG_LITERAL = 60  # from this length on it is written in bytes of its own


def corrupt(reason: str) -> ProtocolError:
    return ProtocolError(f"s2: corrupt input: {reason}")


def pack(data: bytes) -> bytes:
    """Chunks of plain data, to follow the IDENTIFIER."""
    chunks = []
    for start in range(0, len(data), PLAIN_MAX):
        part = data[start : start + PLAIN_MAX]
        size = len(part) + _CHECKSUM
        chunks.append(struct.pack("<II", _PLAIN | size << 8, _checksum(part)))
        chunks.append(part)
    return b"".join(chunks)


def _checksum(data: bytes) -> int:
    value = crc32c(data)
    return ((value >> 15 | value << 17) + _MASK) & _WORD


class Unpacker:
    """Plain data out of a stream that comes in pieces."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._is_begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What is complete now.

        Raises:
            ProtocolError: not such a stream, or damaged.
        """
        self._rest += data
        while len(self._rest) >= _HEAD:
            kind, size = self._rest[0], int.from_bytes(self._rest[1:_HEAD], "little")
            if not self._is_begun and kind != _IDENTIFIER:
                raise corrupt("it does not begin as a stream")
            if kind in (_PACKED, _PLAIN) and not _CHECKSUM <= size <= DECODED_MAX + DECODED_MAX // 4:
                raise corrupt(f"a chunk of {size} bytes")
            if len(self._rest) < _HEAD + size:
                return
            content = bytes(self._rest[_HEAD : _HEAD + size])
            del self._rest[: _HEAD + size]
            plain = self._chunk(kind, content)
            if plain:
                yield plain

    def finish(self) -> None:
        """No more comes.

        Raises:
            ProtocolError: in the middle of a chunk.
        """
        if self._rest or not self._is_begun:
            raise corrupt("it ends too early")

    def _chunk(self, kind: int, content: bytes) -> bytes:
        if kind == _IDENTIFIER:
            if content not in (IDENTIFIER[_HEAD:], _SNAPPY[_HEAD:]):
                raise corrupt("an unknown kind of stream")
            self._is_begun = True
            return b""
        if kind in (_PACKED, _PLAIN):
            plain = unpack_block(content[_CHECKSUM:]) if kind == _PACKED else content[_CHECKSUM:]
            if int.from_bytes(content[:_CHECKSUM], "little") != _checksum(plain):
                raise corrupt("a checksum does not fit")
            return plain
        if kind < _FIRST_SKIPPABLE:
            raise corrupt(f"a chunk of unknown kind {kind}")
        return b""


def unpack_block(block: bytes) -> bytes:
    """One packed block.

    Raises:
        ProtocolError: damaged.
    """
    try:
        return _unpack(block)
    except IndexError:
        raise corrupt("a block ends too early") from None


def _unpack(block: bytes) -> bytes:
    size, at = _length(block)
    if size > DECODED_MAX:
        raise corrupt(f"a block of {size} bytes")
    plain = bytearray()
    offset = 0
    while at < len(block):
        tag = block[at]
        kind = tag & 3
        if kind == 0:
            count, at = _literal(block, at)
            if at + count > len(block):
                raise corrupt("a literal is cut off")
            plain += block[at : at + count]
            at += count
        else:
            if kind == 1:
                count, offset, at = _short_copy(block, at, offset)
            else:
                width = 2 if kind == 2 else 4
                count, offset = 1 + (tag >> 2), int.from_bytes(block[at + 1 : at + 1 + width], "little")
                at += 1 + width
            _copy(plain, offset, count)
        if len(plain) > size:
            raise corrupt("a block is longer than it says")
    if len(plain) != size:
        raise corrupt("a block is shorter than it says")
    return bytes(plain)


def _length(block: bytes) -> tuple[int, int]:
    """The size of the plain data, and where the rest begins."""
    size = at = 0
    while True:
        byte = block[at]
        size |= (byte & 0x7F) << (7 * at)
        at += 1
        if byte < 0x80:
            return size, at
        if at > 4:
            raise corrupt("a length of too many bytes")


def _literal(block: bytes, at: int) -> tuple[int, int]:
    count = block[at] >> 2
    if count < _LONG_LITERAL:
        return count + 1, at + 1
    width = count - _LONG_LITERAL + 1
    block[at + width]  # is there
    return int.from_bytes(block[at + 1 : at + 1 + width], "little") + 1, at + 1 + width


def _short_copy(block: bytes, at: int, offset: int) -> tuple[int, int, int]:
    """A copy with a near offset; offset 0 repeats the last one, with lengths of its own kind."""
    tag, low = block[at], block[at + 1]
    count, at = tag >> 2 & 7, at + 2
    near = (tag & 0xE0) << 3 | low
    if near:
        return count + 4, near, at
    width = max(0, count - 4)  # bytes of the length
    if not width:
        return count + 4, offset, at
    block[at + width - 1]  # is there
    base = (0, 4, 1 << 8, 1 << 16)[width]
    return int.from_bytes(block[at : at + width], "little") + base + 4, offset, at + width


def _copy(plain: bytearray, offset: int, count: int) -> None:
    start = len(plain) - offset
    if offset <= 0 or start < 0:
        raise corrupt("a copy of what is not there")
    if count > DECODED_MAX:
        raise corrupt("a copy that is too long")
    if count <= offset:
        plain += plain[start : start + count]
    else:  # it overlaps itself: a repeated pattern
        pattern = bytes(plain[start:])
        plain += (pattern * (count // offset + 1))[:count]
