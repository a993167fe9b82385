"""What a running broker may take over from a changed configuration. Pure.

All or nothing, as in nats-server (spec monitoring-and-ops section 4): if anything changed that cannot change while
running, nothing is taken over, and the log says which option it was. Plain values are shown, whole blocks are not: they
may hold secrets.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from leafnode.config.options import AccountConfig, Config, LeafRemote

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
        "lame_duck_duration_s",
        "lame_duck_grace_s",
        "leafnodes",
        "log_file",
        "log_size_limit",
        "logtime",
        "logtime_utc",
        "max_connections",
        "max_control_line",
        "max_payload",
        "max_pending",
        "max_subscriptions",
        "max_traced_msg_len",
        "no_auth_user",
        "pid_file",
        "ping_interval_s",
        "ping_max",
        "ports_file_dir",
        "reconnect_error_reports",
        "resolver_preload",
        "server_metadata",
        "server_tags",
        "tls",
        "trace",
        "trace_headers",
        "trace_verbose",
        "warnings",
        "write_deadline_s",
    }
)
"""Options that may change while clients are connected; of `accounts` and `leafnodes` a part."""

OF_ACCOUNT = frozenset({"name", "users", "nkey", "jetstream", "default_permissions"})
"""What may change of an account."""
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
    yield from _account_refusals(old, new)
    yield from _leaf_refusals(old, new)


def _not_supported(what: str) -> str:
    return f"config reload not supported for {what}; restart to apply it"


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | None)


def _account_refusals(old: Config, new: Config) -> Iterator[str]:
    for name, before in old.accounts.items():
        after = new.accounts.get(name)
        if before.jetstream is not None and (after is None or after.jetstream is None):
            yield _not_supported(f"taking JetStream from account {name!r}")
        keys = _differing(before, after or AccountConfig(name=name)) - OF_ACCOUNT
        for key in sorted(keys):
            yield _not_supported(f"accounts.{name}.{key}")
    for name in new.accounts.keys() - old.accounts.keys():
        for key in sorted(_differing(AccountConfig(name=name), new.accounts[name]) - OF_ACCOUNT):
            yield _not_supported(f"accounts.{name}.{key}")
    if bool(old.accounts.keys() - {old.system_account}) != bool(new.accounts.keys() - {new.system_account}):
        yield _not_supported("the first or last of the accounts: JetStream would move to another one")


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
