"""How `fleet` finds its hub: command-line options, then FLEET_* variables, then a small TOML file, then defaults.

The file holds contexts, so that several fleets fit; flat keys are the context that is used when none is named:

    context = "home"                    # which of the tables below; optional
    server = "nats://hub.example:4222"  # used when there is no context

    [contexts.home]
    server = "nats://10.0.0.2:4222"
    creds = "~/.config/fleet/home.creds"

An option that is not given anywhere falls through to the next place, key by key. Unknown keys are errors that name the
file and the nearest known key.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent.errors import ConfigError
from leafnode.base import toml
from leafnode.base.nearest import hint

DEFAULT_SERVER: Final = "nats://127.0.0.1:4222"

ENVIRONMENT: Final = {
    "server": "FLEET_SERVER",
    "creds": "FLEET_CREDS",
    "user": "FLEET_USER",
    "password": "FLEET_PASSWORD",
    "domain": "FLEET_DOMAIN",
    "role": "FLEET_ROLE",
    "author": "FLEET_AUTHOR",
    "tls_ca": "FLEET_TLS_CA",
    "tls_cert": "FLEET_TLS_CERT",
    "tls_key": "FLEET_TLS_KEY",
}
"""Setting -> variable. An empty variable counts as not set."""

FILES: Final = ("creds", "tls_ca", "tls_cert", "tls_key")
"""Settings that name a file which must exist; `~` is the home folder."""

CONTEXT_VARIABLE: Final = "FLEET_CONTEXT"
FILE_VARIABLE: Final = "FLEET_CONFIG"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where the hub is and who we are there."""

    server: str = DEFAULT_SERVER
    """One URL, or several of one cluster separated by commas."""

    creds: str = ""
    """Path of a NATS credentials file (JWT and nkey seed)."""

    user: str = ""
    password: str = dataclasses.field(default="", repr=False)

    domain: str = ""
    """The hub's JetStream domain when `server` is a leaf node; empty when `server` is the hub itself."""

    role: str = ""
    """Ask devices in this role, where our user may not ask for everything."""

    author: str = ""
    """Who is named in revisions of configuration; by default USER@HOST of this machine."""

    tls_ca: str = ""
    """Certificates that vouch for the server, when the system's do not."""

    tls_cert: str = ""
    tls_key: str = ""
    """Our own certificate, for servers that verify clients."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    server: str = ""
    creds: str = ""
    user: str = ""
    password: str = ""
    domain: str = ""
    role: str = ""
    author: str = ""
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    context: str = ""
    server: str = ""
    creds: str = ""
    user: str = ""
    password: str = ""
    domain: str = ""
    role: str = ""
    author: str = ""
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    contexts: dict[str, _Context] = dataclasses.field(default_factory=dict)


def file_path(environ: Mapping[str, str]) -> Path:
    """The settings file: $FLEET_CONFIG, else fleet/config.toml below $XDG_CONFIG_HOME or ~/.config."""
    if named := environ.get(FILE_VARIABLE):
        return Path(named)
    base = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".config")
    return Path(base) / "fleet" / "config.toml"


def resolve(options: Mapping[str, str | None], environ: Mapping[str, str], context: str | None = None) -> Connection:
    """The connection that `options` (of the command line), `environ` and the settings file add up to.

    Raises:
        ConfigError: the file is wrong, or the context named by option or variable is not in it.
    """
    from_file = _from_file(file_path(environ), context or environ.get(CONTEXT_VARIABLE) or "")
    chosen: dict[str, str] = {}
    for key, variable in ENVIRONMENT.items():
        value = options.get(key) or environ.get(variable) or from_file.get(key)
        if value:
            chosen[key] = value
    connection = Connection(**chosen)
    return dataclasses.replace(connection, **{key: _existing(key, chosen[key]) for key in FILES if key in chosen})


def _from_file(path: Path, wanted: str) -> dict[str, str]:
    if not path.exists():
        if wanted:
            raise ConfigError(f"context {wanted!r} is wanted, but there is no {path}: create it or drop --context")
        return {}
    try:
        file = toml.load(_File, toml.read(path), path)
    except toml.SettingsError as error:
        raise ConfigError(str(error)) from error
    name = wanted or file.context
    if not name:
        return {key: getattr(file, key) for key in ENVIRONMENT}
    if name not in file.contexts:
        known = ", ".join(sorted(file.contexts)) or "none"
        raise ConfigError(f"{path}: no context {name!r}{hint(name, file.contexts)} (contexts there: {known})")
    return {key: getattr(file.contexts[name], key) for key in ENVIRONMENT}


def _existing(key: str, name: str) -> str:
    path = Path(name).expanduser()
    if not path.is_file():
        option = "--" + key.replace("_", "-")
        raise ConfigError(f"file {path} does not exist: check {option}, {ENVIRONMENT[key]} or the settings file")
    return str(path)
