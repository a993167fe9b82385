"""Control lines: one line of the NATS protocol to one value.

This is the complete and readable way. Sessions keep caches in front of it for the lines that come again and again;
a property test holds both to the same result.

Grammar (spec client-protocol section 4, leafnode-protocol section 2): verbs in any case, arguments separated by runs
of space and tab, CR LF or a bare LF at the end. What breaks it either answers `Unknown Protocol Operation` or closes
the connection without a word; both exactly as nats-server does.
"""

import re
from typing import NamedTuple, NoReturn

from leafnode.errors import ProtocolError

UNKNOWN = "Unknown Protocol Operation"
CRLF = b"\r\n"
BLANKS = b" \t"
_BLANK = re.compile(rb"[ \t]")
SIZE_DIGITS_MAX = 9  # a longer number is none (nats-server)


class Pub(NamedTuple):
    """PUB and HPUB: `size` bytes follow, of which `header_size` are headers; -1: not HPUB."""

    subject: bytes
    reply: bytes
    header_size: int
    size: int


class Sub(NamedTuple):
    subject: bytes
    queue: bytes
    sid: bytes


class Unsub(NamedTuple):
    sid: bytes
    max: int


class Connect(NamedTuple):
    text: bytes


class Info(NamedTuple):
    text: bytes


class Ping(NamedTuple):
    pass


class Pong(NamedTuple):
    pass


class Ok(NamedTuple):
    pass


class Err(NamedTuple):
    text: bytes


class LeafSub(NamedTuple):
    """LS+: interest of the other side; `weight` members stand behind a queue."""

    subject: bytes
    queue: bytes
    weight: int


class LeafUnsub(NamedTuple):
    subject: bytes
    queue: bytes


class LeafMsg(NamedTuple):
    """LMSG, and HMSG on a leaf link (`header_size` >= 0). `queues`: groups that the receiver must serve as well."""

    subject: bytes
    reply: bytes
    queues: tuple[bytes, ...]
    header_size: int
    size: int


Op = Pub | Sub | Unsub | Connect | Info | Ping | Pong | Ok | Err
LeafOp = LeafSub | LeafUnsub | LeafMsg | Connect | Info | Ping | Pong | Ok | Err


def parse_client(line: bytes) -> Op:
    """One control line that a client sent, with or without its line end.

    Raises:
        ProtocolError: with the text to send, or an empty one where nats-server closes without a word.
    """
    verb, rest = _split(line)
    if verb == b"PUB":
        return _pub(_words(rest))
    if verb == b"HPUB":
        return _hpub(_words(rest))
    if verb == b"SUB":
        return _sub(_words(rest.replace(b"\r", b" ")))
    if verb == b"UNSUB":
        return _unsub(_words(rest.replace(b"\r", b" ")))
    return _common(verb, rest)


def parse_leaf(line: bytes) -> LeafOp:
    """One control line from the other end of a leaf link. Raises ProtocolError like parse_client."""
    verb, rest = _split(line)
    if verb == b"LMSG":
        return _lmsg(_words(rest), with_headers=False)
    if verb == b"HMSG":
        return _lmsg(_words(rest), with_headers=True)
    if verb == b"LS+":
        return _leaf_sub(_words(rest))
    if verb == b"LS-":
        return _leaf_unsub(_words(rest))
    return _common(verb, rest)


def _split(line: bytes) -> tuple[bytes, bytes]:
    """The verb in capitals, and what follows the space behind it."""
    text = line.removesuffix(b"\n").removesuffix(b"\r")
    parts = _BLANK.split(text, 1)
    verb = parts[0].upper()
    if not verb or (len(parts) == 1 and verb in _NEEDS_ARGUMENT):
        raise ProtocolError(UNKNOWN)
    return verb, parts[1].lstrip(BLANKS) if len(parts) > 1 else b""


def _words(rest: bytes) -> list[bytes]:
    """Parted by spaces and tabs; anything else, a CR too, belongs to a word. (In SUB and UNSUB a CR parts as well.)"""
    return [word for word in rest.replace(b"\t", b" ").split(b" ") if word]


