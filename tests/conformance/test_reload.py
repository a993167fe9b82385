"""SIGHUP: users, permissions and limits change under the feet of connected clients, on both servers."""

import json
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import MAKERS
from tests.conformance.raw import Wire
from tests.support.certificates import Authority, Pair
from tests.support.ports import free_port
from tests.support.servers import Broker, leafnode
from tests.support.trust import Operator

DEADLINE_S = 10.0
DONE, FAILED = "Reloaded server configuration", "Failed to reload server configuration"


class Site:
    """A broker whose file can be changed while it runs."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.port = broker.port

    def change(self, config: str, answer: str = DONE) -> str:
        """Write another file, ask for a reload, wait for its verdict; returns the log of it."""
        file = self.broker.folder / "server.conf"
        file.write_text(f'listen: "127.0.0.1:{self.broker.port}"\n{config}\n')
        mark = self.broker.log.stat().st_size
        self.broker.signal(signal.SIGHUP)
        deadline = time.monotonic() + DEADLINE_S
        while answer not in (seen := self.broker.output(mark)):
            assert time.monotonic() < deadline, seen
            assert self.broker.alive(), seen
            time.sleep(0.01)
        return seen

    def connect(self, **options: object) -> Wire:
        wire = Wire(self.port)
        wire.send(b"CONNECT " + json.dumps({"verbose": False, **options}).encode() + b"\r\nPING\r\n")
        return wire

    def admits(self, **options: object) -> bool:
        with self.connect(**options) as wire:
            return wire.until(b"\r\n") == b"PONG\r\n"


@pytest.fixture(params=list(MAKERS))
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    started: list[Broker] = []

    def starter(config: str) -> Site:
        broker = MAKERS[request.param](tmp_path / str(len(started)), config=config)
        started.append(broker)
        broker.start()
        return Site(broker)

    yield starter
    for broker in started:
        broker.stop()


def users(*rules: str) -> str:
    return "authorization { users: [ " + ", ".join("{" + rule + "}" for rule in rules) + " ] }"


ALICE, BOB = "user: alice, password: a", "user: bob, password: b"


def test_a_user_who_is_gone_is_closed_without_a_word(start: Callable[[str], Site]) -> None:
    site = start(users(ALICE, BOB))
    with site.connect(user="alice", **{"pass": "a"}) as alice, site.connect(user="bob", **{"pass": "b"}) as bob:
        assert alice.until(b"PONG\r\n")
        assert bob.until(b"PONG\r\n")
        site.change(users(BOB))
        assert alice.rest() == b""
        bob.send(b"PING\r\n")
        assert bob.until(b"\r\n") == b"PONG\r\n"
    assert not site.admits(user="alice", **{"pass": "a"})


def test_a_new_user_may_come_and_a_new_password_counts(start: Callable[[str], Site]) -> None:
    site = start(users(ALICE))
    with site.connect(user="alice", **{"pass": "a"}) as alice:
        alice.until(b"PONG\r\n")
        site.change(users("user: alice, password: other", BOB))
        assert alice.rest() == b"-ERR 'Authorization Violation'\r\n"
    assert site.admits(user="bob", **{"pass": "b"})
    assert site.admits(user="alice", **{"pass": "other"})
    assert not site.admits(user="alice", **{"pass": "a"})


def test_a_subscription_that_is_no_longer_allowed_is_dropped_and_said_so(start: Callable[[str], Site]) -> None:
    site = start(users(ALICE, BOB))
    with site.connect(user="alice", **{"pass": "a"}) as alice, site.connect(user="bob", **{"pass": "b"}) as bob:
        bob.until(b"PONG\r\n")
        alice.send(b"SUB x 1\r\nSUB y 2\r\nPING\r\n")
        alice.until(b"PONG\r\nPONG\r\n")
        site.change(users(f'{ALICE}, permissions: {{ subscribe: {{ deny: "y" }}, publish: {{ deny: "z" }} }}', BOB))
        assert alice.until(b"\r\n") == b'-ERR \'Permissions Violation for Subscription to "y" (sid "2")\'\r\n'
        bob.send(b"PUB y 2\r\nno\r\nPUB x 3\r\nyes\r\nPING\r\n")
        bob.until(b"PONG\r\n")
        assert alice.until(b"yes\r\n") == b"MSG x 1 3\r\nyes\r\n"
        alice.send(b"PUB z 1\r\n.\r\n")
        assert alice.until(b"\r\n") == b"-ERR 'Permissions Violation for Publish to \"z\"'\r\n"


def test_limits_hold_from_now_on(start: Callable[[str], Site]) -> None:
    site = start("max_payload: 1000")
    with site.connect() as wire:
        wire.send(b"SUB a 1\r\n" + 3 * (b"PUB a 8\r\n" + 8 * b"x" + b"\r\n"))
        wire.until(b"PONG\r\n")
        for _ in range(3):
            wire.until(b"xxxxxxxx\r\n")
        site.change("max_payload: 5")
        wire.send(b"PUB a 8\r\n" + 8 * b"x" + b"\r\n")
        assert wire.until(b"\r\n") == b"-ERR 'Maximum Payload Violation'\r\n"
    with Wire(site.port) as fresh:
        assert json.loads(fresh.info.removeprefix(b"INFO "))["max_payload"] == 5


def test_surplus_connections_are_closed(start: Callable[[str], Site]) -> None:
    site = start("max_connections: 10")
    wires = [site.connect() for _ in range(4)]
    try:
        for wire in wires:
            wire.until(b"PONG\r\n")
        site.change("max_connections: 2")
        closed = 0
        for wire in wires:
            wire.socket.sendall(b"PING\r\n")
            closed += not wire.until(b"\r\n").startswith(b"PONG")
        assert closed == 2
    finally:
        for wire in wires:
            wire.close()


@pytest.mark.parametrize(
    "config",
    ["server_name: other", "unknown_key: 1", 'http: "127.0.0.1:1"', "max_payload: {"],
    ids=["fixed", "unknown", "address", "broken"],
)
def test_all_or_nothing(start: Callable[[str], Site], config: str) -> None:
    site = start(f"server_name: first\n{users(ALICE)}")
    name = "" if "server_name" in config else "server_name: first\n"
    site.change(f"{name}{config}\n{users(BOB)}", FAILED)
    assert site.admits(user="alice", **{"pass": "a"})
    assert not site.admits(user="bob", **{"pass": "b"})


def test_accounts_come_and_go(start: Callable[[str], Site]) -> None:
    one = "accounts { A { users: [ { user: a, password: a } ] }"
    site = start(one + " }")
    with site.connect(user="a", **{"pass": "a"}) as kept:
        kept.until(b"PONG\r\n")
        site.change(one + ", B { users: [ { user: b, password: b } ] } }")
        with site.connect(user="b", **{"pass": "b"}) as other:
            other.send(b"SUB > 1\r\nPING\r\n")
            other.until(b"PONG\r\nPONG\r\n")
            kept.send(b"PUB secret 0\r\n\r\nPING\r\n")
            assert kept.until(b"\r\n") == b"PONG\r\n"
            other.send(b"PING\r\n")
            assert other.until(b"\r\n") == b"PONG\r\n"
            site.change(one + " }")
            assert other.rest() == b""
        kept.send(b"PING\r\n")
        assert kept.until(b"\r\n") == b"PONG\r\n"


def test_the_log_follows(start: Callable[[str], Site]) -> None:
    site = start("")
    site.change("debug: true")
    mark = site.broker.log.stat().st_size
    assert site.admits()
    deadline = time.monotonic() + DEADLINE_S
    while "[DBG]" not in site.broker.output(mark):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_certificates_are_read_again(start: Callable[[str], Site], tmp_path: Path) -> None:
    """The files change, the configuration does not: those who come now see the new certificate."""
    authority = Authority(tmp_path / "pki")
    one, two = authority.server("one"), authority.server("two")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def use(pair: Pair) -> None:
        cert.write_bytes(pair.cert.read_bytes())
        key.write_bytes(pair.key.read_bytes())

    def shown() -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(authority.ca)
        with Wire(site.port) as wire, context.wrap_socket(wire.socket, server_hostname="localhost") as secure:
            return secure.getpeercert(binary_form=True) or b""

    use(one)
    block = f'tls {{ cert_file: "{cert}", key_file: "{key}" }}'
    site = start(block)
    first = shown()
    use(two)
    site.change(block)
    assert shown() != first
    cert.write_text("no certificate")
    site.change(f"{block}\nmax_payload: 7", FAILED)
    assert shown() != first


def test_links_come_and_go(start: Callable[[str], Site]) -> None:
    port = free_port()
    hub = start(f'leafnodes {{ listen: "127.0.0.1:{port}" }}')
    with hub.connect() as here:
        here.send(b"SUB news 1\r\nPING\r\n")
        here.until(b"PONG\r\nPONG\r\n")
        site = start("")
        with site.connect() as there:
            there.until(b"PONG\r\n")
            site.change(f'leafnodes {{ remotes: [ {{ url: "nats-leaf://127.0.0.1:{port}" }} ] }}')
            here.socket.settimeout(0.05)
            arrived = b""
            deadline = time.monotonic() + DEADLINE_S
            while not arrived:
                assert time.monotonic() < deadline
                there.send(b"PUB news 2\r\nhi\r\n")
                try:
                    arrived = here.until(b"hi\r\n")
                except TimeoutError:
                    continue
            site.change("")
            mark = hub.broker.log.stat().st_size
            there.send(b"SUB other 1\r\nPING\r\n")
            there.until(b"PONG\r\n")
            here.send(b"PUB other 4\r\nlost\r\nPING\r\n")
            here.socket.settimeout(DEADLINE_S)
            assert here.until(b"PONG\r\n")
            there.send(b"PUB other 4\r\nhere\r\n")
            assert b"lost" not in there.until(b"here\r\n")
            assert site.broker.alive(), hub.broker.output(mark)


def test_a_leaf_whose_user_is_gone_may_not_stay(tmp_path: Path) -> None:
    """Of ours only: nats-server lets it stay until it goes by itself. Here the leaves are the clients' users."""
    port = free_port()
    listener = f'leafnodes {{ listen: "127.0.0.1:{port}" }}\n'
    dials = f'remotes: [ {{ url: "nats-leaf://alice:a@127.0.0.1:{port}" }} ]'
    with (
        leafnode(tmp_path / "hub", config=listener + users(ALICE, BOB)) as running,
        leafnode(tmp_path / "spoke", config=f"leafnodes {{ {dials} }}") as spoke,
    ):
        hub = Site(running)

        def told(words: str, since: int) -> None:
            deadline = time.monotonic() + DEADLINE_S
            while words not in spoke.output(since):
                assert time.monotonic() < deadline, spoke.output()
                time.sleep(0.01)

        told("leaf link up", 0)
        mark = spoke.log.stat().st_size
        hub.change(listener + users(BOB))
        told("lost", mark)
        told("Authorization Violation", mark)


