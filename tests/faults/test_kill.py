"""SIGKILL at any moment: what was acknowledged is there, once, under the number that was told."""

import asyncio
import random
import sqlite3
from collections.abc import Sized
from functools import partial
from pathlib import Path

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, KeyValueConfig, StreamConfig

from tests.faults.load import Promised, Read, broken_promises, connect, insist, publish_until, read_until, stored
from tests.support.servers import Broker, jetstream, leafnode

KILLS = 8  # of one run; each costs a start of the broker
JOBS = 3000  # in the work queue: more than are done between two kills
WITHIN_SECONDS = 0.4  # between "ready" and the next kill, at random


async def kill_and_restart(broker: Broker) -> None:
    await asyncio.to_thread(broker.kill)
    await asyncio.to_thread(broker.start)


async def kill_often(broker: Broker, seed: int, made: Sized, kills: int = KILLS) -> None:
    """The promised number of kills, at moments that the seed decides, each after something new was promised."""
    chance = random.Random(seed)
    for _ in range(kills):
        before = len(made)
        async with asyncio.timeout(20):
            while len(made) <= before:
                await asyncio.sleep(0.01)
        await asyncio.sleep(chance.uniform(0, WITHIN_SECONDS))
        await kill_and_restart(broker)


def whole(folder: Path) -> str:
    with sqlite3.connect(folder / "js" / "leafnode.db") as database:
        answer = str(database.execute("PRAGMA integrity_check").fetchone()[0])
    database.close()
    return answer


@pytest.mark.parametrize("seed", [1, 2])
async def test_acknowledged_messages_survive_and_are_there_once(tmp_path: Path, seed: int) -> None:
    await survive(tmp_path, seed, KILLS)


async def survive(tmp_path: Path, seed: int, kills: int) -> int:
    """Three publishers and a reader while the broker is killed; how many messages were acknowledged."""
    with leafnode(tmp_path, config=jetstream(tmp_path)) as broker:
        client = await connect(broker.url)
        context = client.jetstream()
        await context.add_stream(StreamConfig(name="S", subjects=["s.>"]))
        await context.add_consumer(
            "S", ConsumerConfig(durable_name="reader", ack_policy=AckPolicy.EXPLICIT, ack_wait=1)
        )
        promised, read, stop = Promised(), Read(), asyncio.Event()
        publishers = [
            asyncio.create_task(publish_until(stop, broker.url, f"s.{n}", promised, window=window))
            for n, window in enumerate((1, 4, 32))
        ]
        reader = asyncio.create_task(read_until(stop, broker.url, "S", "reader", read))
        await kill_often(broker, seed, promised.acks, kills)
        stop.set()
        await asyncio.gather(*publishers)
        await reader
        kept = await insist(lambda: stored(client, "S"))
        assert len(promised.acks) > kills
        assert broken_promises(promised, kept) == []
        assert read.confirmed
        await rest_is_delivered(broker, read, {seq for seq, _, _ in kept})
        assert read.again == []
        await client.close()
        broker.kill()
        assert whole(tmp_path) == "ok"
        return len(promised.acks)


async def rest_is_delivered(broker: Broker, read: Read, kept: set[int]) -> None:
    """The consumer goes on until everything was acknowledged, and gets there."""
    client, stop = await connect(broker.url), asyncio.Event()
    reader = asyncio.create_task(read_until(stop, broker.url, "S", "reader", read))
    async with asyncio.timeout(20):
        while (await client.jetstream().consumer_info("S", "reader")).ack_floor.stream_seq < max(kept):
            await asyncio.sleep(0.05)
    stop.set()
    await reader
    await client.close()
    assert read.sent == kept


async def test_a_bucket_never_goes_back(tmp_path: Path) -> None:
    with leafnode(tmp_path, config=jetstream(tmp_path)) as broker:
        client = await connect(broker.url)
        context = client.jetstream(timeout=0.5)
        bucket = await context.create_key_value(KeyValueConfig(bucket="B", history=3))
        told: list[int] = []  # revisions; the value is the number of the put
        stop = asyncio.Event()

        async def write() -> None:
            while not stop.is_set():
                number = len(told)
                told.append(await insist(partial(bucket.put, f"k{number % 3}", b"%d" % number)))

        async def watch_value() -> None:
            while not stop.is_set():
                acknowledged = len(told) - 1
                if acknowledged < 0:
                    await asyncio.sleep(0.01)
                    continue
                entry = await insist(partial(bucket.get, f"k{acknowledged % 3}"))
                assert entry.value is not None
                assert int(entry.value) >= acknowledged

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            group.create_task(watch_value())
            await kill_often(broker, 3, told)
            stop.set()
        assert told == sorted(set(told))
        for key in range(3):
            history = await bucket.history(f"k{key}")
            assert len(history) == 3
            last = max(number for number in range(len(told)) if number % 3 == key)
            assert int(history[-1].value or b"") == last
            assert history[-1].revision == told[last]
        await client.close()


async def test_work_done_under_kill_is_done_once_each(tmp_path: Path) -> None:
    """A work queue: a message whose acknowledgement was confirmed is gone for good."""
    with leafnode(tmp_path, config=jetstream(tmp_path)) as broker:
        client = await connect(broker.url)
        context = client.jetstream()
        await context.add_stream(StreamConfig(name="W", subjects=["w"], retention="workqueue"))
        await context.add_consumer(
            "W", ConsumerConfig(durable_name="worker", ack_policy=AckPolicy.EXPLICIT, ack_wait=1)
        )
        for number in range(JOBS):
            await client.publish("w", b"%d" % number)
        await client.flush()
        read, stop = Read(), asyncio.Event()
        worker = asyncio.create_task(read_until(stop, broker.url, "W", "worker", read))
        chance = random.Random(4)
        for _ in range(4):
            before = len(read.confirmed)
            async with asyncio.timeout(20):
                while len(read.confirmed) <= before and len(read.sent) < JOBS:
                    await asyncio.sleep(0.002)
            await asyncio.sleep(chance.uniform(0, 0.03))
            await kill_and_restart(broker)

        async def left() -> int:
            return int((await context.stream_info("W")).state.messages)

        async with asyncio.timeout(20):
            while await insist(left):
                await asyncio.sleep(0.02)
        stop.set()
        await worker
        assert read.again == []
        assert len(read.sent) == JOBS
        await client.close()


async def test_what_was_created_survives_and_what_was_deleted_stays_away(tmp_path: Path) -> None:
    with leafnode(tmp_path, config=jetstream(tmp_path)) as broker:
        client = await connect(broker.url)
        context = client.jetstream(timeout=0.5)
        for number in range(6):
            name = f"S{number}"
            await insist(lambda name=name: context.add_stream(StreamConfig(name=name, subjects=[f"{name}.>"])))
            config = ConsumerConfig(durable_name="c", ack_policy=AckPolicy.EXPLICIT)
            await insist(lambda name=name, config=config: context.add_consumer(name, config))
            await insist(lambda name=name: context.publish(f"{name}.x", b"1"))
            if number % 2:
                await context.delete_stream(name)
            await kill_and_restart(broker)

        async def names() -> list[str]:
            return sorted(str(info.config.name) for info in await context.streams_info())

        assert await insist(names) == ["S0", "S2", "S4"]
        for name in ("S0", "S2", "S4"):
            info = await context.consumer_info(name, "c")
            assert info.num_pending == 1
        with pytest.raises(nats.js.errors.NotFoundError):
            await context.stream_info("S1")
        await client.close()
