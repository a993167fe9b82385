"""The command line: nats-server's flags, read by Go's rules. Pure but for the configuration file it names.

One dash or two, a value after `=` or as the next argument, booleans without a value, `-DV` a flag of its own and not a
group. What the command line says beats the file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from leafnode.base.nearest import hint
from leafnode.config.check import check
from leafnode.config.load import check_files, load_file
from leafnode.config.options import ClusterConfig, Config, TlsConfig
from leafnode.config.section import syslog_address
from leafnode.errors import ConfigError

Kind = Literal["text", "number", "flag"]
Action = Literal["run", "test", "version", "help", "signal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    names: tuple[str, ...]
    kind: Kind
    does: str
    """One line of help; empty = accepted, not advertised."""
    value: str = ""
    """How help calls the value."""


def _flag(names: str, kind: Kind, value: str, does: str) -> Flag:
    return Flag(names=tuple(names.split()), kind=kind, value=value, does=does)


GROUPS: dict[str, tuple[Flag, ...]] = {
    "Server options": (
        _flag("a addr net", "text", "host", "address for clients (default 0.0.0.0)"),
        _flag("p port", "number", "port", "port for clients (default 4222; -1 = any free one)"),
        _flag("n name server_name", "text", "name", "server name (default: the server's id)"),
        _flag("P pid", "text", "file", "write the process id to this file"),
        _flag("m http_port", "number", "port", "HTTP monitoring on this port"),
        _flag("ms https_port", "number", "port", "HTTPS monitoring on this port, with the certificate for clients"),
        _flag("c config", "text", "file", "configuration file"),
        _flag("t", "flag", "", "check the configuration and exit: 0 good, 1 bad"),
        _flag(
            "sl signal", "text", "do=pid", "send ldm, stop, quit, term, reopen or reload to a process (pid or PID file)"
        ),
        _flag("client_advertise", "text", "addr", "address that clients are told instead of ours"),
        _flag("ports_file_dir", "text", "dir", "write the ports in use to <dir>/<executable>_<pid>.ports"),
    ),
    "Logging options": (
        _flag("l log", "text", "file", "log to this file instead of stderr"),
        _flag("s syslog", "flag", "", "log to the local syslog"),
        _flag("r remote_syslog", "text", "addr", "log to another syslog: udp://host:514 or unix:///path"),
        _flag("T logtime", "flag", "", "date and time in log lines (default true)"),
        _flag("logtime_utc", "flag", "", "in UTC instead of local time"),
        _flag("D debug", "flag", "", "log what happens in detail"),
        _flag("V trace", "flag", "", "log the protocol"),
        _flag("VV", "flag", "", "log the protocol, of the system account too"),
        _flag("DV", "flag", "", "-D and -V"),
        _flag("DVV", "flag", "", "-D and -VV"),
        _flag("log_size_limit", "number", "bytes", "archive the log file at this size"),
        _flag("max_traced_msg_len", "number", "bytes", "show so much of a traced payload"),
    ),
    "JetStream options": (
        _flag("js jetstream", "flag", "", "keep streams"),
        _flag("sd store_dir", "text", "dir", "folder of the store"),
    ),
    "Authorization options": (
        _flag("user", "text", "user", "user that clients must give"),
        _flag("pass", "text", "password", "password that clients must give"),
        _flag("auth", "text", "token", "token that clients must give"),
    ),
    "TLS options": (
        _flag("tls", "flag", "", "clients connect with TLS"),
        _flag("tlscert", "text", "file", "certificate of the server"),
        _flag("tlskey", "text", "file", "its private key"),
        _flag("tlscacert", "text", "file", "authority that client certificates come from"),
        _flag("tlsverify", "flag", "", "demand client certificates"),
    ),
    "Cluster (of one: a name and an address, no routes)": (
        _flag("cluster cluster_listen", "text", "url", "address for routes; nothing listens there"),
        _flag("cluster_name", "text", "name", "name shown in INFO"),
        _flag("no_advertise", "flag", "", ""),
        _flag("cluster_advertise", "text", "addr", ""),
        _flag("connect_retries", "number", "n", ""),
    ),
    "Common options": (
        _flag("h help", "flag", "", "show this and exit"),
        _flag("v version", "flag", "", "show the version and exit"),
    ),
}
"""Every flag, as `--help` shows them."""

REFUSED = {
    "routes": "leafnode is one server and has no routes; use leafnodes { remotes } in a file to join a hub",
    "profile": "leafnode has no profiling port",
    "help_tls": "see docs/leafnode-config.md for the tls block",
}
"""Flags of nats-server that leafnode has not, and what to do instead."""

_BY_NAME = {name: flag for group in GROUPS.values() for flag in group for name in flag.names}
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What the command line asks for. `given` is keyed by the first name of each flag."""

    action: Action
    given: Mapping[str, Any]


def parse_args(args: Sequence[str]) -> Invocation:
    """The flags in `args` (without the program's name).

    Raises:
        ConfigError: a flag is unknown, refused, or has a wrong value.
    """
    given: dict[str, Any] = {}
    rest = list(args)
    while rest:
        word = rest.pop(0)
        if word in ("version", "help") and not given:
            return Invocation(action="version" if word == "version" else "help", given={})
        if not word.startswith("-") or word in ("-", "--"):
            raise ConfigError(f"unrecognized command: {word!r}; flags begin with '-', see --help")
        name, has_value, value = word.removeprefix("-").removeprefix("-").partition("=")
        flag = _lookup(name)
        if flag.kind == "flag":
            given[flag.names[0]] = _boolean(name, value) if has_value else True
            continue
        if not has_value:
            if not rest:
                raise ConfigError(f"flag needs an argument: -{name} <{flag.value}>")
            value = rest.pop(0)
        given[flag.names[0]] = _number(name, value) if flag.kind == "number" else value
    return Invocation(action=_action(given), given=given)


