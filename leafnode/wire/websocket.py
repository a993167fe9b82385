"""Websocket frames (RFC 6455), with compression of each message on its own (RFC 7692). Pure.

NATS does not care about messages: what the frames carry is one stream of bytes. So `Decoder.feed` gives data as it
arrives and never holds a frame back, however long; what it holds is a header, a control frame, and the state of an
inflater, whose output is bounded. An ended decoder (`Close` given or `WebsocketError` raised) is not fed again.
Source: spec client-protocol section 14.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from leafnode.errors import ProtocolError

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN, RSV1, RSV, OPCODE = 0x80, 0x40, 0x70, 0x0F
MASKED, LENGTH = 0x80, 0x7F
LENGTH_16, LENGTH_64 = 126, 127  # in the place of the length: that it follows in 2 or in 8 bytes
CONTROL_MAX = 125  # bytes in a control frame (RFC 6455 section 5.5)
REASON_MAX = CONTROL_MAX - 2
COMPRESS_MIN = 64  # bytes; smaller output is not worth it (nats-server)
COMPRESS_LEVEL = 1  # fast, as nats-server
BROWSER_FRAME = 4096  # bytes in a frame for a browser (nats-server)
TAIL = b"\x00\x00\xff\xff"  # what a sender leaves out at the end of a compressed message (RFC 7692 section 7.2.1)

NORMAL, GOING_AWAY, BROKEN, NO_STATUS = 1000, 1001, 1002, 1005  # close codes
INVALID_TEXT, POLICY, TOO_BIG, UNEXPECTED = 1007, 1008, 1009, 1011


class WebsocketError(ProtocolError):
    """The peer broke the protocol of frames; `code` goes into our close frame."""

    def __init__(self, text: str, code: int = BROKEN) -> None:
        super().__init__("", f"Protocol Violation: {text}")
        self.code = code
        self.said = text


class Data(NamedTuple):
    payload: bytes


class Ping(NamedTuple):
    payload: bytes


class Close(NamedTuple):
    body: bytes
    """As it is echoed."""
    code: int


Event = Data | Ping | Close


class Decoder:
    """The peer's bytes to events."""

    def __init__(self, *, masked: bool = True, inflates: bool = False, message_max: int = 1 << 20) -> None:
        """`masked`: as a dialler's frames are. `inflates`: compression was agreed on. `message_max`: bytes that one
        compressed message may inflate to.
        """
        self._masked = masked
        self._inflates = inflates
        self._message_max = message_max
        self._header = b""  # of a frame, not yet complete
        self._left = 0  # bytes of the frame's payload still to come
        self._opcode = 0
        self._final = True
        self._mask = b""
        self._control = b""
        self._in_message = False  # a message began whose last frame is not there yet
        self._inflater: zlib._Decompress | None = None
        self._inflated = 0
        self._in_frame = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Events as they are found. Raises WebsocketError."""
        position = 0
        if self._header:
            data, self._header = self._header + data, b""
        while position < len(data):
            if not self._in_frame:
                after = self._begin(data, position)
                if not after:
                    self._header = data[position:]
                    return
                position = after
                self._in_frame = True
            part = data[position : position + self._left]
            position += len(part)
            self._left -= len(part)
            yield from self._part(self._unmask(part))
            if not self._left:
                self._in_frame = False

    def _begin(self, data: bytes, position: int) -> int:
        """Read a frame's header; where it ends, 0 if it is not all there."""
        if len(data) - position < 2:
            return 0
        first, second = data[position], data[position + 1]
        size = second & LENGTH
        extra = {LENGTH_16: 2, LENGTH_64: 8}.get(size, 0)
        masked = bool(second & MASKED)
        self._check(first, size, masked=masked)
        after = position + 2 + extra + (4 if masked else 0)
        if len(data) < after:
            return 0
        if extra:
            size = int.from_bytes(data[position + 2 : position + 2 + extra], "big")
            if size >> 63:
                raise WebsocketError("frame too long")
        self._mask = data[after - 4 : after] if masked else b""
        self._left = size
        self._opcode, self._final = first & OPCODE, bool(first & FIN)
        if self._opcode < CLOSE:
            self._in_message = True
            if first & RSV1:
                self._inflater, self._inflated = zlib.decompressobj(-zlib.MAX_WBITS), 0
        return after

    def _check(self, first: int, size: int, *, masked: bool) -> None:
        opcode = first & OPCODE
        if masked != self._masked:
            raise WebsocketError("mask bit is not set" if self._masked else "mask bit is set")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise WebsocketError(f"unknown opcode {opcode}")
        if opcode >= CLOSE:
            if first & RSV:
                raise WebsocketError("a control frame is never compressed")
            if size > CONTROL_MAX or not first & FIN:
                raise WebsocketError("a control frame is whole and has at most 125 bytes")
        elif (opcode == CONTINUATION) != self._in_message:
            raise WebsocketError("a message ended or began out of turn")
        elif first & RSV and (first & RSV != RSV1 or not self._inflates or opcode == CONTINUATION):
            raise WebsocketError("compressed frame received without negotiated permessage-deflate")

    def _unmask(self, part: bytes) -> bytes:
        mask = self._mask
        if not mask or not part:
            return part
        size = len(part)
        turn = size % 4
        self._mask = mask[turn:] + mask[:turn]  # where the next part goes on
        return part if mask == b"\0\0\0\0" else xor(part, mask)

    def _part(self, payload: bytes) -> Iterator[Event]:
        """Bytes of the frame we are in; `_left` says whether it ends here."""
        if self._opcode < CLOSE:
            ended = self._final and not self._left
            if self._inflater is not None:
                payload = self._inflate(payload, ended=ended)
            if ended:
                self._in_message = False
                self._inflater = None
            if payload:
                yield Data(payload)
            return
        self._control += payload
        if self._left:
            return
        body, self._control = self._control, b""
        if self._opcode == PING:
            yield Ping(body)
        elif self._opcode == CLOSE:
            yield Close(body, _close_code(body))

    def _inflate(self, payload: bytes, *, ended: bool) -> bytes:
        assert self._inflater is not None
        room = self._message_max - self._inflated
        try:
            found = self._inflater.decompress(payload + TAIL if ended else payload, room + 1)
        except zlib.error as error:
            raise WebsocketError("a compressed message is broken") from error
        self._inflated += len(found)
        if self._inflated > self._message_max:
            raise WebsocketError("Maximum Payload Violation", TOO_BIG)
        return found


