"""Auth callout: a service decides about a client, and says with a user's JWT who it becomes (ADR-26). Pure.

    server key  --signs-->  authorization_request {sub: issuer, nats: {user_nkey, client_info, connect_opts, …}}
    issuer      --signs-->  authorization_response {sub: user_nkey, aud: server, nats: {jwt | error}}
                            jwt: a user {sub: user_nkey, aud: the account it goes to}

`user_nkey` is made for one question: an answer cannot be used for another. Source: spec auth section 7.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from leafnode.errors import TrustError
from leafnode.route.auth import Arrival, User
from leafnode.route.jwt import CheckSignature, Token, decode
from leafnode.route.permissions import Permissions

SUBJECT = "$SYS.REQ.USER.AUTH"
AUDIENCE = "nats-authorization-request"
REDACTED = "[REDACTED]"
OPTIONS = ("jwt", "nkey", "sig", "auth_token", "user", "pass", "name", "lang", "version")
"""Of CONNECT, what the service is told."""


def raw_user(options: Mapping[str, object], jwt_subject: str = "") -> str:
    """What somebody calls itself, proven or not; a token is a secret. `jwt_subject`: of the JWT that it shows."""
    shown = (options.get("nkey"), options.get("user"), jwt_subject, options.get("auth_token") and REDACTED)
    return next((str(name) for name in shown if name), "")


def request_body(
    server: Mapping[str, Any], user_nkey: str, options: Mapping[str, object], nonce: bytes, arrival: Arrival, user: str
) -> dict[str, Any]:
    """What the service is asked. `server`: who we are; `user`: what the client calls itself."""
    is_leaf = arrival.kind == "LEAFNODE"
    client = {
        "host": arrival.address,
        "id": arrival.number,
        "user": user,
        "name": options.get("name"),
        "kind": "Leafnode" if is_leaf else "Client",
        "type": "" if is_leaf else "websocket" if arrival.kind == "WEBSOCKET" else "nats",
        "nonce": nonce.decode() if options.get("sig") else "",
    }
    told = {key: options[key] for key in OPTIONS if options.get(key)}
    body: dict[str, Any] = {
        "server_id": dict(server),
        "user_nkey": user_nkey,
        "client_info": {key: value for key, value in client.items() if value},
        "connect_opts": {**told, "protocol": options.get("protocol") or 0},
    }
    if arrival.tls is not None:
        body["client_tls"] = arrival.tls()
    return body


def read_response(text: str, *, server_id: str, user_nkey: str, check_signature: CheckSignature, now_s: float) -> Token:
    """The response of a service that lets somebody in.

    Raises:
        TrustError: it does not, or it is not the answer to our question.
    """
    if not text:
        raise TrustError("auth callout violation: no reason supplied")
    response = decode(text, "authorization_response", check_signature)
    response.check_time(now_s)
    if response.subject != user_nkey:
        raise TrustError("auth callout violation: auth callout response is not for expected user")
    if response.audience != server_id:
        raise TrustError("auth callout violation: auth callout response is not for server")
    reason, granted = response.body.get("error"), response.body.get("jwt")
    if reason:
        raise TrustError(f"auth callout service returned an error: {reason}")
    if not isinstance(granted, str) or not granted:
        raise TrustError("auth callout violation: the response has neither a user nor an error")
    return response


def shut_off(user: User) -> User:
    """A user of the service's own account, who may not ask it."""
    rules = user.permissions or Permissions()
    denied = (*rules.publish_deny, SUBJECT.encode())
    return dataclasses.replace(user, permissions=dataclasses.replace(rules, publish_deny=denied))