def _lookup(name: str) -> Flag:
    if name in REFUSED:
        raise ConfigError(f"-{name}: {REFUSED[name]}")
    flag = _BY_NAME.get(name)
    if flag is None:
        raise ConfigError(f"flag provided but not defined: -{name}{hint(name, _BY_NAME)}")
    return flag


def _boolean(name: str, value: str) -> bool:
    if value not in _TRUE | _FALSE:
        raise ConfigError(f"invalid boolean value {value!r} for -{name}: use true or false")
    return value in _TRUE


def _number(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ConfigError(f"invalid value {value!r} for flag -{name}: a whole number is expected") from None


def _action(given: Mapping[str, Any]) -> Action:
    if given.get("h"):
        return "help"
    if given.get("v"):
        return "version"
    if "sl" in given:
        return "signal"
    return "test" if given.get("t") else "run"


def configure(args: Sequence[str], environ: Mapping[str, str]) -> Config:
    """The checked configuration that a command line stands for; the same call again is a reload.

    Raises:
        ConfigError: says what is wrong, where, and what to do.
    """
    given = parse_args(args).given
    config = load_file(given["c"], environ) if "c" in given else Config()
    config = replace(_overridden(config, given), argv=tuple(args))
    if not config.http_host:
        config = replace(config, http_host=config.host)
    check(config)
    check_files(config)
    return config


def _overridden(config: Config, given: Mapping[str, Any]) -> Config:
    """`config` with what the command line says in its place."""
    plain = {
        "a": "host",
        "p": "port",
        "n": "server_name",
        "P": "pid_file",
        "m": "http_port",
        "ms": "https_port",
        "s": "syslog",
        "r": "remote_syslog",
        "client_advertise": "client_advertise",
        "ports_file_dir": "ports_file_dir",
        "l": "log_file",
        "T": "logtime",
        "logtime_utc": "logtime_utc",
        "log_size_limit": "log_size_limit",
        "max_traced_msg_len": "max_traced_msg_len",
    }
    fields: dict[str, Any] = {field: given[name] for name, field in plain.items() if name in given}
    if fields.get("remote_syslog") and syslog_address(fields["remote_syslog"]) is None:
        raise ConfigError("-r: a syslog is udp://HOST:PORT or unix:///PATH; over TCP a hung server would hang us")
    for field in ("port", "http_port", "https_port"):
        if not -1 <= (fields.get(field) or 0) <= 65535:
            raise ConfigError(f"{field.replace('_', ' ')} must be from 1 to 65535, or -1 for any free one")
    fields |= _logging(config, given)
    fields |= _access(config, given)
    fields |= _store(config, given)
    fields |= _encryption(config, given)
    fields |= _cluster(config, given)
    return replace(config, **fields)


def _logging(config: Config, given: Mapping[str, Any]) -> dict[str, Any]:
    verbose = bool(given.get("VV") or given.get("DVV"))
    both = bool(given.get("DV") or given.get("DVV"))
    return {
        "debug": both or given.get("D", config.debug),
        "trace": both or verbose or given.get("V", config.trace),
        "trace_verbose": verbose or config.trace_verbose,
    }


def _access(config: Config, given: Mapping[str, Any]) -> dict[str, Any]:
    names = {"user": "user", "pass": "password", "auth": "token"}
    fields = {field: given[name] for name, field in names.items() if given.get(name)}
    return {"authorization": replace(config.authorization, **fields)} if fields else {}


def _store(config: Config, given: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if "js" in given:
        fields["enabled"] = given["js"]
    if given.get("sd"):
        fields["store_dir"] = given["sd"]
    return {"jetstream": replace(config.jetstream, **fields)} if fields else {}


def _encryption(config: Config, given: Mapping[str, Any]) -> dict[str, Any]:
    names = {"tlscert": "cert_file", "tlskey": "key_file", "tlscacert": "ca_file", "tlsverify": "verify"}
    fields = {field: given[name] for name, field in names.items() if given.get(name)}
    if not fields and not given.get("tls"):
        return {}
    block = replace(config.tls or TlsConfig(), **fields)
    if not block.cert_file or not block.key_file:
        raise ConfigError("TLS needs a certificate and its key: give --tlscert and --tlskey")
    return {"tls": block}


def _cluster(config: Config, given: Mapping[str, Any]) -> dict[str, Any]:
    if "cluster" not in given and "cluster_name" not in given:
        return {}
    name = given.get("cluster_name", config.cluster.name)
    if " " in name:
        raise ConfigError("cluster name cannot contain spaces")
    return {"cluster": ClusterConfig(name=name, listen=given.get("cluster", config.cluster.listen))}


def help_text() -> str:
    """What `--help` prints."""
    lines = ["Usage: leafnode [options]", "       leafnode check --help    look for damage in a store"]
    for title, flags in GROUPS.items():
        lines += ["", f"{title}:"]
        for flag in flags:
            if flag.does:
                names = ", ".join(f"-{name}" if len(name) < 3 or name.isupper() else f"--{name}" for name in flag.names)
                value = f" <{flag.value}>" if flag.value else ""
                lines.append(f"    {names + value:<34} {flag.does}")
    lines += ["", "One dash or two; `-p 4222` or `-p=4222`. Flags beat the file. Keys: docs/leafnode-config.md"]
    return "\n".join(lines)
