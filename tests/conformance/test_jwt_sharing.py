"""Imports, exports, mappings and default permissions inside account JWTs, on both servers."""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from tests.conformance.conftest import MAKERS
from tests.conformance.raw import Wire
from tests.conformance.test_jwt import HOUR, ask, connect, enter, nonce_of
from tests.support.servers import Broker
from tests.support.trust import Account, Key, Operator, claims

DEADLINE_S = 10.0


class Market:
    """A server with a directory of accounts, and its system account's client."""

    def __init__(self, broker: Broker, operator: Operator, system: Client) -> None:
        self.broker, self.operator, self.system = broker, operator, system

    async def push(self, account: Account, **body: Any) -> dict[str, Any]:
        return await ask(self.system, "$SYS.REQ.CLAIMS.UPDATE", account.jwt(**body))


@pytest.fixture(scope="module", params=list(MAKERS))
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Broker, Operator]]:
    operator, folder = Operator(), tmp_path_factory.mktemp(request.param)
    config = operator.in_folder(folder / "jwt") + "authorization { timeout: 10 }\n"
    with MAKERS[request.param](folder, config=config) as broker:
        yield broker, operator


@pytest.fixture
async def market(running: tuple[Broker, Operator]) -> AsyncIterator[Market]:
    broker, operator = running
    system = await connect(broker, operator.system.user())
    yield Market(broker, operator, system)
    await system.close()


class Pair:
    """Clients of an exporter and of an importer."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.exporter, self.importer = market.operator.account("exporter"), market.operator.account("importer")
        self.clients: list[Client] = []

    async def __aenter__(self) -> "Pair":
        return self

    async def __aexit__(self, *exc: object) -> None:
        for client in self.clients:
            await client.close()

    async def connect(self) -> tuple[Client, Client]:
        self.clients += [await connect(self.market.broker, each.user()) for each in (self.exporter, self.importer)]
        return self.clients[0], self.clients[1]

    def wants(self, kind: str, subject: str, **rest: Any) -> dict[str, Any]:
        return {"name": "i", "type": kind, "subject": subject, "account": self.exporter.id, **rest}

    def activation(self, kind: str, subject: str, *, issuer: Key | None = None, **rest: Any) -> str:
        """The exporter's word that the importer may import."""
        fields = {key: rest.pop(key) for key in ("exp", "iat", "nbf") if key in rest}
        signer = issuer or self.exporter.key
        body = {"subject": subject, "kind": kind, **rest}
        return claims(signer, rest.pop("to", self.importer.id), "activation", body, **fields)


def export(kind: str, subject: str, **rest: Any) -> dict[str, Any]:
    return {"name": "e", "type": kind, "subject": subject, **rest}


async def serve(client: Client, subject: str, *answers: bytes) -> None:
    async def answer(message: Any) -> None:
        for data in answers or (message.subject.encode(),):
            await message.respond(data)

    await client.subscribe(subject, cb=answer)
    await client.flush()


async def answered(client: Client, subject: str) -> bytes | None:
    """What a request gets; None: there is nobody."""
    try:
        return (await client.request(subject, b"q", timeout=2)).data
    except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
        return None


async def answers(client: Client, subject: str, expected: bytes) -> None:
    """Before long: on a busy machine nats-server is at times a moment behind its own answers."""
    deadline = time.monotonic() + DEADLINE_S
    while (found := await answered(client, subject)) != expected:
        assert time.monotonic() < deadline, found


async def reaches(sender: Client, subject: str, receiver: Client, local: str) -> None:
    """Before long."""
    deadline = time.monotonic() + DEADLINE_S
    while not await arrives(sender, subject, receiver, local):
        assert time.monotonic() < deadline


async def arrives(sender: Client, subject: str, receiver: Client, local: str) -> bool:
    """Whether what is sent is received within a moment; what is sent afterwards is the sign that it was not."""
    heard = await receiver.subscribe(local)
    await receiver.flush()
    await sender.publish(subject, b"x")
    await sender.flush()
    await receiver.publish(local.replace(">", "end").replace("*", "end"), b"end")
    first = await heard.next_msg(timeout=5)
    await heard.unsubscribe()
    return bool(first.data == b"x")


async def test_a_service_and_a_stream_are_imported(market: Market) -> None:
    async with Pair(market) as pair:
        shown = [export("service", "svc.*"), export("stream", "news.>")]
        await market.push(pair.exporter, exports=shown)
        wanted = [
            pair.wants("service", "svc.*", local_subject="ask.$1"),
            pair.wants("stream", "news.>", local_subject="n.>"),
        ]
        await market.push(pair.importer, imports=wanted)
        alice, bob = await pair.connect()
        await serve(alice, "svc.*")
        await answers(bob, "ask.a", b"svc.a")
        await reaches(alice, "news.x", bob, "n.>")
        assert not await arrives(alice, "other.x", bob, "other.*")


