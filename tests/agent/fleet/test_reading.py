"""A reader of a stream skips nothing and repeats nothing, whatever happens to hub and connection."""

import asyncio
from datetime import UTC, datetime

import nats
import pytest

from agent.errors import ConnectionFailed
from agent.fleet.client import Fleet
from agent.fleet.reading import BATCH, MissingError, delivery
from tests.agent.fleet.conftest import DEADLINE_SECONDS, Cli
from tests.agent.fleet.fake_device import FakeDevice
from tests.support.servers import Broker


def test_both_forms_of_reply_subjects_are_understood() -> None:
    short = delivery("$JS.ACK.TELEMETRY.abc.1.42.7.1732100000000000000.3")
    long = delivery("$JS.ACK.hub.ACCHASH.TELEMETRY.abc.1.42.7.1732100000000000000.3.token")
    assert short == long == ("abc", 42, 7, datetime(2024, 11, 20, 10, 53, 20, tzinfo=UTC), 3)
    with pytest.raises(ConnectionFailed, match="not JetStream's form"):
        delivery("_INBOX.x")


async def fill(url: str, first: int, last: int) -> None:
    client = await nats.connect(url)
    try:
        for number in range(first, last + 1):
            await client.jetstream().publish(f"tele.pi-{number % 7}.x", str(number).encode())
    finally:
        await client.close()


async def test_a_stream_longer_than_a_batch_is_read_whole(hub: Broker) -> None:
    await fill(hub.url, 1, BATCH + 44)
    async with Fleet.open(server=hub.url) as fleet:
        found = await fleet.hub.snapshot("TELEMETRY", "tele.>", deliver_policy="all")
        assert [each.sequence for each in found] == list(range(1, BATCH + 45))
        newest = await fleet.hub.snapshot("TELEMETRY", "tele.>")
        assert len(newest) == 7


async def test_an_empty_stream_ends_at_once_and_a_missing_one_is_said(hub: Broker) -> None:
    async with Fleet.open(server=hub.url) as fleet:
        assert await fleet.hub.snapshot("TELEMETRY", "tele.>") == []
        with pytest.raises(MissingError, match="run: fleet init"):
            await fleet.hub.snapshot("NOTHING")


async def test_the_hub_restarts_and_nothing_is_skipped(hub: Broker) -> None:
    await fill(hub.url, 1, 10)
    async with (
        Fleet.open(server=hub.url) as fleet,
        fleet.hub.reader("TELEMETRY", "tele.>", deliver_policy="all") as reader,
        asyncio.timeout(DEADLINE_SECONDS),
    ):
        seen = [each.body async for each in reader.present()]
        hub.stop()
        hub.start()
        await fill(hub.url, 11, 20)
        while len(seen) < 20:
            if message := await reader.next(0.5):
                seen.append(message.body)
    assert seen == [str(number).encode() for number in range(1, 21)]


async def test_a_run_survives_a_restart_of_the_hub(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1"), fleet.started("run", "--on", "pi-1", "--wait", "1h", "--", "x") as process:
        assert process.stderr is not None
        command = (await process.stderr.readline()).split()[1].decode()
        hub.stop()
        hub.start()
        async with FakeDevice(hub.url, "pi-1") as again, asyncio.timeout(DEADLINE_SECONDS):
            await again.result(command, {"step": "outcome", "outcome": "succeeded", "stdout": "done\n"})
            out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"done\n")
