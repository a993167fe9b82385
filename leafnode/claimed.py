"""What an account's JWT says, as if it stood in the configuration: from there on both go one way.

Deprecated spellings are understood: `to` of an imported stream is a prefix, and an imported service with `to` has the
importer's name in `subject`. Source: spec auth section 4.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from leafnode.accounts import mapping_of
from leafnode.config.options import (
    AccountConfig,
    AccountJetStream,
    AccountLimits,
    Destination,
    ExportConfig,
    ImportConfig,
    MappingConfig,
)
from leafnode.errors import TrustError
from leafnode.route.claims import AccountClaims
from leafnode.route.jwt import block, blocks, number
from leafnode.route.transform import TransformError

log = logging.getLogger("leafnode.auth")

NS_IN_S = 1e9
NOT_STATED = ExportConfig(kind="service", subject="")


def config_of(claims: AccountClaims) -> AccountConfig:
    """Raises TrustError where a field has the wrong type."""
    return AccountConfig(
        name=claims.id,
        jetstream=_jetstream(claims),
        limits=AccountLimits(
            max_connections=claims.max_connections,
            max_subscriptions=claims.max_subscriptions,
            max_payload=claims.max_payload,
            max_leafnodes=claims.max_leafnodes,
        ),
        exports=tuple(map(_export, claims.exports)),
        imports=tuple(map(_import, claims.imports)),
        mappings=tuple(_mappings(claims)),
    )


def _jetstream(claims: AccountClaims) -> AccountJetStream | None:
    given = claims.jetstream
    if not given.is_enabled:
        return None
    return AccountJetStream(
        max_memory=given.memory,
        max_file=given.disk,
        max_streams=given.streams,
        max_consumers=given.consumers,
        max_ack_pending=given.max_ack_pending,
        memory_max_stream_bytes=given.memory_stream_bytes,
        store_max_stream_bytes=given.disk_stream_bytes,
        max_bytes_required=given.max_bytes_required,
        tier=given.tier,
    )


def _export(body: Mapping[str, Any]) -> ExportConfig:
    revocations = block(body, "revocations")
    answers = str(body.get("response_type", "")).lower()
    threshold_s = number(body, "response_threshold") / NS_IN_S
    return ExportConfig(
        kind="stream" if body.get("type") == "stream" else "service",
        subject=str(body.get("subject", "")),
        response_type="stream" if answers == "stream" else "chunked" if answers == "chunked" else "singleton",
        response_threshold_s=threshold_s or NOT_STATED.response_threshold_s,
        account_token_position=number(body, "account_token_position"),
        token_required=body.get("token_req") is True,
        revocations=tuple((key, number(revocations, key)) for key in revocations),
    )


def _import(body: Mapping[str, Any]) -> ImportConfig:
    subject, to, local = (str(body.get(key) or "") for key in ("subject", "to", "local_subject"))
    account, token = str(body.get("account", "")), str(body.get("token", ""))
    if body.get("type") == "stream":
        return ImportConfig(
            kind="stream", account=account, subject=subject, to=local, prefix="" if local else to, token=token
        )
    if not local and to:
        subject, local = to, subject
    return ImportConfig(
        kind="service", account=account, subject=subject, to=local, share=body.get("share") is True, token=token
    )


def _mappings(claims: AccountClaims) -> Iterator[MappingConfig]:
    """Those that make sense; the others are named in the log."""
    for source in claims.mappings:
        destinations = tuple(
            Destination(
                subject=str(entry.get("subject", "")),
                weight_percent=number(entry, "weight") or 100,
                cluster=str(entry.get("cluster", "")),
            )
            for entry in blocks(claims.mappings, source)
        )
        found = MappingConfig(source=source, destinations=destinations)
        try:
            mapping_of(found, "")
        except (TransformError, TrustError) as error:
            log.warning("account %s: the mapping of %r is not used: %s", claims.id, source, error)
            continue
        yield found
