"""Counters, batches and schedules of one stream, with a clock that the test moves and commits that may fail."""

import base64
import json
from typing import Any

from leafnode.route.message import Message
from leafnode.stream import counters, times
from leafnode.stream.times import SECOND
from tests.leafnode.stream.bench import START_NS, Bench, header_block


def value(bench: Bench, stream: str, subject: str) -> str:
    message = bench.api(f"STREAM.MSG.GET.{stream}", last_by_subj=subject)["message"]
    return str(json.loads(base64.b64decode(message["data"]))["val"])


def batch(bench: Bench, subject: str, name: str, sequence: int, commit: str = "", **headers: str) -> list[Message]:
    given = {"Nats_Batch_Id": name, "Nats_Batch_Sequence": str(sequence), **headers}
    if commit:
        given["Nats_Batch_Commit"] = commit
    return bench.request(subject, b"x", header_block(**given))


# counters --------------------------------------------------------------------------------------------------------


def test_a_counter_goes_on_from_what_is_on_the_disk() -> None:
    bench = Bench()
    bench.create("C", subjects=["c.>"], allow_msg_counter=True)
    assert bench.publish("c.1", Nats_Incr="+5")["val"] == "5"
    stream = bench.js.streams["C"]
    bench.reload([stream])
    assert bench.publish("c.1", Nats_Incr="2")["val"] == "7"


def test_increments_before_the_look_up_is_answered_are_taken_in_order() -> None:
    bench = Bench()
    bench.create("C", subjects=["c"], allow_msg_counter=True)
    bench.publish("c", Nats_Incr="10")
    stream = bench.js.streams["C"]
    bench.reload([stream])
    stream.shelf.clear(stream.committed)  # as after a start: nothing is in memory
    reply, inbox = bench.inbox()
    for amount in ("1", "1", "-5"):
        bench.account.publish(Message(b"c", reply, header_block(Nats_Incr=amount)))
    assert bench.journal.backlog[0] == 3  # they wait, and publishers are slowed down by it
    bench.settle()
    assert [json.loads(message.payload)["val"] for message in inbox.take()] == ["11", "12", "7"]
    assert bench.journal.backlog == (0, 0)


def test_deleting_the_newest_message_takes_its_increment_back() -> None:
    bench = Bench()
    bench.create("C", subjects=["c"], allow_msg_counter=True)
    for amount in ("1", "10"):
        bench.publish("c", Nats_Incr=amount)
    bench.api("STREAM.MSG.DELETE.C", seq=2)
    assert bench.publish("c", Nats_Incr="100")["val"] == "101"


def test_sourced_counters_merge_and_nothing_counts_twice() -> None:
    one = header_block(Nats_Incr="5", Nats_Stream_Source="EU 1 > > c")
    first = counters.add(counters.ZERO, b"all", one, b'{"val":"5"}', 5)
    again = counters.add(first.after, b"all", one, b'{"val":"5"}', 5)
    two = header_block(Nats_Incr="1", Nats_Stream_Source="US 9 > > c")
    other = counters.add(again.after, b"all", two, b'{"val":"30"}', 1)
    assert [counted.after.total for counted in (first, again, other)] == [5, 5, 35]
    assert b"Nats-Incr: 0\r\n" in again.headers
    assert b'Nats-Counter-Sources: {"EU":{"c":"5"},"US":{"c":"30"}}\r\n' in other.headers


# batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_is_one_commit_or_nothing() -> None:
    bench = Bench()
    bench.create("A", subjects=["a.>"], allow_atomic=True)
    for sequence in (1, 2):
        assert [message.payload for message in batch(bench, f"a.{sequence}", "b", sequence)] == [b""]
    assert bench.state("A")["messages"] == 0
    reply, inbox = bench.inbox()
    last = header_block(Nats_Batch_Id="b", Nats_Batch_Sequence="3", Nats_Batch_Commit="1")
    bench.account.publish(Message(b"a.3", reply, last, b"x"))
    commit = bench.journal.take()
    assert commit is not None
    assert [stored.seq for changes in commit.streams.values() for stored in changes.messages] == [1, 2, 3]
    broken = bench.journal.fail(commit, "disk is full")
    assert [json.loads(message.payload)["error"]["err_code"] for message in inbox.take()] == [10077]
    bench.reload(broken)
    assert bench.state("A")["messages"] == 0


def test_an_idle_batch_is_abandoned() -> None:
    bench = Bench()
    bench.create("A", subjects=["a"], allow_atomic=True)
    advisories = bench.subscribe(b"$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.A")
    batch(bench, "a", "slow", 1)
    bench.advance(9 * SECOND)
    batch(bench, "a", "slow", 2)
    bench.advance(9 * SECOND)
    assert advisories.take() == []
    bench.advance(SECOND)
    (told,) = advisories.take()
    assert json.loads(told.payload)["reason"] == "timeout"
    assert json.loads(batch(bench, "a", "slow", 3, "1")[0].payload)["error"]["err_code"] == 10176
    assert bench.around.staging.batches == bench.around.staging.bytes == 0


def test_staged_messages_are_bounded() -> None:
    bench = Bench()
    bench.create("A", subjects=["a"], allow_atomic=True)
    batch(bench, "a", "one", 1)
    bench.around.staging.bytes = 64 << 20
    assert json.loads(batch(bench, "a", "two", 1)[0].payload)["error"]["err_code"] == 10210
    assert json.loads(batch(bench, "a", "one", 2)[0].payload)["error"]["err_code"] == 10210


# schedules -------------------------------------------------------------------------------------------------------


def schedules(bench: Bench, **more: Any) -> None:
    bench.create("S", subjects=["s.>"], allow_msg_schedules=True, **more)


