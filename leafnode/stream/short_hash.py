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