def test_limits_of_streams_hold_from_now_on(start: Callable[[str], Site], tmp_path: Path) -> None:
    def config(size: str) -> str:
        account = f"A {{ jetstream: {{ max_file: {size} }}, users: [ {{ user: a, password: a }} ] }}"
        return f'jetstream {{ store_dir: "{tmp_path / "js"}" }}\naccounts {{ {account} }}'

    site = start(config("1MB"))

    def create(name: str) -> bytes:
        body = json.dumps({"name": name, "subjects": [name], "storage": "file", "max_bytes": 3 << 20}).encode()
        with site.connect(user="a", **{"pass": "a"}) as wire:
            wire.send(b"SUB r 1\r\nPUB $JS.API.STREAM.CREATE.%b r %d\r\n%b\r\n" % (name.encode(), len(body), body))
            wire.until(b"MSG r 1 ")
            wire.until(b"\r\n")
            return wire.until(b"\r\n")

    assert b"error" in create("early")
    site.change(config("5MB"))
    assert b'"max_bytes":3145728' in create("late")


def test_users_by_jwt_stay_through_a_reload(start: Callable[[str], Site]) -> None:
    operator = Operator()
    account = operator.account("A")
    config = operator.in_memory((account, account.jwt()))
    site = start(config)
    with Wire(site.port) as wire:
        nonce = json.loads(wire.info.removeprefix(b"INFO "))["nonce"]
        wire.send(account.user().connect(nonce, protocol=0) + b"SUB x 1\r\nPING\r\n")
        wire.until(b"PONG\r\n")
        site.change(f"{config}\nmax_payload: 3")
        wire.send(b"PUB x 3\r\nabc\r\nPING\r\n")
        assert wire.until(b"PONG\r\n") == b"MSG x 1 3\r\nabc\r\nPONG\r\n"
        wire.send(b"PUB x 4\r\nabcd\r\n")
        assert wire.until(b"\r\n") == b"-ERR 'Maximum Payload Violation'\r\n"


