"""Auth callout: a service decides who may connect and as whom, on both servers (ADR-26)."""

import asyncio
import base64
import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from leafnode.net.secrets import SealingKey
from tests.conformance.conftest import MAKERS
from tests.conformance.raw import Wire
from tests.conformance.test_jwt import VIOLATION, connect, nonce_of
from tests.support.servers import Broker, leafnode
from tests.support.trust import UNLIMITED_USER, Key, Operator, claims

HOUR = 3600
Answer = Callable[["Service", dict[str, Any]], str]


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


class Service:
    """An auth service: decides by the name that a client gives."""

    def __init__(self, client: Client, issuer: Key) -> None:
        self.client, self.issuer = client, issuer
        self.curve, self.seals, self.sealed_by = SealingKey(), True, list[str]()
        self.asked: list[dict[str, Any]] = []
        self.answers: dict[str, Answer] = {}

    async def start(self) -> None:
        await self.client.subscribe("$SYS.REQ.USER.AUTH", cb=self._take)
        await self.client.flush()

    async def _take(self, message: Msg) -> None:
        server = (message.headers or {}).get("Nats-Server-Xkey", "")
        self.sealed_by.append(server)
        data = self.curve.open(message.data, server) if server else message.data
        request = claims_of(data.decode())
        self.asked.append(request)
        answer = self.answers.get(request["nats"]["connect_opts"].get("user", ""))
        if answer is not None:
            text = answer(self, request).encode()
            await message.respond(self.curve.seal(text, server) if server and self.seals else text)

    def says(self, request: dict[str, Any], *, issuer: Key | None = None, **body: Any) -> str:
        subject = body.pop("sub", request["nats"]["user_nkey"])
        audience = body.pop("aud", request["nats"]["server_id"]["id"])
        return claims(issuer or self.issuer, subject, "authorization_response", body, aud=audience)

    def user(self, request: dict[str, Any], audience: str = "", *, issuer: Key | None = None, **rest: Any) -> str:
        """A user's JWT for whoever asks."""
        fields = {key: rest.pop(key) for key in ("exp", "iat", "nbf", "name") if key in rest}
        fields |= {"aud": audience} if audience else {}
        subject = rest.pop("sub", request["nats"]["user_nkey"])
        return claims(issuer or self.issuer, subject, "user", {**UNLIMITED_USER, **rest}, **fields)

    def admits(self, request: dict[str, Any], audience: str, **rest: Any) -> str:
        return self.says(request, jwt=self.user(request, audience, **rest))


CONFIG = """
accounts {{
  AUTH {{ users: [ {{user: auth, password: p}} ] }}
  APP {{ users: [ {{user: known, password: p}} ], default_permissions {{ publish {{ deny: "by.default" }} }} }}
  OTHER {{ users: [ {{user: other, password: p}} ] }}
}}
authorization {{ timeout: 1
  auth_callout {{ issuer: {issuer}, auth_users: [auth], account: AUTH, allowed_accounts: [APP] }} }}
"""


@pytest.fixture(scope="module", params=list(MAKERS))
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broker, Key]]:
    issuer = Key("A")
    folder = tmp_path_factory.mktemp(request.param)
    with MAKERS[request.param](folder, config=CONFIG.format(issuer=issuer.public)) as broker:
        yield broker, issuer


@pytest.fixture
async def service(running: tuple[Broker, Key]) -> AsyncIterator[Service]:
    broker, issuer = running
    client = await nats.connect(broker.url, user="auth", password="p", allow_reconnect=False)
    found = Service(client, issuer)
    await found.start()
    yield found
    await client.close()


async def told(broker: Broker, after: bytes = b"", **options: Any) -> bytes:
    """What a client gets for CONNECT, `after` and PING."""

    def talk() -> bytes:
        with Wire(broker.port, timeout=10) as wire:
            line = json.dumps({"verbose": False, "protocol": 0, **options}).encode()
            wire.send(b"CONNECT " + line + b"\r\n" + after + b"PING\r\n")
            seen = b""
            while not seen.endswith(b"PONG\r\n") and b"Violation'\r\n" not in seen[-40:]:
                seen += wire.until(b"\r\n")
            return seen.replace(b"PING\r\n", b"")

    return await asyncio.to_thread(talk)


