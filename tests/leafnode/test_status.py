"""`leafnode status` and /forwardz against a real leafnode whose hub is away."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from nats.js.api import StreamConfig

from leafnode import status
from tests.faults.forwarding import forward_block, make_stream, site_config
from tests.faults.load import connect
from tests.support.ports import free_port
from tests.support.servers import leafnode

SECONDS = 20


def run(*args: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "leafnode", "status", *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False)


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        return str(answer.read().decode())


async def test_it_says_what_waits_and_why(tmp_path: Path) -> None:
    http = free_port()
    classes = 'classes: [ { name: alarms, subjects: ["tele.*.alarm"], priority: 0 } ]'
    config = site_config(tmp_path, free_port(), forward_block(classes))
    with leafnode(tmp_path, config=f"server_name: site7\nhttp_port: {http}\n{config}") as broker:
        await make_stream(broker.url, StreamConfig(name="TELEMETRY", subjects=["tele.>"]))
        client = await connect(broker.url)
        for number in range(7):
            await client.jetstream().publish("tele.pi.n" if number else "tele.pi.alarm", b"x" * 100)
        await client.close()
        url = f"http://127.0.0.1:{http}"
        deadline = time.monotonic() + SECONDS
        while (found := json.loads(get(f"{url}/forwardz"))["forwards"][0]).get("messages") != 7:
            assert time.monotonic() < deadline, found
        assert found["state"] == "down"
        assert [(one["name"], one["messages"]) for one in found["classes"]] == [("alarms", 1), ("default", 6)]
        assert found["bytes"] == 7 * 100 + 6 * (30 + 9) + 30 + 13
        assert found["eta_s"] is None
        assert 0 <= found["oldest_s"] < SECONDS
        metrics = get(f"{url}/metrics")
        assert re.search(r'leafnode_forward_backlog_messages\{.*class="default"\} 6', metrics)

        page = run("--url", url)
        assert page.returncode == 1, page.stderr
        assert "site7: TELEMETRY -> COPIES@hub: down (no link to the hub)" in page.stdout
        assert "7 messages" in page.stdout
        assert "not draining" in page.stdout
        as_json = json.loads(run("--json", "--url", url).stdout)
        assert as_json["forwards"][0]["messages"] == 7
        assert as_json["links"][0]["state"] != "up"


def test_nobody_there_is_an_error_that_says_what_to_do() -> None:
    page = run("--url", f"http://127.0.0.1:{free_port()}")
    assert page.returncode == 2
    assert "http_port" in page.stderr


def test_sizes_and_times_in_words() -> None:
    assert [status.size(n) for n in (0, 2048, 5 << 20)] == ["0 bytes", "2.0 KB", "5.0 MB"]
    assert [status.span(s) for s in (0, 61, 3 * 86400 + 7200 + 5, None)] == ["0 s", "1 min 1 s", "3 d 2 h", "?"]
