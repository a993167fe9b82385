"""Backups through the API: what one server sends, each of the two restores, with consumers, gaps and times."""

import asyncio
import itertools
import json
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from tests.conformance.side_by_side import Step, differences, tidy
from tests.support.servers import Broker

WAIT_SECONDS = 5.0  # for what arrives at once on an idle machine
CHUNK = 1024  # bytes; the least
WAYS = [("nats-server", "leafnode"), ("leafnode", "nats-server"), ("leafnode", "leafnode")]


_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """A stream of its own for each test: nats-server may find remains of one that was just deleted."""
    return f"B{next(_numbers)}"


async def api(client: Client, verb: str, body: Any = None) -> Any:
    payload = b"" if body is None else json.dumps(body).encode()
    return json.loads((await client.request(f"$JS.API.{verb}", payload, timeout=WAIT_SECONDS)).data)


async def fill(client: Client, name: str) -> None:
    """Forty messages, some deleted, some with headers, one large; a durable with some acknowledged."""
    js = client.jetstream()
    await api(
        client,
        f"STREAM.CREATE.{name}",
        {"name": name, "subjects": [f"{name}.>"], "allow_msg_ttl": True, "first_seq": 5},
    )
    for number in range(40):
        headers = {"N": str(number), "Nats-Msg-Id": f"id{number}"} if number % 2 else None
        size = 300_000 if number == 7 else 50
        await js.publish(f"{name}.{number % 3}", f"{number} ".encode() * size, headers=headers)
    for seq in (5, 6, 9, 44):
        await js.delete_msg(name, seq)
    reader = await js.pull_subscribe(f"{name}.>", "reader")
    taken = await reader.fetch(4, timeout=WAIT_SECONDS)
    await taken[0].ack_sync()
    await taken[2].ack_sync()
    await reader.unsubscribe()


async def backup(client: Client, name: str, **more: Any) -> bytes:
    """The archive, every chunk acknowledged."""
    inbox = client.new_inbox()
    sub = await client.subscribe(inbox)
    answer = await api(client, f"STREAM.SNAPSHOT.{name}", {"deliver_subject": inbox, "chunk_size": CHUNK, **more})
    assert answer["config"]["name"] == name
    assert answer["state"]["messages"] == 36
    data = b""
    while True:
        chunk = await sub.next_msg(WAIT_SECONDS)
        if not chunk.data:
            assert chunk.headers == {"Status": "204"}
            break
        assert (len(chunk.data) == CHUNK) == bool(chunk.reply)
        data += chunk.data
        if chunk.reply:
            await client.publish(chunk.reply)
    await sub.unsubscribe()
    return data


async def restore(client: Client, config: Any, state: Any, data: bytes) -> Any:
    answer = await api(client, f"STREAM.RESTORE.{config['name']}", {"config": config, "state": state})
    to = answer["deliver_subject"]
    for start in range(0, len(data), 64 * CHUNK):
        taken = await client.request(to, data[start : start + 64 * CHUNK], timeout=WAIT_SECONDS)
        assert taken.data == b""
    return json.loads((await client.request(to, b"", timeout=WAIT_SECONDS)).data)


async def contents(client: Client, name: str) -> Any:
    """Everything that a backup must bring back."""
    info = await api(client, f"STREAM.INFO.{name}", {"subjects_filter": ">", "deleted_details": True})
    consumer = await api(client, f"CONSUMER.INFO.{name}.reader")
    messages = [await api(client, f"STREAM.MSG.GET.{name}", {"seq": seq}) for seq in range(1, 46)]
    times = [message["message"].pop("time") for message in messages if "message" in message]
    places = {key: consumer[key] for key in ("delivered", "ack_floor", "num_ack_pending", "num_pending", "config")}
    return tidy(info["config"]), tidy(info["state"]), tidy(places), messages, times


@pytest.mark.parametrize("way", WAYS, ids=" to ".join)
async def test_from_one_server_to_another(pair: list[Broker], way: tuple[str, str], name: str) -> None:
    servers = dict(zip(("nats-server", "leafnode"), pair, strict=True))
    source, target = [await nats.connect(servers[name].url, allow_reconnect=False) for name in way]
    await fill(source, name)
    before = await contents(source, name)
    info = await api(source, f"STREAM.INFO.{name}")
    data = await backup(source, name)
    await source.jetstream().delete_stream(name)
    made = await restore(target, info["config"], info["state"], data)
    assert made["type"] == "io.nats.jetstream.api.v1.stream_create_response"
    assert made["state"]["messages"] == 36
    assert await contents(target, name) == before
    js = target.jetstream()
    assert (await js.publish(f"{name}.1", b"new")).seq == 45
    again = await js.publish(f"{name}.1", b"twice", headers={"Nats-Msg-Id": "id37"})
    if way[1] == "leafnode":  # a restored nats-server learns the ids at its next start
        assert again.duplicate
    reader = await js.pull_subscribe_bind("reader", name)
    assert [message.metadata.sequence.stream for message in await reader.fetch(2)] == [12, 13]
    await reader.unsubscribe()
    await js.delete_stream(name)
    for client in (source, target):
        await client.close()


