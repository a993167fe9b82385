"""The HTTP request that becomes a websocket (RFC 6455 section 4), and the answer to it. Pure.

`Rules` is what the configuration says; `answer` gives the response and, when it is 101, what was agreed on.
Source: spec client-protocol section 14.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

from leafnode.errors import ProtocolError

HEAD_MAX = 16 * 1024  # bytes of a request; cookies may hold a token or two
FIELDS_MAX = 100  # header lines of a request
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
KEY_BYTES = 16
DEFLATE = "permessage-deflate"
AGREED = f"{DEFLATE}; server_no_context_takeover; client_no_context_takeover"
PORTS = {"http": 80, "https": 443}
LEAF_PATH = "/leafnode"  # ends of paths by which nats-server tells other protocols
MQTT_PATH = "/mqtt"
NO_MASKING = "Nats-No-Masking"  # a header by which nats-servers agree that a dialler does not mask its frames
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class RequestError(ProtocolError):
    """The request is refused with an HTTP status."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__("", f"websocket: {why}")
        self.status = status
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case; values of a repeated name are joined with commas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Who may upgrade, and what is agreed on."""

    compression: bool = False
    same_origin: bool = False
    origins: tuple[str, ...] = ()
    """`http://host:port`; empty = all."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent along with 101."""
    is_tls: bool = False
    takes_leaves: bool = False
    """Whether leaf nodes are served at paths that end in /leafnode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """What holds for the connection."""

    compresses: bool
    is_browser: bool
    cookies: Mapping[str, str]
    masks: bool = True
    """Whether the frames of who dialled are masked."""
    is_leaf: bool = False


def parse_request(head: bytes) -> Request:
    """From the bytes before the empty line. Raises RequestError."""
    try:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
    except ValueError:
        raise RequestError(HTTPStatus.BAD_REQUEST, "not an HTTP request") from None
    if version != "HTTP/1.1" or not _TOKEN.fullmatch(method) or not target:
        raise RequestError(HTTPStatus.BAD_REQUEST, "not an HTTP/1.1 request")
    if len(lines) > FIELDS_MAX:
        raise RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too many header lines")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        key = name.lower()
        if not colon or not _TOKEN.fullmatch(name) or "\n" in value or "\0" in value:
            raise RequestError(HTTPStatus.BAD_REQUEST, "a header line is broken")
        joint = "; " if key == "cookie" else ", "
        headers[key] = headers[key] + joint + value.strip() if key in headers else value.strip()
    return Request(method=method, path=target.split("?")[0], headers=headers)


def answer(request: Request, rules: Rules) -> tuple[bytes, Agreed]:
    """The 101 response. Raises RequestError."""
    headers = request.headers
    _check(request)
    is_leaf = _check_path(request.path, rules)
    _check_origin(headers, rules)
    masks = headers.get(NO_MASKING.lower(), "") != "true"
    compresses = rules.compression and _offers_deflate(headers.get("sec-websocket-extensions", ""))
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_of(headers['sec-websocket-key'])}",
    ]
    if compresses:
        lines.append(f"Sec-WebSocket-Extensions: {AGREED}")
    if not masks:
        lines.append(f"{NO_MASKING}: true")
    lines += [f"{name}: {value}" for name, value in rules.headers.items()]
    agreed = Agreed(
        compresses=compresses,
        is_browser=headers.get("user-agent", "").startswith("Mozilla/"),
        cookies=_cookies(headers.get("cookie", "")),
        masks=masks,
        is_leaf=is_leaf,
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace"), agreed


def _check(request: Request) -> None:
    headers = request.headers
    if request.method != "GET":
        raise RequestError(HTTPStatus.METHOD_NOT_ALLOWED, "request method must be GET")
    if not headers.get("host"):
        raise RequestError(HTTPStatus.BAD_REQUEST, "'Host' missing in request")
    if "websocket" not in _words(headers.get("upgrade", "")):
        raise RequestError(HTTPStatus.BAD_REQUEST, "invalid value for header 'Upgrade'")
    if "upgrade" not in _words(headers.get("connection", "")):
        raise RequestError(HTTPStatus.BAD_REQUEST, "invalid value for header 'Connection'")
    try:
        key = base64.b64decode(headers.get("sec-websocket-key", ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise RequestError(HTTPStatus.BAD_REQUEST, "'Sec-WebSocket-Key' must be 16 bytes in base64")
    if "13" not in _words(headers.get("sec-websocket-version", "")):
        raise RequestError(HTTPStatus.BAD_REQUEST, "invalid version")


def _check_path(path: str, rules: Rules) -> bool:
    """Whether it is that of leaf nodes."""
    is_leaf = path.endswith(LEAF_PATH)
    if path.endswith(MQTT_PATH) or (is_leaf and not rules.takes_leaves):
        raise RequestError(HTTPStatus.NOT_FOUND, f"nothing is served at {path[:100]}")
    return is_leaf


def _check_origin(headers: Mapping[str, str], rules: Rules) -> None:
    """A request without an origin comes from no browser, and is welcome."""
    given = headers.get("origin") or headers.get("sec-websocket-origin")
    if not given or not (rules.same_origin or rules.origins):
        return
    origin = _place(given)
    scheme = "https" if rules.is_tls else "http"
    if rules.same_origin and origin != _place(f"{scheme}://{headers['host']}"):
        raise RequestError(HTTPStatus.FORBIDDEN, f"origin not allowed: not same origin: {given[:100]!r}")
    if rules.origins and origin not in [_place(allowed) for allowed in rules.origins]:
        raise RequestError(HTTPStatus.FORBIDDEN, f"origin not allowed: not in the allowed list: {given[:100]!r}")


def _place(origin: str) -> tuple[str, str, int]:
    """Scheme, host and port, with the default one filled in."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return ("", origin, 0)
    scheme = parts.scheme.lower()
    return (scheme, (parts.hostname or "").lower(), port or PORTS.get(scheme, 0))


def is_origin(text: str) -> bool:
    """Whether `text` can be allowed."""
    place = _place(text)
    return place[0] in PORTS and bool(place[1])


def is_header(name: str, value: str) -> bool:
    """Whether a response can have it."""
    return bool(_TOKEN.fullmatch(name)) and value.isprintable()


def _offers_deflate(extensions: str) -> bool:
    """Whether one offer is the compression we have. A smaller window than ours cannot be promised."""
    for offer in extensions.split(","):
        name, *options = (word.strip().lower() for word in offer.split(";"))
        if name == DEFLATE and not any(word.startswith("server_max_window_bits") for word in options):
            return True
    return False


def _words(value: str) -> list[str]:
    return [word.strip().lower() for word in value.split(",")]


def _cookies(text: str) -> dict[str, str]:
    from http.cookies import CookieError, SimpleCookie  # few clients have any

    try:
        return {name: morsel.value for name, morsel in SimpleCookie(text).items()}
    except CookieError:
        return {}


def accept_of(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest()).decode()


def refusal(error: RequestError) -> bytes:
    """The whole response; the connection ends after it."""
    body = error.status.phrase + "\n"
    return (
        f"HTTP/1.1 {error.status.value} {error.status.phrase}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nSec-WebSocket-Version: 13\r\nX-Content-Type-Options: nosniff\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
