"""The plain case of forwarding; `test_sweep` harms it in every way, `test_forward_hubs` has the unusual."""

import asyncio
import datetime
from pathlib import Path

from tests.faults.forwarding import count, forward_block, linked, receipts, until


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


async def test_where_a_new_forward_begins(tmp_path: Path) -> None:
    """Four of them, of one stream that has messages already; one more is published when they are there."""
    starts = {"all": "all", "new": "new", "seq": "4", "time": "TIME"}
    async with linked(tmp_path, "") as site:
        await site.publish("tele.pi.n", 3)
        await asyncio.sleep(1.1)  # a time in a configuration has whole seconds
        moment = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        await site.publish("tele.pi.n", 3)
        await asyncio.to_thread(site.broker.stop)
        blocks = [
            f'{{ name: {name}, stream: TELEMETRY, to {{ stream: COPIES, domain: hub, subject: "up.{name}.>" }}, '
            f"start: {start.replace('TIME', moment)} }}"
            for name, start in starts.items()
        ]
        config = tmp_path / "site" / "server.conf"
        config.write_text(f"{config.read_text()}\nforward: [\n{chr(10).join(blocks)}\n]\n")
        await asyncio.to_thread(site.broker.start)
        await until(site.hub.url, lambda client: count(client, "up.all.>"))
        await site.publish("tele.pi.n", 1)
        found = await site.arrived(7 + 1 + 4 + 4)
        numbers: dict[str, list[int]] = {}
        for copy in found:
            numbers.setdefault(copy.subject.split(".")[1], []).append(int(copy.body))
        assert numbers == {"all": list(range(7)), "new": [6], "seq": [3, 4, 5, 6], "time": [3, 4, 5, 6]}
