"""What a stream is told to be: the API's StreamConfig with its defaults, in nats-server's order and spelling.

Attributes carry the JSON names, so there is no third vocabulary. Durations are nanoseconds. What is not built is
refused by `stream_rules`, never kept silently.
"""

import dataclasses
from typing import Any

from leafnode.stream import schema, times

TRANSFORM = {"src": schema.text, "dest": schema.text}
_EXTERNAL = {"api": schema.text, "deliver": schema.text}
_SOURCE_CONSUMER = {"name": schema.text, "deliver_subject": schema.text}
SOURCE = {
    "name": schema.text,
    "opt_start_seq": schema.unsigned,
    "opt_start_time": schema.moment,
    "filter_subject": schema.text,
    "subject_transforms": schema.list_of(schema.object_of(TRANSFORM)),
    "external": schema.object_of(_EXTERNAL),
    "consumer": schema.object_of(_SOURCE_CONSUMER),
}
_PLACEMENT = {"cluster": schema.text, "tags": schema.list_of(schema.text), "preferred": schema.text}
_REPUBLISH = {"src": schema.text, "dest": schema.text, "headers_only": schema.boolean}
_LIMITS = {"inactive_threshold": schema.integer, "max_ack_pending": schema.integer}

SHAPE: dict[str, schema.Kind] = {
    "name": schema.text,
    "description": schema.text,
    "subjects": schema.list_of(schema.text),
    "retention": schema.choice("limits", "interest", "workqueue"),
    "max_consumers": schema.integer,
    "max_msgs": schema.integer,
    "max_bytes": schema.integer,
    "max_age": schema.integer,
    "max_msgs_per_subject": schema.integer,
    "max_msg_size": schema.integer,
    "discard": schema.choice("old", "new"),
    "storage": schema.choice("file", "memory"),
    "num_replicas": schema.integer,
    "no_ack": schema.boolean,
    "duplicate_window": schema.integer,
    "placement": schema.object_of(_PLACEMENT),
    "mirror": schema.object_of(SOURCE),
    "sources": schema.list_of(schema.object_of(SOURCE)),
    "compression": schema.choice("none", "s2"),
    "first_seq": schema.unsigned,
    "subject_transform": schema.object_of(TRANSFORM),
    "republish": schema.object_of(_REPUBLISH),
    "allow_direct": schema.boolean,
    "mirror_direct": schema.boolean,
    "discard_new_per_subject": schema.boolean,
    "sealed": schema.boolean,
    "deny_delete": schema.boolean,
    "deny_purge": schema.boolean,
    "allow_rollup_hdrs": schema.boolean,
    "consumer_limits": schema.object_of(_LIMITS),
    "allow_msg_ttl": schema.boolean,
    "subject_delete_marker_ttl": schema.integer,
    "allow_msg_counter": schema.boolean,
    "allow_atomic": schema.boolean,
    "allow_msg_schedules": schema.boolean,
    "persist_mode": schema.choice("", "default", "async"),
    "allow_batched": schema.boolean,
    "metadata": schema.strings_by_name,
}
REQUEST_SHAPE = {**SHAPE, "pedantic": schema.boolean}

_ALWAYS = frozenset(
    {
        "allow_direct",
        "allow_msg_ttl",
        "allow_rollup_hdrs",
        "compression",
        "consumer_limits",
        "deny_delete",
        "deny_purge",
        "discard",
        "max_age",
        "max_bytes",
        "max_consumers",
        "max_msg_size",
        "max_msgs",
        "max_msgs_per_subject",
        "mirror_direct",
        "name",
        "num_replicas",
        "retention",
        "sealed",
        "storage",
    }
)
_SOURCE_ORDER = tuple(SOURCE)


def source_to_json(source: dict[str, Any]) -> dict[str, Any]:
    """One mirror or source as it is shown: its start time as text."""
    shown = schema.ordered(source, _SOURCE_ORDER, frozenset({"name"}), {"opt_start_time": times.to_text})
    if "subject_transforms" in shown:
        shown["subject_transforms"] = [_pair_to_json(pair) for pair in shown["subject_transforms"]]
    external = shown.get("external")
    if external is not None:
        shown["external"] = {"api": external.get("api", ""), "deliver": external.get("deliver", "")}
    return shown


def _pair_to_json(pair: dict[str, Any]) -> dict[str, Any]:
    """A source and a destination are always shown."""
    return {"src": "", "dest": "", **pair}


_CONVERT: dict[str, schema.Kind] = {
    "subject_transform": _pair_to_json,
    "republish": _pair_to_json,
    "mirror": source_to_json,
    "sources": lambda sources: [source_to_json(source) for source in sources],
}


@dataclasses.dataclass(slots=True, kw_only=True)
class StreamConfig:
    """One stream's configuration; -1 is "no limit"."""

    name: str = ""
    description: str = ""
    subjects: list[str] = dataclasses.field(default_factory=list)
    retention: str = "limits"
    max_consumers: int = -1
    max_msgs: int = -1
    max_bytes: int = -1
    max_age: int = 0
    max_msgs_per_subject: int = -1
    max_msg_size: int = -1
    discard: str = "old"
    storage: str = "file"
    num_replicas: int = 1
    no_ack: bool = False
    duplicate_window: int = 0
    placement: dict[str, Any] | None = None
    mirror: dict[str, Any] | None = None
    sources: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    compression: str = "none"
    first_seq: int = 0
    subject_transform: dict[str, Any] | None = None
    republish: dict[str, Any] | None = None
    allow_direct: bool = False
    mirror_direct: bool = False
    discard_new_per_subject: bool = False
    sealed: bool = False
    deny_delete: bool = False
    deny_purge: bool = False
    allow_rollup_hdrs: bool = False
    consumer_limits: dict[str, Any] = dataclasses.field(default_factory=dict)
    allow_msg_ttl: bool = False
    subject_delete_marker_ttl: int = 0
    allow_msg_counter: bool = False
    allow_atomic: bool = False
    allow_msg_schedules: bool = False
    persist_mode: str = ""
    allow_batched: bool = False
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "StreamConfig":
        """From an object that `schema` has checked."""
        return cls(**value)

    def to_json(self) -> dict[str, Any]:
        """As nats-server shows it: its order, zero values left out where it leaves them out."""
        values = {key: getattr(self, key) for key in SHAPE}
        values["persist_mode"] = "" if self.persist_mode == "default" else self.persist_mode
        return schema.ordered(values, tuple(SHAPE), _ALWAYS, _CONVERT)
