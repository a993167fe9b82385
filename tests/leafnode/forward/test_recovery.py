"""Hub or site are older than they were, or somebody else: what the fences say, and what is done about it."""

import copy
import random
from dataclasses import replace

import pytest

from leafnode.forward import record
from leafnode.forward.lane import RESERVE
from leafnode.forward.plan import SECOND, Destination, Forward, Window
from tests.leafnode.forward.world import Hub, World

PLAIN = Forward(
    name="site7",
    stream="TELEMETRY",
    to=Destination(stream="COPIES", domain="hub", subject="up.>"),
    window=Window(messages=8),
    receipts_ns=SECOND,
)


def publish(world: World, count: int) -> None:
    for number in range(count):
        world.publish(f"tele.pi{number % 3}")


def sequences(world: World) -> list[int]:
    return sorted(seq for _, seq in world.delivered())


def test_a_hub_restored_from_a_backup_gets_again_what_it_lost() -> None:
    world = World(PLAIN)
    publish(world, 20)
    world.run()
    world.cut()
    backup = copy.deepcopy(world.hub)
    publish(world, 20)
    world.run()
    world.cut()
    world.hub = backup
    publish(world, 5)
    world.run()
    assert sequences(world) == list(range(1, 46))


def test_a_hub_made_anew_gets_what_is_new() -> None:
    world = World(PLAIN)
    publish(world, 20)
    world.run()
    world.cut()
    world.hub = Hub(created="2026-02-02T00:00:00Z")
    publish(world, 5)
    world.run()
    assert sequences(world) == list(range(21, 26))


def test_what_was_on_its_way_when_the_hub_dropped_everything_is_there_once() -> None:
    for seed in range(40):
        world, chance = World(PLAIN), random.Random(seed)
        for _ in range(10):
            publish(world, chance.randrange(10))
            world.link()
            world.turn()
            world.carry_up(chance.randrange(20))
            world.carry_down(chance.randrange(20))
            if chance.random() < 0.3:
                world.cut()
                keep = chance.randrange(3)
                world.hub.kept = world.hub.kept[len(world.hub.kept) - keep :] if keep else []
            if chance.random() < 0.2:
                world.crash()
        world.run()
        copies = world.delivered()
        assert len(copies) == len(set(copies)), f"seed {seed}"
        assert sum(lane.memory.delivered for lane in world.flow.main_lanes) + world.receipted() == world.produced


@pytest.mark.parametrize("new", [3, 15, 40])
def test_a_site_restored_from_a_backup_sends_the_old_no_more_and_the_new_once(new: int) -> None:
    """The new ones have sequences that lost ones had: their time tells them apart."""
    world = World(PLAIN)
    publish(world, 20)
    world.run()
    world.note()
    rows, stream, last = dict(world.rows), list(world.stream), world.last_seq
    publish(world, 20)
    world.run()
    lost = set(world.delivered())
    world.cut()
    world.rows, world.stream, world.last_seq = rows, stream, last
    world.start()
    times = {world.publish(f"tele.pi{number % 3}").time for number in range(new)}
    world.run()
    copies = [record.origin_of(one.headers) for one in world.hub.copies()]
    assert len({(one.seq, one.time) for one in copies if one}) == len(copies) == 40 + new
    assert times <= {one.time for one in copies if one}
    assert len(lost) == 40


def test_another_leafnode_of_the_same_name_is_refused_until_it_is_told_to_take_over() -> None:
    world = World(PLAIN)
    publish(world, 5)
    world.run()
    world.cut()
    twin = World(PLAIN, world.hub)
    twin.instance, twin.created = "another", 9
    twin.rows = {}
    twin.start()
    publish(twin, 5)
    twin.run(rounds=10)
    assert twin.flow.main_lanes[0].state == "refused"
    assert "names must be unique" in twin.flow.main_lanes[0].reason
    assert len(world.hub.copies()) == 5

    twin.forward = replace(PLAIN, adopt=True)
    twin.cut()
    twin.start()
    twin.run()
    assert len(world.hub.copies()) == 10
    publish(world, 5)  # and the first one does not take it back
    world.run(rounds=200)
    assert world.flow.main_lanes[0].state == "refused"
    assert len(world.hub.copies()) == 10


def test_a_running_leafnode_whose_name_was_taken_stops() -> None:
    world = World(PLAIN)
    publish(world, 5)
    world.run()
    twin = World(replace(PLAIN, adopt=True), world.hub)
    twin.instance, twin.created, twin.rows = "another", 9, {}
    twin.start()
    publish(twin, 1)
    twin.run()
    publish(world, 5)
    world.run(rounds=200)
    assert world.flow.main_lanes[0].state == "refused"
    assert len(world.hub.copies()) == 6


def test_nobody_answering_for_one_subject_does_not_hold_up_the_others() -> None:
    """A hub whose user may not publish there drops it without a word."""
    world = World(PLAIN)
    handle = world.hub.handle
    world.hub.handle = lambda message: [] if message.subject == b"up.tele.denied" else handle(message)  # type: ignore[method-assign]
    for number in range(12):
        world.publish("tele.denied" if number == 4 else "tele.pi")
    world.run(rounds=2000)
    assert len(world.delivered()) == 11
    (receipt,) = world.receipts()
    assert (receipt["subject"], receipt["reason"], receipt["count"]) == ("tele.denied", "no answer", 1)
    assert [one.subject for one in world.parked] == [b"tele.denied"]


def test_the_fence_is_renewed_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leafnode.forward.lane.FENCE_MESSAGES", 20)
    world = World(PLAIN)
    publish(world, 100)
    world.run()
    assert sequences(world) == list(range(1, 101))
    fences = [one for one in world.hub.kept if one.subject.endswith("fence.default")]
    assert len(fences) >= 4


def test_a_month_away_is_told_in_a_few_receipts_that_add_up() -> None:
    """A message every five minutes from each of five senders; the stream has room for a thousand."""
    world = World(replace(PLAIN, window=Window()))
    publish(world, 20)
    world.run()
    world.cut()
    for minute in range(0, 30 * 24 * 60, 25):
        for sender in range(5):
            world.publish(f"tele.pi{sender}")
        while len(world.stream) > 1000:
            world.drop()
        world.now += 25 * 60 * SECOND
        if minute % 5000 == 0:
            world.crash()
    assert sum(len(row) for row in world.rows.values()) < 5000 + 100 * RESERVE
    world.run()
    assert len(world.delivered()) + world.receipted() == world.produced == 20 + 30 * 24 * 60 // 5
    assert len(world.receipts()) == 5
    first, last = world.receipts()[0]["first_time"], world.receipts()[0]["last_time"]
    assert first < last
    assert sequences(world)[-1000:] == list(range(world.produced - 999, world.produced + 1))


def test_a_purge_of_the_local_stream_is_receipted() -> None:
    world = World(PLAIN)
    publish(world, 10)
    world.flow.cleared(world.last_seq)
    world.stream.clear()
    world.note()
    publish(world, 3)
    world.run()
    assert sequences(world) == [11, 12, 13]
    (receipt,) = world.receipts()
    assert (receipt["reason"], receipt["count"], receipt["first_seq"], receipt["last_seq"]) == ("purged", 10, 1, 10)
