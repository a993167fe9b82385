"""Publishers and readers that insist: each repeats until it is told yes, and remembers what it was told.

What they remember is what a broker promised. The tests compare it with what is in the streams afterwards.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import DeliverPolicy
from nats.js.errors import APIError

ANSWER_SECONDS = 0.5  # for one request; a broker that was killed answers none, and the request is repeated
REST_SECONDS = 0.02  # before a repetition: the broker needs a third of a second to be back
BATCH = 500  # messages of one pull while reading a stream

T = TypeVar("T")


async def quiet(_error: Exception) -> None:
    """Lost connections are what these tests are about: nothing to print."""


async def connect(url: str, **options: Any) -> Client:
    """A client that comes back whenever the broker does."""
    return await nats.connect(
        url,
        error_cb=quiet,
        max_reconnect_attempts=-1,
        reconnect_time_wait=REST_SECONDS,
        connect_timeout=1,
        pending_size=0,
        **options,
    )


async def insist(ask: Callable[[], Awaitable[T]]) -> T:
    """Repeat a request until it is answered with a yes."""
    while True:
        try:
            return await ask()
        except (TimeoutError, nats.errors.Error, OSError) as error:
            if isinstance(error, APIError) and error.err_code not in RETRIED:
                raise
            await asyncio.sleep(REST_SECONDS)


RETRIED = {None, 10077, 10039}  # the store does not take messages, JetStream is not up yet: both pass


@dataclass
class Promised:
    """What publishers were told: message id -> sequence of its first acknowledgement."""

    acks: dict[str, int] = field(default_factory=dict)
    moved: list[str] = field(default_factory=list)  # acknowledged again under another number: a duplicate
    done: bool = False


async def publish_until(stop: asyncio.Event, url: str, subject: str, promised: Promised, *, window: int) -> None:
    """Publish numbered messages, `window` at a time, each with an id, each until it is acknowledged."""
    client = await connect(url)
    stream = client.jetstream(timeout=ANSWER_SECONDS)
    chance = random.Random(subject)

    async def one(number: int) -> None:
        name = f"{subject}-{number}"
        body = name.encode() + b"." * chance.randrange(3000)
        ack = await insist(lambda: stream.publish(subject, body, headers={"Nats-Msg-Id": name}))
        promised.acks[name] = ack.seq
        if chance.random() < 0.05:  # a client that lost the answer asks again
            again = await insist(lambda: stream.publish(subject, body, headers={"Nats-Msg-Id": name}))
            if again.seq != ack.seq:
                promised.moved.append(name)

    number = 0
    while not stop.is_set():
        await asyncio.gather(*(one(number + n) for n in range(window)))
        number += window
    await client.close()


@dataclass
class Read:
    """What a reader saw: sequences whose acknowledgement was confirmed, those sent without an answer, faults."""

    confirmed: set[int] = field(default_factory=set)
    sent: set[int] = field(default_factory=set)  # may have been taken: the answer was lost with the broker
    again: list[int] = field(default_factory=list)  # delivered after their confirmation: must not be


async def read_until(stop: asyncio.Event, url: str, stream: str, durable: str, read: Read) -> None:
    """Fetch, and acknowledge with confirmation."""
    client = await connect(url)
    sub = await client.jetstream(timeout=ANSWER_SECONDS).pull_subscribe_bind(consumer=durable, stream=stream)

    async def settle(message: Msg) -> None:
        seq = message.metadata.sequence.stream
        if seq in read.confirmed:
            read.again.append(seq)
        read.sent.add(seq)
        try:
            await message.ack_sync(timeout=ANSWER_SECONDS)
            read.confirmed.add(seq)
        except (TimeoutError, nats.errors.Error):
            await asyncio.sleep(REST_SECONDS)

    while not stop.is_set():
        try:
            messages = await sub.fetch(50, timeout=ANSWER_SECONDS)
        except (TimeoutError, nats.errors.Error):
            await asyncio.sleep(REST_SECONDS)
            continue
        await asyncio.gather(*(settle(message) for message in messages))
    await client.close()


async def stored(client: Client, stream: str) -> list[tuple[int, str, bytes]]:
    """The whole stream as (sequence, message id, payload)."""
    context = client.jetstream()
    info = await context.stream_info(stream)
    found: list[tuple[int, str, bytes]] = []
    sub = await context.pull_subscribe("", stream=stream, config=_everything())
    while len(found) < info.state.messages:
        for message in await sub.fetch(BATCH, timeout=5):
            name = (message.headers or {}).get("Nats-Msg-Id", "")
            found.append((message.metadata.sequence.stream, name, message.data))
    await sub.unsubscribe()
    return found


def _everything() -> Any:
    return nats.js.api.ConsumerConfig(
        ack_policy=nats.js.api.AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL, inactive_threshold=5
    )


def broken_promises(promised: Promised, kept: list[tuple[int, str, bytes]]) -> list[str]:
    """Everything that does not hold; empty is good."""
    faults = [f"{name} moved" for name in promised.moved]
    where = {name: seq for seq, name, _ in kept}
    copies = Counter(name for _, name, _ in kept)
    faults += [f"{name} is there {count} times" for name, count in copies.items() if count > 1]
    faults += [
        f"{name} was acknowledged as {seq} and is lost" for name, seq in promised.acks.items() if name not in where
    ]
    faults += [
        f"{name} was acknowledged as {seq} and is at {where[name]}"
        for name, seq in promised.acks.items()
        if where.get(name, seq) != seq
    ]
    sequences = [seq for seq, _, _ in kept]
    faults += ["sequences are out of order"] if sequences != sorted(set(sequences)) else []
    faults += [f"{name}: another payload" for _, name, body in kept if body.rstrip(b".") != name.encode()]
    return faults
