"""TLS of listeners: when the handshake comes, with which certificates, and the bytes in between.

The record protocol runs in memory (`ssl.MemoryBIO`), fed by the socket's callbacks. So the first byte of a client can
be looked at before it is decided what it speaks, and nothing waits. Three beginnings (spec client-protocol section 15):

    INFO first        the endpoint opens at once, its INFO goes out plain; the client's first byte begins TLS, or, where
                      clients without TLS are allowed and it is no handshake record, plain NATS
    handshake first   the endpoint opens when the handshake is done
    with fallback     as above, but after so much silence INFO goes out after all
"""

import asyncio
import contextlib
import enum
import hashlib
import logging
import ssl
from collections.abc import Callable
from typing import Any

from leafnode.config.links import CIPHERS
from leafnode.config.options import TlsConfig
from leafnode.errors import ConfigError
from leafnode.net.layer import Layer, close_with, peer_of

HANDSHAKE_RECORD = 0x16  # first byte of a TLS ClientHello; no NATS operation begins with it
RECORD_BYTES = 16 * 1024  # the most that one TLS record holds
HELD_MAX = 1024 * 1024  # bytes written for a client during its handshake; there should be none but a PING
FAILURE = "TLS Handshake Failure"  # the reason that /connz shows (nats-server)

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

log = logging.getLogger("leafnode.client")


class ServerTls:
    """The TLS of one listener. `reload` changes it for the connections to come."""

    def __init__(self, config: TlsConfig, *, optional: bool = False) -> None:
        """Raises ConfigError when a certificate or key cannot be used. `optional`: clients may do without."""
        self.optional = optional
        self.reload(config)

    def reload(self, config: TlsConfig) -> None:
        """Read the certificates again. Raises ConfigError, and then nothing has changed."""
        self.context = server_context(config)
        self.config = config

    @property
    def demands_certificate(self) -> bool:
        return self.config.verify or self.config.verify_and_map

    def info_fields(self) -> dict[str, bool]:
        """What INFO says of it."""
        fields = {"tls_available" if self.optional else "tls_required": True}
        return {**fields, "tls_verify": True} if self.demands_certificate else fields


def server_context(tls: TlsConfig) -> ssl.SSLContext:
    """For listening. Raises ConfigError when a file cannot be used."""
    if not tls.cert_file:
        raise ConfigError("tls of a listener: 'cert_file' and 'key_file' are missing")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    load_certificate(context, tls)
    if tls.verify or tls.verify_and_map or tls.ca_file:
        load_authorities(context, tls, ssl.Purpose.CLIENT_AUTH)
    if tls.verify or tls.verify_and_map:
        context.verify_mode = ssl.CERT_REQUIRED
    restrict(context, tls)
    return context


def monitor_context(tls: TlsConfig) -> ssl.SSLContext:
    """For HTTPS: the listener's certificate, and none asked of browsers. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_certificate(context, tls)
    restrict(context, tls)
    return context


def client_context(tls: TlsConfig) -> ssl.SSLContext:
    """For dialling. Raises ConfigError when a file cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    load_authorities(context, tls, ssl.Purpose.SERVER_AUTH)
    if tls.cert_file:
        load_certificate(context, tls)
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    restrict(context, tls)
    return context


def load_certificate(context: ssl.SSLContext, tls: TlsConfig) -> None:
    def no_password() -> str:
        raise ConfigError(f"tls: the key {tls.key_file} is encrypted: leafnode needs one without a passphrase")

    try:
        context.load_cert_chain(tls.cert_file, tls.key_file, password=no_password)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"tls: error parsing X509 certificate/key pair: {tls.cert_file}, {tls.key_file}: {reason_of(error)}"
        ) from error


def load_authorities(context: ssl.SSLContext, tls: TlsConfig, purpose: ssl.Purpose) -> None:
    if not tls.ca_file:
        context.load_default_certs(purpose)
        return
    try:
        context.load_verify_locations(tls.ca_file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"tls: failed to parse root ca certificate: {tls.ca_file}: {reason_of(error)}") from error


def restrict(context: ssl.SSLContext, tls: TlsConfig) -> None:
    """Versions and cipher suites."""
    context.minimum_version = VERSIONS[tls.min_version]
    chosen = [CIPHERS[name] for name in tls.cipher_suites if name in CIPHERS]
    if chosen:
        context.set_ciphers(":".join(chosen))


def reason_of(error: Exception) -> str:
    """OpenSSL's reason without its file and line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return getattr(error, "strerror", None) or str(error)


def tls_facts(connection: Any) -> dict[str, object]:
    """What a service that decides about clients is told of their TLS: version, cipher, and certificates in PEM."""
    cipher = connection.cipher() or ("", "", 0)
    facts: dict[str, object] = {"version": (connection.version() or "").removeprefix("TLSv"), "cipher": cipher[0]}
    certificate = connection.getpeercert(binary_form=True)
    if certificate:
        is_verified = connection.context.verify_mode != ssl.CERT_NONE
        text = ssl.DER_cert_to_PEM_cert(certificate)
        facts |= {"verified_chains": [[text]]} if is_verified else {"certs": [text]}
    return facts


def is_pinned(pins: frozenset[str], connection: Any) -> bool:
    """Whether the other side's key is one of those we know; True where none are named."""
    if not pins:
        return True
    certificate = connection.getpeercert(binary_form=True) if connection is not None else None
    if not certificate:
        return False
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_der_x509_certificate(certificate).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest() in pins


