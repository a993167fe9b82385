"""The examples of docs/store-and-forward.md are accepted and do what the page says, at a site without sockets."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from leafnode.config.load import load_text
from leafnode.forward.plan import SECOND, Forward
from tests.leafnode.forward.world import World

TEXT = (Path(__file__).parents[3] / "docs" / "store-and-forward.md").read_text()
BLOCKS = [body for body in re.findall(r"^```\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL) if "forward {" in body]
AROUND = (
    'jetstream { domain: site7, store_dir: "/var/lib/leafnode" }\n'
    'leafnodes { remotes: [ { url: "nats-leaf://hub.example.net" } ] }\n'
)


def plan(block: str) -> Forward:
    config = load_text(block if "jetstream" in block else AROUND + block)
    assert config.warnings == ()
    (found,) = config.forwards
    return found


def example(word: str) -> World:
    (block,) = [block for block in BLOCKS if word in block]
    return World(plan(block))


@pytest.mark.parametrize("block", BLOCKS)
def test_every_example_delivers_what_it_should_and_receipts_the_rest(block: str) -> None:
    world = World(plan(block))
    world.now -= world.now % (1440 * 60 * SECOND)  # the world's day begins: minute 0 of a Monday
    for number in range(40):
        for subject in ("tele.pi.alarm", "tele.pi.meter", "tele.pi.state", "tele.pi.heat", "logs.pi", "tele.pi.frame"):
            world.publish(subject, b"%d" % (number // 10), b"NATS/1.0\r\nUnit: a\r\n\r\n")
        world.now += SECOND
    world.run(rounds=40_000)
    assert len(world.delivered()) + world.receipted() == world.produced == 240


def test_the_source_of_a_copy() -> None:
    world = example("server_name: site7")
    world.publish("tele.roof.temperature")
    world.run()
    (copy,) = world.hub.copies()
    assert copy.subject == "up.site7.tele.roof.temperature"
    shown = re.search(r"^Leafnode-Source: (.*)$", TEXT, re.MULTILINE)
    assert shown is not None
    name, stream, created, seq, time, subject = shown[1].split()
    ours = re.search(rb"Leafnode-Source: (.*)\r\n", copy.headers)
    assert ours is not None
    parts = ours[1].decode().split()
    assert [parts[0], parts[1], parts[5]] == [name, stream, subject]
    assert all(each.isdigit() for each in (created, seq, time, *parts[2:5]))


def test_side_by_side_lanes_keep_each_device_in_order() -> None:
    world = example("partitions: 8")
    assert len(world.flow.main_lanes) == 8
    for number in range(64):
        world.publish(f"tele.pi{number % 16}.n")
    world.flow.attach(world.created, 0)
    world.run()
    assert len(world.delivered()) == 64


def test_sampling_by_each_of_its_rules() -> None:
    world = example("deadband")
    for number in range(60):
        meter = json.dumps({"meter": {"id": "m1"}, "kw": 1 + number // 20, "now": number == 7}).encode()
        world.publish("tele.pi.meter", meter)
        world.publish("tele.pi.state", b"on" if number < 30 else b"off", b"NATS/1.0\r\nNow: %d\r\n\r\n" % (number == 9))
        world.publish("tele.pi.heat", b"%d" % number)
        world.publish("logs.pi", b"line", b"NATS/1.0\r\nUnit: u%d\r\n\r\n" % (number % 2))
        world.now += 2 * SECOND
    world.run(rounds=4000)
    kinds = Counter(subject for subject, _ in world.delivered())
    assert kinds["tele.pi.meter"] == 1 + 1 + 2  # the first, the forced one, two steps of 1 kW
    assert kinds["tele.pi.state"] == 1 + 1 + 1  # the first, the forced one, the change
    assert kinds["tele.pi.heat"] == 1
    assert kinds["logs.pi"] == 60
    windows = [json.loads(copy.body) for copy in world.hub.copies("up.site7.tele.pi.heat.aggregate")]
    assert [(one["count"], one["min"], one["max"]) for one in windows][:1] == [(30, 0.0, 29.0)]
    told = world.hub.copies("$FWD.COPIES.site7.advisory.")
    assert [(copy.subject.split(".")[-1], json.loads(copy.body)["sender"]) for copy in told] == [("new", "m1")]
    reasons = Counter[str]()
    for receipt in world.receipts():
        reasons[receipt["reason"]] += receipt["count"]
    assert reasons == {"sampled": 56 + 57, "aggregated": 59}


def test_a_receipt_has_the_fields_that_the_page_shows() -> None:
    world = example("deadband")
    for _ in range(60):
        world.publish("tele.pi.meter", b'{"meter": {"id": "m1"}, "kw": 1}')
    world.run(rounds=4000)
    shown = re.search(r'^(\{"v":1,"type":"receipt".*?\})$', TEXT, re.MULTILINE | re.DOTALL)
    assert shown is not None
    first, last = world.receipts()[0], world.receipts()[-1]
    page = json.loads(shown[1])
    assert list(first) == list(page)
    same = ("type", "forward", "stream", "subject", "reason", "first_seq")
    assert {name: first[name] for name in same} == {name: page[name] for name in same}
    assert (last["last_seq"], world.receipted()) == (page["last_seq"], page["count"])


def test_reasons_are_all_in_the_page() -> None:
    for reason in ("sampled", "aggregated", "budget", "limit", "expired", "replaced", "deleted", "purged", "consumed"):
        assert f"`{reason}`" in TEXT
