"""From a configuration file to `Config`: the top level's keys, and reading files.

    path --read_file--> text --grammar.parse--> values --TOP--> fields --Config--> checked

Keys, aliases and units are those of nats-server; `section.Table` refuses the rest. `tables()` lists every block for the
documentation's test.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from leafnode.config import access, forward, links
from leafnode.config.check import check
from leafnode.config.grammar import Value, parse
from leafnode.config.options import (
    DEFAULT_PORT,
    Config,
    JetStreamConfig,
    JetStreamLimits,
    Sync,
    TlsConfig,
)
from leafnode.config.section import (
    Fields,
    Notes,
    Table,
    address,
    buffered,
    duration,
    flag,
    ignored,
    no_negative,
    number,
    port,
    positive,
    store_size,
    syslog_address,
    text,
    text_map,
    texts,
    write_timeout,
    wrong,
)
from leafnode.errors import ConfigError

FILE_MAX = 4 * 1024 * 1024  # bytes; operators preload some thousand JWTs, a disk image given by mistake is larger

JETSTREAM_LIMITS = Table(
    "jetstream.limits",
    {
        "max_ack_pending": ("max_ack_pending", number),
        "max_request_batch": ("max_request_batch", number),
        "duplicate_window": ("duplicate_window_s", duration),
    },
    unsupported={
        "max_ha_assets": "streams have one copy here",
        "batch": "its limits of batch publishing are fixed",
        "max_batch_inflight_per_stream|max_batch_inflight_total": "its limits of batch publishing are fixed",
        "max_batch_size|max_batch_timeout": "its limits of batch publishing are fixed",
    },
)


def _jetstream_limits(value: Value, notes: Notes) -> JetStreamLimits:
    return JetStreamLimits(**JETSTREAM_LIMITS.read(value, notes))


def _sync_interval(value: Value, notes: Notes) -> Sync:
    """Any interval is surpassed: leafnode syncs before every acknowledgement, unless told `normal`."""
    if value.data == "normal":
        return "normal"
    if value.data != "always":
        duration(value, notes)
    return "always"


JETSTREAM = Table(
    "jetstream",
    {
        "enabled|enable": ("enabled", flag),
        "store_dir|store|storedir": ("store_dir", text),
        "domain": ("domain", text),
        "max_memory_store|max_mem_store|max_mem|max_memory": ("max_memory_store", store_size),
        "max_file_store|max_file": ("max_file_store", store_size),
        "sync_interval|sync": ("sync", _sync_interval),
        "min_free_store": ("min_free_store", store_size),
        "limits": ("limits", _jetstream_limits),
        "max_buffered_msgs": ("max_buffered_msgs", buffered),
        "max_buffered_size": ("max_buffered_size", buffered),
        "strict": ("strict", flag),
        "unique_tag": ("ignored", text),
        "extension_hint": ("ignored", text),
        "max_outstanding_catchup": ("ignored", number),
        "request_queue_limit": ("ignored", number),
        "info_queue_limit": ("ignored", number),
        "meta_compact": ("ignored", number),
        "meta_compact_size": ("ignored", number),
        "meta_compact_sync": ("ignored", flag),
        "max_concurrent_io": ("ignored", number),
    },
    unsupported={
        "key|ek|encryption_key|cipher|tpm": "the store is not encrypted: encrypt the disk",
        "prev_key|prev_ek|prev_encryption_key|prev_cipher": "the store is not encrypted: encrypt the disk",
    },
)


def _jetstream(value: Value, notes: Notes) -> JetStreamConfig:
    wanted = access.enabled_word(value)
    if wanted is not None:
        return JetStreamConfig(enabled=wanted)
    fields = JETSTREAM.read(value, notes)
    fields.pop("ignored", None)
    fields.setdefault("enabled", True)
    return JetStreamConfig(**fields)


def _pinned(value: Value, notes: Notes) -> frozenset[str]:
    return frozenset(texts(value, notes))


def _tags(value: Value, notes: Notes) -> tuple[str, ...]:
    """An array, or text with commas."""
    return tuple(tag.strip() for words in texts(value, notes) for tag in words.split(",") if tag.strip())


RAFT_FLAGS = frozenset({"js_raft_delete_range"})
"""Of nats-server's feature flags those about replicas, which may be on or off as there are none."""


def _feature_flags(value: Value, notes: Notes) -> dict[str, bool]:
    """Names of behaviour that nats-server lets one choose: here what is off, and what is about replicas."""
    if not isinstance(value.data, dict):
        raise wrong(value, "'feature_flags' must be a block")
    found = {name: flag(item, notes) for name, item in value.data.items()}
    if on := sorted(name for name, is_on in found.items() if is_on and name not in RAFT_FLAGS):
        raise wrong(value, f"leafnode does not have the features {', '.join(on)}: remove them from 'feature_flags'")
    return found


