"""A site that comes back: how fast its backlog drains, what live messages notice, what it costs on the wire.

The reference is the same backlog at a stock nats-server, sourced by the same hub, because that is how one does it
without a forward. Both go through the same proxy, which counts bytes.
"""

import asyncio
import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import psutil
from nats.aio.client import Client
from nats.js.api import ExternalStream, StreamConfig, StreamSource

from tests.faults.forwarding import copies_stream, forward_block, hub_config, make_stream, site_config
from tests.faults.load import connect, insist
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.servers import Broker, leafnode, stock_hub

MESSAGES = 30_000
BODY = b"x" * 200
AT_ONCE = 500
PROBES = 40
SECONDS = 180
Figure = tuple[str, float, str]


async def fill(url: str, count: int) -> None:
    client = await connect(url)
    context = client.jetstream()
    for _ in range(0, count, AT_ONCE):
        await asyncio.gather(*(context.publish("tele.pi.n", BODY) for _ in range(AT_ONCE)))
    await client.close()


async def wait_for(client: Client, stream: str, count: int) -> float:
    """Seconds until so many messages are there."""
    began = time.perf_counter()
    async with asyncio.timeout(SECONDS):
        while (await insist(lambda: client.jetstream(timeout=2).stream_info(stream))).state.messages < count:
            await asyncio.sleep(0.05)
    return time.perf_counter() - began


def resident_mb(broker: Broker) -> float:
    return float(psutil.Process(broker.pid).memory_info().rss) / 1e6


async def drain(folder: Path, *, forwards: bool) -> list[Figure]:
    """A backlog at one kind of site."""
    leaf_port = free_port()
    with stock_hub(folder / "hub", config=hub_config(folder / "hub", leaf_port)) as hub:
        await make_stream(hub.url, copies_stream())
        async with Proxy(leaf_port) as link:
            link.refuse()
            classes = 'classes: [ { name: alarms, subjects: ["tele.*.alarm"], priority: 0 } ]'
            block = forward_block(classes) if forwards else ""
            config = site_config(folder / "site", link.port, block)
            make = leafnode if forwards else stock_hub
            if not forwards:
                config = config.replace('{ url: "nats-leaf', '{ deny_exports: ["tele.>"], url: "nats-leaf')
            with make(folder / "site", config=config) as site:
                await make_stream(site.url, StreamConfig(name="TELEMETRY", subjects=["tele.>"]))
                await fill(site.url, MESSAGES)
                return await measure(hub, link, site, forwards=forwards)


async def measure(hub: Broker, link: Proxy, site: Broker, *, forwards: bool) -> list[Figure]:
    client = await connect(hub.url)
    idle = resident_mb(site)
    stream = "COPIES" if forwards else "SOURCED"
    up, down = link.up_bytes, link.down_bytes
    link.accept()
    if not forwards:
        at_site = await connect(hub.url)
        await insist(lambda: at_site.jetstream(timeout=1, domain="site").stream_info("TELEMETRY"))
        await at_site.close()
        origin = StreamSource(name="TELEMETRY", external=ExternalStream(api="$JS.site.API"))
        await client.jetstream().add_stream(StreamConfig(name=stream, sources=[origin]))
    await wait_for(client, stream, 1)
    probes = asyncio.create_task(latencies(hub, site)) if forwards else None
    most = asyncio.create_task(peak_mb(site))
    seconds = await wait_for(client, stream, MESSAGES)
    most.cancel()
    (peak,) = await asyncio.gather(most)
    figures = [
        ("drain of a backlog, 200 B", MESSAGES / seconds, "msg/s"),
        ("bytes on the wire besides the body, up", (link.up_bytes - up) / MESSAGES - len(BODY), "bytes"),
        ("bytes on the wire, down", (link.down_bytes - down) / MESSAGES, "bytes"),
        ("memory more than before the drain", peak - idle, "MB"),
    ]
    if probes is not None:
        found = sorted(await probes)
        figures.append(
            ("live message of the first class during the drain, median", statistics.median(found) * 1e3, "ms")
        )
        figures.append(("the same, 95 of 100", found[int(len(found) * 0.95)] * 1e3, "ms"))
    await client.close()
    return figures


async def peak_mb(broker: Broker) -> float:
    """The most memory seen until cancelled."""
    most = 0.0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            most = max(most, resident_mb(broker))
            await asyncio.sleep(0.02)
    return most


async def latencies(hub: Broker, site: Broker) -> list[float]:
    """Seconds from publishing at the site to the copy's arrival at the hub, over and over."""
    listener, publisher = await connect(hub.url), await connect(site.url)
    came: asyncio.Queue[float] = asyncio.Queue()

    async def note(_message: object) -> None:
        came.put_nowait(time.perf_counter())

    await listener.subscribe("up.tele.pi.alarm", cb=note)
    await listener.flush()
    found: list[float] = []
    for _ in range(PROBES):
        began = time.perf_counter()
        await publisher.jetstream().publish("tele.pi.alarm", BODY)
        found.append(await came.get() - began)
        await asyncio.sleep(0.02)
    await listener.close()
    await publisher.close()
    return found


def run() -> list[tuple[str, float, str, float | None]]:
    """Name, leafnode's figure, unit, and nats-server's where there is one."""
    with tempfile.TemporaryDirectory(prefix="fleetleaf-bench-") as folder:
        ours = asyncio.run(drain(Path(folder) / "ours", forwards=True))
        theirs = {name: value for name, value, _ in asyncio.run(drain(Path(folder) / "theirs", forwards=False))}
    return [(name, value, unit, theirs.get(name)) for name, value, unit in ours]
