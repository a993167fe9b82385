"""Operator mode, on both servers: operators, accounts and users by JWT, resolvers, and what changes while connected."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from tests.conformance.conftest import MAKERS
from tests.conformance.raw import Wire
from tests.support.servers import Broker, jetstream
from tests.support.trust import JETSTREAM, Account, Key, Operator, User, claims

Starter = Callable[[str], Broker]
VIOLATION = b"-ERR 'Authorization Violation'\r\n"
HOUR = 3600


@pytest.fixture(params=list(MAKERS))
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Starter]:
    started: list[Broker] = []

    def starter(config: str) -> Broker:
        broker = MAKERS[request.param](tmp_path / str(len(started)), config=config)
        started.append(broker)
        broker.start()
        return broker

    yield starter
    for broker in started:
        broker.stop()


class House:
    """A running server with one account, and keys of everybody."""

    def __init__(self, broker: Broker, operator: Operator, account: Account, parts: dict[str, Key]) -> None:
        self.broker, self.operator, self.account, self.keys = broker, operator, account, parts


@pytest.fixture(scope="module", params=list(MAKERS))
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One for all tests that only ask who is admitted."""
    operator = Operator()
    account, other = operator.account("main"), operator.account("expired")
    keys = {"plain": Key("A"), "scoped": Key("A"), "foreign": Key("A"), "revoked": Key("U")}
    template = {
        "pub": {"allow": ["from.{{name()}}.>", "tags.{{tag(site)}}"]},
        "sub": {"allow": ["_INBOX.>"], "deny": ["no.{{subject()}}"]},
        "subs": 2,
        "data": -1,
        "payload": 8,
    }
    scope = {"kind": "user_scope", "key": keys["scoped"].public, "role": "device", "template": template}
    jwt = account.jwt(
        signing_keys=[keys["plain"].public, scope],
        revocations={keys["revoked"].public: int(time.time()) - HOUR},
        default_permissions={"pub": {"deny": ["denied.by.default"]}},
    )
    strange = operator.account("strange")
    preload = [(account, jwt), (other, other.jwt(iat=1, exp=2)), (strange, strange.jwt(issuer=Key("O")))]
    folder = tmp_path_factory.mktemp(request.param)
    config = operator.in_folder(folder / "jwt", *preload)
    keys |= {"expired account": other.key, "strange account": strange.key}
    with MAKERS[request.param](folder, config=config) as broker:
        yield House(broker, operator, account, keys)


def nonce_of(wire: Wire) -> str:
    return str(json.loads(wire.info[5:]).get("nonce", ""))


def answer(broker: Broker, user: User, **options: Any) -> bytes:
    """What a user gets for CONNECT and PING: PONG, or an error."""
    with Wire(broker.port) as wire:
        wire.send(user.connect(nonce_of(wire), **options) + b"PING\r\n")
        return wire.until(b"\r\n")


def enter(broker: Broker, user: User) -> Wire:
    """A connection of someone who is welcome."""
    wire = Wire(broker.port)
    wire.send(user.connect(nonce_of(wire), protocol=0) + b"PING\r\n")
    assert wire.until(b"\r\n") == b"PONG\r\n"
    return wire


async def connect(broker: Broker, user: User) -> Client:
    return await nats.connect(broker.url, allow_reconnect=False, **user.options())


# --- who is admitted


def test_a_user_of_the_account(house: House) -> None:
    assert answer(house.broker, house.account.user()) == b"PONG\r\n"
    assert answer(house.broker, house.account.user(signer=house.keys["plain"])) == b"PONG\r\n"


def test_info_asks_for_proof(house: House) -> None:
    with Wire(house.broker.port) as wire:
        info = json.loads(wire.info[5:])
        assert info["auth_required"] is True
        assert info["nonce"]
        wire.send(b'CONNECT {"verbose":false}\r\nPING\r\n')
        assert wire.rest() == VIOLATION