def accounts(one: str, two: str, more: str = "") -> str:
    return f"accounts {{ one {{ users: [ {{ {ALICE} }} ], {one} }}, two {{ users: [ {{ {BOB} }} ], {two} }} }}\n{more}"


def hears(sender: Wire, subject: str, receiver: Wire) -> bytes:
    """What a receiver gets of one message."""
    sender.send(b"PUB %b 1\r\nx\r\nPING\r\n" % subject.encode())
    sender.until(b"PONG\r\n")
    receiver.send(b"PING\r\n")
    return receiver.until(b"PONG\r\n").removesuffix(b"PONG\r\n")


def test_what_accounts_share_changes(start: Callable[[str], Site]) -> None:
    shown = "exports: [ {stream: news}, {service: svc} ]"
    news, svc = "{stream: {account: one, subject: news}, prefix: %s}", "{service: {account: one, subject: svc}}"
    site = start(accounts(shown, ""))
    with site.connect(user="alice", **{"pass": "a"}) as alice, site.connect(user="bob", **{"pass": "b"}) as bob:
        alice.send(b"SUB svc 1\r\nPING\r\n")
        bob.send(b"SUB a.news 1\r\nSUB b.news 2\r\nPING\r\n")
        for wire in (alice, bob):
            wire.until(b"PONG\r\nPONG\r\n")
        assert hears(alice, "news", bob) == b""
        site.change(accounts(shown, f"imports: [ {news % 'a'}, {svc} ]"))
        assert hears(alice, "news", bob) == b"MSG a.news 1 1\r\nx\r\n"
        assert hears(bob, "svc", alice) == b"MSG svc 1 1\r\nx\r\n"
        site.change(accounts(shown, f"imports: [ {news % 'b'} ]"))
        assert hears(alice, "news", bob) == b"MSG b.news 2 1\r\nx\r\n"
        assert hears(bob, "svc", alice) == b""
        site.change(accounts("", ""))
        assert hears(alice, "news", bob) == b""
        site.change(accounts(shown, "imports: [ {stream: {account: none, subject: x}} ]"), FAILED)


