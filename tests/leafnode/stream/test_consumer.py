"""Consumers: redelivery, every kind of acknowledgement, pull requests, retention."""

import json
from typing import Any

import pytest

from leafnode.route.message import Message
from leafnode.stream.times import MILLISECOND, SECOND
from tests.leafnode.stream.bench import Bench, status


def with_messages(count: int, **config: Any) -> Bench:
    bench = Bench()
    bench.create("S", subjects=["s.>"], **config)
    for number in range(count):
        bench.publish(f"s.{number % 3}", b"%d" % number)
    return bench


def numbers(message: Message) -> tuple[int, int, int, int]:
    """deliveries, stream sequence, consumer sequence, pending."""
    tokens = message.reply.split(b".")
    return int(tokens[4]), int(tokens[5]), int(tokens[6]), int(tokens[8])


def test_unacknowledged_messages_come_again_after_ack_wait() -> None:
    bench = with_messages(1)
    bench.consumer("S", "c", ack_wait=5 * SECOND)
    assert [numbers(message) for message in bench.fetch("S", "c")] == [(1, 1, 1, 0)]
    inbox, _ = bench.pull("S", "c", batch=1)
    bench.advance(5 * SECOND - 1)
    assert inbox.take() == []
    bench.advance(1)
    assert [numbers(message) for message in inbox.take()] == [(2, 1, 2, 0)]


def test_an_acknowledged_message_never_comes_again() -> None:
    bench = with_messages(3)
    bench.consumer("S", "c", ack_wait=SECOND)
    for message in bench.fetch("S", "c", 3):
        bench.ack(message)
    inbox, _ = bench.pull("S", "c", batch=5)
    bench.advance(60 * SECOND)
    assert inbox.take() == []
    info = bench.info("S", "c")
    assert (info["ack_floor"]["stream_seq"], info["num_ack_pending"]) == (3, 0)


def test_max_deliver_gives_up_with_an_advisory_and_keeps_the_message() -> None:
    bench = with_messages(1)
    events = bench.subscribe(b"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.c")
    bench.consumer("S", "c", ack_wait=SECOND, max_deliver=2)
    inbox, _ = bench.pull("S", "c", batch=9)
    bench.advance(10 * SECOND)
    assert [numbers(message)[0] for message in inbox.take()] == [1, 2]
    assert [json.loads(event.payload)["deliveries"] for event in events.take()] == [2]
    assert bench.info("S", "c")["num_ack_pending"] == 0
    assert bench.state("S")["messages"] == 1