def _syslog_address(value: Value, notes: Notes) -> str:
    found = text(value, notes)
    if found and syslog_address(found) is None:
        raise wrong(
            value, "'remote_syslog' must be udp://HOST:PORT or unix:///PATH; over TCP a hung server would hang us"
        )
    return found


def _trace_length(value: Value, notes: Notes) -> int:
    return max(0, number(value, notes))


TOP = Table(
    "",
    {
        "listen": ("listen", address),
        "host|net": ("host", text),
        "port": ("port", port),
        "client_advertise": ("client_advertise", text),
        "server_name": ("server_name", text),
        "server_tags": ("server_tags", _tags),
        "server_metadata": ("server_metadata", text_map),
        "http": ("http", address),
        "http_port|monitor_port": ("http_port", port),
        "http_base_path": ("http_base_path", text),
        "max_connections|max_conn": ("max_connections", number),
        "max_subscriptions|max_subs": ("max_subscriptions", number),
        "max_sub_tokens|max_subscription_tokens": ("max_sub_tokens", no_negative),
        "max_control_line": ("max_control_line", no_negative),
        "max_payload": ("max_payload", no_negative),
        "max_pending": ("max_pending", no_negative),
        "ping_interval": ("ping_interval_s", duration),
        "ping_max": ("ping_max", no_negative),
        "write_deadline": ("write_deadline_s", duration),
        "lame_duck_duration": ("lame_duck_duration_s", duration),
        "lame_duck_grace_period": ("lame_duck_grace_s", duration),
        "no_header_support": ("no_header_support", flag),
        "authorization": ("authorization", access.authorization),
        "accounts": ("accounts", access.accounts),
        "no_auth_user": ("no_auth_user", text),
        "system_account|system": ("system_account", text),
        "no_system_account|no_system|no_sys_acc": ("no_system_account", flag),
        "mappings|maps": ("mappings", access.mappings),
        "tls": ("tls", links.tls),
        "allow_non_tls": ("allow_non_tls", flag),
        "jetstream": ("jetstream", _jetstream),
        "default_js_domain": ("default_js_domain", text_map),
        "leafnodes|leaf": ("leafnodes", links.leafnodes),
        "forward|forwards": ("forwards", forward.forwards),
        "websocket|ws": ("websocket", links.websocket),
        "cluster": ("cluster", links.cluster),
        "operator|operators|roots|root|root_operators|root_operator": ("operators", texts),
        "trusted_keys|trusted": ("trusted_keys", texts),
        "resolver|account_resolver|account_resolvers|accounts_resolver": ("resolver", links.resolver),
        "resolver_preload": ("resolver_preload", text_map),
        "resolver_tls": ("resolver_tls", links.tls),
        "resolver_pinned_accounts": ("resolver_pinned_accounts", _pinned),
        "default_sentinel": ("default_sentinel", text),
        "debug": ("debug", flag),
        "trace": ("trace", flag),
        "trace_verbose": ("trace_verbose", flag),
        "trace_headers": ("trace_headers", flag),
        "max_traced_msg_len": ("max_traced_msg_len", _trace_length),
        "logtime": ("logtime", flag),
        "logtime_utc": ("logtime_utc", flag),
        "log_file|logfile": ("log_file", text),
        "store_dir|storedir": ("store_dir", text),
        "https": ("https", address),
        "https_port": ("https_port", port),
        "write_timeout": ("ignored", write_timeout),
        "no_fast_producer_stall": ("no_fast_producer_stall", flag),
        "max_closed_clients": ("max_closed_clients", no_negative),
        "feature_flags": ("feature_flags", _feature_flags),
        "log_size_limit|logfile_size_limit": ("log_size_limit", no_negative),
        "logfile_max_num|log_max_num": ("log_max_files", no_negative),
        "syslog": ("syslog", flag),
        "remote_syslog": ("remote_syslog", _syslog_address),
        "connect_error_reports": ("connect_error_reports", positive),
        "reconnect_error_reports": ("reconnect_error_reports", positive),
        "pid_file|pidfile": ("pid_file", text),
        "ports_file_dir": ("ports_file_dir", text),
        "disable_sublist_cache|no_sublist_cache": ("ignored", ignored),
    },
    unsupported={
        "gateway": "it is one server; sites join a hub with leafnodes { remotes }",
        "mqtt": "it speaks NATS only",
        "prof_port|prof_block_rate": "it has no profiling port",
        "ocsp|ocsp_cache": "it does not ask for the state of certificates",
        "proxies": "it trusts no proxies",
        "proxy_protocol": "it reads no PROXY lines: let the proxy keep addresses, or do without them",
        "always_enable_nonce": "it sends a nonce where somebody can sign it",
        "reload_signal|lame_duck": "the signals are SIGHUP and SIGUSR2",
    },
)


_ZERO_IS_DEFAULT = frozenset(
    [
        "port",
        "max_connections",
        "max_control_line",
        "max_payload",
        "max_pending",
        "ping_interval_s",
        "ping_max",
        "write_deadline_s",
    ]
)
"""Options whose zero stands for "not given", as in nats-server."""


