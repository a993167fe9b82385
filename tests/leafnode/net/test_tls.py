"""The TLS layer without sockets: a client's half in memory, any chunking, and what goes wrong."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leafnode.config.options import TlsConfig
from leafnode.errors import ConfigError
from leafnode.net.tls import ServerTls, TlsLayer, client_context, server_context
from tests.support.certificates import Authority, Pair

SECRET = b"CONNECT {}\r\nPUB a 5\r\nhello\r\n"


class Wire(asyncio.Transport):
    """The socket below: keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def take(self) -> bytes:
        data = bytes(self.written)
        self.written.clear()
        return data

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing


class Above(asyncio.Protocol):
    """The endpoint above: says hello, keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(b"INFO {}\r\n")

    def data_received(self, data: bytes) -> None:
        self.heard += data


class Client:
    """The other half of a handshake."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def shake(self, wire: Wire, send: Callable[[bytes], None]) -> None:
        """Until both are done."""
        for _ in range(4):
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                send(self.outgoing.read())
                self.incoming.write(wire.take())
                continue
            send(self.outgoing.read())
            return
        raise AssertionError("the handshake does not end")

    def read(self, wire: Wire) -> bytes:
        self.incoming.write(wire.take())
        seen = b""
        try:
            while chunk := self.tls.read(65536):
                seen += chunk
        except ssl.SSLWantReadError:
            pass
        return seen


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.server()


def layer_on(wire: Wire, pair: Pair, *, optional: bool = False, **options: Any) -> tuple[TlsLayer, Above]:
    above = Above()
    config = TlsConfig(cert_file=str(pair.cert), key_file=str(pair.key), **options)
    layer = TlsLayer(ServerTls(config, optional=optional), lambda: above)
    layer.connection_made(wire)
    return layer, above


def in_chunks(layer: TlsLayer, size: int) -> Callable[[bytes], None]:
    def send(data: bytes) -> None:
        for start in range(0, len(data), size):
            layer.data_received(data[start : start + size])

    return send


@pytest.mark.parametrize("size", [1, 2, 7, 100, 100_000])
async def test_any_chunking_gives_the_same(authority: Authority, pair: Pair, size: int) -> None:
    wire = Wire()
    layer, above = layer_on(wire, pair)
    assert wire.take() == b"INFO {}\r\n"
    client = Client(authority.context())
    client.shake(wire, in_chunks(layer, size))
    payload = SECRET * (1 if size < 100 else 2000)
    client.tls.write(payload)
    in_chunks(layer, size)(client.outgoing.read())
    assert above.heard == payload
    layer.write(b"x" * 100_000)
    assert layer.added_bytes() > 0
    assert client.read(wire) == b"x" * 100_000
    layer.connection_lost(None)


async def test_first_words_in_the_same_write_as_the_handshake(authority: Authority, pair: Pair) -> None:
    wire = Wire()
    layer, above = layer_on(wire, pair, handshake_first=True)
    assert wire.take() == b""
    client = Client(authority.context())
    sent: list[bytes] = []
    client.shake(wire, lambda data: sent.append(data) or (layer.data_received(data) if len(sent) == 1 else None))
    client.tls.write(SECRET)
    layer.data_received(sent[-1] + client.outgoing.read())
    assert above.heard == SECRET
    assert client.read(wire) == b"INFO {}\r\n"
    layer.connection_lost(None)


async def test_nothing_plain_is_said_between_info_and_handshake(authority: Authority, pair: Pair) -> None:
    wire = Wire()
    layer, _ = layer_on(wire, pair)
    layer.write(b"PING\r\n")
    assert wire.take() == b"INFO {}\r\n"
    client = Client(authority.context())
    client.shake(wire, layer.data_received)
    assert client.read(wire) == b"PING\r\n"
    layer.connection_lost(None)


async def test_plain_where_it_is_allowed(pair: Pair) -> None:
    wire = Wire()
    layer, above = layer_on(wire, pair, optional=True, handshake_first=True)
    layer.data_received(b"PING\r\n")
    layer.write(b"PONG\r\n")
    assert above.heard == b"PING\r\n"
    assert wire.take() == b"INFO {}\r\nPONG\r\n"


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05junk!", b"\x16" * 600])
async def test_what_is_no_handshake_ends_the_connection(pair: Pair, sent: bytes) -> None:
    wire = Wire()
    layer, above = layer_on(wire, pair)
    layer.data_received(sent)
    layer.data_received(sent)
    assert wire.closing
    assert above.heard == b""


async def test_silence_ends_the_connection(pair: Pair) -> None:
    wire = Wire()
    layer_on(wire, pair, timeout_s=0.01)
    async with asyncio.timeout(5):
        while not wire.closing:
            await asyncio.sleep(0.005)


async def test_a_broken_record_ends_the_connection(authority: Authority, pair: Pair) -> None:
    wire = Wire()
    layer, above = layer_on(wire, pair)
    client = Client(authority.context())
    wire.take()
    client.shake(wire, layer.data_received)
    client.tls.write(SECRET)
    record = bytearray(client.outgoing.read())
    record[-1] ^= 1
    layer.data_received(bytes(record))
    assert wire.closing
    assert above.heard == b""
    layer.write(b"-ERR\r\n")  # whoever closes may have last words; there is nobody to hear them
    layer.close()


async def test_both_ends_say_goodbye(authority: Authority, pair: Pair) -> None:
    wire = Wire()
    layer, _ = layer_on(wire, pair)
    wire.take()
    client = Client(authority.context())
    client.shake(wire, layer.data_received)
    client.read(wire)
    layer.close()
    assert wire.closing
    assert client.read(wire) == b""  # an orderly end, not a cut

    wire = Wire()
    layer, _ = layer_on(wire, pair)
    wire.take()
    client = Client(authority.context())
    client.shake(wire, layer.data_received)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    layer.data_received(client.outgoing.read())
    assert wire.closing
    layer.write(b"-ERR\r\n")


async def test_certificates_are_read_again(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    tls = ServerTls(TlsConfig(cert_file=str(pair.cert), key_file=str(pair.key)))
    before = tls.context
    with pytest.raises(ConfigError, match="error parsing"):
        tls.reload(TlsConfig(cert_file=str(tmp_path / "none"), key_file=str(pair.key)))
    assert tls.context is before
    fresh = authority.server("fresh")
    tls.reload(TlsConfig(cert_file=str(fresh.cert), key_file=str(fresh.key)))
    assert tls.context is not before


def test_files_that_cannot_be_used_are_named(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    other = authority.server("other")
    with pytest.raises(ConfigError, match=r"key values mismatch|error parsing X509"):
        server_context(TlsConfig(cert_file=str(pair.cert), key_file=str(other.key)))
    with pytest.raises(ConfigError, match="failed to parse root ca"):
        client_context(TlsConfig(ca_file=str(pair.key)))
    with pytest.raises(ConfigError, match="'cert_file' and 'key_file' are missing"):
        server_context(TlsConfig(verify=True))
    locked = tmp_path / "locked.key"
    locked.write_text(_encrypted())
    with pytest.raises(ConfigError, match="is encrypted"):
        server_context(TlsConfig(cert_file=str(pair.cert), key_file=str(locked)))


def _encrypted() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    locked = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, locked).decode()
