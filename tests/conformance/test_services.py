"""Micro services (ADR-32) with the real client: discovery, groups, queue groups, errors, statistics."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import nats
import nats.errors
import pytest
from nats import micro
from nats.aio.client import Client
from nats.micro.request import Request

from tests.support.servers import Broker

WAIT_SECONDS = 5.0
CHANGING = ("id", "started", "processing_time", "average_processing_time")


async def everybody(client: Client, subject: str, count: int) -> list[dict[str, Any]]:
    """So many answers to one request, without what differs from run to run."""
    inbox = client.new_inbox()
    sub = await client.subscribe(inbox)
    await client.publish(subject, b"", reply=inbox)
    answers = [json.loads((await sub.next_msg(timeout=WAIT_SECONDS)).data) for _ in range(count)]
    await sub.unsubscribe()
    return [_steady(answer) for answer in answers]


def _steady(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {key: _steady(value) for key, value in answer.items() if key not in CHANGING}
    return [_steady(item) for item in answer] if isinstance(answer, list) else answer


async def echo(request: Request) -> None:
    if request.data == b"bad":
        await request.respond_error(code="400", description="it is bad", data=b"look")
    else:
        await request.respond(request.data.upper(), headers={"Seen": "yes"})


async def silent(request: Request) -> None:
    await request.respond(b"")


@pytest.fixture
async def instances(broker: Broker) -> AsyncIterator[list[Any]]:
    """Two instances of one service on connections of their own, and one of another."""
    clients = [await nats.connect(broker.url, allow_reconnect=False) for _ in range(3)]
    made: list[Any] = []
    for client in clients[:2]:
        service = await micro.add_service(
            client, name="calc", version="1.2.3", description="counts", metadata={"site": "a"}
        )
        await service.add_endpoint(name="echo", handler=echo, metadata={"kind": "text"})
        group = service.add_group(name="deep")
        await group.add_endpoint(name="in", subject="in.*", handler=echo)
        await group.add_group(name="er").add_endpoint(name="most", handler=silent, queue_group="mine")
        made.append(service)
    other = await micro.add_service(clients[2], name="other", version="0.0.1")
    await other.add_endpoint(name="echo", subject="other.echo", handler=echo)
    made.append(other)
    for client in clients:
        await client.flush()
    yield made
    for service in made:
        await service.stop()
    for client in clients:
        await client.close()


async def test_discovery_reaches_every_instance(client: Client, instances: list[Any]) -> None:
    names = sorted(answer["name"] for answer in await everybody(client, "$SRV.PING", 3))
    assert names == ["calc", "calc", "other"]
    ping = {"type": "io.nats.micro.v1.ping_response", "name": "calc", "version": "1.2.3", "metadata": {"site": "a"}}
    assert await everybody(client, "$SRV.PING.calc", 2) == [ping, ping]
    for service in instances:
        (answer,) = await everybody(client, f"$SRV.INFO.{service.info().name}.{service.id}", 1)
        assert answer == _steady(service.info().to_dict())
    (info, same) = await everybody(client, "$SRV.INFO.calc", 2)
    assert info == same
    assert [(item["name"], item["subject"], item["queue_group"]) for item in info["endpoints"]] == [
        ("echo", "echo", "q"),
        ("in", "deep.in.*", "q"),
        ("most", "deep.er.most", "mine"),
    ]
    with pytest.raises(nats.errors.NoRespondersError):
        await client.request("$SRV.PING.nobody", b"", timeout=WAIT_SECONDS)


async def test_one_instance_answers_and_all_of_them_share_the_work(client: Client, instances: list[Any]) -> None:
    answers = [await client.request("echo", b"abc", timeout=WAIT_SECONDS) for _ in range(40)]
    assert {(answer.data, (answer.headers or {}).get("Seen")) for answer in answers} == {(b"ABC", "yes")}
    assert (await client.request("deep.in.x", b"q", timeout=WAIT_SECONDS)).data == b"Q"
    assert (await client.request("deep.er.most", b"q", timeout=WAIT_SECONDS)).data == b""
    bad = await client.request("echo", b"bad", timeout=WAIT_SECONDS)
    assert bad.headers == {"Nats-Service-Error": "it is bad", "Nats-Service-Error-Code": "400"}
    assert bad.data == b"look"
    done: dict[str, int] = {}
    counts: list[int] = []
    for answer in await everybody(client, "$SRV.STATS.calc", 2):
        assert answer["type"] == "io.nats.micro.v1.stats_response"
        counts.append(answer["endpoints"][0]["num_requests"])
        for item in answer["endpoints"]:
            done[item["name"]] = done.get(item["name"], 0) + item["num_requests"]
    assert done == {"echo": 41, "in": 1, "most": 1}
    assert all(counts), "each instance had some of it"


async def test_a_stopped_instance_is_gone(client: Client, instances: list[Any]) -> None:
    await instances[0].stop()
    async with asyncio.timeout(WAIT_SECONDS):
        (left,) = await everybody(client, "$SRV.PING.calc", 1)
        assert left["name"] == "calc"
        for _ in range(5):
            assert (await client.request("echo", b"x", timeout=WAIT_SECONDS)).data == b"X"