def test_mappings_and_limits_of_accounts_change(start: Callable[[str], Site]) -> None:
    site = start(accounts("mappings { old: new }", "limits { max_payload: 10 }"))
    with site.connect(user="alice", **{"pass": "a"}) as alice, site.connect(user="bob", **{"pass": "b"}) as bob:
        for wire in (alice, bob):
            wire.send(b"SUB > 1\r\nPING\r\n")
            wire.until(b"PONG\r\nPONG\r\n")
        assert hears(alice, "old", alice) == b""  # it came before the first PONG
        site.change(accounts("mappings { old: newer }", "limits { max_payload: 2 }"))
        alice.send(b"PUB old 1\r\nx\r\n")
        assert alice.until(b"x\r\n") == b"MSG newer 1 1\r\nx\r\n"
        bob.send(b"PUB a 3\r\nxyz\r\n")
        assert bob.rest() == b"-ERR 'Maximum Payload Violation'\r\n"


def test_default_permissions_change(start: Callable[[str], Site]) -> None:
    site = start(accounts("", ""))
    with site.connect(user="alice", **{"pass": "a"}) as alice:
        alice.send(b"SUB x 1\r\nPING\r\n")
        alice.until(b"PONG\r\nPONG\r\n")
        site.change(accounts('default_permissions { publish { deny: "no" } }', ""))
        alice.send(b"PUB no 0\r\n\r\n")
        assert alice.until(b"\r\n") == b"-ERR 'Permissions Violation for Publish to \"no\"'\r\n"
        site.change(accounts("", ""))
        assert hears(alice, "no", alice) == b""