async def test_deprecated_spellings(market: Market) -> None:
    """`to` of a service is the exporter's name; of a stream it is a prefix."""
    async with Pair(market) as pair:
        await market.push(pair.exporter, exports=[export("service", "svc"), export("stream", "news")])
        wanted = [pair.wants("service", "mine", to="svc"), pair.wants("stream", "news", to="from.them")]
        await market.push(pair.importer, imports=wanted)
        alice, bob = await pair.connect()
        await serve(alice, "svc")
        await answers(bob, "mine", b"svc")
        await reaches(alice, "news", bob, "from.them.news")


async def test_how_often_a_service_may_answer(market: Market) -> None:
    async with Pair(market) as pair:
        shown = [export("service", "one"), export("service", "many", response_type="Stream")]
        await market.push(pair.exporter, exports=shown)
        await market.push(pair.importer, imports=[pair.wants("service", "one"), pair.wants("service", "many")])
        alice, bob = await pair.connect()
        await serve(alice, "*", b"1", b"2", b"")
        heard = await bob.subscribe("in.*")
        for subject in ("one", "many"):
            await bob.publish(subject, b"", reply=f"in.{subject}")
            await bob.flush()
        got: list[tuple[str, bytes]] = []
        while got.count(("in.many", b"")) == 0:
            message = await heard.next_msg(timeout=5)
            got.append((message.subject, message.data))
        assert got == [("in.one", b"1"), ("in.many", b"1"), ("in.many", b"2"), ("in.many", b"")]


async def test_imports_come_and_go_with_new_claims(market: Market) -> None:
    async with Pair(market) as pair:
        shown = [export("service", "svc"), export("stream", "news")]
        wanted = [pair.wants("service", "svc"), pair.wants("stream", "news")]
        await market.push(pair.exporter, exports=shown)
        await market.push(pair.importer)
        alice, bob = await pair.connect()
        await serve(alice, "svc")
        assert await answered(bob, "svc") is None
        await market.push(pair.importer, imports=wanted)
        await answers(bob, "svc", b"svc")
        await reaches(alice, "news", bob, "news")
        await market.push(pair.exporter, exports=shown[:1])
        assert not await arrives(alice, "news", bob, "news")
        await answers(bob, "svc", b"svc")
        await market.push(pair.exporter)
        assert await answered(bob, "svc") is None
        await market.push(pair.exporter, exports=shown)
        await answers(bob, "svc", b"svc")
        await reaches(alice, "news", bob, "news")
        await market.push(pair.importer)
        assert await answered(bob, "svc") is None
        assert not await arrives(alice, "news", bob, "news")


async def test_the_exporter_comes_later_than_the_importer(market: Market) -> None:
    async with Pair(market) as pair:
        wanted = [pair.wants("service", "svc"), pair.wants("stream", "news")]
        await market.push(pair.importer, imports=wanted)
        with Wire(market.broker.port, timeout=DEADLINE_S) as wire:  # nats-server looks for the exporter for 2 s, twice
            wire.send(pair.importer.user().connect(nonce_of(wire), protocol=0) + b"PING\r\n")
            assert wire.until(b"PONG\r\n")
        await market.push(pair.exporter, exports=[export("service", "svc"), export("stream", "news")])
        alice, bob = await pair.connect()
        await serve(alice, "svc")
        await answers(bob, "svc", b"svc")
        await reaches(alice, "news", bob, "news")


