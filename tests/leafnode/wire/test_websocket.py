"""Frames: any chunking and any split into frames gives the same bytes; what breaks the rules is refused."""

import contextlib
import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leafnode.wire import websocket
from leafnode.wire.websocket import Close, Data, Decoder, Encoder, Event, Ping, WebsocketError
from tests.support.frames import CLOSE, PING, PONG, deflated, frame, inflated, split

RSV1 = 0x40
CODES = st.sampled_from([1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999])


def feed(decoder: Decoder, data: bytes, cuts: list[int]) -> tuple[bytes, list[Event]]:
    """The data, joined, and the other events; `data` cut at the positions."""
    seen, others = b"", []
    positions = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, stop in itertools.pairwise(positions):
        for event in decoder.feed(data[start:stop]):
            if isinstance(event, Data):
                seen += event.payload
            else:
                others.append(event)
    return seen, others


messages = st.lists(st.tuples(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.booleans()), max_size=5)


@given(messages, st.lists(st.integers(0, 3000), max_size=12))
@example([([b"x" * 70_000], False)], [1, 5, 69_999])
def test_frames_carry_one_stream_of_bytes(sent: list[tuple[list[bytes], bool]], cuts: list[int]) -> None:
    wire, expected = b"", b""
    for fragments, compressed in sent:
        whole = b"".join(fragments)
        expected += whole
        if compressed:
            packed = deflated(whole)
            middle = len(packed) // 2
            parts = [packed[:middle], packed[middle:]]
        else:
            parts = fragments
        for number, part in enumerate(parts):
            rsv = RSV1 if compressed and number == 0 else 0
            wire += frame(part, 0 if number else 2, fin=number == len(parts) - 1, rsv=rsv)
            wire += frame(b"still there", PING)
    seen, others = feed(Decoder(inflates=True), wire, cuts)
    assert seen == expected
    assert all(event == Ping(b"still there") for event in others)


@given(st.binary(max_size=200), st.integers(0, 10))
def test_long_frames_arrive_bit_by_bit(payload: bytes, at: int) -> None:
    wire = frame(payload * 3)
    decoder = Decoder()
    seen = b""
    for position in range(len(wire)):
        seen += b"".join(event.payload for event in decoder.feed(wire[position : position + 1]))  # type: ignore[union-attr]
        held = len(wire) - len(payload) * 3
        assert len(seen) == max(0, position + 1 - held)
    assert seen == payload * 3


@given(CODES, st.text(max_size=20), st.lists(st.integers(0, 100), max_size=4))
def test_the_end_is_told(code: int, reason: str, cuts: list[int]) -> None:
    body = code.to_bytes(2, "big") + reason.encode()
    _, events = feed(Decoder(), frame(body, CLOSE), cuts)
    assert events == [Close(body, code)]
    assert split(websocket.close(code, reason)) == [(0x88, body)]


def test_an_end_without_a_code() -> None:
    assert list(Decoder().feed(frame(b"", CLOSE))) == [Close(b"", websocket.NO_STATUS)]


def test_pongs_are_nobodys_business() -> None:
    assert list(Decoder().feed(frame(b"x", PONG))) == []
    assert split(websocket.pong(b"x")) == [(0x8A, b"x")]


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        (frame(b"x", mask=b""), "mask bit is not set"),
        (frame(b"x", 3), "unknown opcode"),
        (frame(b"x", 11), "unknown opcode"),
        (frame(b"x", rsv=RSV1), "negotiated"),
        (frame(b"x", rsv=0x20), "negotiated"),
        (frame(b"x", PING, rsv=RSV1), "never compressed"),
        (frame(b"x", 0), "out of turn"),
        (frame(b"x", fin=False) + frame(b"x"), "out of turn"),
        (frame(b"x", PING, fin=False), "whole"),
        (frame(b"x" * 126, PING), "whole"),
        (frame(b"x", CLOSE), "close code"),
        (frame((999).to_bytes(2, "big"), CLOSE), "close code"),
        (frame((1005).to_bytes(2, "big"), CLOSE), "close code"),
        (frame((2999).to_bytes(2, "big"), CLOSE), "close code"),
        (frame(b"\x03\xe8\xff", CLOSE), "invalid utf8"),
        (b"\x82\xff" + b"\xff" * 8 + b"mask", "too long"),
    ],
)
def test_what_breaks_the_rules(wire: bytes, said: str) -> None:
    for cuts in ([], list(range(len(wire)))):
        with pytest.raises(WebsocketError, match=said):
            feed(Decoder(), wire, cuts)


def test_a_bomb_is_not_inflated() -> None:
    bomb = deflated(bytes(50_000_000))
    decoder = Decoder(inflates=True, message_max=1_000_000)
    with pytest.raises(WebsocketError, match="Maximum Payload") as caught:
        feed(decoder, frame(bomb, rsv=RSV1), [100, 1000])
    assert caught.value.code == websocket.TOO_BIG


def test_the_limit_is_of_one_message() -> None:
    decoder = Decoder(inflates=True, message_max=1000)
    wire = b"".join(frame(deflated(b"x" * 1000), rsv=RSV1) for _ in range(3))
    assert feed(decoder, wire, [])[0] == b"x" * 3000


def test_a_broken_compressed_message() -> None:
    with pytest.raises(WebsocketError, match="broken"):
        feed(Decoder(inflates=True), frame(b"\xff\xff\xff", rsv=RSV1), [])


@given(st.binary(max_size=100))
@example(b"")
def test_any_bytes_at_all(data: bytes) -> None:
    """Events or a refusal; nothing else is raised."""
    with contextlib.suppress(WebsocketError):
        list(Decoder(inflates=True).feed(data))


@given(st.binary(max_size=10_000), st.booleans(), st.sampled_from([0, 1, 100, 4096]))
@example(b"y" * 125, False, 0)
@example(b"y" * 126, False, 0)
@example(b"y" * 65_536, False, 0)
def test_what_we_say(payload: bytes, deflates: bool, frame_max: int) -> None:
    frames = split(Encoder(deflates=deflates, frame_max=frame_max).message(payload))
    first = frames[0][0]
    whole = b"".join(part for _, part in frames)
    packed = bool(first & RSV1)
    assert packed == (deflates and len(payload) >= websocket.COMPRESS_MIN)
    assert (inflated(whole) if packed else whole) == payload
    assert [head & 0x0F for head, _ in frames] == [2] + [0] * (len(frames) - 1)
    assert [bool(head & 0x80) for head, _ in frames] == [False] * (len(frames) - 1) + [True]
    assert not frame_max or all(len(part) <= frame_max for _, part in frames)
    assert not any(head & RSV1 for head, _ in frames[1:])


def test_a_long_reason_is_cut() -> None:
    ((_, body),) = split(websocket.close(1011, "ü" * 100))
    assert len(body) <= 125
    assert body[2:].decode() == "ü" * 61


@given(st.lists(st.binary(max_size=300), max_size=5), st.booleans(), st.binary(min_size=4, max_size=4))
def test_what_a_dialler_sends_a_server_reads(payloads: list[bytes], deflates: bool, mask: bytes) -> None:
    encoder = Encoder(deflates=deflates, frame_max=100, make_mask=lambda: mask)
    sent = b"".join(encoder.message(payload) for payload in payloads) + encoder.control(websocket.pong(b"x"))
    read = Decoder(masked=True, inflates=deflates).feed(sent)
    assert b"".join(event.payload for event in read if isinstance(event, Data)) == b"".join(payloads)
