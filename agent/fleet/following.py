"""Reading what has no end until somebody says stop (Ctrl-C)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def until(stop: asyncio.Event, source: AsyncGenerator[T | None, None]) -> AsyncGenerator[T, None]:
    """What the source gives, at once, until `stop` is set; the source is closed then. Its None is nothing."""
    ended = asyncio.create_task(stop.wait())
    try:
        async with aclosing(source):
            while not stop.is_set():
                coming = asyncio.ensure_future(anext(source))
                await asyncio.wait({coming, ended}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    await asyncio.gather(coming, return_exceptions=True)
                    return
                if (found := coming.result()) is not None:
                    yield found
    finally:
        ended.cancel()
