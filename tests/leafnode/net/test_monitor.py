"""The monitor over real sockets on loopback, and its request parser without."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafnode.net import monitor
from leafnode.net.listening import make, port_of
from leafnode.net.monitor import Answer, BadRequest, Monitor, boolean, parse_request, whole_number

DEADLINE_S = 5.0


def varz(query: dict[str, str]) -> Answer:
    return 200, {"version": "1", "limit": whole_number(query, "limit", 7), "subs": boolean(query, "subs")}


def healthz(_: dict[str, str]) -> Answer:
    return 503, b'{"status":"unavailable"}'


def broken(_: dict[str, str]) -> Answer:
    raise RuntimeError("secret detail")


def refused(_: dict[str, str]) -> Answer:
    raise BadRequest("invalid sorting option: bad")


ROUTES = {"/varz": varz, "/healthz": healthz, "/broken": broken, "/refused": refused}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    serving = Monitor(ROUTES)
    listening = make("127.0.0.1", 0)
    await serving.start(listening)
    yield port_of(listening)
    await serving.close()


async def talk(port: int, sent: bytes) -> bytes:
    """Everything the server says until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        async with asyncio.timeout(DEADLINE_S):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def get(port: int, target: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    answer = await talk(port, f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), fields, body


async def test_json_is_indented_and_readable_by_any_page(port: int) -> None:
    status, fields, body = await get(port, "/varz?limit=3&subs=true&limit=9")
    assert status == 200
    assert body == json.dumps({"version": "1", "limit": 3, "subs": True}, indent=2).encode()
    assert fields["content-type"] == "application/json"
    assert fields["access-control-allow-origin"] == "*"
    assert fields["content-length"] == str(len(body))


async def test_ready_json_is_sent_as_it_is(port: int) -> None:
    status, fields, body = await get(port, "/healthz")
    assert (status, body) == (503, b'{"status":"unavailable"}')
    assert fields["content-type"] == "application/json"


async def test_bad_parameters_are_answered_in_nats_servers_words(port: int) -> None:
    status, _, body = await get(port, "/varz?limit=x")
    assert (status, body) == (400, b"Error decoding int for 'limit': strconv.Atoi: parsing \"x\": invalid syntax")
    status, _, body = await get(port, "/varz?subs=x")
    assert (status, body) == (
        400,
        b"Error decoding boolean for 'subs': strconv.ParseBool: parsing \"x\": invalid syntax",
    )
    assert (await get(port, "/refused"))[::2] == (400, b"invalid sorting option: bad")


async def test_unknown_paths_methods_and_failures(port: int) -> None:
    assert (await get(port, "/nope"))[0] == 404
    assert (await get(port, "/varz", "POST"))[0] == 405
    status, _, body = await get(port, "/broken")
    assert status == 500
    assert b"secret" not in body


async def test_the_index_links_every_route(port: int) -> None:
    status, fields, body = await get(port, "/")
    assert status == 200
    assert fields["content-type"].startswith("text/html")
    assert all(f'href=".{path}"'.encode() in body for path in ROUTES)


async def test_head_has_no_body(port: int) -> None:
    status, fields, body = await get(port, "/varz", "HEAD")
    assert (status, body) == (200, b"")
    assert int(fields["content-length"]) > 0


async def test_a_connection_serves_several_requests(port: int) -> None:
    first = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = await talk(port, first + first + b"GET /healthz HTTP/1.0\r\n\r\n")
    assert answer.count(b"HTTP/1.1 503") == 3


@pytest.mark.parametrize(
    "sent",
    [
        b"HELLO\r\n\r\n",
        b"GET /varz\r\n\r\n",
        b"GET /varz HTTP/2.0\r\n\r\n",
        b"GET varz HTTP/1.1\r\n\r\n",
        b"GET /varz HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /varz?" + b"a&" * 40 + b" HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_not_http_ends_the_connection(port: int, sent: bytes) -> None:
    assert (await talk(port, sent)).startswith(b"HTTP/1.1 400 ")


async def test_a_large_request_is_refused(port: int) -> None:
    answer = await talk(port, b"GET / HTTP/1.1\r\n" + b"x" * 3 * monitor.HEAD_MAX)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")  # a reset may overtake the answer


async def test_a_client_that_sends_nothing_is_hung_up_on(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "REQUEST_S", 0.01)
    assert await talk(port, b"GET /va") == b""


async def test_connections_are_bounded(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "CONNECTIONS_MAX", 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        assert (await talk(port, b"")).startswith(b"HTTP/1.1 503 ")
    finally:
        writer.close()
        await writer.wait_closed()


async def test_close_drops_open_connections() -> None:
    serving = Monitor(ROUTES)
    listening = make("127.0.0.1", 0)
    await serving.start(listening)
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(listening))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    await serving.close()
    async with asyncio.timeout(DEADLINE_S):
        await reader.read()
    writer.close()
    await writer.wait_closed()


def test_counts_known_paths_only() -> None:
    serving = Monitor(ROUTES, base_path="/nats/")
    for path in ("/nats/varz", "/nats/varz", "/varz", "/nats/nope"):
        request = parse_request(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        assert request is not None
        serving.respond(request)
    assert serving.request_counts == {"/varz": 2}


@given(
    st.binary(max_size=200), st.sampled_from([lambda b: b, lambda b: b"GET /" + b, lambda b: b"GET / HTTP/1.1\r\n" + b])
)
def test_any_bytes_are_a_request_or_none(noise: bytes, dress: Callable[[bytes], bytes]) -> None:
    parse_request(dress(noise) + b"\r\n\r\n")