class State(enum.Enum):
    SILENT = enum.auto()  # handshake first: nothing was said yet
    GREETED = enum.auto()  # INFO is out, the client's first byte decides
    HANDSHAKE = enum.auto()
    SECURE = enum.auto()
    PLAIN = enum.auto()  # a client without TLS, where that is allowed
    FAILED = enum.auto()


class TlsLayer(Layer):
    """One connection. `make` gives the endpoint, asked once, when the endpoint is to open."""

    def __init__(self, tls: ServerTls, make: Callable[[], asyncio.Protocol]) -> None:
        super().__init__()
        self._tls = tls
        self._make = make
        self._state = State.GREETED
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl: ssl.SSLObject
        self._greeted_plain = False
        self._broken = False  # nothing more can be encrypted
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._timers: list[asyncio.TimerHandle] = []

    # towards the endpoint ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        config = self._tls.config
        if not self._tls.optional:
            self._limit_time()
        if not config.handshake_first:
            self.open_above(self._make())
            return
        self._state = State.SILENT
        if config.handshake_first_fallback_s is not None:
            loop = asyncio.get_running_loop()
            self._timers.append(loop.call_later(config.handshake_first_fallback_s, self._fall_back))

    def _fall_back(self) -> None:
        if self._state is State.SILENT and not self.below.is_closing():
            self._state = State.GREETED
            self.open_above(self._make())

    def _limit_time(self) -> None:
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(self._tls.config.timeout_s, self._too_late))

    def _too_late(self) -> None:
        if self._state not in (State.SECURE, State.PLAIN, State.FAILED):
            self._fail("timeout")

    def data_received(self, data: bytes) -> None:
        match self._state:
            case State.SECURE:
                self._decrypt(data)
            case State.PLAIN:
                assert self.above is not None
                self.above.data_received(data)
            case State.HANDSHAKE:
                self._shake(data)
            case State.SILENT | State.GREETED:
                self._begin(data)

    def _begin(self, data: bytes) -> None:
        """The first bytes of a client."""
        if data[0] == HANDSHAKE_RECORD:
            if self._tls.optional:
                self._limit_time()
            self._state = State.HANDSHAKE
            self._ssl = self._tls.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
            self._shake(data)
        elif self._tls.optional:
            self._state = State.PLAIN
            if not self.opened:
                self.open_above(self._make())
            assert self.above is not None
            self.above.data_received(data)
        else:
            self._fail("first record does not look like a TLS handshake")

    def _shake(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._send_records()
            return
        except (ssl.SSLError, OSError) as error:
            self._send_records()  # the alert
            self._fail(reason_of(error))
            return
        self._send_records()
        if not is_pinned(self._tls.config.pinned_certs, self._ssl):
            self._fail("the client's certificate is none of the pinned ones")
            return
        self._state = State.SECURE
        self._stop_timers()
        if not self.opened:
            self.open_above(self._make())
        if self._held:
            held, self._held = b"".join(self._held), []
            self.write(held)
        self._decrypt(b"")

    def _fail(self, reason: str) -> None:
        self._state = State.FAILED
        self._stop_timers()
        log.error("%s - TLS handshake error: %s", peer_of(self.below), reason)
        close_with(self.above, self.below, FAILURE)

    def _decrypt(self, data: bytes) -> None:
        self._incoming.write(data)
        read = self._ssl.read
        chunks: list[bytes] = []
        ended = ""
        try:
            while chunk := read(RECORD_BYTES):
                chunks.append(chunk)
            ended = "Client Closed"
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = "Client Closed"
        except (ssl.SSLError, OSError) as error:
            ended = f"Read Error: {reason_of(error)}"
            self._broken = True
        if self._outgoing.pending:
            self._send_records()
        if chunks:
            assert self.above is not None
            self.above.data_received(b"".join(chunks) if len(chunks) > 1 else chunks[0])
        if ended:
            close_with(self.above, self.below, ended)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)

    def _stop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    # towards the socket ------------------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if self._state is State.SECURE:
            match name:
                case "ssl_object":
                    return self._ssl
                case "peercert":
                    return self._ssl.getpeercert()
                case "cipher":
                    return self._ssl.cipher()
        return super().get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        match self._state:
            case State.SECURE:
                self._encrypt(data)
            case State.PLAIN:
                self.below.write(data)
            case State.GREETED if self._tls.optional or not self._greeted_plain:
                self._greeted_plain = True
                self.below.write(data)
            case State.FAILED:
                pass
            case _:
                self._hold(bytes(data))

    def _encrypt(self, data: bytes | bytearray | memoryview) -> None:
        if self._broken:
            return
        try:
            self._ssl.write(data)
        except (ssl.SSLError, OSError):  # a record of the client's broke it, or it said goodbye
            self._broken = True
            return
        self.added -= len(data)
        self._send_records()

    def _hold(self, data: bytes) -> None:
        """Until the handshake is done: plain bytes would break it."""
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > HELD_MAX:
            self._fail("too much to say before it is done")

    def _send_records(self) -> None:
        records = self._outgoing.read()
        if records:
            self.added += len(records)
            self.below.write(records)

    def close(self) -> None:
        if self._state is State.SECURE and not self._broken and not self.below.is_closing():
            with contextlib.suppress(ssl.SSLError, OSError):  # it wants the client's answer, for which nobody waits
                self._ssl.unwrap()
            self._send_records()
        super().close()
