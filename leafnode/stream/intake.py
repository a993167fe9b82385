"""The headers of a publish that decide whether and how a stream takes it (spec jetstream-api section 4).

`read` collects them in one pass over the block; the checks that need the stream's state are made there, in
nats-server's order.
"""

import dataclasses

from leafnode.errors import ApiError
from leafnode.stream import faults, times
from leafnode.wire import headers as header_block

HEADERS_MAX = 64 * 1024  # bytes; nats-server's limit for stored headers
DIGITS_MAX = 20  # of a sequence: all that 64 bits hold
NEVER = -1  # a TTL without an end
_PREFIX = b"\r\nNats-"
_REFUSED = {
    b"Nats-Incr": faults.COUNTER_DISABLED,
    b"Nats-Batch-Id": faults.BATCH_DISABLED,
    b"Nats-Schedule": faults.SCHEDULES_DISABLED,
    b"Nats-Stream-Source": faults.SOURCE_HEADER,
}


@dataclasses.dataclass(slots=True)
class Wishes:
    """What a publisher asks by headers."""

    msg_id: bytes = b""
    expected_stream: bytes = b""
    expected_last: int | None = None
    expected_subject_last: int | None = None
    expected_subject: bytes = b""
    expected_id: bytes | None = None
    rollup: bytes = b""
    ttl: bytes = b""
    refused: faults.Fault | None = None


def read(headers: bytes) -> Wishes | None:
    """The publish controls in a header block; None if there are none."""
    if _PREFIX not in headers:
        return None
    wishes = Wishes()
    for line in headers.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.startswith(b"Nats-"):
            _take(wishes, name, value.strip())
    return wishes


def is_marker(block: bytes) -> bool:
    """Whether a message says that its subject is gone: the server's marker, or a key's purge. It leaves no marker of
    its own when it expires (measured against nats-server; `KV-Operation: DEL` does leave one).
    """
    return header_block.get(block, b"Nats-Marker-Reason") is not None or (
        header_block.get(block, b"KV-Operation") == b"PURGE"
    )


def _take(wishes: Wishes, name: bytes, value: bytes) -> None:
    if name == b"Nats-Msg-Id":
        wishes.msg_id = wishes.msg_id or value
    elif name == b"Nats-Expected-Stream":
        wishes.expected_stream = value
    elif name == b"Nats-Expected-Last-Sequence":
        wishes.expected_last = _number(value)
    elif name == b"Nats-Expected-Last-Subject-Sequence":
        wishes.expected_subject_last = _number(value)
    elif name == b"Nats-Expected-Last-Subject-Sequence-Subject":
        wishes.expected_subject = value
    elif name == b"Nats-Expected-Last-Msg-Id":
        wishes.expected_id = value
    elif name == b"Nats-Rollup":
        wishes.rollup = value.lower()
    elif name == b"Nats-TTL":
        wishes.ttl = value
    elif name in _REFUSED:
        wishes.refused = wishes.refused or _REFUSED[name]


def _number(value: bytes) -> int | None:
    return int(value) if value.isdigit() and len(value) <= DIGITS_MAX else None


def ttl_ns(value: bytes) -> int:
    """Nanoseconds, or NEVER.

    Raises:
        ApiError: 10165.
    """
    text = value.decode(errors="replace")
    if text == "never":
        return NEVER
    try:
        ttl = min(int(text) * times.SECOND, times.LONGEST) if text.isdigit() else times.duration(text)
    except ValueError:
        raise invalid_ttl() from None
    if ttl < times.SECOND:
        raise invalid_ttl()
    return ttl


def invalid_ttl() -> ApiError:
    return faults.fault(faults.INVALID_TTL)