def _close_code(body: bytes) -> int:
    if not body:
        return NO_STATUS
    code = int.from_bytes(body[:2], "big")
    known = NORMAL <= code <= UNEXPECTED + 3 and code not in (1004, 1005, 1006)
    if len(body) == 1 or not (known or 3000 <= code < 5000):
        raise WebsocketError("invalid close code")
    try:
        body[2:].decode()
    except UnicodeDecodeError:
        raise WebsocketError("invalid utf8 body in close frame", INVALID_TEXT) from None
    return code


class Encoder:
    """Our bytes to frames."""

    def __init__(
        self, *, deflates: bool = False, frame_max: int = 0, make_mask: Callable[[], bytes] | None = None
    ) -> None:
        """`frame_max`: bytes in one frame; 0 = no limit. `make_mask`: 4 bytes that nobody can foresee, for each frame
        of a dialler; None: frames are not masked.
        """
        self._deflates = deflates
        self._frame_max = frame_max
        self._make_mask = make_mask

    def message(self, payload: bytes) -> bytes:
        """A binary message of one frame, or of several where frames are limited."""
        first = BINARY
        if self._deflates and len(payload) >= COMPRESS_MIN:
            deflater = zlib.compressobj(COMPRESS_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
            payload = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
            payload = payload.removesuffix(TAIL)
            first |= RSV1
        most = self._frame_max
        if not most or len(payload) <= most:
            return self._frame(FIN | first, payload)
        parts: list[bytes] = []
        for start in range(0, len(payload), most):
            part = payload[start : start + most]
            fin = FIN if start + most >= len(payload) else 0
            parts.append(self._frame(fin | (CONTINUATION if start else first), part))
        return b"".join(parts)

    def _frame(self, first: int, payload: bytes) -> bytes:
        head = header(first, len(payload))
        if self._make_mask is None:
            return head + payload
        return _masked(head, payload, self._make_mask())

    def control(self, frame: bytes) -> bytes:
        """A control frame, made by one of the functions below, as we must send it."""
        if self._make_mask is None:
            return frame
        return _masked(frame[:2], frame[2:], self._make_mask())


def _masked(head: bytes, payload: bytes, mask: bytes) -> bytes:
    return bytes((head[0], head[1] | MASKED)) + head[2:] + mask + (xor(payload, mask) if payload else b"")


def xor(part: bytes, mask: bytes) -> bytes:
    """`part` with the mask of four bytes laid over it, again and again."""
    size = len(part)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(part, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def header(first: int, size: int) -> bytes:
    """Of an unmasked frame."""
    if size < LENGTH_16:
        return bytes((first, size))
    if size < 1 << 16:
        return struct.pack(">BBH", first, LENGTH_16, size)
    return struct.pack(">BBQ", first, LENGTH_64, size)


def pong(body: bytes) -> bytes:
    return header(FIN | PONG, len(body)) + body


def close_echo(body: bytes) -> bytes:
    return header(FIN | CLOSE, len(body)) + body


def close(code: int, reason: str) -> bytes:
    """The reason is cut where it does not fit."""
    text = reason.encode()[:REASON_MAX].decode(errors="ignore").encode()
    return close_echo(code.to_bytes(2, "big") + text)
