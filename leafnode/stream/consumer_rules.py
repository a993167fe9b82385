"""What a consumer may be: refusals, and what an update may change (spec jetstream-api section 7).

The order of the checks is nats-server's: a configuration with two faults is refused for the same one.
"""

import re
from typing import TYPE_CHECKING

from leafnode.errors import ApiError
from leafnode.route.subject import is_literal, is_subset, is_valid, overlap
from leafnode.stream import faults, times
from leafnode.stream.consumer_config import ConsumerConfig
from leafnode.stream.consumer_defaults import FLOW_HEARTBEAT, fill_in
from leafnode.stream.stream_config import StreamConfig
from leafnode.stream.stream_rules import METADATA_MAX, OWN_KEYS

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream
    from leafnode.stream.surroundings import Limits

DESCRIPTION_MAX = 4096  # bytes
NAME_MAX = 255  # bytes
GROUP_NAME = re.compile(r"[a-zA-Z0-9/_=-]{1,16}")
_NAME_FORBIDDEN = frozenset(" \t\r\n\f.*>/\\")
_FIXED = (
    ("deliver_policy", "deliver policy"),
    ("mem_storage", "storage type"),
    ("direct", "direct"),
    ("sourcing", "sourcing"),
    ("opt_start_seq", "start sequence"),
    ("opt_start_time", "start time"),
    ("ack_policy", "ack policy"),
    ("replay_policy", "replay policy"),
    ("idle_heartbeat", "heart beats"),
    ("flow_control", "flow control"),
)
# deliver policy: (its name in refusals, the start it needs); the word "start" twice is nats-server's
_START = {
    "all": ("all", ""),
    "last": ("last", ""),
    "last_per_subject": ("last per subject", ""),
    "new": ("new", ""),
    "by_start_sequence": ("by start sequence", "start sequence"),
    "by_start_time": ("by start time", "start time"),
}


def refused(text: str) -> ApiError:
    return faults.fault(faults.CONSUMER_CREATE, text)


def accept(config: ConsumerConfig, stream: StreamConfig, limits: "Limits", *, pedantic: bool = False) -> ConsumerConfig:
    """Fill in defaults and check everything that does not depend on other consumers.

    Raises:
        ApiError: what is wrong.
    """
    config.metadata = {key: value for key, value in config.metadata.items() if key not in OWN_KEYS}
    config.metadata["_nats.req.level"] = str(required_level(config))
    fill_in(config, stream, limits, pedantic=pedantic)
    _check_names(config)
    _check_acks(config)
    _check_delivery(config, stream)
    _check_caps(config, stream, limits)
    _check_filters(config)
    _check_start(config)
    _check_sampling(config)
    if config.flow_control and not config.idle_heartbeat:
        raise faults.fault(faults.FLOW_CONTROL_HEARTBEAT)
    if config.durable_name and config.name and config.durable_name != config.name:
        raise faults.fault(faults.CONSUMER_NAMES_DIFFER)
    if sum(len(key.encode()) + len(value.encode()) for key, value in config.metadata.items()) > METADATA_MAX:
        raise faults.fault(faults.CONSUMER_METADATA)
    _check_priority(config)
    if config.durable_name:
        config.name = config.durable_name
    return config


def required_level(config: ConsumerConfig) -> int:
    """The API level (ADR-44) that the configuration needs."""
    if config.ack_policy == "flow_control":
        return 4
    priority = config.priority_policy not in ("", "none") or config.priority_timeout or config.priority_groups
    return 1 if priority or config.pause_until else 0


def _check_names(config: ConsumerConfig) -> None:
    for word, name in (("name", config.name), ("durable name", config.durable_name)):
        if not _NAME_FORBIDDEN.isdisjoint(name):
            text = f"consumer {word} can not contain '.', '*', '>', '\\', '/'"
            raise faults.fault(faults.INVALID_STREAM_CONFIG, text)
    if config.num_replicas < 0:
        raise faults.fault(faults.NEGATIVE_REPLICAS)


def _check_acks(config: ConsumerConfig) -> None:
    if any(delay < 0 for delay in config.backoff):
        raise faults.fault(faults.BACKOFF_NEGATIVE)
    if config.ack_wait < 0:
        raise faults.fault(faults.ACK_WAIT_NEGATIVE)
    if config.ack_policy == "flow_control":
        _check_flow_acks(config)
    if config.max_deliver != -1 and len(config.backoff) > config.max_deliver:
        raise faults.fault(faults.MAX_DELIVER_BACKOFF)
    if len(config.description.encode()) > DESCRIPTION_MAX:
        raise faults.fault(faults.CONSUMER_DESCRIPTION)


