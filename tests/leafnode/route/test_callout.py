"""What an auth service is asked and what counts as its answer."""

import json
import time
from base64 import urlsafe_b64decode
from typing import Any

import pytest

from leafnode.errors import TrustError
from leafnode.net.secrets import Signer, check_signature
from leafnode.route.auth import Arrival, User
from leafnode.route.callout import raw_user, read_response, request_body, shut_off
from leafnode.route.jwt import encode
from leafnode.route.permissions import Permissions
from tests.support.trust import Key, claims

SERVER, USER = Key("N").public, Key("U").public


def response(issuer: Key | None = None, subject: str = USER, audience: str = SERVER, **rest: Any) -> str:
    fields = {key: rest.pop(key) for key in ("exp",) if key in rest}
    return claims(issuer or Key("A"), subject, "authorization_response", rest, aud=audience, **fields)


def read(text: str) -> dict[str, Any]:
    found = read_response(text, server_id=SERVER, user_nkey=USER, check_signature=check_signature, now_s=time.time())
    return dict(found.body)


def test_an_answer() -> None:
    assert read(response(jwt="a.b.c"))["jwt"] == "a.b.c"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no reason supplied"),
        ("x", "not a JWT"),
        (response(error="go away"), "go away"),
        (response(subject=Key("U").public, jwt="j"), "not for expected user"),
        (response(audience="N", jwt="j"), "not for server"),
        (response(issuer=Key("O"), jwt="j"), "wrong kind"),
        (response(exp=1, jwt="j"), "expired"),
        (response(), "neither a user nor an error"),
        (response(jwt=5), "neither a user nor an error"),
    ],
)
def test_what_lets_nobody_in(text: str, reason: str) -> None:
    with pytest.raises(TrustError, match=reason):
        read(text)


def test_what_is_asked() -> None:
    options = {"user": "u", "pass": "p", "sig": "s", "name": "me", "protocol": 1, "headers": True, "lang": ""}
    arrival = Arrival("WEBSOCKET", "10.0.0.7", 5, lambda: {"version": "1.3"})
    body = request_body({"id": SERVER}, USER, options, b"nonce", arrival, "u")
    assert body == {
        "server_id": {"id": SERVER},
        "user_nkey": USER,
        "client_info": {
            "host": "10.0.0.7", "id": 5, "user": "u", "name": "me", "kind": "Client", "type": "websocket",
            "nonce": "nonce"
        },
        "connect_opts": {"sig": "s", "user": "u", "pass": "p", "name": "me", "protocol": 1},
        "client_tls": {"version": "1.3"},
    }  # fmt: skip
    leaf = request_body({}, USER, {}, b"nonce", Arrival("LEAFNODE"), "")
    assert (leaf["client_info"], leaf["connect_opts"]) == ({"kind": "Leafnode"}, {"protocol": 0})


@pytest.mark.parametrize(
    ("options", "jwt", "name"),
    [
        ({"nkey": "U", "user": "u"}, "J", "U"),
        ({"user": "u", "auth_token": "t"}, "J", "u"),
        ({"auth_token": "t"}, "J", "J"),
        ({"auth_token": "secret"}, "", "[REDACTED]"),
        ({}, "", ""),
    ],
)
def test_what_somebody_calls_itself(options: dict[str, object], jwt: str, name: str) -> None:
    assert raw_user(options, jwt) == name


def test_its_own_account_is_shut_off() -> None:
    for rules in (None, Permissions(publish_allow=(b">",), publish_deny=(b"x",))):
        found = shut_off(User(permissions=rules)).permissions
        assert found is not None
        assert not found.may_publish(b"$SYS.REQ.USER.AUTH")
        assert found.may_publish(b"a")


def test_a_request_is_signed_by_the_server() -> None:
    key = Signer.fresh("N")
    token = encode({"iss": key.public, "sub": "A"}, "authorization_request", {"a": 1}, key.sign)
    head, payload, signature = token.split(".")
    assert check_signature(key.public, f"{head}.{payload}".encode(), signature)
    told = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert told["nats"] == {"a": 1, "type": "authorization_request", "version": 2}
    assert told["jti"]
