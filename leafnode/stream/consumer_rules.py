"""What a consumer may be: defaults, limits, refusals, and what an update may change (spec jetstream-api section 7)."""

from typing import TYPE_CHECKING

from leafnode.errors import ApiError
from leafnode.route.subject import is_literal, is_valid, overlap
from leafnode.stream import faults, times
from leafnode.stream.consumer_config import ConsumerConfig
from leafnode.stream.stream_config import StreamConfig
from leafnode.stream.stream_rules import METADATA_MAX, OWN_KEYS

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream
    from leafnode.stream.surroundings import Limits

ACK_WAIT = 30 * times.SECOND
EPHEMERAL_THRESHOLD = 5 * times.SECOND
MAX_WAITING = 512  # pull requests
MAX_ACK_PENDING = 1000
DESCRIPTION_MAX = 4096  # bytes
_FIXED = (
    ("deliver_policy", "deliver policy"),
    ("opt_start_seq", "start sequence"),
    ("opt_start_time", "start time"),
    ("ack_policy", "ack policy"),
    ("replay_policy", "replay policy"),
    ("idle_heartbeat", "heart beats"),
    ("flow_control", "flow control"),
    ("max_waiting", "max waiting"),
    ("mem_storage", "memory storage"),
    ("direct", "direct"),
)


def refused(text: str) -> ApiError:
    return faults.fault(faults.CONSUMER_CREATE, text)


def accept(config: ConsumerConfig, stream: StreamConfig, limits: "Limits") -> ConsumerConfig:
    """Fill in defaults and check everything that does not depend on other consumers.

    Raises:
        ApiError: what is wrong.
    """
    _check_names(config)
    _check_not_built(config)
    _fill_in(config, stream, limits)
    _check_delivery(config, stream)
    _check_start(config)
    _check_filters(config)
    _check_numbers(config, stream, limits)
    if stream.retention == "workqueue":
        _check_workqueue(config)
    config.metadata = {key: value for key, value in config.metadata.items() if key not in OWN_KEYS}
    config.metadata["_nats.req.level"] = "1" if config.pause_until else "0"
    return config


def _check_names(config: ConsumerConfig) -> None:
    for name in (config.name, config.durable_name):
        if "/" in name or "\\" in name:
            raise faults.fault(faults.CONSUMER_NAME_PATH)
        if any(forbidden in name for forbidden in " .*>\t\r\n"):
            raise refused("consumer name can not contain '.', '*', '>', path separators or white space")
        if len(name) > 255:
            raise refused("consumer name is too long, maximum allowed is 255")
    if config.durable_name and config.name and config.durable_name != config.name:
        raise faults.fault(faults.CONSUMER_NAMES_DIFFER)
    if config.durable_name:
        config.name = config.durable_name
    if len(config.description.encode()) > DESCRIPTION_MAX:
        raise faults.fault(faults.CONSUMER_DESCRIPTION)
    if sum(len(key.encode()) + len(value.encode()) for key, value in config.metadata.items()) > METADATA_MAX:
        raise faults.fault(faults.CONSUMER_METADATA)


def _check_not_built(config: ConsumerConfig) -> None:
    if config.priority_groups or config.priority_policy not in ("", "none") or config.priority_timeout:
        raise refused("priority groups are not supported by this server")
    if config.ack_policy == "flow_control":
        raise refused("flow_control ack policy is not supported by this server")


def _fill_in(config: ConsumerConfig, stream: StreamConfig, limits: "Limits") -> None:
    acks = config.ack_policy != "none"
    if config.ack_wait < 0:
        raise faults.fault(faults.ACK_WAIT_NEGATIVE)
    if acks and not config.ack_wait:
        config.ack_wait = ACK_WAIT
    if config.backoff:
        config.ack_wait = config.backoff[0]
    if config.max_deliver <= 0:
        config.max_deliver = -1
    if not config.is_push and config.max_waiting <= 0:
        config.max_waiting = MAX_WAITING
    if not config.is_push and not config.max_batch and limits.max_request_batch > 0:
        config.max_batch = limits.max_request_batch
    if acks and config.max_ack_pending == 0:
        caps = (cap for cap in (limits.server_max_ack_pending, limits.max_ack_pending) if cap > 0)
        config.max_ack_pending = stream.consumer_limits.get("max_ack_pending", 0) or min([MAX_ACK_PENDING, *caps])
    if config.max_ack_pending < 0:
        config.max_ack_pending = -1
    if not config.inactive_threshold:
        threshold = stream.consumer_limits.get("inactive_threshold", 0)
        config.inactive_threshold = threshold or (0 if config.is_durable else EPHEMERAL_THRESHOLD)


def _check_delivery(config: ConsumerConfig, stream: StreamConfig) -> None:
    if not config.is_push:
        _check_pull(config)
        return
    subject = config.deliver_subject.encode()
    if not is_valid(subject):
        raise faults.fault(faults.Fault(400, 10015, "consumer deliver subject not valid"))
    if not is_literal(subject):
        raise faults.fault(faults.DELIVER_WILDCARDS)
    if any(overlap(subject, captured.encode()) for captured in stream.subjects):
        raise faults.fault(faults.DELIVER_CYCLE)
    if config.max_waiting:
        raise faults.fault(faults.PUSH_MAX_WAITING)
    if config.max_ack_pending > 0 and config.ack_policy == "none":
        raise faults.fault(faults.MAX_ACK_PENDING_POLICY)
    if 0 < config.idle_heartbeat < 100 * times.MILLISECOND:
        raise faults.fault(faults.SMALL_HEARTBEAT)
    if config.flow_control and not config.idle_heartbeat:
        raise faults.fault(faults.FLOW_CONTROL_HEARTBEAT)
    if config.max_batch or config.max_expires or config.max_bytes:
        raise refused("consumer in push mode can not have request limits")


