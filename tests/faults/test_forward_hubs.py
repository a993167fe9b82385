"""Forwarding where hub and site are not what they were: purged, made anew, restored, named twice, three deep.

Also what a site does with messages that cannot go: they are put aside, counted, and told of.
"""

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig
from nats.js.errors import APIError

from tests.faults.forwarding import (
    DUPLICATES_SECONDS,
    Copy,
    Site,
    copies,
    copies_stream,
    count,
    forward_block,
    hub_config,
    linked,
    make_stream,
    receipts,
    site_config,
    until,
)
from tests.faults.load import connect, insist
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.servers import jetstream, leafnode, stock_hub

SECONDS = 30


async def test_a_hub_that_is_a_leafnode(tmp_path: Path) -> None:
    async with linked(tmp_path, make_hub=leafnode) as site:
        await asyncio.gather(site.publish("tele.pi.n", 200), cuts(site))
        await site.arrives_once_and_in_order()


async def cuts(site: Site) -> None:
    for size in (701, 9_303, 37):
        await asyncio.sleep(0.1)
        site.link.cut_after(size)
    await asyncio.sleep(0.1)
    site.link.reset()


async def test_three_deep(tmp_path: Path) -> None:
    """Device, gateway, cloud: either link is cut, and the gateway dies with messages in its hands."""
    at_cloud, at_gateway = free_port(), free_port()
    with stock_hub(tmp_path / "cloud", config=hub_config(tmp_path / "cloud", at_cloud)) as cloud:
        await make_stream(cloud.url, copies_stream())
        async with Proxy(at_cloud) as upper, Proxy(at_gateway) as lower:
            middle = (
                f"{jetstream(tmp_path / 'gateway', 'gateway')}\nserver_name: gateway\nleafnodes {{\n"
                f'listen: "127.0.0.1:{at_gateway}", reconnect: 100ms\n'
                f'remotes: [ {{ url: "nats-leaf://127.0.0.1:{upper.port}", ignore_discovered_servers: true }} ] }}'
            )
            with leafnode(tmp_path / "gateway", config=middle) as gateway:
                config = site_config(tmp_path / "site", lower.port, forward_block(), "site")
                with leafnode(tmp_path / "site", config=config) as broker:
                    await make_stream(broker.url, StreamConfig(name="TELEMETRY", subjects=["tele.>"]))
                    site = Site(cloud, lower, broker)
                    work = asyncio.create_task(site.publish("tele.pi.n", 300))
                    await asyncio.sleep(0.2)
                    upper.reset()
                    await asyncio.sleep(0.3)
                    lower.reset()
                    await asyncio.sleep(0.2)
                    await asyncio.to_thread(gateway.kill)
                    await asyncio.to_thread(gateway.start)
                    await work
                    await site.arrives_once_and_in_order()


async def test_a_user_of_the_hub_with_the_permissions_that_the_page_names(tmp_path: Path) -> None:
    """And none besides: what else the site would send or hear does not cross."""
    page = (Path(__file__).parents[2] / "docs" / "store-and-forward.md").read_text()
    shown = re.search(r"^permissions \{.*?^\}", page, re.MULTILINE | re.DOTALL)
    assert shown is not None
    users = f"{{ user: site7, password: pw\n{shown[0]} }}, {{ user: admin, password: pw }}"
    accounts = f"accounts {{ A {{ jetstream: enabled, users: [ {users} ] }} }}\nno_auth_user: admin"
    leaf_port = free_port()
    with stock_hub(tmp_path / "hub", config=f"{hub_config(tmp_path / 'hub', leaf_port)}\n{accounts}") as hub:
        await make_stream(hub.url, copies_stream())
        async with Proxy(leaf_port) as link:
            forward = forward_block(to='subject: "up.site7.>"')
            config = site_config(tmp_path / "site", link.port, forward).replace("://127", "://site7:pw@127")
            with leafnode(tmp_path / "site", config=config) as broker:
                await make_stream(broker.url, StreamConfig(name="TELEMETRY", subjects=["tele.>"]))
                site = Site(hub, link, broker)
                await asyncio.gather(site.publish("tele.pi.n", 100), cuts(site))
                found = await site.arrived()
                assert [int(copy.body) for copy in found] == list(range(100))


