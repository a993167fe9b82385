"""SIGKILL while counters count, batches are committed and schedules fire: whole, once, and on time afterwards."""

import asyncio
import contextlib
import datetime
import json
from pathlib import Path

import nats
from nats.aio.client import Client

from tests.support.servers import Broker, jetstream, leafnode

KILLS = 2  # of each run; each costs a start of the broker
BATCH = 20  # messages of an atomic batch
WITHIN_SECONDS = 0.3  # between a confirmation and the next kill


async def connect(broker: Broker) -> Client:
    return await nats.connect(broker.url, allow_reconnect=False)


async def create(client: Client, **config: object) -> None:
    answer = await client.request(f"$JS.API.STREAM.CREATE.{config['name']}", json.dumps(config).encode())
    assert b'"error"' not in answer.data, answer.data


async def kill_after(broker: Broker, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await asyncio.to_thread(broker.kill)


async def killed_while(broker: Broker, work: object) -> None:
    """Run `work(client)` until the broker is killed under it; then start the broker again."""
    client = await connect(broker)
    task = asyncio.create_task(work(client))  # type: ignore[operator]
    await kill_after(broker, WITHIN_SECONDS)
    with contextlib.suppress(Exception):
        await asyncio.wait_for(task, 1)
    await client.close()
    await asyncio.to_thread(broker.start)


async def test_no_increment_is_lost_or_counted_twice(tmp_path: Path) -> None:
    confirmed: list[int] = []
    asked = 0

    async def count(client: Client) -> None:
        nonlocal asked
        while True:
            asked += 1
            ack = await client.request("c.hits", headers={"Nats-Incr": "+1", "Nats-Msg-Id": str(asked)})
            confirmed.append(int(json.loads(ack.data)["val"]))

    with leafnode(tmp_path, config=jetstream(tmp_path)) as broker:
        client = await connect(broker)
        await create(client, name="C", subjects=["c.>"], allow_msg_counter=True)
        await client.close()
        for _ in range(KILLS):
            await killed_while(broker, count)
        client = await connect(broker)
        state = (await client.jetstream().stream_info("C")).state
        newest = json.loads((await client.jetstream().get_last_msg("C", "c.hits")).data or b"{}")
        await client.close()
    assert confirmed == sorted(set(confirmed))
    assert int(newest["val"]) == state.messages  # every message added one
    assert len(confirmed) <= state.messages <= len(confirmed) + KILLS  # those whose answer was cut off


async def test_a_batch_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    confirmed: list[int] = []
    number = 0

    async def publish(client: Client) -> None:
        nonlocal number
        while True:
            number += 1
            for sequence in range(1, BATCH):
                given = {"Nats-Batch-Id": str(number), "Nats-Batch-Sequence": str(sequence)}
                await client.publish(f"b.{number}", b"x", headers=given)
            last = {"Nats-Batch-Id": str(number), "Nats-Batch-Sequence": str(BATCH), "Nats-Batch-Commit": "1"}
            ack = await client.request(f"b.{number}", b"x", headers=last)
            assert json.loads(ack.data)["count"] == BATCH
            confirmed.append(number)

    with leafnode(tmp_path, config=jetstream(tmp_path)) as broker:
        client = await connect(broker)
        await create(client, name="B", subjects=["b.>"], allow_atomic=True)
        await client.close()
        for _ in range(KILLS):
            await killed_while(broker, publish)
        client = await connect(broker)
        counts = (await client.jetstream().stream_info("B", subjects_filter=">")).state.subjects or {}
        await client.close()
    assert set(counts.values()) == {BATCH}
    assert {f"b.{name}" for name in confirmed} <= set(counts)


async def test_schedules_come_once_whenever_it_was_killed(tmp_path: Path) -> None:
    """Some are due before, some while it is off, some after: each makes one message, and is gone."""
    with leafnode(tmp_path, config=jetstream(tmp_path)) as broker:
        client = await connect(broker)
        await create(client, name="S", subjects=["s.>"], allow_msg_schedules=True)
        now = datetime.datetime.now(datetime.UTC)
        for place in range(30):
            due = now + datetime.timedelta(milliseconds=100 * place)
            given = {"Nats-Schedule": f"@at {due.isoformat()}", "Nats-Schedule-Target": f"s.to.{place}"}
            ack = await client.request(f"s.at.{place}", b"x", headers=given)
            assert b'"error"' not in ack.data
        await client.close()
        for _ in range(KILLS):
            await kill_after(broker, WITHIN_SECONDS)
            await asyncio.to_thread(broker.start)
        client = await connect(broker)
        async with asyncio.timeout(15):
            while True:
                state = (await client.jetstream().stream_info("S", subjects_filter=">")).state
                if not any(subject.startswith("s.at.") for subject in state.subjects or {}):
                    break
                await asyncio.sleep(0.05)
        await client.close()
    assert state.subjects == {f"s.to.{place}": 1 for place in range(30)}


async def test_a_restore_that_was_cut_off_leaves_nothing(tmp_path: Path) -> None:
    with leafnode(tmp_path, config=jetstream(tmp_path)) as broker:
        client = await connect(broker)
        js = client.jetstream()
        await js.add_stream(name="R", subjects=["r"])
        for _ in range(20):
            await js.publish("r", b"x" * 1000)
        inbox = await client.subscribe("backup")
        config = json.loads((await client.request("$JS.API.STREAM.INFO.R")).data)["config"]
        await client.request("$JS.API.STREAM.SNAPSHOT.R", b'{"deliver_subject":"backup"}')
        data = (await inbox.next_msg(5)).data
        await js.delete_stream("R")
        answer = await client.request("$JS.API.STREAM.RESTORE.R", json.dumps({"config": config, "state": {}}).encode())
        await client.request(json.loads(answer.data)["deliver_subject"], data[:-1500])
        await client.close()
        broker.kill()
        await asyncio.to_thread(broker.start)
        client = await connect(broker)
        assert json.loads((await client.request("$JS.API.STREAM.NAMES")).data)["streams"] is None
        await client.jetstream().add_stream(name="R", subjects=["r"])
        assert (await client.jetstream().stream_info("R")).state.messages == 0
        await client.close()
