"""Who this server is, and what it says of itself in INFO."""

import base64
import binascii
import platform
import secrets
from collections.abc import Mapping
from typing import Any

from leafnode.config.options import Config
from leafnode.stream.level import API_LEVEL

SPOKEN_VERSION = "2.15.1"  # answered as `version`: clients choose features by it, so it names what we speak
SERVER_PREFIX = 13 << 3  # first byte of a server nkey: its text begins with N
NONCE_BYTES = 11  # 15 characters


def new_server_id() -> str:
    """A fresh id in the form of a server's public nkey: 56 characters, first N."""
    raw = bytes([SERVER_PREFIX]) + secrets.token_bytes(32)
    checked = raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")


def new_nonce() -> bytes:
    return base64.urlsafe_b64encode(secrets.token_bytes(NONCE_BYTES)).rstrip(b"=")


def info_fields(config: Config, server_id: str, port: int) -> Mapping[str, Any]:
    """The part of INFO that is the same for every client (spec client-protocol section 2)."""
    fields: dict[str, Any] = {
        "server_id": server_id,
        "server_name": config.server_name or server_id,
        "version": SPOKEN_VERSION,
        "proto": 1,
        "git_commit": "leafnode",
        "go": f"python{platform.python_version()}",
        "host": config.host,
        "port": port,
        "headers": not config.no_header_support,
        "max_payload": config.max_payload,
        "api_lvl": API_LEVEL,
    }
    if config.jetstream.enabled:
        fields["jetstream"] = True
        if config.jetstream.domain:
            fields["domain"] = config.jetstream.domain
    if config.cluster.name:
        fields["cluster"] = config.cluster.name
    if config.client_advertise:
        fields["connect_urls"] = [config.client_advertise]
    return fields


def shown_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
