"""JWTs and the rules about them, without a server: what is no JWT, who may issue what, templates, hours of the day."""

import base64
import datetime
import json
from typing import Any

import pytest

from leafnode.errors import TrustError
from leafnode.net.secrets import check_signature
from leafnode.route.auth import Arrival, User
from leafnode.route.claims import account_claims, rules, user_claims
from leafnode.route.jwt import decode
from leafnode.route.limits import UNLIMITED, lowest
from leafnode.route.permissions import Permissions, Responses
from leafnode.route.trust import Trust, window_end
from tests.support.trust import UNLIMITED_ACCOUNT, Account, Key, Operator, claims, old_claims

HERE = Arrival("STANDARD", "127.0.0.1")
NONCE = b"nonce"
NOON = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC).timestamp()


class Place:
    """An operator with one account, and who is admitted there."""

    def __init__(self, *, strict: bool = False, **account: Any) -> None:
        self.operator = Operator()
        self.trust = Trust.of([self.operator.jwt(strict_signing_key_usage=strict)], [], check_signature)
        self.account: Account = self.operator.account("main")
        self.text = self.account.jwt(**account)

    def admit(self, jwt: str, signature: str, arrival: Arrival = HERE, now_s: float = NOON) -> User:
        known = {self.account.id: self.trust.account(self.text, now_s)}
        return self.trust.admit({"jwt": jwt, "sig": signature}, NONCE, arrival, known.get, now_s)


def parts_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(base64.urlsafe_b64decode(part + "==")) for part in text.split(".")[:2]]


def test_a_user_is_what_its_claims_say() -> None:
    place = Place()
    user = place.account.user(
        "bob", pub={"allow": ["a"]}, resp={"max": 2, "ttl": 7}, subs=3, payload=9, iat=5, exp=2**32
    )
    found = place.admit(user.jwt, user.key.sign(NONCE))
    assert found == User(
        nkey=user.key.public,
        account=place.account.id,
        label="bob",
        account_label="main",
        permissions=Permissions(publish_allow=(b"a",), responses=Responses(2, 7)),
        signer=place.account.id,
        issued_s=5,
        ends_s=2**32,
        max_subscriptions=3,
        max_payload=9,
    )


def test_without_permissions_nothing_is_forbidden() -> None:
    place = Place()
    user = place.account.user()
    assert place.admit(user.jwt, user.key.sign(NONCE)).permissions is None


@pytest.mark.parametrize("text", ["", "x", "a.b", "a.b.c", "e30.e30.e30", "W10.W10.", "…..", "eyJ.eyJ.eyJ", "a.b.c.d"])
def test_what_is_no_jwt(text: str) -> None:
    with pytest.raises(TrustError):
        decode(text, "user", check_signature)


def test_a_changed_jwt_is_not_genuine() -> None:
    text = Place().account.user().jwt
    header, payload, signature = text.split(".")
    claimed = parts_of(text)[1]
    claimed["name"] = "root"
    forged = base64.urlsafe_b64encode(json.dumps(claimed).encode()).decode().rstrip("=")
    for other in (f"{header}.{forged}.{signature}", f"{header}.{payload}.AAAA", f"{header}.{payload}."):
        with pytest.raises(TrustError, match="signature"):
            decode(other, "user", check_signature)


def test_who_may_issue_what() -> None:
    user, operator = Key("U"), Key("O")
    for issuer, subject, kind in ((user, user, "user"), (operator, user, "user"), (user, user, "account")):
        with pytest.raises(TrustError, match="wrong kind"):
            decode(claims(issuer, subject.public, kind, {}), kind, check_signature)
    with pytest.raises(TrustError, match="type account"):
        decode(claims(operator, Key("A").public, "user", {}), "account", check_signature)


@pytest.mark.parametrize(
    "body",
    [
        {"limits": 5},
        {"limits": {"conn": "x"}},
        {"limits": {"conn": True}},
        {"revocations": ["*"]},
        {"revocations": {"*": "now"}},
        {"signing_keys": [5]},
        {"signing_keys": [{"kind": "other"}]},
        {"default_permissions": {"pub": {"allow": "x"}}},
        {"imports": {"a": 1}},
    ],
)
def test_claims_of_the_wrong_shape(body: dict[str, Any]) -> None:
    with pytest.raises(TrustError):
        account_claims(claims(Key("O"), Key("A").public, "account", body), check_signature)


