"""Rings, chains of three, accounts of one name, permissions: where links lead, and what must not cross them."""

import asyncio
import contextlib
import json
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError

from tests.conformance.test_leaf_keys import BOTH_WAYS, HUBS, Maker, clients, crosses
from tests.support.ports import free_port
from tests.support.servers import Broker, jetstream, leafnode, stock_hub

MIXES: dict[str, list[Maker]] = {
    "leafnodes": [leafnode, leafnode, leafnode],
    "one nats-server": [stock_hub, leafnode, leafnode],
}


def server(
    make: Maker, folder: Path, name: str, *, listens: int = 0, dials: tuple[int, ...] = (), more: str = ""
) -> Broker:
    remotes = ", ".join(f'{{ url: "nats-leaf://127.0.0.1:{port}", ignore_discovered_servers: true }}' for port in dials)
    listen = f'listen: "127.0.0.1:{listens}"\n' if listens else ""
    config = f"server_name: {name}\n{more}\nleafnodes {{ {listen} reconnect: 50ms, remotes: [ {remotes} ] }}"
    return make(folder / name, config=config)


async def copies(sender: Client, receivers: list[Client]) -> list[int]:
    """How often each hears one message, half a second after it was sent."""
    subs = [await receiver.subscribe("once") for receiver in receivers]
    for receiver in receivers:
        await receiver.flush()
    await asyncio.sleep(0.3)  # interest needs to travel; there is no sign of its arrival that a loop could not fake
    await sender.publish("once", b"x")
    await sender.flush()
    await asyncio.sleep(0.5)
    return [sub.pending_msgs for sub in subs]


@pytest.mark.parametrize("makers", MIXES.values(), ids=MIXES)
async def test_a_ring_is_found_and_broken(tmp_path: Path, makers: list[Maker]) -> None:
    ports = [free_port() for _ in makers]
    ring = [
        server(make, tmp_path, f"s{n}", listens=ports[n], dials=(ports[(n + 1) % len(ports)],))
        for n, make in enumerate(makers)
    ]
    with contextlib.ExitStack() as stack:
        for each in ring:
            stack.enter_context(each)
        async with asyncio.timeout(20):
            while not any("loop detected" in each.output().lower() for each in ring):
                await asyncio.sleep(0.05)
        async with clients(*ring) as found:
            assert max(await copies(found[0], found)) <= 1
        assert all(each.alive() for each in ring)


async def test_what_is_below_a_gateway_is_reached_through_all_levels(tmp_path: Path) -> None:
    """Cloud (stock), two gateways (ours), a device each (one stock): everyone hears everyone once."""
    cloud_port, *gateway_ports = (free_port() for _ in range(3))
    cloud = server(stock_hub, tmp_path, "cloud", listens=cloud_port)
    gateways = [
        server(leafnode, tmp_path, f"gateway{n}", listens=port, dials=(cloud_port,))
        for n, port in enumerate(gateway_ports)
    ]
    devices = [
        server(make, tmp_path, f"device{n}", dials=(port,))
        for n, (port, make) in enumerate(zip(gateway_ports, (stock_hub, leafnode), strict=True))
    ]
    everyone = [cloud, *gateways, *devices]
    with contextlib.ExitStack() as stack:
        for each in everyone:
            stack.enter_context(each)
        async with clients(*everyone) as found:
            assert await crosses(found[3], found[-1], "far")
            assert await crosses(found[-1], found[3], "back")
            for sender in (found[0], found[3]):
                assert await copies(sender, found) == [1] * len(found)


@BOTH_WAYS
async def test_jetstream_of_each_side_stays_its_own(tmp_path: Path, make_hub: Maker, make_leaf: Maker) -> None:
    """Streams of one name on both sides; a request without a domain is answered here; without JetStream, by nobody."""
    port = free_port()
    hub = server(make_hub, tmp_path, "hub", listens=port, more=jetstream(tmp_path / "hub", "hub"))
    leaf = server(make_leaf, tmp_path, "leaf", dials=(port,), more=jetstream(tmp_path / "leaf", "leaf"))
    bare = server(make_leaf, tmp_path, "bare", dials=(port,))
    with hub, leaf, bare:
        async with clients(hub, leaf, bare) as (at_hub, at_leaf, at_bare):
            assert await crosses(at_bare, at_leaf, "x")
            await at_hub.jetstream().add_stream(name="S", subjects=["hub.s"])
            await at_leaf.jetstream().add_stream(name="S", subjects=["leaf.s"])
            await at_hub.jetstream().publish("hub.s", b"1")
            assert (await at_leaf.jetstream().stream_info("S")).config.subjects == ["leaf.s"]
            assert (await at_leaf.jetstream(domain="hub").stream_info("S")).state.messages == 1
            assert (await at_hub.jetstream(domain="leaf").stream_info("S")).config.subjects == ["leaf.s"]
            assert (await at_bare.jetstream(domain="leaf").stream_info("S")).config.subjects == ["leaf.s"]
            with pytest.raises(NoRespondersError):
                await at_bare.request("$JS.API.INFO", b"", timeout=2)


