"""What the keys of remotes and of the leaf listener do, seen from outside; at the other end a stock server or ours."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.servers import Broker, jetstream, leafnode, stock_hub

SECONDS = 15.0
Maker = Callable[..., Broker]
PAIRS: dict[str, tuple[Maker, Maker]] = {
    "nats-server <- leafnode": (stock_hub, leafnode),
    "leafnode <- leafnode": (leafnode, leafnode),
    "leafnode <- nats-server": (leafnode, stock_hub),
}
BOTH_WAYS = pytest.mark.parametrize(("make_hub", "make_leaf"), PAIRS.values(), ids=PAIRS)
HUBS = pytest.mark.parametrize("make_hub", [stock_hub, leafnode], ids=["nats-server", "leafnode"])


@asynccontextmanager
async def clients(*brokers: Broker, **options: str) -> AsyncIterator[list[Client]]:
    found = [await nats.connect(broker.url, **options) for broker in brokers]
    try:
        yield found
    finally:
        for client in found:
            await client.close()


async def crosses(here: Client, there: Client, subject: str, *, within: float = SECONDS) -> bool:
    """Whether what is published here comes to be heard there."""
    heard = await there.subscribe(subject)
    await there.flush()
    try:
        async with asyncio.timeout(within):
            while True:
                await here.publish(subject, b"x")
                try:
                    await heard.next_msg(timeout=0.05)
                except nats.errors.TimeoutError:
                    continue
                return True
    except TimeoutError:
        return False
    finally:
        await heard.unsubscribe()


async def said(broker: Broker, text: str) -> None:
    async with asyncio.timeout(SECONDS):
        while text not in broker.output():
            await asyncio.sleep(0.02)


@BOTH_WAYS
async def test_who_dials_may_be_the_hub(tmp_path: Path, make_hub: Maker, make_leaf: Maker) -> None:
    """The dialler tells its other leaves' interest to who was dialled, as a hub does; the other way it hears nothing of
    what came over another link of a hub."""
    port, east = free_port(), free_port()
    dialled = make_hub(tmp_path / "dialled", config=f'server_name: d\nleafnodes {{ listen: "127.0.0.1:{port}" }}')
    remotes = f'remotes: [ {{ url: "nats-leaf://127.0.0.1:{port}", hub: true }} ]'
    dialler = make_leaf(
        tmp_path / "dialler",
        config=f'server_name: x\nleafnodes {{ listen: "127.0.0.1:{east}", reconnect: 50ms\n{remotes} }}',
    )
    other = leafnode(
        tmp_path / "east",
        config=f'server_name: e\nleafnodes {{ remotes: [ {{ url: "nats-leaf://127.0.0.1:{east}" }} ] }}',
    )
    with dialled, dialler, other:
        async with clients(dialled, dialler, other) as (at_dialled, at_dialler, at_east):
            assert await crosses(at_dialled, at_dialler, "one")
            assert await crosses(at_dialler, at_dialled, "two")
            assert await crosses(at_dialled, at_east, "three")
            assert await crosses(at_east, at_dialled, "four")


@BOTH_WAYS
async def test_isolation_is_asked_for(tmp_path: Path, make_hub: Maker, make_leaf: Maker) -> None:
    """One leaf asked not to hear of others: what it publishes for them stays at home, what they publish reaches it."""
    port = free_port()
    hub = make_hub(tmp_path / "hub", config=f'leafnodes {{ listen: "127.0.0.1:{port}" }}')

    def leaf(name: str, more: str = "") -> Broker:
        remote = f'{{ url: "nats-leaf://127.0.0.1:{port}", {more} }}'
        return make_leaf(
            tmp_path / name, config=f"server_name: {name}\nleafnodes {{ reconnect: 50ms, remotes: [ {remote} ] }}"
        )

    with hub, leaf("alone", "request_isolation: true") as alone, leaf("social") as social:
        async with clients(hub, alone, social) as (at_hub, at_alone, at_social):
            assert await crosses(at_alone, at_hub, "to.hub")
            assert await crosses(at_hub, at_social, "from.hub")
            assert await crosses(at_social, at_alone, "to.alone")
            assert not await crosses(at_alone, at_social, "to.social", within=0.5)


@HUBS
async def test_each_remote_joins_its_own_account(tmp_path: Path, make_hub: Maker) -> None:
    port = free_port()
    hub = make_hub(
        tmp_path / "hub",
        config=f"""accounts {{
  ONE {{ users: [ {{user: one, password: p}} ] }}
  TWO {{ users: [ {{user: two, password: p}} ] }}
}}
leafnodes {{ listen: "127.0.0.1:{port}" }}""",
    )
    site = leafnode(
        tmp_path / "site",
        config=f"""accounts {{
  A {{ users: [ {{user: a, password: p}} ] }}
  B {{ users: [ {{user: b, password: p}} ] }}
}}
leafnodes {{ reconnect: 50ms, remotes: [
  {{ url: "nats-leaf://one:p@127.0.0.1:{port}", account: A }}
  {{ url: "nats-leaf://two:p@127.0.0.1:{port}", account: B }}
] }}""",
    )
    with hub, site:
        names = {"one": hub, "two": hub, "a": site, "b": site}
        found = {name: await nats.connect(broker.url, user=name, password="p") for name, broker in names.items()}
        assert await crosses(found["a"], found["one"], "x")
        assert await crosses(found["two"], found["b"], "x")
        assert not await crosses(found["a"], found["two"], "x", within=0.3)
        assert not await crosses(found["one"], found["b"], "x", within=0.3)
        for client in found.values():
            await client.close()


async def test_a_hub_that_moved_is_found_where_it_said_it_would_be(tmp_path: Path) -> None:
    """Two members of a cluster: the one that is configured goes, the other was told of by it."""
    ports = [free_port() for _ in range(6)]

    def member(number: int) -> Broker:
        listen, routes, other = ports[number], ports[2 + number], ports[3 - number]
        return stock_hub(
            tmp_path / f"hub{number}",
            config=f"""server_name: hub{number}
