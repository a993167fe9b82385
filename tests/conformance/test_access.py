"""Users, tokens, permissions and limits of the configuration, on both servers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import pytest

from tests.conformance.conftest import MAKERS
from tests.conformance.raw import Wire
from tests.support.servers import Broker

Starter = Callable[[str], Broker]


@pytest.fixture(params=list(MAKERS))
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Starter]:
    started: list[Broker] = []

    def starter(config: str) -> Broker:
        broker = MAKERS[request.param](tmp_path / str(len(started)), config=config)
        started.append(broker)
        broker.start()
        return broker

    yield starter
    for broker in started:
        broker.stop()


def is_admitted(broker: Broker, **credentials: str) -> bool:
    with Wire(broker.port) as wire:
        options = json.dumps({"verbose": False, **credentials}).encode()
        wire.send(b"CONNECT " + options + b"\r\nPING\r\n")
        return wire.until(b"\r\n") == b"PONG\r\n"


def test_user_and_password(start: Starter) -> None:
    broker = start("authorization { user: u, password: secret }")
    assert is_admitted(broker, **{"user": "u", "pass": "secret"})
    assert not is_admitted(broker, **{"user": "u", "pass": "wrong"})
    assert not is_admitted(broker)


def test_token(start: Starter) -> None:
    broker = start("authorization { token: t0ken }")
    assert is_admitted(broker, auth_token="t0ken")
    assert not is_admitted(broker, auth_token="other")


async def test_accounts_are_isolated(start: Starter) -> None:
    broker = start("accounts { A { users: [{user: a, password: x}] }, B { users: [{user: b, password: x}] } }")
    alice = await nats.connect(broker.url, user="a", password="x")
    bob = await nats.connect(broker.url, user="b", password="x")
    heard_a, heard_b = await alice.subscribe(">"), await bob.subscribe(">")
    await alice.flush()
    await bob.flush()
    await alice.publish("s", b"from a")
    await bob.publish("s", b"from b")
    assert (await heard_a.next_msg(timeout=2)).data == b"from a"
    assert (await heard_b.next_msg(timeout=2)).data == b"from b"
    assert heard_a.pending_msgs == heard_b.pending_msgs == 0
    await alice.close()
    await bob.close()


def test_permissions(start: Starter) -> None:
    rules = """authorization { users: [ { user: u, password: p, permissions: {
        publish: { allow: ["ok.>"], deny: "ok.not" }
        subscribe: { allow: ["in.>", "q.* v1"], deny: "in.secret" } } } ] }"""
    broker = start(rules)
    with Wire(broker.port) as wire:
        wire.send(b'CONNECT {"user":"u","pass":"p","verbose":false,"headers":true}\r\n')
        wire.send(
            b"PUB no 0\r\n\r\nPUB ok.not 0\r\n\r\nSUB other 1\r\nSUB in.secret 2\r\nSUB q.a 3\r\nSUB q.a v1 4\r\n"
        )
        wire.send(b"SUB in.> 5\r\nPUB ok.yes 0\r\n\r\nPING\r\n")
        assert wire.until(b"PONG\r\n") == (
            b"-ERR 'Permissions Violation for Publish to \"no\"'\r\n"
            b"-ERR 'Permissions Violation for Publish to \"ok.not\"'\r\n"
            b"-ERR 'Permissions Violation for Subscription to \"other\"'\r\n"
            b"-ERR 'Permissions Violation for Subscription to \"in.secret\"'\r\n"
            b"-ERR 'Permissions Violation for Subscription to \"q.a\"'\r\n"
            b"PONG\r\n"
        )


def test_credentials_come_first(start: Starter) -> None:
    broker = start("authorization { user: u, password: p, timeout: 0.3 }")
    with Wire(broker.port) as wire:
        assert b'"auth_required":true' in wire.info
        wire.send(b"SUB a 1\r\n")
        assert wire.rest() == b"-ERR 'Authorization Violation'\r\n"
    with Wire(broker.port) as wire:
        assert wire.rest() == b"-ERR 'Authentication Timeout'\r\n"


def test_no_auth_user(start: Starter) -> None:
    broker = start("accounts { A { users: [{user: guest}] } }\nno_auth_user: guest")
    with Wire(broker.port) as wire:
        assert b"auth_required" not in wire.info
        wire.send(b'CONNECT {"verbose":false}\r\nSUB a 1\r\nPUB a 1\r\nx\r\nPING\r\n')
        assert wire.until(b"PONG\r\n") == b"MSG a 1 1\r\nx\r\nPONG\r\n"


def test_limits_on_connections_and_subscriptions(start: Starter) -> None:
    broker = start("max_connections: 1\nmax_subscriptions: 2")
    with Wire(broker.port) as first:
        first.send(b'CONNECT {"verbose":false}\r\nSUB a 1\r\nSUB b 2\r\nSUB c 3\r\nPING\r\n')
        assert first.until(b"PONG\r\n") == b"-ERR 'maximum subscriptions exceeded'\r\nPONG\r\n"
        with Wire(broker.port) as second:
            assert second.rest() == b"-ERR 'maximum connections exceeded'\r\n"


def test_silence_is_noticed(start: Starter) -> None:
    broker = start('ping_interval: "100ms"\nping_max: 1')
    with Wire(broker.port) as wire:
        wire.send(b'CONNECT {"verbose":false}\r\n')
        assert wire.rest().endswith(b"-ERR 'Stale Connection'\r\n")
