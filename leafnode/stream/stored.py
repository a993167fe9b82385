"""A message as a stream keeps it, and what it weighs."""

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


def file_size(subject: int, headers: int, payload: int) -> int:
    """Bytes that a file stream counts (spec jetstream-api section 3), from the three lengths."""
    return FILE_OVERHEAD + subject + payload + (headers + 4 if headers else 0)


def memory_size(subject: int, headers: int, payload: int) -> int:
    """Bytes that a memory stream counts."""
    return MEMORY_OVERHEAD + subject + headers + payload
