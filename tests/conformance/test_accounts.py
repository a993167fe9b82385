"""Streams and services that one account imports from another: the same conversation on both servers."""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import nats
import pytest
from nats.js.kv import KeyValue

from tests.conformance.conftest import MAKERS
from tests.conformance.raw import Wire
from tests.support.ports import free_port
from tests.support.servers import Broker, jetstream

SHARING = """
accounts {
  A { users: [{user: a, password: p}]
      exports: [ {service: svc}, {service: shared}, {service: many, response_type: stream}, {service: "w.*.*"},
                 {service: quick, threshold: "1ms"}, {service: mp}
                 {stream: "pub.>"}, {stream: lit}, {stream: "st.*.*"} ]
      mappings { mp: mapped } }
  B { users: [{user: b, password: p}]
      imports: [ {service: {account: A, subject: svc}, to: my.req}
                 {service: {account: A, subject: shared}, share: true}
                 {service: {account: A, subject: many}}, {service: {account: A, subject: "w.*.*"}, to: "loc.$2.$1"}
                 {service: {account: A, subject: quick}}, {service: {account: A, subject: mp}}
                 {stream: {account: A, subject: "pub.>"}, prefix: b}, {stream: {account: A, subject: lit}, to: here}
                 {stream: {account: A, subject: "st.*.*"}, to: "ts.$2.$1"} ]
      exports: [ {service: my.req}, {stream: "b.pub.>"} ] }
  C { users: [{user: c, password: p}]
      imports: [ {service: {account: B, subject: my.req}, to: c.req}
                 {stream: {account: B, subject: "b.pub.>"}, prefix: c} ] }
}
"""

TWO_SERVICES = """
accounts {
  A { users: [{user: a, password: p}], exports: [{service: q}] }
  B { users: [{user: b, password: p}], exports: [{service: q}] }
  C { users: [{user: c, password: p}],
      imports: [{service: {account: A, subject: q}}, {service: {account: B, subject: q}}] }
}
"""


@pytest.fixture(scope="module", params=list(MAKERS))
def sharing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with MAKERS[request.param](tmp_path_factory.mktemp(request.param), config=SHARING) as running:
        yield running


class Party(Wire):
    """A client of one account."""

    def __init__(self, broker: Broker, user: str, *, subscribe: str = "") -> None:
        super().__init__(broker.port)
        options = {"user": user, "pass": "p", "verbose": False, "headers": True, "no_responders": True, "name": "me"}
        self.send(b"CONNECT " + json.dumps(options).encode() + b"\r\n")
        for sid, subject in enumerate(subscribe.split(), 1):
            self.send(b"SUB %b %d\r\n" % (subject.encode(), sid))
        self.heard()

    def heard(self) -> bytes:
        """What has come; the time it took to get here is left out."""
        self.send(b"PING\r\n")
        seen = self.until(b"PONG\r\n").removesuffix(b"PONG\r\n")
        return re.sub(rb',"rtt":\d+', b"", seen)

    def ask(self, subject: str, other: "Party") -> tuple[bytes, bytes]:
        """Send a request; returns what `other` gets of it without sizes, and its reply subject."""
        self.send(b"PUB %b in.1 1\r\nx\r\n" % subject.encode())
        self.heard()
        seen = other.heard()
        found = re.search(rb"_R_\.\w{6}\.\w{6}", seen)
        assert found, seen
        return re.sub(rb" \d+ \d+\r\n", b"\r\n", seen.replace(found[0], b"REPLY")), found[0]


def test_a_service_is_asked_under_another_name_and_answers_once(sharing: Broker) -> None:
    with Party(sharing, "a", subscribe="svc") as alice, Party(sharing, "b", subscribe="in.>") as bob:
        seen, reply = bob.ask("my.req", alice)
        assert seen == b'HMSG svc 1 REPLY\r\nNATS/1.0\r\nNats-Request-Info: {"acc":"B"}\r\n\r\nx\r\n'
        alice.send(b"PUB %b 2\r\nok\r\nPUB %b 2\r\nno\r\n" % (reply, reply))
        alice.heard()
        assert bob.heard() == b"MSG in.1 1 2\r\nok\r\n"