NOW = int(time.time())
REFUSED: dict[str, Callable[[House], User]] = {
    "signed by a stranger": lambda h: h.account.user(signer=h.keys["foreign"]),
    "signed by a stranger for itself": lambda h: h.account.user(signer=h.keys["foreign"], issuer_account=""),
    "signing key without its account": lambda h: h.account.user(signer=h.keys["plain"], issuer_account=""),
    "expired": lambda h: h.account.user(exp=NOW - HOUR),
    "not yet valid": lambda h: h.account.user(nbf=NOW + HOUR),
    "revoked": lambda h: h.account.user(key=h.keys["revoked"], iat=NOW - 2 * HOUR),
    "of an expired account": lambda h: _foreign(h, "expired account"),
    "of an account of a strange operator": lambda h: _foreign(h, "strange account"),
    "from elsewhere": lambda h: h.account.user(src=["192.0.2.0/24"]),
    "by websocket only": lambda h: h.account.user(allowed_connection_types=["WEBSOCKET"]),
    "at no time": lambda h: h.account.user(times=[{"start": "00:00:00", "end": "00:00:00"}]),
    "scoped, with rules of its own": lambda h: h.account.user(signer=h.keys["scoped"], sub={"allow": [">"]}),
    "no user but an account": lambda h: User(h.account.key, h.account.jwt()),
}


def _foreign(house: House, key: str) -> User:
    account = house.operator.account("foreign")
    account.key = house.keys[key]
    return account.user()


@pytest.mark.parametrize("case", list(REFUSED))
def test_who_is_refused(house: House, case: str) -> None:
    assert answer(house.broker, REFUSED[case](house)) == VIOLATION


def test_a_proof_of_another_key_is_refused(house: House) -> None:
    user = house.account.user()
    assert answer(house.broker, User(Key("U"), user.jwt)) == VIOLATION
    assert answer(house.broker, user, sig="AAAA") == VIOLATION
    header, _, signature = user.jwt.split(".")
    other = house.account.user().jwt.split(".")[1]
    assert answer(house.broker, User(user.key, f"{header}.{other}.{signature}")) == VIOLATION


ADMITTED: dict[str, Callable[[House], User]] = {
    "newer than the revocation": lambda h: h.account.user(key=h.keys["revoked"]),
    "valid for now": lambda h: h.account.user(exp=NOW + HOUR, nbf=NOW - HOUR),
    "from here": lambda h: h.account.user(src=["192.0.2.0/24", "127.0.0.0/8"]),
    "by this way": lambda h: h.account.user(allowed_connection_types=["STANDARD", "WEBSOCKET"]),
    "at any time of the day": lambda h: h.account.user(
        times=[{"start": "00:00:00", "end": "12:00:00"}, {"start": "12:00:00", "end": "23:59:59"}]
    ),
    "scoped": lambda h: h.account.user(signer=h.keys["scoped"], is_scoped=True),
}


@pytest.mark.parametrize("case", list(ADMITTED))
def test_who_is_admitted(house: House, case: str) -> None:
    assert answer(house.broker, ADMITTED[case](house)) == b"PONG\r\n"


def test_a_bearer_needs_no_signature(house: House) -> None:
    assert answer(house.broker, house.account.user(bearer_token=True), sig="") == b"PONG\r\n"
    assert answer(house.broker, house.account.user(), sig="") == VIOLATION


# --- what they may do


def test_permissions_and_limits_of_claims(house: House) -> None:
    user = house.account.user(
        pub={"allow": ["ok.>"], "deny": ["ok.not"]}, sub={"allow": ["in.>"]}, resp={"max": 1}, subs=2, payload=8
    )
    with enter(house.broker, user) as wire:
        wire.send(b"PUB ok.not 0\r\n\r\nPUB ok.yes 0\r\n\r\nSUB other 1\r\nSUB in.a 2\r\nSUB in.b 3\r\nSUB in.c 4\r\n")
        wire.send(b"PING\r\n")
        assert wire.until(b"PONG\r\n") == (
            b"-ERR 'Permissions Violation for Publish to \"ok.not\"'\r\n"
            b"-ERR 'Permissions Violation for Subscription to \"other\"'\r\n"
            b"-ERR 'maximum subscriptions exceeded'\r\nPONG\r\n"
        )
        wire.send(b"PUB ok.yes 9\r\n123456789\r\n")
        assert wire.rest() == b"-ERR 'Maximum Payload Violation'\r\n"


