"""A websocket client's half of frames, for tests: written apart from the server's, so that they check each other."""

import base64
import struct
import zlib

BINARY, CLOSE, PING, PONG = 2, 8, 9, 10
KEY = base64.b64encode(b"0123456789abcdef").decode()


def request(*lines: str, path: str = "/", without: str = "", host: str = "site") -> bytes:
    """An upgrade request; `without` leaves the line out that contains it."""
    usual = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    ]
    kept = [line for line in usual if not without or without not in line]
    return "\r\n".join([*kept, *lines, "", ""]).encode()


def frame(
    payload: bytes = b"", opcode: int = BINARY, *, fin: bool = True, rsv: int = 0, mask: bytes | None = None
) -> bytes:
    """Masked with a key that differs from frame to frame and is the same in every run; `mask=b""`: not masked."""
    key = zlib.crc32(payload).to_bytes(4, "big") if mask is None else mask
    first, flag, size = (0x80 if fin else 0) | rsv | opcode, 0x80 if key else 0, len(payload)
    if size < 126:
        head = struct.pack(">BB", first, flag | size)
    elif size < 65536:
        head = struct.pack(">BBH", first, flag | 126, size)
    else:
        head = struct.pack(">BBQ", first, flag | 127, size)
    return head + key + (bytes(byte ^ key[i % 4] for i, byte in enumerate(payload)) if key else payload)


def deflated(payload: bytes) -> bytes:
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(payload: bytes) -> bytes:
    return zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")


def split(data: bytes) -> list[tuple[int, bytes]]:
    """Unmasked frames as (first byte, payload)."""
    found = []
    while data:
        first, size = data[0], data[1]
        assert size < 128, "a server does not mask"
        start = 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        assert len(data) >= start + size, "the last frame is not complete"
        found.append((first, data[start : start + size]))
        data = data[start + size :]
    return found