async def test_without_consumers(client: Client, name: str) -> None:
    await fill(client, name)
    info = await api(client, f"STREAM.INFO.{name}")
    data = await backup(client, name, no_consumers=True)
    await client.jetstream().delete_stream(name)
    made = await restore(client, info["config"], info["state"], data)
    assert made["state"]["consumer_count"] == 0


async def test_refused_backups(pair: list[Broker]) -> None:
    config = {"name": "B", "subjects": ["b.>"]}
    steps: list[Step] = [
        ("STREAM.CREATE.B", config),
        *[
            ("STREAM.SNAPSHOT.B", body)
            for body in (None, {}, {"deliver_subject": "a.*"}, {"deliver_subject": "x", "q": 1})
        ],
        ("STREAM.SNAPSHOT.NO", {"deliver_subject": "x"}),
        ("STREAM.RESTORE.B", {"config": config}),
        ("STREAM.RESTORE.B", None),
        ("STREAM.RESTORE.T", {"config": config}),
        ("STREAM.RESTORE.T", {"config": {"name": "T", "subjects": ["t..x"]}}),
        ("STREAM.RESTORE.T", {"config": {"name": "T"}, "more": 1}),
        ("STREAM.DELETE.B", None),
    ]
    await differences(pair, steps)


@pytest.mark.parametrize("damage", ["garbage", "cut off", "changed", "nothing"])
async def test_damaged_backups(client: Client, broker: Broker, damage: str, name: str) -> None:
    """Refused; here nothing is left of them (nats-server keeps what it got)."""
    await fill(client, name)
    info = await api(client, f"STREAM.INFO.{name}")
    data = await backup(client, name)
    await client.jetstream().delete_stream(name)
    middle = len(data) // 2
    broken = {
        "garbage": b"garbage" * 1000,
        "cut off": data[:middle],
        "changed": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "nothing": b"",
    }[damage]
    made = await restore(client, info["config"], info["state"], broken)
    assert made["error"]["err_code"] == 10062
    assert made["error"]["description"].startswith("restore failed: ")
    if "leafnode" in broker.argv:
        assert name not in ((await api(client, "STREAM.NAMES"))["streams"] or [])


async def test_events_of_backups(client: Client, name: str) -> None:
    heard: list[Any] = []

    async def keep(message: nats.aio.msg.Msg) -> None:
        heard.append(json.loads(message.data))

    for word in ("SNAPSHOT_CREATE", "SNAPSHOT_COMPLETE", "RESTORE_CREATE", "RESTORE_COMPLETE"):
        await client.subscribe(f"$JS.EVENT.ADVISORY.STREAM.{word}.{name}", cb=keep)
    await fill(client, name)
    info = await api(client, f"STREAM.INFO.{name}")
    data = await backup(client, name)
    await client.jetstream().delete_stream(name)
    await restore(client, info["config"], info["state"], data)
    async with asyncio.timeout(WAIT_SECONDS):
        while len(heard) < 4:
            await asyncio.sleep(0.01)
    kinds = ["snapshot_create", "snapshot_complete", "restore_create", "restore_complete"]
    assert [event["type"] for event in heard] == [f"io.nats.jetstream.advisory.v1.{kind}" for kind in kinds]
    assert heard[0]["state"]["messages"] == 36
    assert heard[3]["bytes"] == len(data)
    assert all(event["stream"] == name and event["client"]["acc"] == "$G" for event in heard)


async def test_a_receiver_that_is_not_there(client: Client, name: str) -> None:
    """It is waited for, then given up; meanwhile others are served."""
    complete = await client.subscribe(f"$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_COMPLETE.{name}")
    await fill(client, name)
    await api(client, f"STREAM.SNAPSHOT.{name}", {"deliver_subject": "nobody.is.there"})
    told = json.loads((await complete.next_msg(10)).data)
    assert told["type"] == "io.nats.jetstream.advisory.v1.snapshot_complete"
    await client.jetstream().delete_stream(name)
