"""One pull request: what a reader asks for, and how its body is read (spec jetstream-api section 9, ADR-13, ADR-42)."""

import json
from typing import Any

from leafnode.route.message import Message

DIGITS_MAX = 18  # of a batch size: what fits in 64 bits
PRIORITY_LAST = 10  # behind every priority that may be asked for (0 to 9)
_NUMBERS = ("batch", "max_bytes", "expires", "idle_heartbeat", "min_pending", "min_ack_pending", "priority")
_TEXTS = ("group", "id")
_GO_TYPES = {"no_wait": "bool", "expires": "time.Duration", "idle_heartbeat": "time.Duration", "group": "string"}
_GO_TYPES |= {"id": "string", "min_pending": "int64", "min_ack_pending": "int64"}  # all others: int


class BadRequest(ValueError):  # noqa: N818 -- a reason, turned into a status at once
    """Cannot be served; the text goes out after `400 Bad Request - `."""


class Request:
    """One request for messages. Nothing is said of a group when the body was not an object (`is_plain`)."""

    __slots__ = (
        "batch",
        "bytes",
        "expires_ns",
        "group",
        "heartbeat",
        "heartbeat_ns",
        "id",
        "is_plain",
        "min_ack_pending",
        "min_pending",
        "no_wait",
        "priority",
        "reply",
        "sent",
    )

    def __init__(self, reply: bytes) -> None:
        self.reply = reply
        self.batch = 1  # messages still wanted; one is sent even if that is not positive
        self.bytes = 0  # bytes still wanted; 0: any number
        self.expires_ns = 0  # 0: never
        self.no_wait = False
        self.heartbeat = 0  # period
        self.heartbeat_ns = 0  # when the next one is due
        self.sent = 0
        self.is_plain = True
        self.group = ""
        self.id = ""  # of the pin that the reader believes to hold
        self.min_pending = 0
        self.min_ack_pending = 0
        self.priority = 0

    @property
    def rank(self) -> int:
        """Its place among prioritized requests: the lowest is served first."""
        return PRIORITY_LAST if self.is_plain else self.priority

    @property
    def due_ns(self) -> int:
        """When something is to be said to it, whatever comes; 0: never."""
        if self.expires_ns and self.heartbeat_ns:
            return min(self.expires_ns, self.heartbeat_ns)
        return self.expires_ns or self.heartbeat_ns

    @property
    def rest(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """What it did not get, as the lines of a status."""
        return (("Nats-Pending-Messages", str(self.batch)), ("Nats-Pending-Bytes", str(self.bytes)))


def parse(message: Message, now_ns: int) -> Request:
    """Read the body of a request. What is neither JSON nor a number asks for one message.

    Raises:
        BadRequest: an object that cannot be read, or a heartbeat too large for its expiry.
    """
    request = Request(message.reply)
    body = message.payload.strip()
    if not body.startswith(b"{"):
        digits = body[1:] if body[:1] in (b"+", b"-") else body
        if digits.isdigit() and len(digits) <= DIGITS_MAX:
            request.batch = int(body)
        return request
    asked = _read(body)
    request.is_plain = False
    request.batch, request.bytes, expires, request.heartbeat = (asked[name] for name in _NUMBERS[:4])
    request.min_pending, request.min_ack_pending, request.priority = (asked[name] for name in _NUMBERS[4:])
    request.group, request.id = asked["group"], asked["id"]
    request.no_wait = asked["no_wait"]
    if request.heartbeat > 0:
        if 2 * request.heartbeat > expires:
            raise BadRequest("heartbeat value too large")
        request.heartbeat_ns = now_ns + request.heartbeat
    request.expires_ns = now_ns + expires if expires else 0
    return request


def _read(body: bytes) -> dict[str, Any]:
    """The keys that we know, each of its type; others are ignored."""
    try:
        asked = json.loads(body)
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(error.doc) - 1
        text = "unexpected end of JSON input" if at_end else f"invalid character at offset {error.pos}"
        raise BadRequest(text) from None
    except (ValueError, RecursionError):
        raise BadRequest("invalid character in the text") from None
    known: dict[str, Any] = dict.fromkeys(_NUMBERS, 0) | dict.fromkeys(_TEXTS, "") | {"no_wait": False}
    for name, default in known.items():
        value = asked.get(name)
        if value is None:
            continue
        if type(value) is not type(default) or (type(value) is int and abs(value) >= 1 << 63):
            kind = _GO_TYPES.get(name, "int")
            raise BadRequest(f"json: cannot unmarshal {_go_name(value)} into Go struct field .{name} of type {kind}")
        known[name] = value
    return known


def _go_name(value: object) -> str:
    names: dict[type, str] = {bool: "bool", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "number")
