"""Power cuts at many moments of a real run: what was acknowledged is there, what was removed is not back.

The same harness finds that a nats-server of default settings loses acknowledged messages, and that one with
`sync_interval: always` does not: so it is able to fail.
"""

import asyncio
import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

from leafnode.store import FILE_NAME
from leafnode.store.sqlite import SqliteStore
from tests.faults.load import connect
from tests.support.damage import World
from tests.support.powercut import Recorder
from tests.support.servers import READY_SECONDS, Broker, jetstream, leafnode, stock_hub

ROUNDS = 12  # of publishing, removing and acknowledging
STATES = int(os.environ.get("POWERCUT_STATES", "40"))  # power cuts; more for a longer look


@dataclass
class Told:
    """What was promised, and when: the recorder's moment at which the answer was here."""

    kept: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # by sequence: moment, payload
    asked: dict[int, int] = field(default_factory=dict)  # removals: when asked for
    removed: dict[int, int] = field(default_factory=dict)  # and when confirmed
    acked: dict[int, int] = field(default_factory=dict)  # acknowledged by the consumer

    def faults(self, moment: int, found: dict[int, bytes]) -> list[str]:
        """What a stream read after a power cut at `moment` has and should not have, and the other way round."""
        lost = [
            f"{seq} was acknowledged and is lost"
            for seq, (when, payload) in self.kept.items()
            if when <= moment and self.asked.get(seq, moment) >= moment and found.get(seq) != payload
        ]
        return lost + [
            f"{seq} was removed and is back" for seq, when in self.removed.items() if when <= moment and seq in found
        ]


async def run(broker: Broker, recorder: Recorder, told: Told) -> None:
    """Publish with several in flight, remove some, acknowledge some, purge."""
    chance = random.Random(7)
    client = await connect(broker.url)
    context = client.jetstream(timeout=READY_SECONDS)
    await context.add_stream(StreamConfig(name="S", subjects=["s.>"]))
    await context.add_consumer("S", ConsumerConfig(durable_name="c", ack_policy=AckPolicy.EXPLICIT))
    reader = await context.pull_subscribe_bind(consumer="c", stream="S")

    async def publish() -> None:
        payload = chance.randbytes(chance.choice((10, 300, 300, 5000)))
        seq = (await context.publish(f"s.{chance.randrange(4)}", payload)).seq
        told.kept[seq] = recorder.moment, payload

    async def remove(seq: int) -> None:
        told.asked[seq] = recorder.moment
        await context.delete_msg("S", seq)
        told.removed[seq] = recorder.moment

    for number in range(ROUNDS):
        await asyncio.gather(*(publish() for _ in range(chance.choice((1, 3, 16)))))
        for message in await reader.fetch(2, timeout=READY_SECONDS):
            await message.ack_sync(timeout=READY_SECONDS)
            told.acked[message.metadata.sequence.stream] = recorder.moment
        if number % 3 == 2:
            await remove(chance.choice([seq for seq in told.kept if seq not in told.removed]))
    await client.close()


async def look(folder: Path) -> tuple[dict[int, bytes], int, bool]:
    """After the power is back: messages, the consumer's floor, whether anything was taken for damage."""
    store = await SqliteStore.open(folder / "js" / FILE_NAME)
    try:
        world = World(store)
        await world.settle()
        if "S" not in world.js.streams:
            return {}, 0, store.salvaged is not None
        messages, _ = await world.read("S")
        floor = max((row.state.floor_stream_seq for stream in store.loaded for row in stream.consumers), default=0)
        return {stored.seq: stored.payload for stored in messages}, floor, store.salvaged is not None
    finally:
        await store.close()


async def faults_of_leafnode(tmp_path: Path, more: str) -> list[str]:
    """What does not hold after power cuts at many moments of one run."""
    told = Told()
    with Recorder(tmp_path / "live", lossy=["*"]) as recorder:
        broker = leafnode(tmp_path / "live", config=f"{jetstream(tmp_path / 'live')[:-1]} {more} }}")
        broker.argv = recorder.wrap(broker.argv)
        with broker.start():
            await run(broker, recorder, told)
            end = recorder.moment
            broker.kill()
        chance = random.Random(11)
        first = min(when for when, _ in told.kept.values())
        moments = [end, *(chance.randrange(first, end + 1) for _ in range(STATES - 1))]
        faults = []
        for number, moment in enumerate(moments):
            folder = tmp_path / "after"
            recorder.state(moment, chance, folder)
            (folder / "js" / f"{FILE_NAME}-shm").unlink(missing_ok=True)  # shared memory: not on any disk
            found, floor, salvaged = await look(folder)
            wrong = told.faults(moment, found) + ["taken for damage"] * salvaged
            wrong += [
                f"{seq} would be delivered again"
                for seq, when in told.acked.items()
                if when <= moment > 0 and seq > floor
            ]
            faults += [f"power cut {number} at {moment} of {end}: {fault}" for fault in wrong]
            shutil.rmtree(folder)
        assert len(told.kept) > 2 * ROUNDS
        return faults


async def test_what_was_acknowledged_survives_any_power_cut(tmp_path: Path) -> None:
    assert await faults_of_leafnode(tmp_path, "") == []


async def test_less_safety_is_less_safe(tmp_path: Path) -> None:
    """With `sync: normal` the same power cuts take what was acknowledged."""
    assert await faults_of_leafnode(tmp_path, ", sync: normal") != []


async def lost_by_nats_server(tmp_path: Path, more: str) -> list[str]:
    """A stock server, its power cut right after the last acknowledgement, nothing unsynced left of its messages."""
    told = Told()
    folder = tmp_path / "live"
    with Recorder(folder, lossy=["*.blk"]) as recorder:
        broker = stock_hub(folder, config=f"{jetstream(folder)[:-1]} {more} }}")
        broker.argv = recorder.wrap(broker.argv)
        with broker.start():
            await run(broker, recorder, told)
            end = recorder.moment
            shutil.copytree(folder, tmp_path / "after")  # names and everything but messages, as they are
            broker.kill()
        never = random.Random()
        never.choice = lambda likelihoods: likelihoods[0]  # type: ignore[method-assign, assignment]
        recorder.state(end, never, tmp_path / "state")
    after = tmp_path / "after"
    for block in after.rglob("*.blk"):
        kept = tmp_path / "state" / block.relative_to(after)
        block.write_bytes(kept.read_bytes() if kept.exists() else b"")
    for index in after.rglob("index.db"):  # written at leisure
        index.unlink()
    with stock_hub(after, config=f"{jetstream(after)[:-1]} {more} }}") as again:
        client = await connect(again.url)
        context = client.jetstream(timeout=READY_SECONDS)
        found: dict[int, bytes] = {}
        for seq in told.kept:
            try:
                found[seq] = (await context.get_msg("S", seq)).data or b""
            except nats.js.errors.NotFoundError:
                continue
        await client.close()
    return [fault for fault in told.faults(end, found) if "lost" in fault]


@pytest.mark.parametrize(("more", "loses"), [("", True), (", sync_interval: always", False)], ids=["default", "always"])
async def test_the_harness_can_fail(tmp_path: Path, more: str, loses: bool) -> None:
    """nats-server acknowledges before it syncs, unless told otherwise."""
    assert bool(await lost_by_nats_server(tmp_path, more)) == loses