def _check_flow_acks(config: ConsumerConfig) -> None:
    """Answers to flow control acknowledge: nothing may be redelivered by time."""
    if not config.is_push:
        raise faults.fault(faults.FLOW_ACKS_PUSH)
    if not config.flow_control:
        raise faults.fault(faults.FLOW_ACKS_FLOW_CONTROL)
    if config.idle_heartbeat != FLOW_HEARTBEAT:
        raise faults.fault(faults.INVALID_STREAM_CONFIG, "flow control ack policy heartbeat needs to be 1s")
    if config.max_ack_pending <= 0:
        raise faults.fault(faults.FLOW_ACKS_MAX_ACK_PENDING)
    if config.ack_wait or config.backoff:
        raise faults.fault(faults.FLOW_ACKS_ACK_WAIT)
    if config.max_deliver > 0:
        raise faults.fault(faults.FLOW_ACKS_MAX_DELIVER)


def _check_delivery(config: ConsumerConfig, stream: StreamConfig) -> None:
    if not config.is_push:
        _check_pull(config, stream)
        return
    subject = config.deliver_subject.encode()
    if not is_literal(subject):
        raise faults.fault(faults.DELIVER_WILDCARDS)
    if not is_valid(subject):
        raise faults.fault(faults.DELIVER_INVALID)
    if any(is_subset(subject, captured.encode()) for captured in stream.subjects):
        raise faults.fault(faults.DELIVER_CYCLE)
    if config.max_waiting:
        raise faults.fault(faults.PUSH_MAX_WAITING)
    if config.max_ack_pending > 0 and config.ack_policy == "none":
        raise faults.fault(faults.MAX_ACK_PENDING_POLICY)
    if 0 < config.idle_heartbeat < 100 * times.MILLISECOND:
        raise faults.fault(faults.SMALL_HEARTBEAT)


def _check_pull(config: ConsumerConfig, stream: StreamConfig) -> None:
    if config.ack_policy == "none" and stream.retention == "workqueue":
        raise faults.fault(faults.WORKQUEUE_PULL_ACK)
    if config.rate_limit_bps:
        raise faults.fault(faults.PULL_RATE_LIMIT)
    if config.idle_heartbeat:
        raise faults.fault(faults.HEARTBEAT_PUSH)
    if config.flow_control:
        raise faults.fault(faults.FLOW_CONTROL_PUSH)
    if 0 < config.max_expires < times.MILLISECOND:
        raise faults.fault(faults.SMALL_MAX_EXPIRES)


def _check_caps(config: ConsumerConfig, stream: StreamConfig, limits: "Limits") -> None:
    if not config.is_push and 0 < limits.max_request_batch < config.max_batch:
        raise faults.fault(faults.MAX_REQUEST_BATCH, limits.max_request_batch)
    for cap in (
        limits.server_max_ack_pending,
        limits.max_ack_pending,
        stream.consumer_limits.get("max_ack_pending", 0),
    ):
        if 0 < cap < config.max_ack_pending:
            raise faults.fault(faults.MAX_ACK_PENDING, cap)
    threshold = stream.consumer_limits.get("inactive_threshold", 0)
    if 0 < threshold < config.inactive_threshold:
        raise faults.fault(faults.INACTIVE_THRESHOLD, times.to_go(threshold))
    if config.direct and not config.is_push:
        raise faults.fault(faults.DIRECT_PUSH)
    if config.direct and config.is_durable:
        raise faults.fault(faults.DIRECT_EPHEMERAL)


def _check_filters(config: ConsumerConfig) -> None:
    if config.filter_subject and config.filter_subjects:
        raise faults.fault(faults.BOTH_FILTERS)
    if config.filter_subject and not is_valid(config.filter_subject.encode()):
        raise faults.fault(faults.INVALID_STREAM_CONFIG, "invalid subject")
    if any(not subject for subject in config.filter_subjects):
        raise faults.fault(faults.EMPTY_FILTER)
    filters = [subject.encode() for subject in config.filter_subjects]
    for place, subject in enumerate(filters):
        if not is_valid(subject):
            raise faults.fault(faults.INVALID_STREAM_CONFIG, "invalid subject")
        if any(is_subset(subject, other) for at, other in enumerate(filters) if at != place):
            raise faults.fault(faults.FILTERS_OVERLAP)


