"""What a broker that needs little does not load: time at the start, and memory for as long as it runs."""

import subprocess
import sys

ASKED = """
import asyncio, sys
from leafnode.broker import Broker
from leafnode.config.options import Config

async def start() -> None:
    broker = Broker(Config(host="127.0.0.1", port=0))
    await broker.start()
    await broker.stop()

asyncio.run(start())
print(*sys.modules)
"""
NOT_LOADED = (
    "aiosqlite", "cryptography", "leafnode.forward.flow", "leafnode.net.websocket", "leafnode.store",
    "leafnode.stream.jetstream", "leafnode.tenants", "nats", "psutil", "sqlite3",
)  # fmt: skip


def test_a_broker_without_streams_websockets_and_tenants_does_not_load_them() -> None:
    ran = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(ran.stdout.split())
    assert "leafnode.net.server" in loaded
    assert not loaded.intersection(NOT_LOADED)
