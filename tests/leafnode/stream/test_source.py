"""Mirrors and sources: nothing lost, nothing doubled, whatever the way in between does."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafnode.route.message import Message, Subscription
from leafnode.stream.times import SECOND
from tests.leafnode.stream.bench import Bench

EXTERNAL = {"api": "$JS.hub.API", "deliver": ""}


class Link:
    """Joins two accounts as a leaf link does: requests to the hub's domain one way, answers and deliveries back.

    `drop` says of each message whether it is lost; `up` whether there is a link at all.
    """

    is_remote = False

    def __init__(self, hub: Bench, leaf: Bench) -> None:
        self.hub = hub
        self.leaf = leaf
        self.up = True
        self.losses: list[bool] = []
        self._back: dict[bytes, Subscription] = {}
        leaf.account.subscribe(Subscription(b"$JS.hub.API.>", _To(self, self._to_hub)))
        leaf.account.subscribe(Subscription(b"$JS.FC.>", _To(self, self._flow)))
        leaf.account.interest_listeners.append(self._on_interest)

    def _to_hub(self, message: Message, to: bytes) -> bool:
        if not self.up:
            return False
        self.hub.account.publish(message, to=b"$JS.API." + to[len(b"$JS.hub.API.") :])
        return True

    def _flow(self, message: Message, to: bytes) -> bool:
        if self.up:
            self.hub.account.publish(message)
        return self.up

    def _on_interest(self, sub: Subscription, added: bool) -> None:
        if not sub.subject.startswith((b"$JSC.R.", b"$JS.M.", b"$JS.S.")):
            return
        if added:
            self._back[sub.subject] = there = Subscription(sub.subject, _To(self, self._to_leaf))
            self.hub.account.subscribe(there)
        elif sub.subject in self._back:
            self.hub.account.unsubscribe(self._back.pop(sub.subject))

    def _to_leaf(self, message: Message, to: bytes) -> bool:
        lost = self.losses.pop(0) if self.losses and message.reply.startswith(b"$JS.ACK.") else False
        if self.up and not lost:
            self.leaf.account.publish(message, to=to)
        return self.up

    def settle(self) -> None:
        for _ in range(3):
            self.hub.settle()
            self.leaf.settle()

    def advance(self, seconds: int) -> None:
        for _ in range(seconds):
            self.hub.advance(SECOND)
            self.leaf.advance(SECOND)
            self.settle()


class _To:
    is_remote = False

    def __init__(self, link: Link, go: Any) -> None:
        self._go = go

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        return bool(self._go(message, to or message.subject))


def joined() -> Link:
    return Link(Bench(domain="hub"), Bench(domain="leaf"))


def kept(bench: Bench, stream: str) -> list[tuple[int, str, str]]:
    """Everything in a stream: sequence, subject, payload."""
    found = []
    state = bench.state(stream)
    for seq in range(state["first_seq"], state["last_seq"] + 1):
        message = bench.api(f"STREAM.MSG.GET.{stream}", seq=seq).get("message")
        if message:
            found.append((seq, message["subject"], base64.b64decode(message.get("data", "")).decode()))
    return found


def test_a_mirror_has_the_origins_sequences_times_and_gaps() -> None:
    link = joined()
    link.hub.create("KV_B", subjects=["$KV.B.>"], max_msgs_per_subject=1)
    for number in range(6):
        link.hub.publish(f"$KV.B.k{number % 2}", b"%d" % number)
        link.hub.advance(SECOND)
    link.leaf.create("KV_B", mirror={"name": "KV_B", "external": EXTERNAL}, mirror_direct=True, allow_direct=True)
    link.settle()
    assert kept(link.leaf, "KV_B") == kept(link.hub, "KV_B") == [(5, "$KV.B.k0", "4"), (6, "$KV.B.k1", "5")]
    theirs = link.hub.api("STREAM.MSG.GET.KV_B", seq=6)["message"]["time"]
    assert link.leaf.api("STREAM.MSG.GET.KV_B", seq=6)["message"]["time"] == theirs


def test_a_mirror_follows_and_refuses_publishers() -> None:
    link = joined()
    link.hub.create("S", subjects=["s"])
    link.leaf.create("M", mirror={"name": "S", "external": EXTERNAL})
    link.settle()
    link.hub.publish("s", b"live")
    link.settle()
    assert kept(link.leaf, "M") == [(1, "s", "live")]
    mirror = link.leaf.api("STREAM.INFO.M")["mirror"]
    assert (mirror["name"], mirror["external"], mirror["lag"]) == ("S", EXTERNAL, 0)


def test_a_mirror_catches_up_when_the_link_is_back() -> None:
    link = joined()
    link.hub.create("S", subjects=["s"])
    link.leaf.create("M", mirror={"name": "S", "external": EXTERNAL})
    link.settle()
    link.hub.publish("s", b"before")
    link.settle()
    link.up = False
    link.hub.publish("s", b"meanwhile")
    link.advance(30)
    link.up = True
    link.leaf.js.on_link_up()
    link.settle()
    link.hub.publish("s", b"after")
    link.settle()
    assert [payload for _, _, payload in kept(link.leaf, "M")] == ["before", "meanwhile", "after"]


def test_silence_is_noticed_without_being_told() -> None:
    link = joined()
    link.hub.create("S", subjects=["s"])
    link.leaf.create("M", mirror={"name": "S", "external": EXTERNAL})
    link.settle()
    link.up = False
    link.advance(20)
    link.up = True
    link.hub.publish("s", b"x")
    link.advance(150)
    assert kept(link.leaf, "M") == [(1, "s", "x")]


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 12))
def test_lost_deliveries_are_fetched_again_exactly_once(losses: list[bool], count: int) -> None:
    link = joined()
    link.hub.create("S", subjects=["s.>"])
    link.leaf.create("M", mirror={"name": "S", "external": EXTERNAL})
    link.leaf.create("A", subjects=["own"], sources=[{"name": "S", "external": EXTERNAL}])
    link.settle()
    link.losses = losses
    for number in range(count):
        link.hub.publish(f"s.{number}", b"%d" % number)
        link.settle()
    link.advance(40)
    wanted = [f"s.{number}" for number in range(count)]
    assert [subject for _, subject, _ in kept(link.leaf, "M")] == wanted
    assert [subject for _, subject, _ in kept(link.leaf, "A")] == wanted


def test_a_source_moves_subjects_and_says_where_a_message_came_from() -> None:
    link = joined()
    link.hub.create("KV_B", subjects=["$KV.B.>"])
    link.hub.publish("$KV.B.k", b"v")
    source = {
        "name": "KV_B",
        "external": EXTERNAL,
        "subject_transforms": [{"src": "$KV.B.>", "dest": "$KV.S.>"}],
    }
    link.leaf.create("KV_S", subjects=["$KV.S.>"], sources=[source])
    link.settle()
    message = link.leaf.api("STREAM.MSG.GET.KV_S", seq=1)["message"]
    assert message["subject"] == "$KV.S.k"
    headers = base64.b64decode(message["hdrs"]).decode()
    assert headers.startswith("NATS/1.0\r\nNats-Stream-Source: KV_B:")
    _, _, *words, identity = headers.rstrip().split(" ")
    assert words == ["1", "$KV.B.>", "$KV.S.>", "$KV.B.k"]
    assert len(identity) == 8


def test_a_source_goes_on_behind_what_it_has_even_if_that_was_purged() -> None:
    link = joined()
    link.hub.create("S", subjects=["s"])
    link.leaf.create("A", subjects=["own"], sources=[{"name": "S", "external": EXTERNAL}])
    link.settle()
    link.hub.publish("s", b"1")
    link.settle()
    link.leaf.api("STREAM.PURGE.A")
    link.leaf.js.on_link_up()
    link.settle()
    link.hub.publish("s", b"2")
    link.settle()
    assert [payload for _, _, payload in kept(link.leaf, "A")] == ["2"]


@pytest.mark.parametrize("is_told", [False, True], ids=["found by silence", "told by the link"])
def test_a_source_copies_an_origin_that_was_made_anew_from_its_beginning(is_told: bool) -> None:
    link = joined()
    link.hub.create("S", subjects=["s"])
    link.leaf.create("A", subjects=["own"], sources=[{"name": "S", "external": EXTERNAL}])
    link.settle()
    for number in range(3):
        link.hub.publish("s", b"old %d" % number)
    link.settle()
    link.hub.api("STREAM.DELETE.S")
    link.hub.advance(SECOND)
    link.hub.create("S", subjects=["s"])
    link.hub.publish("s", b"new")
    if is_told:
        link.leaf.account.subscribe(Subscription(b"$JS.hub.API.CONSUMER.>", _Remote()))
        link.settle()
    else:
        link.advance(20)
    assert [payload for _, _, payload in kept(link.leaf, "A")] == ["old 0", "old 1", "old 2", "new"]
    link.hub.publish("s", b"newer")
    link.settle()
    assert [payload for _, _, payload in kept(link.leaf, "A")][-2:] == ["new", "newer"]


def test_a_mirror_of_an_origin_that_was_made_anew_is_a_mirror_of_the_new_one() -> None:
    link = joined()
    link.hub.create("S", subjects=["s"])
    link.leaf.create("M", mirror={"name": "S", "external": EXTERNAL})
    link.settle()
    for number in range(3):
        link.hub.publish("s", b"old %d" % number)
    link.settle()
    link.leaf.api("CONSUMER.DURABLE.CREATE.M.c", stream_name="M", config={"durable_name": "c", "ack_policy": "none"})
    link.hub.api("STREAM.DELETE.S")
    link.hub.advance(SECOND)
    link.hub.create("S", subjects=["s"])
    link.hub.publish("s", b"new")
    link.advance(20)
    assert kept(link.leaf, "M") == [(1, "s", "new")]
    assert link.leaf.api("CONSUMER.NAMES.M")["consumers"] == ["c"]


class _Remote:
    """Another server's interest."""

    is_remote = True
    is_hub = True

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        return True

    def forward(self, message: Message, to: bytes, queues: object, *, plain: bool) -> bool:
        return True


