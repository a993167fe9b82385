"""A small HTTP/1.1 server for figures and probes: `GET /varz` and its like. Nothing else is HTTP here.

A route is a function from query parameters to a status and an object. The object is sent as JSON with two spaces of
indentation, as nats-server does; `bytes` are JSON already and are sent as they are; `str` is plain text.

Everything is bounded, because a probe must not bring down what it probes: connections, the size of a request, the time
to send one, the time to take the answer.
"""

import asyncio
import contextlib
import json
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

Answer = tuple[int, object]
Route = Callable[[dict[str, str]], Answer]

HEAD_MAX = 8 * 1024  # bytes of request line and headers; what most servers allow
CONNECTIONS_MAX = 64  # a few scrapers and dashboards, each with a handful of connections
REQUEST_S = 10.0  # to send a request, or nothing, on an open connection
ANSWER_S = 10.0  # to take an answer; nats-server's write deadline
QUERY_FIELDS_MAX = 32  # the richest endpoint has a dozen parameters

log = logging.getLogger("leafnode.monitor")


class BadRequest(Exception):  # noqa: N818 (names the status, as HTTP does)
    """Raised by a route: answered with 400 and this text."""


class Monitor:
    """Serves `routes`, keyed by path (`/varz`), below `base_path`."""

    def __init__(self, routes: Mapping[str, Route], *, base_path: str = "/", title: str = "leafnode") -> None:
        self._routes = dict(routes)
        self._base = base_path.rstrip("/")
        self._title = title
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.request_counts: dict[str, int] = {}
        """Requests by path, of known paths only; /varz shows them."""

    async def start(self, listening: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Serve who connects to `listening`, which belongs to the monitor from now on; with `tls` it is HTTPS."""
        handshake_s = REQUEST_S if tls else None
        self._server = await asyncio.start_server(
            self._serve, sock=listening, limit=HEAD_MAX, ssl=tls, ssl_handshake_timeout=handshake_s
        )

    async def close(self) -> None:
        """Stop listening and drop the open connections."""
        if self._server is None:
            return
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first request to its end. asyncio made a task of this."""
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
        try:
            if len(self._open) > CONNECTIONS_MAX:
                writer.write(_response(503, "too many connections\n", with_body=True, keep=False))
            else:
                await self._converse(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the peer is gone or too slow, or we stop: nobody is left to be told
        finally:
            if task is not None:
                self._open.discard(task)
            await _hang_up(writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        keep = True
        while keep:
            try:
                async with asyncio.timeout(REQUEST_S):
                    head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                writer.write(_response(431, "request too large\n", with_body=True, keep=False))
                return
            request = parse_request(head)
            if request is None:
                writer.write(_response(400, "400 Bad Request\n", with_body=True, keep=False))
                return
            keep = request.keep
            writer.write(self.respond(request))
            async with asyncio.timeout(ANSWER_S):
                await writer.drain()

    def respond(self, request: "Request") -> bytes:
        """The whole response to one request."""
        with_body = request.method != "HEAD"
        if request.method not in ("GET", "HEAD"):
            return _response(405, "only GET and HEAD are known here\n", with_body=True, keep=request.keep)
        path = request.path.removeprefix(self._base) or "/"
        if not request.path.startswith(self._base) or (path != "/" and path not in self._routes):
            return _response(404, "404 page not found\n", with_body=with_body, keep=request.keep)
        self.request_counts[path] = self.request_counts.get(path, 0) + 1
        if path == "/":
            return _response(200, Page(self._index()), with_body=with_body, keep=request.keep)
        try:
            status, body = self._routes[path](request.query)
        except BadRequest as error:
            status, body = 400, str(error)
        except Exception:
            log.exception("monitor: %s failed", path)
            status, body = 500, "internal error; see the log\n"
        return _response(status, body, with_body=with_body, keep=request.keep)

    def _index(self) -> str:
        import html

        links = "\n".join(
            f'<li><a href=".{html.escape(path)}">{html.escape(path.removeprefix("/"))}</a></li>'
            for path in self._routes
        )
        title = html.escape(self._title)
        head = f'<!DOCTYPE html>\n<html lang="en"><head><title>{title}</title></head>'
        return f"{head}\n<body><h1>{title}</h1>\n<ul>\n{links}\n</ul></body></html>\n"


class Page(str):
    """Text that is HTML."""

    __slots__ = ()


class Exposition(str):
    """Text in Prometheus' format."""

    __slots__ = ()


class Json(bytes):
    """JSON that is ready."""

    __slots__ = ()

    @classmethod
    def compact(cls, body: object) -> "Json":
        return cls(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    """The first value of each parameter."""
    keep: bool
    """Whether the connection stays open afterwards."""


def parse_request(head: bytes) -> Request | None:
    """The request in a head that ends with an empty line, or None if it is not HTTP/1."""
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or parts[2] not in ("HTTP/1.1", "HTTP/1.0") or not parts[1].startswith("/"):
        return None
    fields: dict[str, str] = {}
    for line in lines[1:-2]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            return None
        fields[name.lower()] = value.strip().lower()
    target, _, words = parts[1].partition("?")
    try:
        pairs = parse_qsl(words, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        return None
    query: dict[str, str] = {}
    for name, value in pairs:
        query.setdefault(name, value)
    has_body = fields.get("content-length", "0") != "0" or "transfer-encoding" in fields
    wished = fields.get("connection", "keep-alive" if parts[2] == "HTTP/1.1" else "close")
    return Request(parts[0], unquote(target), query, keep="keep-alive" in wished and not has_body)


def whole_number(query: Mapping[str, str], name: str, default: int = 0) -> int:
    """An integer parameter; the error's text is nats-server's, which tools show."""
    words = query.get(name, "")
    if not words:
        return default
    digits = words.removeprefix("-").removeprefix("+")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        raise BadRequest(f'Error decoding int for {name!r}: strconv.Atoi: parsing "{words}": invalid syntax')
    return int(words)


def boolean(query: Mapping[str, str], name: str) -> bool:
    """A boolean parameter; absent is false."""
    words = query.get(name, "")
    if words.lower() in ("", "0", "f", "false"):
        return False
    if words.lower() in ("1", "t", "true"):
        return True
    raise BadRequest(f'Error decoding boolean for {name!r}: strconv.ParseBool: parsing "{words}": invalid syntax')


def _response(status: int, body: object, *, with_body: bool, keep: bool) -> bytes:
    """A response with its headers. JSON may be read by any page: it is figures of a server one can already reach."""
    from email.utils import formatdate  # only a broker that is looked at needs it

    if isinstance(body, Page):
        kind, data, extra = "text/html; charset=utf-8", body.encode(), ""
    elif isinstance(body, Exposition):
        kind, data, extra = "text/plain; version=0.0.4; charset=utf-8", body.encode(), ""
    elif isinstance(body, str):
        kind, data, extra = "text/plain; charset=utf-8", body.encode(), "X-Content-Type-Options: nosniff\r\n"
    else:
        data = body if isinstance(body, bytes) else json.dumps(body, indent=2, ensure_ascii=False).encode()
        kind, extra = "application/json", "Access-Control-Allow-Origin: *\r\n"
    phrase = HTTPStatus(status).phrase
    head = (
        f"HTTP/1.1 {status} {phrase}\r\n{extra}Content-Type: {kind}\r\nDate: {formatdate(usegmt=True)}\r\n"
        f"Content-Length: {len(data)}\r\n{'' if keep else 'Connection: close' + chr(13) + chr(10)}\r\n"
    )
    return head.encode("latin-1") + (data if with_body else b"")


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Close, and do not wait longer than an answer may take for a peer that does not read."""
    writer.close()
    try:
        async with asyncio.timeout(ANSWER_S):
            await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.CancelledError):
        with contextlib.suppress(Exception):
            writer.transport.abort()