def config_from(pairs: Mapping[str, Value], notes: Notes) -> Config:
    """The options that parsed pairs stand for, before the command line and `check`."""
    fields = TOP.read_pairs(pairs, notes)
    fields.pop("ignored", None)
    for field in _ZERO_IS_DEFAULT & fields.keys():
        if fields[field] == 0:
            del fields[field]
    _listening(fields)
    _storing(fields)
    _monitoring(fields)
    for more in ("trace_verbose", "trace_headers"):
        fields["trace"] = fields.get("trace", False) or fields.get(more, False)
    return Config(**fields)


def _listening(fields: Fields) -> None:
    host, number_ = fields.pop("listen", ("", None))
    if host:
        fields.setdefault("host", host)
    if number_ is not None:
        fields.setdefault("port", number_)
    if fields.get("port") == 0:
        fields["port"] = DEFAULT_PORT


def _storing(fields: Fields) -> None:
    """The store's folder may be named outside of its block."""
    folder = fields.pop("store_dir", "")
    if folder:
        block = fields.get("jetstream", JetStreamConfig())
        if block.store_dir:
            raise ConfigError("Duplicate 'store_dir' configuration: name it in jetstream { } or outside of it")
        fields["jetstream"] = replace(block, store_dir=folder)


def _monitoring(fields: Fields) -> None:
    for scheme in ("http", "https"):
        host, number_ = fields.pop(scheme, ("", None))
        if host:
            fields["http_host"] = host
        if number_ is not None:
            fields.setdefault(f"{scheme}_port", number_)
        if fields.get(f"{scheme}_port") == 0:
            fields[f"{scheme}_port"] = None
    if "http_base_path" in fields:
        fields["http_base_path"] = "/" + fields["http_base_path"].strip("/")


def read_text(path: str) -> str:
    """The text of a configuration file.

    Raises:
        ConfigError: it cannot be read, or is no text.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(FILE_MAX + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"open {path}: {reason}") from error
    if len(data) > FILE_MAX:
        raise ConfigError(f"{path}: larger than {FILE_MAX} bytes: not a configuration file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"Parse error: {path} is not UTF-8 text (byte {error.start})") from error


def read_included(target: str, including: str) -> tuple[str, str]:
    """For the grammar: an included file, relative to the one that includes it."""
    path = str(Path(including).parent / target)
    return read_text(path), path


def load_file(path: str, environ: Mapping[str, str]) -> Config:
    """The configuration in a file, not yet checked as a whole: the command line may still change it.

    Raises:
        ConfigError: it cannot be read, parsed or understood; the text names file and line.
    """
    pairs = parse(read_text(path), file=path, environ=environ, read=read_included)
    notes = Notes()
    if not pairs:
        notes.warnings.append(f"{path}: config has no values or is empty")
    config = config_from(pairs, notes)
    return replace(config, config_file=path, config_digest=_digest(pairs), warnings=tuple(notes.warnings))


def load_text(words: str, environ: Mapping[str, str] | None = None) -> Config:
    """The checked configuration in a text, for tests and tools."""
    notes = Notes()
    config = config_from(parse(words, environ=environ), notes)
    config = replace(config, warnings=tuple(notes.warnings), http_host=config.http_host or config.host)
    check(config)
    return config


def check_files(config: Config) -> None:
    """Raise ConfigError when a certificate or key that the configuration names cannot be read."""
    blocks: list[TlsConfig | None] = [config.tls, config.leafnodes.tls, config.websocket.tls]
    blocks += [remote.tls for remote in config.leafnodes.remotes]
    for block in blocks:
        for path in (block.cert_file, block.key_file, block.ca_file) if block else ():
            if path:
                _must_be_readable(path)


def _must_be_readable(path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"tls: open {path}: {(error.strerror or str(error)).lower()}") from error


def _digest(pairs: Mapping[str, Value]) -> str:
    """Of what the file says, not how: comments and spacing do not count."""
    plain: Any = {key: value.plain() for key, value in pairs.items()}
    return "sha256:" + hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def tables() -> Iterator[Table]:
    """Every block whose keys are known, outermost first."""
    yield TOP
    yield from (JETSTREAM, JETSTREAM_LIMITS)
    yield from (access.AUTHORIZATION, access.CALLOUT, access.USER, access.PERMISSIONS, access.RESPONSES)
    yield from (access.ACCOUNT, access.ACCOUNT_JETSTREAM, access.LIMITS, access.EXPORT, access.IMPORT, access.ORIGIN)
    yield access.DESTINATION
    yield from (links.LEAFNODES, links.REMOTE, links.PROXY, links.LEAF_AUTHORIZATION, links.LEAF_USER)
    yield from forward.TABLES
    yield from (links.TLS, links.WEBSOCKET, links.CLUSTER, links.RESOLVER)