def test_a_failed_commit_is_copied_again() -> None:
    link = joined()
    link.hub.create("S", subjects=["s"])
    link.leaf.create("A", subjects=["own"], sources=[{"name": "S", "external": EXTERNAL}])
    link.settle()
    link.hub.publish("s", b"1")
    batch = link.leaf.journal.take()
    assert batch is not None
    link.leaf.reload(link.leaf.journal.fail(batch, "disk is full"))
    link.settle()
    assert [payload for _, _, payload in kept(link.leaf, "A")] == ["1"]


def test_an_origin_that_is_not_there_is_shown_and_waited_for() -> None:
    bench = Bench()
    bench.create("M", mirror={"name": "LATER"})
    bench.advance(SECOND)
    mirror = bench.api("STREAM.INFO.M")["mirror"]
    assert (mirror["active"], mirror["error"]["err_code"]) == (-1, 10059)
    bench.create("LATER", subjects=["later"])
    bench.publish("later", b"x")
    bench.advance(SECOND)
    assert kept(bench, "M") == [(1, "later", "x")]


def test_an_old_origin_is_asked_in_its_own_words() -> None:
    """It refuses the level or the unknown key: the second request has neither."""
    bench = Bench()
    asked: list[Message] = []

    class Old:
        is_remote = False

        def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
            asked.append(message)
            code = 10025 if b'"sourcing"' in message.payload else 10059
            error = {"error": {"code": 400, "err_code": code, "description": "no"}}
            bench.account.publish(Message(message.reply, payload=json.dumps(error).encode()))
            return True

    bench.account.subscribe(Subscription(b"$JS.old.API.>", Old()))
    bench.create("M", mirror={"name": "S", "external": {"api": "$JS.old.API"}})
    assert len(asked) == 2
    assert asked[1].headers == b""
    assert asked[1].subject.startswith(b"$JS.old.API.CONSUMER.CREATE.S.JS_MIRROR_")


def test_a_mirror_can_be_promoted() -> None:
    link = joined()
    link.hub.create("S", subjects=["s"])
    link.hub.publish("s", b"1")
    link.leaf.create("S", mirror={"name": "S", "external": EXTERNAL})
    link.settle()
    assert "error" not in link.leaf.api("STREAM.UPDATE.S", name="S", subjects=["s"])
    assert link.leaf.publish("s", b"2")["seq"] == 2