def test_default_permissions_of_the_account(house: House) -> None:
    refused = b"-ERR 'Permissions Violation for Publish to \"denied.by.default\"'\r\nPONG\r\n"
    with enter(house.broker, house.account.user()) as wire:
        wire.send(b"PUB denied.by.default 0\r\n\r\nPING\r\n")
        assert wire.until(b"PONG\r\n") == refused
    with enter(house.broker, house.account.user(pub={"deny": ["else"]})) as wire:
        wire.send(b"PUB denied.by.default 0\r\n\r\nPING\r\n")
        assert wire.until(b"PONG\r\n") == b"PONG\r\n"


def test_the_template_of_a_scoped_key(house: House) -> None:
    user = house.account.user("pi-7", signer=house.keys["scoped"], is_scoped=True, tags=["site:a", "site:b"])
    with enter(house.broker, user) as wire:
        wire.send(b"PUB from.pi-7.x 0\r\n\r\nPUB tags.a 0\r\n\r\nPUB tags.b 0\r\n\r\n")
        wire.send(b"PUB from.pi-8.x 0\r\n\r\nPUB tags.c 0\r\n\r\nSUB x 1\r\nSUB _INBOX.1 2\r\nPING\r\n")
        assert wire.until(b"PONG\r\n") == (
            b"-ERR 'Permissions Violation for Publish to \"from.pi-8.x\"'\r\n"
            b"-ERR 'Permissions Violation for Publish to \"tags.c\"'\r\n"
            b"-ERR 'Permissions Violation for Subscription to \"x\"'\r\nPONG\r\n"
        )
        wire.send(b"PUB tags.a 9\r\n123456789\r\n")
        assert wire.rest() == b"-ERR 'Maximum Payload Violation'\r\n"


async def test_what_a_user_is_told_of_itself(house: House) -> None:
    user = house.account.user("bob", pub={"deny": ["x"]})
    client = await connect(house.broker, user)
    said = json.loads((await client.request("$SYS.REQ.USER.INFO", timeout=5)).data)["data"]
    assert (said["user"], said["user_name"]) == (user.key.public, "bob")
    assert (said["account"], said["account_name"]) == (house.account.id, "main")
    assert said["permissions"]["publish"] == {"deny": ["x"]}
    await client.close()


# --- accounts in memory


async def test_accounts_are_isolated_and_have_their_own_streams(start: Starter, tmp_path: Path) -> None:
    operator = Operator()
    one, two, none = operator.account("one"), operator.account("two"), operator.account("none")
    config = operator.in_memory((one, one.jwt(limits=JETSTREAM)), (two, two.jwt(limits=JETSTREAM)), (none, none.jwt()))
    broker = start(config + jetstream(tmp_path))
    alice, bob = await connect(broker, one.user()), await connect(broker, two.user())
    carol = await connect(broker, none.user())
    heard = await bob.subscribe(">")
    await bob.flush()
    await alice.jetstream().add_stream(name="S", subjects=["s"])
    await alice.jetstream().publish("s", b"mine")
    assert [info.config.name for info in await alice.jetstream().streams_info()] == ["S"]
    assert await bob.jetstream().streams_info() == []
    with pytest.raises(nats.errors.Error):
        await carol.jetstream().account_info()
    await bob.publish("own", b"")
    seen = {(await heard.next_msg(timeout=5)).subject}
    while "own" not in seen:
        seen.add((await heard.next_msg(timeout=5)).subject)
    assert "s" not in seen
    for client in (alice, bob, carol):
        await client.close()


def test_connection_limit_of_an_account(start: Starter) -> None:
    operator = Operator()
    account, empty = operator.account("one"), operator.account("empty")
    jwts = (account, account.jwt(limits={"conn": 1})), (empty, empty.jwt(limits={"conn": 0}))
    broker = start(operator.in_memory(*jwts))
    too_many = b"-ERR 'maximum account active connections exceeded'\r\n"
    with enter(broker, account.user()):
        assert answer(broker, account.user()) == too_many
    assert answer(broker, empty.user()) == too_many


