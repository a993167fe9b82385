"""Accounts that are not here: fetched from a web server, or from a hub over the system account's leaf link."""

import asyncio
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from tests.conformance.conftest import MAKERS
from tests.conformance.test_jwt import VIOLATION, answer, ask, connect
from tests.support.ports import free_port
from tests.support.servers import Broker, jetstream, leafnode, stock_hub
from tests.support.trust import JETSTREAM, Account, Operator

DEADLINE_S = 10.0
Starter = Callable[[str], Broker]


@pytest.fixture(params=list(MAKERS))
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Starter]:
    started: list[Broker] = []

    def starter(config: str) -> Broker:
        broker = MAKERS[request.param](tmp_path / f"{request.param}{len(started)}", config=config)
        started.append(broker)
        broker.start()
        return broker

    yield starter
    for broker in started:
        broker.stop()


class Site(http.server.ThreadingHTTPServer):
    """Gives JWTs by account id."""

    def __init__(self) -> None:
        self.jwts: dict[str, str] = {}
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Page)
        self.url = f"http://127.0.0.1:{self.server_port}/jwt/v1/accounts/"


class Page(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        account = self.path.rpartition("/")[2]
        self.server.asked.append(account)
        text = self.server.jwts.get(account, "") if account else "here"  # of the folder, at nats-server's start
        self.send_response(200 if text else 404)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Not on the terminal."""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def works(broker: Broker, account: Account) -> bool:
    """Whether a user of the account is let in before long."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if answer(broker, account.user()) == b"PONG\r\n":
            return True
        time.sleep(0.05)
    return False


async def test_accounts_of_a_web_server(start: Starter, site: Site, tmp_path: Path) -> None:
    operator = Operator()
    account, unknown, foreign = operator.account("one"), operator.account("none"), Operator().account("foreign")
    exporter = operator.account("exporter")
    wanted = {"type": "service", "subject": "svc", "account": exporter.id}
    site.jwts = {
        operator.system.id: operator.system.jwt(),
        account.id: account.jwt(limits=JETSTREAM, imports=[wanted]),
        exporter.id: exporter.jwt(exports=[{"type": "service", "subject": "svc"}]),
        foreign.id: foreign.jwt(),
        unknown.id: account.jwt(),
    }
    broker = start(f'operator: {operator.jwt()}\nresolver: URL("{site.url}")\n{jetstream(tmp_path)}')
    assert answer(broker, account.user()) == b"PONG\r\n"
    assert answer(broker, unknown.user()) == VIOLATION
    assert answer(broker, foreign.user()) == VIOLATION
    assert answer(broker, operator.account("nobody").user()) == VIOLATION
    asker, server = await connect(broker, account.user()), await connect(broker, exporter.user())
    assert site.asked.count(account.id) == 1
    assert (await asker.jetstream().account_info()).streams == 0

    async def reply(message: Msg) -> None:
        await message.respond(b"yes")

    await server.subscribe("svc", cb=reply)
    await server.flush()
    assert (await asker.request("svc", b"", timeout=5)).data == b"yes"
    for client in (asker, server):
        await client.close()


def test_a_web_server_that_is_not_there(tmp_path: Path) -> None:
    """leafnode starts, and refuses; nats-server does not start: a site has no network for a while."""
    operator = Operator()
    config = f'operator: {operator.jwt()}\nresolver: URL("http://127.0.0.1:{free_port()}/")\n'
    with leafnode(tmp_path, config=config) as broker:
        assert answer(broker, operator.account("one").user()) == VIOLATION


def test_only_pinned_accounts(start: Starter, site: Site) -> None:
    operator = Operator()
    one, two = operator.account("one"), operator.account("two")
    site.jwts = {each.id: each.jwt() for each in (operator.system, one, two)}
    pinned = f"resolver_pinned_accounts: [{one.id}]"
    broker = start(f'operator: {operator.jwt()}\nresolver: URL("{site.url}")\n{pinned}\n')
    assert answer(broker, one.user()) == b"PONG\r\n"
    assert answer(broker, two.user()) == VIOLATION


def test_a_default_sentinel(start: Starter) -> None:
    operator = Operator()
    account = operator.account("one")
    sentinel = account.user(bearer_token=True)
    broker = start(operator.in_memory((account, account.jwt())) + f"default_sentinel: {sentinel.jwt}\n")
    assert answer(broker, sentinel, jwt="", sig="") == b"PONG\r\n"
    assert answer(broker, account.user(bearer_token=True), jwt="x", sig="") == b"PONG\r\n"


class Chain:
    """A hub with all accounts, and a server behind a leaf link of the system account."""

    def __init__(self, start: Starter, folder: Path, resolver: str) -> None:
        self.operator = Operator()
        self.account = self.operator.account("one")
        port = free_port()
        creds = self.operator.system.user().write_creds(folder / "sys.creds")
        config = self.operator.in_folder(folder / "hub-jwt", (self.account, self.account.jwt()))
        self.hub = stock_hub(folder / "hub", config=f'{config}leafnodes {{ listen: "127.0.0.1:{port}" }}\n')
        self.hub.start()
        remote = (
            f'{{ url: "nats-leaf://127.0.0.1:{port}", credentials: "{creds}", account: {self.operator.system.id} }}'
        )
        preload = f"resolver_preload {{ {self.operator.system.id}: {self.operator.system.jwt()} }}\n"
        self.site = start(
            f"operator: {self.operator.jwt()}\n{resolver}\n{preload}leafnodes {{ remotes: [ {remote} ] }}\n"
        )

    def __enter__(self) -> "Chain":
        return self

    def __exit__(self, *exc: object) -> None:
        self.hub.stop()


async def test_a_cache_asks_the_hub(start: Starter, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with Chain(start, tmp_path, f'resolver {{ type: cache, dir: "{folder}" }}') as chain:
        account, unknown = chain.account, chain.operator.account("unknown")
        assert works(chain.site, account)
        assert (folder / f"{account.id}.jwt").exists()
        system = await connect(chain.site, chain.operator.system.user())
        done = await ask(system, "$SYS.REQ.CLAIMS.UPDATE", account.jwt(limits={"payload": 3}))
        assert done["data"]["message"] in ("jwt updated cache", "jwt updated")  # of the two servers, who is quicker
        done = await ask(system, f"$SYS.REQ.ACCOUNT.{unknown.id}.CLAIMS.UPDATE", unknown.jwt())
        assert done["data"]["message"] in ("jwt update cache skipped", "jwt updated")
        chain.hub.stop()
        assert answer(chain.site, account.user()) == b"PONG\r\n"
        await system.close()


async def test_a_full_resolver_asks_the_hub_too(start: Starter, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    with Chain(start, tmp_path, f'resolver {{ type: full, dir: "{folder}", interval: "1s" }}') as chain:
        assert works(chain.site, chain.account)
        assert (folder / f"{chain.account.id}.jwt").exists()
        system = await connect(chain.hub, chain.operator.system.user())
        newer = chain.account.jwt(iat=int(time.time()) + 1, limits={"payload": 3})
        await ask(system, "$SYS.REQ.CLAIMS.UPDATE", newer)
        await system.close()
        deadline = time.monotonic() + DEADLINE_S
        while (folder / f"{chain.account.id}.jwt").read_text() != newer:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_a_full_resolver_gets_what_it_missed(start: Starter, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    with Chain(start, tmp_path, f'resolver {{ type: full, dir: "{folder}", interval: "1s" }}') as chain:
        assert works(chain.site, chain.account)
        chain.site.stop()
        system = await connect(chain.hub, chain.operator.system.user())
        newer, late = chain.account.jwt(iat=int(time.time()) + 1), chain.operator.account("late")
        for jwt in (newer, late.jwt()):
            await ask(system, "$SYS.REQ.CLAIMS.UPDATE", jwt)
        await system.close()
        chain.site.start()
        deadline = time.monotonic() + DEADLINE_S
        while not (folder / f"{late.id}.jwt").exists() or (folder / f"{chain.account.id}.jwt").read_text() != newer:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
