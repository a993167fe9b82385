"""The proxy does to a connection what its commands say, and nothing else."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.ports import free_port
from tests.support.proxy import Proxy


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that returns what it gets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def dial(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def test_passes_bytes_both_ways_and_counts_them():
    async with echo() as port, Proxy(port) as link:
        reader, writer = await dial(link.port)
        writer.write(b"x" * 300_000)
        assert await reader.readexactly(300_000) == b"x" * 300_000
        assert (link.up_bytes, link.down_bytes, link.accepted, link.open) == (300_000, 300_000, 1, 1)
        writer.close()


@pytest.mark.parametrize("direction", ["both", "up", "down"])
async def test_stall_holds_bytes_until_restored(direction):
    async with echo() as port, Proxy(port) as link:
        reader, writer = await dial(link.port)
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        link.stall(direction)
        writer.write(b"b")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.1)
        assert link.up_bytes == (2 if direction == "down" else 1)
        link.restore()
        assert await reader.readexactly(1) == b"b"
        writer.close()


async def test_blackhole_takes_bytes_that_never_arrive():
    async with echo() as port, Proxy(port) as link:
        reader, writer = await dial(link.port)
        link.blackhole("up")
        writer.write(b"lost")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        link.restore()
        writer.write(b"kept")
        assert await reader.readexactly(4) == b"kept"
        writer.close()


async def test_reset_is_a_reset_and_fin_is_an_end():
    async with echo() as port, Proxy(port) as link:
        reader, writer = await dial(link.port)
        writer.write(b"a")
        await reader.readexactly(1)
        link.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
        reader, writer = await dial(link.port)
        writer.write(b"a")
        await reader.readexactly(1)
        link.fin()
        assert await reader.read(1) == b""
        writer.close()


async def test_refuse_and_accept_keep_the_port():
    async with echo() as port, Proxy(port) as link:
        link.refuse()
        with pytest.raises(ConnectionRefusedError):
            await dial(link.port)
        link.accept()
        reader, writer = await dial(link.port)
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        writer.close()


async def test_nobody_behind_the_proxy_is_seen_as_a_reset():
    async with Proxy(free_port()) as link:
        reader, writer = await dial(link.port)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()


@pytest.mark.parametrize("count", [1, 7, 20_000, 100_000])
async def test_cut_lands_on_the_byte(count):
    got = bytearray()
    over = asyncio.Event()

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                got.extend(data)
        except OSError:
            pass
        finally:
            writer.close()
            over.set()

    server = await asyncio.start_server(collect, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as link:
        reader, writer = await dial(link.port)
        link.cut_after(count)
        writer.write(b"x" * 200_000)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        await over.wait()
        # A reset may overtake bytes that the receiver had not read; more than promised never passes.
        assert link.up_bytes == count
        assert len(got) <= count
        writer.close()


async def test_delay_is_latency_and_not_a_rate():
    async with echo() as port, Proxy(port) as link:
        reader, writer = await dial(link.port)
        link.delay(0.1)
        began = time.monotonic()
        for _ in range(10):
            writer.write(b"x")
            await asyncio.sleep(0)
        await reader.readexactly(10)
        assert time.monotonic() - began >= 0.2
        writer.close()


async def test_rate_lets_everything_through_in_the_end():
    async with echo() as port, Proxy(port) as link:
        reader, writer = await dial(link.port)
        link.rate(200_000)
        writer.write(b"x" * 20_000)
        assert len(await reader.readexactly(20_000)) == 20_000
        writer.close()


async def test_runs_in_a_thread_of_its_own():
    async with echo() as port:
        with Proxy(port) as link:

            def talk() -> bytes:
                with socket.create_connection(("127.0.0.1", link.port)) as client:
                    client.sendall(b"hello")
                    first = client.recv(5)
                    link.reset()
                    try:
                        return first + client.recv(5)
                    except ConnectionResetError:
                        return first + b"!"

            assert await asyncio.to_thread(talk) == b"hello!"
