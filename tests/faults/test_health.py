"""A full disk is seen from outside: /healthz and /metrics say so while it lasts, and no longer."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import nats
from nats.js.api import StreamConfig

from tests.support.ports import free_port
from tests.support.servers import READY_SECONDS, jetstream, leafnode
from tests.support.syscalls import Gate


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def test_a_full_disk_is_not_well(tmp_path: Path) -> None:
    http = free_port()
    base = f"http://127.0.0.1:{http}"
    with Gate() as gate:
        broker = leafnode(tmp_path, config=f"{jetstream(tmp_path)}\nhttp: {http}")
        broker.argv = gate.wrap(broker.argv)
        with broker.start():
            client = await nats.connect(broker.url, allow_reconnect=False)
            await client.jetstream().add_stream(StreamConfig(name="S", subjects=["s"]))
            assert get(f"{base}/healthz") == (200, '{"status":"ok"}')
            gate.disk_is_full(True)
            for _ in range(600):  # beyond what the database has room for already
                await client.publish("s", 10_000 * b"x")
            await client.flush()
            until(lambda: get(f"{base}/healthz")[0] == 503)
            said = json.loads(get(f"{base}/healthz")[1])
            assert said["status"] == "unavailable"
            assert "disk is full" in said["error"]
            assert get(f"{base}/healthz?js-enabled-only=1")[0] == 200
            figures = dict(line.rsplit(" ", 1) for line in get(f"{base}/metrics")[1].splitlines() if line[0] != "#")
            assert (figures["leafnode_store_refuses"], figures["leafnode_healthy"]) == ("1", "0")
            assert int(figures["leafnode_store_write_failures_total"]) > 0
            gate.disk_is_full(False)
            until(lambda: get(f"{base}/healthz")[0] == 200)
            await client.close()