def test_a_service_may_answer_many_times(sharing: Broker) -> None:
    with Party(sharing, "a", subscribe="many") as alice, Party(sharing, "b", subscribe="in.>") as bob:
        _, reply = bob.ask("many", alice)
        for payload in (b"1", b"2", b"", b"3"):
            alice.send(b"PUB %b %d\r\n%b\r\n" % (reply, len(payload), payload))
        alice.heard()
        assert bob.heard() == b"MSG in.1 1 1\r\n1\r\nMSG in.1 1 1\r\n2\r\nMSG in.1 1 0\r\n\r\n"


def test_answers_are_awaited_for_a_time_only(sharing: Broker) -> None:
    with Party(sharing, "a", subscribe="quick") as alice, Party(sharing, "b", subscribe="in.>") as bob:
        for _ in range(100):  # several requests: one answer may be quick enough
            _, reply = bob.ask("quick", alice)
            for _ in range(20):
                alice.heard()
            alice.send(b"PUB %b 2\r\nok\r\n" % reply)
            alice.heard()
            if bob.heard() == b"":
                return
        pytest.fail("late answers arrive")


@pytest.mark.parametrize(("asked", "seen_as"), [("loc.x.y", "w.y.x"), ("mp", "mapped"), ("shared", "shared")])
def test_names_of_services(sharing: Broker, asked: str, seen_as: str) -> None:
    with Party(sharing, "a", subscribe="> ") as alice, Party(sharing, "b", subscribe="in.>") as bob:
        seen, _ = bob.ask(asked, alice)
        assert seen.startswith(b"HMSG %b 1 REPLY\r\n" % seen_as.encode())
        if asked == "shared":
            told = json.loads(seen.split(b"Nats-Request-Info: ")[1].split(b"\r\n")[0])
            assert told.keys() == {"start", "host", "id", "acc", "user", "name", "server", "kind", "client_type"}
            assert (told["acc"], told["user"], told["name"], told["kind"]) == ("B", "b", "me", "Client")


def test_a_service_can_be_passed_on(sharing: Broker) -> None:
    with Party(sharing, "a", subscribe="svc") as alice, Party(sharing, "c", subscribe="in.>") as carol:
        seen, reply = carol.ask("c.req", alice)
        assert seen == b'HMSG svc 1 REPLY\r\nNATS/1.0\r\nNats-Request-Info: {"acc":"C","svc":"B"}\r\n\r\nx\r\n'
        alice.send(b"PUB %b 2\r\nok\r\n" % reply)
        alice.heard()
        assert carol.heard() == b"MSG in.1 1 2\r\nok\r\n"


@pytest.mark.parametrize(("user", "subject"), [("b", b"my.req"), ("c", b"c.req"), ("b", b"loc.x.y")])
def test_nobody_there(sharing: Broker, user: str, subject: bytes) -> None:
    with Party(sharing, user, subscribe="in.>") as asker:
        asker.send(b"PUB %b in.1 1\r\nx\r\n" % subject)
        block = b"NATS/1.0 503\r\nNats-Subject: %b\r\n\r\n" % subject
        assert asker.heard() == b"HMSG in.1 1 %d %d\r\n%b\r\n" % (len(block), len(block), block)


def test_streams_come_under_their_local_names(sharing: Broker) -> None:
    with (
        Party(sharing, "a", subscribe="pub.x") as alice,
        Party(sharing, "b", subscribe="b.pub.x b.> ts.a.* here") as bob,
        Party(sharing, "c", subscribe=">") as carol,
    ):
        for subject in (b"pub.x", b"pub.y.z", b"st.b.a", b"st.a.b", b"lit", b"other"):
            alice.send(b"PUB %b re 1\r\nx\r\n" % subject)
        assert alice.heard() == b"MSG pub.x 1 re 1\r\nx\r\n"
        assert sorted(bob.heard().removesuffix(b"x\r\n").split(b"x\r\n")) == [
            b"MSG b.pub.x 1 re 1\r\n",
            b"MSG b.pub.x 2 re 1\r\n",
            b"MSG b.pub.y.z 2 re 1\r\n",
            b"MSG here 4 re 1\r\n",
            b"MSG ts.a.b 3 re 1\r\n",
        ]
        assert carol.heard() == b""
        bob.send(b"PUB b.pub.x 1\r\ny\r\n")
        assert bob.heard().count(b"MSG b.pub.x") == 2
        assert alice.heard() == b""
        assert carol.heard() == b"MSG c.b.pub.x 1 1\r\ny\r\n"


