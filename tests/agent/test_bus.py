"""The connection and its JetStream against a stock nats-server, straight and across a leaf node."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agent.bucket import Bucket, Conflict, Entry
from agent.bus import Bus, BusOptions, Endpoint, delay_seconds, without_secrets
from agent.errors import ApiError, ConfigError, ConnectionFailed, NotAnswered
from agent.jetstream import Message, delivered
from tests.support.ports import free_port
from tests.support.servers import Broker, jetstream, stock_hub

PATIENCE_S = 20.0  # for anything that should happen at once, on a loaded machine


def options(broker: Broker, hub_domain: str = "") -> BusOptions:
    return BusOptions(urls=(broker.url,), name="test", hub_domain=hub_domain)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Broker]:
    with stock_hub(tmp_path / "hub", config=jetstream(tmp_path / "hub", "hub")) as broker:
        yield broker


@pytest.fixture
async def bus(hub: Broker) -> AsyncIterator[Bus]:
    async with await Bus.open(options(hub), patience_s=PATIENCE_S) as opened:
        yield opened


@pytest.fixture
async def site_bus(tmp_path: Path) -> AsyncIterator[Bus]:
    """A bus at a site: its broker is a leaf node of a hub, each with a JetStream domain of its own."""
    leaf_port = free_port()
    listen = f'leafnodes {{ listen: "127.0.0.1:{leaf_port}" }}\n'
    remote = f'leafnodes {{ remotes: [{{ url: "nats://127.0.0.1:{leaf_port}" }}] }}\n'
    with (
        stock_hub(tmp_path / "hub", config=listen + jetstream(tmp_path / "hub", "hub")),
        stock_hub(tmp_path / "site", config=remote + jetstream(tmp_path / "site", "site")) as site,
    ):
        async with await Bus.open(options(site, "hub"), patience_s=PATIENCE_S) as opened:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    with contextlib.suppress(NotAnswered):
                        await opened.hub.streams()
                        break
                    await asyncio.sleep(0.05)
            yield opened


async def take(entries: AsyncIterator[Entry | None], count: int) -> list[Entry | None]:
    async with asyncio.timeout(PATIENCE_S):
        return [await anext(entries) for _ in range(count)]


async def test_a_request_is_answered_or_says_why_not(bus: Bus) -> None:
    async def echo(message: Message) -> None:
        await bus.respond(message, message.data.upper())

    with pytest.raises(NotAnswered, match="nobody listens on x"):
        await bus.request("x", b"hi")
    subscription = await bus.subscribe("x", echo)
    assert (await bus.request("x", b"hi")).data == b"HI"
    await subscription.close()


async def test_scatter_gather_takes_every_answer_until_enough_or_the_deadline(bus: Bus) -> None:
    async def answer(message: Message) -> None:
        for number in range(3):
            await bus.respond(message, b"%d" % number)

    assert [m async for m in bus.request_many("x", b"", deadline_s=PATIENCE_S)] == []
    await bus.subscribe("x", answer)
    found = [m.data async for m in bus.request_many("x", b"", deadline_s=PATIENCE_S, enough=lambda n: n >= 3)]
    assert found == [b"0", b"1", b"2"]
    assert len([m async for m in bus.request_many("x", b"", deadline_s=0.3)]) == 3


async def test_a_micro_service_answers_its_endpoint_and_shows_itself(bus: Bus) -> None:
    async def answer(message: Message) -> None:
        await bus.respond(message, b"here")

    endpoint = Endpoint(name="info", subject="device.info", handler=answer)
    await bus.serve("fleet-agent", "1.0.0", [endpoint], metadata={"device": "pi-7"}, queue="pi-7")
    assert (await bus.request("device.info", b"")).data == b"here"
    assert b'"pi-7"' in (await bus.request("$SRV.INFO.fleet-agent", b"")).data


async def test_a_stored_publication_is_acknowledged_once_for_each_message_id(bus: Bus) -> None:
    assert await bus.local.ensure_stream({"name": "S", "subjects": ["s.>"]})
    assert not await bus.local.ensure_stream({"name": "S", "subjects": ["s.>"]})
    assert await bus.local.ensure_stream({"name": "S", "subjects": ["s.>"], "max_msgs": 5})
    first = await bus.local.publish("s.1", b"x", message_id="a")
    again = await bus.local.publish("s.1", b"x", message_id="a")
    assert (first.seq, first.duplicate, again.seq, again.duplicate) == (1, False, 1, True)
    with pytest.raises(NotAnswered):
        await bus.local.publish("nowhere", b"x")


async def test_a_pull_consumer_hands_over_in_order_and_remembers_acknowledgements(bus: Bus) -> None:
    await bus.local.ensure_stream({"name": "S", "subjects": ["s.>"]})
    config = {"durable_name": "c", "ack_policy": "explicit", "filter_subject": "s.>"}
    await bus.local.ensure_consumer("S", config)
    assert await bus.local.fetch("S", "c", wait_s=0.2) == []
    for body in (b"1", b"2"):
        await bus.local.publish("s.x", body)
    first, second = await bus.local.fetch("S", "c", batch=2)
    assert (first.data, second.data) == (b"1", b"2")
    await bus.local.acknowledge(first)
    await bus.local.refuse(second)
    (again,) = await bus.local.fetch("S", "c")
    assert again.data == b"2"
    assert delivered(again).times == 2
    with pytest.raises(NotAnswered):
        await bus.local.fetch("S", "absent", wait_s=0.2)


async def test_a_bucket_keeps_history_and_refuses_a_wrong_revision(bus: Bus) -> None:
    bucket = Bucket(bus.hub, "b")
    await bucket.ensure(history=5)
    first = await bucket.create("k", b"1")
    second = await bucket.update("k", b"2", first)
    with pytest.raises(Conflict):
        await bucket.update("k", b"3", first)
    with pytest.raises(Conflict):
        await bucket.create("k", b"3")
    entry = await bucket.get("k")
    assert entry
    assert (entry.value, entry.revision) == (b"2", second)
    old = await bucket.get("k", revision=first)
    assert old
    assert old.value == b"1"
    await bucket.delete("k")
    assert await bucket.get("k") is None
    assert await bucket.entries() == {}
    assert [(e.operation, e.value) for e in await bucket.history("k")] == [
        ("put", b"1"),
        ("put", b"2"),
        ("delete", b""),
    ]
    await bucket.create("k", b"4")
    assert list(await bucket.entries()) == ["k"]


async def test_a_watch_tells_what_is_there_then_every_change_and_survives_a_restart(hub: Broker, bus: Bus) -> None:
    bucket = Bucket(bus.hub, "b")
    await bucket.ensure(history=5)
    await bucket.put("a.x", b"1")
    await bucket.put("other", b"1")
    async with contextlib.aclosing(bucket.watch("a.>", "c.>")) as entries:
        first, end = await take(entries, 2)
        assert first
        assert (first.key, first.value) == ("a.x", b"1")
        assert end is None
        await bucket.put("c.y", b"2")
        (second,) = await take(entries, 1)
        assert second
        assert second.key == "c.y"
        hub.kill()
        hub.start()
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(NotAnswered):
                    await bucket.put("a.x", b"3")
                    break
        (third,) = await take(entries, 1)
        assert third
        assert (third.key, third.value) == ("a.x", b"3")


async def test_a_key_with_a_time_to_live_expires_and_leaves_a_marker(bus: Bus) -> None:
    bucket = Bucket(bus.hub, "p")
    await bucket.ensure(ttl_markers_s=60)
    async with contextlib.aclosing(bucket.watch()) as entries:
        await take(entries, 1)
        await bucket.put("pi-7", b"up", ttl_s=1)
        put, gone = await take(entries, 2)
    assert put
    assert gone
    assert (put.operation, gone.operation, gone.key) == ("put", "expired", "pi-7")
    assert await bucket.get("pi-7") is None


async def test_a_site_uses_buckets_and_consumers_of_the_hub(site_bus: Bus) -> None:
    bucket = Bucket(site_bus.hub, "b")
    await bucket.ensure(ttl_markers_s=60)
    async with contextlib.aclosing(bucket.watch()) as entries:
        await take(entries, 1)
        revision = await bucket.put("k", b"1", ttl_s=100)
        (entry,) = await take(entries, 1)
        assert entry
        assert (entry.value, entry.revision) == (b"1", revision)
    assert list(await bucket.entries()) == ["k"]
    assert await site_bus.local.stream_info("KV_b") is None
    await site_bus.hub.ensure_stream({"name": "S", "subjects": ["s.>"], "retention": "workqueue"})
    await site_bus.hub.ensure_consumer("S", {"durable_name": "c", "ack_policy": "explicit"})
    await site_bus.hub.publish("s.1", b"x")
    (message,) = await site_bus.hub.fetch("S", "c")
    await site_bus.hub.in_progress(message)
    await site_bus.hub.acknowledge(message)
    info = await site_bus.hub.stream_info("S")
    assert info
    assert info["state"]["messages"] == 0


async def test_a_mirror_at_a_site_is_read_like_the_bucket(site_bus: Bus) -> None:
    bucket = Bucket(site_bus.hub, "b")
    await bucket.ensure(history=5)
    await bucket.put("k", b"1")
    mirror = {"name": "KV_b", "mirror": {"name": "KV_b", "external": {"api": "$JS.hub.API"}}, "mirror_direct": True}
    await site_bus.local.ensure_stream(mirror)
    assert not await site_bus.local.ensure_stream(mirror)
    async with contextlib.aclosing(Bucket(site_bus.local, "b").watch()) as entries:
        while True:
            (entry,) = await take(entries, 1)
            if entry:
                break
    assert (entry.key, entry.value) == ("k", b"1")


async def test_connecting_without_a_broker_gives_up_when_asked_to() -> None:
    where = BusOptions(urls=(f"nats://bob:secret@127.0.0.1:{free_port()}",), name="test")
    with pytest.raises(ConnectionFailed, match="connection refused") as caught:
        await Bus.open(where, patience_s=0.5)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["nats://h:port", "nats://h:99999", "http://h:4222", "nats://", "nats://[::1:4222"])
async def test_an_address_that_cannot_be_one_is_refused_before_connecting(url: str) -> None:
    with pytest.raises(ConfigError, match="not the address of a NATS server"):
        await Bus.open(BusOptions(urls=(url,), name="test"), patience_s=0.5)


async def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    with pytest.raises(ConfigError, match=str(absent)):
        await Bus.open(BusOptions(urls=("nats://h",), name="test", credentials=absent), patience_s=0.5)
    with pytest.raises(ConfigError, match=str(absent)):
        await Bus.open(BusOptions(urls=("nats://h",), name="test", tls_ca=absent), patience_s=0.5)


async def test_a_watch_tells_when_its_bucket_was_made_anew(bus: Bus) -> None:
    bucket = Bucket(bus.local, "b")
    await bucket.ensure()
    await bucket.put("old", b"1")
    await bucket.put("k", b"1")
    renewed = asyncio.Event()
    async with contextlib.aclosing(bucket.watch(renewed=renewed.set)) as entries:
        await take(entries, 3)
        await bus.local.api("STREAM.DELETE.KV_b")
        await bucket.ensure()
        for number in range(3):  # as many as there were: numbers alone would not show it
            await bucket.put("k", b"%d" % number)
        (entry,) = await take(entries, 1)
    assert renewed.is_set()
    assert entry
    assert (entry.key, entry.value, entry.revision) == ("k", b"2", 3)


async def test_wrong_credentials_are_named(tmp_path: Path) -> None:
    with stock_hub(tmp_path / "hub", config='authorization { user: "a", password: "b" }') as broker:
        with pytest.raises(ConnectionFailed, match="Authorization Violation"):
            await Bus.open(options(broker), patience_s=0.5)
        right = BusOptions(urls=(broker.url,), name="test", user="a", password="b")
        async with await Bus.open(right, patience_s=PATIENCE_S) as bus:
            assert bus.connected


async def test_a_refusal_carries_the_servers_words(bus: Bus) -> None:
    with pytest.raises(ApiError, match="invalid") as caught:
        await bus.local.api("STREAM.CREATE.x", {"name": "x", "retention": "nonsense"})
    assert caught.value.code == 400


def test_delays_grow_to_a_limit_and_are_spread() -> None:
    def latest(low: float, high: float) -> float:
        return high

    assert [delay_seconds(n, latest) for n in (1, 2, 3, 9, 1000)] == [0.5, 1.0, 2.0, 30.0, 30.0]
    assert delay_seconds(3, lambda low, high: low) == 1.0


def test_urls_are_shown_without_secrets() -> None:
    assert without_secrets("nats://me:pw@host:4222") == "nats://host:4222"