def test_the_reason_names_no_secret() -> None:
    place = Place()
    user = place.account.user()
    with pytest.raises(TrustError) as refusal:
        place.admit(user.jwt, "AAAA")
    assert user.jwt not in str(refusal.value)
    assert user.key.seed not in str(refusal.value)


def test_accounts_of_a_strange_operator_or_out_of_time() -> None:
    place = Place()
    for text in (place.account.jwt(issuer=Key("O")), place.account.jwt(exp=5), place.account.jwt(nbf=2**33)):
        with pytest.raises(TrustError):
            place.trust.account(text, NOON)


def test_everybody_can_be_revoked_at_once() -> None:
    place = Place(revocations={"*": 100})
    old, new = place.account.user(iat=100), place.account.user(iat=101)
    with pytest.raises(TrustError, match="revoked"):
        place.admit(old.jwt, old.key.sign(NONCE))
    assert place.admit(new.jwt, new.key.sign(NONCE))


def test_strict_use_of_signing_keys() -> None:
    signer = Key("A")
    place = Place(strict=True)
    place.operator.key, root = Key("O"), place.operator.key
    assert not place.trust.keys & {root.public, place.operator.key.public}
    loose = Place(signing_keys=[signer.public])
    account = account_claims(loose.text, check_signature)
    assert loose.trust.is_issuer(account.id, account)
    assert loose.trust.is_issuer(signer.public, account)
    assert not loose.trust.is_issuer(signer.public, account, named=False)
    assert not place.trust.is_issuer(account.id, account)


# --- scoped signing keys


def scoped(template: dict[str, Any], *, name: str = "pi", tags: tuple[str, ...] = ()) -> Permissions | None:
    signer = Key("A")
    place = Place(signing_keys=[{"kind": "user_scope", "key": signer.public, "template": template}], tags=["zone:z"])
    user = place.account.user(name, signer=signer, is_scoped=True, tags=list(tags))
    given = user_claims(user.jwt, check_signature)
    return rules(given, account_claims(place.text, check_signature)).permissions


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("plain", {b"plain"}),
        ("{{name()}}.x", {b"pi.x"}),
        ("{{account-name()}}.>", {b"main.>"}),
        ("{{ account-tag(zone) }}", {b"z"}),
        ("{{tag(site)}}.{{tag(kind)}}", {b"a.k", b"b.k"}),
        ("{{Account-Name()}}.>", {b"main.>"}),
        ("{{other(site)}}", set()),
    ],
)
def test_templates(subject: str, expected: set[bytes]) -> None:
    template = {"pub": {"allow": [subject]}}
    if not expected:
        with pytest.raises(TrustError):
            scoped(template)
        return
    found = scoped(template, tags=("site:a", "site:b", "kind:k"))
    assert found is not None
    assert set(found.publish_allow) == expected


@pytest.mark.parametrize(("name", "tags"), [("pi", ()), ("pi", ("site:>",)), ("pi", ("site:",)), ("pi", ("other:a",))])
def test_a_missing_or_wild_tag_allows_nothing(name: str, tags: tuple[str, ...]) -> None:
    found = scoped({"pub": {"allow": ["{{tag(site)}}.x"]}}, name=name, tags=tags)
    assert found is not None
    assert not found.may_publish(b"a.x")
    assert not found.may_publish(b"anything")


def test_a_missing_tag_in_a_deny_list_refuses_the_user() -> None:
    with pytest.raises(TrustError, match="tag"):
        scoped({"pub": {"deny": ["{{tag(site)}}"]}})


# --- networks, ways, hours


def granted(**body: Any) -> Any:
    place = Place()
    user = user_claims(place.account.user(**body).jwt, check_signature)
    return rules(user, account_claims(place.text, check_signature))


def at(hour: int, minute: int = 0) -> float:
    return datetime.datetime(2026, 7, 1, hour, minute, tzinfo=datetime.UTC).timestamp()