WORKS, NEVER, REFUSED = "works", "is not imported", "the whole JWT is refused"
TOKENS: dict[str, tuple[str, Callable[[Pair, Key], str]]] = {
    "good": (WORKS, lambda pair, _: pair.activation("service", "private.*")),
    "for what is asked only": (WORKS, lambda pair, _: pair.activation("service", "private.a")),
    "by a signing key": (
        WORKS,
        lambda pair, key: pair.activation("service", "private.>", issuer=key, issuer_account=pair.exporter.id),
    ),
    "valid for a while": (WORKS, lambda pair, _: pair.activation("service", "private.*", exp=int(time.time()) + HOUR)),
    "none": (NEVER, lambda pair, _: ""),
    "by a stranger for the exporter": (
        NEVER,
        lambda pair, _: pair.activation("service", "private.*", issuer=Key("A"), issuer_account=pair.exporter.id),
    ),
    "expired": (NEVER, lambda pair, _: pair.activation("service", "private.*", exp=int(time.time()) - HOUR)),
    "not yet valid": (NEVER, lambda pair, _: pair.activation("service", "private.*", nbf=int(time.time()) + HOUR)),
    'import "private.a" contains an invalid activation token': (REFUSED, lambda pair, _: "x"),
    'activation token doesn\'t match account for import "private.a"': (
        REFUSED,
        lambda pair, _: pair.activation("service", "private.*", issuer=Key("A")),
    ),
    'activation token doesn\'t match account it is being included in, "private.a"': (
        REFUSED,
        lambda pair, _: pair.activation("service", "private.*", to=Key("A").public),
    ),
    "mismatch between token import type stream and type of import service": (
        REFUSED,
        lambda pair, _: pair.activation("stream", "private.*"),
    ),
    'activation token import subject "private.b" doesn\'t match import "private.a"': (
        REFUSED,
        lambda pair, _: pair.activation("service", "private.b"),
    ),
}


@pytest.mark.parametrize("case", list(TOKENS))
async def test_activation_tokens(market: Market, case: str) -> None:
    async with Pair(market) as pair:
        outcome, make = TOKENS[case]
        signer = Key("A")
        shown = [export("service", "private.*", token_req=True)]
        await market.push(pair.exporter, exports=shown, signing_keys=[signer.public])
        wanted = pair.wants("service", "private.a", token=make(pair, signer))
        done = await market.push(pair.importer, imports=[wanted])
        if outcome == REFUSED:
            assert done["error"]["description"] == f"jwt validation failed - validation errors: [{case}]"
            return
        alice, bob = await pair.connect()
        await serve(alice, "private.a")
        if outcome == WORKS:
            await answers(bob, "private.a", b"private.a")
        else:
            assert await answered(bob, "private.a") is None


@pytest.mark.parametrize("kind", ["service", "stream"])
async def test_an_activation_is_revoked(market: Market, kind: str) -> None:
    async with Pair(market) as pair:

        async def works() -> bool:
            if kind == "service":
                return await answered(bob, "private") is not None
            return await arrives(alice, "private", bob, "private")

        now = int(time.time())
        await market.push(pair.exporter, exports=[export(kind, "private", token_req=True)])
        token = pair.activation(kind, "private", iat=now - HOUR)
        await market.push(pair.importer, imports=[pair.wants(kind, "private", token=token)])
        alice, bob = await pair.connect()
        if kind == "service":
            await serve(alice, "private")

        async def becomes(expected: bool) -> None:
            """nats-server now and then needs a moment after its answer."""
            deadline = time.monotonic() + DEADLINE_S
            while await works() is not expected:
                assert time.monotonic() < deadline

        await becomes(True)
        for key, until, holds in (
            (pair.importer.id, now - 2 * HOUR, True),
            (pair.importer.id, now, False),
            ("*", now, False),
        ):
            shown = export(kind, "private", token_req=True, revocations={key: until})
            await market.push(pair.exporter, exports=[shown])
            await becomes(holds)
        await market.push(pair.exporter, exports=[export(kind, "private", token_req=True)])
        await market.push(pair.importer, imports=[pair.wants(kind, "private", token=pair.activation(kind, "private"))])
        await becomes(True)


async def test_an_activation_expires_while_in_use(market: Market) -> None:
    async with Pair(market) as pair:
        await market.push(pair.exporter, exports=[export("service", "private", token_req=True)])
        ends_s = int(time.time()) + 2
        token = pair.activation("service", "private", exp=ends_s)
        await market.push(pair.importer, imports=[pair.wants("service", "private", token=token)])
        alice, bob = await pair.connect()
        await serve(alice, "private")
        assert await answered(bob, "private") == b"private" or time.time() >= ends_s
        deadline = time.monotonic() + DEADLINE_S
        while await answered(bob, "private") is not None:
            assert time.monotonic() < deadline


async def test_the_importers_name_as_a_token(market: Market) -> None:
    async with Pair(market) as pair:
        await market.push(pair.exporter, exports=[export("service", "for.*.x", account_token_position=2)])
        own, strange = f"for.{pair.importer.id}.x", f"for.{Key('A').public}.x"
        wanted = [
            pair.wants("service", own, local_subject="mine"),
            pair.wants("service", strange, local_subject="other"),
        ]
        await market.push(pair.importer, imports=wanted)
        alice, bob = await pair.connect()
        await serve(alice, "for.*.x")
        await answers(bob, "mine", own.encode())
        assert await answered(bob, "other") is None


