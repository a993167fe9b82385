"""What a running broker may take over from a changed configuration. Pure.

All or nothing, as in nats-server (spec monitoring-and-ops section 4): if anything changed that cannot change while
running, nothing is taken over, and the log says which option it was. Plain values are shown, whole blocks are not: they
may hold secrets.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from leafnode.config.options import Config, JetStreamConfig, LeafRemote

RELOADABLE = frozenset(
    {
        "accounts",
        "allow_non_tls",
        "argv",
        "authorization",
        "client_advertise",
        "config_digest",
        "config_file",
        "connect_error_reports",
        "debug",
        "default_js_domain",
        "jetstream",
        "lame_duck_duration_s",
        "lame_duck_grace_s",
        "leafnodes",
        "log_file",
        "log_max_files",
        "log_size_limit",
        "logtime",
        "logtime_utc",
        "mappings",
        "max_connections",
        "max_control_line",
        "max_payload",
        "max_pending",
        "max_subscriptions",
        "max_traced_msg_len",
        "no_auth_user",
        "no_fast_producer_stall",
        "pid_file",
        "ping_interval_s",
        "ping_max",
        "ports_file_dir",
        "reconnect_error_reports",
        "remote_syslog",
        "resolver_preload",
        "server_metadata",
        "server_tags",
        "syslog",
        "tls",
        "trace",
        "trace_headers",
        "trace_verbose",
        "warnings",
        "write_deadline_s",
    }
)
"""Options that may change while clients are connected; of `jetstream` and `leafnodes` a part."""

OF_JETSTREAM = frozenset({"enabled", "max_memory_store", "max_file_store"})
"""What may change of a JetStream that stays on; the stores may only grow."""
UNTOLD = frozenset({"argv", "config_digest", "warnings"})
"""Changes that say nothing by themselves."""


def changed(old: Config, new: Config) -> frozenset[str]:
    """Names of the options that differ."""
    return _differing(old, new)


def _differing(old: Any, new: Any) -> frozenset[str]:
    names = (field.name for field in dataclasses.fields(old))
    return frozenset(name for name in names if getattr(old, name) != getattr(new, name))


def refusal(old: Config, new: Config) -> str:
    """Why `new` cannot be taken over while running, in the log's words; empty when it can."""
    return next(_refusals(old, new), "")


def _refusals(old: Config, new: Config) -> Iterator[str]:
    for option in sorted(changed(old, new) - RELOADABLE):
        values = getattr(old, option), getattr(new, option)
        shown = f": old={values[0]}, new={values[1]}" if all(map(_is_plain, values)) else ""
        yield _not_supported(option + shown)
    if old.authorization.callout is None and new.authorization.callout is not None:
        yield _not_supported("authorization.auth_callout: the server's id is to become a key that signs")
    yield from _jetstream_refusals(old.jetstream, new.jetstream)
    yield from _leaf_refusals(old, new)


def _not_supported(what: str) -> str:
    return f"config reload not supported for {what}; restart to apply it"


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | None)


def _jetstream_refusals(old: JetStreamConfig, new: JetStreamConfig) -> Iterator[str]:
    """Switching it on or off is fine, whatever else changes with that."""
    if not (old.enabled and new.enabled):
        return
    for key in sorted(_differing(old, new) - OF_JETSTREAM):
        yield _not_supported(f"jetstream.{key}")
    for key, before, now in (
        ("max_memory_store", old.max_memory_store, new.max_memory_store),
        ("max_file_store", old.max_file_store, new.max_file_store),
    ):
        if before != now and (before < 0 or now < 0):
            yield _not_supported(f"jetstream.{key} from or to what the machine has")
        elif now < before:
            yield _not_supported(f"decreasing jetstream.{key}: old={before}, new={now}")


def _leaf_refusals(old: Config, new: Config) -> Iterator[str]:
    """Remotes may come, go, and be disabled; nothing else of the block may change."""
    before, after = (dataclasses.replace(config.leafnodes, remotes=()) for config in (old, new))
    for key in sorted(_differing(before, after)):
        yield _not_supported(f"leafnodes.{key}")
    known = {mark(remote): remote for remote in old.leafnodes.remotes}
    for remote in new.leafnodes.remotes:
        same = known.get(mark(remote))
        if same is not None:
            for key in sorted(_differing(same, remote) - {"disabled"}):
                yield _not_supported(f"{key} of the leafnode remote {remote.urls[0]}")


def mark(remote: LeafRemote) -> tuple[str, ...]:
    """What a remote is known by: its account and its addresses."""
    return remote.account, *(str(url) for url in remote.urls)


def report(old: Config, new: Config) -> list[str]:
    """What was taken over, one line an option, for the log."""
    lines = []
    for option in sorted(changed(old, new) - UNTOLD):
        values = getattr(old, option), getattr(new, option)
        lines.append(f"{option} = {values[1]} (was {values[0]})" if all(map(_is_plain, values)) else option)
    return lines
