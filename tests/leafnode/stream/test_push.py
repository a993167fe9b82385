"""Push consumers: interest, groups, heartbeats, flow control, what watchers of buckets rely on."""

from typing import Any

from leafnode.route.message import Message
from leafnode.stream.times import SECOND
from tests.leafnode.stream.bench import Bench, Inbox, status

WATCH = {
    "ack_policy": "none",
    "max_deliver": 1,
    "flow_control": True,
    "idle_heartbeat": 5 * SECOND,
    "mem_storage": True,
    "num_replicas": 1,
}


def push(bench: Bench, stream: str = "S", **config: Any) -> dict[str, Any]:
    answer = bench.api(f"CONSUMER.CREATE.{stream}", stream_name=stream, config={"deliver_subject": "dlv", **config})
    assert "error" not in answer, answer
    return answer


def stream(count: int, payload: bytes = b"x") -> Bench:
    bench = Bench()
    bench.create("S", subjects=["s.>"])
    for number in range(count):
        bench.publish(f"s.{number % 3}", payload)
    return bench


def payloads(inbox: Inbox) -> list[bytes]:
    return [message.subject for message in inbox.take() if message.reply.startswith(b"$JS.ACK")]


def test_messages_wait_until_somebody_listens() -> None:
    """Clients create the consumer before they subscribe."""
    bench = stream(2)
    assert "push_bound" not in push(bench)
    inbox = bench.subscribe(b"dlv")
    bench.settle()
    assert payloads(inbox) == [b"s.0", b"s.1"]
    bench.unsubscribe(inbox)
    bench.publish("s.0")
    again = bench.subscribe(b"dlv")
    bench.settle()
    assert len(again.take()) == 1


def test_a_group_needs_a_member_of_that_group() -> None:
    bench = stream(1)
    push(bench, deliver_group="g")
    plain = bench.subscribe(b"dlv")
    bench.settle()
    assert plain.take() == []
    member = bench.subscribe(b"dlv", b"g")
    bench.settle()
    assert len(member.take()) == 1


def test_a_queue_member_does_not_activate_a_consumer_without_group() -> None:
    bench = stream(1)
    push(bench)
    member = bench.subscribe(b"dlv", b"g")
    bench.settle()
    assert member.take() == []


def test_heartbeats_say_where_the_consumer_is() -> None:
    bench = stream(3)
    inbox = bench.subscribe(b"dlv")
    push(bench, **WATCH)
    assert len(inbox.take()) == 3
    bench.advance(5 * SECOND)
    (beat,) = inbox.take()
    assert status(beat) == "100 Idle Heartbeat"
    assert b"Nats-Last-Consumer: 3\r\nNats-Last-Stream: 3\r\n" in beat.headers


def test_flow_control_asks_at_half_a_window_and_stalls_at_a_whole_one() -> None:
    """nats-server with messages of 100 kB asks after 11 and stalls after 21 (spec section 10)."""
    bench = stream(40, bytes(100_000))
    inbox = bench.subscribe(b"dlv")
    push(bench, **WATCH)
    bench.settle()
    got = inbox.take()
    kinds = ["flow" if message.headers.startswith(b"NATS/1.0 100") else "message" for message in got]
    assert kinds == ["message"] * 11 + ["flow"] + ["message"] * 10
    bench.advance(5 * SECOND)
    assert b"Nats-Consumer-Stalled: " + got[11].reply in inbox.take()[0].headers
    bench.account.publish(Message(got[11].reply))
    bench.settle()
    assert len([message for message in inbox.take() if message.payload]) > 10


def test_last_per_subject_delivers_each_newest_once_then_what_is_new() -> None:
    bench = stream(9)
    inbox = bench.subscribe(b"dlv")
    info = push(bench, deliver_policy="last_per_subject", filter_subject="s.>", **WATCH)
    assert info["num_pending"] == 3
    got = inbox.take()
    assert [message.reply.split(b".")[5] for message in got] == [b"7", b"8", b"9"]
    assert [message.reply.split(b".")[8] for message in got] == [b"2", b"1", b"0"]
    bench.publish("s.1")
    assert [message.reply.split(b".")[5] for message in inbox.take()] == [b"10"]


def test_a_key_replaced_before_its_delivery_is_shown_once() -> None:
    bench = Bench()
    bench.create("KV_B", subjects=["$KV.B.>"], max_msgs_per_subject=1)
    bench.publish("$KV.B.a", b"old")
    bench.publish("$KV.B.b", b"b")
    push(bench, "KV_B", deliver_policy="last_per_subject", filter_subject="$KV.B.>", **WATCH)
    bench.publish("$KV.B.a", b"new")
    inbox = bench.subscribe(b"dlv")
    bench.settle()
    assert [message.payload for message in inbox.take()] == [b"b", b"new"]


def test_unacknowledged_messages_are_pushed_again() -> None:
    bench = stream(1)
    inbox = bench.subscribe(b"dlv")
    push(bench, ack_policy="explicit", ack_wait=SECOND)
    bench.advance(SECOND)
    assert [message.reply.split(b".")[4] for message in inbox.take()] == [b"1", b"2"]


def test_an_ephemeral_without_listener_goes() -> None:
    bench = stream(0)
    inbox = bench.subscribe(b"dlv")
    push(bench)
    bench.advance(60 * SECOND)
    assert bench.state("S")["consumer_count"] == 1
    bench.unsubscribe(inbox)
    bench.advance(4 * SECOND)
    assert bench.state("S")["consumer_count"] == 1
    bench.advance(SECOND)
    assert bench.state("S")["consumer_count"] == 0


def test_a_hubs_sourcing_consumer_waits_hidden_for_its_listener() -> None:
    """As a hub creates it: the deliver subject has no interest yet (leafnode-protocol section 9)."""
    bench = stream(2)
    answer = bench.api(
        "CONSUMER.CREATE.S",
        stream_name="S",
        config={
            "name": "JS_SRC_x",
            "deliver_subject": "$JS.S.abc",
            "ack_policy": "none",
            "ack_wait": 79_200_000_000_000,
            "max_deliver": 1,
            "flow_control": True,
            "idle_heartbeat": SECOND,
            "inactive_threshold": 10 * SECOND,
            "direct": True,
            "sourcing": True,
        },
        action="",
    )
    assert answer["name"].startswith("JS_SRC_x-")
    bench.advance(9 * SECOND)
    assert bench.api("CONSUMER.NAMES.S")["consumers"] == []
    assert bench.state("S")["consumer_count"] == 0
    inbox = bench.subscribe(b"$JS.S.abc")
    bench.settle()
    assert len(inbox.take()) == 2
    bench.advance(SECOND)
    assert b"Nats-Last-Consumer: 2\r\nNats-Last-Stream: 2\r\n" in inbox.take()[-1].headers


def test_a_rate_limit_spreads_messages() -> None:
    bench = stream(3, bytes(121))  # 125 bytes with the subject: a thousand bits
    inbox = bench.subscribe(b"dlv")
    push(bench, rate_limit_bps=1000)
    counts = []
    for _ in range(4):
        counts.append(len(inbox.take()))
        bench.advance(SECOND)
    assert sum(counts) + len(inbox.take()) == 3
    assert counts[0] == 1
