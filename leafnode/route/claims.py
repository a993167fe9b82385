"""What operators, accounts and users are by their JWTs. Pure; see `jwt.py` for the form, `trust.py` for trust.

Limits of -1 are none. As in nats-server a limit that is missing is zero, which is why tools always write all of them.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from leafnode.errors import TrustError
from leafnode.route.jwt import CheckSignature, Token, block, blocks, decode, number, texts
from leafnode.route.permissions import Permissions, Responses

UNLIMITED = -1
TIER = "R1"  # of what has one replica: there is one server
ANYBODY = "*"
RESPONSES_DEFAULT = Responses()
_FUNCTION = re.compile(r"\{\{\s*([A-Za-z-]+)\(([^)]*)\)\s*\}\}")
EXPANSIONS_MAX = 4096  # subjects that one list of a template may become (nats-server)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OperatorClaims:
    id: str
    name: str
    signing_keys: tuple[str, ...]
    system_account: str
    strict: bool
    """Accounts must be signed with a signing key, not with the operator's own."""
    account_server_url: str
    """Where account JWTs are to be had; empty: it does not say."""
    least_version: str
    """Servers older than this must not serve its accounts; empty: any may."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Whose signature makes an account."""
        return self.signing_keys if self.strict else (self.id, *self.signing_keys)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a user may do: its own claims, or the template of a scoped signing key."""

    permissions: Permissions | None
    takes_default: bool
    """They are the account's default ones."""
    max_subscriptions: int
    max_payload: int
    """Bytes."""
    sources: tuple[str, ...]
    """Networks to come from; empty = all."""
    times: tuple[tuple[str, str], ...]
    """From and to, `HH:MM:SS` of each day; empty = always."""
    location: str
    """Time zone of `times`; empty = the machine's."""
    connection_types: tuple[str, ...]
    bearer: bool
    proxy_required: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JetStreamClaims:
    """Bytes and counts; -1 = no limit, 0 for both stores = no JetStream."""

    memory: int
    disk: int
    streams: int
    consumers: int
    max_ack_pending: int
    memory_stream_bytes: int
    disk_stream_bytes: int
    max_bytes_required: bool
    tier: str
    """Name of the tier they are of; empty: they are not by tier."""

    @property
    def is_enabled(self) -> bool:
        return self.memory != 0 or self.disk != 0