def test_backoff_delays_grow_and_the_last_repeats() -> None:
    bench = with_messages(1)
    bench.consumer("S", "c", backoff=[1 * SECOND, 3 * SECOND])
    inbox, _ = bench.pull("S", "c", batch=9)
    seen: list[int] = []
    start = bench.now
    for _ in range(8):
        bench.advance(SECOND)
        if inbox.take():
            seen.append((bench.now - start) // SECOND)
    assert seen == [1, 4, 7]


def test_nak_redelivers_now_or_after_its_delay() -> None:
    bench = with_messages(1)
    bench.consumer("S", "c")
    (first,) = bench.fetch("S", "c")
    bench.ack(first, b"-NAK")
    (second,) = bench.fetch("S", "c")
    assert numbers(second)[0] == 2
    bench.ack(second, b'-NAK {"delay": 2000000000}')
    assert bench.fetch("S", "c") == []
    inbox, _ = bench.pull("S", "c", batch=1)
    bench.advance(2 * SECOND)
    (third,) = inbox.take()
    bench.ack(third, b"-NAK 500ms")
    inbox, _ = bench.pull("S", "c", batch=1)
    bench.advance(499 * MILLISECOND)
    assert inbox.take() == []
    bench.advance(MILLISECOND)
    assert numbers(inbox.take()[0])[0] == 4


def test_in_progress_restarts_the_wait() -> None:
    bench = with_messages(1)
    bench.consumer("S", "c", ack_wait=2 * SECOND)
    (message,) = bench.fetch("S", "c")
    inbox, _ = bench.pull("S", "c", batch=1)
    for _ in range(4):
        bench.advance(SECOND)
        bench.ack(message, b"+WPI")
    assert inbox.take() == []
    bench.advance(2 * SECOND)
    assert len(inbox.take()) == 1


def test_terminated_messages_do_not_come_again() -> None:
    bench = with_messages(1)
    events = bench.subscribe(b"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.c")
    bench.consumer("S", "c", ack_wait=SECOND)
    (message,) = bench.fetch("S", "c")
    bench.ack(message, b"+TERM broken")
    assert json.loads(events.take()[0].payload)["reason"] == "broken"
    inbox, _ = bench.pull("S", "c", batch=1)
    bench.advance(5 * SECOND)
    assert inbox.take() == []


def test_next_acknowledges_and_asks_for_more() -> None:
    bench = with_messages(4)
    bench.consumer("S", "c")
    (message,) = bench.fetch("S", "c")
    reply, inbox = bench.inbox()
    bench.account.publish(Message(message.reply, reply, b"", b"+NXT 2"))
    bench.settle()
    assert [message.payload for message in inbox.take()] == [b"1", b"2"]
    assert bench.info("S", "c")["num_ack_pending"] == 2


def test_ack_all_takes_everything_before_it() -> None:
    bench = with_messages(5)
    bench.consumer("S", "c", ack_policy="all")
    messages = bench.fetch("S", "c", 5)
    bench.ack(messages[2])
    info = bench.info("S", "c")
    assert (info["num_ack_pending"], info["ack_floor"]) == (
        2,
        {**info["ack_floor"], "consumer_seq": 3, "stream_seq": 3},
    )


def test_an_acknowledgement_is_acknowledged_after_its_commit() -> None:
    bench = with_messages(1)
    bench.consumer("S", "c")
    (message,) = bench.fetch("S", "c")
    bench.settle()
    reply, inbox = bench.inbox()
    bench.account.publish(Message(message.reply, reply))
    assert inbox.take() == []
    bench.settle()
    assert [answer.payload for answer in inbox.take()] == [b""]


@pytest.mark.parametrize("body", [b"", b"-NAK", b"+WPI", b"+TERM", b"garbage"])
def test_every_answer_with_a_reply_is_answered(body: bytes) -> None:
    bench = with_messages(1)
    bench.consumer("S", "c")
    (message,) = bench.fetch("S", "c")
    assert [answer.payload for answer in bench.request(message.reply.decode(), body)] == [b""]


def test_max_ack_pending_holds_new_messages_back() -> None:
    bench = with_messages(5)
    bench.consumer("S", "c", max_ack_pending=2)
    inbox, _ = bench.pull("S", "c", batch=5)
    first = inbox.take()
    assert len(first) == 2
    bench.ack(first[0])
    assert [message.payload for message in inbox.take()] == [b"2"]


def test_requests_are_served_in_order_and_dropped_without_interest() -> None:
    bench = with_messages(0)
    bench.consumer("S", "c")
    gone, _ = bench.pull("S", "c", batch=5)
    first, _ = bench.pull("S", "c", batch=1)
    second, _ = bench.pull("S", "c", batch=1)
    bench.unsubscribe(gone)
    bench.publish("s.1", b"a")
    bench.publish("s.1", b"b")
    assert [message.payload for message in first.take()] == [b"a"]
    assert [message.payload for message in second.take()] == [b"b"]


def test_a_request_ends_with_its_time_and_says_what_was_left() -> None:
    bench = with_messages(1)
    bench.consumer("S", "c")
    inbox, _ = bench.pull("S", "c", batch=3, expires=2 * SECOND, idle_heartbeat=SECOND)
    bench.advance(2 * SECOND)
    got = inbox.take()
    assert [status(message) for message in got[1:]] == ["100 Idle Heartbeat", "408 Request Timeout"]
    assert b"Nats-Pending-Messages: 2\r\nNats-Pending-Bytes: 0\r\n" in got[2].headers
    assert b"Nats-Last-Consumer: 1\r\nNats-Last-Stream: 1\r\n" in got[1].headers


def test_who_does_not_wait_is_told_at_the_heartbeat_that_there_is_no_more_for_now() -> None:
    """As nats-server does: while unacknowledged messages hold back the rest."""
    bench = with_messages(3)
    bench.consumer("S", "c", max_ack_pending=1)
    inbox, _ = bench.pull("S", "c", batch=3, expires=3 * SECOND, idle_heartbeat=SECOND, no_wait=True)
    bench.advance(SECOND)
    assert [status(message) for message in inbox.take()[1:]] == ["404 No Messages"]


def test_deleting_a_consumer_tells_who_waits() -> None:
    bench = with_messages(0)
    bench.consumer("S", "c")
    inbox, _ = bench.pull("S", "c", batch=1)
    bench.api("CONSUMER.DELETE.S.c")
    assert [status(message) for message in inbox.take()] == ["409 Consumer Deleted"]


def test_an_ephemeral_goes_when_nobody_asks() -> None:
    bench = with_messages(1)
    bench.api("CONSUMER.CREATE.S.e", stream_name="S", config={"name": "e", "ack_policy": "none"})
    bench.advance(4 * SECOND)
    bench.fetch("S", "e")
    bench.advance(4 * SECOND)
    assert bench.api("CONSUMER.NAMES.S")["consumers"] == ["e"]
    bench.advance(SECOND)
    assert bench.api("CONSUMER.NAMES.S")["consumers"] == []


def test_a_paused_consumer_goes_on_at_its_time() -> None:
    bench = with_messages(1)
    bench.consumer("S", "c", pause_until="2027-01-15T08:00:10Z")
    assert bench.info("S", "c")["paused"]
    inbox, _ = bench.pull("S", "c", batch=1)
    bench.advance(9 * SECOND)
    assert inbox.take() == []
    bench.advance(SECOND)
    assert len(inbox.take()) == 1


def test_filters_count_and_deliver_only_their_subjects() -> None:
    bench = with_messages(9)
    info = bench.consumer("S", "c", filter_subjects=["s.0", "s.2"])
    assert info["num_pending"] == 6
    assert [numbers(message)[1] for message in bench.fetch("S", "c", 9)] == [1, 3, 4, 6, 7, 9]
    bench.publish("s.1")
    assert bench.info("S", "c")["num_pending"] == 0


def test_a_long_backlog_is_read_from_the_store_in_order() -> None:
    bench = Bench()
    bench.create("S", subjects=["s.>"])
    for number in range(3000):
        bench.send(f"s.{number % 5}", b"%d" % number)
    bench.settle()
    bench.js.streams["S"].shelf.clear(bench.js.streams["S"].committed)
    bench.consumer("S", "c", filter_subject="s.3", max_ack_pending=-1)
    got = bench.fetch("S", "c", 1000)
    assert [int(message.payload) for message in got] == list(range(3, 3000, 5))
    assert numbers(got[-1])[3] == 0


def test_deleted_messages_are_neither_counted_nor_delivered() -> None:
    bench = with_messages(6)
    bench.consumer("S", "c")
    bench.fetch("S", "c", 1)
    bench.api("STREAM.MSG.DELETE.S", seq=3)
    assert bench.info("S", "c")["num_pending"] == 4
    bench.api("STREAM.MSG.DELETE.S", seq=1)
    assert bench.info("S", "c")["num_ack_pending"] == 0
    assert [numbers(message)[1] for message in bench.fetch("S", "c", 9)] == [2, 4, 5, 6]


def test_a_work_queues_messages_go_when_acknowledged() -> None:
    bench = with_messages(4, retention="workqueue")
    bench.consumer("S", "c")
    messages = bench.fetch("S", "c", 4)
    bench.ack(messages[1])
    bench.ack(messages[0], b"+TERM")
    state = bench.state("S")
    assert (state["messages"], state["first_seq"], state["num_subjects"]) == (2, 3, 2)


def test_an_interest_streams_messages_go_when_everybody_has_acknowledged() -> None:
    bench = Bench()
    bench.create("S", subjects=["s.>"], retention="interest")
    assert bench.publish("s.0") == {"stream": "S", "seq": 1}
    assert bench.state("S")["messages"] == 0
    bench.consumer("S", "a")
    bench.consumer("S", "b", filter_subject="s.1")
    bench.publish("s.0")
    bench.publish("s.1")
    for message in bench.fetch("S", "a", 5):
        bench.ack(message)
    assert bench.state("S")["messages"] == 1
    for message in bench.fetch("S", "b", 5):
        bench.ack(message)
    assert bench.state("S")["messages"] == 0


def test_the_last_blocking_consumers_end_frees_messages() -> None:
    bench = Bench()
    bench.create("S", subjects=["s.>"], retention="interest")
    bench.consumer("S", "a")
    bench.consumer("S", "b")
    for _ in range(3):
        bench.publish("s.1")
    for message in bench.fetch("S", "a", 5):
        bench.ack(message)
    assert bench.state("S")["messages"] == 3
    bench.api("CONSUMER.DELETE.S.b")
    assert bench.state("S")["messages"] == 0


def test_original_replay_keeps_the_gaps() -> None:
    bench = Bench()
    bench.create("S", subjects=["s"])
    for _ in range(3):
        bench.publish("s")
        bench.advance(2 * SECOND)
    bench.consumer("S", "c", replay_policy="original")
    inbox, _ = bench.pull("S", "c", batch=3)
    arrivals: list[int] = []
    start = bench.now
    for _ in range(6):
        arrivals += [(bench.now - start) // SECOND for _ in inbox.take()]
        bench.advance(SECOND)
    assert arrivals == [0, 2, 4]


@pytest.mark.parametrize("policy", ["last", "last_per_subject"])
def test_the_last_of_a_subject_is_known_after_its_newest_message_went(policy: str) -> None:
    bench = Bench()
    bench.create("S", subjects=["s.>"], retention="interest")
    bench.consumer("S", "keeps")
    for subject in ("s.0", "s.1", "s.0"):
        bench.publish(subject, b"x")
    bench.api("STREAM.MSG.DELETE.S", seq=3)
    bench.consumer("S", "c", deliver_policy=policy, filter_subject="s.0")
    assert [numbers(message)[1] for message in bench.fetch("S", "c", 5)] == [1]


def test_a_deleted_message_makes_room_for_another_delivery() -> None:
    bench = with_messages(2)
    bench.consumer("S", "c", max_ack_pending=1)
    inbox, _ = bench.pull("S", "c", batch=2)
    assert [numbers(message)[1] for message in inbox.take()] == [1]
    bench.api("STREAM.MSG.DELETE.S", seq=1)
    assert [numbers(message)[1] for message in inbox.take()] == [2]
