"""Whatever happens, in any order: each message is at the hub once, or in a receipt once, and in order per subject."""

import random
from dataclasses import replace

import pytest

from leafnode.forward.plan import SECOND, Class, Destination, Forward, Rate, Sampling, Window
from tests.leafnode.forward.world import World

SEEDS = 40  # many more were run when this was written
PLAIN = Forward(
    name="site7",
    stream="TELEMETRY",
    to=Destination(stream="COPIES", domain="hub", subject="up.>"),
    window=Window(messages=8, bytes=4096),
    receipts_ns=SECOND,
)
PARALLEL = replace(PLAIN, partitions=3, partition_token=2)
CLASSES = replace(
    PLAIN, classes=(Class(name="alarm", subjects=("tele.*.alarm",), priority=0), Class(rate=Rate(messages=400)))
)
SAMPLED = replace(PLAIN, classes=(Class(sampling=Sampling(token=2, interval_ns=SECOND)),))
LIVE = replace(PLAIN, classes=(Class(live_first=True),))


def in_order(copies: list[tuple[str, int]]) -> bool:
    last: dict[str, int] = {}
    for subject, seq in copies:
        if seq <= last.get(subject, 0):
            return False
        last[subject] = seq
    return True


def harm(world: World, chance: random.Random) -> None:
    match chance.randrange(16):
        case 0 | 1 | 2 | 3:
            for _ in range(chance.randrange(1, 12)):
                kind = "alarm" if chance.random() < 0.2 else "n"
                world.publish(f"tele.pi{chance.randrange(4)}.{kind}")
        case 4 | 5 | 6:
            world.link()
        case 7:
            world.cut(late=chance.randrange(6))
        case 8:
            world.crash()
        case 9:
            world.come_late()
        case 10:
            for _ in range(chance.randrange(1, 4)):
                if world.stream:
                    world.drop()
        case 11:
            if world.stream:
                world.drop(chance.randrange(len(world.stream)), "deleted")
        case 12:
            world.note()
        case 13:
            world.now += chance.randrange(40 * SECOND)
        case _:
            pass
    for _ in range(chance.randrange(4)):
        world.turn()
        world.carry_up(chance.randrange(30))
        world.carry_down(chance.randrange(30))


@pytest.mark.parametrize(
    "forward", [PLAIN, PARALLEL, CLASSES, SAMPLED, LIVE], ids=["plain", "parallel", "classes", "sampled", "live"]
)
def test_produced_is_delivered_plus_receipted_once_and_in_order(forward: Forward) -> None:
    for seed in range(SEEDS):
        world, chance = World(forward), random.Random(seed)
        for _ in range(80):
            harm(world, chance)
        world.run()
        while world.late:
            world.come_late()
        copies = world.delivered()
        assert len(copies) == len(set(copies)), f"seed {seed}: doubled"
        assert len(copies) + world.receipted() == world.produced, f"seed {seed}"
        assert in_order(copies) or forward is LIVE, f"seed {seed}: out of order"
        lanes = world.flow.main_lanes
        assert sum(lane.memory.backlog for lane in lanes) == 0, f"seed {seed}: a backlog of nothing"
        assert sum(lane.memory.delivered for lane in lanes) == len(copies), f"seed {seed}: delivered"
