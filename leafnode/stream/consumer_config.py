"""What a consumer is told to be: the API's ConsumerConfig with its defaults, in nats-server's order and spelling."""

import dataclasses
from typing import Any

from leafnode.stream import schema, times

SHAPE: dict[str, schema.Kind] = {
    "durable_name": schema.text,
    "name": schema.text,
    "description": schema.text,
    "deliver_policy": schema.choice("all", "last", "new", "by_start_sequence", "by_start_time", "last_per_subject"),
    "opt_start_seq": schema.unsigned,
    "opt_start_time": schema.moment,
    "ack_policy": schema.choice("none", "all", "explicit", "flow_control"),
    "ack_wait": schema.integer,
    "max_deliver": schema.integer,
    "backoff": schema.list_of(schema.integer),
    "filter_subject": schema.text,
    "filter_subjects": schema.list_of(schema.text),
    "replay_policy": schema.choice("instant", "original"),
    "rate_limit_bps": schema.unsigned,
    "sample_freq": schema.text,
    "max_waiting": schema.integer,
    "max_ack_pending": schema.integer,
    "flow_control": schema.boolean,
    "headers_only": schema.boolean,
    "max_batch": schema.integer,
    "max_expires": schema.integer,
    "max_bytes": schema.integer,
    "deliver_subject": schema.text,
    "deliver_group": schema.text,
    "idle_heartbeat": schema.integer,
    "inactive_threshold": schema.integer,
    "num_replicas": schema.integer,
    "mem_storage": schema.boolean,
    "direct": schema.boolean,
    "sourcing": schema.boolean,
    "metadata": schema.strings_by_name,
    "pause_until": schema.moment,
    "priority_groups": schema.list_of(schema.text),
    "priority_policy": schema.choice("none", "overflow", "pinned_client", "prioritized"),
    "priority_timeout": schema.integer,
}
REQUEST_SHAPE: dict[str, schema.Kind] = {
    "stream_name": schema.text,
    "config": schema.object_of(SHAPE),
    "action": schema.choice("consumer action", "", "create", "update"),
    "pedantic": schema.boolean,
}

_ALWAYS = frozenset({"deliver_policy", "ack_policy", "replay_policy", "num_replicas"})
_CONVERT: dict[str, schema.Kind] = {"opt_start_time": times.to_text, "pause_until": times.to_text}


@dataclasses.dataclass(slots=True, kw_only=True)
class ConsumerConfig:
    """One consumer's configuration. Durations are nanoseconds; -1 is "no limit"."""

    durable_name: str = ""
    name: str = ""
    description: str = ""
    deliver_policy: str = "all"
    opt_start_seq: int = 0
    opt_start_time: int = 0
    ack_policy: str = "none"
    ack_wait: int = 0
    max_deliver: int = 0
    backoff: list[int] = dataclasses.field(default_factory=list)
    filter_subject: str = ""
    filter_subjects: list[str] = dataclasses.field(default_factory=list)
    replay_policy: str = "instant"
    rate_limit_bps: int = 0
    sample_freq: str = ""
    max_waiting: int = 0
    max_ack_pending: int = 0
    flow_control: bool = False
    headers_only: bool = False
    max_batch: int = 0
    max_expires: int = 0
    max_bytes: int = 0
    deliver_subject: str = ""
    deliver_group: str = ""
    idle_heartbeat: int = 0
    inactive_threshold: int = 0
    num_replicas: int = 0
    mem_storage: bool = False
    direct: bool = False
    sourcing: bool = False
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    pause_until: int = 0
    priority_groups: list[str] = dataclasses.field(default_factory=list)
    priority_policy: str = ""
    priority_timeout: int = 0

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "ConsumerConfig":
        """From an object that `schema` has checked."""
        config = cls(**value)
        if config.priority_policy == "none":
            config.priority_policy = ""
        return config

    def to_json(self) -> dict[str, Any]:
        """As nats-server shows it."""
        values = {key: getattr(self, key) for key in SHAPE}
        return schema.ordered(values, tuple(SHAPE), _ALWAYS, _CONVERT)

    @property
    def filters(self) -> list[bytes]:
        """What it wants of the stream; empty for everything."""
        wanted = self.filter_subjects or ([self.filter_subject] if self.filter_subject else [])
        return [subject.encode() for subject in wanted if subject != ">"]

    @property
    def is_push(self) -> bool:
        return bool(self.deliver_subject)

    @property
    def is_durable(self) -> bool:
        return bool(self.durable_name)
