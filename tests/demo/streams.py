"""Reading the streams of hub and sites with a plain NATS client, independent of the code under show.

A message that the hub sourced carries `Nats-Stream-Source: STREAM SEQUENCE …`: its number in the site's stream. That is
what makes "every reading, once" checkable to the last message.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import nats
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

SOURCE_HEADER: Final = "Nats-Stream-Source"
BATCH: Final = 500  # messages of one pull
LOOK_SECONDS: Final = 10.0  # for one look at a stream on a loaded machine

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kept:
    """A message in a stream; `origin` is its number in the stream it was sourced from, 0 when published directly."""

    seq: int
    origin: int
    subject: str
    body: bytes


def look(asking: Coroutine[Any, Any, T]) -> T:
    """One look from outside any event loop."""
    return asyncio.run(asyncio.wait_for(asking, LOOK_SECONDS))


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    connection = await nats.connect(url, allow_reconnect=False)
    try:
        yield connection
    finally:
        await connection.close()


async def last_seq(url: str, stream: str) -> int:
    """The newest number that the stream gave; 0 when there is no such stream yet."""
    async with client(url) as connection:
        try:
            return int((await connection.jetstream().stream_info(stream)).state.last_seq)
        except NotFoundError:
            return 0


async def counts(url: str, stream: str, pattern: str) -> Mapping[str, int]:
    """Messages by subject."""
    async with client(url) as connection:
        try:
            info = await connection.jetstream().stream_info(stream, subjects_filter=pattern)
        except NotFoundError:
            return {}
        return info.state.subjects or {}


async def newest(url: str, stream: str, subject: str) -> bytes:
    """The body of the newest message on a subject."""
    async with client(url) as connection:
        return (await connection.jetstream().get_last_msg(stream, subject)).data or b""


async def publish(url: str, subject: str, body: bytes) -> int:
    """Publish and wait for the acknowledgement; the number it was stored under."""
    async with client(url) as connection:
        return int((await connection.jetstream().publish(subject, body, timeout=LOOK_SECONDS)).seq)


async def answers(url: str, subject: str, body: bytes, *, count: int, seconds: float = 5.0) -> list[bytes]:
    """Scatter-gather as any NATS client does it: up to `count` answers."""
    found: list[bytes] = []
    async with client(url) as connection:
        inbox = connection.new_inbox()
        waiting = await connection.subscribe(inbox)
        await connection.publish(subject, body, reply=inbox)
        while len(found) < count:
            found.append((await waiting.next_msg(seconds)).data)
    return found


async def read(url: str, stream: str) -> list[Kept]:
    """Everything in the stream now, in order."""
    async with client(url) as connection:
        return await _read(connection, stream)


async def _read(connection: Client, stream: str) -> list[Kept]:
    context = connection.jetstream()
    total = (await context.stream_info(stream)).state.messages
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL)
    pull = await context.pull_subscribe("", config=config, stream=stream)
    found: list[Kept] = []
    while len(found) < total:
        for message in await pull.fetch(min(BATCH, total - len(found)), timeout=LOOK_SECONDS):
            origin = (message.headers or {}).get(SOURCE_HEADER, "")
            found.append(
                Kept(
                    seq=message.metadata.sequence.stream,
                    origin=int(origin.split()[1]) if origin else 0,
                    subject=message.subject,
                    body=message.data,
                )
            )
    await pull.unsubscribe()
    return found
