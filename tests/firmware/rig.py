"""What the firmware's tests share: a device process, a broker with the telemetry stream, and the check of promises."""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from tests.support import micropython
from tests.support.servers import Process

ROOT = Path(__file__).resolve().parents[2]
FIRMWARE = ROOT / "firmware"
DEVICE = Path(__file__).with_name("device.py")
SETTLE_SECONDS = 25.0  # for anything to be observed on a loaded machine

# The same rules as on a board, fifty times faster, so that a test sees what takes minutes there.
QUICK: dict[str, Any] = {
    "ping_s": 0.3,
    "pong_s": 0.3,
    "ack_s": 0.8,
    "pause_max_s": 0.3,
    "spill_after_s": 0.1,
    "max_loss_s": 0.2,
}


class Host:
    """What runs the firmware: a MicroPython, or CPython where there is none."""

    def __init__(self, interpreter: micropython.Interpreter | None) -> None:
        self.interpreter = interpreter
        self.name = interpreter.name if interpreter else "cpython"

    def command(self, *args: str) -> list[str]:
        if self.interpreter is None:
            return [sys.executable, "-X", "dev", "-W", "error", *args]
        return self.interpreter.command(*args, heap=micropython.PICO_HEAP)


def hosts() -> list[Host]:
    """Every MicroPython there is, the 32-bit one first, then CPython."""
    return [*(Host(one) for one in micropython.find()), Host(None)]


class Device(Process):
    """tests/firmware/device.py in a process, with its settings and its flash folder."""

    def __init__(self, host: Host, folder: Path, servers: list[str], **settings: Any) -> None:
        self.flash = folder / "flash"
        self.settings = {"device": "pico-1", "servers": servers, "store": str(self.flash), **QUICK, **settings}
        self.host = host
        self.file = folder / "config.json"
        self.flash.mkdir(parents=True, exist_ok=True)
        (self.flash / "boot").write_text("0")  # so that the first boot is number 1
        super().__init__([], folder / "device.log")

    def begin(self, count: int = 0, pause_ms: int = 10, *flags: str) -> "Device":
        self.file.write_text(json.dumps(self.settings))
        self.argv = self.host.command(str(DEVICE), str(FIRMWARE), str(self.file), str(count), str(pause_ms), *flags)
        with self.log.open("a") as log:
            log.write("\n")  # a killed device may have left half a line
        self.start()
        return self

    def words(self, verb: str) -> list[str]:
        """What followed `verb` in whole lines so far."""
        lines = self.output().split("\n")[:-1]
        return [line[len(verb) + 1 :] for line in lines if line.startswith(verb + " ")]

    async def said(self, verb: str, count: int = 1) -> list[str]:
        await until(lambda: len(self.words(verb)) >= count or not self.alive(), f"{count} x {verb!r}", self)
        assert len(self.words(verb)) >= count, self.output()[-3000:]
        return self.words(verb)

    def enough(self) -> None:
        """No more readings."""
        self.file.with_name(self.file.name + ".enough").touch()

    async def finish(self) -> dict[str, Any]:
        """Waits until everything is settled; the device's own statistics."""
        return dict(json.loads((await self.said("done"))[-1]))


async def until(true: Callable[[], Any], what: str, device: Device | None = None) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited for {what}:\n{device.output()[-3000:] if device else ''}")
        await asyncio.sleep(0.01)


@asynccontextmanager
async def client(url: str, **options: Any):
    connection = await nats.connect(url, max_reconnect_attempts=2, reconnect_time_wait=0.1, **options)
    try:
        yield connection
    finally:
        await connection.close()


async def make_stream(url: str, **config: Any) -> None:
    async with client(url) as connection:
        await connection.jetstream().add_stream(name="TELEMETRY", subjects=["tele.>"], **config)


async def stored(url: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Everything in the stream, in order: subject, message id, body."""
    async with client(url) as connection:
        stream = connection.jetstream()
        total = (await stream.stream_info("TELEMETRY")).state.messages
        config = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL)
        pull = await stream.pull_subscribe("tele.>", config=config, stream="TELEMETRY")
        found: list[tuple[str, str, dict[str, Any]]] = []
        while len(found) < total:
            for message in await pull.fetch(min(500, total - len(found)), timeout=10):
                identity = (message.headers or {}).get("Nats-Msg-Id", "")
                found.append((message.subject, identity, json.loads(message.data)))
        await pull.unsubscribe()
        return found


def key(identity: str) -> tuple[int, int]:
    boot, seq = identity.rsplit("-", 2)[-2:]
    return int(boot), int(seq)


def check_once_in_order(messages: list[tuple[str, str, dict[str, Any]]], promised: list[str]) -> None:
    """None of the `promised` BOOT-SEQ is missing, nothing is there twice, each subject is in order."""
    there = Counter(key(identity) for _, identity, _ in messages)
    doubled = [one for one, count in there.items() if count > 1]
    assert not doubled, f"stored twice: {doubled}"
    missing = sorted({key(one) for one in promised} - set(there))
    assert not missing, f"promised and not stored: {missing}"
    for subject in {subject for subject, _, _ in messages}:
        keys = [key(identity) for name, identity, _ in messages if name == subject]
        assert keys == sorted(keys), f"{subject} out of order"
