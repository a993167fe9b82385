"""Reply subjects of deliveries, and what comes back on them (spec jetstream-api section 8).

$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<unix ns>.<num pending>
$JS.ACK.<domain or _>.<account hash>.<stream>.<consumer>.… (version 2: taken, not made)
"""

import enum
import json
from typing import NamedTuple

from leafnode.stream import times

PREFIX = b"$JS.ACK."
TOKENS = 9  # of a reply subject
TOKENS_V2 = 11  # at least: with the domain and a hash of the account before the stream (ADR-15)


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
    """Read a reply subject of either version; None if it is not one of ours."""
    parts = subject.split(b".")
    if len(parts) == TOKENS:
        numbers = parts[4:]
    elif len(parts) >= TOKENS_V2:
        numbers = parts[6:TOKENS_V2]
    else:
        return None
    if not b"".join(numbers).isdigit() or b"" in numbers:
        return None
    return Delivery(int(numbers[0]), int(numbers[1]), int(numbers[2]))


_EXACT = {b"": Kind.ACK, b"+ACK": Kind.ACK, b"+OK": Kind.ACK, b"+WPI": Kind.PROGRESS}
_BEGINNINGS = ((b"+NXT", Kind.NEXT), (b"-NAK", Kind.NAK), (b"+TERM", Kind.TERM))


def answer(body: bytes) -> Answer:
    """Read the body of an acknowledgement."""
    exact = _EXACT.get(body)
    if exact is not None:
        return Answer(exact)
    for word, kind in _BEGINNINGS:
        if body.startswith(word):
            return Answer(kind, body[len(word) :].strip())
    return Answer(Kind.UNKNOWN)


def nak_delay_ns(rest: bytes) -> int:
    """The delay asked for after `-NAK`: JSON with `delay`, a Go duration, or nothing. What cannot be read is 0."""
    text = rest.decode(errors="replace")
    try:
        if text.startswith("{"):
            delay = json.loads(text).get("delay", 0)
            return delay if type(delay) is int and delay <= times.LONGEST else 0
        return times.duration(text) if text else 0
    except (ValueError, TypeError, OverflowError, AttributeError, RecursionError):
        return 0
