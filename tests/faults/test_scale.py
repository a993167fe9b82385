"""Many connections, many subscriptions, many publishers at one reader: served, bounded, and given back."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from leafnode.route.account import ROUTES_MAX, STEMS_MAX
from leafnode.route.known import LINES_MAX
from tests.conformance.raw import Wire
from tests.leafnode.route.host import FakeHost
from tests.support.servers import Broker, leafnode

CONNECT = b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n'
PENDING = 8 << 20  # max_pending of the broker
SUBSCRIPTIONS = 20_000
BYTES_PER_SUBSCRIPTION = 1500  # what one may cost; measured are some 700
GIVEN_BACK_SECONDS = 15.0
FLOOD = 200


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with leafnode(tmp_path_factory.mktemp("scale"), config=f"max_pending: {PENDING}") as running:
        yield running


def resident(broker: Broker) -> int:
    return int(psutil.Process(broker.pid).memory_info().rss)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + GIVEN_BACK_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def subscribe(wire: Wire, count: int, pattern: bytes) -> None:
    wire.send(CONNECT + b"".join(b"SUB %b %d\r\n" % (pattern % n, n) for n in range(1, count + 1)) + b"PING\r\n")
    wire.until(b"PONG\r\n")


@pytest.mark.parametrize("pattern", [b"many.%d.state", b"many.%d.*"], ids=["literal", "wildcard"])
def test_many_subscriptions_cost_little_and_are_given_back(broker: Broker, pattern: bytes) -> None:
    with Wire(broker.port, timeout=30) as wire:  # what grows once and stays is there afterwards
        subscribe(wire, 1000, pattern)
    before = resident(broker)
    for _ in range(3):
        with Wire(broker.port, timeout=30) as wire:
            subscribe(wire, SUBSCRIPTIONS, pattern)
            assert resident(broker) - before < SUBSCRIPTIONS * BYTES_PER_SUBSCRIPTION
            with Wire(broker.port) as other:
                other.send(CONNECT + b"PUB many.7.state 2\r\nhi\r\nPING\r\n")
                other.until(b"PONG\r\n")
            assert wire.until(b"hi\r\n").endswith(b"MSG many.7.state 7 2\r\nhi\r\n")
            wire.send(b"".join(b"UNSUB %d\r\n" % n for n in range(1, SUBSCRIPTIONS // 2)) + b"PING\r\n")
            wire.until(b"PONG\r\n")
    ceiling = before + SUBSCRIPTIONS * BYTES_PER_SUBSCRIPTION // 2
    wait_until(lambda: resident(broker) < ceiling, "memory of subscriptions that are gone is not given back")


def test_what_is_remembered_of_subjects_is_bounded_and_goes_with_the_interest() -> None:
    host = FakeHost()
    listener, publisher = host.client(), host.client()
    listener.receive(b"SUB many.> 1\r\nSUB one.* 2\r\n")
    for start in range(0, 3 * ROUTES_MAX, 500):
        publisher.receive(b"".join(b"PUB many.%d.%d 1\r\nx\r\n" % (n, n % 7) for n in range(start, start + 500)) * 2)
        publisher.receive(
            b"".join(b"PUB one.%d %d\r\n%b\r\n" % (n, n % 60, b"." * (n % 60)) for n in range(start, start + 500))
        )
        listener.out.clear()
    account = host.account
    known = account.known(host.max_payload, takes_headers=True)
    assert len(account.routes) <= ROUTES_MAX
    assert len(account._stems) <= STEMS_MAX
    assert len(known.lines) <= LINES_MAX
    listener.end()
    assert not account.routes
    assert not account._stems
    assert not known.lines


def test_a_flood_beyond_max_connections_is_told_so_and_costs_nobody_else_anything(tmp_path: Path) -> None:
    with leafnode(tmp_path, config="max_connections: 2") as small, Wire(small.port) as one, Wire(small.port) as two:
        for wire in (one, two):
            wire.send(CONNECT + b"SUB a 1\r\nPING\r\n")
            wire.until(b"PONG\r\n")
        for _ in range(FLOOD // 20):
            crowd = [Wire(small.port, timeout=20) for _ in range(20)]
            one.send(b"PUB a 1\r\nx\r\nPING\r\n")
            one.until(b"PONG\r\n")
            assert all(b"maximum connections exceeded" in wire.rest() for wire in crowd)
            for wire in crowd:
                wire.close()
        assert two.until(b"x\r\n" * 1).startswith(b"MSG a 1 1")


def test_many_publishers_do_not_drown_a_reader_that_keeps_reading(broker: Broker) -> None:
    """Each is held back the longer the more waits for the reader, so that together they come down to its pace."""
    publishers, frames, body = 6, 250, b"x" * 8192
    frame = b"PUB bulk %d\r\n%b\r\n" % (len(body), body)
    with Wire(broker.port, timeout=60) as reader:
        reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        reader.send(CONNECT + b"SUB bulk 1\r\nPING\r\n")
        reader.until(b"PONG\r\n")

        def publish() -> None:
            with Wire(broker.port, timeout=60) as wire:
                wire.send(CONNECT)
                wire.send(frame * frames + b"PING\r\n")
                wire.until(b"PONG\r\n")

        threads = [threading.Thread(target=publish) for _ in range(publishers)]
        for thread in threads:
            thread.start()
        left = publishers * frames * (len(b"MSG bulk 1 8192\r\n") + len(body) + 2)
        while left > 0:
            got = len(reader.socket.recv(32768))
            assert got, f"given up with {left} bytes missing:\n{broker.output()[-500:]}"
            left -= got
        for thread in threads:
            thread.join()
    assert "Slow Consumer" not in broker.output()
