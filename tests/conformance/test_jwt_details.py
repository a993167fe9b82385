"""Operator mode, the finer points, on both servers: templates, hours, websocket cookies, operators' own wishes."""

import base64
import datetime
import json
import subprocess
import time
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import MAKERS
from tests.conformance.raw import Wire
from tests.conformance.test_jwt import HOUR, VIOLATION, answer, ask, connect, enter
from tests.conformance.test_websocket import answer_to_connect
from tests.support.ports import free_port
from tests.support.servers import Broker, jetstream
from tests.support.trust import JETSTREAM, Account, Key, Operator, User, claims

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
        if broker.child is not None and broker.alive():
            broker.stop()


class House:
    def __init__(self, broker: Broker, account: Account, scoped: Callable[..., User]) -> None:
        self.broker, self.account, self.scoped = broker, account, scoped


TEMPLATES: dict[str, dict[str, Any]] = {
    "names": {"pub": {"allow": ["{{account-name()}}.{{account-subject()}}.{{subject()}}.{{ Name() }}"]}},
    "tags": {"pub": {"allow": ["{{tag(a)}}.{{account-tag(b)}}.{{tag(a)}}", "own.{{tag(none)}}", "fix"]}},
    "none left": {"pub": {"allow": ["own.{{tag(none)}}"]}, "sub": {"allow": ["{{tag(none)}}"]}},
    "denied": {"pub": {"deny": ["x.{{tag(a)}}"]}},
    "denied by no tag": {"pub": {"deny": ["x.{{tag(none)}}"]}},
    "unknown": {"pub": {"allow": ["{{other()}}"]}},
}


@pytest.fixture(scope="module", params=list(MAKERS))
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    operator = Operator()
    account = operator.account("acme")
    keys = {case: Key("A") for case in TEMPLATES}
    limits = {"subs": -1, "data": -1, "payload": -1}
    scopes = [
        {"kind": "user_scope", "key": key.public, "role": case, "template": {**TEMPLATES[case], **limits}}
        for case, key in keys.items()
    ]
    jwt = account.jwt(signing_keys=scopes, tags=["b:1", "b:2"])

    def scoped(case: str, **rest: Any) -> User:
        return account.user("joe", signer=keys[case], is_scoped=True, **rest)

    folder = tmp_path_factory.mktemp(request.param)
    with MAKERS[request.param](folder, config=operator.in_memory((account, jwt))) as broker:
        yield House(broker, account, scoped)


def publishes(wire: Wire, *subjects: str) -> list[str]:
    """Of these, those that are allowed."""
    wire.send(b"".join(f"PUB {subject} 0\r\n\r\n".encode() for subject in subjects) + b"PING\r\n")
    said = wire.until(b"PONG\r\n").decode()
    return [subject for subject in subjects if f'"{subject}"' not in said]


def test_templates_with_names(house: House) -> None:
    user = house.scoped("names")
    own = f"acme.{house.account.id}.{user.key.public}.joe"
    with enter(house.broker, user) as wire:
        assert publishes(wire, own, "acme.x.y.joe", "other") == [own]


def test_templates_with_tags(house: House) -> None:
    with enter(house.broker, house.scoped("tags", tags=["a:x", "a:y"])) as wire:
        asked = ["x.1.x", "y.2.y", "x.1.y", "y.1.x", "x.3.x", "own.z", "fix"]
        assert publishes(wire, *asked) == ["x.1.x", "y.2.y", "fix"] or publishes(wire, *asked) == [
            "x.1.x",
            "y.2.y",
            "x.1.y",
            "y.1.x",
            "fix",
        ]


def test_a_template_of_which_nothing_is_left_allows_nothing(house: House) -> None:
    with enter(house.broker, house.scoped("none left")) as wire:
        assert publishes(wire, "own.z", "any") == []
        wire.send(b"SUB a 1\r\nPING\r\n")
        assert b"Permissions Violation for Subscription" in wire.until(b"PONG\r\n")


def test_templates_that_deny(house: House) -> None:
    with enter(house.broker, house.scoped("denied", tags=["a:1"])) as wire:
        assert publishes(wire, "x.1", "x.2") == ["x.2"]
    assert answer(house.broker, house.scoped("denied by no tag")) == VIOLATION
    assert answer(house.broker, house.scoped("unknown")) == VIOLATION


# --- hours, in the user's place


def at(place: str, minutes: int) -> str:
    now = datetime.datetime.now(zoneinfo.ZoneInfo(place)) + datetime.timedelta(minutes=minutes)
    return now.strftime("%H:%M:%S")


