"""Rates and hours of the day; priorities of classes."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from leafnode.forward.plan import SECOND, Budget, Class, Destination, Forward, Hours, Rate, Window
from leafnode.forward.shaping import Meter, is_open, minutes_until_open
from leafnode.net.budgets import FROZEN_LEAST, Budgets
from tests.leafnode.forward.world import Hub, World

PLAIN = Forward(
    name="site7",
    stream="TELEMETRY",
    to=Destination(stream="COPIES", domain="hub", subject="up.>"),
    window=Window(messages=8),
)


@pytest.mark.parametrize(("rate", "per_second"), [(Rate(messages=50), 50), (Rate(bytes=5000), 50)])
def test_a_rate_is_kept_over_time(rate: Rate, per_second: int) -> None:
    meter, now, gone = Meter(rate), 1000 * SECOND, 0
    end = now + 10 * SECOND
    while now < end:
        ready = meter.ready_ns(now)
        if ready <= now:
            meter.take(100)
            gone += 1
        else:
            now = ready
    assert per_second * 10 <= gone <= per_second * 11 + 2  # what was not used before is a burst of one second


def test_a_message_larger_than_a_seconds_worth_goes_too() -> None:
    meter = Meter(Rate(bytes=100))
    assert meter.ready_ns(SECOND) == SECOND
    meter.take(1000)
    assert meter.ready_ns(SECOND) == pytest.approx(10 * SECOND, abs=10)


NIGHT = Hours(first_minute=22 * 60, last_minute=6 * 60, days=frozenset({0}))
EARLY = Hours(first_minute=60, last_minute=5 * 60)


@pytest.mark.parametrize(
    ("hours", "day", "minute", "expected"),
    [
        ((), 3, 100, True),
        ((EARLY,), 3, 59, False),
        ((EARLY,), 3, 60, True),
        ((EARLY,), 3, 299, True),
        ((EARLY,), 3, 300, False),
        ((NIGHT,), 0, 23 * 60, True),
        ((NIGHT,), 1, 5 * 60, True),
        ((NIGHT,), 1, 6 * 60, False),
        ((NIGHT,), 1, 23 * 60, False),
        ((NIGHT,), 0, 5 * 60, False),
    ],
)
def test_hours(hours: tuple[Hours, ...], day: int, minute: int, expected: bool) -> None:
    assert is_open(hours, day, minute) is expected


def test_the_next_opening_is_the_first_minute_that_is_open() -> None:
    for part in (NIGHT, EARLY):
        for day in range(7):
            for minute in range(0, 1440, 7):
                if not is_open((part,), day, minute):
                    wait = minutes_until_open((part,), day, minute)
                    when = day * 1440 + minute + wait
                    assert is_open((part,), when // 1440 % 7, when % 1440)
                    before = when - 1
                    assert not is_open((part,), before // 1440 % 7, before % 1440)


def test_the_first_class_goes_first_and_each_keeps_its_order() -> None:
    classes = (Class(name="alarm", subjects=("tele.*.alarm",), priority=0), Class(name="rest", rate=Rate(messages=20)))
    world = World(replace(PLAIN, classes=classes))
    for number in range(60):
        world.publish("tele.pi.n", b"%d" % number)
    for number in range(20):
        world.publish("tele.pi.alarm", b"%d" % number)
    world.run()
    subjects = [subject for subject, _ in world.delivered()]
    assert subjects.count("tele.pi.n") == 60
    last_alarm = max(place for place, subject in enumerate(subjects) if subject.endswith("alarm"))
    assert last_alarm < 45, "alarms waited for the rest"


def test_a_class_waits_for_its_hours_and_holds_up_nobody() -> None:
    """The world's clock is at minute 0 of a day."""
    closed = Class(name="bulk", subjects=("bulk.>",), hours=(Hours(first_minute=2, last_minute=3),))
    world = World(replace(PLAIN, classes=(closed, Class())))
    world.now -= world.now % (1440 * 60 * SECOND)
    world.publish("bulk.a")
    world.publish("tele.a")
    world.run(rounds=200)  # 50 seconds
    assert world.delivered() == [("tele.a", 2)]
    world.run(rounds=600)
    assert world.delivered() == [("tele.a", 2), ("bulk.a", 1)]


