"""Message bodies of the fleet as values: frozen dataclasses, to bytes and back.

docs/fleet-protocol.md is the contract. Every body is a JSON object with `v`; `from_bytes` refuses another version and
a field of the wrong type with a PayloadError that names it, and ignores fields that it does not know. The annotations
are the schema: str, int, float, bool, datetime, Literal, `T | None`, tuple[T, ...], dict[str, T] and Any.
Times are aware datetimes here and RFC 3339 in UTC on the wire.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, Literal, Self, TypeVar

from agent.errors import PayloadError

T = TypeVar("T")

VERSION: Final = 1
DEFAULT_ROWS: Final = 100  # rows of one device's answer unless asked otherwise; a screen or two
DEFAULT_DEADLINE_MS: Final = 5000  # how long an asker waits by default; longer than a slow Pi under load needs

ConfigState = Literal["applied", "refused", "reverted", "pending", "drifted"]
OnUnknown = Literal["report", "retry"]
Step = Literal["started", "outcome"]
Outcome = Literal["succeeded", "failed", "timed_out", "unknown", "refused", "expired"]

_SPARING: Final = {"sparing": True}  # a field left out of the body while it has its default


class _Body:
    """What every body can do."""

    __slots__ = ()

    def to_bytes(self) -> bytes:
        """The body as compact JSON with its version."""
        values: dict[str, Any] = {"v": VERSION}
        for each in dataclasses.fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = getattr(self, each.name)
            if not (each.metadata.get("sparing") and value == each.default):
                values[each.name] = value
        return json.dumps(values, separators=(",", ":"), ensure_ascii=False, default=_json_value).encode(
            errors="replace"
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The value that `data` stands for.

        Raises:
            PayloadError: not a JSON object, another version, or a field missing or of the wrong type.
        """
        return _decode(cls, _object(cls.__name__, data))


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRequest(_Body):
    """A live query. With neither `where`, `select` nor `sql` it asks for the info document."""

    id: str = ""
    where: str | None = field(default=None, metadata=_SPARING)
    select: str | None = field(default=None, metadata=_SPARING)
    sql: str | None = field(default=None, metadata=_SPARING)
    limit: int = DEFAULT_ROWS
    deadline_ms: int = DEFAULT_DEADLINE_MS
    splay_ms: int = 0
    """Answers are spread over this time, so that a large fleet does not answer in one instant."""
    quiet: bool = False
    """A device that does not match says nothing."""
    explain: bool = field(default=False, metadata=_SPARING)
    """With `where`: answer what each part of the filter came to (columns depth, part, result, values)."""

    @property
    def is_info(self) -> bool:
        return not (self.where or self.select or self.sql)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """As for every body; an empty one asks for the info document, and plain text is a quiet filter."""
        text = data.strip()
        if not text:
            return cls()
        if text.startswith(b"{"):
            request = _decode(cls, _object(cls.__name__, data))
            if request.sql and (request.where or request.select):
                raise PayloadError("QueryRequest: field 'sql' is a whole statement: leave out 'where' and 'select'")
            return request
        try:
            return cls(where=text.decode(), quiet=True)
        except UnicodeDecodeError as error:
            raise PayloadError("QueryRequest: the filter is not UTF-8 text") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryReply(_Body):
    """One device's answer: rows, an info document, or an error (then `matched` is None)."""

    device: str
    id: str = field(default="", metadata=_SPARING)
    matched: bool | None = None
    columns: tuple[str, ...] | None = field(default=None, metadata=_SPARING)
    rows: tuple[tuple[Any, ...], ...] | None = field(default=None, metadata=_SPARING)
    truncated: bool = field(default=False, metadata=_SPARING)
    info: dict[str, Any] | None = field(default=None, metadata=_SPARING)
    error: str | None = field(default=None, metadata=_SPARING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence(_Body):
    """Value of `fleet_presence`/ID."""

    device: str
    boot_id: str
    started: datetime
    seq: int
    interval_s: float
    state: Literal["up", "down"]
    reason: str = field(default="", metadata=_SPARING)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEvent(_Body):
    """Something that happened to a device: on `tele.ID.event`."""

    device: str
    event: str
    """`started`, `link`, `frozen`, `power`."""
    reason: str
    at: datetime
    since: datetime | None = field(default=None, metadata=_SPARING)
    """When it began: the last sign of life before a start, the loss of a link."""
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch(_Body):
    """Value of `fleet_watches`/NAME: a query that devices ask themselves again and again."""

    where: str | None = field(default=None, metadata=_SPARING)
    select: str | None = field(default=None, metadata=_SPARING)
    sql: str | None = field(default=None, metadata=_SPARING)
    key: str = field(default="", metadata=_SPARING)
    """Column that tells rows apart; without one the whole row does."""
    every_s: float = 30.0
    hold_s: float = 0.0
    """A change is told when it held for this long."""
    group: str = field(default="", metadata=_SPARING)
    """Only devices of this group."""
    on: tuple[str, ...] = field(default=(), metadata=_SPARING)
    """Only these devices."""

    def concerns(self, device: str, groups: Container[str]) -> bool:
        """Whether the device is meant."""
        return (not self.group or self.group in groups) and (not self.on or device in self.on)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchReport(_Body):
    """What a device tells of a standing query: on `tele.ID.watch.NAME`.

    A full state (`full` says why it is sent: registered, changed, restarted, recovered, lost, repeated, ended) has
    `rows`; a difference has `added` and `removed`; an error has neither.
    """

    device: str
    watch: str
    revision: int
    """Of the key in `fleet_watches`."""
    n: int
    """Counts the reports of a device on a watch: a gap means that reports were lost."""
    at: datetime
    since: datetime | None = field(default=None, metadata=_SPARING)
    """When a difference was first seen; it is told at `at`, when it had held."""
    full: str = field(default="", metadata=_SPARING)
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] | None = field(default=None, metadata=_SPARING)
    added: tuple[tuple[Any, ...], ...] = field(default=(), metadata=_SPARING)
    removed: tuple[tuple[Any, ...], ...] = field(default=(), metadata=_SPARING)
    damped: int = field(default=0, metadata=_SPARING)
    """Changes since the last report that did not hold."""
    error: str = field(default="", metadata=_SPARING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory(_Body):
    """Value of `fleet_devices`/ID: the slow-moving facts."""

    device: str
    digest: str
    groups: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)
    agent_version: str
    facts: dict[str, Any] = field(default_factory=dict)
    seen: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigStatus(_Body):
    """Value of `fleet_config_status`/ID.NAME."""

    device: str
    name: str
    state: ConfigState
    revision: int
    revisions: dict[str, int] = field(default_factory=dict)
    digest: str = ""
    error: str = ""
    diff: str = field(default="", metadata=_SPARING)
    """Of a file that was changed by hand: from what was applied to what was found."""
    overridden_until: str = field(default="", metadata=_SPARING)
    """When the local override in it ends (RFC 3339)."""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(_Body):
    """Body of `fleet.cmd.ID.CMD`: an argv to run once."""

    id: str
    kind: str = "argv"
    argv: tuple[str, ...]
    timeout_s: float = 60.0
    cwd: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    stdin: str | None = None
    on_unknown: OnUnknown = "report"
    not_after: datetime | None = None
    issued: datetime
    issued_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult(_Body):
    """Body of `fleet.result.ID.CMD`: the command started, or this is what became of it."""

    id: str
    device: str
    step: Step
    outcome: Outcome | None = None
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""
    truncated: bool = False
    started: datetime | None = None
    finished: datetime | None = None
    attempt: int = 1
    error: str = ""
    argv: tuple[str, ...] = field(default=(), metadata=_SPARING)
    """What was run: the work queue forgets a command once it is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading(_Body):
    """Body of `tele.ID.METRIC` from an agent: several values of one metric at one time."""

    device: str
    metric: str
    at: datetime
    values: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorReading(_Body):
    """Body of `tele.DEVICE.SENSOR` from a Pico: one value. `ms` is Unix time only if `clock` is true."""

    device: str
    metric: str
    seq: int
    boot: int
    ms: int
    value: float
    unit: str = ""
    clock: bool = False


def rfc3339(moment: datetime) -> str:
    """`moment` in UTC with milliseconds, e.g. 2026-11-20T12:00:00.000Z."""
    return f"{moment.astimezone(UTC).strftime('%Y-%m-%dT%H:%M:%S.%f')[:-3]}Z"


def parse_rfc3339(text: str) -> datetime:
    """The aware datetime that `text` stands for.

    Raises:
        PayloadError: not RFC 3339, or without a zone.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise PayloadError(f"{text!r} is not a time such as 2026-11-20T12:00:00Z") from error
    if moment.tzinfo is None:
        raise PayloadError(f"{text!r} is a time without a zone: append Z for UTC")
    return moment


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    raise TypeError(f"{type(value).__name__} has no place in a message body")


