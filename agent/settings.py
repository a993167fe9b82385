"""The agent's settings: one TOML file, typed, frozen and strict. docs/agent.md documents every key.

The dataclasses are the schema (leafnode.base.toml): a key that is not a field is an error naming file, key and the
nearest known key. What needs no setting has a default that suits a Raspberry Pi.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, Literal

from agent import subjects
from agent.bus import BusOptions
from agent.errors import ConfigError, UsageError
from agent.identity import device_id
from agent.policy import Policy
from leafnode.base import toml

Format = Literal["json", "toml", "yaml", "ini", "env", "text", "template"]
Metric = Literal["cpu", "mem", "disk", "load", "temperature"]
LogLevel = Literal["debug", "info", "warning", "error"]

MAX_OUTPUT_BYTES: Final = 128 * 1024  # of stdout and of stderr; escaped as JSON both still fit one message of 1 MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    id: str = ""
    """1 to 63 of a-z, 0-9 and '-'. By default made of the host name."""
    groups: tuple[str, ...] = ()
    """Groups in the order in which their configuration layers merge: the last one wins."""
    tags: dict[str, str] = field(default_factory=dict)
    """Free names and values, for filters such as `tag.site = 'roof'`."""

    def __post_init__(self) -> None:
        _check(subjects.check_device_id, self.id or "default")
        for group in self.groups:
            _check(subjects.check_name, group, "group")
        for tag in self.tags:
            _check(subjects.check_name, tag, "tag")


@dataclass(frozen=True, slots=True, kw_only=True)
class Nats:
    urls: tuple[str, ...] = ("nats://127.0.0.1:4222",)
    """The broker: the site's leafnode, or the hub itself."""
    user: str = ""
    password: str = ""
    token: str = ""
    credentials: Path | None = None
    """A .creds file (user JWT and nkey seed)."""
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    hub_domain: str = ""
    """JetStream domain of the hub, when the broker is a leafnode with a domain of its own; usually `hub`."""

    def __post_init__(self) -> None:
        if not self.urls:
            raise ValueError("key 'urls' is empty: name at least one broker")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("keys 'tls_cert' and 'tls_key' belong together: set both or neither")


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    interval_s: float = 10.0
    """A device counts as gone after three of these."""

    def __post_init__(self) -> None:
        _at_least("interval_s", self.interval_s, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    tables: tuple[str, ...] = ()
    """Fact tables that this role sees; empty: every one."""
    hidden: tuple[str, ...] = ()
    """`table` or `table.column` that it does not."""

    @property
    def policy(self) -> Policy:
        return Policy.of(self.tables, self.hidden)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    enabled: bool = True
    hidden: tuple[str, ...] = ()
    """`table` or `table.column` that nobody sees: the table does not exist, the column is NULL."""
    roles: dict[str, Role] = field(default_factory=dict)
    """Who asks on `fleet.as.NAME.query…` sees what `[query.roles.NAME]` says."""
    time_limit_ms: int = 100
    """What evaluating one expression may take; collecting the facts is not counted."""
    rows: int = 1000
    """Most rows of one answer, whatever the asker wants."""
    bytes: int = 262_144
    """Most bytes of rows in one answer."""

    def __post_init__(self) -> None:
        for role in self.roles:
            _check(subjects.check_name, role, "role")
        _at_least("time_limit_ms", self.time_limit_ms, 1)
        _at_least("rows", self.rows, 1)
        _at_least("bytes", self.bytes, 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    folder: Path = Path("/etc/fleet-agent/facts.d")
    """Custom facts: NAME.json, NAME.toml, or executables that print JSON."""
    timeout_s: float = 5.0
    """For one executable."""
    age_s: float = 60.0
    """A custom fact is read or run again when it is older than this."""
    monitor: str = ""
    """Monitoring address of the site's broker, `http://127.0.0.1:8222`, for the tables leafnode and stream."""

    def __post_init__(self) -> None:
        _at_least("timeout_s", self.timeout_s, 0.1)
        _at_least("age_s", self.age_s, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    interval_s: float = 30.0
    """Time between samples; 0 turns the history off."""
    tables: tuple[str, ...] = ("cpu", "mem", "disk", "load", "temperature")
    """What is sampled: names of fact tables."""
    budget_bytes: int = 16_777_216
    """Size of the file; beyond it the oldest samples go."""
    commit_s: float = 300.0
    """Time between writes to the card; a power cut costs the samples since the last one."""

    def __post_init__(self) -> None:
        _at_least("interval_s", self.interval_s, 0)
        _at_least("budget_bytes", self.budget_bytes, 1_048_576)
        _at_least("commit_s", self.commit_s, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    enabled: bool = True
    output_bytes: int = 65_536
    """Kept of stdout, and of stderr."""
    max_timeout_s: float = 3600.0
    """Longest time that a command may ask for."""
    ack_wait_s: float = 30.0
    """A command whose device vanished is handed over again after this."""
    kept: int = 1000
    """Finished commands remembered in the ledger."""

    def __post_init__(self) -> None:
        _at_least("output_bytes", self.output_bytes, 0)
        if self.output_bytes > MAX_OUTPUT_BYTES:
            raise ValueError(f"key 'output_bytes' must be at most {MAX_OUTPUT_BYTES}")
        _at_least("max_timeout_s", self.max_timeout_s, 1)
        _at_least("ack_wait_s", self.ack_wait_s, 1)
        _at_least("kept", self.kept, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    interval_s: float = 30.0
    """Time between readings; 0 turns telemetry off."""
    metrics: tuple[Metric, ...] = ("cpu", "mem", "disk", "load", "temperature")
    queue: int = 2000
    """Readings held in memory while the broker is away; beyond it the oldest are dropped, and counted."""
    max_age_s: float = 604_800.0
    """How long a site keeps readings that the hub has not fetched (local stream TELEMETRY, with hub_domain)."""
    max_bytes: int = 268_435_456
    """And how many bytes of them."""

    def __post_init__(self) -> None:
        _at_least("interval_s", self.interval_s, 0)
        _at_least("queue", self.queue, 1)
        _at_least("max_age_s", self.max_age_s, 1)
        _at_least("max_bytes", self.max_bytes, 1_048_576)


_OF_FILES: Final = ("format", "mode", "owner", "template", "validate", "reload", "verify", "confirm_s", "on_drift")
_OWNER: Final = re.compile(r"[^:\s]+(:[^:\s]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One managed file, or hook: what `fleet_config` calls by the item's name."""

    path: Path | None = None
    """Absolute path of the file."""
    hook: tuple[str, ...] = ()
    """Instead of a file: command that gets the values as JSON on its standard input; 0 is `applied`."""
    format: Format = "json"
    mode: str = "0644"
    """Permission bits, octal."""
    owner: str = ""
    """`USER` or `USER:GROUP` that the file belongs to; by default whoever had the old one."""
    template: Path | None = None
    """The file that format `template` fills in."""
    secret: bool = False
    """Never show the content, nor what the commands below print, in a status or a log line."""
    validate: tuple[str, ...] = ()
    """Command that judges the new file before it is put in place; `{file}` stands for its temporary path."""
    reload: tuple[str, ...] = ()
    """Command that makes the service take the file."""
    verify: tuple[str, ...] = ()
    """Command that judges the service afterwards; a failure brings the old file back."""
    timeout_s: float = 30.0
    """For each of these commands."""
    confirm_s: float = 0.0
    """The change is undone unless the device reaches the hub within this time after it; 0: it need not."""

    on_drift: Literal["correct", "report"] = "correct"
    """What becomes of a file that was changed by hand: put back, or left and told."""

    def __post_init__(self) -> None:
        if bool(self.path) == bool(self.hook):
            raise ValueError("either key 'path' or key 'hook' is needed")
        if self.hook and (
            own := [
                each.name
                for each in fields(self)
                if each.name in _OF_FILES and getattr(self, each.name) != each.default
            ]
        ):
            raise ValueError(f"key {own[0]!r} is for files, and this item is a hook")
        if (self.format == "template") != bool(self.template):
            raise ValueError("key 'template' and format = \"template\" belong together")
        for key in ("path", "template"):
            if (path := getattr(self, key)) and not path.is_absolute():
                raise ValueError(f"key {key!r} must be absolute")
        if self.owner and not _OWNER.fullmatch(self.owner):
            raise ValueError("key 'owner' must be USER or USER:GROUP")
        try:
            bits = int(self.mode, 8)
        except ValueError:
            bits = -1
        if not 0 <= bits <= 0o7777:
            raise ValueError("key 'mode' must be octal digits such as \"0644\"")
        _at_least("timeout_s", self.timeout_s, 0.1)
        if self.confirm_s:
            _at_least("confirm_s", self.confirm_s, 1)

    @property
    def mode_bits(self) -> int:
        return int(self.mode, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    state_dir: Path = Path("/var/lib/fleet-agent")
    """Ledger of commands, previous versions of managed files."""
    log_level: LogLevel = "info"
    device: Device = field(default_factory=Device)
    nats: Nats = field(default_factory=Nats)
    presence: Presence = field(default_factory=Presence)
    query: Query = field(default_factory=Query)
    facts: Facts = field(default_factory=Facts)
    history: History = field(default_factory=History)
    commands: Commands = field(default_factory=Commands)
    telemetry: Telemetry = field(default_factory=Telemetry)
    config: dict[str, Item] = field(default_factory=dict)
    """Managed files by name: `[config.NAME]`."""

    def __post_init__(self) -> None:
        for name in self.config:
            _check(subjects.check_name, name, "config item")
        paths = [item.path for item in self.config.values() if item.path]
        if len(set(paths)) != len(paths):
            raise ValueError("two items of [config] have the same path")

    @property
    def device_id(self) -> str:
        return self.device.id or device_id()

    def bus_options(self) -> BusOptions:
        nats = self.nats
        return BusOptions(
            urls=nats.urls,
            name=f"fleet-agent {self.device_id}",
            user=nats.user,
            password=nats.password,
            token=nats.token,
            credentials=nats.credentials,
            tls_ca=nats.tls_ca,
            tls_cert=nats.tls_cert,
            tls_key=nats.tls_key,
            hub_domain=nats.hub_domain,
        )


def load(path: Path) -> Settings:
    """The settings in the file at `path`.

    Raises:
        ConfigError: the file cannot be used; the text says where and why.
    """
    try:
        return toml.load(Settings, toml.read(path), path)
    except toml.SettingsError as error:
        raise ConfigError(str(error)) from error


def _check(check: Callable[..., object], *words: str) -> None:
    """Name rules of the wire, as a ValueError that the reader of settings turns into place and reason."""
    try:
        check(*words)
    except UsageError as error:
        raise ValueError(str(error)) from error


def _at_least(key: str, value: float, least: float) -> None:
    if value < least:
        raise ValueError(f"key {key!r} must be at least {least:g}")