def test_unknown_account_and_disallowed_bearer(start: Starter) -> None:
    operator = Operator()
    strict, unknown = operator.account("strict"), operator.account("unknown")
    broker = start(operator.in_memory((strict, strict.jwt(limits={"disallow_bearer": True}))))
    assert answer(broker, strict.user(bearer_token=True)) == VIOLATION
    assert answer(broker, strict.user()) == b"PONG\r\n"
    assert answer(broker, unknown.user()) == VIOLATION
    assert answer(broker, Operator().account("other").user()) == VIOLATION


@pytest.mark.parametrize("is_strict", [True, False])
def test_signing_keys_of_the_operator(start: Starter, *, is_strict: bool) -> None:
    operator, signer, users = Operator(), Key("O"), Key("A")
    by_signer, by_root = operator.account("one"), operator.account("two")
    system = operator.system.jwt(issuer=signer)
    body = {"signing_keys": [signer.public], "strict_signing_key_usage": is_strict}
    preload = {operator.system.id: system}
    if not is_strict:
        preload[by_root.id] = by_root.jwt()
    preload[by_signer.id] = by_signer.jwt(issuer=signer, signing_keys=[users.public])
    lines = "\n".join(f"{account}: {jwt}" for account, jwt in preload.items())
    broker = start(f"operator: {operator.jwt(**body)}\nresolver: MEMORY\nresolver_preload {{\n{lines}\n}}\n")
    assert answer(broker, by_signer.user(signer=users)) == b"PONG\r\n"
    assert answer(broker, by_signer.user()) == (VIOLATION if is_strict else b"PONG\r\n")
    assert answer(broker, by_root.user()) == (VIOLATION if is_strict else b"PONG\r\n")


def test_trusted_keys_instead_of_an_operator(start: Starter) -> None:
    operator = Operator()
    account = operator.account("one")
    preload = f"{account.id}: {account.jwt()}\n{operator.system.id}: {operator.system.jwt()}"
    broker = start(
        f"trusted_keys: [{operator.key.public}]\nsystem_account: {operator.system.id}\n"
        f"resolver: MEMORY\nresolver_preload {{\n{preload}\n}}\n"
    )
    assert answer(broker, account.user()) == b"PONG\r\n"


def test_an_operator_in_a_file(start: Starter, tmp_path: Path) -> None:
    operator = Operator()
    account = operator.account("one")
    file = tmp_path / "operator.jwt"
    file.write_text(f"-----BEGIN NATS OPERATOR JWT-----\n{operator.jwt()}\n------END NATS OPERATOR JWT------\n")
    broker = start(operator.in_memory((account, account.jwt())).replace(operator.jwt(), f'"{file}"', 1))
    assert answer(broker, account.user()) == b"PONG\r\n"


# --- what ends while connected


def test_a_user_expires_while_connected(start: Starter) -> None:
    operator = Operator()
    account = operator.account("one")
    broker = start(operator.in_memory((account, account.jwt())))
    with enter(broker, account.user(exp=int(time.time()) + 2)) as wire:
        assert wire.rest().replace(b"PING\r\n", b"") == b"-ERR 'User Authentication Expired'\r\n"


async def test_an_account_expires_while_connected(start: Starter, tmp_path: Path) -> None:
    operator = Operator()
    account = operator.account("one")
    broker = start(operator.in_folder(tmp_path / "jwt", (account, account.jwt())))
    system = await connect(broker, operator.system.user())
    with enter(broker, account.user()) as wire:
        await ask(system, "$SYS.REQ.CLAIMS.UPDATE", account.jwt(exp=int(time.time()) + 2))
        assert wire.rest().replace(b"PING\r\n", b"") == b"-ERR 'Account Authentication Expired'\r\n"
    assert answer(broker, account.user()) == VIOLATION
    await system.close()