async def test_a_second_leafnode_of_the_same_name_is_refused(tmp_path: Path) -> None:
    async with linked(tmp_path) as site:
        await site.publish("tele.pi.n", 5)
        await site.arrives_once_and_in_order()
        config = site_config(tmp_path / "twin", site.link.port, forward_block(), "twin")
        with leafnode(tmp_path / "twin", config=config) as twin:
            await make_stream(twin.url, StreamConfig(name="TELEMETRY", subjects=["twin.>"]))
            client = await connect(twin.url)
            await client.jetstream().publish("twin.pi.n", b"of the twin")
            await client.close()
            async with asyncio.timeout(SECONDS):
                while "names must be unique" not in twin.output():
                    await asyncio.sleep(0.05)
            await site.publish("tele.pi.n", 5)
            await site.arrives_once_and_in_order()


async def test_a_store_restored_from_a_backup_sends_nothing_twice_and_all_that_is_new(tmp_path: Path) -> None:
    async with linked(tmp_path) as site:
        await site.publish("tele.pi.n", 20)
        await site.arrives_once_and_in_order()
        await asyncio.to_thread(site.broker.stop)
        shutil.copytree(tmp_path / "site" / "js", tmp_path / "backup")
        await asyncio.to_thread(site.broker.start)
        await site.publish("tele.pi.n", 30)
        await site.arrives_once_and_in_order()
        await asyncio.to_thread(site.broker.kill)
        shutil.rmtree(tmp_path / "site" / "js")
        shutil.copytree(tmp_path / "backup", tmp_path / "site" / "js")
        await asyncio.to_thread(site.broker.start)
        await site.publish("tele.pi.n", 40)  # with the sequences that the lost ones had
        await site.arrives_once_and_in_order()


async def test_a_store_that_is_lost_begins_anew(tmp_path: Path) -> None:
    async with linked(tmp_path) as site:
        await site.publish("tele.pi.n", 20)
        await site.arrives_once_and_in_order()
        await asyncio.to_thread(site.broker.kill)
        shutil.rmtree(tmp_path / "site" / "js")
        await asyncio.to_thread(site.broker.start)
        await make_stream(site.broker.url, StreamConfig(name="TELEMETRY", subjects=["tele.>"]))
        await site.publish("tele.pi.n", 20)
        await site.arrives_once_and_in_order()


@pytest.mark.parametrize("harm", ["purge", "recreate"])
async def test_a_hub_stream_that_was_emptied_goes_on_with_what_is_new(harm: str, tmp_path: Path) -> None:
    async with linked(tmp_path) as site:
        await site.publish("tele.pi.n", 20)
        await site.arrives_once_and_in_order()
        client = await connect(site.hub.url)
        if harm == "purge":
            await client.jetstream().purge_stream("COPIES")
        else:
            await client.jetstream().delete_stream("COPIES")
            await client.jetstream().add_stream(copies_stream())
        await client.close()
        await site.publish("tele.pi.n", 20)
        found = await site.arrived(20)
        assert [int(copy.body) for copy in found] == list(range(20, 40))


async def test_a_hub_that_keeps_little(tmp_path: Path) -> None:
    """Its fences go with the messages: sessions begin again, and nothing is sent twice."""
    small = copies_stream()
    small.max_msgs = 10
    async with linked(tmp_path, hub_stream=small) as site:
        client = await connect(site.hub.url)
        seen: list[int] = []

        async def note(message: Any) -> None:
            seen.append(int(message.data))

        # the hub republishes nothing: listen to what comes over the link, acknowledged or not
        await client.subscribe("up.>", cb=note)
        await client.flush()
        await site.publish("tele.pi.n", 60)
        last = await until(site.hub.url, lambda c: last_number(c, 59))
        assert last
        await client.close()
        kept = [int(copy.body) for copy in await until(site.hub.url, lambda c: copies(c, "up.>"))]
        assert kept == list(range(60 - len(kept), 60))
        assert set(seen) == set(range(60))


async def last_number(client: Client, number: int) -> bool:
    found = await copies(client, "up.>")
    return bool(found) and int(found[-1].body) == number


async def test_what_the_hub_refuses_is_parked_and_holds_nobody_up(tmp_path: Path) -> None:
    picky = copies_stream()
    picky.max_msg_size = 2000
    async with linked(tmp_path, forward_block("receipts: 100ms"), hub_stream=picky) as site:
        client = await connect(site.broker.url)
        for body in (b"first", b"x" * 3000, b"last"):
            await client.jetstream().publish("tele.pi.n", body, headers={"Unit": "C"})
        found = await site.arrived(2)
        assert [copy.body for copy in found] == [b"first", b"last"]
        (receipt,) = await receipts(site.hub.url, 1)
        assert receipt["reason"] == "too big"
        assert (receipt["subject"], receipt["count"], receipt["first_seq"]) == ("tele.pi.n", 1, 2)
        parked = await client.jetstream().get_msg("PARKED_site7", 1)
        assert parked.data == b"x" * 3000
        assert parked.headers == {"Unit": "C", "Leafnode-Parked": "too big", "Leafnode-Subject": "up.tele.pi.n"}
        await client.close()