def test_a_hub_with_replicas_gets_one_at_a_time() -> None:
    hub = Hub()
    hub.config["num_replicas"] = 3
    world = World(PLAIN, hub)
    for _ in range(20):
        world.publish("tele.pi.n")
    world.link()
    most = 0
    for _ in range(200):
        world.turn()
        most = max(most, sum(lane.in_flight for lane in world.flow.main_lanes))
        world.carry_up()
        world.carry_down()
        world.now += SECOND // 10
    assert most == 1
    assert len(world.delivered()) == 20


def test_a_hub_without_room_is_waited_for_in_order() -> None:
    chance = random.Random(1)
    hub = Hub(refuses=lambda subject: full if subject.startswith("up.") and chance.random() < 0.3 else None)
    hub.config["discard"] = "new"
    full = {"code": 503, "err_code": 10077, "description": "maximum bytes exceeded"}
    world = World(PLAIN, hub)
    for number in range(50):
        world.publish(f"tele.pi{number % 3}")
    world.run(rounds=20_000)
    copies = world.delivered()
    assert sorted(seq for _, seq in copies) == list(range(1, 51))
    for sender in range(3):
        mine = [seq for subject, seq in copies if subject == f"tele.pi{sender}"]
        assert mine == sorted(mine)


def test_what_the_hub_will_never_take_is_parked_with_a_receipt() -> None:
    never = {"code": 400, "err_code": 10054, "description": "message size exceeds maximum allowed"}
    hub = Hub(refuses=lambda subject: never if subject.endswith(".bad") else None)
    world = World(replace(PLAIN, receipts_ns=SECOND), hub)
    for subject in ("tele.a", "tele.bad", "tele.b"):
        world.publish(subject, headers=b"NATS/1.0\r\nUnit: C\r\n\r\n")
    world.run()
    assert [subject for subject, _ in world.delivered()] == ["tele.a", "tele.b"]
    (receipt,) = world.receipts()
    assert (receipt["subject"], receipt["count"]) == ("tele.bad", 1)
    assert receipt["reason"] == "message size exceeds maximum allowed (10054)"
    (parked,) = world.parked
    assert b"Unit: C\r\nLeafnode-Parked: message size" in parked.headers


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"subjects": ["up.>"]}, "add it to the stream's subjects"),
        ({"subjects": ["$FWD.COPIES.>", "up.*"]}, "does not take up.>"),
        ({"retention": "workqueue"}, "has retention workqueue"),
        ({"sealed": True}, "is sealed"),
        ({"no_ack": True}, "no_ack"),
    ],
)
def test_a_hubs_stream_that_cannot_serve_is_refused_with_what_to_do(change: dict[str, object], says: str) -> None:
    hub = Hub()
    hub.config.update(change)
    world = World(PLAIN, hub)
    world.publish("tele.a")
    world.run(rounds=5)
    lane = world.flow.main_lanes[0]
    assert lane.state == "refused"
    assert says in lane.reason
    assert not world.delivered()


def test_only_the_subjects_that_were_asked_for_go_and_are_counted() -> None:
    to = Destination(stream="COPIES", domain="hub", subject="up.{{wildcard(1)}}.{{partition(2,1)}}")
    world = World(replace(PLAIN, filters=("tele.*.t",), to=to))
    for subject in ("tele.a.t", "tele.a.h", "other"):
        world.publish(subject)
    assert sum(group.backlog[0] for group in world.flow.groups) == 1
    world.run()
    assert world.delivered() == [("tele.a.t", 1)]
    (found,) = world.hub.copies()
    assert found.subject.startswith("up.a.")


def test_a_short_disk_freezes_what_may_wait(tmp_path: Path) -> None:
    budget = Budget(policy="drop-oldest", headroom=1 << 60)
    world = World(replace(PLAIN, classes=(Class(budget=budget),)))
    budgets = Budgets(world.forward, str(tmp_path))
    (group,) = world.flow.groups
    assert budgets.limit(group) == 0
    for _ in range(3):
        world.publish("tele.a", b"x" * FROZEN_LEAST)
    budgets.look_at_disk(world.flow)
    assert budgets.limit(group) == group.backlog[1] > 3 * FROZEN_LEAST
    empty = World(world.forward)
    budgets = Budgets(world.forward, str(tmp_path))
    budgets.look_at_disk(empty.flow)
    assert budgets.limit(empty.flow.groups[0]) == FROZEN_LEAST
