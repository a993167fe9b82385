"""Unique ids as NATS writes them: 22 characters of 0-9 A-Z a-z, about 131 random bits.

They fit in a subject token, a file name and a KV key, and sort in no order.
"""

import os

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LENGTH = 22  # characters; the length of nats.go's nuid
_SPARE_BYTES = 20  # 160 random bits for 131: the remainder's bias is below 2**-28


def new() -> str:
    """A fresh id. Two calls never return the same one, on this machine or any other."""
    number = int.from_bytes(os.urandom(_SPARE_BYTES))
    digits = []
    for _ in range(LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(digits)