async def test_a_client_gets_the_account_and_permissions_that_the_service_says(
    running: tuple[Broker, Key], service: Service
) -> None:
    broker, _ = running
    service.answers["alice"] = lambda s, r: s.admits(r, "APP", name="bob", pub={"deny": ["no"]})
    client = await nats.connect(broker.url, user="alice", password="secret", name="me", allow_reconnect=False)
    info = json.loads((await client.request("$SYS.REQ.USER.INFO", timeout=5)).data)["data"]
    assert (info["user"], info["account"], info["permissions"]["publish"]) == ("bob", "APP", {"deny": ["no"]})
    await client.close()
    asked = service.asked[0]
    body = asked["nats"]
    assert (asked["aud"], asked["sub"]) == ("nats-authorization-request", service.issuer.public)
    assert asked["iss"] == body["server_id"]["id"]
    assert asked["exp"] > time.time()
    assert (body["type"], body["version"]) == ("authorization_request", 2)
    assert body["server_id"].keys() >= {"name", "host", "id", "version"}
    assert body["user_nkey"][0] == "U"
    assert (body["client_info"]["user"], body["client_info"]["name"]) == ("alice", "me")
    assert (body["client_info"]["kind"], body["client_info"]["type"]) == ("Client", "nats")
    assert body["client_info"]["host"] == "127.0.0.1"
    shown = body["connect_opts"]
    assert (shown["user"], shown["pass"], shown["name"], shown["lang"]) == ("alice", "secret", "me", "python3")


REFUSED: dict[str, Answer] = {
    "with an error": lambda s, r: s.says(r, error="not you"),
    "without a word": lambda s, r: "",
    "with nonsense": lambda s, r: "x",
    "for another server": lambda s, r: s.says(r, aud=Key("N").public, jwt=s.user(r, "APP")),
    "for another question": lambda s, r: s.says(r, sub=Key("U").public, jwt=s.user(r, "APP")),
    "with another user": lambda s, r: s.says(r, jwt=s.user(r, "APP", sub=Key("U").public)),
    "with a stranger's user": lambda s, r: s.says(r, jwt=s.user(r, "APP", issuer=Key("A"))),
    "with an expired user": lambda s, r: s.admits(r, "APP", exp=int(time.time()) - HOUR),
    "with an unknown account": lambda s, r: s.admits(r, "NONE"),
    "with no account": lambda s, r: s.admits(r, ""),
    "with an issuer's account": lambda s, r: s.admits(r, "APP", issuer_account=s.issuer.public),
}


@pytest.mark.parametrize("case", list(REFUSED))
async def test_whom_the_service_refuses(running: tuple[Broker, Key], service: Service, case: str) -> None:
    service.answers["alice"] = REFUSED[case]
    assert await told(running[0], user="alice") == VIOLATION
    assert len(service.asked) == 1


async def test_what_comes_early_is_done_in_time(running: tuple[Broker, Key], service: Service) -> None:
    service.answers["alice"] = lambda s, r: s.admits(r, "APP")
    early = b"SUB a 1\r\nPUB a 2\r\nhi\r\n"
    assert await told(running[0], early, user="alice") == b"MSG a 1 2\r\nhi\r\nPONG\r\n"


async def test_who_is_asked_about(running: tuple[Broker, Key], service: Service) -> None:
    """Users of the file, too, but for those of accounts that are not named; and never the service itself."""
    broker, _ = running
    for user, is_asked in (("known", True), ("other", False), ("auth", False)):
        service.asked.clear()
        answered = await told(broker, user=user, **{"pass": "p"})
        assert answered == (VIOLATION if is_asked else b"PONG\r\n")
        assert bool(service.asked) is is_asked
    service.asked.clear()
    service.answers[""] = lambda s, r: s.admits(r, "APP")
    assert await told(broker, auth_token="token") == b"PONG\r\n"
    assert await told(broker) == b"PONG\r\n"
    assert await told(broker, user="auth", **{"pass": "wrong"}) == VIOLATION
    assert len(service.asked) == 2


async def test_who_comes_into_its_account_may_not_ask_the_service(
    running: tuple[Broker, Key], service: Service
) -> None:
    broker, _ = running
    service.answers["alice"] = lambda s, r: s.admits(r, "AUTH")
    denied = b"-ERR 'Permissions Violation for Publish to \"$SYS.REQ.USER.AUTH\"'\r\nPONG\r\n"
    publish = b"PUB $SYS.REQ.USER.AUTH 0\r\n\r\n"
    assert await told(broker, publish, user="alice") == denied


async def test_a_user_that_ends(running: tuple[Broker, Key], service: Service) -> None:
    service.answers["alice"] = lambda s, r: s.admits(r, "APP", exp=int(time.time()) + 2)

    def stay() -> bytes:
        with Wire(running[0].port, timeout=10) as wire:
            wire.send(b'CONNECT {"user":"alice","verbose":false}\r\nPING\r\n')
            return wire.rest().replace(b"PING\r\n", b"")

    assert await asyncio.to_thread(stay) == b"PONG\r\n-ERR 'User Authentication Expired'\r\n"


# --- operator mode


class House:
    """An operator's server with a service's account and another one."""

    def __init__(self, start: Callable[[str], Broker], xkey: str = "") -> None:
        self.operator = Operator()
        self.auth, self.app, self.far = (self.operator.account(name) for name in ("auth", "app", "far"))
        self.service, self.sentinel = self.auth.user(), self.auth.user(bearer_token=True, pub={"deny": [">"]})
        body = {"auth_users": [self.service.key.public], "allowed_accounts": [self.app.id], "xkey": xkey}
        jwts = (self.auth, self.auth.jwt(authorization=body)), (self.app, self.app.jwt()), (self.far, self.far.jwt())
        self.broker = start(self.operator.in_memory(*jwts))

    async def serve(self, answer: Answer) -> Service:
        service = Service(await connect(self.broker, self.service), self.auth.key)
        service.answers["alice"] = answer
        await service.start()
        return service

    async def enter(self) -> bytes:
        return await told(self.broker, jwt=self.sentinel.jwt, user="alice", **{"pass": "x"})


