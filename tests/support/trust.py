"""Operators, accounts and users made at test time: nkeys, and JWTs signed with them. For tests only."""

import base64
import binascii
import json
import os
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PREFIXES = {"O": 14 << 3, "A": 0, "U": 20 << 3, "N": 13 << 3}  # first byte of a public key, by its first letter
SEED = 18 << 3
UNLIMITED_ACCOUNT = {
    "subs": -1,
    "data": -1,
    "payload": -1,
    "imports": -1,
    "exports": -1,
    "wildcards": True,
    "conn": -1,
    "leaf": -1,
}
UNLIMITED_USER = {"subs": -1, "data": -1, "payload": -1}
JETSTREAM = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}


def _text(raw: bytes) -> str:
    checked = raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Key:
    """A key pair of an operator (O), an account (A) or a user (U)."""

    def __init__(self, kind: str) -> None:
        raw = os.urandom(32)
        prefix = PREFIXES[kind]
        self._key = Ed25519PrivateKey.from_private_bytes(raw)
        self.public = _text(bytes([prefix]) + self._key.public_key().public_bytes_raw())
        self.seed = _text(bytes([SEED | prefix >> 5, (prefix & 31) << 3]) + raw)

    def sign(self, data: bytes) -> str:
        return _base64(self._key.sign(data))


def claims(issuer: Key, subject: str, kind: str, body: dict[str, Any], **fields: Any) -> str:
    """A JWT. `fields`: name, iat, exp, nbf."""
    payload = {
        "jti": _base64(os.urandom(16)),
        "iat": int(time.time()),
        "iss": issuer.public,
        "sub": subject,
        **fields,
        "nats": {**body, "type": kind, "version": 2},
    }
    header = _base64(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
    signed = f"{header}.{_base64(json.dumps(payload).encode())}"
    return f"{signed}.{issuer.sign(signed.encode())}"


def old_claims(issuer: Key, subject: str, kind: str, body: dict[str, Any], **fields: Any) -> str:
    """A JWT of version 1: the kind stands outside of the body, and only the claims are signed."""
    payload = {"iat": int(time.time()), "iss": issuer.public, "sub": subject, "type": kind, **fields, "nats": body}
    header = _base64(json.dumps({"typ": "jwt", "alg": "ed25519"}).encode())
    signed = _base64(json.dumps(payload).encode())
    return f"{header}.{signed}.{issuer.sign(signed.encode())}"


class User:
    """Someone with a key and a JWT."""

    def __init__(self, key: Key, jwt: str) -> None:
        self.key = key
        self.jwt = jwt

    def connect(self, nonce: str, **options: Any) -> bytes:
        """The line of a CONNECT."""
        proof = {"jwt": self.jwt, "sig": self.key.sign(nonce.encode())}
        return b"CONNECT " + json.dumps({"verbose": False, "protocol": 1, **proof, **options}).encode() + b"\r\n"

    def options(self) -> dict[str, Any]:
        """For `nats.connect`."""
        return {
            "user_jwt_cb": lambda: bytearray(self.jwt.encode()),
            "signature_cb": lambda nonce: self.key.sign(nonce.encode()).encode(),
        }

    def write_creds(self, path: Path) -> Path:
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{self.jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.key.seed}\n------END USER NKEY SEED------\n"
        )
        return path


class Account:
    """An account of an operator; `jwt(**body)` anew after each change."""

    def __init__(self, operator: "Operator", name: str) -> None:
        self.operator = operator
        self.key = Key("A")
        self.name = name

    @property
    def id(self) -> str:
        return self.key.public

    def jwt(self, *, limits: dict[str, Any] | None = None, issuer: Key | None = None, **rest: Any) -> str:
        """`rest`: fields of the token (iat, exp, nbf) and of the claims."""
        fields = {key: rest.pop(key) for key in ("iat", "exp", "nbf") if key in rest}
        body = {"limits": {**UNLIMITED_ACCOUNT, **(limits or {})}, **rest}
        return claims(issuer or self.operator.key, self.id, "account", body, name=self.name, **fields)

    def user(self, name: str = "u", *, signer: Key | None = None, is_scoped: bool = False, **rest: Any) -> User:
        """`signer`: a signing key instead of the account's own. `is_scoped`: without rules of its own."""
        key = rest.pop("key", None) or Key("U")
        fields = {key: rest.pop(key) for key in ("iat", "exp", "nbf") if key in rest}
        body = {**({} if is_scoped else UNLIMITED_USER), **rest}
        if signer is not None:
            body.setdefault("issuer_account", self.id)
        return User(key, claims(signer or self.key, key.public, "user", body, name=name, **fields))


class Operator:
    """The root of trust, with a system account."""

    def __init__(self) -> None:
        self.key = Key("O")
        self.system = Account(self, "SYS")

    def account(self, name: str) -> Account:
        return Account(self, name)

    def jwt(self, **body: Any) -> str:
        body = {"system_account": self.system.id, **body}
        return claims(self.key, self.key.public, "operator", body, name="test operator")

    def in_memory(self, *jwts: tuple[Account, str], **body: Any) -> str:
        """A configuration with these accounts' JWTs and the system's."""
        preload = "\n".join(f"  {account.id}: {jwt}" for account, jwt in ((self.system, self.system.jwt()), *jwts))
        return f"operator: {self.jwt(**body)}\nresolver: MEMORY\nresolver_preload {{\n{preload}\n}}\n"

    def in_folder(self, folder: Path, *jwts: tuple[Account, str]) -> str:
        """A configuration with a directory resolver."""
        folder.mkdir(parents=True, exist_ok=True)
        for account, jwt in ((self.system, self.system.jwt()), *jwts):
            (folder / f"{account.id}.jwt").write_text(jwt)
        return f'operator: {self.jwt()}\nresolver {{ type: full, dir: "{folder}", allow_delete: true }}\n'
