"""A commit that the disk refused never happened: what it took away is there again, and so is who still waits for it."""

import json

import pytest

from leafnode.stream.times import SECOND
from tests.leafnode.stream.bench import Bench


@pytest.fixture(params=["limits", "interest"])
def bench(request: pytest.FixtureRequest) -> Bench:
    made = Bench()
    made.create("S", subjects=["s.>"], retention=request.param, max_msgs_per_subject=1)
    for name in ("one", "two"):
        made.consumer("S", name, ack_wait=10 * SECOND)
    return made


def refuse(bench: Bench) -> None:
    batch = bench.journal.take()
    assert batch is not None
    bench.reload(bench.journal.fail(batch, "disk full"))


def test_deliveries_of_messages_that_were_pushed_out_wait_again(bench: Bench) -> None:
    for subject in ("s.a", "s.b"):
        bench.send(subject)
    bench.settle()
    first, second = bench.fetch("S", "one", 2)
    for subject in ("s.a", "s.b"):
        bench.send(subject)  # each pushes out the one before
    refuse(bench)
    info = bench.info("S", "one")
    assert (info["num_ack_pending"], info["ack_floor"]["stream_seq"], info["ack_floor"]["consumer_seq"]) == (2, 0, 0)
    bench.advance(11 * SECOND)
    again = bench.fetch("S", "one", 5)
    assert [message.subject for message in again] == [b"s.a", b"s.b"]
    for message in again:
        bench.ack(message)
    for message in bench.fetch("S", "two", 5):
        bench.ack(message)
    assert bench.info("S", "one")["ack_floor"]["stream_seq"] == 2
    assert first.subject == b"s.a"
    assert second.subject == b"s.b"


def test_the_floor_stands_below_what_came_back_also_when_later_ones_were_acknowledged(bench: Bench) -> None:
    for subject in ("s.a", "s.b", "s.c"):
        bench.send(subject)
    bench.settle()
    _, second, third = bench.fetch("S", "one", 3)
    bench.send("s.a")
    batch = bench.journal.take()
    assert batch is not None
    for message in (second, third):
        bench.account.publish(type(message)(message.reply, payload=b"+ACK"))
    bench.reload(bench.journal.fail(batch, "disk full"))
    info = bench.info("S", "one")
    assert (info["num_ack_pending"], info["ack_floor"]["stream_seq"]) == (1, 0)
    bench.advance(11 * SECOND)
    assert [message.subject for message in bench.fetch("S", "one", 5)] == [b"s.a"]


def test_a_commit_that_is_kept_forgets_them_for_good(bench: Bench) -> None:
    bench.send("s.a")
    bench.settle()
    bench.fetch("S", "one")
    bench.send("s.a")
    bench.settle()
    bench.advance(11 * SECOND)
    assert [json.loads(m.payload or b"0") for m in bench.fetch("S", "one", 5)] == [0]
    assert bench.info("S", "one")["num_ack_pending"] == 1