def ask_jetstream(site: Site, request: str, body: str = "", **user: str) -> dict[str, Any]:
    """The answer of JetStream's API; nobody is there: an empty one."""
    with site.connect(headers=True, no_responders=True, **user) as wire:
        wire.send(f"SUB r 1\r\nPUB $JS.API.{request} r {len(body)}\r\n{body}\r\n".encode())
        wire.until(b"PONG\r\n")
        head = wire.until(b"\r\n")
        if head.startswith(b"HMSG"):
            return {}
        return dict(json.loads(wire.until(b"\r\n")))


STREAM = json.dumps({"name": "S", "subjects": ["s"], "storage": "file"})


def test_jetstream_of_an_account_goes_and_comes_back(start: Callable[[str], Site], tmp_path: Path) -> None:
    store = f'jetstream {{ store_dir: "{tmp_path / "js"}" }}'
    alice = {"user": "alice", "pass": "a"}
    site = start(accounts("jetstream: enabled", "", store))
    assert ask_jetstream(site, "STREAM.CREATE.S", STREAM, **alice)["config"]["name"] == "S"
    with site.connect(**alice) as wire:
        wire.send(b"SUB r 1\r\nPUB s r 1\r\nx\r\n")
        wire.until(b"MSG r 1 ")
        site.change(accounts("", "jetstream: enabled", store))
    assert ask_jetstream(site, "STREAM.INFO.S", **alice).get("error", {"code": 503})["code"] == 503
    assert ask_jetstream(site, "STREAM.NAMES", user="bob", **{"pass": "b"})["total"] == 0
    site.change(accounts("jetstream: enabled", "jetstream: enabled", store))
    assert ask_jetstream(site, "STREAM.INFO.S", **alice)["state"]["messages"] == 1


def test_jetstream_as_a_whole_goes_and_comes_back(start: Callable[[str], Site], tmp_path: Path) -> None:
    store = f'jetstream {{ store_dir: "{tmp_path / "js"}", max_file: 1GB }}'
    site = start(store)
    assert ask_jetstream(site, "STREAM.CREATE.S", STREAM)["config"]["name"] == "S"
    for refused in ("max_file: 900MB", "max_file: 1GB, domain: x", f'max_file: 1GB, store_dir: "{tmp_path}/other"'):
        config = refused if "store_dir" in refused else f'store_dir: "{tmp_path / "js"}", {refused}'
        site.change(f"jetstream {{ {config} }}", FAILED)
    site.change(store.replace("1GB", "2GB"))
    site.change("debug: false")
    with site.connect() as wire:
        assert "jetstream" not in json.loads(wire.info.removeprefix(b"INFO "))
    site.change(store)
    assert ask_jetstream(site, "STREAM.INFO.S")["config"]["name"] == "S"
    with site.connect() as wire:
        assert json.loads(wire.info.removeprefix(b"INFO "))["jetstream"] is True
