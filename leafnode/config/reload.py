"""What a running broker may take over from a changed configuration. Pure.

All or nothing, as in nats-server (spec monitoring-and-ops section 4): if anything changed that cannot change while
running, nothing is taken over, and the log says which option it was.
"""

import dataclasses

from leafnode.config.options import Config

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
        "lame_duck_duration_s",
        "lame_duck_grace_s",
        "log_file",
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
        "trace_verbose",
        "warnings",
        "write_deadline_s",
    }
)
"""Options that may change while clients are connected."""


def changed(old: Config, new: Config) -> frozenset[str]:
    """Names of the options that differ."""
    return frozenset(
        field.name for field in dataclasses.fields(Config) if getattr(old, field.name) != getattr(new, field.name)
    )


def refusal(old: Config, new: Config) -> str:
    """Why `new` cannot be taken over while running, in the log's words; empty when it can.

    Plain values are shown, whole blocks are not: they may hold secrets.
    """
    fixed = sorted(changed(old, new) - RELOADABLE)
    if not fixed:
        return ""
    option = fixed[0]
    values = getattr(old, option), getattr(new, option)
    shown = ""
    if all(isinstance(value, str | int | float | None) for value in values):
        shown = f": old={values[0]}, new={values[1]}"
    return f"config reload not supported for {option}{shown}; restart to apply it"
