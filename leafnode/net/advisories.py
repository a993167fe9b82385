"""Bodies of the system account's messages: who we are, who came and went (spec monitoring-and-ops section 2). Pure."""

from collections.abc import Mapping
from typing import Any

from leafnode import identity
from leafnode.config.options import Config
from leafnode.net.sockets import Row
from leafnode.net.varz import rfc3339
from leafnode.route.auth import User
from leafnode.route.permissions import Permissions

CONNECT = "io.nats.server.advisory.v1.client_connect"
DISCONNECT = "io.nats.server.advisory.v1.client_disconnect"
CONNECTIONS = "io.nats.server.advisory.v1.account_connections"
JETSTREAM_FLAG = 1  # of `flags`; the other bits are of clusters


def server_info(config: Config, server_id: str, *, jetstream: bool, seq: int, now_ns: int) -> dict[str, Any]:
    """The `server` of every wrapper and event. `seq` counts these messages."""
    info: dict[str, Any] = {"name": config.server_name or server_id, "host": config.host, "id": server_id}
    if config.cluster.name:
        info["cluster"] = config.cluster.name
    if config.jetstream.domain:
        info["domain"] = config.jetstream.domain
    info["ver"] = identity.SPOKEN_VERSION
    if config.server_tags:
        info["tags"] = list(config.server_tags)
    if config.server_metadata:
        info["metadata"] = dict(config.server_metadata)
    return info | {
        "feature_flags": {},
        "jetstream": jetstream,
        "flags": JETSTREAM_FLAG if jetstream else 0,
        "seq": seq,
        "time": rfc3339(now_ns),
    }


def event(kind: str, event_id: str, now_ns: int, server: Mapping[str, Any], **fields: object) -> dict[str, Any]:
    return {"type": kind, "id": event_id, "timestamp": rfc3339(now_ns), "server": dict(server), **fields}


def client(row: Row) -> dict[str, Any]:
    """The `client` of an event."""
    shown: dict[str, Any] = {
        "start": rfc3339(row.start_ns),
        "host": row.ip,
        "id": row.cid,
        "acc": row.account or "$G",
        "user": row.user,
        "name": row.name,
        "lang": row.lang,
        "ver": row.version,
    }
    shown = {key: value for key, value in shown.items() if value != ""}
    if row.stop_ns:
        if row.rtt_ns:
            shown["rtt"] = row.rtt_ns
        shown["stop"] = rfc3339(row.stop_ns)
    shown |= {"name_tag": row.account or "$G", "kind": row.kind}
    if row.type:
        shown["client_type"] = row.type
    return shown


def gone(row: Row) -> dict[str, Any]:
    """What a disconnect tells beside the client. `sent` is what the client sent."""
    return {
        "client": client(row),
        "sent": {"msgs": row.in_msgs, "bytes": row.in_bytes},
        "received": {"msgs": row.out_msgs, "bytes": row.out_bytes},
        "reason": row.reason,
    }


def user_info(user: User, now_s: float) -> dict[str, Any]:
    """The `data` of $SYS.REQ.USER.INFO."""
    shown: dict[str, Any] = {"user": user.name or user.nkey, "account": user.account}
    shown["account_name"] = user.account_label or user.account
    if user.label:
        shown["user_name"] = user.label
    if user.permissions is not None:
        shown["permissions"] = _permissions(user.permissions)
    if user.ends_s:
        shown["expires"] = int(user.ends_s - now_s) * 1_000_000_000
    return shown


def _permissions(rules: Permissions) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    sides = {
        "publish": {"allow": rules.publish_allow, "deny": rules.publish_deny},
        "subscribe": {"allow": rules.subscribe_allow, "deny": rules.subscribe_deny},
    }
    for side, lists in sides.items():
        said = {way: [subject.decode(errors="replace") for subject in subjects] for way, subjects in lists.items()}
        if any(said.values()):
            shown[side] = {way: subjects for way, subjects in said.items() if subjects}
    if rules.responses is not None:
        shown["responses"] = {"max": rules.responses.max, "ttl": rules.responses.expires_ns}
    return shown
