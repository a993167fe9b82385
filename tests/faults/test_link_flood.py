"""More comes over a link than the hub's disk takes: the hub stops reading it, and nothing grows or is lost."""

import asyncio
import urllib.request
from pathlib import Path

from nats.js.api import StreamConfig

from tests.faults.load import connect, insist
from tests.support.ports import free_port
from tests.support.servers import jetstream, leafnode
from tests.support.syscalls import Gate

MESSAGES = 40_000
BODY = b"x" * 1024
JOURNAL_BYTES = 12 * 1024 * 1024  # what the journal holds, 8 MiB, and what one more read of a socket brings


def journal_bytes(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    return sum(int(line.split()[-1]) for line in lines if line.startswith("leafnode_journal_bytes"))


async def test_a_flood_over_a_link_waits_for_the_disk(tmp_path: Path) -> None:
    port, http = free_port(), free_port()
    hub = leafnode(
        tmp_path / "hub",
        config=f"""{jetstream(tmp_path / "hub", "hub")}
http: "127.0.0.1:{http}"
leafnodes {{ listen: "127.0.0.1:{port}", link_deadline: 1s }}""",
    )
    remote = f'{{ url: "nats-leaf://127.0.0.1:{port}" }}'
    site = leafnode(tmp_path / "site", config=f"leafnodes {{ link_deadline: 60s, remotes: [ {remote} ] }}")
    with Gate() as gate:
        hub.argv = gate.wrap(hub.argv)
        with hub, site:
            at_hub, at_site = await connect(hub.url), await connect(site.url)
            await insist(lambda: at_hub.jetstream().add_stream(StreamConfig(name="F", subjects=["flood"])))
            await insist(lambda: at_site.request("flood", b"first", timeout=0.5))
            gate.hold_syncs()
            for number in range(MESSAGES):
                await at_site.publish("flood", BODY)
                if number % 1000 == 0:
                    await at_site.flush()
            most = 0
            for _ in range(15):  # longer than the hub's deadline: it must not blame the site for its own silence
                most = max(most, await asyncio.to_thread(journal_bytes, http))
                await asyncio.sleep(0.1)
            gate.release_syncs()
            assert 0 < most < JOURNAL_BYTES
            async with asyncio.timeout(30):
                while (await insist(lambda: at_hub.jetstream().stream_info("F"))).state.messages < MESSAGES + 1:
                    await asyncio.sleep(0.05)
            assert "lost" not in hub.output() + site.output()
            await at_hub.close()
            await at_site.close()
