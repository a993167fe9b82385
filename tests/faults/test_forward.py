"""Forwarding to a hub over a link that is cut, with both ends killed: every message once, in order per subject.

The hub's duplicate window is at its minimum, so nothing can hide behind it.
"""

import asyncio
import random
from pathlib import Path

from tests.faults.forwarding import Site, linked


async def test_what_a_site_keeps_arrives_once_and_in_order(tmp_path: Path) -> None:
    async with linked(tmp_path) as site:
        await site.publish("tele.pi.n", 300)
        await site.arrives_once_and_in_order()
        first = (await site.arrived())[0]
        assert first.headers["Leafnode-Source"].split()[:2] == ["site7", "TELEMETRY"]
        assert first.headers["Leafnode-Source"].split()[5] == "tele.pi.n"
        assert first.headers["Leafnode-Msg-Id"] == "tele.pi.n 0"


async def test_cuts_and_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    async with linked(tmp_path) as site:
        over = asyncio.Event()
        publishers = [asyncio.create_task(publish_until(site, f"tele.pi{n}.n", over)) for n in range(10)]
        chance = random.Random(7)
        for harm in [cut, kill_site, stall, kill_hub, swallow, cut, kill_site, kill_hub]:
            await asyncio.sleep(chance.uniform(0.1, 0.5))
            await harm(site, chance)
        over.set()
        await asyncio.gather(*publishers)
        await site.arrives_once_and_in_order()


async def publish_until(site: Site, subject: str, over: asyncio.Event) -> None:
    while not over.is_set():
        await site.publish(subject, 20)


async def cut(site: Site, chance: random.Random) -> None:
    for _ in range(3):
        site.link.cut_after(chance.randrange(50, 20_000))
        await asyncio.sleep(chance.uniform(0.05, 0.3))
    site.link.reset()


async def stall(site: Site, chance: random.Random) -> None:
    site.link.stall(chance.choice(["up", "down", "both"]))
    await asyncio.sleep(chance.uniform(0.2, 1.5))
    site.link.restore()


async def swallow(site: Site, chance: random.Random) -> None:
    site.link.blackhole(chance.choice(["up", "down", "both"]))
    await asyncio.sleep(chance.uniform(0.2, 1.0))
    site.link.restore()
    site.link.reset()


async def kill_site(site: Site, _chance: random.Random) -> None:
    await asyncio.to_thread(site.broker.kill)
    await asyncio.to_thread(site.broker.start)


async def kill_hub(site: Site, _chance: random.Random) -> None:
    await asyncio.to_thread(site.hub.kill)
    await asyncio.sleep(0.1)
    await asyncio.to_thread(site.hub.start)