@pytest.mark.parametrize(
    ("start", "end", "hour", "ends"),
    [
        ("08:00:00", "17:00:00", 12, at(17)),
        ("08:00:00", "17:00:00", 17, None),
        ("08:00:00", "17:00:00", 7, None),
        ("22:00:00", "06:00:00", 23, at(6) + 86400),
        ("22:00:00", "06:00:00", 5, at(6)),
        ("22:00:00", "06:00:00", 12, None),
        ("noon", "06:00:00", 12, None),
    ],
)
def test_hours_of_the_day(start: str, end: str, hour: int, ends: float | None) -> None:
    found = granted(times=[{"start": start, "end": end}], times_location="UTC")
    if ends is None:
        with pytest.raises(TrustError, match="time of day"):
            window_end(found, HERE, at(hour))
    else:
        assert window_end(found, HERE, at(hour)) == ends


def test_hours_are_those_of_the_place() -> None:
    found = granted(times=[{"start": "13:30:00", "end": "14:30:00"}], times_location="Europe/Berlin")
    assert window_end(found, HERE, at(12)) == at(12, 30)
    with pytest.raises(TrustError):
        window_end(granted(times=[{"start": "00:00:00", "end": "23:00:00"}], times_location="No/where"), HERE, at(12))


@pytest.mark.parametrize(
    ("body", "arrival", "is_welcome"),
    [
        ({"src": ["10.0.0.0/8"]}, Arrival("STANDARD", "10.1.2.3"), True),
        ({"src": ["10.0.0.0/8"]}, Arrival("STANDARD", "11.1.2.3"), False),
        ({"src": ["::1/128"]}, Arrival("STANDARD", "::1"), True),
        ({"src": ["nonsense"]}, Arrival("STANDARD", "10.1.2.3"), False),
        ({"src": ["10.0.0.0/8"]}, Arrival("STANDARD", ""), False),
        ({"allowed_connection_types": ["leafnode"]}, Arrival("LEAFNODE", ""), True),
        ({"allowed_connection_types": ["LEAFNODE"]}, Arrival("STANDARD", ""), False),
        ({"proxy_required": True}, HERE, False),
    ],
)
def test_networks_and_ways(body: dict[str, Any], arrival: Arrival, *, is_welcome: bool) -> None:
    if is_welcome:
        assert window_end(granted(**body), arrival, NOON) == 0
    else:
        with pytest.raises(TrustError):
            window_end(granted(**body), arrival, NOON)


def test_the_lowest_limit_holds() -> None:
    assert lowest(5, UNLIMITED, 3) == 3
    assert lowest(0, 5) == 0
    assert lowest(UNLIMITED, UNLIMITED) == UNLIMITED


def test_tokens_of_version_1_are_good() -> None:
    """As old tools made them: one limit given, the rest of the user unlimited, no JetStream."""
    operator, account, signer, user = Key("O"), Key("A"), Key("A"), Key("U")
    trust = Trust.of([old_claims(operator, operator.public, "operator", {})], [], check_signature)
    limits = {**UNLIMITED_ACCOUNT, "disk_storage": -1}
    text = old_claims(operator, account.public, "account", {"limits": limits, "signing_keys": [signer.public]})
    known = {account.public: trust.account(text, NOON)}
    assert not known[account.public].jetstream.is_enabled
    body = {"pub": {"allow": ["a"]}, "src": "127.0.0.0/8,10.0.0.0/8", "payload": 9}
    own = old_claims(signer, user.public, "user", body, issuer_account=account.public, name="bob")
    given = {"jwt": own, "sig": user.sign(NONCE)}
    found = trust.admit(given, NONCE, HERE, known.get, NOON)
    assert (found.account, found.max_payload, found.max_subscriptions) == (account.public, 9, UNLIMITED)
    assert found.permissions == Permissions(publish_allow=(b"a",))
    with pytest.raises(TrustError):
        trust.admit(given, NONCE, Arrival("STANDARD", "192.168.0.1"), known.get, NOON)


def test_tokens_of_version_1_are_verified() -> None:
    operator = Key("O")
    head, body, _ = old_claims(operator, operator.public, "operator", {}).split(".")
    with pytest.raises(TrustError, match="V1 signature"):
        decode(f"{head}.{body}.{operator.sign(b'something else')}", "operator", check_signature)
