"""A site that forwards to a hub over a link that can be harmed, and what has to be true at the hub afterwards."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig

from tests.faults.load import connect, insist
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.servers import Broker, jetstream, leafnode, stock_hub

ARRIVE_SECONDS = 60
DUPLICATES_SECONDS = 0.1  # the least that a stream can have: nothing may lean on it
CONTROL = "$FWD.COPIES.site7"
MakeHub = Callable[..., Broker]


class Copy(NamedTuple):
    """One message of the hub's stream."""

    seq: int
    subject: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Site:
    hub: Broker
    link: Proxy
    broker: Broker
    sent: dict[str, int] = field(default_factory=dict)  # by subject: messages that were acknowledged here

    async def publish(self, subject: str, count: int) -> None:
        """Numbers, in order, each until it is acknowledged."""
        client = await connect(self.broker.url)
        context = client.jetstream(timeout=0.5)
        for _ in range(count):
            number = self.sent.get(subject, 0)
            body, headers = b"%d" % number, {"Nats-Msg-Id": f"{subject} {number}"}
            await insist(lambda body=body, headers=headers: context.publish(subject, body, headers=headers))
            self.sent[subject] = number + 1
        await client.close()

    async def leave(self) -> None:
        """The hub is away, and the site knows it."""
        lost = self.broker.output().count(" lost after ")
        self.link.refuse()
        self.link.reset()
        async with asyncio.timeout(ARRIVE_SECONDS):
            while self.broker.output().count(" lost after ") == lost:
                await asyncio.sleep(0.01)

    async def arrived(self, total: int | None = None) -> list[Copy]:
        """The hub's copies, once there are as many as were acknowledged."""
        wanted = sum(self.sent.values()) if total is None else total
        client = await connect(self.hub.url)
        try:
            async with asyncio.timeout(ARRIVE_SECONDS):
                while (have := await insist(lambda: count(client, "up.>"))) < wanted:
                    await asyncio.sleep(0.05)
            assert have == wanted, f"{have} copies of {wanted} messages"
            return await insist(lambda: copies(client, "up.>"))
        finally:
            await client.close()

    async def arrives_once_and_in_order(self) -> None:
        found: dict[str, list[int]] = {}
        for copy in await self.arrived():
            found.setdefault(copy.subject.removeprefix("up."), []).append(int(copy.body))
        assert found == {subject: list(range(count)) for subject, count in self.sent.items()}


async def count(client: Client, subject: str) -> int:
    info = await client.jetstream(timeout=1).stream_info("COPIES", subjects_filter=subject)
    return sum((info.state.subjects or {}).values())


async def copies(client: Client, subject: str) -> list[Copy]:
    """The messages of the hub's stream that match."""
    total = await count(client, subject)
    everything = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL, inactive_threshold=30)
    sub = await client.jetstream().pull_subscribe(subject, stream="COPIES", config=everything)
    found: list[Copy] = []
    while len(found) < total:
        for message in await sub.fetch(500, timeout=5):
            meta = message.metadata.sequence
            found.append(Copy(meta.stream, message.subject, dict(message.headers or {}), message.data))
    await sub.unsubscribe()
    return found


def hub_config(folder: Path, leaf_port: int) -> str:
    return f'server_name: hub\n{jetstream(folder, "hub")}\nleafnodes {{ listen: "127.0.0.1:{leaf_port}" }}'


def forward_block(more: str = "", *, to: str = 'subject: "up.>"') -> str:
    return f"forward: [ {{ name: site7, stream: TELEMETRY, to: {{ stream: COPIES, domain: hub, {to} }}\n{more} }} ]"


def site_config(folder: Path, port: int, forward: str, domain: str = "site") -> str:
    pings = 'ping_interval: "500ms"\nping_max: 2'  # a link that swallows everything is noticed within two seconds
    remote = f'{{ url: "nats-leaf://127.0.0.1:{port}", ignore_discovered_servers: true }}'  # not past the proxy
    remotes = f"leafnodes {{ reconnect: 100ms, remotes: [ {remote} ] }}"
    return f"{jetstream(folder, domain)}\n{pings}\n{remotes}\n{forward}"


@asynccontextmanager
async def linked(
    folder: Path, forward: str | None = None, *, make_hub: MakeHub = stock_hub, hub_stream: StreamConfig | None = None
) -> AsyncIterator[Site]:
    """A hub with the stream COPIES, a link, and a site with the stream TELEMETRY that is forwarded."""
    leaf_port = free_port()
    with make_hub(folder / "hub", config=hub_config(folder / "hub", leaf_port)) as hub:
        await make_stream(hub.url, hub_stream or copies_stream())
        async with Proxy(leaf_port) as link:
            config = site_config(folder / "site", link.port, forward_block() if forward is None else forward)
            with leafnode(folder / "site", config=config) as broker:
                await make_stream(broker.url, StreamConfig(name="TELEMETRY", subjects=["tele.>"]))
                async with asyncio.timeout(ARRIVE_SECONDS):
                    while "leaf link up" not in broker.output():
                        await asyncio.sleep(0.01)
                yield Site(hub, link, broker)


def copies_stream() -> StreamConfig:
    return StreamConfig(name="COPIES", subjects=["up.>", "$FWD.COPIES.>"], duplicate_window=DUPLICATES_SECONDS)


async def make_stream(url: str, config: StreamConfig) -> None:
    client = await connect(url)
    await insist(lambda: client.jetstream(timeout=1).add_stream(config))
    await client.close()


async def until(url: str, what: Any) -> Any:
    """What `what(client)` gives once it is not empty."""
    client = await connect(url)
    try:
        async with asyncio.timeout(ARRIVE_SECONDS):
            while not (found := await insist(lambda: what(client))):
                await asyncio.sleep(0.05)
            return found
    finally:
        await client.close()


async def receipts(url: str, total: int) -> list[dict[str, Any]]:
    """The receipts at the hub once they tell of so many messages."""

    async def look(client: Client) -> list[dict[str, Any]]:
        found = [json.loads(copy.body) for copy in await copies(client, f"{CONTROL}.receipt")]
        return found if sum(one["count"] for one in found) >= total else []

    return list(await until(url, look))
