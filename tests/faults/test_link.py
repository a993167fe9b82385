"""The link to a stock hub is cut, stalled, emptied; the hub dies: what the site kept arrives once and in order.

The hub is a nats-server whose stream sources the site's. It looks again for a lost origin by itself, mostly within ten
seconds, at times after more than thirty. So all harms are done side by side, each on a hub and a link of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nats.aio.client import Client
from nats.js.api import ExternalStream, StreamConfig, StreamSource

from tests.faults.load import connect, insist, stored
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.servers import Broker, jetstream, leafnode, stock_hub

ARRIVE_SECONDS = 75  # nats-server waits up to 30 s for an answer that was lost, then pauses before it asks again
PART = 300  # messages published in each phase


@dataclass
class Site:
    """A site with its link, and what was acknowledged there."""

    folder: Path
    hub: Broker
    link: Proxy
    broker: Broker
    acked: list[int] = field(default_factory=list)

    async def publish(self, count: int = PART) -> None:
        client = await connect(self.broker.url)
        context = client.jetstream(timeout=0.5)
        for _ in range(count):
            number = len(self.acked)
            body = b"%d" % number
            headers = {"Nats-Msg-Id": str(number)}
            ack = await insist(lambda body=body, headers=headers: context.publish("tele.pi.n", body, headers=headers))
            self.acked.append(ack.seq)
        await client.close()

    async def published(self, total: int) -> None:
        """Until so many are acknowledged."""
        async with asyncio.timeout(ARRIVE_SECONDS):
            while len(self.acked) < total:
                await asyncio.sleep(0.01)

    async def arrived(self) -> list[tuple[int, str, bytes]]:
        """The hub's stream once it has as many messages as were acknowledged."""
        client = await connect(self.hub.url)
        async with asyncio.timeout(ARRIVE_SECONDS):
            while await insist(lambda: count(client)) < len(self.acked):
                await asyncio.sleep(0.05)
        found = await insist(lambda: stored(client, "TELEMETRY"))
        await client.close()
        return found

    async def arrives_once_and_in_order(self) -> None:
        found = await self.arrived()
        assert [int(body) for _, _, body in found] == list(range(len(self.acked)))


async def count(client: Client) -> int:
    return int((await client.jetstream(timeout=1).stream_info("TELEMETRY")).state.messages)


def hub_config(folder: Path, leaf_port: int) -> str:
    return f'server_name: hub\n{jetstream(folder, "hub")}\nleafnodes {{ listen: "127.0.0.1:{leaf_port}" }}'


def site_config(folder: Path, link: Proxy) -> str:
    remote = (
        f'{{ url: "nats-leaf://127.0.0.1:{link.port}", deny_exports: ["tele.>"], ignore_discovered_servers: true }}'
    )
    pings = 'ping_interval: "500ms"\nping_max: 2'  # a link that swallows everything is noticed within two seconds
    return f"{jetstream(folder, 'site')}\n{pings}\nleafnodes {{ reconnect: 100ms, remotes: [ {remote} ] }}"


@asynccontextmanager
async def linked(folder: Path) -> AsyncIterator[Site]:
    leaf_port = free_port()
    with stock_hub(folder / "hub", config=hub_config(folder / "hub", leaf_port)) as hub:
        async with Proxy(leaf_port) as link:
            config = site_config(folder / "site", link)
            with leafnode(folder / "site", config=config) as broker:
                site = Site(folder, hub, link, broker)
                await _make_streams(site)
                yield site


async def _make_streams(site: Site) -> None:
    at_site, at_hub = await connect(site.broker.url), await connect(site.hub.url)
    await at_site.jetstream().add_stream(StreamConfig(name="TELEMETRY", subjects=["tele.>"]))
    origin = StreamSource(name="TELEMETRY", external=ExternalStream(api="$JS.site.API"))
    await insist(lambda: at_hub.jetstream(timeout=1, domain="site").stream_info("TELEMETRY"))
    await at_hub.jetstream().add_stream(StreamConfig(name="TELEMETRY", sources=[origin]))
    await at_site.close()
    await at_hub.close()


async def cut_during(site: Site, harm: Callable[[Site], Awaitable[None]]) -> None:
    """Some messages arrive, then harm is done while more are published; nothing is published after it."""
    await site.publish()
    await site.arrives_once_and_in_order()
    await asyncio.gather(site.publish(), harm(site))
    await site.arrives_once_and_in_order()


async def resets(site: Site) -> None:
    for _ in range(5):
        await asyncio.sleep(0.05)
        site.link.reset()


async def ends(site: Site) -> None:
    for _ in range(3):
        await asyncio.sleep(0.05)
        site.link.fin()


async def cut_within_frames(site: Site) -> None:
    for size in (701, 1303, 37):
        accepted = site.link.accepted
        site.link.cut_after(size)
        async with asyncio.timeout(10):
            while site.link.accepted == accepted:
                await asyncio.sleep(0.01)


async def refused_for_a_while(site: Site) -> None:
    site.link.refuse()
    site.link.reset()
    await site.published(2 * PART)
    site.link.accept()


async def stalled(site: Site) -> None:
    """Bytes wait, the connection stays: nothing is lost and nothing restarts."""
    site.link.stall()
    await site.published(2 * PART)
    site.link.restore()


async def swallowed(site: Site) -> None:
    """Bytes vanish without a word: only pings can tell."""
    accepted = site.link.accepted
    site.link.blackhole()
    async with asyncio.timeout(15):
        while site.link.accepted == accepted:
            await asyncio.sleep(0.02)
    site.link.restore()
    site.link.reset()


async def hub_killed(site: Site) -> None:
    await asyncio.to_thread(site.hub.kill)
    await asyncio.sleep(0.1)
    await asyncio.to_thread(site.hub.start)


async def site_killed(site: Site) -> None:
    for _ in range(2):
        await asyncio.sleep(0.1)
        await asyncio.to_thread(site.broker.kill)
        await asyncio.to_thread(site.broker.start)


HARMS = [resets, ends, cut_within_frames, refused_for_a_while, stalled, swallowed, hub_killed, site_killed]


async def test_everything_arrives_once_and_in_order_whatever_the_link_does(tmp_path: Path) -> None:
    """Every harm on a site and hub of its own, side by side: most of the time is nats-server's pause."""

    async def one(harm: Callable[[Site], Awaitable[None]]) -> None:
        async with linked(tmp_path / harm.__name__) as site:
            try:
                await cut_during(site, harm)
            except (AssertionError, TimeoutError) as error:
                have = site.hub.output()[-500:], site.broker.output()[-1500:]
                raise AssertionError(f"{harm.__name__}: {error!r}\n{have[0]}\n{have[1]}") from error

    await asyncio.gather(*(one(harm) for harm in HARMS))
