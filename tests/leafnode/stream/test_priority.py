"""Priority groups, flow control that acknowledges, what was given up: no sockets, and a clock that tests move."""

import json
from typing import Any

import pytest

from leafnode.route.message import Message
from leafnode.stream.times import SECOND
from leafnode.wire import headers as header_block
from tests.leafnode.stream.bench import Bench, Inbox, status


def grouped(policy: str, messages: int, **config: Any) -> Bench:
    bench = Bench()
    bench.create("S", subjects=["s"])
    bench.consumer("S", "c", priority_groups=["A"], priority_policy=policy, **config)
    publish(bench, messages)
    return bench


def publish(bench: Bench, messages: int) -> None:
    for _ in range(messages):
        bench.publish("s", b"x")


def sequences(inbox: Inbox) -> list[int]:
    return [int(message.reply.split(b".")[5]) for message in inbox.take() if message.reply]


def pin_of(message: Message) -> bytes:
    return header_block.get(message.headers, b"Nats-Pin-Id") or b""


# overflow --------------------------------------------------------------------------------------------------------


def test_an_overflow_request_waits_for_so_many_pending() -> None:
    bench = grouped("overflow", 2)
    inbox, _ = bench.pull("S", "c", batch=5, group="A", min_pending=3)
    assert sequences(inbox) == []
    publish(bench, 1)
    assert sequences(inbox) == [1]  # then two are left: less than three


def test_an_overflow_request_waits_for_so_many_unacknowledged() -> None:
    bench = grouped("overflow", 4)
    backup, _ = bench.pull("S", "c", batch=1, group="A", min_ack_pending=2)
    assert sequences(backup) == []
    inbox, _ = bench.pull("S", "c", batch=2, group="A")
    assert (sequences(inbox), sequences(backup)) == ([1, 2], [3])


def test_others_are_served_while_an_overflow_request_waits_at_the_head() -> None:
    bench = grouped("overflow", 0)
    bench.pull("S", "c", batch=1, group="A", min_pending=100)
    plain, _ = bench.pull("S", "c", batch=2, group="A")
    publish(bench, 2)
    assert sequences(plain) == [1, 2]


# pinned client ---------------------------------------------------------------------------------------------------


def test_only_the_pinned_reader_is_served() -> None:
    bench = grouped("pinned_client", 1)
    first, _ = bench.pull("S", "c", batch=1, group="A")
    pin = pin_of(first.take()[0]).decode()
    assert pin
    second, _ = bench.pull("S", "c", batch=1, group="A")
    publish(bench, 1)
    assert sequences(second) == []
    mine, _ = bench.pull("S", "c", batch=1, group="A", id=pin)
    assert sequences(mine) == [2]


def test_a_pin_lasts_as_long_as_its_reader_asks() -> None:
    bench = grouped("pinned_client", 1, priority_timeout=10 * SECOND)
    first, _ = bench.pull("S", "c", batch=1, group="A")
    pin = pin_of(first.take()[0]).decode()
    second, _ = bench.pull("S", "c", batch=9, group="A")
    bench.advance(9 * SECOND)
    bench.pull("S", "c", batch=1, group="A", id=pin, expires=1)
    bench.advance(9 * SECOND)
    publish(bench, 1)
    assert sequences(second) == []
    bench.advance(SECOND)
    (message,) = second.take()
    assert pin_of(message) not in (b"", pin.encode())


def test_a_wrong_pin_is_told_so() -> None:
    bench = grouped("pinned_client", 1)
    old, _ = bench.pull("S", "c", batch=1, group="A", id="old")
    assert [status(message) for message in old.take()] == ["423 Nats-Wrong-Pin-Id"]
    bench.pull("S", "c", batch=1, group="A")
    wrong, _ = bench.pull("S", "c", batch=1, group="A", id="wrong")
    assert [status(message) for message in wrong.take()] == ["423 Nats-Pin-Id mismatch"]


def test_a_message_that_does_not_fit_pins_nobody() -> None:
    bench = grouped("pinned_client", 1)
    small, _ = bench.pull("S", "c", batch=1, group="A", max_bytes=1)
    assert [status(message) for message in small.take()] == ["409 Message Size Exceeds MaxBytes"]
    assert "pinned_client_id" not in bench.info("S", "c")["priority_groups"][0]


