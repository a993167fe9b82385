"""Clients over websocket on both servers: the upgrade, frames by hand, nats-py, TLS, cookies, compression."""

import asyncio
import contextlib
import json
import signal
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import pytest

from tests.conformance.conftest import MAKERS
from tests.support.certificates import Authority
from tests.support.frames import CLOSE, PING, deflated, frame, inflated, request, split
from tests.support.ports import free_port
from tests.support.servers import Broker

SECONDS = 5.0
AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
AIOHTTP = pytest.mark.filterwarnings("ignore:parameter 'timeout' of type:DeprecationWarning")  # nats-py's own
CONNECT = b'CONNECT {"verbose":false,"headers":true}\r\n'


class Site(Broker):
    """A broker with the port of its websocket listener."""

    ws: int


Starter = Callable[..., Site]


@pytest.fixture(params=list(MAKERS))
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Starter]:
    started: list[Broker] = []

    def starter(websocket: str = "no_tls: true", more: str = "", flags: tuple[str, ...] = ()) -> Site:
        port = free_port()
        config = f'websocket {{ listen: "127.0.0.1:{port}", {websocket} }}\n{more}'
        broker = MAKERS[request.param](tmp_path / str(len(started)), config=config, flags=flags)
        started.append(broker)
        broker.ws = port  # type: ignore[attr-defined]
        return broker.start()  # type: ignore[return-value]

    yield starter
    for broker in started:
        broker.stop()


