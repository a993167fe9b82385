"""Reply subjects of deliveries, and what comes back on them (spec jetstream-api section 8).

$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<unix ns>.<num pending>
"""

import enum
import json
from typing import NamedTuple

from leafnode.stream import times

PREFIX = b"$JS.ACK."


class Kind(enum.Enum):
    """What a reader answers to a delivery."""

    ACK = enum.auto()
    NAK = enum.auto()
    PROGRESS = enum.auto()
    TERM = enum.auto()
    NEXT = enum.auto()
    UNKNOWN = enum.auto()


class Answer(NamedTuple):
    kind: Kind
    rest: bytes = b""  # what follows the word


class Delivery(NamedTuple):
    """Which delivery an answer is about."""

    deliveries: int
    stream_seq: int
    consumer_seq: int


def delivery(subject: bytes) -> Delivery | None:
    """Read a reply subject; None if it is not one of ours."""
    parts = subject.rsplit(b".", 5)
    if len(parts) != 6 or not all(part.isdigit() for part in parts[1:]):
        return None
    return Delivery(int(parts[1]), int(parts[2]), int(parts[3]))


_WORDS = {
    b"+ACK": Kind.ACK,
    b"+OK": Kind.ACK,
    b"-NAK": Kind.NAK,
    b"+WPI": Kind.PROGRESS,
    b"+TERM": Kind.TERM,
    b"+NXT": Kind.NEXT,
}


def answer(body: bytes) -> Answer:
    """Read the body of an acknowledgement."""
    if not body:
        return Answer(Kind.ACK)
    word, _, rest = body.partition(b" ")
    return Answer(_WORDS.get(word, Kind.UNKNOWN), rest.strip())


def nak_delay_ns(rest: bytes) -> int:
    """The delay asked for after `-NAK`: JSON with `delay`, a Go duration, or nothing. What cannot be read is 0."""
    text = rest.decode(errors="replace")
    try:
        if text.startswith("{"):
            delay = json.loads(text).get("delay", 0)
            return int(delay)
        return times.duration(text) if text else 0
    except (ValueError, TypeError, OverflowError, AttributeError, RecursionError):
        return 0