def test_an_administrator_takes_the_pin_away() -> None:
    bench = grouped("pinned_client", 2)
    events = bench.subscribe(b"$JS.EVENT.ADVISORY.CONSUMER.UNPINNED.S.c")
    bench.pull("S", "c", batch=1, group="A")
    second, _ = bench.pull("S", "c", batch=1, group="A")
    assert "error" not in bench.api("CONSUMER.UNPIN.S.c", group="A")
    assert sequences(second) == [2]
    assert [json.loads(event.payload)["reason"] for event in events.take()] == ["admin"]


# prioritized -----------------------------------------------------------------------------------------------------


def test_the_lowest_number_is_served_first_and_equals_take_turns() -> None:
    bench = grouped("prioritized", 0)
    last, _ = bench.pull("S", "c", batch=9, group="A", priority=7)
    first, _ = bench.pull("S", "c", batch=2, group="A", priority=1)
    equal, _ = bench.pull("S", "c", batch=1, group="A", priority=1)
    publish(bench, 4)
    assert (sequences(first), sequences(equal), sequences(last)) == ([1, 3], [2], [4])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"batch": 1}, "400 Bad Request - Priority Group missing"),
        ({"batch": 1, "group": "B"}, "400 Bad Request - Invalid Priority Group"),
        ({"batch": 1, "group": "A", "priority": 10}, "400 Bad Request - Priority must be between 0 and 9"),
        ({"batch": 1, "group": "A", "min_pending": 1}, "400 Bad Request - Not a Overflow Priority consumer"),
        ({"batch": 1, "group": "A", "id": "x"}, "400 Bad Request - Not a Pinned Client Priority consumer"),
    ],
)
def test_requests_that_do_not_fit(body: dict[str, Any], said: str) -> None:
    bench = grouped("prioritized", 1)
    inbox, _ = bench.pull("S", "c", **body)
    assert [status(message) for message in inbox.take()] == [said]


# acknowledging by flow control -----------------------------------------------------------------------------------


def flowing(max_ack_pending: int) -> tuple[Bench, Inbox]:
    bench = Bench()
    bench.create("S", subjects=["s"], retention="workqueue")
    inbox = bench.subscribe(b"to.me")
    bench.consumer("S", "c", ack_policy="flow_control", deliver_subject="to.me", max_ack_pending=max_ack_pending)
    return bench, inbox


def flow_request(inbox: Inbox) -> bytes:
    return next(message.reply for message in inbox.take() if message.reply.startswith(b"$JS.FC."))


def answer(bench: Bench, subject: bytes, consumer_seq: int, stream_seq: int) -> None:
    lines = ((b"Nats-Last-Consumer", b"%d" % consumer_seq), (b"Nats-Last-Stream", b"%d" % stream_seq))
    bench.account.publish(Message(subject, headers=header_block.with_lines(b"", *lines)))
    bench.settle()


def test_an_answer_acknowledges_everything_up_to_where_the_reader_is() -> None:
    bench, inbox = flowing(max_ack_pending=3)
    publish(bench, 4)
    answer(bench, flow_request(inbox), 2, 2)
    assert bench.state("S")["messages"] == 2
    info = bench.info("S", "c")
    assert (info["ack_floor"]["stream_seq"], info["num_ack_pending"]) == (2, 2)
    assert sequences(inbox) == [4]


def test_what_is_not_answered_is_asked_for_again_with_a_heartbeat_and_never_redelivered() -> None:
    bench, inbox = flowing(max_ack_pending=100)
    publish(bench, 2)
    assert sequences(inbox) == [1, 2]
    bench.advance(SECOND)
    assert [status(message) for message in inbox.take()] == ["100 Idle Heartbeat", "100 FlowControl Request"]
    bench.advance(600 * SECOND)
    assert sequences(inbox) == []


# given up --------------------------------------------------------------------------------------------------------


def test_what_was_given_up_is_kept_for_its_consumer_over_a_restart() -> None:
    bench = Bench()
    bench.create("S", subjects=["s"], retention="interest")
    for name in ("c", "d"):
        bench.consumer("S", name, max_deliver=1, ack_wait=SECOND)
    publish(bench, 1)
    (message,) = bench.fetch("S", "c")
    bench.advance(SECOND)
    bench.restart()
    for other in bench.fetch("S", "d"):
        bench.ack(other)
    assert bench.state("S")["messages"] == 1
    bench.ack(message)
    assert bench.state("S")["messages"] == 0
