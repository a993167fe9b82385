"""Core NATS with the real client (nats-py), on both servers."""

import asyncio

import nats
import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError

from tests.support.servers import Broker


async def test_publish_reaches_plain_wildcard_and_queue_subscribers(client: Client) -> None:
    plain = await client.subscribe("core.a.b")
    star = await client.subscribe("core.*.b")
    rest = await client.subscribe("core.>")
    members = [await client.subscribe("core.a.b", queue="workers") for _ in range(3)]
    await client.publish("core.a.b", b"one")
    await client.flush()
    for sub in (plain, star, rest):
        assert (await sub.next_msg(timeout=2)).data == b"one"
    assert sum(member.pending_msgs for member in members) == 1


async def test_headers_arrive_as_sent(client: Client) -> None:
    sub = await client.subscribe("core.headers")
    await client.publish("core.headers", b"body", headers={"Trace": "7", "Empty": ""})
    message = await sub.next_msg(timeout=2)
    assert message.headers == {"Trace": "7", "Empty": ""}
    assert message.data == b"body"


async def test_requests_are_answered_by_one_member(client: Client) -> None:
    async def echo(message: nats.aio.msg.Msg) -> None:
        await message.respond(b"re: " + message.data)

    for _ in range(2):
        await client.subscribe("core.echo", queue="q", cb=echo)
    answers = await asyncio.gather(*(client.request("core.echo", b"%d" % n, timeout=5) for n in range(50)))
    assert [answer.data for answer in answers] == [b"re: %d" % n for n in range(50)]


async def test_nobody_there_is_said_at_once(client: Client) -> None:
    with pytest.raises(NoRespondersError):
        await client.request("core.nobody", b"", timeout=2)


async def test_unsubscribe_after_a_number_of_messages(client: Client) -> None:
    sub = await client.subscribe("core.limited")
    await sub.unsubscribe(limit=2)
    for n in range(5):
        await client.publish("core.limited", b"%d" % n)
    await client.flush()
    assert [(await sub.next_msg(timeout=2)).data for _ in range(2)] == [b"0", b"1"]


async def test_a_large_message_and_one_too_large(broker: Broker, client: Client) -> None:
    sub = await client.subscribe("core.large")
    body = bytes(range(256)) * 4096
    await client.publish("core.large", body)
    assert (await sub.next_msg(timeout=5)).data == body
    with pytest.raises(nats.errors.MaxPayloadError):
        await client.publish("core.large", body + b"x")


async def test_order_is_kept_from_one_publisher(client: Client) -> None:
    sub = await client.subscribe("core.order.*")
    for n in range(2000):
        await client.publish(f"core.order.{n % 7}", b"%d" % n)
    await client.flush()
    assert [int((await sub.next_msg(timeout=2)).data) for _ in range(2000)] == list(range(2000))


async def test_drain_delivers_what_was_on_its_way(broker: Broker) -> None:
    heard: list[bytes] = []

    async def keep(message: nats.aio.msg.Msg) -> None:
        heard.append(message.data)

    connection = await nats.connect(broker.url, allow_reconnect=False)
    await connection.subscribe("core.drain", cb=keep)
    for n in range(100):
        await connection.publish("core.drain", b"%d" % n)
    await connection.drain()
    assert len(heard) == 100
    assert connection.is_closed
