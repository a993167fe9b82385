"""What the monitor's endpoints may be asked, over HTTP (words of a query) and over $SYS (a JSON object). Pure.

Each class is one endpoint's options. `http` and `json` name an option on either way where it is not the attribute's
own name; an empty name: it cannot be given that way. Sources: spec monitoring-and-ops sections 1 and 2.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Self

from leafnode.net.monitor import BadRequest, boolean, whole_number

LIMIT = 1024  # entries of one answer unless asked otherwise (nats-server)
STATES = {"": "open", "open": "open", "closed": "closed", "any": "any", "all": "any"}
STATE_NUMBERS = ("open", "closed", "any")


def _option(default: Any, *, http: str | None = None, json: str | None = None) -> Any:
    return dataclasses.field(default=default, metadata={"http": http, "json": json})


class Options:
    """How a class below is filled."""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Self:
        """Raises BadRequest."""
        given: dict[str, Any] = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            name = field.name if field.metadata.get("http") is None else field.metadata["http"]
            if name and name in query:
                given[field.name] = _word(query, name, field.default)
        return cls(**given)

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Raises BadRequest."""
        asked = parse(body)
        given: dict[str, Any] = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            name = field.name if field.metadata.get("json") is None else field.metadata["json"]
            if name and asked.get(name) is not None:
                given[field.name] = _typed(name, asked[name], field.default)
        return cls(**given)


def parse(body: bytes) -> dict[str, Any]:
    """The object in a request; an empty body is an empty object. Raises BadRequest."""
    if not body.strip():
        return {}
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"invalid JSON: {error}") from error
    if not isinstance(asked, dict):
        raise BadRequest(f"an object is expected, not {type(asked).__name__}")
    return asked


def _word(query: Mapping[str, str], name: str, default: object) -> object:
    if isinstance(default, bool):
        return boolean(query, name)
    if isinstance(default, int):
        return whole_number(query, name)
    return query[name]


def _typed(name: str, value: object, default: object) -> object:
    if isinstance(default, tuple):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif type(value) is type(default):
        return value
    raise BadRequest(f"cannot use {type(value).__name__} for field {name!r} of type {type(default).__name__}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Nothing(Options):
    """An endpoint without options."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Connz(Options):
    sort: str = "cid"
    auth: bool = False
    subs: bool = _option(False, http="", json="subscriptions")
    subs_detail: bool = _option(False, http="", json="subscriptions_detail")
    offset: int = 0
    limit: int = 0
    cid: int = 0
    state: str = _option("open", http="", json="")
    user: str = ""
    acc: str = ""
    filter_subject: str = ""
    mqtt_client: str = ""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Self:
        asked = super(Connz, cls).from_query(query)
        if query.get("subs", "").lower() == "detail":
            asked = dataclasses.replace(asked, subs_detail=True)
        else:
            asked = dataclasses.replace(asked, subs=boolean(query, "subs"))
        words = query.get("state", "").lower()
        if words not in STATES:
            raise BadRequest(f"Error decoding state for {words}")
        return dataclasses.replace(asked, state=STATES[words], sort=asked.sort or "cid")

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        asked = super(Connz, cls).from_json(body)
        state = parse(body).get("state", 0)
        if not isinstance(state, int) or not 0 <= state < len(STATE_NUMBERS):
            raise BadRequest(f"cannot use {state!r} for field 'state': 0 is open, 1 closed, 2 any")
        return dataclasses.replace(asked, state=STATE_NUMBERS[state], sort=asked.sort or "cid")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Subsz(Options):
    subs: bool = _option(False, json="subscriptions")
    offset: int = 0
    limit: int = 0
    acc: str = _option("", json="account")
    test: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Leafz(Options):
    subs: bool = _option(False, json="subscriptions")
    acc: str = _option("", json="account")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Accountz(Options):
    acc: str = _option("", json="account")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Accstatz(Options):
    unused: bool = _option(False, json="include_unused")
    accounts: tuple[str, ...] = _option((), http="")
    """Empty: all."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Jsz(Options):
    acc: str = _option("", json="account")
    accounts: bool = False
    streams: bool = False
    consumers: bool = _option(False, json="consumer")
    direct_consumers: bool = _option(False, http="direct-consumers", json="direct_consumer")
    config: bool = False
    offset: int = 0
    limit: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Healthz(Options):
    js_enabled_only: bool = _option(False, http="js-enabled-only", json="js-enabled-only")
    js_enabled: bool = _option(False, http="js-enabled", json="js-enabled")
    js_server_only: bool = _option(False, http="js-server-only", json="js-server-only")
    js_meta_only: bool = _option(False, http="js-meta-only", json="js-meta-only")
    account: str = ""
    stream: str = ""
    consumer: str = ""
    details: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ipqueuesz(Options):
    all: bool = False
    """Empty queues, too."""
    filter: str = _option("", http="queues")
    """Part of a name."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServerFilter(Options):
    """Which servers a request to all is for; it is no error to be another one."""

    server_name: str = ""
    cluster: str = ""
    host: str = ""
    domain: str = ""
    exact_match: bool = False
    tags: tuple[str, ...] = ()

    def accepts(self, *, server_name: str, cluster: str, host: str, domain: str, tags: tuple[str, ...]) -> bool:
        """Parts of names are enough unless `exact_match`; every tag must be there."""
        pairs = ((self.server_name, server_name), (self.cluster, cluster), (self.host, host))
        if any(asked != have if self.exact_match else asked not in have for asked, have in pairs if asked):
            return False
        if self.domain and self.domain != domain:
            return False
        have = {tag.lower() for tag in tags}
        return all(tag.lower() in have for tag in self.tags)
