"""The protocol as lines for a log: one for each operation and one for each payload, as nats-server writes them. Pure.

A tracer follows the bytes of one direction beside the connection, whatever their chunking, and decides nothing: what is
no operation is shown as it is. Secrets of CONNECT never appear. Source: nats-server's `-V`, spec client-protocol 4.
"""

import re
from collections.abc import Callable, Iterator

SIZED = frozenset((b"PUB", b"HPUB", b"MSG", b"HMSG", b"LMSG"))
"""Verbs that a payload follows, of the size that their last argument says."""
WITH_HEADERS = frozenset((b"HPUB", b"HMSG"))
LINE_MAX = 64 * 1024  # bytes of a line that are waited for; sessions end a connection long before
SIZE_DIGITS_MAX = 9  # digits of a payload's size; what is larger is refused by sessions

_SECRET = re.compile(rb'("(?:pass|password|auth_token|token|jwt|sig|nkey|proxy_sig)"\s*:\s*)"(?:[^"\\]|\\.)*+"')
_HIDDEN = rb'\1"[REDACTED]"'
_KEPT = {7: r"\a", 8: r"\b", 9: r"\t", 10: r"\n", 11: r"\v", 12: r"\f", 13: r"\r", 34: r"\"", 92: r"\\"}


class Tracer:
    """One direction of one connection: bytes in, lines out."""

    def __init__(self, arrow: str, *, limit: int = 0, headers_only: bool = False) -> None:
        """`arrow`: `<<-` or `->>`. `limit`: bytes shown of a payload, 0 = all. `headers_only`: nothing else of it."""
        self._arrow = arrow
        self._limit = limit
        self._headers_only = headers_only
        self._kept = bytearray()
        self._payload = 0  # bytes of payload that are to come, with the line end; 0: a line is next
        self._header = 0

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that `data` completes."""
        self._kept += data
        while True:
            if self._payload:
                if len(self._kept) < self._payload:
                    return
                yield from self._body(bytes(self._kept[: self._payload - 2]))
                del self._kept[: self._payload]
                self._payload = 0
                continue
            end = self._kept.find(b"\n") + 1
            if not end:
                if len(self._kept) > LINE_MAX:
                    self._kept.clear()
                return
            line = bytes(self._kept[:end])
            del self._kept[:end]
            yield from self._line(line.strip(b"\r\n"))

    def _line(self, line: bytes) -> Iterator[str]:
        parts = line.split(None, 1)
        if not parts:
            return
        verb = parts[0].upper()
        rest = parts[1] if len(parts) > 1 else b""
        self._expect(verb, rest)
        if verb == b"INFO":
            return
        if verb == b"CONNECT":
            rest = without_secrets(rest)
        shown = [verb.removeprefix(b"+"), rest.strip(b"'") if verb == b"-ERR" else rest]
        yield f"{self._arrow} [{b' '.join(part for part in shown if part).decode(errors='replace')}]"

    def _expect(self, verb: bytes, rest: bytes) -> None:
        """What follows the line."""
        sizes = rest.split()[-2:]
        if verb not in SIZED or not sizes or not sizes[-1].isdigit() or len(sizes[-1]) > SIZE_DIGITS_MAX:
            return
        self._payload = int(sizes[-1]) + 2
        has_header = verb in WITH_HEADERS and len(sizes) == 2 and sizes[0].isdigit()
        self._header = int(sizes[0][:SIZE_DIGITS_MAX]) if has_header else 0

    def _body(self, body: bytes) -> Iterator[str]:
        if self._headers_only:
            body = body[: self._header].removesuffix(b"\r\n\r\n")
        if not body:
            return
        more = "..." if 0 < self._limit < len(body) else ""
        text = quoted(body[: self._limit] if more else body)
        yield f'{self._arrow} MSG_PAYLOAD: ["{text}{more}"]'


def without_secrets(options: bytes) -> bytes:
    """The JSON of a CONNECT with what proves an identity taken out; of anything else nothing is shown."""
    if not (options.startswith(b"{") and options.endswith(b"}")):
        return b"..."
    return _SECRET.sub(_HIDDEN, options)


def quoted(data: bytes) -> str:
    """Bytes as Go's %q shows them, without the quotes around: text stays text."""
    shown: list[str] = []
    for char in data.decode("utf-8", "surrogateescape"):
        code = ord(char)
        if code in _KEPT:
            shown.append(_KEPT[code])
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that is no text
            shown.append(f"\\x{code - 0xDC00:02x}")
        elif char.isprintable():
            shown.append(char)
        else:
            shown.append(f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return "".join(shown)


Say = Callable[[str], None]


class Conversation:
    """Both directions of one connection; `say` gets each line."""

    def __init__(self, say: Say, *, limit: int = 0, headers_only: bool = False) -> None:
        self._say = say
        self._received = Tracer("<<-", limit=limit, headers_only=headers_only)
        self._sent = Tracer("->>", limit=limit, headers_only=headers_only)

    def received(self, data: bytes) -> None:
        for line in self._received.feed(data):
            self._say(line)

    def sent(self, data: bytes) -> None:
        for line in self._sent.feed(data):
            self._say(line)
