"""The plain case of forwarding; `test_sweep` harms it in every way, `test_forward_hubs` has the unusual."""

from pathlib import Path

from tests.faults.forwarding import linked


async def test_what_a_site_keeps_arrives_once_and_in_order(tmp_path: Path) -> None:
    async with linked(tmp_path) as site:
        await site.publish("tele.pi.n", 300)
        await site.arrives_once_and_in_order()
        first = (await site.arrived())[0]
        assert first.headers["Leafnode-Source"].split()[:2] == ["site7", "TELEMETRY"]
        assert first.headers["Leafnode-Source"].split()[5] == "tele.pi.n"
        assert first.headers["Leafnode-Msg-Id"] == "tele.pi.n 0"
