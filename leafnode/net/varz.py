"""The answer of /varz: the server's figures under nats-server's names, in its order. Pure.

The broker fills a `Snapshot` with what it counts; everything else comes from the configuration. Sources: spec
monitoring-and-ops section 1.1, checked against nats-server 2.15.1. Groups that we do not have are `{}`, as there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from leafnode.config.options import AUTH_TIMEOUT_S, Config, LeafnodesConfig, WebsocketConfig

NS_PER_S = 1_000_000_000
TLS_TIMEOUT_S = 2  # shown also without a tls block, as in nats-server
WS_HANDSHAKE_S = 2.0  # the default, which nats-server does not show


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Messages and bytes, since the start."""

    in_msgs: int = 0
    in_bytes: int = 0
    out_msgs: int = 0
    out_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JetStreamFigures:
    store_dir: str = ""
    max_memory: int = 0
    """Bytes."""
    max_storage: int = 0
    """Bytes."""
    memory: int = 0
    """Bytes in use."""
    storage: int = 0
    """Bytes in use."""
    reserved_memory: int = 0
    reserved_storage: int = 0
    accounts: int = 0
    api_level: int = 0
    api_total: int = 0
    api_errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the server counts at one moment."""

    config: Config
    server_id: str
    server_name: str
    version: str
    git_commit: str
    go: str
    """The runtime, `python3.11.2`; the key is nats-server's."""
    port: int
    """In use, where the configuration may say "any"."""
    http_port: int = 0
    leaf_port: int = 0
    websocket_port: int = 0
    connect_urls: Sequence[str] = ()
    websocket_urls: Sequence[str] = ()
    start_ns: int
    """Unix time of the start."""
    now_ns: int
    config_loaded_ns: int
    mem_bytes: int = 0
    """Resident."""
    cores: int = 1
    cpu_percent: float = 0.0
    """Of one core, since the last look."""
    connections: int = 0
    """Clients now."""
    total_connections: int = 0
    """Clients since the start."""
    leafnodes: int = 0
    subscriptions: int = 0
    traffic: Traffic = Traffic()
    """Of all connections."""
    client_traffic: Traffic = Traffic()
    """Of clients only."""
    slow_clients: int = 0
    slow_leafs: int = 0
    stale_clients: int = 0
    stalled_clients: int = 0
    """Reads put off because a receiver was congested."""
    stale_leafs: int = 0
    http_requests: Mapping[str, int] = field(default_factory=dict)
    jetstream: JetStreamFigures | None = None
    """None = JetStream is off."""


def varz(now: Snapshot) -> dict[str, Any]:
    """The whole answer, ready for JSON."""
    return {**_identity(now), **_settings(now), **_figures(now), **_origin(now)}


def _identity(now: Snapshot) -> dict[str, Any]:
    config = now.config
    answer: dict[str, Any] = {
        "server_id": now.server_id,
        "server_name": now.server_name,
        "version": now.version,
        "proto": 1,
        "git_commit": now.git_commit,
        "go": now.go,
        "host": config.host,
        "port": now.port,
    }
    if config.auth_required:
        answer["auth_required"] = True
    if config.tls:
        answer["tls_required"] = not config.allow_non_tls
        answer["tls_verify"] = config.tls.verify or config.tls.verify_and_map
    if now.connect_urls:
        answer["connect_urls"] = list(now.connect_urls)
    if now.websocket_urls:
        answer["ws_connect_urls"] = list(now.websocket_urls)
    return answer


def _settings(now: Snapshot) -> dict[str, Any]:
    config = now.config
    answer: dict[str, Any] = {"max_connections": config.max_connections}
    if config.max_subscriptions > 0:
        answer["max_subscriptions"] = config.max_subscriptions
    answer |= {
        "ping_interval": _ns(config.ping_interval_s),
        "ping_max": config.ping_max,
        "http_host": config.http_host or config.host,
        "http_port": now.http_port if config.https_port is None else 0,
        "http_base_path": config.http_base_path.rstrip("/"),
        "https_port": 0 if config.https_port is None else now.http_port,
        "auth_timeout": _plain_seconds(config.auth_timeout_s),
        "max_control_line": config.max_control_line,
        "max_payload": config.max_payload,
        "max_pending": config.max_pending,
        "cluster": {"name": config.cluster.name} if config.cluster.name else {},
        "gateway": {},
        "leaf": _leaf(config.leafnodes, now.leaf_port),
        "mqtt": {},
        "websocket": _websocket(config.websocket, now.websocket_port),
        "jetstream": _jetstream(config, now.jetstream) if now.jetstream else {},
        "tls_timeout": _plain_seconds(config.tls.timeout_s) if config.tls else TLS_TIMEOUT_S,
        "write_deadline": _ns(config.write_deadline_s),
    }
    return answer


def _websocket(block: WebsocketConfig, port: int) -> dict[str, Any]:
    if block.port is None:
        return {}
    own = block.authorization
    shown = {
        "advertise": block.advertise,
        "no_auth_user": block.no_auth_user,
        "jwt_cookie": block.jwt_cookie,
        "handshake_timeout": _ns(block.handshake_timeout_s) if block.handshake_timeout_s != WS_HANDSHAKE_S else 0,
        "auth_timeout": _plain_seconds(own.timeout_s) if own.timeout_s != AUTH_TIMEOUT_S else 0,
        "no_tls": block.no_tls,
        "tls_pinned_certs": sorted(block.tls.pinned_certs) if block.tls else [],
        "same_origin": block.same_origin,
        "allowed_origins": list(block.allowed_origins),
        "compression": block.compression,
    }
    return {"host": block.host, "port": port, **{key: value for key, value in shown.items() if value}}