def test_a_queue_group_is_one_over_both_accounts(sharing: Broker) -> None:
    with Party(sharing, "a") as alice, Party(sharing, "b") as bob:
        alice.send(b"SUB pub.q q 1\r\n")
        bob.send(b"SUB b.pub.q q 1\r\n")
        alice.heard()
        bob.heard()
        alice.send(b"PUB pub.q 1\r\nx\r\n" * 100)
        here, there = alice.heard().count(b"MSG"), bob.heard().count(b"MSG")
        assert here + there == 100
        assert here
        assert there


Starter = Callable[[str], Broker]


@pytest.fixture(params=list(MAKERS))
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Starter]:
    started: list[Broker] = []

    def starter(config: str) -> Broker:
        folder = tmp_path / str(len(started))
        broker = MAKERS[request.param](folder, config=config.replace("JETSTREAM", jetstream(folder)))
        started.append(broker)
        broker.start()
        return broker

    yield starter
    for broker in started:
        broker.stop()


async def test_jetstream_of_another_account(start: Starter) -> None:
    """The API and a bucket's keys under prefixes, as in nats.js' tests."""
    broker = start("""
      JETSTREAM
      accounts {
        A { users: [{user: a, password: p}], jetstream: enabled
            exports: [ {service: "$JS.API.>", response_type: stream}, {service: "$KV.>"}, {service: "$JS.ACK.>"} ] }
        B { users: [{user: b, password: p}]
            imports: [ {service: {account: A, subject: "$JS.API.>"}, to: "fromA.>"}
                       {service: {account: A, subject: "$KV.>"}, to: "fromA.$KV.>"}
                       {service: {account: A, subject: "$JS.ACK.>"}} ] } }
    """)
    alice = await nats.connect(broker.url, user="a", password="p")
    bob = await nats.connect(broker.url, user="b", password="p")
    bucket = await alice.jetstream().create_key_value(bucket="K")
    await bucket.put("here", b"1")
    js = bob.jetstream(prefix="fromA")
    assert (await js.stream_info("KV_K")).state.messages == 1
    ack = await bob.request("fromA.$KV.K.there", b"2", timeout=5)
    assert json.loads(ack.data) == {"stream": "KV_K", "seq": 2}
    assert (await bucket.get("there")).value == b"2"
    pull = await js.pull_subscribe("", durable="d", stream="KV_K")
    first, second = await pull.fetch(2, timeout=5)
    assert [first.subject, second.subject] == ["$KV.K.here", "$KV.K.there"]
    assert [first.data, second.data] == [b"1", b"2"]
    await first.ack_sync(timeout=5)
    await second.ack()
    await bob.flush()
    assert (await js.consumer_info("KV_K", "d")).ack_floor.stream_seq >= 1
    await alice.close()
    await bob.close()


# limits


LIMITED = """
max_sub_tokens: 3
accounts {
  A { users: [ {user: a, password: p}, {user: leaf, password: p, allowed_connection_types: [LEAFNODE, WEBSOCKET]}
               {user: std, password: p, allowed_connection_types: standard} ]
      limits { max_connections: 3, max_subscriptions: 2, max_payload: 10, max_leafnodes: 1 } }
  B { users: [ {user: b, password: p} ] }
}
"""


