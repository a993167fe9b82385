"""The HTTP of who dials: a tunnel through a proxy (CONNECT), and the request that becomes a websocket. Pure.

    CONNECT hub:443 HTTP/1.1           GET /leafnode HTTP/1.1, Upgrade: websocket, Sec-WebSocket-Key: …
    HTTP/1.1 200 …                     HTTP/1.1 101 …, Sec-WebSocket-Accept: …

Both answers end with an empty line; what follows it belongs to what was agreed on.
Source: RFC 9110 section 9.3.6, RFC 6455 section 4, spec leafnode-protocol section 1.
"""

import base64
import re
from collections.abc import Mapping
from typing import NamedTuple

from leafnode.errors import ProtocolError
from leafnode.wire.upgrade import AGREED, DEFLATE, LEAF_PATH, NO_MASKING, accept_of

HEAD_MAX = 16 * 1024  # bytes of an answer's head
END = b"\r\n\r\n"
_STATUS = re.compile(r"HTTP/1\.[01] ([1-5][0-9]{2})(?: (.*))?")


class Response(NamedTuple):
    """The head of an answer."""

    status: int
    phrase: str
    headers: Mapping[str, str]
    """Names in lower case; the last of a repeated one."""

    def __str__(self) -> str:
        return f"{self.status} {self.phrase}".strip()


class Agreement(NamedTuple):
    """What both ends of a websocket know of each other."""

    compresses: bool
    masks: bool
    """Whether we mask our frames."""


def parse_response(head: bytes) -> Response:
    """From the bytes before the empty line. Raises ProtocolError."""
    first, *lines = head.decode("latin-1").split("\r\n")
    status = _STATUS.fullmatch(first)
    if not status:
        raise ProtocolError("", "the answer is not HTTP")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Response(int(status[1]), status[2] or "", headers)


def connect_request(target: str, *, user: str = "", password: str = "") -> bytes:
    """Ask a proxy for a tunnel to `target`, a host with a port."""
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if user:
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


def upgrade_request(host: str, path: str, key: str, *, compresses: bool, no_masking: bool) -> bytes:
    """Ask a hub at `host` (with its port) for a leaf link; `path` is the URL's, `key` 16 random bytes in base64."""
    lines = [
        f"GET {path.rstrip('/')}{LEAF_PATH} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    ]
    if compresses:
        lines.append(f"Sec-WebSocket-Extensions: {AGREED}")
    if no_masking:
        lines.append(f"{NO_MASKING}: true")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


def agreement(response: Response, key: str, *, compresses: bool, no_masking: bool) -> Agreement:
    """What the hub's answer to the upgrade means. Raises ProtocolError where it is none."""
    headers = response.headers
    if response.status != 101:
        raise ProtocolError("", f"no websocket for leaf nodes is there: HTTP {response}")
    upgraded = headers.get("upgrade", "").lower() == "websocket" and headers.get("connection", "").lower() == "upgrade"
    if not upgraded or headers.get("sec-websocket-accept") != accept_of(key):
        raise ProtocolError("", "the answer is not that of a websocket")
    agreed, *options = (word.strip() for word in headers.get("sec-websocket-extensions", "").split(";"))
    deflates = compresses and agreed == DEFLATE
    if deflates and not {"server_no_context_takeover", "client_no_context_takeover"} <= set(options):
        raise ProtocolError("", "the hub wants to compress over several messages, which is not supported")
    return Agreement(deflates, not (no_masking and headers.get(NO_MASKING.lower()) == "true"))