def _object(what: str, data: bytes) -> dict[str, Any]:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"{what}: the body is not JSON ({type(error).__name__})") from error
    if not isinstance(values, dict):
        raise PayloadError(f"{what}: the body is {_word(values)}, not a JSON object")
    version = values.get("v")
    if type(version) is not int or version != VERSION:
        raise PayloadError(f"{what}: field 'v' is {version!r}: this program speaks version {VERSION}")
    return values


@cache
def _schema(cls: Any) -> tuple[tuple[str, Any, bool], ...]:
    """(name, annotation, required) of each field."""
    hints = typing.get_type_hints(cls)
    return tuple(
        (
            each.name,
            hints[each.name],
            each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING,
        )
        for each in dataclasses.fields(cls)
    )


def _decode(cls: type[T], values: Mapping[str, Any]) -> T:
    taken = {}
    for name, kind, required in _schema(typing.cast(Any, cls)):
        if name in values:
            taken[name] = _value(kind, values[name], f"{cls.__name__}: field {name!r}")
        elif required:
            raise PayloadError(f"{cls.__name__}: field {name!r} is missing")
    return cls(**taken)


def _value(kind: Any, value: Any, where: str) -> Any:
    """`value` as the annotation `kind`, or PayloadError."""
    if kind is Any:
        return value
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _value(next(each for each in arguments if each is not type(None)), value, where)
    if origin is Literal:
        if isinstance(value, str) and value in arguments:
            return value
        raise PayloadError(f"{where} is {value!r}: one of {', '.join(map(str, arguments))} is allowed")
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], each, f"{where}[{index}]") for index, each in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _value(arguments[1], each, f"{where}[{key!r}]") for key, each in value.items()}
    return _plain(kind, value, where)


def _plain(kind: Any, value: Any, where: str) -> Any:
    if kind is datetime and isinstance(value, str):
        try:
            return parse_rfc3339(value)
        except PayloadError as error:
            raise PayloadError(f"{where}: {error}") from error
    if kind is float and type(value) in (int, float):
        return _finite(value, where)
    if kind in (str, int, bool) and type(value) is kind:
        return value
    raise PayloadError(f"{where} must be {_WORDS.get(typing.get_origin(kind) or kind, kind)}, not {_word(value)}")


def _finite(value: float, where: str) -> float:
    """JSON knows no infinity, Python's reader does: 1e999 and NaN stop here."""
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if number - number != 0:
        raise PayloadError(f"{where} is not a finite number")
    return number


_WORDS: dict[Any, str] = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    datetime: "a time (RFC 3339)",
    tuple: "a list",
    dict: "an object",
}


def _word(value: Any) -> str:
    if value is None:
        return "null"
    return _WORDS.get(tuple if isinstance(value, list) else type(value), type(value).__name__)