def _leaf(block: LeafnodesConfig, port: int) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    if block.port is not None:
        answer["host"] = block.host
        answer["port"] = port
        answer["auth_timeout"] = _plain_seconds(block.authorization.timeout_s if block.authorization else 2.0)
        answer["tls_timeout"] = TLS_TIMEOUT_S
    remotes = []
    for remote in block.remotes:
        shown: dict[str, Any] = {
            "local_account": remote.account,
            "urls": [f"{url.host}:{url.port}" for url in remote.urls],
        }
        deny = {"exports": list(remote.deny_exports), "imports": list(remote.deny_imports)}
        if any(deny.values()):
            shown["deny"] = {way: subjects for way, subjects in deny.items() if subjects}
        remotes.append(shown)
    if remotes:
        answer["remotes"] = remotes
    return answer


def _jetstream(config: Config, figures: JetStreamFigures) -> dict[str, Any]:
    return {
        "config": jetstream_config(config, figures),
        "stats": jetstream_stats(figures),
        "limits": jetstream_limits(config),
    }


def jetstream_limits(config: Config) -> dict[str, int]:
    """Those of the block `jetstream.limits` that are set."""
    limits = config.jetstream.limits
    window_s = limits.duplicate_window_s
    shown = {
        "max_request_batch": limits.max_request_batch,
        "max_ack_pending": limits.max_ack_pending,
        "max_duplicate_window": _ns(window_s) if window_s else 0,
    }
    return {key: value for key, value in shown.items() if value > 0}


def jetstream_config(config: Config, figures: JetStreamFigures) -> dict[str, Any]:
    """`sync_always` is the truth about us: nothing is acknowledged before it is synced, unless `sync: normal`."""
    settings: dict[str, Any] = {
        "max_memory": figures.max_memory,
        "max_storage": figures.max_storage,
        "store_dir": figures.store_dir,
        "sync_interval": 0,
        "sync_always": config.jetstream.sync == "always",
    }
    if config.jetstream.domain:
        settings["domain"] = config.jetstream.domain
    settings["strict"] = config.jetstream.strict
    return settings


def jetstream_stats(figures: JetStreamFigures) -> dict[str, Any]:
    return {
        "memory": figures.memory,
        "storage": figures.storage,
        "reserved_memory": figures.reserved_memory,
        "reserved_storage": figures.reserved_storage,
        "accounts": figures.accounts,
        "ha_assets": 0,
        "api": {"level": figures.api_level, "total": figures.api_total, "errors": figures.api_errors},
    }


def _figures(now: Snapshot) -> dict[str, Any]:
    return {
        "start": rfc3339(now.start_ns),
        "now": rfc3339(now.now_ns),
        "uptime": uptime((now.now_ns - now.start_ns) // NS_PER_S),
        "mem": now.mem_bytes,
        "cores": now.cores,
        "gomaxprocs": now.cores,
        "cpu": now.cpu_percent,
        "connections": now.connections,
        "total_connections": now.total_connections,
        "routes": 0,
        "remotes": 0,
        "leafnodes": now.leafnodes,
        "in_msgs": now.traffic.in_msgs,
        "in_bytes": now.traffic.in_bytes,
        "in_client_msgs": now.client_traffic.in_msgs,
        "in_client_bytes": now.client_traffic.in_bytes,
        "out_msgs": now.traffic.out_msgs,
        "out_bytes": now.traffic.out_bytes,
        "out_client_msgs": now.client_traffic.out_msgs,
        "out_client_bytes": now.client_traffic.out_bytes,
        "slow_consumers": now.slow_clients + now.slow_leafs,
        "stale_connections": now.stale_clients + now.stale_leafs,
        "stalled_clients": now.stalled_clients,
        "subscriptions": now.subscriptions,
        "http_req_stats": dict(sorted(now.http_requests.items())),
    }


def _origin(now: Snapshot) -> dict[str, Any]:
    config = now.config
    answer: dict[str, Any] = {
        "config_load_time": rfc3339(now.config_loaded_ns),
        "config_digest": config.config_digest,
    }
    if config.server_tags:
        answer["tags"] = list(config.server_tags)
    if config.server_metadata:
        answer["metadata"] = dict(config.server_metadata)
    answer |= {
        "feature_flags": dict(config.feature_flags),
        "system_account": config.system_account,
        "slow_consumer_stats": _by_kind(now.slow_clients, now.slow_leafs),
        "stale_connection_stats": _by_kind(now.stale_clients, now.stale_leafs),
        "disk_io_wait_stats": {"waiters": 0, "waits": 0, "wait_time": 0, "max_wait_time": 0},
    }
    return answer


def _by_kind(clients: int, leafs: int) -> dict[str, int]:
    return {"clients": clients, "routes": 0, "gateways": 0, "leafs": leafs}


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def _plain_seconds(seconds: float) -> float:
    """2 rather than 2.0, as Go prints it."""
    return int(seconds) if seconds.is_integer() else seconds


def rfc3339(unix_ns: int) -> str:
    """A moment as nats-server writes it: UTC, up to nine digits of the second."""
    seconds, fraction = divmod(unix_ns, NS_PER_S)
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + digits + "Z"


def uptime(seconds: int) -> str:
    """`13s`, `2m3s`, `1d2h3m4s`, `1y2d3h4m5s`."""
    minutes, s = divmod(max(0, seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    years, d = divmod(days, 365)
    parts = [(years, "y"), (d, "d"), (h, "h"), (m, "m"), (s, "s")]
    while len(parts) > 1 and parts[0][0] == 0:
        parts.pop(0)
    return "".join(f"{amount}{unit}" for amount, unit in parts)
