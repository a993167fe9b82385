"""Header blocks."""

from leafnode.wire import headers


def test_values_are_found_by_name_and_stripped() -> None:
    block = b"NATS/1.0\r\nNats-Msg-Id:  7 \r\nOther: x\r\nnats-ttl: 5\r\n\r\n"
    assert headers.get(block, b"Nats-Msg-Id") == b"7"
    assert headers.get(block, b"Nats-TTL") == b"5"
    assert headers.get(block, b"Msg-Id") is None
    assert headers.get(b"", b"A") is None


def test_status_lines_have_the_exact_form() -> None:
    assert headers.status(503) == b"NATS/1.0 503\r\n\r\n"
    assert headers.status(404, "No Messages") == b"NATS/1.0 404 No Messages\r\n\r\n"
    assert headers.status(408, "Request Timeout", ("Nats-Pending-Messages", "1")) == (
        b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 1\r\n\r\n"
    )


def test_lines_are_added_at_the_end() -> None:
    assert headers.with_lines(b"", (b"A", b"1")) == b"NATS/1.0\r\nA: 1\r\n\r\n"
    assert headers.with_lines(b"NATS/1.0\r\nA: 1\r\n\r\n", (b"B", b"2")) == b"NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n"