class CalloutClaims(NamedTuple):
    """Who decides about an account's users instead of their JWTs (ADR-26)."""

    users: tuple[str, ...] = ()
    """Public keys of the users that decide; empty: nobody, JWTs count."""
    allowed_accounts: tuple[str, ...] = ()
    """Where they may put users, besides this account; `*` = anywhere."""
    xkey: str = ""
    """Public curve key that requests are sealed for; empty: they are not."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AccountClaims:
    token: Token
    max_connections: int
    max_leafnodes: int
    max_subscriptions: int
    max_payload: int
    disallow_bearer: bool
    jetstream: JetStreamClaims
    signing_keys: Mapping[str, Mapping[str, Any] | None]
    """To the template of a scoped key, None for one without scope."""
    revocations: Mapping[str, int]
    """Public user key, or `*`, to the time (s) before which its JWTs were issued that no longer hold."""
    default_permissions: Permissions | None
    imports: tuple[Mapping[str, Any], ...]
    exports: tuple[Mapping[str, Any], ...]
    mappings: Mapping[str, Any]
    callout: CalloutClaims

    @property
    def id(self) -> str:
        return self.token.subject

    def has_revoked(self, user: str, issued_s: int) -> bool:
        return any(issued_s <= self.revocations.get(key, -1) for key in (user, ANYBODY))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UserClaims:
    token: Token
    account: str
    """Id of the account: whoever issued it, or for whom a signing key did."""
    names_account: bool
    """It says for which account its issuer signed."""


def operator_claims(text: str, check_signature: CheckSignature) -> OperatorClaims:
    """Raises TrustError."""
    token = decode(text, "operator", check_signature)
    if token.issuer not in (token.subject, *texts(token.body, "signing_keys")):
        raise TrustError("an operator's JWT must be issued by itself")
    return OperatorClaims(
        id=token.subject,
        name=token.name,
        signing_keys=texts(token.body, "signing_keys"),
        system_account=str(token.body.get("system_account", "")),
        strict=token.body.get("strict_signing_key_usage") is True,
        account_server_url=str(token.body.get("account_server_url") or ""),
        least_version=str(token.body.get("assert_server_version") or ""),
    )


def account_claims(text: str, check_signature: CheckSignature) -> AccountClaims:
    """Raises TrustError."""
    token = decode(text, "account", check_signature)
    body = token.body
    limits = block(body, "limits")
    revocations = block(body, "revocations")
    return AccountClaims(
        token=token,
        max_connections=number(limits, "conn"),
        max_leafnodes=number(limits, "leaf"),
        max_subscriptions=number(limits, "subs"),
        max_payload=number(limits, "payload"),
        disallow_bearer=limits.get("disallow_bearer") is True,
        jetstream=_jetstream(limits),
        signing_keys=dict(_signing_keys(body.get("signing_keys") or [])),
        revocations={key: number(revocations, key) for key in revocations},
        default_permissions=permissions(block(body, "default_permissions")),
        imports=blocks(body, "imports"),
        exports=blocks(body, "exports"),
        mappings=block(body, "mappings"),
        callout=_callout(block(body, "authorization")),
    )


def _callout(body: Mapping[str, Any]) -> CalloutClaims:
    return CalloutClaims(texts(body, "auth_users"), texts(body, "allowed_accounts"), str(body.get("xkey", "")))


def user_claims(text: str, check_signature: CheckSignature) -> UserClaims:
    """Raises TrustError."""
    token = decode(text, "user", check_signature)
    named = str(token.body.get("issuer_account", ""))
    return UserClaims(token=token, account=named or token.issuer, names_account=bool(named))


def _jetstream(limits: Mapping[str, Any]) -> JetStreamClaims:
    """Of the account; with limits by tier, those of one replica: there is one server."""
    tiers = block(limits, "tiered_limits")
    given = block(tiers, TIER) if tiers else limits
    return JetStreamClaims(
        memory=number(given, "mem_storage"),
        disk=number(given, "disk_storage"),
        streams=number(given, "streams") or UNLIMITED,
        consumers=number(given, "consumer") or UNLIMITED,
        max_ack_pending=number(given, "max_ack_pending") or UNLIMITED,
        memory_stream_bytes=number(given, "mem_max_stream_bytes") or UNLIMITED,
        disk_stream_bytes=number(given, "disk_max_stream_bytes") or UNLIMITED,
        max_bytes_required=given.get("max_bytes_required") is True,
        tier=TIER if tiers else "",
    )


def _signing_keys(keys: object) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    for key in keys if isinstance(keys, list) else []:
        if isinstance(key, str):
            yield key, None
        elif isinstance(key, dict) and key.get("kind") == "user_scope":
            yield str(key.get("key", "")), block(key, "template")
        else:
            raise TrustError("a signing key of the account is of an unknown kind")


# what a user may do --------------------------------------------------------------------------------------------------


def rules(user: UserClaims, account: AccountClaims) -> Rules:
    """The user's own, or the template of the scoped key that signed it.

    Raises:
        TrustError: it is signed by a scoped key and has rules of its own, or the template cannot be filled in.
    """
    template = account.signing_keys.get(user.token.issuer)
    if template is None:
        return _rules(user.token.body, permissions(user.token.body), account)
    if has_own_rules(user.token.body):
        raise TrustError(f"user {user.token.subject} is signed by a scoped key and has permissions of its own")
    return _rules(template, permissions(template, _Filled(user, account)), account)


def own_rules(user: UserClaims) -> Rules:
    """The user's own, whatever its account says. Raises TrustError."""
    return _rules(user.token.body, permissions(user.token.body), None)


def _rules(body: Mapping[str, Any], own: Permissions | None, account: AccountClaims | None) -> Rules:
    return Rules(
        permissions=account.default_permissions if own is None and account is not None else own,
        takes_default=own is None,
        max_subscriptions=number(body, "subs"),
        max_payload=number(body, "payload"),
        sources=texts(body, "src"),
        times=tuple((str(times.get("start", "")), str(times.get("end", ""))) for times in blocks(body, "times")),
        location=str(body.get("times_location", "")),
        connection_types=texts(body, "allowed_connection_types"),
        bearer=body.get("bearer_token") is True,
        proxy_required=body.get("proxy_required") is True,
    )


