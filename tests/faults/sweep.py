"""Ten publishers at a site, links and servers harmed at random all the time: what must be at the hub in the end.

    python -m tests.faults.sweep --by push --hub nats-server --levels 3 --seconds 600 --seed 7

Each publisher numbers its messages 1, 2, 3 … on a subject of its own and goes on when one is acknowledged. Each level
above sources the stream of the one below; by push, the site forwards to the topmost, through all between. The duplicate
window is the smallest there is. At the end the topmost must have every acknowledged message once, in order for each
subject. Links are TLS, so that a wrong bit is noticed at all.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from nats.aio.client import Client
from nats.js.api import ExternalStream, StreamConfig, StreamSource

from tests.faults.load import connect, insist
from tests.support.certificates import Authority
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.servers import Broker, jetstream, leafnode, stock_hub

PUBLISHERS = 10
SMALLEST_WINDOW = 0.1  # seconds; nats-server's least duplicate window
STILL_SECONDS = 60  # without any progress; a killed site is noticed by a stock hub after ten seconds of silence
HUBS = {"nats-server": stock_hub, "leafnode": leafnode}
STREAM = "TELE"
UP = 'subject: "up.>"'


@dataclass
class Chain:
    """Servers from the top down, and the links between them."""

    servers: list[Broker]
    links: list[Proxy]
    by: str = "sourcing"
    published: dict[str, int] = field(default_factory=dict)
    """Subject to the last number that was acknowledged."""
    harms: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def running(folder: Path, hub: str, levels: int, by: str = "sourcing") -> AsyncIterator[Chain]:
    authority = Authority(folder / "ca")
    pair = authority.server("any")
    tls = f'tls {{ cert_file: "{pair.cert}", key_file: "{pair.key}" }}'
    async with contextlib.AsyncExitStack() as stack:
        chain = Chain([], [], by)
        for number in range(levels):
            name, make = f"level{number}", leafnode if number else HUBS[hub]
            leafnodes = ["reconnect: 100ms"] + ["link_deadline: 1s"] * (make is leafnode)
            if chain.links:
                url = f"tls://localhost:{chain.links[-1].port}"
                ca = f'tls {{ ca_file: "{authority.ca}" }}'
                leafnodes.append(f'remotes: [ {{ url: "{url}", ignore_discovered_servers: true\n{ca} }} ]')
            if number < levels - 1:
                port = free_port()
                leafnodes += [f'listen: "127.0.0.1:{port}"', tls]
                chain.links.append(await stack.enter_async_context(Proxy(port)))
            body = "\n".join(leafnodes)
            config = f"server_name: {name}\n{jetstream(folder / name, name)}\nleafnodes {{ {body} }}"
            if by == "push" and number == levels - 1:
                config += (
                    f"\nforward {{ name: site, stream: {STREAM}, to {{ stream: {STREAM}, domain: level0, {UP} }} }}"
                )
            chain.servers.append(make(folder / name, config=config))
            stack.push(chain.servers[-1].__exit__)
            await asyncio.to_thread(chain.servers[-1].start)
        await _make_streams(chain)
        yield chain


async def _make_streams(chain: Chain) -> None:
    numbers = range(len(chain.servers)) if chain.by == "sourcing" else (0, len(chain.servers) - 1)
    for number in reversed(numbers):
        client = await connect(chain.servers[number].url)
        config = StreamConfig(name=STREAM, subjects=["tele.>"])
        if chain.by == "push" and not number:
            config = StreamConfig(name=STREAM, subjects=["up.>", f"$FWD.{STREAM}.>"], duplicate_window=SMALLEST_WINDOW)
        elif number < len(chain.servers) - 1:
            api = f"$JS.level{number + 1}.API"
            source = StreamSource(name=STREAM, external=ExternalStream(api=api))
            config = StreamConfig(name=STREAM, sources=[source], duplicate_window=SMALLEST_WINDOW)
            below = client.jetstream(timeout=1, domain=f"level{number + 1}")
            await insist(lambda below=below: below.stream_info(STREAM))
        await insist(lambda client=client, config=config: client.jetstream(timeout=2).add_stream(config))
        await client.close()


# --- what happens all the time


async def publish(chain: Chain, subject: str, stop: asyncio.Event) -> None:
    client = await connect(chain.servers[-1].url)
    stream = client.jetstream(timeout=0.5)
    number = 0
    while not stop.is_set():
        number += 1
        body = b"%d" % number
        headers = {"Nats-Msg-Id": f"{subject}-{number}"}
        await insist(lambda body=body, headers=headers: stream.publish(subject, body, headers=headers))
        chain.published[subject] = number
    await client.close()


Harm = Callable[[Proxy, float], Awaitable[None]]


async def fin(link: Proxy, _seconds: float) -> None:
    link.fin()


async def reset(link: Proxy, _seconds: float) -> None:
    link.reset()


async def corrupt(link: Proxy, _seconds: float) -> None:
    link.corrupt()


async def refused(link: Proxy, seconds: float) -> None:
    link.refuse()
    link.reset()
    await asyncio.sleep(seconds)
    link.accept()


async def swallowed(link: Proxy, seconds: float) -> None:
    await _lossy(link, seconds, lambda: link.blackhole())


async def swallowed_up(link: Proxy, seconds: float) -> None:
    await _lossy(link, seconds, lambda: link.blackhole("up"))


async def swallowed_down(link: Proxy, seconds: float) -> None:
    await _lossy(link, seconds, lambda: link.blackhole("down"))


async def _lossy(link: Proxy, seconds: float, begin: Callable[[], None]) -> None:
    """No TCP connection goes on after bytes are missing: what was spoilt ends with the harm."""
    begin()
    await asyncio.sleep(seconds)
    link.restore()
    link.reset()


async def stalled(link: Proxy, seconds: float) -> None:
    link.stall()
    await asyncio.sleep(seconds)
    link.restore()


async def slow(link: Proxy, seconds: float) -> None:
    link.rate(40_000)
    await asyncio.sleep(seconds)
    link.restore()


async def far(link: Proxy, seconds: float) -> None:
    link.delay(0.15)
    await asyncio.sleep(seconds)
    link.restore()


HARMS: list[Harm] = [fin, reset, corrupt, refused, swallowed, swallowed_up, swallowed_down, stalled, slow, far]
KILL_ONE_IN = 5  # harms


async def harm(chain: Chain, seconds: float, seed: int) -> None:
    chance = random.Random(seed)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.sleep(chance.uniform(0.1, 0.8))
        if chance.randrange(KILL_ONE_IN) == 0:
            victim = chance.choice(chain.servers)
            chain.harms.append(f"kill {victim.folder.name}")
            await asyncio.to_thread(victim.kill)
            await asyncio.sleep(chance.uniform(0.0, 0.5))
            await asyncio.to_thread(victim.start)
            continue
        what, link = chance.choice(HARMS), chance.choice(chain.links)
        chain.harms.append(f"{what.__name__} {chain.links.index(link)}")
        await what(link, chance.uniform(0.2, 2.0))


# --- what must come of it


async def numbers_at_the_top(chain: Chain) -> dict[str, list[int]]:
    """By subject, in the order of the topmost stream, once it has everything or nothing more comes."""
    client = await connect(chain.servers[0].url)
    expected, have, since = sum(chain.published.values()), 0, time.monotonic()
    while have < expected and time.monotonic() - since < STILL_SECONDS:
        await asyncio.sleep(0.05)
        now_there = await insist(lambda: count(client, chain))
        if now_there != have:
            have, since = now_there, time.monotonic()
    found: dict[str, list[int]] = {}
    ordered = await client.jetstream().subscribe(_at_the_top(chain), stream=STREAM, ordered_consumer=True)
    for _ in range(await insist(lambda: count(client, chain))):
        message = await ordered.next_msg(timeout=10)
        found.setdefault(message.subject.removeprefix("up."), []).append(int(message.data))
    await client.close()
    return found


def _at_the_top(chain: Chain) -> str:
    return "tele.>" if chain.by == "sourcing" else "up.>"


async def count(client: Client, chain: Chain) -> int:
    """Messages of the publishers in the topmost stream."""
    info = await client.jetstream(timeout=1).stream_info(STREAM, subjects_filter=_at_the_top(chain))
    return sum((info.state.subjects or {}).values())


def faults(chain: Chain, found: dict[str, list[int]]) -> list[str]:
    """Everything that does not hold; empty is good."""
    said = []
    for subject, last in chain.published.items():
        numbers = found.get(subject, [])
        if numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= last:
            continue  # one that was stored without its acknowledgement may come on top
        missing = sorted(set(range(1, last + 1)) - set(numbers))
        doubled = sorted({number for number in numbers if numbers.count(number) > 1})
        said.append(
            f"{subject}: {last} acknowledged, {len(numbers)} there, missing {missing[:9]}, doubled {doubled[:9]}"
        )
    return said


async def sweep(
    folder: Path, *, hub: str, levels: int, seconds: float, seed: int, by: str = "sourcing"
) -> tuple[list[str], str]:
    """What does not hold, and a line about what was done."""
    async with running(folder, hub, levels, by) as chain:
        stop = asyncio.Event()
        publishers = [asyncio.create_task(publish(chain, f"tele.{n}", stop)) for n in range(PUBLISHERS)]
        try:
            await harm(chain, seconds, seed)
            for link in chain.links:
                link.restore()
                link.accept()
            stop.set()
            await asyncio.gather(*publishers)
        finally:
            for task in publishers:
                task.cancel()
        began = time.monotonic()
        said = faults(chain, await numbers_at_the_top(chain))
        drained = time.monotonic() - began
        total = sum(chain.published.values())
        done = f"{total} messages, {len(chain.harms)} harms, complete {drained:.1f} s after the last: {chain.harms}"
        said += [server.output()[-2000:] for server in chain.servers if "Traceback" in server.output()]
        return said, done


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.faults.sweep", description=__doc__.split("\n")[0])
    options.add_argument("--by", choices=["sourcing", "push"], default="sourcing")
    options.add_argument("--hub", choices=HUBS, default="nats-server")
    options.add_argument("--levels", type=int, default=2)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleetleaf-sweep-") as folder:
        said, done = asyncio.run(sweep(Path(folder), **vars(chosen)))
    print(done)
    print("\n".join(said) or "all of them once and in order")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