def _check_start(config: ConsumerConfig) -> None:
    name, needed = _START[config.deliver_policy]

    def bad(text: str) -> ApiError:
        return faults.fault(faults.DELIVER_POLICY, f"consumer delivery policy is deliver {name}, but optional {text}")

    if needed == "start sequence" and not config.opt_start_seq:
        raise bad("start sequence is not set")
    if needed == "start time" and not config.opt_start_time:
        raise bad("start time is not set")
    if config.opt_start_seq and needed != "start sequence":
        raise bad(f"{'start start sequence' if needed else 'start sequence'} is also set")
    if config.opt_start_time and needed != "start time":
        raise bad("start time is also set")
    if config.deliver_policy == "last_per_subject" and not (config.filter_subject or config.filter_subjects):
        raise bad("filter subject is not set")


def _check_sampling(config: ConsumerConfig) -> None:
    if not config.sample_freq:
        return
    number = config.sample_freq.removesuffix("%")
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", number):
        raise faults.fault(faults.BAD_SAMPLING, f'strconv.Atoi: parsing "{number}": invalid syntax')
    if int(number) < 0:
        raise faults.fault(faults.BAD_SAMPLING, "<nil>")


def _check_priority(config: ConsumerConfig) -> None:
    if config.priority_policy in ("", "none"):
        if config.priority_groups:
            raise faults.fault(faults.GROUPS_WITHOUT_POLICY)
        if config.priority_timeout:
            raise faults.fault(faults.TIMEOUT_WITHOUT_POLICY)
        return
    if config.is_push:
        raise faults.fault(faults.GROUPS_PUSH)
    if not config.priority_groups:
        raise faults.fault(faults.POLICY_WITHOUT_GROUPS)
    for group in config.priority_groups:
        if not group:
            raise faults.fault(faults.GROUP_NAME_EMPTY)
        if not GROUP_NAME.fullmatch(group):
            raise faults.fault(faults.GROUP_NAME_INVALID)


# beside others ---------------------------------------------------------------------------------------------------


def check_new(config: ConsumerConfig, stream: "Stream", limits: "Limits") -> None:
    """Room for another consumer, and what a work queue asks of it.

    Raises:
        ApiError: no room, or a work queue's message would go to two consumers.
    """
    counted = sum(1 for other in stream.consumers.values() if not _is_uncounted(other.config))
    most = stream.config.max_consumers
    if most <= 0 or 0 < limits.max_consumers < most:
        most = limits.max_consumers
    if 0 < most <= counted:
        raise faults.fault(faults.MAX_CONSUMERS)
    if stream.config.retention == "workqueue" and not _is_uncounted(config):
        _check_workqueue(config)
        if counted and not (config.filter_subject or config.filter_subjects):
            raise faults.fault(faults.WORKQUEUE_MULTIPLE)
        check_neighbours(config, stream)
    if len(config.name.encode()) > NAME_MAX:
        raise faults.fault(faults.CONSUMER_NAME_LONG, NAME_MAX)


def _is_uncounted(config: ConsumerConfig) -> bool:
    """Mirrors and sources of others: they take no place and share a work queue's messages with nobody."""
    return config.direct or config.sourcing


def _check_workqueue(config: ConsumerConfig) -> None:
    if config.ack_policy not in ("explicit", "flow_control"):
        raise faults.fault(faults.WORKQUEUE_ACK)
    if config.deliver_policy != "all":
        raise faults.fault(faults.WORKQUEUE_DELIVER_ALL)


def check_neighbours(config: ConsumerConfig, stream: "Stream") -> None:
    """A work queue gives each message to one consumer only.

    Raises:
        ApiError: another consumer wants the same.
    """
    if stream.config.retention != "workqueue":
        return
    mine = [subject.encode() for subject in config.filter_subjects or [config.filter_subject] if subject]
    for other in stream.consumers.values():
        if other.name == config.name or _is_uncounted(other.config):
            continue
        theirs = other.filters or [b">"]
        if any(overlap(one, two) for one in mine for two in theirs):
            raise faults.fault(faults.WORKQUEUE_NOT_UNIQUE)


# updates ---------------------------------------------------------------------------------------------------------


def check_update(old: ConsumerConfig, new: ConsumerConfig, *, bound: bool) -> None:
    """What may change. `bound`: somebody listens on the old deliver subject.

    Raises:
        ApiError: what may not.
    """
    for name, text in _FIXED:
        if getattr(old, name) != getattr(new, name):
            raise refused(f"{text} can not be updated")
    if old.deliver_subject != new.deliver_subject:
        if not old.is_push:
            raise refused("can not update pull consumer to push based")
        if not new.is_push:
            raise refused("can not update push consumer to pull based")
        if bound:
            raise faults.fault(faults.CONSUMER_NAME_IN_USE)
    if old.max_waiting != new.max_waiting:
        raise refused("max waiting can not be updated")


def same(old: ConsumerConfig, new: ConsumerConfig) -> bool:
    return old.to_json() == new.to_json()