cluster {{ name: C, listen: "127.0.0.1:{routes}", routes: ["nats-route://127.0.0.1:{other}"] }}
leafnodes {{ listen: "127.0.0.1:{listen}", authorization {{ user: site, password: pw }} }}""",
        )

    site = leafnode(
        tmp_path / "site",
        config=f"""http: "127.0.0.1:{ports[4]}"
leafnodes {{ reconnect: 50ms, remotes: [ {{ url: "nats-leaf://site:pw@127.0.0.1:{ports[0]}" }} ] }}""",
    )
    first, second = member(0), member(1)
    with first, second, site:
        async with clients(second, site) as (at_second, at_site):
            assert await crosses(at_site, at_second, "x")
            await asyncio.to_thread(first.stop)
            assert await crosses(at_site, at_second, "y")
            await said(site, f"leaf link to 127.0.0.1:{ports[1]} is back")


async def test_times_for_dialling_and_for_the_first_word_are_kept(tmp_path: Path) -> None:
    """A listener whose queue is full answers nothing; one that accepts says nothing."""
    with socket.socket() as deaf, socket.socket() as mute:
        for listener, backlog in ((deaf, 0), (mute, 8)):
            listener.bind(("127.0.0.1", 0))
            listener.listen(backlog)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        config = f"""accounts {{ A {{}}, B {{}} }}
leafnodes {{ dial_timeout: 5s, remotes: [
  {{ url: "nats-leaf://127.0.0.1:{deaf.getsockname()[1]}", account: A, dial_timeout: "200ms" }}
  {{ url: "nats-leaf://127.0.0.1:{mute.getsockname()[1]}", account: B, first_info_timeout: "300ms" }}
] }}"""
        with leafnode(tmp_path / "site", config=config) as site:
            await said(site, "failed: no answer within 0.2 s")
            await said(site, "failed: the hub said nothing within 0.3 s")
        for filler in fillers:
            filler.close()


async def test_compression_is_declined_whatever_the_other_side_wants(tmp_path: Path) -> None:
    """Five stock hubs with a mode each for one leafnode, and three stock leaves for one leafnode."""
    at_hub = {mode: free_port() for mode in ("off", "accept", "s2_fast", "s2_better", "s2_auto")}
    ours = free_port()
    accounts = "\n".join(f'"{mode}" {{ users: [ {{user: "{mode}", password: p}} ] }}' for mode in at_hub)
    dials = "\n".join(f'{{ url: "nats-leaf://127.0.0.1:{port}", account: "{mode}" }}' for mode, port in at_hub.items())
    config = f"""accounts {{ {accounts} }}
