"""nats-server's short hash: eight characters that stand for a longer name on the wire.

It names an account in acknowledgement subjects, an external API in `Nats-Stream-Source`, and one incarnation of a
stream in `Nats-Stream-Identity` (spec jetstream-api section 8, leafnode-protocol section 9).
"""

import hashlib

LENGTH = 8  # characters
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def short_hash(name: str) -> str:
    digest = hashlib.sha256(name.encode()).digest()[:LENGTH]
    return "".join(_DIGITS[byte % len(_DIGITS)] for byte in digest)


def to_number(text: str) -> int:
    """A short hash as a number that SQLite can keep; 0 for what is none."""
    if len(text) != LENGTH or not set(text) <= set(_DIGITS):
        return 0
    number = 0
    for digit in text:
        number = number * len(_DIGITS) + _DIGITS.index(digit)
    return number


def from_number(number: int) -> str:
    """The other way; empty for 0."""
    digits = []
    for _ in range(LENGTH if number else 0):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