async def test_a_circle_is_not_closed(market: Market) -> None:
    async with Pair(market) as pair:
        shown = [export("service", "svc")]
        back = {"name": "i", "type": "service", "subject": "svc", "account": pair.importer.id}
        await market.push(pair.exporter, exports=shown)
        await market.push(pair.importer, exports=shown, imports=[pair.wants("service", "svc")])
        await market.push(pair.exporter, exports=shown, imports=[back])
        alice, bob = await pair.connect()
        assert await answered(bob, "svc") is None
        await serve(alice, "svc")
        await answers(bob, "svc", b"svc")


async def test_mappings(market: Market) -> None:
    async with Pair(market) as pair:
        await market.push(pair.importer, mappings={"old.*": [{"subject": "new.$1"}]})
        await market.push(pair.exporter)
        _, bob = await pair.connect()
        await reaches(bob, "old.a", bob, "new.*")
        await market.push(pair.importer, mappings={"other": [{"subject": "x", "weight": 100}]})
        assert not await arrives(bob, "old.a", bob, "new.*")
        await reaches(bob, "other", bob, "x")
        await market.push(pair.importer)
        assert not await arrives(bob, "other", bob, "x")


async def test_default_permissions_change_while_connected(market: Market) -> None:
    account = market.operator.account("one")
    await market.push(account)
    own = account.user(pub={"deny": ["else"]})
    with enter(market.broker, account.user()) as wire, enter(market.broker, own) as other:
        wire.send(b"SUB denied 1\r\nSUB allowed 2\r\nPING\r\n")
        assert wire.until(b"PONG\r\n") == b"PONG\r\n"
        await market.push(account, default_permissions={"pub": {"deny": ["no"]}, "sub": {"deny": ["denied"]}})
        wire.send(b"PUB no 0\r\n\r\nPUB denied 0\r\n\r\nPUB allowed 0\r\n\r\nPING\r\n")
        assert wire.until(b"PONG\r\n") == (
            b'-ERR \'Permissions Violation for Subscription to "denied" (sid "1")\'\r\n'
            b"-ERR 'Permissions Violation for Publish to \"no\"'\r\nMSG allowed 2 0\r\n\r\nPONG\r\n"
        )
        other.send(b"PUB no 0\r\n\r\nPING\r\n")
        assert other.until(b"PONG\r\n") == b"PONG\r\n"
        await market.push(account)
        wire.send(b"PUB no 0\r\n\r\nPING\r\n")
        assert wire.until(b"PONG\r\n") == b"PONG\r\n"


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "too many exports": (
        {"limits": {"exports": 1}, "exports": [export("stream", "a"), export("stream", "b")]},
        "the account contains more exports than allowed by the operator",
    ),
    "too many imports": (
        {"limits": {"imports": 0}, "imports": [{"type": "stream", "subject": "a", "account": Key("A").public}]},
        "the account contains more imports than allowed by the operator",
    ),
    "wildcards": (
        {"limits": {"exports": 5, "wildcards": False}, "exports": [export("stream", "a.*")]},
        "the account contains wildcard exports that are not allowed by the operator",
    ),
    "one export within another": (
        {"exports": [export("stream", "a.*"), export("stream", "a.b")]},
        'stream export subject "a.*" already exports "a.b"',
    ),
    "a subject with a space": ({"exports": [export("stream", "a b")]}, 'subject "a b" cannot have spaces'),
    "too much weight": (
        {"mappings": {"a": [{"subject": "b", "weight": 60}, {"subject": "c", "weight": 60}]}},
        'Mapping "a" exceeds 100% among all of it\'s weighted to mappings',
    ),
    "two services of one name": (
        {
            "imports": [
                {"type": "service", "subject": "a", "account": "A"},
                {"type": "service", "subject": "a", "account": "A"},
            ]
        },
        'overlapping subject namespace for "a" and "a" in same account "A"',
    ),
}


@pytest.mark.parametrize("case", list(INVALID))
async def test_claims_that_are_refused_as_a_whole(market: Market, case: str) -> None:
    body, reason = INVALID[case]
    account = market.operator.account("one")
    error = (await market.push(account, **body))["error"]
    assert (error["account"], error["code"]) == (account.id, 500)
    assert error["description"].startswith("jwt validation failed - validation errors: [")
    assert reason in error["description"]
    listed = json.loads((await market.system.request("$SYS.REQ.CLAIMS.LIST", timeout=5)).data)["data"]
    assert account.id not in listed
