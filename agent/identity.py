"""Who the device is: its id, its boot, and the credentials file that the hub trusts.

A credentials file holds a user JWT and an nkey seed between `-----BEGIN/END-----` lines. The seed is base32 of two
prefix bytes (kind of key), 32 bytes of Ed25519 seed and a CRC-16 (XMODEM, low byte first).
"""

import base64
import binascii
import hashlib
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.errors import ConfigError

MACHINE_ID: Final = Path("/etc/machine-id")
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
ID_LENGTH: Final = 63  # characters of a device id
SUFFIX_LENGTH: Final = 6  # hex digits of the machine's hash: tells apart cards flashed with one host name
SEED_LENGTH: Final = 32  # bytes, Ed25519

_BLOCK = re.compile(r"-{3,}BEGIN ([A-Z ]+)-{3,}\s*(\S+)\s*-{3,}END [A-Z ]+-{3,}")
_COMMON_NAMES = frozenset({"", "localhost", "raspberrypi", "debian", "raspbian", "ubuntu"})


def device_id(hostname: str = "", machine_id: str = "") -> str:
    """An id for a machine whose settings name none: its host name, made distinct where that name is an image's."""
    name = re.sub(r"[^a-z0-9-]+", "-", (hostname or socket.gethostname()).split(".")[0].lower()).strip("-")
    if name not in _COMMON_NAMES:
        return name[:ID_LENGTH]
    suffix = hashlib.sha256((machine_id or _read(MACHINE_ID) or "unknown").encode()).hexdigest()[:SUFFIX_LENGTH]
    return f"{name or 'device'}-{suffix}"


def boot_id() -> str:
    """The kernel's id of this boot; it differs after every restart of the machine."""
    return _read(BOOT_ID) or "unknown"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's JWT and the seed that proves to be that user. The seed never shows in a log or a repr."""

    jwt: str
    _seed: bytes

    def __repr__(self) -> str:
        return "Credentials(…)"

    def sign(self, data: bytes) -> bytes:
        """Ed25519 signature, 64 bytes."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # megabytes, rarely wanted

        return Ed25519PrivateKey.from_private_bytes(self._seed).sign(data)


def read_credentials(path: Path) -> Credentials:
    """The credentials in the file at `path`.

    Raises:
        ConfigError: the file cannot be read, or holds no JWT and seed.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: credentials cannot be read: {error}") from error
    blocks = {title.strip(): body for title, body in _BLOCK.findall(text)}
    jwt = blocks.get("NATS USER JWT")
    seed = blocks.get("USER NKEY SEED")
    if not jwt or not seed:
        raise ConfigError(f"{path}: is no credentials file: it needs a NATS USER JWT and a USER NKEY SEED block")
    return Credentials(jwt, seed_bytes(seed, str(path)))


def seed_bytes(seed: str, where: str) -> bytes:
    """The 32 bytes inside an nkey seed (`SU…`).

    Raises:
        ConfigError: not a seed; the text does not repeat it.
    """
    try:
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except (ValueError, binascii.Error) as error:
        raise ConfigError(f"{where}: the nkey seed is not base32: copy the file again") from error
    body, checksum = raw[:-2], raw[-2:]
    if len(body) != SEED_LENGTH + 2 or not seed.startswith("S"):
        raise ConfigError(f"{where}: the nkey is not a seed (it should begin with SU): copy the file again")
    if binascii.crc_hqx(body, 0).to_bytes(2, "little") != checksum:
        raise ConfigError(f"{where}: the nkey seed is damaged (checksum): copy the file again")
    return body[2:]