@HUBS
async def test_a_hubs_jetstream_looks_local_where_that_is_wanted(tmp_path: Path, make_hub: Maker) -> None:
    port = free_port()
    hub = server(make_hub, tmp_path, "hub", listens=port, more=jetstream(tmp_path / "hub", "hub"))
    leaf = server(leafnode, tmp_path, "leaf", dials=(port,), more='default_js_domain { "$G": hub }')
    with hub, leaf:
        async with clients(hub, leaf) as (at_hub, at_leaf):
            assert await crosses(at_leaf, at_hub, "x")
            bucket = await at_leaf.jetstream().create_key_value(bucket="B")
            await bucket.put("k", b"v")
            assert (await (await at_hub.jetstream().key_value("B")).get("k")).value == b"v"


async def test_a_link_in_the_system_account_shares_no_jetstream(tmp_path: Path) -> None:
    """Two remotes to one hub: one joins the users' accounts, one the system accounts."""
    port = free_port()
    accounts = """accounts {{
  SYS {{ users: [ {{user: admin, password: p}} ] }}
  APP {{ jetstream: enabled, users: [ {{user: app, password: p}} ] }}
}}
system_account: SYS
{jetstream}"""
    hub = stock_hub(
        tmp_path / "hub",
        config=accounts.format(jetstream=jetstream(tmp_path / "hub", "hub"))
        + f'\nserver_name: hub\nleafnodes {{ listen: "127.0.0.1:{port}" }}',
    )
    remotes = ", ".join(
        f'{{ url: "nats-leaf://{user}:p@127.0.0.1:{port}", account: {account} }}'
        for user, account in (("admin", "SYS"), ("app", "APP"))
    )
    leaf = leafnode(
        tmp_path / "leaf",
        config=accounts.format(jetstream=jetstream(tmp_path / "leaf", "leaf"))
        + f"\nserver_name: leaf\nleafnodes {{ reconnect: 50ms, remotes: [ {remotes} ] }}",
    )
    with hub, leaf:
        async with clients(hub, leaf, user="app", password="p") as (at_hub, at_leaf):
            assert await crosses(at_leaf, at_hub, "x")
            assert (await at_leaf.jetstream().account_info()).domain == "leaf"
            assert (await at_hub.jetstream().account_info()).domain == "hub"
            assert (await at_leaf.jetstream(domain="hub").account_info()).domain == "hub"
        async with clients(hub, leaf, user="admin", password="p") as (at_hub, at_leaf):
            assert await crosses(at_leaf, at_hub, "x")
            for here in (at_hub, at_leaf):
                names = await pinged(here)
                assert {"hub", "leaf"} <= names


async def pinged(client: Client) -> set[str]:
    """Who answers when all servers are asked."""
    inbox = client.new_inbox()
    sub = await client.subscribe(inbox)
    await client.flush()
    names: set[str] = set()
    async with asyncio.timeout(10):
        while not {"hub", "leaf"} <= names:
            await client.publish("$SYS.REQ.SERVER.PING", b"", reply=inbox)
            with contextlib.suppress(nats.errors.TimeoutError):
                while True:
                    names.add(json.loads((await sub.next_msg(timeout=0.2)).data)["server"]["name"])
    return names


@BOTH_WAYS
async def test_a_leaf_user_may_only_what_its_permissions_say(tmp_path: Path, make_hub: Maker, make_leaf: Maker) -> None:
    port = free_port()
    rules = (
        'publish: { allow: ["up.>", "_INBOX.>"] }, subscribe: { allow: ["down.>", "_INBOX.>"], deny: "down.secret" }'
    )
    hub = make_hub(
        tmp_path / "hub",
        config=f"""server_name: hub
accounts {{ A {{ users: [ {{user: boss, password: p}}, {{user: leaf, password: p, permissions: {{ {rules} }} }} ] }} }}
leafnodes {{ listen: "127.0.0.1:{port}" }}""",
    )
    leaf = make_leaf(
        tmp_path / "leaf",
        config=f"""server_name: leaf
leafnodes {{ reconnect: 50ms, remotes: [ {{ url: "nats-leaf://leaf:p@127.0.0.1:{port}" }} ] }}""",
    )
    with hub, leaf:
        at_hub, at_leaf = await nats.connect(hub.url, user="boss", password="p"), await nats.connect(leaf.url)
        assert await crosses(at_leaf, at_hub, "up.1")
        assert await crosses(at_hub, at_leaf, "down.1")
        assert not await crosses(at_leaf, at_hub, "other", within=0.3)
        assert not await crosses(at_hub, at_leaf, "other", within=0.3)
        heard = await at_leaf.subscribe("down.*")
        await at_leaf.flush()
        async with asyncio.timeout(10):
            while not heard.pending_msgs:
                await at_hub.publish("down.secret", b"")
                await at_hub.publish("down.2", b"")
                await asyncio.sleep(0.05)
        assert {(await heard.next_msg()).subject for _ in range(heard.pending_msgs)} == {"down.2"}
        assert "Permissions Violation" not in leaf.output()
        await at_hub.close()
        await at_leaf.close()
