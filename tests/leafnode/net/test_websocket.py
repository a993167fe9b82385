"""The websocket layer on a listener of the loop: requests in pieces, limits, pipelined frames, reasons of the end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from leafnode.access import authenticator, websocket_authenticator
from leafnode.config.load import load_text
from leafnode.net.frames import close_code
from leafnode.net.listening import Sockets
from leafnode.net.server import ClientHost
from leafnode.net.websocket import WebsocketListener
from leafnode.route.account import Account
from tests.support.frames import CLOSE, PING, frame, request, split

SECONDS = 5.0


class Site:
    """A listener, and what clients say and hear."""

    def __init__(self, rules: str) -> None:
        config = load_text(f'websocket {{ listen: "127.0.0.1:-1", no_tls: true, {rules} }}')
        accounts: dict[str, Account] = {}

        def account_of(name: str) -> Account:
            return accounts.setdefault(name, Account(name, lambda bound: 0))

        self.host = ClientHost(
            info={"server_id": "N"},
            authenticator=authenticator(config),
            account_of=account_of,
            make_nonce=lambda: b"",
            max_payload=config.max_payload,
            max_control_line=config.max_control_line,
            max_pending=config.max_pending,
            max_connections=config.max_connections,
            max_subscriptions=config.max_subscriptions,
            ping_interval_s=config.ping_interval_s,
            ping_max=config.ping_max,
            write_deadline_s=config.write_deadline_s,
            auth_timeout_s=config.auth_timeout_s,
        )
        self.listener = WebsocketListener(self.host, config, websocket_authenticator(config))

    async def talk(self, *pieces: bytes) -> tuple[bytes, bytes]:
        """Everything until the listener closes: the HTTP head, and what follows."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            async with asyncio.timeout(SECONDS):
                head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
                return head, rest
        finally:
            writer.close()
            await writer.wait_closed()


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Any]]:
    started: list[Site] = []

    async def starter(rules: str = "") -> Site:
        site = Site(rules)
        await site.listener.start(Sockets())
        started.append(site)
        return site

    yield starter
    for site in started:
        site.listener.close()
        async with asyncio.timeout(SECONDS):
            while site.host.connections:
                await asyncio.sleep(0.001)


BYE = frame(b"\x03\xe8", CLOSE)


async def test_everything_at_once_or_byte_by_byte(start: Callable[..., Any]) -> None:
    site = await start()
    said = request() + frame(b'CONNECT {"verbose":false}\r\nPING\r\n') + frame(b"hello", PING) + BYE
    for pieces in ([said], [said[i : i + 1] for i in range(len(said))]):
        head, rest = await site.talk(*pieces)
        assert head.startswith(b"HTTP/1.1 101 ")
        frames = split(rest)
        text = b"".join(payload for first, payload in frames if first == 0x82)
        assert text.startswith(b'INFO {"server_id":"N"')
        assert text.endswith(b"PONG\r\n")
        assert (0x8A, b"hello") in frames
        assert frames[-1] == (0x88, b"\x03\xe8")


async def test_a_request_without_end(start: Callable[..., Any]) -> None:
    site = await start()
    head, _ = await site.talk(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000)
    assert head.startswith(b"HTTP/1.1 431 ")
    assert site.host.total_connections == 0


async def test_a_request_that_does_not_come(start: Callable[..., Any]) -> None:
    site = await start("handshake_timeout: 20ms")
    assert await site.talk(b"GET / HTTP/1.1\r\n") == (b"", b"")
    assert site.host.total_connections == 0


@pytest.mark.parametrize(
    ("wire", "code"), [(frame(b"x", mask=b""), 1002), (frame(b"\x03\xe8\xff", CLOSE), 1007), (frame(b"x", 5), 1002)]
)
async def test_broken_frames_are_told_why(start: Callable[..., Any], wire: bytes, code: int) -> None:
    site = await start()
    _, rest = await site.talk(request(), frame(b"PING\r\n") + wire + frame(b"PUB a 1\r\nx\r\n"))
    first, body = split(rest)[-1]
    assert (first, int.from_bytes(body[:2], "big")) == (0x88, code)
    assert site.host.in_msgs == 0


async def test_a_lost_client_is_forgotten(start: Callable[..., Any]) -> None:
    site = await start()
    _, writer = await asyncio.open_connection("127.0.0.1", site.listener.port)
    writer.write(request() + frame(b"SUB a 1\r\n"))
    async with asyncio.timeout(SECONDS):
        while not any(connection.session.subs for connection in site.host.connections.values()):
            await asyncio.sleep(0.001)
        writer.close()
        await writer.wait_closed()
        while site.host.connections:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("Client Closed", 1000),
        ("Server Shutdown", 1001),
        ("Protocol Violation", 1002),
        ("Authentication Timeout", 1008),
        ("Slow Consumer (Pending Bytes)", 1008),
        ("Maximum Connections Exceeded", 1008),
        ("Maximum Message Payload Exceeded", 1009),
        ("Something Else", 1011),
    ],
)
def test_codes_of_the_end(reason: str, code: int) -> None:
    assert close_code(reason) == code
