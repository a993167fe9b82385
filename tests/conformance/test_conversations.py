"""Every example of the protocol, byte for byte: nats-server and leafnode over TCP, and a session without sockets."""

import time

import pytest

from leafnode.route.session import Session
from tests.conformance.conversations import PEDANTIC, PEDANTICALLY, QUIET, QUIETLY
from tests.conformance.raw import Wire
from tests.leafnode.route.host import FakeHost, said
from tests.support.servers import Broker

GROUPS = {"quiet": (QUIETLY, b"", QUIET), "pedantic": (PEDANTICALLY, b"+OK\r\n", PEDANTIC)}
SECONDS = 3.0  # in which a subscription of a connection that is gone is gone, too
MIB = 1024 * 1024


def over_tcp(port: int, sent: bytes, expected: bytes, *, ends: bool) -> bytes:
    """What comes until as much is there as is expected, or until the server closes."""
    with Wire(port) as wire:
        wire.send(sent)
        if ends:
            return wire.rest()
        seen = b""
        while len(seen) < len(expected) and (more := wire.socket.recv(65536)):
            seen += more
        return seen


@pytest.mark.parametrize("group", list(GROUPS))
def test_over_tcp(broker: Broker, group: str) -> None:
    connect, first, examples = GROUPS[group]
    for sent, answer, ends in examples:
        expected = first + answer + (b"" if ends else b"PONG\r\n")
        deadline = time.monotonic() + SECONDS
        seen = over_tcp(broker.port, connect + sent + b"PING\r\n", expected, ends=ends)
        while seen != expected and time.monotonic() < deadline:  # somebody of the example before was still there
            seen = over_tcp(broker.port, connect + sent + b"PING\r\n", expected, ends=ends)
        assert (sent, seen) == (sent, expected)


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("group", list(GROUPS))
def test_without_sockets(group: str, step: int) -> None:
    connect, first, examples = GROUPS[group]
    for sent, answer, ends in examples:
        host = FakeHost()
        host.max_payload = MIB
        session = Session(host, 1)
        talk = connect + sent + b"PING\r\n"
        for begin in range(0, len(talk), step):
            session.receive(talk[begin : begin + step])
        assert (sent, said(session)) == (sent, first + answer + (b"" if ends else b"PONG\r\n"))
        assert session.closing is ends


LONGEST = [
    (b"SUB ", b" 1\r\n"),
    (b"SUB  a q ", b"\r\n"),
    (b"UNSUB ", b"\r\n"),
    (b"PUB ", b" 0\r\n\r\n"),
    (b"PUB a ", b" 0\r\n\r\n"),
    (b"HPUB ", b" 0 0\r\n\r\n"),
    (b'CONNECT {"verbose":false,"name":"', b'"}\r\n'),
    (b'INFO {"x":"', b'"}\r\n'),
]
"""Lines of which the middle may be as long as one likes, but for the limit on what stands behind the verb."""
LIMIT = 4096  # the default of max_control_line


@pytest.mark.parametrize(("begin", "end"), LONGEST)
def test_the_longest_line_and_a_longer_one(broker: Broker, begin: bytes, end: bytes) -> None:
    arguments = [*begin.split(None, 1)[1:], end.split(b"\r\n")[0]]
    room = LIMIT - sum(map(len, arguments))
    too_long = b"-ERR 'maximum control line exceeded'\r\n"
    for more, expected in ((0, b"PONG\r\n"), (1, too_long)):
        line = begin + b"x" * (room + more) + end
        assert over_tcp(broker.port, QUIETLY + line + b"PING\r\n", expected, ends=bool(more)) == expected