@pytest.mark.parametrize("place", ["Asia/Tokyo", "America/New_York", "UTC"])
def test_hours_are_those_of_the_users_place(house: House, place: str) -> None:
    for start_min, end_min, expected in ((-60, 60, b"PONG\r\n"), (60, 120, VIOLATION), (-120, -60, VIOLATION)):
        times = [{"start": at(place, start_min), "end": at(place, end_min)}]
        user = house.account.user(times=times, times_location=place)
        assert answer(house.broker, user) == expected, (start_min, end_min)
    assert answer(house.broker, house.account.user(times=times, times_location="Nowhere/At_All")) == VIOLATION


def test_the_end_of_the_hours_ends_the_connection(house: House) -> None:
    times = [
        {
            "start": at("UTC", -5),
            "end": (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2)).strftime("%H:%M:%S"),
        }
    ]
    with enter(house.broker, house.account.user(times=times, times_location="UTC")) as wire:
        assert wire.rest().replace(b"PING\r\n", b"") == b"-ERR 'User Authentication Expired'\r\n"


# --- version 1


def old(issuer: Key, subject: str, kind: str, body: dict[str, Any], **fields: Any) -> str:
    """A JWT as nsc made them before 2021: signed over the payload only."""
    payload = {"jti": "x", "iat": int(time.time()), "iss": issuer.public, "sub": subject, "type": kind, **fields}

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    signed = part({**payload, "nats": body})
    return f"{part({'typ': 'jwt', 'alg': 'ed25519'})}.{signed}.{issuer.sign(signed.encode())}"


def test_jwts_of_version_1(start: Starter) -> None:
    operator = Operator()
    account = operator.account("old")
    limits = {
        "subs": -1,
        "data": -1,
        "payload": -1,
        "imports": -1,
        "exports": -1,
        "wildcards": True,
        "conn": -1,
        "leaf": -1,
    }
    broker = start(
        operator.in_memory((account, old(operator.key, account.id, "account", {"limits": limits}, name="old")))
    )
    key = Key("U")
    user = User(key, old(account.key, key.public, "user", {"pub": {"deny": ["no"]}}))
    with enter(broker, user) as wire:
        assert publishes(wire, "no", "yes") == ["yes"]
    assert answer(broker, account.user()) == b"PONG\r\n"


# --- what operators ask for


def refuses_to_start(broker: Broker) -> str:
    """What a server says that ends at once."""
    done = subprocess.run(broker.argv, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    return done.stdout + done.stderr


@pytest.mark.parametrize(("version", "starts"), [("2.15.1", True), ("2.0.0", True), ("99.0.0", False), ("x", False)])
@pytest.mark.parametrize("maker", list(MAKERS))
def test_a_server_that_is_too_old(tmp_path: Path, maker: str, version: str, *, starts: bool) -> None:
    operator = Operator()
    broker = MAKERS[maker](tmp_path, config=operator.in_memory(assert_server_version=version))
    if starts:
        with broker:
            assert answer(broker, operator.system.user()) == b"PONG\r\n"
    else:
        assert "version" in refuses_to_start(broker)


@pytest.mark.parametrize("maker", list(MAKERS))
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("system_account: {other}", "system_account in config and operator JWT must be identical"),
        ("default_sentinel: {user}", "default sentinel must be a bearer token"),
        ("default_sentinel: x", "default sentinel JWT not valid"),
    ],
)
def test_what_does_not_fit_together(tmp_path: Path, maker: str, more: str, words: str) -> None:
    operator = Operator()
    account = operator.account("one")
    text = more.format(other=account.id, user=account.user().jwt)
    broker = MAKERS[maker](tmp_path, config=operator.in_memory((account, account.jwt())) + text)
    assert words in refuses_to_start(broker)


# --- claims requests


async def test_what_is_answered_about_accounts(start: Starter, tmp_path: Path) -> None:
    operator = Operator()
    account = operator.account("one")
    broker = start(operator.in_folder(tmp_path / "jwt", (account, account.jwt())))
    system = await connect(broker, operator.system.user())
    unknown = await system.request(f"$SYS.REQ.ACCOUNT.{Key('A').public}.CLAIMS.LOOKUP", timeout=5)
    assert unknown.data == b""
    headed = await system.request("$SYS.REQ.CLAIMS.UPDATE", account.jwt().encode(), timeout=5, headers={"A": "b"})
    assert json.loads(headed.data)["data"]["message"] == "jwt updated"

    def wish(issuer: Key = operator.key, subject: str = operator.key.public, **body: Any) -> str:
        return claims(issuer, subject, "generic", {"accounts": [account.id], **body})

    for body, reason in (
        (wish(subject=Key("O").public), "not self signed"),
        (wish(issuer=(stranger := Key("O")), subject=stranger.public), "not trusted"),
        (wish(accounts="x"), "malformed request"),
        (wish(accounts=["x"]), "malformed request"),
    ):
        error = (await ask(system, "$SYS.REQ.CLAIMS.DELETE", body))["error"]
        assert error["code"] == 500
        assert error["description"].startswith("delete accounts request by O")
        assert error["description"].endswith(f" failed - {reason}")
    await system.close()


