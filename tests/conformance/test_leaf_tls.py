"""Leaf links over TLS: required, with client certificates, handshake first, and what is refused.

A leafnode dials a stock hub and a leafnode hub; a stock leaf dials a leafnode hub.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import nats
import pytest

from tests.support.certificates import Authority, Pair
from tests.support.ports import free_port
from tests.support.servers import Broker, leafnode, stock_hub

SECONDS = 10.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def hub_pair(authority: Authority) -> Pair:
    return authority.server("hub")


Maker = Callable[..., Broker]
HUBS: list[Maker] = [stock_hub, leafnode]
NAMES = ["nats-server", "leafnode"]


def hub(
    folder: Path, port: int, pair: Pair, authority: Authority, tls: str = "", more: str = "", maker: Maker = stock_hub
) -> Broker:
    block = f'cert_file: "{pair.cert}", key_file: "{pair.key}", ca_file: "{authority.ca}", {tls}'
    return maker(folder / "hub", config=f'leafnodes {{ listen: "127.0.0.1:{port}"\ntls {{ {block} }}\n{more} }}')


def site(folder: Path, port: int, tls: str, scheme: str = "nats-leaf", maker: Maker = leafnode) -> Broker:
    remote = f'{{ url: "{scheme}://localhost:{port}", tls {{ {tls} }} }}'
    return maker(folder / "site", config=f"leafnodes {{ reconnect: 50ms, remotes: [ {remote} ] }}")


async def carries(there: Broker, here: Broker) -> None:
    """A message from the leaf arrives at the hub."""
    at_hub, at_leaf = await nats.connect(there.url), await nats.connect(here.url)
    try:
        sub = await at_hub.subscribe("s")
        await at_hub.flush()
        async with asyncio.timeout(SECONDS):
            while True:
                await at_leaf.publish("s", b"x" * 100_000)
                try:
                    assert (await sub.next_msg(timeout=0.1)).data == b"x" * 100_000
                except nats.errors.TimeoutError:
                    continue
                return
    finally:
        await at_hub.close()
        await at_leaf.close()


@pytest.mark.parametrize("maker", HUBS, ids=NAMES)
async def test_a_hub_that_requires_tls(tmp_path: Path, authority: Authority, hub_pair: Pair, maker: Maker) -> None:
    port = free_port()
    with (
        hub(tmp_path, port, hub_pair, authority, maker=maker) as there,
        site(tmp_path, port, f'ca_file: "{authority.ca}"', "tls") as here,
    ):
        await carries(there, here)


@pytest.mark.parametrize("maker", HUBS, ids=NAMES)
@pytest.mark.parametrize("is_known", [True, False])
async def test_a_certificate_stands_for_a_leafs_user(
    tmp_path: Path, authority: Authority, hub_pair: Pair, maker: Maker, *, is_known: bool
) -> None:
    own = authority.client("roof", emails=("roof@example.net",))
    tls = f'ca_file: "{authority.ca}", cert_file: "{own.cert}", key_file: "{own.key}", pinned_certs: ["{hub_pair.pin}"]'
    user = "roof@example.net" if is_known else "cellar@example.net"
    users = f'authorization {{ users: [ {{user: "{user}", account: "$G"}} ] }}'
    port = free_port()
    with (
        hub(tmp_path, port, hub_pair, authority, "verify_and_map: true", users, maker=maker) as there,
        site(tmp_path, port, tls) as here,
    ):
        if is_known:
            await carries(there, here)
        else:
            await said(here, "Authorization Violation")


async def test_a_stock_leaf_links_to_a_leafnode_hub(tmp_path: Path, authority: Authority, hub_pair: Pair) -> None:
    port = free_port()
    with (
        hub(tmp_path, port, hub_pair, authority, maker=leafnode) as there,
        site(tmp_path, port, f'ca_file: "{authority.ca}"', "tls", maker=stock_hub) as here,
    ):
        await carries(there, here)


@pytest.mark.parametrize("maker", HUBS, ids=NAMES)
async def test_a_leaf_without_a_certificate_is_turned_away(
    tmp_path: Path, authority: Authority, hub_pair: Pair, maker: Maker
) -> None:
    own = authority.client("roof")
    port = free_port()
    with hub(tmp_path, port, hub_pair, authority, "verify: true", maker=maker) as there:
        with site(tmp_path / "without", port, f'ca_file: "{authority.ca}"') as refused:
            await said(refused, "leaf link to nats-leaf://localhost")
        known = f'ca_file: "{authority.ca}", cert_file: "{own.cert}", key_file: "{own.key}"'
        with site(tmp_path / "with", port, known) as here:
            await carries(there, here)


@pytest.mark.parametrize("maker", HUBS, ids=NAMES)
async def test_handshake_first(tmp_path: Path, authority: Authority, hub_pair: Pair, maker: Maker) -> None:
    port = free_port()
    with (
        hub(tmp_path, port, hub_pair, authority, "handshake_first: true", maker=maker) as there,
        site(tmp_path, port, f'ca_file: "{authority.ca}", handshake_first: true') as here,
    ):
        await carries(there, here)


async def said(broker: Broker, words: str) -> None:
    async with asyncio.timeout(SECONDS):
        while words not in broker.output():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("first", [False, True])
async def test_a_hub_of_an_unknown_authority_is_refused(
    tmp_path: Path, authority: Authority, hub_pair: Pair, first: bool
) -> None:
    other = Authority(tmp_path / "other", "Another authority")
    port, given = free_port(), "handshake_first: true" if first else ""
    with (
        hub(tmp_path, port, hub_pair, authority, given),
        site(tmp_path, port, f'ca_file: "{other.ca}", {given}') as here,
    ):
        await said(here, "TLS handshake failed: certificate verify failed")


async def test_a_hub_that_is_not_pinned_is_refused(tmp_path: Path, authority: Authority, hub_pair: Pair) -> None:
    port = free_port()
    with (
        hub(tmp_path, port, hub_pair, authority),
        site(tmp_path, port, f'ca_file: "{authority.ca}", pinned_certs: ["{"0" * 64}"]') as here,
    ):
        await said(here, "none of the pinned ones")