leafnodes {{ listen: "127.0.0.1:{ours}", reconnect: 50ms, remotes: [ {dials} ] }}"""
    with contextlib.ExitStack() as stack:
        middle = stack.enter_context(leafnode(tmp_path / "middle", config=config))
        for mode, port in at_hub.items():
            config = f'leafnodes {{ listen: "127.0.0.1:{port}", compression: {mode} }}'
            await declined(stack.enter_context(stock_hub(tmp_path / f"hub-{mode}", config=config)), middle, mode)
        for mode in ("off", "s2_fast", "s2_auto"):
            remote = f'{{ url: "nats-leaf://{mode}:p@127.0.0.1:{ours}", compression: {mode} }}'
            config = f"leafnodes {{ reconnect: 50ms, remotes: [ {remote} ] }}"
            await declined(stack.enter_context(stock_hub(tmp_path / f"leaf-{mode}", config=config)), middle, mode)


async def declined(stock: Broker, ours: Broker, account: str) -> None:
    there, here = await nats.connect(stock.url), await nats.connect(ours.url, user=account, password="p")
    assert await crosses(here, there, "up")
    assert await crosses(there, here, "down")
    await here.close()
    await there.close()


@HUBS
async def test_each_reason_of_refusal_has_its_line(tmp_path: Path, make_hub: Maker) -> None:
    """Wrong password; a full account; a loop; a name that does not resolve; nobody there; a client port."""
    port = free_port()
    hub = make_hub(
        tmp_path / "hub",
        config=f"""server_name: hub
accounts {{
  FULL {{ users: [ {{user: full, password: p}} ], limits {{ max_leafnodes: 0 }} }}
  OPEN {{ users: [ {{user: open, password: p}} ] }}
}}
leafnodes {{ listen: "127.0.0.1:{port}" }}"""
        if make_hub is leafnode
        else f"""server_name: hub
accounts {{ OPEN {{ users: [ {{user: open, password: p}} ] }} }}
leafnodes {{ listen: "127.0.0.1:{port}" }}""",
    )
    client_port = hub.port
    with hub:
        cases = {
            f"nats-leaf://open:wrong@127.0.0.1:{port}": "the hub refuses the credentials: Authorization Violation",
            "nats-leaf://no.such.host.invalid:1": "the name no.such.host.invalid cannot be resolved",
            f"nats-leaf://127.0.0.1:{free_port()}": "failed: connection refused",
            f"nats-leaf://127.0.0.1:{client_port}": "wrong port",
        }
        if make_hub is leafnode:
            cases[f"nats-leaf://full:p@127.0.0.1:{port}"] = "the hub is full"
        names = [chr(ord("A") + number) for number in range(len(cases))]
        remotes = "\n".join(f'{{ url: "{url}", account: {name} }}' for name, url in zip(names, cases, strict=True))
        accounts = "accounts { " + ", ".join(f"{name} {{}}" for name in names) + " }"
        config = f"server_name: site\n{accounts}\nleafnodes {{ reconnect: 50ms, remotes: [\n{remotes}\n] }}"
        with leafnode(tmp_path / "site", config=config) as site:
            for words in cases.values():
                await said(site, words)
            for words in cases.values():
                assert site.output().count(words) == 1, "each cause is said once an outage"


async def test_an_outage_ends_with_one_line_about_it(tmp_path: Path) -> None:
    """What was lost, why, how often it was tried, and what the streams took meanwhile; /linkz shows it as it goes."""
    port, http = free_port(), free_port()
    hub = stock_hub(tmp_path / "hub", config=f'leafnodes {{ listen: "127.0.0.1:{port}" }}')
    with hub, Proxy(port) as link:
        remote = f'{{ url: "nats-leaf://127.0.0.1:{link.port}", ignore_discovered_servers: true }}'
        config = f"""{jetstream(tmp_path / "site", "site")}
http: "127.0.0.1:{http}"
leafnodes {{ reconnect: 50ms, link_deadline: 1s, remotes: [ {remote} ] }}"""
        with leafnode(tmp_path / "site", config=config) as site:
            async with clients(hub, site) as (at_hub, at_site):
                assert await crosses(at_site, at_hub, "x")
                link.refuse()
                link.blackhole()
                await said(site, "Stale Connection: no answer for")
                stream = at_site.jetstream()
                await stream.add_stream(name="S", subjects=["s.>"])
                for _ in range(7):
                    await stream.publish("s.1", b"y" * 100)
                await said(site, "failed: connection refused")
                (shown,) = await links(http)
                assert shown["state"] in ("waiting", "connecting")
                assert shown["stored_messages"] == 7
                assert shown["failures"]["connection refused"] >= 1
                link.restore()
                link.reset()
                link.accept()
                await said(site, "is back: after")
                line = next(line for line in site.output().splitlines() if "is back" in line)
                assert "it was lost: Stale Connection: no answer for" in line
                assert "connection refused)" in line
                assert "7 messages stored meanwhile" in line
                (shown,) = await links(http)
                assert (shown["state"], shown["outages"]) == ("up", 1)


async def links(port: int) -> list[dict[str, object]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /linkz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    found: list[dict[str, object]] = json.loads(answer.partition(b"\r\n\r\n")[2])["links"]
    return found