def outputs(bench: Bench, subject: str = "s.out") -> int:
    return int(bench.api("STREAM.INFO.S", subjects_filter=subject)["state"].get("subjects", {}).get(subject, 0))


def test_every_is_due_on_the_second_and_does_not_drift() -> None:
    bench = Bench()
    schedules(bench)
    bench.now += 300_000_000  # not on a second
    bench.publish("s.1", b"x", Nats_Schedule="@every 10s", Nats_Schedule_Target="s.out")
    for _ in range(100):
        bench.advance(10 * SECOND)
    assert outputs(bench) == 100
    last = bench.api("STREAM.MSG.GET.S", last_by_subj="s.out")["message"]
    assert times.from_text(last["time"]) == START_NS + 1000 * SECOND


def test_a_schedule_that_was_due_while_off_comes_once_and_goes_on_from_now() -> None:
    bench = Bench()
    schedules(bench)
    bench.publish("s.1", b"x", Nats_Schedule="@every 10s", Nats_Schedule_Target="s.out")
    stream = bench.js.streams["S"]
    bench.now += 3600 * SECOND  # nobody calls `on_time`: the server was off
    bench.reload([stream])
    bench.advance(0)
    assert outputs(bench) == 1
    bench.advance(9 * SECOND)
    assert outputs(bench) == 1
    bench.advance(SECOND)
    assert outputs(bench) == 2


def test_a_failed_commit_makes_the_message_again_and_only_once() -> None:
    bench = Bench()
    schedules(bench)
    due = times.to_text(bench.now + 5 * SECOND)
    bench.publish("s.1", b"x", Nats_Schedule=f"@at {due}", Nats_Schedule_Target="s.out")
    bench.now += 5 * SECOND
    bench.js.on_time(bench.now)
    commit = bench.journal.take()
    assert commit is not None
    bench.reload(bench.journal.fail(commit, "disk is full"))
    assert outputs(bench) == 0
    bench.advance(SECOND)
    assert outputs(bench) == 1
    assert outputs(bench, "s.1") == 0
    bench.advance(100 * SECOND)
    assert outputs(bench) == 1


def test_a_new_schedule_on_the_subject_replaces_the_old_one() -> None:
    bench = Bench()
    schedules(bench)
    for target in ("s.old", "s.new"):
        bench.publish("s.1", b"x", Nats_Schedule="@every 10s", Nats_Schedule_Target=target)
    bench.advance(30 * SECOND)
    assert (outputs(bench, "s.old"), outputs(bench, "s.new")) == (0, 3)
    bench.publish("s.1", b"an ordinary message")
    bench.advance(30 * SECOND)
    assert outputs(bench, "s.new") == 3


def test_what_removes_the_message_ends_the_schedule() -> None:
    bench = Bench()
    schedules(bench, allow_msg_ttl=True)
    for place in range(3):
        bench.publish(f"s.{place}", b"x", Nats_Schedule="@every 10s", Nats_Schedule_Target=f"s.out.{place}")
    bench.publish("s.ttl", b"x", Nats_Schedule="@every 10s", Nats_Schedule_Target="s.out.3", Nats_TTL="15s")
    bench.api("STREAM.MSG.DELETE.S", seq=1)
    bench.api("STREAM.PURGE.S", filter="s.1")
    bench.publish("s.ended", b"stop", Nats_Schedule_Next="purge", Nats_Scheduler="s.2")
    bench.advance(60 * SECOND)
    assert [outputs(bench, f"s.out.{place}") for place in range(4)] == [0, 0, 0, 1]


# rollups ---------------------------------------------------------------------------------------------------------


def test_a_rollup_is_in_one_commit_with_its_message() -> None:
    bench = Bench()
    bench.create("R", subjects=["r.>"], allow_rollup_hdrs=True)
    for _ in range(5):
        bench.publish("r.1", b"x")
    bench.publish("r.2", b"y")
    bench.publish("r.1", b"all", Nats_Rollup="sub")
    assert bench.api("STREAM.INFO.R", subjects_filter=">")["state"]["subjects"] == {"r.1": 1, "r.2": 1}
    bench.send("r.3", b"z")
    reply, _ = bench.inbox()
    bench.account.publish(Message(b"r.1", reply, header_block(Nats_Rollup="all"), b"only"))
    bench.commit()
    assert bench.state("R")["messages"] == 1


def test_purges_that_keep_some_do_not_take_more_together() -> None:
    bench = Bench()
    bench.create("P", subjects=["p"])
    for _ in range(10):
        bench.publish("p", b"x")
    for _ in range(2):
        bench.account.publish(Message(b"$JS.API.STREAM.PURGE.P", b"", b"", b'{"filter":"p","keep":4}'))
    bench.settle()
    assert bench.state("P")["messages"] == 4


def test_async_persistence_acknowledges_before_the_commit() -> None:
    bench = Bench()
    bench.create("Q", subjects=["q"], persist_mode="async")
    reply, inbox = bench.inbox()
    bench.account.publish(Message(b"q", reply, b"", b"x"))
    assert [message.payload for message in inbox.take()] == [b'{"stream":"Q","seq":1}']
    bench.settle()
    assert inbox.take() == []
    assert bench.state("Q")["messages"] == 1


def test_what_was_acknowledged_too_early_and_lost_is_counted() -> None:
    bench = Bench()
    bench.create("Q", subjects=["q"], persist_mode="async")
    bench.send("q", b"x")
    batch = bench.journal.take()
    assert batch is not None
    bench.reload(bench.journal.fail(batch, "disk is full"))
    assert bench.journal.lost_messages == 1