def test_limits_of_an_account(start: Starter) -> None:
    broker = start(LIMITED)
    with Party(broker, "a", subscribe="a.b.c") as first, Party(broker, "b", subscribe="1 2 3") as other:
        first.send(b"SUB a.b.c.d 2\r\nSUB b 3\r\nSUB c 4\r\nPUB b 10\r\n0123456789\r\n")
        assert first.heard() == (
            b"-ERR 'Permissions Violation for Subscription to \"a.b.c.d\", too many tokens'\r\n"
            b"-ERR 'maximum subscriptions exceeded'\r\nMSG b 3 10\r\n0123456789\r\n"
        )
        with Party(broker, "a"), Party(broker, "a"), Wire(broker.port) as fourth:
            fourth.send(b'CONNECT {"user":"a","pass":"p"}\r\n')
            assert fourth.rest() == b"-ERR 'maximum account active connections exceeded'\r\n"
        first.send(b"PUB b 11\r\n")
        assert first.rest() == b"-ERR 'Maximum Payload Violation'\r\n"
        other.send(b"PUB 3 11\r\n01234567890\r\n")
        assert other.heard() == b"MSG 3 3 11\r\n01234567890\r\n"


def test_users_come_by_the_ways_that_are_theirs(start: Starter) -> None:
    broker = start(LIMITED + "no_auth_user: leaf")
    with Party(broker, "std"):
        pass
    for credentials in (b'{"user":"leaf","pass":"p"}', b"{}"):
        with Wire(broker.port) as wire:
            wire.send(b"CONNECT " + credentials + b"\r\n")
            assert wire.rest() == b"-ERR 'Authorization Violation'\r\n"


def test_links_are_counted_and_asked_for_their_way(start: Starter) -> None:
    port = free_port()
    start(f'{LIMITED}\nleafnodes {{ listen: "127.0.0.1:{port}" }}')

    def answer(user: str, *, name: str) -> tuple[Wire, bytes]:
        wire = Wire(port)
        options = {"user": user, "pass": "p", "name": name, "cluster": name, "server_id": name, "headers": True}
        wire.send(b"CONNECT " + json.dumps(options).encode() + b"\r\n")
        return wire, wire.until(b"\r\n")

    refused, words = answer("std", name="x")
    assert words == b"-ERR 'Authorization Violation'\r\n"
    first, words = answer("leaf", name="y")
    assert words.startswith(b"INFO ")
    second, words = answer("leaf", name="z")
    while words.startswith((b"INFO ", b"LS+ ", b"PING")):
        words = second.until(b"\r\n")
    assert words == b"-ERR 'maximum account active connections exceeded'\r\n"
    for wire in (refused, first, second):
        wire.close()


# a hub's JetStream as if it were here


async def test_a_default_domain_makes_a_hubs_jetstream_look_local(start: Starter, tmp_path: Path) -> None:
    port = free_port()
    hub_config = jetstream(tmp_path, "hub") + f'\nleafnodes {{ listen: "127.0.0.1:{port}" }}'
    with MAKERS["nats-server"](tmp_path / "hub", config=hub_config) as hub:
        site = start(f"""
          default_js_domain {{ "$G": hub }}
          leafnodes {{ remotes: [ {{ url: "nats-leaf://127.0.0.1:{port}" }} ] }}
        """)
        there, here = await nats.connect(hub.url), await nats.connect(site.url)
        await there.jetstream().create_key_value(bucket="K")
        bucket = await patiently(lambda: here.jetstream().key_value("K"))
        await bucket.put("k", b"v")
        assert (await bucket.get("k")).value == b"v"
        ack = await here.request("$KV.K.k", b"w", timeout=5)
        assert json.loads(ack.data)["domain"] == "hub"
        await here.close()
        await there.close()


async def patiently(attempt: Callable[[], Awaitable[KeyValue]]) -> KeyValue:
    """Until the link is up."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return await attempt()
        except nats.errors.Error:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.02)


async def test_a_service_of_two_accounts_under_one_name(tmp_path: Path) -> None:
    """Both are asked."""
    for name, maker in MAKERS.items():
        with maker(tmp_path / name, config=TWO_SERVICES) as broker:
            parties = [await nats.connect(broker.url, user=user, password="p") for user in ("a", "b", "c")]
            heard = [await party.subscribe("q") for party in parties[:2]]
            for party in parties[:2]:
                await party.flush()
            await parties[2].publish("q", b"x", reply="in")
            assert [(await sub.next_msg(timeout=5)).data for sub in heard] == [b"x", b"x"], name
            for party in parties:
                await party.close()