def test_preloaded_accounts_change_at_a_reload(start: Starter) -> None:
    operator = Operator()
    one, two = operator.account("one"), operator.account("two")
    before = operator.in_memory((one, one.jwt()))
    broker = start(before)
    user = one.user(iat=int(time.time()) - HOUR)
    file = broker.folder / "server.conf"
    revoked = one.jwt(revocations={user.key.public: int(time.time()) - 1})
    with enter(broker, user) as wire:
        after = operator.in_memory((one, revoked), (two, two.jwt()))
        operators = [line for text in (before, after) for line in text.splitlines() if line.startswith("operator")]
        changed = file.read_text().replace(before, after.replace(operators[1], operators[0]))
        file.write_text(changed)
        broker.signal(signal.SIGHUP)
        assert b"User Authentication Revoked" in wire.rest()
    assert answer(broker, user) == VIOLATION
    assert answer(broker, two.user()) == b"PONG\r\n"


# --- the directory resolver


async def ask(client: Client, subject: str, body: bytes | str = b"") -> dict[str, Any]:
    payload = body.encode() if isinstance(body, str) else body
    answered = json.loads((await client.request(subject, payload, timeout=5)).data)
    assert answered.pop("server")["id"]
    return dict(answered)


async def test_a_new_account_is_pushed_and_looked_up(start: Starter, tmp_path: Path) -> None:
    operator = Operator()
    broker = start(operator.in_folder(tmp_path / "jwt") + jetstream(tmp_path))
    system = await connect(broker, operator.system.user())
    account = operator.account("late")
    jwt = account.jwt(limits=JETSTREAM)
    done = {"account": account.id, "code": 200, "message": "jwt updated"}
    assert await ask(system, "$SYS.REQ.CLAIMS.UPDATE", jwt) == {"data": done}
    assert await ask(system, f"$SYS.REQ.ACCOUNT.{account.id}.CLAIMS.UPDATE", jwt) == {"data": done}
    looked_up = await system.request(f"$SYS.REQ.ACCOUNT.{account.id}.CLAIMS.LOOKUP", timeout=5)
    assert looked_up.data.decode() == jwt
    assert (tmp_path / "jwt" / f"{account.id}.jwt").read_text() == jwt
    known = await ask(system, "$SYS.REQ.CLAIMS.LIST")
    assert sorted(known["data"]) == sorted([account.id, operator.system.id])
    client = await connect(broker, account.user())
    assert (await client.jetstream().account_info()).streams == 0
    await client.close()
    await system.close()


async def test_pack_gives_all_accounts(start: Starter, tmp_path: Path) -> None:
    operator = Operator()
    account = operator.account("one")
    jwt = account.jwt()
    broker = start(operator.in_folder(tmp_path / "jwt", (account, jwt)))
    system = await connect(broker, operator.system.user())
    inbox = await system.subscribe("in")
    await system.publish("$SYS.REQ.CLAIMS.PACK", b"", reply="in")
    packed = set()
    while data := (await inbox.next_msg(timeout=5)).data:
        packed.add(data.decode().split("|")[0])
    assert packed == {account.id, operator.system.id}
    await system.close()


@pytest.mark.parametrize("case", ["another account", "no JWT", "a user"])
async def test_updates_that_are_refused(start: Starter, tmp_path: Path, case: str) -> None:
    operator = Operator()
    one, two = operator.account("one"), operator.account("two")
    broker = start(operator.in_folder(tmp_path / "jwt", (one, one.jwt())))
    system = await connect(broker, operator.system.user())
    body = {"another account": two.jwt(), "no JWT": "x", "a user": two.user().jwt}[case]
    subject = f"$SYS.REQ.ACCOUNT.{one.id}.CLAIMS.UPDATE" if case == "another account" else "$SYS.REQ.CLAIMS.UPDATE"
    error = (await ask(system, subject, body))["error"]
    assert (error["account"], error["code"]) == (one.id if case == "another account" else "n/a", 500)
    assert error["description"].startswith("jwt update resulted in error - ")
    assert not (tmp_path / "jwt" / f"{two.id}.jwt").exists()
    await system.close()


