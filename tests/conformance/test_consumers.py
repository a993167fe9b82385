"""What consumers do, message by message: one program at nats-server and leafnode at the same time."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.pair import Pair, Said, pair_of

MS = 1_000_000
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair_of(tmp_path_factory.mktemp("pair")) as both:
        yield both


class Bench:
    """A stream of its own name for each test, and short words for what the tests do all the time."""

    def __init__(self, pair: Pair, name: str) -> None:
        self.pair = pair
        self.name = name
        self.events = pair.listen("$JS.EVENT.*.CONSUMER.>")

    def stream(self, messages: int = 0, **config: Any) -> None:
        self.pair.api(f"STREAM.CREATE.{self.name}", {"name": self.name, "subjects": [f"{self.name}.>"], **config})
        self.publish(messages)

    def publish(self, messages: int, size: int = 1) -> None:
        for number in range(messages):
            inbox = self.pair.listen()
            self.pair.publish(f"{self.name}.{number % 3}", b"x" * size, reply=inbox)
            self.pair.heard(inbox, least=1, quiet=0)

    def consumer(self, name: str, **config: Any) -> Any:
        config = {"durable_name": name, "ack_policy": "explicit", **config}
        wanted = {"stream_name": self.name, "config": config}
        return self.pair.api(f"CONSUMER.CREATE.{self.name}.{name}", wanted)

    def pull(self, name: str, **body: Any) -> str:
        """A request that waits; its inbox."""
        inbox = self.pair.listen()
        self.ask(name, inbox, **body)
        return inbox

    def ask(self, name: str, inbox: str, **body: Any) -> None:
        """Another request for the same inbox."""
        request = json.dumps(body).encode() if body else b""
        self.pair.publish(f"$JS.API.CONSUMER.MSG.NEXT.{self.name}.{name}", request, reply=inbox)

    def heard(self, inbox: str, least: int = 0) -> list[str]:
        """What came to an inbox, in short: status line, or sequence and number of deliveries."""
        return [short(said) for said in self.pair.heard(inbox, least=least)]

    def info(self, name: str) -> Any:
        return self.pair.settles(f"CONSUMER.INFO.{self.name}.{name}")

    def events_heard(self, least: int = 0) -> list[dict[str, Any]]:
        return [json.loads(said.payload) for said in self.pair.heard(self.events, least=least)]

    def answer(self, inbox: str, place: int, body: bytes = b"") -> list[str]:
        """Acknowledge and wait until that has had its effect."""
        reply = self.pair.listen()
        self.pair.answer(inbox, place, body, reply=reply)
        return [short(said) for said in self.pair.heard(reply, least=1, quiet=0)]


def short(said: Said) -> str:
    if said.reply.startswith("$JS.ACK"):
        words = said.reply.split(".")
        return f"{words[5]}x{words[4]}"
    return said.headers.split("\r\n")[0][9:] or said.payload


@pytest.fixture
def bench(servers: Pair, request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(servers, re.sub(r"\W", "_", request.node.name.upper()))
    yield made
    made.pair.leave(made.events)
    servers.api(f"STREAM.DELETE.{made.name}")


# priority groups -------------------------------------------------------------------------------------------------


def test_overflow(bench: Bench) -> None:
    """A reader that is there for the rush gets nothing until so much is pending, or unacknowledged."""
    bench.stream(4)
    bench.consumer("c", priority_policy="overflow", priority_groups=["A"])
    backup = bench.pull("c", batch=3, group="A", min_pending=5)
    also = bench.pull("c", batch=3, group="A", min_ack_pending=2)
    assert bench.heard(backup) == bench.heard(also) == []
    first = bench.pull("c", batch=2, group="A")
    bench.heard(first, least=2)
    assert bench.heard(also, least=2) == ["3x1", "4x1"]
    assert bench.heard(backup) == []
    bench.publish(6)
    bench.heard(also)
    bench.heard(backup)
    bench.info("c")


def test_overflow_without_waiting(bench: Bench) -> None:
    bench.stream(2)
    bench.consumer("c", priority_policy="overflow", priority_groups=["A"])
    assert bench.heard(bench.pull("c", no_wait=True, group="A", min_pending=5), least=1) == ["404 No Messages"]
    assert bench.heard(bench.pull("c", no_wait=True, group="A", min_pending=2), least=1) == ["1x1"]


def test_pinned_client(bench: Bench) -> None:
    """The first reader has the messages, until an administrator says otherwise."""
    bench.stream(2)
    bench.consumer("c", priority_policy="pinned_client", priority_groups=["A"])
    first = bench.pull("c", batch=2, group="A")
    said = bench.pair.heard(first, least=2)
    pin = said[0].headers.split("Nats-Pin-Id: ")[1].split("\r\n")[0]
    assert pin in said[1].headers
    second = bench.pull("c", batch=5, group="A")
    bench.publish(2)
    assert bench.heard(second) == []
    for side in bench.pair.sides:
        asked = json.dumps({"batch": 1, "group": "A", "id": side.true_id(pin)}).encode()
        bench.pair._publish(side, f"$JS.API.CONSUMER.MSG.NEXT.{bench.name}.c".encode(), asked, b"", first)
    assert bench.heard(first, least=3)[2] == "3x1"
    assert bench.heard(bench.pull("c", group="A", id="wrong"), least=1) == ["423 Nats-Pin-Id mismatch"]
    assert bench.info("c")["priority_groups"][0]["pinned_client_id"] == pin
    assert bench.pair.api(f"CONSUMER.UNPIN.{bench.name}.c", {"group": "B"})["error"]["err_code"] == 10160
    assert "error" not in bench.pair.api(f"CONSUMER.UNPIN.{bench.name}.c", {"group": "A"})
    assert bench.heard(second, least=1) == ["4x1"]
    bench.info("c")
    kinds = [event["type"].rpartition(".")[2] for event in bench.events_heard(least=4)]
    assert kinds == [
        "consumer_action",
        "consumer_group_pinned",
        "consumer_group_unpinned",
        "consumer_group_pinned",
    ]


def test_a_pin_ends_when_its_reader_is_silent(bench: Bench) -> None:
    bench.stream(1)
    bench.consumer("c", priority_policy="pinned_client", priority_groups=["A"], priority_timeout=300 * MS)
    bench.heard(bench.pull("c", group="A"), least=1)
    other = bench.pull("c", batch=2, group="A")
    bench.publish(1)
    assert bench.heard(other, least=1) == ["2x1"]
    assert bench.events_heard(least=4)[2]["reason"] == "timeout"


def test_an_old_pin_is_wrong(bench: Bench) -> None:
    bench.stream(1)
    bench.consumer("c", priority_policy="pinned_client", priority_groups=["A"])
    assert bench.heard(bench.pull("c", group="A", id="old"), least=1) == ["423 Nats-Wrong-Pin-Id"]


def test_prioritized(bench: Bench) -> None:
    """The lowest number first, in turn among equals."""
    bench.stream(0)
    bench.consumer("c", priority_policy="prioritized", priority_groups=["A"])
    last = bench.pull("c", batch=3, group="A", priority=5)
    first = bench.pull("c", batch=2, group="A", priority=1)
    same = bench.pull("c", batch=2, group="A", priority=1)
    bench.info("c")
    bench.publish(6)
    assert bench.heard(first, least=2) == ["1x1", "3x1"]
    assert bench.heard(same, least=2) == ["2x1", "4x1"]
    assert bench.heard(last, least=2) == ["5x1", "6x1"]


# pull ------------------------------------------------------------------------------------------------------------


def test_requests_take_turns(bench: Bench) -> None:
    bench.stream(0)
    bench.consumer("c")
    inboxes = [bench.pull("c", batch=3) for _ in range(3)]
    assert bench.info("c")["num_waiting"] == 3
    bench.publish(7)
    assert [bench.heard(inbox) for inbox in inboxes] == [["1x1", "4x1", "7x1"], ["2x1", "5x1"], ["3x1", "6x1"]]


def test_statuses_of_requests(bench: Bench) -> None:
    bench.stream(3)
    bench.consumer("c", max_waiting=2)
    assert bench.heard(bench.pull("c", batch=9, no_wait=True), least=4)[3] == "404 No Messages"
    timed = bench.pull("c", batch=4, expires=150 * MS, max_bytes=5000)
    said = bench.pair.heard(timed, least=1)
    assert "Nats-Pending-Messages: 4\r\nNats-Pending-Bytes: 5000" in said[0].headers
    beating = bench.pull("c", batch=1, expires=700 * MS, idle_heartbeat=300 * MS)
    assert bench.heard(beating, least=3) == ["100 Idle Heartbeat", "100 Idle Heartbeat", "408 Request Timeout"]
    waiting = [bench.pull("c", batch=1) for _ in range(2)]
    assert bench.heard(bench.pull("c", batch=1), least=1) == ["409 Exceeded MaxWaiting"]
    assert bench.heard(bench.pull("c", batch=1, expires=9 * SECOND, idle_heartbeat=SECOND)) == []
    assert bench.pair.api(f"CONSUMER.DELETE.{bench.name}.c")["success"]
    assert [bench.heard(inbox, least=1) for inbox in waiting] == [["409 Consumer Deleted"]] * 2


def test_bytes_of_a_request(bench: Bench) -> None:
    bench.stream(0)
    bench.consumer("c")
    bench.publish(4, size=100)
    some = bench.pair.heard(bench.pull("c", batch=2, max_bytes=1000), least=3)
    assert short(some[2]) == "409 Batch Completed"
    assert short(bench.pair.heard(bench.pull("c", batch=2, max_bytes=50), least=1)[0]).startswith("409 Message Size")
    bench.heard(bench.pull("c", batch=9, max_bytes=290), least=2)
    bench.info("c")


def test_max_ack_pending_holds_back(bench: Bench) -> None:
    bench.stream(5)
    bench.consumer("c", max_ack_pending=2)
    inbox = bench.pull("c", batch=5)
    assert bench.heard(inbox, least=2) == ["1x1", "2x1"]
    assert bench.heard(bench.pull("c", no_wait=True)) == []
    bench.answer(inbox, 0)
    assert bench.heard(inbox, least=3)[2:] == ["3x1"]
    bench.info("c")


def test_gone_readers_are_passed_over(bench: Bench) -> None:
    bench.stream(0)
    bench.consumer("c")
    gone, here = bench.pull("c", batch=5), bench.pull("c", batch=5)
    bench.pair.leave(gone)
    bench.info("c")
    bench.publish(2)
    assert bench.heard(here, least=2) == ["1x1", "2x1"]


# acknowledgements ------------------------------------------------------------------------------------------------


def test_kinds_of_acknowledgements(bench: Bench) -> None:
    bench.stream(9)
    bench.consumer("c", sample_freq="100%")
    inbox = bench.pull("c", batch=6)
    bench.heard(inbox, least=6)
    bench.answer(inbox, 0, b"+ACK")
    bench.answer(inbox, 1, b"-NAK")
    bench.answer(inbox, 2, b"+TERM because of this")
    bench.answer(inbox, 3, b"+WPI")
    bench.answer(inbox, 4, b"+OK")
    bench.answer(inbox, 0, b"+ACK")
    bench.answer(inbox, 5, b"+TERM")
    bench.info("c")
    assert bench.heard(bench.pull("c", batch=1), least=1) == ["2x2"]
    events = bench.events_heard(least=6)
    assert [event["type"].rpartition(".")[2] for event in events] == [
        "consumer_action",
        "consumer_ack",
        "nak",
        "terminated",
        "consumer_ack",
        "terminated",
    ]


@pytest.mark.parametrize("body", [b"+NXT", b"+NXT 2", b'+NXT {"batch":2}', b"+NXTx"])
def test_next(bench: Bench, body: bytes) -> None:
    bench.stream(4)
    bench.consumer("c")
    inbox = bench.pull("c")
    bench.heard(inbox, least=1)
    reply = bench.pair.listen()
    bench.pair.answer(inbox, 0, body, reply=reply)
    assert bench.heard(reply, least=1)[0] == "2x1"
    bench.info("c")


@pytest.mark.parametrize("body", [b'-NAK {"delay":250000000}', b"-NAK 250ms"])
def test_nak_with_a_delay(bench: Bench, body: bytes) -> None:
    bench.stream(2)
    bench.consumer("c", max_deliver=3)
    inbox = bench.pull("c", batch=5)
    bench.heard(inbox, least=2)
    began = time.monotonic()
    bench.answer(inbox, 0, body)
    assert bench.heard(inbox, least=3)[2] == "1x2"
    assert time.monotonic() - began >= 0.25
    bench.info("c")


@pytest.mark.parametrize("policy", ["explicit", "all"])
def test_the_floor(bench: Bench, policy: str) -> None:
    bench.stream(6)
    bench.consumer("c", ack_policy=policy)
    inbox = bench.pull("c", batch=5)
    bench.heard(inbox, least=5)
    for place in (2, 0, 1, 4, 3):
        bench.answer(inbox, place)
        bench.info("c")


def test_version_two_of_ack_subjects(bench: Bench) -> None:
    """Taken with domain and account, and with tokens that are not known yet."""
    bench.stream(3)
    bench.consumer("c")
    bench.heard(bench.pull("c", batch=3), least=3)
    for place, more in ((1, ""), (2, ".random"), (3, ".a.b")):
        bench.pair.ask(f"$JS.ACK._.CJWHf6hO.{bench.name}.c.1.{place}.{place}.1.0{more}")
    bench.info("c")


def test_backoff_and_max_deliver(bench: Bench) -> None:
    bench.stream(2)
    bench.consumer("c", backoff=[100 * MS, 200 * MS], max_deliver=3)
    inbox = bench.pull("c", batch=9)
    assert bench.heard(inbox, least=2)[:2] == ["1x1", "2x1"]
    events = bench.events_heard(least=3)
    assert [event.get("deliveries") for event in events[1:]] == [3, 3]
    assert bench.heard(inbox, least=6) == ["1x1", "2x1", "1x2", "2x2", "1x3", "2x3"]
    assert bench.info("c")["num_redelivered"] == 2


def test_what_was_given_up_stays_in_a_work_queue(bench: Bench) -> None:
    bench.stream(2, retention="workqueue")
    bench.consumer("c", ack_wait=100 * MS, max_deliver=1)
    inbox = bench.pull("c", batch=2)
    bench.heard(inbox, least=2)
    bench.answer(inbox, 0)
    assert bench.events_heard(least=2)[1]["stream_seq"] == 2
    bench.info("c")
    assert bench.pair.settles(f"STREAM.INFO.{bench.name}")["state"]["messages"] == 1
    bench.answer(inbox, 1)
    bench.info("c")
    assert bench.pair.settles(f"STREAM.INFO.{bench.name}")["state"]["messages"] == 0


def test_unacknowledged_messages_that_are_deleted(bench: Bench) -> None:
    bench.stream(4)
    bench.consumer("c")
    inbox = bench.pull("c", batch=3)
    bench.heard(inbox, least=3)
    bench.pair.api(f"STREAM.MSG.DELETE.{bench.name}", {"seq": 2})
    assert bench.events_heard(least=2)[1]["reason"] == "Unacknowledged message was deleted"
    bench.info("c")
    bench.answer(inbox, 1)
    bench.answer(inbox, 0)
    bench.info("c")


# flow control ----------------------------------------------------------------------------------------------------


def flow_subjects(pair: Pair, inbox: str) -> list[bytes]:
    """The subject that each server wants its flow control request answered on: the last one it named."""
    return [next(reply for reply in reversed(side.acks[inbox]) if reply.startswith(b"$JS.FC.")) for side in pair.sides]


def test_acknowledging_by_flow_control(bench: Bench) -> None:
    """The answer to a flow control request says how far the reader is; that is acknowledged."""
    bench.stream(3)
    inbox = bench.pair.listen(f"to.{bench.name}")
    made = bench.consumer("c", ack_policy="flow_control", deliver_subject=f"to.{bench.name}", max_ack_pending=4)
    assert made["config"]["idle_heartbeat"] == SECOND
    assert bench.heard(inbox, least=3) == ["1x1", "2x1", "3x1"]
    bench.publish(2)
    assert bench.heard(inbox, least=5)[3:] == ["4x1", "100 FlowControl Request"]
    assert bench.info("c")["num_ack_pending"] == 4
    headers = b"NATS/1.0\r\nNats-Last-Consumer: 3\r\nNats-Last-Stream: 3\r\n\r\n"
    for side, subject in zip(bench.pair.sides, flow_subjects(bench.pair, inbox), strict=True):
        bench.pair._publish(side, subject, b"", headers, "")
    assert bench.heard(inbox, least=6)[5:] == ["5x1"]
    assert bench.info("c")["ack_floor"]["stream_seq"] == 3
    beat = bench.heard(inbox, least=8)  # at the end of the stream it asks with a heartbeat
    assert beat[6:] == ["100 Idle Heartbeat", "100 FlowControl Request"]


def test_flow_control_stalls(bench: Bench) -> None:
    """Nothing more than a window is sent; heartbeats name what is to be answered."""
    bench.stream(0)
    bench.publish(30, size=100_000)
    inbox = bench.pair.listen(f"to.{bench.name}")
    bench.consumer(
        "c", ack_policy="none", deliver_subject=f"to.{bench.name}", flow_control=True, idle_heartbeat=300 * MS
    )
    said = bench.heard(inbox, least=22)
    assert said.index("100 FlowControl Request") == 11
    beats = [said for said in bench.pair.heard(inbox, least=23) if said.headers.startswith("NATS/1.0 100 Idle")]
    assert "Nats-Consumer-Stalled: $JS.FC." in beats[0].headers
    for side, subject in zip(bench.pair.sides, flow_subjects(bench.pair, inbox), strict=True):
        bench.pair._publish(side, subject, b"", b"", "")
    assert sum(text.endswith("x1") for text in bench.heard(inbox, least=32)) == 30


# push ------------------------------------------------------------------------------------------------------------


def test_push_to_a_group(bench: Bench) -> None:
    bench.stream(3)
    bench.consumer("c", deliver_subject=f"to.{bench.name}", deliver_group="g")
    plain = bench.pair.listen(f"to.{bench.name}")
    assert bench.heard(plain) == []
    member = bench.pair.listen(f"to.{bench.name}", "g")
    assert bench.heard(member, least=3) == ["1x1", "2x1", "3x1"]
    assert bench.info("c")["push_bound"]
    bench.pair.leave(member)
    bench.info("c")


def test_heartbeats_of_a_push_consumer(bench: Bench) -> None:
    bench.stream(1)
    inbox = bench.pair.listen(f"to.{bench.name}")
    bench.consumer("c", deliver_subject=f"to.{bench.name}", idle_heartbeat=200 * MS, filter_subject=f"{bench.name}.0")
    said = bench.pair.heard(inbox, least=2)
    assert "Nats-Last-Consumer: 1\r\nNats-Last-Stream: 1" in said[1].headers


def test_a_push_consumer_gets_another_subject(bench: Bench) -> None:
    bench.stream(2)
    bench.consumer("c", deliver_subject=f"one.{bench.name}")
    two = bench.pair.listen(f"two.{bench.name}")
    assert "error" not in bench.consumer("c", deliver_subject=f"two.{bench.name}")
    assert bench.heard(two, least=2) == ["1x1", "2x1"]
    assert bench.consumer("c", deliver_subject=f"one.{bench.name}")["error"]["err_code"] == 10013


# positions -------------------------------------------------------------------------------------------------------


def test_reset(bench: Bench) -> None:
    bench.stream(5)
    bench.consumer("c")
    inbox = bench.pull("c", batch=3)
    bench.heard(inbox, least=3)
    bench.answer(inbox, 0)
    assert bench.pair.api(f"CONSUMER.RESET.{bench.name}.c")["reset_seq"] == 2
    assert bench.heard(bench.pull("c", batch=2), least=2) == ["2x1", "3x1"]
    assert bench.pair.api(f"CONSUMER.RESET.{bench.name}.c", {"seq": 5})["num_pending"] == 1
    assert bench.pair.api(f"CONSUMER.RESET.{bench.name}.c", {"seq": 9})["num_pending"] == 0
    assert bench.pair.api(f"CONSUMER.RESET.{bench.name}.c", {"seq": 1})["num_pending"] == 5
    bench.info("c")


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"deliver_policy": "by_start_sequence", "opt_start_seq": 3}, {"seq": 2}),
        ({"deliver_policy": "by_start_sequence", "opt_start_seq": 3}, {"seq": 4}),
        ({"deliver_policy": "by_start_time", "opt_start_time": "2020-01-01T00:00:00Z"}, {"seq": 2}),
        ({"deliver_policy": "by_start_time", "opt_start_time": "2099-01-01T00:00:00Z"}, {"seq": 2}),
        ({"deliver_policy": "new"}, {"seq": 2}),
        ({"deliver_policy": "new"}, {}),
        ({"deliver_policy": "last"}, {"seq": 1}),
    ],
)
def test_where_a_reset_may_go(bench: Bench, config: dict[str, Any], wanted: dict[str, Any]) -> None:
    bench.stream(5)
    bench.consumer("c", **config)
    bench.pair.api(f"CONSUMER.RESET.{bench.name}.c", wanted)
    bench.info("c")


def test_pause(bench: Bench) -> None:
    bench.stream(2)
    bench.consumer("c")
    for body in ({"pause_until": "2099-01-01T00:00:00Z"}, {"pause_until": "2099-01-01T00:00:00Z"}):
        assert bench.pair.api(f"CONSUMER.PAUSE.{bench.name}.c", body)["paused"]
    inbox = bench.pull("c", batch=2)
    assert bench.heard(inbox) == []
    assert bench.heard(bench.pull("c", no_wait=True), least=1) == ["404 No Messages"]
    assert bench.info("c")["paused"]
    bench.pair.leave(inbox)  # nats-server would serve it only when something new comes
    assert not bench.pair.api(f"CONSUMER.PAUSE.{bench.name}.c", {"pause_until": "2020-01-01T00:00:00Z"})["paused"]
    assert bench.heard(bench.pull("c", batch=2), least=2) == ["1x1", "2x1"]
    bench.info("c")
    assert not bench.pair.api(f"CONSUMER.PAUSE.{bench.name}.c")["paused"]
    bench.info("c")
    assert [event.get("paused") for event in bench.events_heard(least=4)] == [None, True, False, False]


def test_replay_as_it_was_published(bench: Bench) -> None:
    bench.stream(1)
    time.sleep(0.3)
    bench.publish(1)
    bench.consumer("c", replay_policy="original", ack_policy="none")
    began = time.monotonic()
    assert bench.heard(bench.pull("c", batch=2), least=2) == ["1x1", "2x1"]
    assert time.monotonic() - began >= 0.25


def test_an_ephemeral_waits_for_unacknowledged_messages(bench: Bench) -> None:
    bench.stream(1)
    wanted = {"name": "e", "ack_policy": "explicit", "inactive_threshold": 100 * MS, "ack_wait": SECOND}
    bench.pair.api(f"CONSUMER.CREATE.{bench.name}.e", {"stream_name": bench.name, "config": wanted})
    inbox = bench.pull("e")
    bench.heard(inbox, least=1)
    bench.pair.leave(inbox)
    time.sleep(0.4)
    bench.info("e")
    assert bench.events_heard(least=2)[1]["action"] == "delete"
