"""A hub that is none: garbage, silence, endless lines. The site serves on and finds the real hub when it is back."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.js.api import StreamConfig

from tests.faults.load import connect, insist
from tests.support.ports import free_port
from tests.support.servers import Broker, jetstream, leafnode, stock_hub

VISITS = 3  # connections that a bad hub gets to spoil before the real one takes its port
INFO = b'INFO {"server_id":"X","version":"2.15.1","proto":1,"max_payload":1048576,"headers":true,"nonce":"abc"}\r\n'

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]


async def noise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(random.Random(7).randbytes(50_000))
    await writer.drain()


async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closes at once."""


async def half_an_info(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(INFO[:30])


async def info_of_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b'INFO {"max_payload":"x","nonce":[],"proto":{},"connect_urls":7,"domain":3}\r\n')
    await reader.read(100)


async def deep_info(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"INFO " + b"[" * 2000 + b"\r\n")
    await reader.read(100)


async def endless_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _ in range(200):
        writer.write(b"x" * 100_000)
        await writer.drain()


async def wrong_frames(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A proper beginning, then frames that no leaf sends."""
    writer.write(INFO)
    await reader.readuntil(b"\r\n")
    frames = [
        b"LS+ a.b\r\n",
        b"LS+ > q 99999999999999999999\r\n",
        b"LMSG a 5\r\nhello\r\n",
        b"LMSG a -1\r\n",
        b"LS- \r\n",
    ]
    chance = random.Random(len(frames))
    for _ in range(200):
        writer.write(
            chance.choice([*frames, b"LMSG + x y z\r\n", b"HMSG\r\n", b"\x00\xff\r\n", b"LMSG $JS.API.INFO 0\r\n\r\n"])
        )
    await writer.drain()
    await reader.read(1000)


async def cut_in_the_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """TLS is demanded and begun, then the line goes dead: neither the handshake nor the link ever began."""
    writer.write(INFO.replace(b'"nonce"', b'"client_id":5,"leafnode_urls":[],"tls_required":true,"nonce"'))
    assert (await reader.read(100))[:1] == b"\x16"


async def reset_in_the_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await cut_in_the_handshake(reader, writer)
    writer.transport.abort()


async def silent_in_the_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await cut_in_the_handshake(reader, writer)
    while await reader.read(1000):
        pass


async def refusal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(INFO)
    await reader.readuntil(b"\r\n")
    writer.write(b"-ERR 'Authorization Violation'\r\n")
    await writer.drain()


BAD_HUBS: list[Talk] = [
    noise, nothing, half_an_info, info_of_nonsense, deep_info, endless_line, wrong_frames, refusal,
    cut_in_the_handshake, reset_in_the_handshake, silent_in_the_handshake,
]  # fmt: skip


@asynccontextmanager
async def bad_hub(port: int, talk: Talk) -> AsyncIterator[list[int]]:
    """Listens where the hub should be; yields the visits."""
    visits: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(1)
        try:
            await talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield visits
    finally:
        server.close()


async def serves(broker: Broker) -> None:
    client = await nats.connect(broker.url, allow_reconnect=False)
    ack = await client.jetstream().publish("s.alive", b"yes")
    assert (await client.jetstream().get_msg("S", ack.seq)).data == b"yes"
    await client.close()


@pytest.mark.parametrize("talk", BAD_HUBS, ids=lambda talk: talk.__name__)
async def test_a_bad_hub_harms_nothing_and_the_real_one_is_found(tmp_path: Path, talk: Talk) -> None:
    port = free_port()
    remote = (
        f'leafnodes {{ reconnect: 50ms, link_deadline: 1s\nremotes: [ {{ url: "nats-leaf://127.0.0.1:{port}" }} ] }}'
    )
    with leafnode(tmp_path / "site", config=f"{jetstream(tmp_path / 'site', 'site')}\n{remote}") as broker:
        client = await connect(broker.url)
        await insist(lambda: client.jetstream().add_stream(StreamConfig(name="S", subjects=["s.>"])))
        async with bad_hub(port, talk) as visits:
            async with asyncio.timeout(20):
                while len(visits) < VISITS:
                    await asyncio.sleep(0.02)
            await serves(broker)
        with stock_hub(tmp_path / "hub", config=f'leafnodes {{ listen: "127.0.0.1:{port}" }}') as hub:
            at_hub = await connect(hub.url)
            await insist(lambda: at_hub.request("$JS.site.API.INFO", b"", timeout=0.5))
            await at_hub.close()
        await serves(broker)
        await client.close()
        assert broker.alive()
        assert "Traceback" not in broker.output(), broker.output()[-3000:]
