"""Mirrors and sources with a consumer that was made beforehand, on both servers."""

import asyncio
import json
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from tests.conformance.side_by_side import tidy
from tests.support.servers import jetstream, leafnode

WAIT_SECONDS = 10.0  # origins are asked again after a second or two
CONSUMER = {
    "durable_name": "c",
    "deliver_subject": "to.c",
    "ack_policy": "flow_control",
    "flow_control": True,
    "idle_heartbeat": 500_000_000,
    "max_ack_pending": 1000,
}
BEFOREHAND = {"name": "c", "deliver_subject": "to.c"}


async def api(client: Client, verb: str, body: Any = None) -> Any:
    payload = b"" if body is None else json.dumps(body).encode()
    return json.loads((await client.request(f"$JS.API.{verb}", payload, timeout=5)).data)


async def made(client: Client, **more: Any) -> None:
    """An origin O with five messages and a consumer c of those on o.1."""
    await api(client, "STREAM.CREATE.O", {"name": "O", "subjects": ["o.>"]})
    for number in range(5):
        await client.jetstream().publish(f"o.{number % 2}", b"%d" % number)
    config = {**CONSUMER, "filter_subject": "o.1", **more}
    assert "error" not in await api(client, "CONSUMER.CREATE.O.c", {"stream_name": "O", "config": config})


async def until(client: Client, verb: str, look: Any, expected: Any) -> Any:
    seen: Any = None
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while (seen := look(await api(client, verb))) != expected:
                await asyncio.sleep(0.05)
    except TimeoutError:
        assert seen == expected
    return await api(client, verb)


def messages(answer: Any) -> Any:
    return answer["state"]["messages"]


async def test_a_source(client: Client) -> None:
    await made(client)
    await api(client, "STREAM.CREATE.S", {"name": "S", "sources": [{"name": "O", "consumer": BEFOREHAND}]})
    await until(client, "STREAM.INFO.S", messages, 2)
    await client.jetstream().publish("o.1", b"later")
    info = await until(client, "STREAM.INFO.S", messages, 3)
    assert tidy(info["sources"]) == [{"name": "O", "lag": 0, "seq": 6}]
    first = await client.jetstream().get_msg("S", 1)
    assert first.headers is not None
    tag, seq, *rest = first.headers["Nats-Stream-Source"].split(" ")
    assert (tag, seq, rest[:3]) == ("O:C=k1i3jIye", "2", [">", ">", "o.1"])
    assert len(rest[3]) == 8  # which incarnation of the origin
    consumer = await until(client, "CONSUMER.INFO.O.c", lambda answer: answer["ack_floor"]["stream_seq"], 6)
    assert consumer["num_ack_pending"] == 0
    for name in "SO":
        await client.jetstream().delete_stream(name)


@pytest.mark.parametrize(("word", "code"), [("mirror", 10214), ("sources", 10217)])
async def test_a_consumer_of_the_wrong_kind(client: Client, word: str, code: int) -> None:
    await made(client, ack_policy="explicit")
    origin = {"name": "O", "consumer": BEFOREHAND}
    await api(client, "STREAM.CREATE.S", {"name": "S", word: [origin] if word == "sources" else origin})

    def error(answer: Any) -> Any:
        shown = answer[word][0] if word == "sources" else answer[word]
        return shown.get("error", {}).get("err_code")

    await until(client, "STREAM.INFO.S", error, code)
    for name in "SO":
        await client.jetstream().delete_stream(name)


async def test_it_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Killed: what was copied is not copied again, what was not is."""
    with leafnode(tmp_path, config=jetstream(tmp_path)) as broker:
        client = await nats.connect(broker.url, allow_reconnect=False)
        await made(client)
        await api(client, "STREAM.CREATE.S", {"name": "S", "sources": [{"name": "O", "consumer": BEFOREHAND}]})
        await until(client, "STREAM.INFO.S", messages, 2)
        await client.close()
        broker.kill()
        await asyncio.to_thread(broker.start)
        client = await nats.connect(broker.url, allow_reconnect=False)
        await client.jetstream().publish("o.1", b"later")
        await until(client, "STREAM.INFO.S", messages, 3)
        bodies = [(await client.jetstream().get_msg("S", seq)).data for seq in (1, 2, 3)]
        assert bodies == [b"1", b"3", b"later"]
        await client.close()
