"""What makes an account's claims no good as a whole, whoever signed them, in nats-server's words. Pure.

An operator limits what an account may share; an account that shares more is not admitted at all, rather than in part.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from leafnode.errors import TrustError
from leafnode.route.claims import AccountClaims
from leafnode.route.jwt import CheckSignature, block, blocks, decode, number
from leafnode.route.subject import is_subset

WHOLE_PERCENT = 100
KINDS = ("stream", "service")
RESPONSES = ("", "Singleton", "Stream", "Chunked")


def faults(claims: AccountClaims, check_signature: CheckSignature) -> list[str]:
    """Empty: they are good. Raises TrustError where a field has the wrong type."""
    return [
        *_import_faults(claims),
        *(fault for body in claims.imports for fault in _activation_faults(claims, body, check_signature)),
        *_export_faults(claims),
        *_mapping_faults(claims),
        *_authorization_faults(claims),
        *_limit_faults(claims),
        *(f"{key!r} is not a valid account signing key" for key in claims.signing_keys if not key.startswith("A")),
    ]


def _import_faults(claims: AccountClaims) -> Iterator[str]:
    seen: list[tuple[str, str]] = []
    for body in claims.imports:
        subject, local, to = (str(body.get(key) or "") for key in ("subject", "local_subject", "to"))
        account = str(body.get("account", ""))
        if body.get("type") == "service":
            name = to or local or subject
            for other_account, other in seen:
                if account == other_account and (_is_within(name, other) or _is_within(other, name)):
                    yield f'overlapping subject namespace for "{name}" and "{other}" in same account "{account}"'
            seen.append((account, name))
        elif body.get("type") != "stream":
            yield f'invalid import type: "{body.get("type", "unknown")}"'
        elif body.get("share"):
            yield f'sharing information (for latency tracking) is only valid for services: "{subject}"'
        if not account:
            yield "account to import from is not specified"
        yield from _subject_faults(subject)
        if local and to:
            yield "Local Subject replaces To"


def _activation_faults(
    claims: AccountClaims, body: Mapping[str, Any], check_signature: CheckSignature
) -> Iterator[str]:
    """Of the token of one import. Whether the exporter stands by it, and its time, are looked at when it is used."""
    text = str(body.get("token") or "")
    if not text:
        return
    subject, kind, account = str(body.get("subject", "")), body.get("type"), body.get("account")
    try:
        token = decode(text, "activation", check_signature)
    except TrustError:
        yield f'import "{subject}" contains an invalid activation token'
        return
    granted = str(token.body.get("subject", ""))
    wanted = str(body.get("to") or subject) if kind == "service" else subject
    if account not in (token.issuer, token.body.get("issuer_account")):
        yield f'activation token doesn\'t match account for import "{subject}"'
    if token.subject != claims.id:
        yield f'activation token doesn\'t match account it is being included in, "{subject}"'
    if token.body.get("kind") != kind:
        yield f"mismatch between token import type {token.body.get('kind')} and type of import {kind}"
    if not _is_within(wanted, granted):
        yield f'activation token import subject "{granted}" doesn\'t match import "{subject}"'


def _export_faults(claims: AccountClaims) -> Iterator[str]:
    for body in claims.exports:
        subject, kind, answers = str(body.get("subject", "")), body.get("type"), body.get("response_type", "")
        if kind not in KINDS:
            yield f'invalid export type: "{kind or "unknown"}"'
        if answers not in RESPONSES if kind == "service" else answers:
            yield f'invalid response type for {kind}: "{answers}"'
        if number(body, "response_threshold") < 0:
            yield "negative response threshold is invalid"
        yield from _subject_faults(subject)
        position = number(body, "account_token_position")
        if position and subject.split(".")[position - 1 : position] != ["*"]:
            yield f"Account Token Position {position} must match a * in: {subject}"
    for kind in KINDS:
        names = [str(body.get("subject", "")) for body in claims.exports if body.get("type") == kind]
        for rank, outer in enumerate(names):
            within = (name for name in names[:rank] + names[rank + 1 :] if _is_within(name, outer))
            yield from (f'{kind} export subject "{outer}" already exports "{name}"' for name in within)


def _mapping_faults(claims: AccountClaims) -> Iterator[str]:
    for source in claims.mappings:
        yield from _subject_faults(source)
        shares: dict[str, int] = {}
        for entry in blocks(claims.mappings, source):
            yield from _subject_faults(str(entry.get("subject", "")))
            cluster = str(entry.get("cluster", ""))
            shares[cluster] = shares.get(cluster, 0) + (number(entry, "weight") or WHOLE_PERCENT)
        if any(share > WHOLE_PERCENT for share in shares.values()):
            yield f'Mapping "{source}" exceeds 100% among all of it\'s weighted to mappings'


def _authorization_faults(claims: AccountClaims) -> Iterator[str]:
    callout = claims.callout
    if callout.allowed_accounts and not callout.users:
        yield "External authorization cannot have accounts without users specified"
    for user in callout.users:
        if not user.startswith("U"):
            yield f'AuthUser "{user}" is not a valid user public key'
    if callout.xkey and not callout.xkey.startswith("X"):
        yield f'XKey "{callout.xkey}" is not a valid public xkey'


def _limit_faults(claims: AccountClaims) -> Iterator[str]:
    limits: Mapping[str, Any] = block(claims.token.body, "limits")
    if 0 <= number(limits, "imports") < len(claims.imports):
        yield "the account contains more imports than allowed by the operator"
    if 0 <= number(limits, "exports") < len(claims.exports):
        yield "the account contains more exports than allowed by the operator"
    if number(limits, "exports") >= 0 and not limits.get("wildcards"):
        for body in claims.exports:
            if any(token in ("*", ">") for token in str(body.get("subject", "")).split(".")):
                yield "the account contains wildcard exports that are not allowed by the operator"
    if "" in block(limits, "tiered_limits"):
        yield 'Tiered JetStream Limits can not contain a blank "" tier name'


def _subject_faults(subject: str) -> Iterator[str]:
    if not subject:
        yield "subject cannot be empty"
        return
    if " " in subject:
        yield f'subject "{subject}" cannot have spaces'
    if subject.startswith(".") or subject.endswith("."):
        yield f'subject "{subject}" cannot start or end with a `.`'
    if ".." in subject:
        yield f'subject "{subject}" cannot contain consecutive `.`'


def _is_within(inner: str, outer: str) -> bool:
    return is_subset(inner.encode(), outer.encode())
