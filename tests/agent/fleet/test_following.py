"""Reading goes on until it is told to stop, also while nothing comes."""

import asyncio
from collections.abc import AsyncGenerator

from agent.fleet.following import until

PATIENCE_S = 10.0


class Source:
    """Gives what is put, and knows whether it was closed."""

    def __init__(self) -> None:
        self.things: asyncio.Queue[int | None] = asyncio.Queue()
        self.closed = False

    async def read(self) -> AsyncGenerator[int | None, None]:
        try:
            while True:
                yield await self.things.get()
        finally:
            self.closed = True


async def test_things_come_until_the_stop_which_needs_no_further_thing() -> None:
    source, stop, got = Source(), asyncio.Event(), []
    for thing in (1, None, 2):
        source.things.put_nowait(thing)
    async with asyncio.timeout(PATIENCE_S):
        async for thing in until(stop, source.read()):
            got.append(thing)
            if thing == 2:
                asyncio.get_running_loop().call_soon(stop.set)
    assert got == [1, 2]
    assert source.closed


async def test_a_stop_before_the_first_thing_gives_none() -> None:
    source, stop = Source(), asyncio.Event()
    source.things.put_nowait(1)
    stop.set()
    assert [thing async for thing in until(stop, source.read())] == []
