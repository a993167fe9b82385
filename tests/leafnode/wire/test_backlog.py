"""Unfinished input: whole again whatever the pieces, and not much larger than what arrived."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from leafnode.wire.backlog import SMALL_BYTES, Backlog

PIECES = st.lists(st.integers(1, 2 * SMALL_BYTES), max_size=12)


@given(PIECES, st.integers(0, 5000))
def test_pieces_are_joined_when_there_are_enough(sizes: list[int], more: int) -> None:
    backlog = Backlog()
    sent = b"begin"
    total = len(sent) + sum(sizes)
    backlog.keep(sent, total + more)
    joined = None
    for number, size in enumerate(sizes):
        piece = bytes([number]) * size
        sent += piece
        joined = backlog.join(piece)
        assert joined is None or len(sent) == total
    rest = b"." * (more + 1)
    assert (joined or backlog.join(rest)) in (sent, sent + rest)


def test_a_payload_in_tiny_pieces_takes_its_own_size_in_memory() -> None:
    payload = 256 * 1024
    backlog = Backlog()
    tracemalloc.start()
    try:
        backlog.keep(b"PUB a 262144\r\n", payload + 16)
        for number in range(payload // 2):
            assert backlog.join(b"%02d" % (number % 100)) is None
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * payload
