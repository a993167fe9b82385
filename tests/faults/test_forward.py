"""The plain case of forwarding; `test_sweep` harms it in every way, `test_forward_hubs` has the unusual."""

import asyncio
from pathlib import Path

from tests.faults.forwarding import forward_block, linked, receipts


async def test_what_a_site_keeps_arrives_once_and_in_order(tmp_path: Path) -> None:
    async with linked(tmp_path) as site:
        await site.publish("tele.pi.n", 300)
        await site.arrives_once_and_in_order()
        first = (await site.arrived())[0]
        assert first.headers["Leafnode-Source"].split()[:2] == ["site7", "TELEMETRY"]
        assert first.headers["Leafnode-Source"].split()[5] == "tele.pi.n"
        assert first.headers["Leafnode-Msg-Id"] == "tele.pi.n 0"


async def test_what_was_sampled_is_remembered_through_a_kill(tmp_path: Path) -> None:
    sample = 'classes: [ { name: all, sample { token: 2, interval: "1h" } } ], receipts: 100ms'
    async with linked(tmp_path, forward_block(sample)) as site:
        await site.publish("tele.pi.n", 5)
        await site.publish("tele.pico.n", 5)
        await receipts(site.hub.url, 8)
        await asyncio.to_thread(site.broker.kill)
        await asyncio.to_thread(site.broker.start)
        await site.publish("tele.pi.n", 5)
        told = await receipts(site.hub.url, 13)
        assert {one["reason"] for one in told} == {"sampled"}
        assert sum(one["count"] for one in told) == 13
        assert [(copy.subject, copy.body) for copy in await site.arrived(2)] == [
            ("up.tele.pi.n", b"0"),
            ("up.tele.pico.n", b"0"),
        ]