class Browser:
    """One connection by hand: upgraded, its first frame read."""

    def __init__(self, port: int, *lines: str, context: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.socket.sendall(request(*lines))
        self.head = self._until(lambda seen: seen.endswith(b"\r\n\r\n"), at_once=1)
        self.first, text = self.frame()
        self.packed = bool(self.first & 0x40)
        self.info = json.loads((inflated(text) if self.packed else text)[5:])

    def _until(self, done: Callable[[bytes], bool], at_once: int = 65536) -> bytes:
        seen = b""
        while not done(seen):
            data = self.socket.recv(at_once)
            if not data:
                raise EOFError(seen)
            seen += data
        return seen

    def _exactly(self, size: int) -> bytes:
        seen = b""
        while len(seen) < size:
            data = self.socket.recv(size - len(seen))
            if not data:
                raise EOFError(seen)
            seen += data
        return seen

    def frame(self) -> tuple[int, bytes]:
        head = self._exactly(2)
        size = head[1]
        if size >= 126:
            size = int.from_bytes(self._exactly(2 if size == 126 else 8), "big")
        return head[0], self._exactly(size)

    def say(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def rest(self) -> list[tuple[int, bytes]]:
        """Frames until the end of the connection."""
        seen = b""
        try:
            while data := self.socket.recv(65536):
                seen += data
        except ConnectionResetError:
            pass
        return split(seen)

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def refused(port: int, *lines: str, without: str = "", path: str = "/") -> int:
    """The status of an upgrade that is refused."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as plain:
        plain.sendall(request(*lines, without=without, path=path))
        return int(plain.recv(4096).split()[1])


def test_where_it_listens(start: Starter, tmp_path: Path) -> None:
    broker = start(flags=("--ports_file_dir", str(tmp_path)))
    assert f"Listening for websocket clients on ws://127.0.0.1:{broker.ws}" in broker.output()
    deadline = time.monotonic() + SECONDS
    while not (found := [path for path in tmp_path.glob("*.ports") if path.read_text()]):
        assert time.monotonic() < deadline
    (ports,) = found
    assert json.loads(ports.read_text())["websocket"] == [f"ws://127.0.0.1:{broker.ws}"]


def test_the_upgrade_and_info(start: Starter) -> None:
    with Browser(start().ws) as browser:
        lines = browser.head.decode().split("\r\n")
        assert lines[0] == "HTTP/1.1 101 Switching Protocols"
        assert "Sec-WebSocket-Accept: BACScCJPNqyz+UBoqMH89VmURoA=" in lines
        assert browser.first == 0x82
        assert "tls_required" not in browser.info
        assert browser.info["host"] == "127.0.0.1"
        browser.say(frame(CONNECT + b"PING\r\n"))
        assert browser.frame() == (0x82, b"PONG\r\n")


def test_info_names_the_listener(start: Starter) -> None:
    broker = start()
    with Browser(broker.ws) as browser:
        assert browser.info["port"] == broker.ws


def test_what_is_no_upgrade(start: Starter) -> None:
    port = start().ws
    for line in ("Upgrade: ", "Connection", "Key", "Version"):
        assert refused(port, without=line) == 400
    assert refused(port, path="/mqtt") == 404


def test_silence_before_the_upgrade(start: Starter) -> None:
    port = start('no_tls: true, handshake_timeout: "200ms"').ws
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as silent:
        silent.sendall(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionResetError):
            while silent.recv(100):
                pass


def test_frames_of_all_kinds(start: Starter) -> None:
    with Browser(start().ws) as browser:
        browser.say(frame(CONNECT + b"SUB a 1\r\nPI"), frame(b"still there", PING), frame(b"NG\r\n", 1))
        assert browser.frame() == (0x8A, b"still there")
        assert browser.frame() == (0x82, b"PONG\r\n")
        browser.say(frame(b"PUB a 5\r\nhe", fin=False), frame(b"ll", 0, fin=False), frame(b"o\r\nPING\r\n", 0))
        assert b"".join(payload for _, payload in (browser.frame(),)) == b"MSG a 1 5\r\nhello\r\nPONG\r\n"


@pytest.mark.parametrize("body", [b"", b"\x03\xe8bye"])
def test_a_close_is_echoed(start: Starter, body: bytes) -> None:
    with Browser(start().ws) as browser:
        browser.say(frame(body, CLOSE))
        assert browser.rest() == [(0x88, body)]


@pytest.mark.parametrize(
    "wire", [frame(b"PING\r\n", mask=b""), frame(b"", 3), frame(b"", 0), frame(b"x" * 126, PING), frame(b"", rsv=0x40)]
)
def test_broken_frames_end_the_connection(start: Starter, wire: bytes) -> None:
    with Browser(start().ws) as browser:
        browser.say(wire)
        assert all(first == 0x88 for first, _ in browser.rest())


def test_reasons_of_the_end(start: Starter) -> None:
    broker = start(more="authorization { user: u, password: p }")
    with Browser(broker.ws) as browser:
        assert browser.info["auth_required"] is True
        browser.say(frame(b'CONNECT {"user":"u","pass":"wrong","verbose":false}\r\n'))
        error, end = browser.rest()
        assert error == (0x82, b"-ERR 'Authorization Violation'\r\n")
        assert end == (0x88, (1008).to_bytes(2, "big") + b"Authentication Failure")
    with Browser(broker.ws) as browser:
        browser.say(frame(b'CONNECT {"user":"u","pass":"p","verbose":false}\r\nPUB a 99999999\r\n'))
        error, end = browser.rest()
        assert error == (0x82, b"-ERR 'Maximum Payload Violation'\r\n")
        assert end == (0x88, (1009).to_bytes(2, "big") + b"Maximum Message Payload Exceeded")


def test_origins(start: Starter) -> None:
    port = start("no_tls: true, same_origin: true").ws
    assert refused(port, "Origin: http://other") == 403
    Browser(port, "Origin: http://site").close()
    port = start('no_tls: true, allowed_origins: ["http://a.org"], headers: { X-Site: roof }').ws
    assert refused(port, "Origin: https://a.org") == 403
    with Browser(port, "Origin: http://A.org:80") as browser:
        assert b"X-Site: roof\r\n" in browser.head


def test_compression(start: Starter) -> None:
    broker = start("no_tls: true, compression: true")
    with Browser(broker.ws) as browser:
        assert not browser.packed
    with Browser(broker.ws, f"Sec-WebSocket-Extensions: {AGREED}") as browser:
        assert AGREED.encode() in browser.head
        assert browser.packed
        packed = deflated(CONNECT + b"SUB a 1\r\nPUB a 1000\r\n" + b"x" * 1000 + b"\r\n")
        browser.say(frame(packed[:20], rsv=0x40, fin=False), frame(packed[20:], 0))
        first, payload = browser.frame()
        assert first == 0xC2
        assert inflated(payload) == b"MSG a 1 1000\r\n" + b"x" * 1000 + b"\r\n"
        browser.say(frame(b"PING\r\n"))
        assert browser.frame() == (0x82, b"PONG\r\n")


def test_browsers_get_small_frames(start: Starter) -> None:
    with Browser(start().ws, "User-Agent: Mozilla/5.0") as browser:
        browser.say(frame(CONNECT + b"SUB a 1\r\nPUB a 10000\r\n" + b"x" * 10_000 + b"\r\n"))
        expected = b"MSG a 1 10000\r\n" + b"x" * 10_000 + b"\r\n"
        seen: list[bytes] = []
        while sum(map(len, seen)) < len(expected):
            seen.append(browser.frame()[1])
        assert all(len(payload) <= 4096 for payload in seen)
        assert b"".join(seen) == expected


def answer_to_connect(port: int, cookie: str, options: str = "") -> bytes:
    with Browser(port, f"Cookie: {cookie}") as browser:
        browser.say(frame(b'CONNECT {"verbose":false%b}\r\nPING\r\n' % options.encode()))
        return browser.frame()[1]


def test_cookies(start: Starter) -> None:
    port = start("no_tls: true, user_cookie: who, pass_cookie: word", "authorization { user: u, password: p }").ws
    assert answer_to_connect(port, "who=u; word=p") == b"PONG\r\n"
    assert answer_to_connect(port, "who=u; word=wrong").startswith(b"-ERR")
    assert answer_to_connect(port, "who=u; word=p", ',"user":"other","pass":"p"').startswith(b"-ERR")
    port = start("no_tls: true, token_cookie: t", "authorization { token: secret }").ws
    assert answer_to_connect(port, "t=secret") == b"PONG\r\n"


def test_users_of_its_own(start: Starter) -> None:
    port = start(
        "no_tls: true, authorization { user: w, password: p, timeout: 0.2 }", "authorization { user: u, password: p }"
    ).ws
    assert answer_to_connect(port, "", ',"user":"w","pass":"p"') == b"PONG\r\n"
    assert answer_to_connect(port, "", ',"user":"u","pass":"p"').startswith(b"-ERR")
    with Browser(port) as browser:
        assert browser.rest()[0] == (0x82, b"-ERR 'Authentication Timeout'\r\n")
    port = start("no_tls: true, no_auth_user: guest", "accounts { A { users: [ {user: guest, password: x} ] } }").ws
    with Browser(port) as browser:
        browser.say(frame(CONNECT + b"PING\r\n"))
        assert browser.frame()[1] == b"PONG\r\n"


@AIOHTTP
async def test_nats_py(start: Starter) -> None:
    broker = start()
    over = await nats.connect(f"ws://127.0.0.1:{broker.ws}", allow_reconnect=False)
    plain = await nats.connect(broker.url, allow_reconnect=False)

    async def echo(message: nats.aio.msg.Msg) -> None:
        await message.respond(message.data)

    await over.subscribe("echo", cb=echo)
    await over.flush()
    for size in (0, 125, 126, 65_536, 1_000_000):
        assert (await plain.request("echo", b"x" * size, timeout=SECONDS)).data == b"x" * size
    heard = await plain.subscribe("s")
    await plain.flush()
    for number in range(500):
        await over.publish("s", b"%d" % number, headers={"N": str(number)})
    async with asyncio.timeout(SECONDS):
        assert [int((await heard.next_msg(timeout=SECONDS)).data) for _ in range(500)] == list(range(500))
    await over.close()
    await plain.close()


@AIOHTTP
async def test_nats_py_over_tls(start: Starter, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    own = authority.server()
    broker = start(f'tls {{ cert_file: "{own.cert}", key_file: "{own.key}" }}')
    assert f"Listening for websocket clients on wss://127.0.0.1:{broker.ws}" in broker.output()
    with Browser(broker.ws, context=authority.context()) as browser:
        assert (browser.info["tls_required"], browser.info["tls_available"]) == (True, True)
        browser.say(frame(CONNECT + b"PING\r\n"))
        assert browser.frame()[1] == b"PONG\r\n"
    client = await nats.connect(f"wss://localhost:{broker.ws}", tls=authority.context(), allow_reconnect=False)
    sub = await client.subscribe("s")
    await client.publish("s", b"y" * 100_000)
    assert (await sub.next_msg(timeout=SECONDS)).data == b"y" * 100_000
    await client.close()


def test_the_monitor_tells_the_transports_apart(start: Starter) -> None:
    monitor = free_port()
    broker = start(more=f'http: "127.0.0.1:{monitor}"')
    with Browser(broker.ws) as browser:
        browser.say(frame(CONNECT + b"PING\r\n"))
        browser.frame()
        with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/connz", timeout=SECONDS) as answer:
            (row,) = json.load(answer)["connections"]
    assert (row["kind"], row["type"]) == ("Client", "websocket")


def test_the_monitor_shows_the_listener(start: Starter) -> None:
    monitor = free_port()
    rules = 'no_tls: true, compression: true, allowed_origins: ["http://a"], no_auth_user: u, handshake_timeout: 3s'
    more = f'http: "127.0.0.1:{monitor}"\naccounts {{ A {{ users: [ {{user: u, password: p}} ] }} }}'
    broker = start(rules, more)
    with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/varz", timeout=SECONDS) as answer:
        shown = json.load(answer)["websocket"]
    assert shown == {
        "host": "127.0.0.1",
        "port": broker.ws,
        "no_auth_user": "u",
        "handshake_timeout": 3_000_000_000,
        "no_tls": True,
        "allowed_origins": ["http://a"],
        "compression": True,
    }


def test_a_new_certificate_after_a_reload(start: Starter, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    own = authority.server()
    broker = start(f'tls {{ cert_file: "{own.cert}", key_file: "{own.key}" }}')

    def served() -> bytes | None:
        with Browser(broker.ws, context=authority.context()) as browser:
            assert isinstance(browser.socket, ssl.SSLSocket)
            return browser.socket.getpeercert(binary_form=True)

    before, fresh = served(), authority.server("fresh")
    own.cert.write_bytes(fresh.cert.read_bytes())
    own.key.write_bytes(fresh.key.read_bytes())
    broker.signal(signal.SIGHUP)
    deadline = time.monotonic() + SECONDS
    while served() == before:
        assert time.monotonic() < deadline
