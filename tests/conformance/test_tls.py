"""TLS between clients and both servers: when it begins, who needs a certificate, and whom it stands for."""

import asyncio
import json
import socket
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from tests.conformance.conftest import MAKERS
from tests.support.certificates import Authority, Pair
from tests.support.ports import free_port
from tests.support.servers import Broker

SECONDS = 5.0
EMAIL_USER = """authorization { users: [ {user: "device@example.net"}, {user: other, password: p} ] }"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server_pair(authority: Authority) -> Pair:
    return authority.server()


@pytest.fixture(scope="module")
def device(authority: Authority) -> Pair:
    return authority.client("device", emails=("device@example.net",), organization="acme")


Starter = Callable[..., Broker]


@pytest.fixture(params=list(MAKERS))
def start(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority, server_pair: Pair) -> Iterator[Starter]:
    """A broker with a tls block: its own certificate, and what the test adds."""
    started: list[Broker] = []

    def starter(tls: str = "", more: str = "", flags: tuple[str, ...] = ()) -> Broker:
        block = f'cert_file: "{server_pair.cert}", key_file: "{server_pair.key}", ca_file: "{authority.ca}", {tls}'
        config = more if flags else f"tls {{ {block} }}\n{more}"
        broker = MAKERS[request.param](tmp_path / str(len(started)), config=config, flags=flags)
        started.append(broker)
        return broker.start()  # type: ignore[return-value]

    yield starter
    for broker in started:
        broker.stop()


class Secure:
    """One connection by hand: the INFO, and TLS around the rest."""

    def __init__(self, broker: Broker, context: ssl.SSLContext, *, first: bool = False) -> None:
        self.socket = socket.create_connection(("127.0.0.1", broker.port), timeout=SECONDS)
        try:
            line = b"" if first else self.line()
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
            self.info = json.loads((line or self.line())[5:])
        except BaseException:
            self.socket.close()
            raise

    def line(self) -> bytes:
        seen = b""
        while not seen.endswith(b"\n"):
            byte = self.socket.recv(1)
            if not byte:
                raise EOFError(seen)
            seen += byte
        return seen

    def ask(self, **options: str) -> bytes:
        """The answer to CONNECT and PING."""
        text = json.dumps({"verbose": False, **options}).encode()
        self.socket.sendall(b"CONNECT " + text + b"\r\nPING\r\n")
        return self.line()

    def __enter__(self) -> "Secure":
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()


def silent_end(broker: Broker, sent: bytes = b"") -> bytes:
    """What a client without TLS hears after INFO."""
    with socket.create_connection(("127.0.0.1", broker.port), timeout=SECONDS) as plain:
        seen = plain.recv(4096)
        if sent:
            plain.sendall(sent)
        try:
            while more := plain.recv(4096):
                seen += more
        except ConnectionResetError:
            pass
        return seen


def has_tls_words(info: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in info.items() if key.startswith("tls")}


def test_info_then_tls(start: Starter, authority: Authority) -> None:
    broker = start()
    with Secure(broker, authority.context()) as client:
        assert has_tls_words(client.info) == {"tls_required": True}
        assert client.ask() == b"PONG\r\n"


def test_flags(start: Starter, authority: Authority, server_pair: Pair, device: Pair) -> None:
    files = ("--tlscert", str(server_pair.cert), "--tlskey", str(server_pair.key), "--tlscacert", str(authority.ca))
    broker = start(flags=("--tlsverify", *files))
    with Secure(broker, authority.context(device)) as client:
        assert has_tls_words(client.info) == {"tls_required": True, "tls_verify": True}
        assert client.ask() == b"PONG\r\n"


def test_without_tls_the_connection_ends_without_a_word(start: Starter) -> None:
    broker = start(tls="timeout: 0.3")
    for sent in (b"", b"CONNECT {}\r\nPING\r\n"):
        seen = silent_end(broker, sent)
        assert seen.startswith(b"INFO {")
        assert seen.endswith(b"} \r\n")


@pytest.mark.parametrize("given", ["true", "auto", '"300ms"'])
def test_handshake_first(start: Starter, authority: Authority, given: str) -> None:
    broker = start(tls=f"handshake_first: {given}")
    with Secure(broker, authority.context(), first=True) as client:
        assert has_tls_words(client.info) == {"tls_required": True}
        assert client.ask() == b"PONG\r\n"


def test_handshake_first_says_nothing_to_who_waits(start: Starter) -> None:
    broker = start(tls="handshake_first: true, timeout: 0.3")
    assert silent_end(broker) == b""


@pytest.mark.parametrize("given", ["auto", '"100ms"'])
def test_handshake_first_falls_back_to_info(start: Starter, authority: Authority, given: str) -> None:
    broker = start(tls=f"handshake_first: {given}")
    with Secure(broker, authority.context()) as client:
        assert client.ask() == b"PONG\r\n"


async def close(*clients: Client) -> None:
    """Until the sockets are closed: nats-py leaves the end of TLS to the loop."""
    for client in clients:
        raw = client._transport._io_writer.get_extra_info("socket")  # type: ignore[attr-defined]
        await client.close()
        async with asyncio.timeout(SECONDS):
            while raw.fileno() >= 0:
                await asyncio.sleep(0)


async def test_plain_and_secure_clients_on_one_port(start: Starter, authority: Authority) -> None:
    broker = start(more="allow_non_tls: true")
    with Secure(broker, authority.context()) as client:
        assert has_tls_words(client.info) == {"tls_available": True}
        assert client.ask() == b"PONG\r\n"
    plain = await nats.connect(broker.url, allow_reconnect=False)
    heard = await plain.subscribe("s")
    await plain.flush()
    with Secure(broker, authority.context()) as secure:
        secure.socket.sendall(b'CONNECT {"verbose":false}\r\nPUB s 200000\r\n' + b"x" * 200_000 + b"\r\nPING\r\n")
        assert secure.line() == b"PONG\r\n"
    assert (await heard.next_msg(timeout=SECONDS)).data == b"x" * 200_000
    await plain.close()


async def test_requests_and_large_payloads(start: Starter, authority: Authority) -> None:
    broker = start()
    url = f"tls://localhost:{broker.port}"
    one = await nats.connect(url, tls=authority.context(), allow_reconnect=False)
    two = await nats.connect(url, tls=authority.context(), allow_reconnect=False)

    async def echo(message: nats.aio.msg.Msg) -> None:
        await message.respond(message.data)

    await two.subscribe("echo", cb=echo)
    await two.flush()
    for size in (0, 1, 16_384, 1_000_000):
        answer = await one.request("echo", b"y" * size, timeout=SECONDS)
        assert answer.data == b"y" * size
    await close(one, two)


async def test_nats_py_with_handshake_first(start: Starter, authority: Authority) -> None:
    broker = start(tls="handshake_first: true")
    client = await nats.connect(
        f"tls://localhost:{broker.port}", tls=authority.context(), tls_handshake_first=True, allow_reconnect=False
    )
    await client.flush()
    await close(client)


def test_a_certificate_is_demanded(start: Starter, authority: Authority, device: Pair, tmp_path: Path) -> None:
    broker = start(tls="verify: true")
    with Secure(broker, authority.context(device)) as client:
        assert has_tls_words(client.info) == {"tls_required": True, "tls_verify": True}
        assert client.ask() == b"PONG\r\n"
    stranger = Authority(tmp_path / "strange", "Another authority").client()
    for own in (None, stranger):
        with pytest.raises((ssl.SSLError, ConnectionError)), Secure(broker, authority.context(own)) as client:
            client.ask()


def test_a_certificate_stands_for_a_user(start: Starter, authority: Authority, device: Pair) -> None:
    broker = start(tls="verify_and_map: true", more=EMAIL_USER)
    with Secure(broker, authority.context(device)) as client:
        assert client.info["auth_required"] is True
        assert client.ask() == b"PONG\r\n"
    for named in ("other", "device@example.net"):
        with Secure(broker, authority.context(device)) as client:
            assert client.ask(user=named, **{"pass": "p"}) == b"-ERR 'Authorization Violation'\r\n"
    with Secure(broker, authority.context(authority.client("nobody"))) as client:
        assert client.ask() == b"-ERR 'Authorization Violation'\r\n"


@pytest.mark.parametrize("user", ["CN=device,O=acme", "O=acme,CN=device", "site.example.net"])
def test_a_subject_or_host_name_stands_for_a_user(start: Starter, authority: Authority, user: str) -> None:
    dns = () if "=" in user else (user,)
    own = authority.client("device", dns=dns, organization="acme")
    broker = start(tls="verify_and_map: true", more=f'authorization {{ users: [ {{user: "{user}"}} ] }}')
    with Secure(broker, authority.context(own)) as client:
        assert client.ask() == b"PONG\r\n"


def test_mapped_users_cannot_do_without_tls(start: Starter) -> None:
    broker = start(tls="verify_and_map: true", more=f"allow_non_tls: true\n{EMAIL_USER}")
    assert silent_end(broker, b'CONNECT {"verbose":false}\r\nPING\r\n').endswith(b"-ERR 'Authorization Violation'\r\n")


def test_pinned_certificates(start: Starter, authority: Authority, device: Pair) -> None:
    broker = start(tls=f'verify: true, pinned_certs: ["{device.pin}"]')
    with Secure(broker, authority.context(device)) as client:
        assert client.ask() == b"PONG\r\n"
    with (
        pytest.raises((ssl.SSLError, ConnectionError, EOFError)),
        Secure(broker, authority.context(authority.client("unpinned"))) as client,
    ):
        client.ask()


def test_versions_and_cipher_suites(start: Starter, authority: Authority) -> None:
    broker = start(tls='min_version: "1.3"')
    old = authority.context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)), Secure(broker, old) as client:
        client.ask()
    broker = start(tls='cipher_suites: ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]')
    with Secure(broker, old) as client:
        assert client.ask() == b"PONG\r\n"
        assert isinstance(client.socket, ssl.SSLSocket)
        assert (client.socket.cipher() or ("",))[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"


def test_monitoring_over_tls(start: Starter, authority: Authority) -> None:
    """With the listener's certificate; browsers and scrapers have none of their own."""
    port = free_port()
    start("verify: true", more=f'https: "127.0.0.1:{port}"')
    context = ssl.create_default_context(cafile=str(authority.ca))
    with urllib.request.urlopen(f"https://localhost:{port}/varz", context=context) as answer:
        shown = json.load(answer)
    assert (shown["http_port"], shown["https_port"]) == (0, port)