@pytest.fixture(params=list(MAKERS))
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    started: list[Broker] = []

    def start(config: str) -> Broker:
        started.append(MAKERS[request.param](tmp_path, config=config))
        started[0].start()
        return started[0]

    yield House(start)
    started[0].stop()


async def test_a_service_of_an_account(house: House) -> None:
    answers: dict[str, tuple[Answer, bytes]] = {
        "into another account": (lambda s, r: s.says(r, jwt=s.user(r, issuer=house.app.key)), b"PONG\r\n"),
        "into its own": (lambda s, r: s.says(r, jwt=s.user(r)), b"PONG\r\n"),
        "into one that is not allowed": (lambda s, r: s.says(r, jwt=s.user(r, issuer=house.far.key)), VIOLATION),
        "by a stranger": (lambda s, r: s.says(r, issuer=Key("A"), jwt=s.user(r, issuer=house.app.key)), VIOLATION),
        "with an error": (lambda s, r: s.says(r, error="no"), VIOLATION),
    }
    service = await house.serve(lambda s, r: "")
    for case, (answer, expected) in answers.items():
        service.answers = dict.fromkeys(service.answers, answer)
        assert await house.enter() == expected, case
    asked = service.asked[0]["nats"]
    assert service.asked[0]["sub"] == house.auth.id
    assert asked["connect_opts"]["jwt"] == house.sentinel.jwt
    assert asked["connect_opts"]["pass"] == "x"
    await service.client.close()


@pytest.mark.parametrize("maker", list(MAKERS))
@pytest.mark.parametrize("seals", [True, False])
async def test_sealed_requests(tmp_path: Path, maker: str, *, seals: bool) -> None:
    """Sealed with a curve key; the answer may be."""
    curve, started = SealingKey(), list[Broker]()

    def start(config: str) -> Broker:
        started.append(MAKERS[maker](tmp_path, config=config))
        started[0].start()
        return started[0]

    house = House(start, curve.public)
    try:
        service = await house.serve(lambda s, r: s.says(r, jwt=s.user(r, issuer=house.app.key)))
        service.curve, service.seals = curve, seals
        assert await house.enter() == b"PONG\r\n"
        assert service.sealed_by[0].startswith("X")
        assert service.asked[0]["nats"]["server_id"]["xkey"] == service.sealed_by[0]
        service.answers["alice"] = lambda s, r: s.says(r, error="no")
        assert await house.enter() == VIOLATION
        await service.client.close()
    finally:
        started[0].stop()


@pytest.mark.parametrize("maker", list(MAKERS))
async def test_sealed_requests_of_a_configuration(tmp_path: Path, maker: str) -> None:
    issuer, curve = Key("A"), SealingKey()
    config = CONFIG.format(issuer=issuer.public).replace("auth_users", f"xkey: {curve.public}, auth_users")
    with MAKERS[maker](tmp_path, config=config) as broker:
        service = Service(await nats.connect(broker.url, user="auth", password="p"), issuer)
        service.curve = curve
        service.answers["alice"] = lambda s, r: s.admits(r, "APP")
        await service.start()
        assert await told(broker, user="alice") == b"PONG\r\n"
        await service.client.close()


async def test_a_service_that_is_not_there(house: House) -> None:
    assert await house.enter() == VIOLATION
    with Wire(house.broker.port) as wire:
        wire.send(house.service.connect(nonce_of(wire), protocol=0) + b"PING\r\n")
        assert wire.until(b"\r\n") == b"PONG\r\n"


async def test_a_service_goes_with_the_configuration(tmp_path: Path) -> None:
    """Of leafnode alone: its own way to reload."""
    issuer = Key("A")
    with leafnode(tmp_path, config=CONFIG.format(issuer=issuer.public)) as broker:
        auth = await nats.connect(broker.url, user="auth", password="p")
        service = Service(auth, issuer)
        service.answers["alice"] = lambda s, r: s.admits(r, "APP")
        await service.start()
        assert await told(broker, user="alice") == b"PONG\r\n"
        (broker.folder / "server.conf").write_text(
            f'listen: "127.0.0.1:{broker.port}"\n{CONFIG.partition("authorization {{")[0].format()}\n'
        )
        broker.signal(signal.SIGHUP)
        async with asyncio.timeout(10):
            while "Reloaded server configuration" not in broker.output():
                await asyncio.sleep(0.01)
        assert await told(broker, user="alice") == VIOLATION
        assert len(service.asked) == 1
        assert auth.is_connected
        await auth.close()
