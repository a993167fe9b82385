"""What is fed with noise: each target takes bytes and must neither raise nor contradict itself.

Used by `make fuzz`, which looks for inputs that reach new code (libFuzzer, by way of atheris), and by a test that plays
the seeds, so that no target rots.
"""

import base64
import contextlib
import json
from collections.abc import Callable, Iterable

from leafnode.config.load import load_text
from leafnode.errors import ConfigError, ProtocolError, TrustError
from leafnode.net.monitor import parse_request
from leafnode.route.jwt import decode
from leafnode.route.session import Session
from leafnode.wire import websocket
from leafnode.wire.control import parse_leaf
from leafnode.wire.trace import Tracer
from leafnode.wire.upgrade import RequestError, Rules, answer
from leafnode.wire.upgrade import parse_request as parse_upgrade
from tests.conformance.conversations import PEDANTIC, PEDANTICALLY, QUIET, QUIETLY
from tests.leafnode.route.host import FakeHost, said

Target = Callable[[bytes], None]


def session(data: bytes) -> None:
    """A client's connection: any chunking of the same bytes has the same effect, the fast ways and the complete one."""
    if not data:
        return
    step = data[0] + 1
    talk = QUIETLY + data[1:]
    seen = {_spoken(talk, size, fast=fast) for size, fast in ((len(talk), True), (step, True), (len(talk), False))}
    assert len(seen) == 1, seen


def _spoken(talk: bytes, step: int, *, fast: bool) -> tuple[bytes, bool, str]:
    host = FakeHost()
    client = Session(host, 1)
    client.fast = fast
    for begin in range(0, len(talk), step):
        client.receive(talk[begin : begin + step])
    return said(client), client.closing, client.close_reason


def leaf_line(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        parse_leaf(data + b"\r\n")


def config(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        load_text(data.decode(errors="replace"), {"HOME": "/x", "A": "$B", "B": "[1"})


def frames(data: bytes) -> None:
    """A websocket's bytes. Chunks change nothing, except how much is understood before it breaks."""
    inflates = data[:1] > b"\x7f"
    carried, *rest = _payload(data[1:], len(data) + 1, inflates=inflates)
    carried_in_parts, *rest_in_parts = _payload(data[1:], 7, inflates=inflates)
    assert rest == rest_in_parts
    assert carried == carried_in_parts or (rest[-1] and carried_in_parts.startswith(carried))


def _payload(data: bytes, step: int, *, inflates: bool) -> tuple[bytes, list[websocket.Event], str]:
    """What the frames carry, what else they are, and how it ended."""
    decoder = websocket.Decoder(inflates=inflates, message_max=4096)
    carried, others = b"", list[websocket.Event]()
    try:
        for begin in range(0, len(data), step):
            for event in decoder.feed(data[begin : begin + step]):
                if isinstance(event, websocket.Data):
                    carried += event.payload
                else:
                    others.append(event)
    except websocket.WebsocketError as error:
        return carried, others, str(error)
    return carried, others, ""


def http(data: bytes) -> None:
    parse_request(data + b"\r\n\r\n")


def upgrade(data: bytes) -> None:
    with contextlib.suppress(RequestError):
        answer(parse_upgrade(data), Rules(same_origin=True))


def trace(data: bytes) -> None:
    """Lines do not depend on chunks, and are lines."""
    whole = list(Tracer("<<-").feed(data))
    tracer = Tracer("<<-")
    assert [line for begin in range(0, len(data), 3) for line in tracer.feed(data[begin : begin + 3])] == whole


def jwt(data: bytes) -> None:
    with contextlib.suppress(TrustError):
        decode(data.decode(errors="replace"), "account", lambda key, signed, signature: True)


TARGETS: dict[str, Target] = {
    each.__name__: each for each in (session, leaf_line, config, frames, http, upgrade, trace, jwt)
}


def seeds(name: str) -> Iterable[bytes]:
    """Inputs to begin with."""
    talks = [sent for sent, _, _ in (*QUIET, *PEDANTIC)]
    match name:
        case "session":
            return [b"\x06" + talk for talk in talks]
        case "trace":
            return [QUIETLY, PEDANTICALLY, *talks]
        case "leaf_line":
            return [b"LMSG a + r q1 5", b"HMSG a 12 17", b"LS+ foo q 3", b"LS- foo", b"PING", b'INFO {"a":1}']
        case "config":
            return [
                b"port: 4222\naccounts { A { users: [ {user: a, password: b} ], mappings { a: b } } }\n",
                b'jetstream { store_dir: "/x", max_file: 10GB }\nX: 5\nport: $X\nauthorization { token: $A }\n',
                b"leafnodes { remotes: [ {url: 'tls://a:b@c:7422', deny_imports: [x, y]} ] }\n",
                b"websocket { port: 80, no_tls: true, allowed_origins: ['https://a.example'] }\n",
            ]
        case "frames":
            return [b"\x00\x82\x83\x00\x00\x00\x00abc\x89\x80\x00\x00\x00\x00\x88\x80\x00\x00\x00\x00"]
        case "http":
            return [b"GET /connz?limit=1&subs=detail HTTP/1.1\r\nHost: x\r\nConnection: close"]
        case "upgrade":
            key = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nCookie: a=b"
            return [b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + key]
        case _:
            parts = [json.dumps(part).encode() for part in ({"alg": "ed25519-nkey"}, {"iss": "O", "nats": {}})]
            return [b".".join([*(base64.urlsafe_b64encode(part) for part in parts), b"c2ln"])]