def has_own_rules(body: Mapping[str, Any]) -> bool:
    """Whether a user's JWT says what it may do; one that a scoped key signs must not."""
    lists = (block(body, side).get(way) for side in ("pub", "sub") for way in ("allow", "deny"))
    limited = any(number(body, key) for key in ("subs", "data", "payload"))
    others = ("resp", "src", "times", "times_location", "allowed_connection_types", "bearer_token", "proxy_required")
    return limited or any(lists) or any(body.get(key) for key in others)


class _Filled:
    """Templates of subjects with the functions replaced (spec auth section 4, check 5)."""

    def __init__(self, user: UserClaims, account: AccountClaims) -> None:
        self._user, self._account = user.token, account.token
        self._left = 2 * EXPANSIONS_MAX  # of the steps on the way to subjects

    def __call__(self, subject: str, *, is_deny: bool) -> list[str]:
        """All subjects that a template stands for. A missing tag drops it from what is allowed, and is an error in what
        is denied. Raises TrustError."""
        match = _FUNCTION.search(subject)
        if match is None:
            if "{{" in subject:
                raise TrustError(f"the template {subject!r} of a signing key has an unknown function")
            return [subject]
        values = self._values(match[1], match[2].strip())
        if not values and is_deny:
            raise TrustError(f"no value for {match[0]} in the template {subject!r} of a signing key")
        before, after = subject[: match.start()], subject[match.end() :]
        self._left -= len(values)
        if self._left < 0:
            raise TrustError(f"the template of a signing key becomes more than {EXPANSIONS_MAX} subjects")
        return [found for value in values for found in self(before + value + after, is_deny=is_deny)]

    def _values(self, function: str, argument: str) -> list[str]:
        one = {
            "name": self._user.name,
            "subject": self._user.subject,
            "account-name": self._account.name,
            "account-subject": self._account.subject,
        }.get(function.lower())
        if one is not None and not argument:
            return [one] if _fits(one) else []
        tags = {"tag": self._user.tags, "account-tag": self._account.tags}.get(function)
        if tags is None:
            if function.lower() in ("tag", "account-tag"):
                return []  # in nats-server, too, only functions without an argument may be written in any case
            raise TrustError(f"the template of a signing key has an unknown function: {function}")
        prefix = argument.lower() + ":"
        return [tag[len(prefix) :] for tag in tags if tag.lower().startswith(prefix) and _fits(tag[len(prefix) :])]


def _fits(value: str) -> bool:
    """Whether it can be put into a subject without widening it."""
    return bool(value) and not any(sign in value for sign in " *>{}")


class _AsIs:
    def __call__(self, subject: str, *, is_deny: bool) -> list[str]:
        return [subject]


def permissions(body: Mapping[str, Any], fill: _Filled | _AsIs | None = None) -> Permissions | None:
    """From `pub`, `sub` and `resp`; None where nothing is said. Raises TrustError."""
    filled = fill or _AsIs()

    def subjects(side: str, way: str) -> tuple[bytes, ...]:
        given = texts(block(body, side), way)
        every = [found.encode() for subject in given for found in filled(subject, is_deny=way == "deny")]
        if len(every) > max(EXPANSIONS_MAX, len(given)):
            raise TrustError(f"the template of a signing key becomes more than {EXPANSIONS_MAX} subjects")
        return tuple(every)

    def denied(side: str, allowed: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """An allow list whose entries all fell away allows nothing; an empty one would allow everything."""
        is_void = not allowed and texts(block(body, side), "allow")
        return (*subjects(side, "deny"), b">") if is_void else subjects(side, "deny")

    responses = block(body, "resp")
    publish, subscribe = subjects("pub", "allow"), subjects("sub", "allow")
    found = Permissions(
        publish_allow=publish,
        publish_deny=denied("pub", publish),
        subscribe_allow=subscribe,
        subscribe_deny=denied("sub", subscribe),
        responses=_responses(responses) if responses else None,
    )
    return None if found == Permissions() else found


def _responses(body: Mapping[str, Any]) -> Responses:
    return Responses(
        number(body, "max") or RESPONSES_DEFAULT.max,
        number(body, "ttl") or RESPONSES_DEFAULT.expires_ns,
    )
