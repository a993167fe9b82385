"""A message as a stream keeps it, what it weighs, and the checksum that tells whether it is still itself."""

from binascii import crc32
from typing import NamedTuple

FILE_OVERHEAD = 30  # bytes nats-server counts for each message of a file stream, 4 more with headers
MEMORY_OVERHEAD = 16  # the same of a memory stream


class Stored(NamedTuple):
    """One kept message. `time` is when the stream took it, in nanoseconds."""

    seq: int
    subject: bytes
    time: int
    headers: bytes
    payload: bytes


def checksum(stream_id: int, seq: int, subject: bytes, time: int, headers: int, body: bytes) -> int:
    """CRC-32 of everything that makes a message; `headers` of the `body`'s bytes are headers."""
    place = stream_id * 0x9E3779B1 ^ seq ^ time ^ time >> 32 ^ headers << 16  # spread, so that no two cancel out
    return crc32(body, crc32(subject, place & 0xFFFFFFFF))


def file_size(subject: int, headers: int, payload: int) -> int:
    """Bytes that a file stream counts (spec jetstream-api section 3), from the three lengths."""
    return FILE_OVERHEAD + subject + payload + (headers + 4 if headers else 0)


def memory_size(subject: int, headers: int, payload: int) -> int:
    """Bytes that a memory stream counts."""
    return MEMORY_OVERHEAD + subject + headers + payload