def _check_pull(config: ConsumerConfig) -> None:
    if config.rate_limit_bps:
        raise faults.fault(faults.PULL_RATE_LIMIT)
    if config.idle_heartbeat:
        raise faults.fault(faults.HEARTBEAT_PUSH)
    if config.flow_control:
        raise faults.fault(faults.FLOW_CONTROL_PUSH)
    if config.direct:
        raise faults.fault(faults.DIRECT_PUSH)
    if 0 < config.max_expires < times.MILLISECOND:
        raise faults.fault(faults.SMALL_MAX_EXPIRES)


def _check_start(config: ConsumerConfig) -> None:
    policy = config.deliver_policy
    title = "".join(part.title() for part in policy.split("_"))

    def bad(text: str) -> ApiError:
        return faults.fault(faults.DELIVER_POLICY, f"consumer delivery policy is {text}")

    if policy != "by_start_sequence" and config.opt_start_seq:
        raise bad(f"deliver {title.lower()}, but optional start sequence is also set")
    if policy != "by_start_time" and config.opt_start_time:
        raise bad(f"deliver {title.lower()}, but optional start time is also set")
    if policy == "by_start_sequence" and not config.opt_start_seq:
        raise bad("deliver by start sequence, but optional start sequence is not set")
    if policy == "by_start_time" and not config.opt_start_time:
        raise bad("deliver by start time, but optional start time is not set")
    if policy == "last_per_subject" and not (config.filter_subject or config.filter_subjects):
        raise bad("deliver last per subject, but optional filter subject is not set")


def _check_filters(config: ConsumerConfig) -> None:
    if config.filter_subject and config.filter_subjects:
        raise faults.fault(faults.BOTH_FILTERS)
    if any(not subject for subject in config.filter_subjects):
        raise faults.fault(faults.EMPTY_FILTER)
    filters = [subject.encode() for subject in config.filter_subjects or [config.filter_subject] if subject]
    for place, subject in enumerate(filters):
        if not is_valid(subject):
            raise refused(f"invalid filter subject {subject.decode(errors='replace')!r}")
        if any(overlap(subject, other) for other in filters[place + 1 :]):
            raise faults.fault(faults.FILTERS_OVERLAP)


def _check_numbers(config: ConsumerConfig, stream: StreamConfig, limits: "Limits") -> None:
    if config.num_replicas < 0:
        raise faults.fault(faults.NEGATIVE_REPLICAS)
    if config.num_replicas > 1:
        raise faults.fault(faults.NO_REPLICAS)
    if config.backoff and 0 < config.max_deliver <= len(config.backoff):
        raise faults.fault(faults.MAX_DELIVER_BACKOFF)
    sample = config.sample_freq.removesuffix("%")
    if sample and not sample.isdigit():
        raise faults.fault(faults.BAD_SAMPLING, f'strconv.Atoi: parsing "{sample}": invalid syntax')
    caps = stream.consumer_limits
    threshold = caps.get("inactive_threshold", 0)
    if threshold > 0 and config.inactive_threshold > threshold:
        raise faults.fault(faults.INACTIVE_THRESHOLD, f"{threshold // times.SECOND}s")
    if 0 < limits.max_request_batch < config.max_batch:
        raise faults.fault(faults.MAX_REQUEST_BATCH, limits.max_request_batch)
    for cap in (caps.get("max_ack_pending", 0), limits.max_ack_pending, limits.server_max_ack_pending):
        if cap > 0 and (config.max_ack_pending > cap or (config.max_ack_pending == -1 and config.ack_policy != "none")):
            raise faults.fault(faults.MAX_ACK_PENDING, cap)


def _check_workqueue(config: ConsumerConfig) -> None:
    if config.ack_policy != "explicit":
        raise faults.fault(faults.WORKQUEUE_ACK if config.is_push else faults.WORKQUEUE_PULL_ACK)
    if config.deliver_policy != "all":
        raise faults.fault(faults.WORKQUEUE_DELIVER_ALL)


def check_neighbours(config: ConsumerConfig, stream: "Stream") -> None:
    """A work queue gives each message to one consumer only.

    Raises:
        ApiError: another consumer wants the same.
    """
    if stream.config.retention != "workqueue":
        return
    for other in stream.consumers.values():
        if other.name == config.name:
            continue
        if not config.filters or not other.config.filters:
            raise faults.fault(faults.WORKQUEUE_MULTIPLE if not config.filters else faults.WORKQUEUE_NOT_UNIQUE)
        if any(overlap(mine, theirs) for mine in config.filters for theirs in other.config.filters):
            raise faults.fault(faults.WORKQUEUE_NOT_UNIQUE)


def check_update(old: ConsumerConfig, new: ConsumerConfig, *, bound: bool) -> None:
    """What may change.

    Raises:
        ApiError: what may not.
    """
    for name, text in _FIXED:
        if getattr(old, name) != getattr(new, name):
            raise refused(f"{text} can not be updated")
    if old.is_push != new.is_push:
        raise refused(
            "can not update push consumer to pull based"
            if old.is_push
            else "can not update pull consumer to push based"
        )
    if old.deliver_subject != new.deliver_subject and bound:
        raise faults.fault(faults.CONSUMER_NAME_IN_USE)
    if old.deliver_group != new.deliver_group and bound:
        raise refused("deliver group can not be updated")


def same(old: ConsumerConfig, new: ConsumerConfig) -> bool:
    return old.to_json() == new.to_json()