_NEEDS_ARGUMENT = frozenset((b"PUB", b"HPUB", b"SUB", b"UNSUB", b"LMSG", b"HMSG", b"LS+", b"LS-", b"-ERR"))
"""Verbs that are unknown without as much as a space behind them."""


def _common(verb: bytes, rest: bytes) -> Connect | Info | Ping | Pong | Ok | Err:
    if verb == b"CONNECT":
        return Connect(rest)
    if verb == b"INFO":
        return Info(rest)
    if verb[:4] == b"PING":  # whatever stands after it is ignored
        return Ping()
    if verb[:4] == b"PONG":
        return Pong()
    if verb[:3] == b"+OK":
        return Ok()
    if verb == b"-ERR":
        return Err(rest)
    raise ProtocolError(UNKNOWN)


def _malformed(what: str) -> NoReturn:
    raise ProtocolError(reason=f"malformed {what}")


def size_of(text: bytes) -> int:
    """A byte count; up to nine digits, or the connection closes without a word."""
    if not text.isdigit() or len(text) > SIZE_DIGITS_MAX:
        _malformed("size")
    return int(text)


def _pub(args: list[bytes]) -> Pub:
    if len(args) == 2:
        return Pub(args[0], b"", -1, size_of(args[1]))
    if len(args) == 3:
        return Pub(args[0], args[1], -1, size_of(args[2]))
    _malformed("PUB")


def _hpub(args: list[bytes]) -> Pub:
    if len(args) == 3:
        op = Pub(args[0], b"", size_of(args[1]), size_of(args[2]))
    elif len(args) == 4:
        op = Pub(args[0], args[1], size_of(args[2]), size_of(args[3]))
    else:
        _malformed("HPUB")
    if op.header_size > op.size:
        _malformed("HPUB header size")
    return op


def _sub(args: list[bytes]) -> Sub:
    if len(args) == 2:
        return Sub(args[0], b"", args[1])
    if len(args) == 3:
        return Sub(args[0], args[1], args[2])
    _malformed("SUB")


def _unsub(args: list[bytes]) -> Unsub:
    if len(args) == 1:
        return Unsub(args[0], 0)
    if len(args) == 2:  # a maximum that is no number counts as none
        return Unsub(args[0], int(args[1]) if args[1].isdigit() and len(args[1]) <= SIZE_DIGITS_MAX else 0)
    _malformed("UNSUB")


def _leaf_sub(args: list[bytes]) -> LeafSub:
    if len(args) == 1:
        return LeafSub(args[0], b"", 1)
    if len(args) == 3:
        return LeafSub(args[0], args[1], size_of(args[2]))
    _malformed("LS+")


def _leaf_unsub(args: list[bytes]) -> LeafUnsub:
    if len(args) == 1:
        return LeafUnsub(args[0], b"")
    if len(args) == 2:
        return LeafUnsub(args[0], args[1])
    _malformed("LS-")


def _lmsg(args: list[bytes], *, with_headers: bool) -> LeafMsg:
    """`subject [reply] [hdr] size`, `subject | queues… [hdr] size`, `subject + reply queues… [hdr] size`."""
    numbers = 2 if with_headers else 1
    if len(args) < 1 + numbers:
        _malformed("LMSG")
    size = size_of(args[-1])
    header_size = size_of(args[-2]) if with_headers else -1
    if header_size > size:
        _malformed("LMSG header size")
    subject, middle = args[0], args[1:-numbers]
    if not middle:
        return LeafMsg(subject, b"", (), header_size, size)
    if middle[0] == b"|":
        return LeafMsg(subject, b"", tuple(middle[1:]), header_size, size)
    if middle[0] == b"+" and len(middle) > 1:
        return LeafMsg(subject, middle[1], tuple(middle[2:]), header_size, size)
    if len(middle) == 1:
        return LeafMsg(subject, middle[0], (), header_size, size)
    _malformed("LMSG")
