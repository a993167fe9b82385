"""Unfinished input is joined once, when there is enough of it."""

from leafnode.wire.backlog import Backlog


def test_nothing_held_gives_the_data_back() -> None:
    assert Backlog().join(b"abc") == b"abc"


def test_pieces_are_joined_when_the_operation_is_complete() -> None:
    backlog = Backlog()
    backlog.keep(b"PUB a 5\r\nhe", need=16)
    assert backlog.join(b"l") is None
    assert backlog.join(b"lo\r\nPI") == b"PUB a 5\r\nhello\r\nPI"
    assert backlog.join(b"NG") == b"NG"


def test_without_a_known_length_every_piece_is_looked_at() -> None:
    backlog = Backlog()
    backlog.keep(b"PUB", need=0)
    assert backlog.join(b" ") == b"PUB "


def test_what_is_cleared_is_gone() -> None:
    backlog = Backlog()
    backlog.keep(b"x", need=10)
    backlog.clear()
    assert backlog.join(b"y") == b"y"
