"""docs/leaf-links.md: every configuration is accepted, the first two make a link, and the requests copy streams."""

import asyncio
import re
from pathlib import Path

import nats
import pytest

from leafnode.config.load import load_text
from tests.support.ports import free_port
from tests.support.servers import Broker, leafnode, stock_hub

PAGE = (Path(__file__).parents[1] / "docs" / "leaf-links.md").read_text()
BLOCKS = re.findall(r"```(?:hub|site)\n(.*?)```", PAGE, re.DOTALL)
REQUESTS = re.findall(r"nats://(hub|site7)[^ ]* req '([^']+)' \\\n  '([^']+)'", PAGE)
SECONDS = 20.0


@pytest.mark.parametrize("block", BLOCKS)
def test_every_configuration_is_accepted(block: str) -> None:
    assert load_text(block).warnings == ()


async def test_the_first_example_links_and_the_requests_copy(tmp_path: Path) -> None:
    port = free_port()

    def made(name: str, block: str) -> str:
        text = block.replace("0.0.0.0:7422", f"127.0.0.1:{port}").replace("hub.example.net:7422", f"127.0.0.1:{port}")
        return re.sub(r'store_dir: "[^"]+"', f'store_dir: "{tmp_path / name / "js"}"', text)

    hub: Broker = stock_hub(tmp_path / "hub", config=made("hub", BLOCKS[0]))
    site = leafnode(tmp_path / "site", config=made("site", BLOCKS[1]))
    with hub, site:
        clients = {"hub": await nats.connect(hub.url), "site7": await nats.connect(site.url)}
        await clients["site7"].jetstream().add_stream(name="TELE", subjects=["tele.>"])
        await clients["site7"].jetstream().publish("tele.a", b"warm")
        await (await clients["hub"].jetstream().create_key_value(bucket="CONFIG")).put("k", b"v")
        for where, subject, body in REQUESTS:
            answer = await clients[where].request(subject, body.encode(), timeout=5)
            assert b'"error"' not in answer.data, answer.data
        copy = clients["hub"].jetstream()
        async with asyncio.timeout(SECONDS):
            while (await copy.stream_info("TELE")).state.messages < 1:
                await asyncio.sleep(0.05)
        mirror = await clients["site7"].jetstream().key_value("CONFIG")
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    assert (await mirror.get("k")).value == b"v"
                    break
                except nats.js.errors.KeyNotFoundError:
                    await asyncio.sleep(0.05)
        for client in clients.values():
            await client.close()


def test_the_page_has_both_requests() -> None:
    assert [where for where, _, _ in REQUESTS] == ["hub", "site7"]