async def test_an_update_that_the_operators_strictness_forbids(start: Starter, tmp_path: Path) -> None:
    operator, signer = Operator(), Key("O")
    config = operator.in_folder(tmp_path / "jwt")
    strict = operator.jwt(signing_keys=[signer.public], strict_signing_key_usage=True)
    config = config.replace(config.split()[1], strict, 1)
    users = Key("A")
    system_jwt = operator.system.jwt(issuer=signer, signing_keys=[users.public])
    (tmp_path / "jwt" / f"{operator.system.id}.jwt").write_text(system_jwt)
    broker = start(config)
    system = await connect(broker, operator.system.user(signer=users))
    account = operator.account("one")
    error = (await ask(system, "$SYS.REQ.CLAIMS.UPDATE", account.jwt()))["error"]
    assert error["description"] == "jwt update resulted in error - operator requires issuer to be a signing key"
    assert error["account"] == account.id
    assert "data" in await ask(system, "$SYS.REQ.CLAIMS.UPDATE", account.jwt(issuer=signer))
    await system.close()


async def test_bearers_and_scopes_change_while_connected(start: Starter, tmp_path: Path) -> None:
    operator, key = Operator(), Key("A")
    account = operator.account("one")

    def jwt(payload: int, **limits: Any) -> str:
        template = {"subs": -1, "data": -1, "payload": payload}
        scope = {"kind": "user_scope", "key": key.public, "role": "r", "template": template}
        return account.jwt(signing_keys=[scope], limits=limits)

    broker = start(operator.in_folder(tmp_path / "jwt", (account, jwt(-1))))
    system = await connect(broker, operator.system.user())
    scoped, bearer = account.user(signer=key, is_scoped=True), account.user(bearer_token=True)
    with enter(broker, scoped) as first, enter(broker, bearer) as second:
        assert "data" in await ask(system, "$SYS.REQ.CLAIMS.UPDATE", jwt(5, disallow_bearer=True))
        assert first.rest().replace(b"PING\r\n", b"") == b""
        assert second.rest().replace(b"PING\r\n", b"") == VIOLATION
    await system.close()


# --- websocket and JetStream


def test_a_jwt_in_a_websockets_cookie(start: Starter) -> None:
    operator, port = Operator(), free_port()
    account = operator.account("one")
    listen = f'websocket {{ listen: "127.0.0.1:{port}", no_tls: true, jwt_cookie: token }}\n'
    start(operator.in_memory((account, account.jwt())) + listen)
    good, late = account.user(bearer_token=True), account.user(bearer_token=True, exp=int(time.time()) - HOUR)
    assert answer_to_connect(port, f"other=1; token={good.jwt}") == b"PONG\r\n"
    assert answer_to_connect(port, f"token={late.jwt}") == VIOLATION
    assert answer_to_connect(port, "other=1") == VIOLATION


async def test_limits_of_jetstream_by_tier(start: Starter, tmp_path: Path) -> None:
    operator = Operator()
    plain, tiered = operator.account("plain"), operator.account("tiered")
    tier = {"mem_storage": 1 << 20, "disk_storage": 2 << 20, "streams": 1, "consumer": 2}
    config = operator.in_memory(
        (plain, plain.jwt(limits={**JETSTREAM, **tier})), (tiered, tiered.jwt(limits={"tiered_limits": {"R1": tier}}))
    )
    broker = start(config + jetstream(tmp_path))
    for account in (plain, tiered):
        client = await connect(broker, account.user())
        said = json.loads((await client.request("$JS.API.INFO", timeout=5)).data)
        assert (said["limits"]["max_storage"] == 0) is (account is tiered)
        shown = said["tiers"]["R1"]["limits"] if account is tiered else said["limits"]
        assert (shown["max_storage"], shown["max_memory"], shown["max_streams"]) == (2 << 20, 1 << 20, 1)
        js = client.jetstream()
        await js.add_stream(name="S", subjects=["s"])
        with pytest.raises(Exception, match="maximum number of streams reached"):
            await js.add_stream(name="T", subjects=["t"])
        await client.close()
