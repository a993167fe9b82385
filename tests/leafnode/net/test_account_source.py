"""Asking a web server for a JWT: what it gives, and what is no answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from leafnode.errors import TrustError
from leafnode.net.account_source import WebSource

OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


@contextlib.asynccontextmanager
async def source(*parts: bytes, pause_s: float = 0.0) -> AsyncIterator[WebSource]:
    """Of a server that says these parts, whatever it is asked."""
    done, gone = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause_s)
            if not parts:
                await done.wait()
        except ConnectionError:
            pass
        finally:
            writer.close()
            gone.set()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    asked = WebSource(f"http://127.0.0.1:{port}/accounts", timeout_s=0.3)
    yield asked
    done.set()
    await gone.wait()
    asked.close()
    server.close()


@pytest.mark.parametrize(
    "parts",
    [
        (OK + b"Content-Length: 5\r\n\r\njwt\r\n",),
        (OK + b"\r\n", b"j", b"wt"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nj\r\n2\r\nwt\r\n0\r\n\r\n",),
    ],
)
async def test_a_jwt(parts: tuple[bytes, ...]) -> None:
    async with source(*parts) as asked:
        assert await asked.fetch("A") == "jwt"


@pytest.mark.parametrize(
    "parts",
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",),
        (b"what?\r\n\r\n",),
        (OK + b"\r\n\xff\xfe",),
        (),
    ],
)
async def test_no_jwt(parts: tuple[bytes, ...]) -> None:
    async with source(*parts) as asked:
        with pytest.raises(TrustError):
            await asked.fetch("A")


async def test_a_slow_server_holds_nobody_up() -> None:
    async with source(OK + b"\r\n", *([b"x"] * 100), pause_s=0.02) as asked:
        with pytest.raises(TrustError):
            await asked.fetch("A")
        assert await asyncio.wait_for(asyncio.to_thread(asked._threads.submit(lambda: "free").result), 5) == "free"