async def test_a_connected_user_is_revoked_and_comes_back_with_a_newer_jwt(start: Starter, tmp_path: Path) -> None:
    operator = Operator()
    account = operator.account("one")
    broker = start(operator.in_folder(tmp_path / "jwt", (account, account.jwt())))
    system = await connect(broker, operator.system.user())
    now = int(time.time())
    user = account.user(iat=now - HOUR)
    with enter(broker, user) as wire, enter(broker, account.user()) as other:
        revoked = account.jwt(revocations={user.key.public: now - 1})
        assert "data" in await ask(system, "$SYS.REQ.CLAIMS.UPDATE", revoked)
        assert wire.rest() == b"-ERR 'User Authentication Revoked'\r\n"
        other.send(b"PING\r\n")
        assert other.until(b"\r\n") == b"PONG\r\n"
    assert answer(broker, user) == VIOLATION
    assert answer(broker, account.user(key=user.key)) == b"PONG\r\n"
    await system.close()


async def test_new_limits_hold_for_those_who_are_connected(start: Starter, tmp_path: Path) -> None:
    operator = Operator()
    account = operator.account("one")
    broker = start(operator.in_folder(tmp_path / "jwt", (account, account.jwt())))
    system = await connect(broker, operator.system.user())
    with enter(broker, account.user()) as wire:
        assert "data" in await ask(system, "$SYS.REQ.CLAIMS.UPDATE", account.jwt(limits={"payload": 2}))
        wire.send(b"PUB a 2\r\nhi\r\nPUB a 3\r\nhey\r\n")
        assert wire.rest() == b"-ERR 'Maximum Payload Violation'\r\n"
    await system.close()


async def test_jetstream_is_taken_and_given_back(start: Starter, tmp_path: Path) -> None:
    operator = Operator()
    account = operator.account("one")
    config = operator.in_folder(tmp_path / "jwt", (account, account.jwt(limits=JETSTREAM)))
    broker = start(config + jetstream(tmp_path))
    system, client = await connect(broker, operator.system.user()), await connect(broker, account.user())
    await client.jetstream().add_stream(name="S", subjects=["s"])
    await client.jetstream().publish("s", b"kept")
    assert "data" in await ask(system, "$SYS.REQ.CLAIMS.UPDATE", account.jwt())
    with pytest.raises(nats.errors.Error):
        await client.jetstream().account_info()
    assert "data" in await ask(system, "$SYS.REQ.CLAIMS.UPDATE", account.jwt(limits=JETSTREAM))
    assert (await client.jetstream().stream_info("S")).state.messages == 1
    await client.close()
    await system.close()


async def test_an_account_is_deleted(start: Starter, tmp_path: Path) -> None:
    operator = Operator()
    account = operator.account("one")
    broker = start(operator.in_folder(tmp_path / "jwt", (account, account.jwt())))
    system = await connect(broker, operator.system.user())
    wanted = claims(operator.key, operator.key.public, "generic", {"accounts": [account.id]})
    with enter(broker, account.user()) as wire:
        done = await ask(system, "$SYS.REQ.CLAIMS.DELETE", wanted)
        assert done == {"data": {"code": 200, "message": "deleted 1 accounts"}}
        assert wire.rest() == b"-ERR 'Account Authentication Expired'\r\n"
    assert (tmp_path / "jwt" / f"{account.id}.jwt.deleted").exists()
    assert answer(broker, account.user()) == VIOLATION
    own = claims(operator.key, operator.key.public, "generic", {"accounts": [operator.system.id]})
    refused = (await ask(system, "$SYS.REQ.CLAIMS.DELETE", own))["error"]
    assert refused["description"].endswith("not allowed to delete system account")
    await system.close()


def test_accounts_survive_a_restart(start: Starter, tmp_path: Path) -> None:
    operator = Operator()
    account = operator.account("one")
    broker = start(operator.in_folder(tmp_path / "jwt", (account, account.jwt())))
    broker.stop()
    broker.start()
    assert answer(broker, account.user()) == b"PONG\r\n"
