"""Control lines: what each means, and how each violation ends."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafnode.errors import ProtocolError
from leafnode.wire.control import (
    UNKNOWN,
    Connect,
    LeafMsg,
    LeafSub,
    LeafUnsub,
    Ping,
    Pub,
    Sub,
    Unsub,
    parse_client,
    parse_leaf,
)


@pytest.mark.parametrize(
    ("line", "op"),
    [
        (b"PUB a 5\r\n", Pub(b"a", b"", -1, 5)),
        (b"pub a.b reply 0\n", Pub(b"a.b", b"reply", -1, 0)),
        (b"PUB s  \t 0\r\n", Pub(b"s", b"", -1, 0)),
        (b"HPUB a 12 17\r\n", Pub(b"a", b"", 12, 17)),
        (b"HPUB a r 0 3\r\n", Pub(b"a", b"r", 0, 3)),
        (b"SUB s  1\r\n", Sub(b"s", b"", b"1")),
        (b"SUB s q 1\r\n", Sub(b"s", b"q", b"1")),
        (b"UNSUB  2 \r\n", Unsub(b"2", 0)),
        (b"UNSUB 1 5\r\n", Unsub(b"1", 5)),
        (b"UNSUB 1 x\r\n", Unsub(b"1", 0)),
        (b"PING whatever\r\n", Ping()),
        (b'CONNECT {"a": 1}\r\n', Connect(b'{"a": 1}')),
    ],
)
def test_what_clients_send(line: bytes, op: object) -> None:
    assert parse_client(line) == op


@pytest.mark.parametrize(
    ("line", "op"),
    [
        (b"LMSG a 5\r\n", LeafMsg(b"a", b"", (), -1, 5)),
        (b"LMSG a r 5\r\n", LeafMsg(b"a", b"r", (), -1, 5)),
        (b"LMSG a | q1 q2 5\r\n", LeafMsg(b"a", b"", (b"q1", b"q2"), -1, 5)),
        (b"LMSG a + r q1 5\r\n", LeafMsg(b"a", b"r", (b"q1",), -1, 5)),
        (b"HMSG a + r q1 12 17\r\n", LeafMsg(b"a", b"r", (b"q1",), 12, 17)),
        (b"HMSG a 12 17\r\n", LeafMsg(b"a", b"", (), 12, 17)),
        (b"LS+ foo.>\r\n", LeafSub(b"foo.>", b"", 1)),
        (b"LS+ foo q 3\r\n", LeafSub(b"foo", b"q", 3)),
        (b"LS- foo q\r\n", LeafUnsub(b"foo", b"q")),
    ],
)
def test_what_hubs_send(line: bytes, op: object) -> None:
    assert parse_leaf(line) == op


@pytest.mark.parametrize("line", [b"FOO a\r\n", b"\r\n", b" PUB a 1\r\n", b"UNSUB\r\n", b"PUB\r\n", b"PUBa 1\r\n"])
def test_unknown_operations_are_answered(line: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_client(line)
    assert caught.value.text == UNKNOWN


@pytest.mark.parametrize(
    "line", [b"SUB a\r\n", b"PUB a b c 5\r\n", b"PUB a -1\r\n", b"PUB a 1_0\r\n", b"HPUB a 9 5\r\n", b"PUB a x\r\n"]
)
def test_malformed_arguments_close_without_a_word(line: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_client(line)
    assert caught.value.text == ""


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_understood_never_worse(line: bytes) -> None:
    for parse in (parse_client, parse_leaf):
        with contextlib.suppress(ProtocolError):
            parse(line + b"\r\n")
