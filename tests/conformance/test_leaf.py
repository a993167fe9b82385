"""A site's leafnode linked to its hub: live traffic, domains, sourcing up, mirroring down, outages.

The hub is a stock nats-server or, for small fleets, a leafnode, which also takes the link of a stock nats-server.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import nats
import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.js.errors import NotFoundError

from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.servers import Broker, jetstream, leafnode, stock_hub

SECONDS = 25.0  # a stock hub looks after a lost source every 10 to 20 s


class Site(NamedTuple):
    hub: Broker
    leaf: Broker
    link: Proxy


def hub_config(folder: Path, leaf_port: int) -> str:
    return f"""server_name: hub
{jetstream(folder, "hub")}
leafnodes {{ listen: "127.0.0.1:{leaf_port}", authorization {{ user: site, password: secret }} }}"""


def leaf_config(folder: Path, leaf_port: int) -> str:
    return f"""server_name: roof
{jetstream(folder, "roof")}
leafnodes {{ remotes: [ {{
  url: "nats-leaf://site:secret@127.0.0.1:{leaf_port}", deny_exports: ["tele.>"], ignore_discovered_servers: true
}} ] }}"""


PAIRS = {"nats-server <- leafnode": "HL", "leafnode <- leafnode": "LL", "leafnode <- nats-server": "LH"}
MAKER_OF = {"H": stock_hub, "L": leafnode}


@pytest.fixture(scope="module", params=list(PAIRS.values()), ids=list(PAIRS))
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, port = tmp_path_factory.mktemp("site"), free_port()
    make_hub, make_leaf = (MAKER_OF[letter] for letter in request.param)
    hub = make_hub(folder / "hub", config=hub_config(folder / "hub", port))
    with hub, Proxy(port) as link, make_leaf(folder / "leaf", config=leaf_config(folder / "leaf", link.port)) as leaf:
        yield Site(hub, leaf, link)


async def eventually(question: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until a question is answered yes."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                if await question():
                    return
            except (nats.errors.Error, OSError):
                pass
            await asyncio.sleep(0.05)


async def linked(at_hub: Client, at_leaf: Client) -> None:
    """Wait until what is said at one side is heard at the other, both ways."""
    for here, there in ((at_hub, at_leaf), (at_leaf, at_hub)):
        sub = await there.subscribe("link.probe")

        async def heard(here: Client = here, sub: nats.aio.subscription.Subscription = sub) -> bool:
            await here.publish("link.probe", b"")
            await here.flush()
            return bool(await sub.next_msg(timeout=0.1))

        await eventually(heard, "the link is up")
        await sub.unsubscribe()


class Both(NamedTuple):
    hub: Client
    leaf: Client


@pytest.fixture
async def both(site: Site) -> AsyncIterator[Both]:
    hub, leaf = await nats.connect(site.hub.url), await nats.connect(site.leaf.url)
    await linked(hub, leaf)
    yield Both(hub, leaf)
    await hub.close()
    await leaf.close()


async def answering(name: str) -> Callable[[nats.aio.msg.Msg], Awaitable[None]]:
    async def answer(message: nats.aio.msg.Msg) -> None:
        trace = (message.headers or {}).get("Trace", "")
        await message.respond(f"{name} {message.data.decode()} {trace}".encode())

    return answer


async def interest(client: Client, subject: str) -> None:
    """Wait until somebody answers there."""

    async def answered() -> bool:
        return bool(await client.request(subject, b"?", timeout=1))

    await eventually(answered, f"interest in {subject} has crossed")


async def test_requests_cross_both_ways_with_headers(both: Both) -> None:
    await both.hub.subscribe("at.hub", cb=await answering("hub"))
    await both.leaf.subscribe("at.leaf", cb=await answering("leaf"))
    await interest(both.leaf, "at.hub")
    await interest(both.hub, "at.leaf")
    assert (await both.leaf.request("at.hub", b"1", headers={"Trace": "x"})).data == b"hub 1 x"
    assert (await both.hub.request("at.leaf", b"2", headers={"Trace": "y"})).data == b"leaf 2 y"


async def test_queue_groups_span_the_link_and_prefer_the_near_member(both: Both) -> None:
    await both.hub.subscribe("work", queue="q", cb=await answering("hub"))
    await interest(both.leaf, "work")
    assert (await both.leaf.request("work", b"1")).data.startswith(b"hub")
    await both.leaf.subscribe("work", queue="q", cb=await answering("leaf"))
    await both.leaf.flush()
    answers = [(await both.leaf.request("work", b"%d" % n)).data for n in range(20)]
    assert all(answer.startswith(b"leaf") for answer in answers)
    assert all([(await both.hub.request("work", b"%d" % n)).data.startswith(b"hub") for n in range(20)])


async def test_nobody_on_either_side_is_said_at_once(both: Both) -> None:
    with pytest.raises(NoRespondersError):
        await both.leaf.request("nobody.anywhere", b"", timeout=2)


async def test_each_jetstream_answers_only_under_its_domain(both: Both) -> None:
    assert (await both.leaf.jetstream().account_info()).domain == "roof"
    assert (await both.hub.jetstream().account_info()).domain == "hub"
    assert (await both.leaf.jetstream(domain="hub").account_info()).domain == "hub"
    assert (await both.hub.jetstream(domain="roof").account_info()).domain == "roof"
    with pytest.raises(NotFoundError):
        await both.hub.jetstream(domain="roof").stream_info("NOT_THERE")


async def test_streams_of_the_hub_are_used_through_the_link(both: Both) -> None:
    js = both.leaf.jetstream(domain="hub")
    await js.add_stream(name="JOBS", subjects=["jobs.>"], retention="workqueue")
    ack = await js.publish("jobs.1", b"a")
    assert (ack.stream, ack.domain, ack.seq) == ("JOBS", "hub", 1)
    sub = await js.pull_subscribe("jobs.>", durable="worker")
    (message,) = await sub.fetch(1, timeout=5)
    assert (message.subject, message.data) == ("jobs.1", b"a")
    await message.ack_sync(timeout=5)
    assert (await js.stream_info("JOBS")).state.messages == 0


async def source_at_hub(hub: Client, stream: str) -> None:
    config = {"name": stream, "sources": [{"name": stream, "external": {"api": "$JS.roof.API", "deliver": ""}}]}
    answer = json.loads((await hub.request(f"$JS.API.STREAM.CREATE.{stream}", json.dumps(config).encode())).data)
    assert "error" not in answer, answer


async def bodies(client: Client, stream: str, count: int) -> list[bytes]:
    js = client.jetstream()
    return [(await js.get_msg(stream, seq=seq)).data for seq in range(1, count + 1)]


async def test_the_hub_sources_a_stream_of_the_site_and_catches_up_after_an_outage(site: Site) -> None:
    leaf = await nats.connect(site.leaf.url)
    hub = await nats.connect(site.hub.url)
    await linked(hub, leaf)
    js = leaf.jetstream()
    await js.add_stream(name="TELE", subjects=["tele.>"])
    for n in range(10):
        await js.publish("tele.a", b"%d" % n)
    await source_at_hub(hub, "TELE")

    async def holds(count: int) -> bool:
        return (await hub.jetstream().stream_info("TELE")).state.messages == count

    await eventually(lambda: holds(10), "the hub has ten")
    site.link.refuse()
    site.link.reset()
    for n in range(10, 500):
        await js.publish("tele.a", b"%d" % n)
    site.link.accept()
    await eventually(lambda: holds(500), "the hub has all without a new publish to wake it")
    assert await bodies(hub, "TELE", 500) == [b"%d" % n for n in range(500)]
    await hub.close()
    await leaf.close()


async def test_a_bucket_of_the_hub_is_mirrored_and_readable_without_the_hub(site: Site) -> None:
    hub, leaf = await nats.connect(site.hub.url), await nats.connect(site.leaf.url)
    await linked(hub, leaf)
    bucket = await hub.jetstream().create_key_value(bucket="CFG", history=5)
    await bucket.put("a", b"1")
    config = {
        "name": "KV_CFG",
        "mirror": {"name": "KV_CFG", "external": {"api": "$JS.hub.API", "deliver": ""}},
        "mirror_direct": True,
        "max_msgs_per_subject": 5,
    }
    answer = json.loads((await leaf.request("$JS.API.STREAM.CREATE.KV_CFG", json.dumps(config).encode())).data)
    assert "error" not in answer, answer
    local = await leaf.jetstream().key_value("CFG")

    async def reads(key: str, value: bytes) -> bool:
        return bool((await local.get(key)).value == value)

    await eventually(lambda: reads("a", b"1"), "the mirror has the first value")
    await bucket.put("a", b"2")
    await eventually(lambda: reads("a", b"2"), "a change arrives")
    site.link.refuse()
    site.link.reset()
    await bucket.put("b", b"3")
    assert (await local.get("a")).value == b"2"
    site.link.accept()
    await eventually(lambda: reads("b", b"3"), "the mirror resumes after the outage")
    await hub.close()
    await leaf.close()


async def test_three_levels_deep_requests_and_domains_reach_the_far_end(tmp_path: Path) -> None:
    """Cloud (stock), gateway (leafnode, accepts and dials), device (leafnode)."""
    cloud_port, gateway_port = free_port(), free_port()
    cloud = stock_hub(tmp_path / "cloud", config=hub_config(tmp_path / "cloud", cloud_port))
    gateway = leafnode(
        tmp_path / "gateway",
        config=f"""server_name: gateway
{jetstream(tmp_path / "gateway", "gateway")}
leafnodes {{
  listen: "127.0.0.1:{gateway_port}", authorization {{ user: site, password: secret }}
  remotes: [ {{ url: "nats-leaf://site:secret@127.0.0.1:{cloud_port}" }} ]
}}""",
    )
    device = leafnode(tmp_path / "device", config=leaf_config(tmp_path / "device", gateway_port))
    with cloud, gateway, device:
        top, bottom = await nats.connect(cloud.url), await nats.connect(device.url)
        await bottom.subscribe("at.device", cb=await answering("device"))
        await top.subscribe("at.cloud", cb=await answering("cloud"))
        await interest(top, "at.device")
        await interest(bottom, "at.cloud")
        assert (await top.request("at.device", b"1", headers={"Trace": "x"})).data == b"device 1 x"
        assert (await bottom.request("at.cloud", b"2")).data == b"cloud 2 "
        js = top.jetstream(domain="roof")

        async def answers() -> bool:
            return (await js.account_info()).domain == "roof"

        await eventually(answers, "the device's JetStream answers the cloud")
        await bottom.jetstream().add_stream(name="DEEP", subjects=["deep"])
        await bottom.jetstream().publish("deep", b"x")
        sub = await js.pull_subscribe("deep", durable="reader", stream="DEEP")
        (message,) = await sub.fetch(1, timeout=5)
        assert (message.subject, message.data) == ("deep", b"x")
        await message.ack_sync(timeout=5)
        await top.close()
        await bottom.close()
