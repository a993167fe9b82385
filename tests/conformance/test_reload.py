"""SIGHUP: users, permissions and limits change under the feet of connected clients, on both servers."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.conftest import MAKERS
from tests.conformance.raw import Wire
from tests.support.servers import Broker

DEADLINE_S = 10.0
DONE, FAILED = "Reloaded server configuration", "Failed to reload server configuration"


class Site:
    """A broker whose file can be changed while it runs."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.port = broker.port

    def change(self, config: str, answer: str = DONE) -> str:
        """Write another file, ask for a reload, wait for its verdict; returns the log of it."""
        file = self.broker.folder / "server.conf"
        file.write_text(f'listen: "127.0.0.1:{self.broker.port}"\n{config}\n')
        mark = self.broker.log.stat().st_size
        self.broker.signal(signal.SIGHUP)
        deadline = time.monotonic() + DEADLINE_S
        while answer not in (seen := self.broker.output(mark)):
            assert time.monotonic() < deadline, seen
            assert self.broker.alive(), seen
            time.sleep(0.01)
        return seen

    def connect(self, **options: object) -> Wire:
        wire = Wire(self.port)
        wire.send(b"CONNECT " + json.dumps({"verbose": False, **options}).encode() + b"\r\nPING\r\n")
        return wire

    def admits(self, **options: object) -> bool:
        with self.connect(**options) as wire:
            return wire.until(b"\r\n") == b"PONG\r\n"


@pytest.fixture(params=list(MAKERS))
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    started: list[Broker] = []

    def starter(config: str) -> Site:
        broker = MAKERS[request.param](tmp_path / str(len(started)), config=config)
        started.append(broker)
        broker.start()
        return Site(broker)

    yield starter
    for broker in started:
        broker.stop()


def users(*rules: str) -> str:
    return "authorization { users: [ " + ", ".join("{" + rule + "}" for rule in rules) + " ] }"


ALICE, BOB = "user: alice, password: a", "user: bob, password: b"


def test_a_user_who_is_gone_is_closed_without_a_word(start: Callable[[str], Site]) -> None:
    site = start(users(ALICE, BOB))
    with site.connect(user="alice", **{"pass": "a"}) as alice, site.connect(user="bob", **{"pass": "b"}) as bob:
        assert alice.until(b"PONG\r\n")
        assert bob.until(b"PONG\r\n")
        site.change(users(BOB))
        assert alice.rest() == b""
        bob.send(b"PING\r\n")
        assert bob.until(b"\r\n") == b"PONG\r\n"
    assert not site.admits(user="alice", **{"pass": "a"})


def test_a_new_user_may_come_and_a_new_password_counts(start: Callable[[str], Site]) -> None:
    site = start(users(ALICE))
    with site.connect(user="alice", **{"pass": "a"}) as alice:
        alice.until(b"PONG\r\n")
        site.change(users("user: alice, password: other", BOB))
        assert alice.rest() == b"-ERR 'Authorization Violation'\r\n"
    assert site.admits(user="bob", **{"pass": "b"})
    assert site.admits(user="alice", **{"pass": "other"})
    assert not site.admits(user="alice", **{"pass": "a"})


def test_a_subscription_that_is_no_longer_allowed_is_dropped_and_said_so(start: Callable[[str], Site]) -> None:
    site = start(users(ALICE, BOB))
    with site.connect(user="alice", **{"pass": "a"}) as alice, site.connect(user="bob", **{"pass": "b"}) as bob:
        bob.until(b"PONG\r\n")
        alice.send(b"SUB x 1\r\nSUB y 2\r\nPING\r\n")
        alice.until(b"PONG\r\nPONG\r\n")
        site.change(users(f'{ALICE}, permissions: {{ subscribe: {{ deny: "y" }}, publish: {{ deny: "z" }} }}', BOB))
        assert alice.until(b"\r\n") == b'-ERR \'Permissions Violation for Subscription to "y" (sid "2")\'\r\n'
        bob.send(b"PUB y 2\r\nno\r\nPUB x 3\r\nyes\r\nPING\r\n")
        bob.until(b"PONG\r\n")
        assert alice.until(b"yes\r\n") == b"MSG x 1 3\r\nyes\r\n"
        alice.send(b"PUB z 1\r\n.\r\n")
        assert alice.until(b"\r\n") == b"-ERR 'Permissions Violation for Publish to \"z\"'\r\n"


def test_limits_hold_from_now_on(start: Callable[[str], Site]) -> None:
    site = start("max_payload: 1000")
    with site.connect() as wire:
        wire.send(b"SUB a 1\r\n" + 3 * (b"PUB a 8\r\n" + 8 * b"x" + b"\r\n"))
        wire.until(b"PONG\r\n")
        for _ in range(3):
            wire.until(b"xxxxxxxx\r\n")
        site.change("max_payload: 5")
        wire.send(b"PUB a 8\r\n" + 8 * b"x" + b"\r\n")
        assert wire.until(b"\r\n") == b"-ERR 'Maximum Payload Violation'\r\n"
    with Wire(site.port) as fresh:
        assert json.loads(fresh.info.removeprefix(b"INFO "))["max_payload"] == 5


def test_surplus_connections_are_closed(start: Callable[[str], Site]) -> None:
    site = start("max_connections: 10")
    wires = [site.connect() for _ in range(4)]
    try:
        for wire in wires:
            wire.until(b"PONG\r\n")
        site.change("max_connections: 2")
        closed = 0
        for wire in wires:
            wire.socket.sendall(b"PING\r\n")
            closed += not wire.until(b"\r\n").startswith(b"PONG")
        assert closed == 2
    finally:
        for wire in wires:
            wire.close()


@pytest.mark.parametrize(
    "config",
    ["server_name: other", "unknown_key: 1", 'http: "127.0.0.1:1"', "max_payload: {"],
    ids=["fixed", "unknown", "address", "broken"],
)
def test_all_or_nothing(start: Callable[[str], Site], config: str) -> None:
    site = start(f"server_name: first\n{users(ALICE)}")
    name = "" if "server_name" in config else "server_name: first\n"
    site.change(f"{name}{config}\n{users(BOB)}", FAILED)
    assert site.admits(user="alice", **{"pass": "a"})
    assert not site.admits(user="bob", **{"pass": "b"})


def test_accounts_come_and_go(start: Callable[[str], Site]) -> None:
    one = "accounts { A { users: [ { user: a, password: a } ] }"
    site = start(one + " }")
    with site.connect(user="a", **{"pass": "a"}) as kept:
        kept.until(b"PONG\r\n")
        site.change(one + ", B { users: [ { user: b, password: b } ] } }")
        with site.connect(user="b", **{"pass": "b"}) as other:
            other.send(b"SUB > 1\r\nPING\r\n")
            other.until(b"PONG\r\nPONG\r\n")
            kept.send(b"PUB secret 0\r\n\r\nPING\r\n")
            assert kept.until(b"\r\n") == b"PONG\r\n"
            other.send(b"PING\r\n")
            assert other.until(b"\r\n") == b"PONG\r\n"
            site.change(one + " }")
            assert other.rest() == b""
        kept.send(b"PING\r\n")
        assert kept.until(b"\r\n") == b"PONG\r\n"


def test_the_log_follows(start: Callable[[str], Site]) -> None:
    site = start("")
    site.change("debug: true")
    mark = site.broker.log.stat().st_size
    assert site.admits()
    deadline = time.monotonic() + DEADLINE_S
    while "[DBG]" not in site.broker.output(mark):
        assert time.monotonic() < deadline
        time.sleep(0.01)