async def test_what_the_local_stream_drops_is_receipted_exactly_through_kills(tmp_path: Path) -> None:
    """A long time away, with room for 50 messages: delivered and receipted add up to all that was acknowledged."""
    async with linked(tmp_path, forward_block("receipts: 100ms")) as site:
        small = StreamConfig(name="TELEMETRY", subjects=["tele.>"], max_msgs=50)
        client = await connect(site.broker.url)
        await client.jetstream().update_stream(small)
        await client.close()
        await site.publish("tele.pi.n", 30)
        await site.arrives_once_and_in_order()
        await site.leave()
        for _ in range(2):
            await site.publish("tele.pi.n", 75)
            await asyncio.to_thread(site.broker.kill)
            await asyncio.to_thread(site.broker.start)
        site.link.accept()
        found = await receipts(site.hub.url, 100)
        assert sum(one["count"] for one in found) == 100
        assert {one["reason"] for one in found} == {"limit"}
        numbers = [int(copy.body) for copy in await site.arrived(80)]
        assert numbers == [*range(30), *range(130, 180)]


async def test_new_messages_go_first_and_old_ones_trickle(tmp_path: Path) -> None:
    classes = "classes: [ { name: all, live: first, rate: { messages: 40 } } ], window: { messages: 5 }"
    async with linked(tmp_path, forward_block(classes)) as site:
        await site.leave()
        await site.publish("tele.pi.n", 60)
        site.link.accept()
        await until(site.hub.url, lambda client: count(client, "up.>"))
        await site.publish("tele.pi.n", 5)
        arrived = [int(copy.body) for copy in await site.arrived()]
        assert sorted(arrived) == list(range(65))
        old = [number for number in arrived if number < 60]
        new = [number for number in arrived if number >= 60]
        assert old == sorted(old)
        assert new == sorted(new)
        assert arrived.index(60) < arrived.index(59)


async def test_delivered_messages_may_leave_the_site(tmp_path: Path) -> None:
    async with linked(tmp_path, forward_block("delete: true")) as site:
        await site.publish("tele.pi.n", 40)
        await site.arrives_once_and_in_order()

        async def is_empty(client: Client) -> bool:
            return (await client.jetstream(timeout=1).stream_info("TELEMETRY")).state.messages == 0

        assert await until(site.broker.url, is_empty)
        await site.publish("tele.pi.n", 10)
        await site.arrives_once_and_in_order()


async def test_a_budget_refuses_publishers_while_the_hub_is_away(tmp_path: Path) -> None:
    classes = "classes: [ { name: all, budget: { policy: refuse, bytes: 1000 } } ]"
    async with linked(tmp_path, forward_block(classes)) as site:
        await site.leave()
        client = await connect(site.broker.url)
        taken = 1000 // (100 + 30 + 9)
        for _ in range(taken):
            await client.jetstream().publish("tele.pi.n", b"x" * 100)
        with pytest.raises(APIError, match="forward budget of class all exceeded"):
            await client.jetstream().publish("tele.pi.n", b"x" * 100)
        site.link.accept()
        found: list[Copy] = await site.arrived(taken)
        assert len(found) == taken
        await insist(lambda: client.jetstream(timeout=1).publish("tele.pi.n", b"room again"))
        await client.close()


@pytest.mark.parametrize(("policy", "least"), [("drop-oldest", 7), ("latest", 1)])
async def test_a_budget_drops_and_says_so(policy: str, least: int, tmp_path: Path) -> None:
    classes = f"classes: [ {{ name: all, budget: {{ policy: {policy}, bytes: 1000 }} }} ], receipts: 100ms"
    async with linked(tmp_path, forward_block(classes)) as site:
        await site.leave()
        client = await connect(site.broker.url)
        for number in range(20):
            await client.jetstream().publish("tele.pi.n", b"%100d" % number)

        async def is_within(client: Client) -> bool:
            state = (await client.jetstream(timeout=1).stream_info("TELEMETRY")).state
            return bool(state.bytes <= 1000)

        assert await until(site.broker.url, is_within)
        await client.close()
        site.link.accept()
        told = await receipts(site.hub.url, 13)
        assert {one["reason"] for one in told} == {"budget"}
        arrived = [int(copy.body) for copy in await site.arrived(20 - sum(one["count"] for one in told))]
        assert arrived == list(range(20))[-len(arrived) :]
        assert least <= len(arrived) <= 7


def test_the_hubs_window_is_the_least_there_is() -> None:
    assert copies_stream().duplicate_window == DUPLICATES_SECONDS == 0.1
