"""Proofs of identity: bcrypt hashes, Ed25519 signatures over a nonce, .creds files. The only file with cryptography.

An nkey is base32 of a prefix byte, 32 bytes of key and a CRC-16; a seed has two prefix bytes (spec auth). The libraries
are imported when they are first needed: most sites need none of this.
"""

import base64
import binascii
import importlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from leafnode.errors import ConfigError
from leafnode.wire import salsa

SEED_BYTES = 32
SEED_PREFIX = 18 << 3  # the first bits of a seed: its text begins with S
KINDS = {"N": 13 << 3, "U": 20 << 3, "X": 23 << 3}  # first letter of a public key to its first byte
ENVELOPE = b"xkv1"  # what is sealed with a curve key begins with it
_BLOCK = re.compile(r"-----BEGIN (?P<kind>[A-Z ]+)-----\s*(?P<body>\S+)\s*-+END [A-Z ]+-+")


def check_hash(given: str, configured: str) -> bool:
    """Whether a password matches a bcrypt hash."""
    checkpw = _bcrypt_check()
    try:
        return checkpw(given.encode(), configured.encode())
    except ValueError:
        return False


def _bcrypt_check() -> Callable[[bytes, bytes], bool]:
    try:
        module = importlib.import_module("bcrypt")
    except ImportError as error:
        raise ConfigError(
            "the configuration has bcrypt passwords ($2a$…): install the library with: pip install bcrypt"
        ) from error
    check: Callable[[bytes, bytes], bool] = module.checkpw
    return check


def require_bcrypt() -> None:
    """Refuse to start rather than turn every client away later. Raises ConfigError."""
    _bcrypt_check()


def decode_nkey(text: str) -> bytes:
    """Raw bytes of an nkey without its checksum. Raises ValueError."""
    raw = base64.b32decode(text + "=" * (-len(text) % 8))
    if len(raw) < 4 or binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
        raise ValueError("not an nkey: wrong checksum")
    return raw[:-2]


def check_signature(nkey: str, nonce: bytes, signature: str) -> bool:
    """Whether `signature` (base64, with or without padding, URL-safe or not) is the user's over the nonce."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        public = Ed25519PublicKey.from_public_bytes(decode_nkey(nkey)[1:])
        text = signature.replace("+", "-").replace("/", "_").rstrip("=")
        public.verify(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), nonce)
    except (ValueError, InvalidSignature, binascii.Error):
        return False
    return True


class Signer:
    """A seed that signs nonces."""

    def __init__(self, seed: str) -> None:
        """Raises ConfigError when `seed` is none (its text is not shown)."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        try:
            raw = decode_nkey(seed.strip())
            self._key = Ed25519PrivateKey.from_private_bytes(raw[2 : 2 + SEED_BYTES])
        except (ValueError, binascii.Error) as error:
            raise ConfigError(f"not an nkey seed (SU…): {error}") from error
        kind = (raw[0] & 7) << 5 | raw[1] >> 3
        public = bytes([kind]) + self._key.public_key().public_bytes_raw()
        checked = public + binascii.crc_hqx(public, 0).to_bytes(2, "little")
        self.public = base64.b32encode(checked).decode().rstrip("=")

    @classmethod
    def fresh(cls, kind: str) -> "Signer":
        """A new key of a server (N) or a user (U)."""
        prefix = KINDS[kind]
        raw = bytes([SEED_PREFIX | prefix >> 5, (prefix & 31) << 3]) + os.urandom(SEED_BYTES)
        checked = raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")
        return cls(base64.b32encode(checked).decode().rstrip("="))

    def sign(self, nonce: bytes) -> str:
        return base64.urlsafe_b64encode(self._key.sign(nonce)).decode().rstrip("=")


class SealingKey:
    """A curve key (X…) that seals messages for another and opens those of the other: NaCl's box, in nkeys' envelope.

    xkv1 | nonce, 24 bytes | Poly1305 tag, 16 | what XSalsa20 made of the message
    """

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        self._key = X25519PrivateKey.generate()
        raw = bytes([KINDS["X"]]) + self._key.public_key().public_bytes_raw()
        checked = raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")
        self.public = base64.b32encode(checked).decode().rstrip("=")

    def seal(self, message: bytes, other: str) -> bytes:
        """For whoever has the public key `other`. Raises ValueError where that is no curve key."""
        from cryptography.hazmat.primitives.poly1305 import Poly1305

        nonce = os.urandom(salsa.NONCE_BYTES)
        stream = salsa.xsalsa20(self._shared(other), nonce, SEED_BYTES + len(message))
        sealed = salsa.xor(message, stream[SEED_BYTES:])
        return ENVELOPE + nonce + Poly1305.generate_tag(stream[:SEED_BYTES], sealed) + sealed

    def open(self, envelope: bytes, other: str) -> bytes:
        """What whoever has `other` sealed for us. Raises ValueError: nobody did, or it was changed."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.poly1305 import Poly1305

        start = len(ENVELOPE) + salsa.NONCE_BYTES
        nonce, tag, sealed = envelope[len(ENVELOPE) : start], envelope[start : start + 16], envelope[start + 16 :]
        if not envelope.startswith(ENVELOPE) or len(tag) < 16:
            raise ValueError("not sealed with a curve key")
        stream = salsa.xsalsa20(self._shared(other), nonce, SEED_BYTES + len(sealed))
        try:
            Poly1305.verify_tag(stream[:SEED_BYTES], sealed, tag)
        except InvalidSignature as error:
            raise ValueError("sealed for somebody else, or changed on the way") from error
        return salsa.xor(sealed, stream[SEED_BYTES:])

    def _shared(self, other: str) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        raw = decode_nkey(other)
        if raw[0] != KINDS["X"] or len(raw) != 1 + SEED_BYTES:
            raise ValueError("not a public curve key")
        shared = self._key.exchange(X25519PublicKey.from_public_bytes(raw[1:]))
        return salsa.hsalsa20(shared, bytes(16))


class Credentials:
    """How a link proves itself: a .creds file (JWT and seed), or an nkey seed alone."""

    def __init__(self, *, creds_file: str = "", nkey: str = "") -> None:
        """Raises ConfigError when a file cannot be read or holds something else."""
        self._jwt = ""
        if creds_file:
            self._jwt, seed = _read_creds(creds_file)
        else:
            seed = Path(nkey).read_text().strip() if not nkey.startswith("S") else nkey
        self._signer = Signer(seed)

    def prove(self, nonce: bytes) -> dict[str, str]:
        """Fields of CONNECT."""
        signature = self._signer.sign(nonce)
        return {"jwt": self._jwt, "sig": signature} if self._jwt else {"nkey": self._signer.public, "sig": signature}


def _read_creds(path: str) -> tuple[str, str]:
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise ConfigError(f"cannot read the credentials file {path}: {error.strerror}") from error
    found = {match["kind"]: match["body"] for match in _BLOCK.finditer(text)}
    try:
        return found["NATS USER JWT"], found["USER NKEY SEED"]
    except KeyError as error:
        raise ConfigError(f"{path} is no credentials file: it has no block {error}") from error
