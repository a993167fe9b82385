"""What a stream may be: defaults, limits and refusals, and what an update may change (spec jetstream-api section 3).

The checks come in nats-server's order, so that of several faults the same one is named. Mirrors and sources are in
`source_rules`.
"""

from collections.abc import Iterable

from leafnode.errors import ApiError
from leafnode.route.subject import is_subset, is_valid, overlap
from leafnode.route.transform import Transform, TransformError
from leafnode.stream import faults, source_rules, times
from leafnode.stream.source_rules import Known
from leafnode.stream.stream_config import StreamConfig
from leafnode.stream.surroundings import Limits

NAME_MAX = 255  # characters
DESCRIPTION_MAX = 4096  # bytes
METADATA_MAX = 128 * 1024  # bytes, keys and values
DUPLICATE_WINDOW = 2 * times.MINUTE
SHORTEST = 100 * times.MILLISECOND  # of max_age and duplicate_window
SHORTEST_MARKER_TTL = times.SECOND
REPLICAS_MAX = 5
FIRST_SEQ_MAX = 1 << 62  # half of what SQLite counts: nobody reaches the end from there
OWN_KEYS = ("_nats.level", "_nats.req.level", "_nats.ver")
LEVELS = {  # by feature: the API level that it came with
    "allow_msg_ttl": 1,
    "subject_delete_marker_ttl": 1,
    "allow_msg_counter": 2,
    "allow_atomic": 2,
    "allow_msg_schedules": 2,
    "allow_batched": 4,
}
_RESERVED = (
    (b"$JS.>", b"$JS.EVENT.>", "jetstream"),
    (b"$JSC.>", b"$JS.EVENT.>", "jetstream"),
    (b"$NRG.>", b"$JS.EVENT.>", "jetstream"),
    (b"$SYS.>", b"$SYS.ACCOUNT.>", "system"),
)
_LIMITS_WITH_NONE = ("max_msgs", "max_msgs_per_subject", "max_bytes", "max_msg_size", "max_consumers")


def invalid(text: str) -> ApiError:
    return faults.fault(faults.INVALID_STREAM_CONFIG, text)


def pedantic_fault(text: str) -> ApiError:
    return faults.fault(faults.PEDANTIC, text)


def accept(config: StreamConfig, limits: Limits, known: Known | None = None, *, pedantic: bool = False) -> StreamConfig:
    """Fill in defaults and check everything. `known`: the other streams of the account.

    With `pedantic`, what would be changed silently is refused.

    Raises:
        ApiError: what is wrong.
    """
    known = known or {}
    _check_texts(config)
    _fill_in_limits(config, pedantic=pedantic)
    _check_times(config, limits, pedantic=pedantic)
    _check_combinations(config)
    _take_features(config, pedantic=pedantic)
    source_rules.check_mirror(config, known, pedantic=pedantic)
    source_rules.check_sources(config, known)
    source_rules.check_prefixes(config, known)
    source_rules.check_cycle(config, known)
    _check_subjects(config)
    _check_account(config, limits)
    _check_transforms(config, pedantic=pedantic)
    _check_placement(config)
    if config.first_seq > FIRST_SEQ_MAX:
        raise invalid(f"first sequence is too large, maximum allowed is {FIRST_SEQ_MAX}")
    config.metadata = {key: value for key, value in config.metadata.items() if key not in OWN_KEYS}
    config.metadata["_nats.req.level"] = str(required_level(config))
    return config


def required_level(config: StreamConfig) -> int:
    levels = [level for feature, level in LEVELS.items() if getattr(config, feature)]
    return max(levels + [2] * (config.persist_mode == "async"), default=0)


def _check_texts(config: StreamConfig) -> None:
    if not source_rules.is_name(config.name):
        raise invalid("stream name is required and can not contain '.', '*', '>', '\\', '/'")
    if len(config.name.encode()) > NAME_MAX:
        raise invalid(f"stream name is too long, maximum allowed is {NAME_MAX}")
    if len(config.description.encode()) > DESCRIPTION_MAX:
        raise invalid(f"stream description is too long, maximum allowed is {DESCRIPTION_MAX}")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in config.metadata.items())
    if size > METADATA_MAX:
        raise invalid(f"stream metadata exceeds maximum size of {METADATA_MAX} bytes")


def _fill_in_limits(config: StreamConfig, *, pedantic: bool) -> None:
    if config.num_replicas > REPLICAS_MAX:
        raise invalid(f"maximum replicas is {REPLICAS_MAX}")
    if config.num_replicas < 0:
        raise faults.fault(faults.NEGATIVE_REPLICAS)
    config.num_replicas = config.num_replicas or 1
    for name in _LIMITS_WITH_NONE:
        value = getattr(config, name)
        if pedantic and value < -1:
            raise pedantic_fault(f"{name} must be set to -1")
        if value <= 0:
            setattr(config, name, -1)


def _check_times(config: StreamConfig, limits: Limits, *, pedantic: bool) -> None:
    if config.max_age < 0:
        raise invalid("max age can not be negative")
    if 0 < config.max_age < SHORTEST:
        raise invalid("max age needs to be >= 100ms")
    if not config.duplicate_window and not config.mirror and not config.sources:
        config.duplicate_window = _default_window(config, limits, pedantic=pedantic)
    if config.duplicate_window < 0:
        raise invalid("duplicates window can not be negative")
    if config.max_age and config.duplicate_window > config.max_age:
        raise invalid("duplicates window can not be larger then max age")
    if 0 < limits.duplicate_window_ns < config.duplicate_window:
        limit = times.to_go(limits.duplicate_window_ns)
        raise invalid(f"duplicates window can not be larger then server limit of {limit}")
    if 0 < config.duplicate_window < SHORTEST:
        raise invalid("duplicates window needs to be >= 100ms")


def _default_window(config: StreamConfig, limits: Limits, *, pedantic: bool) -> int:
    window = DUPLICATE_WINDOW
    if 0 < limits.duplicate_window_ns < window:
        if pedantic:
            raise pedantic_fault("duplicate window limits are higher than current limits")
        window = limits.duplicate_window_ns
    if 0 < config.max_age < window:
        if pedantic:
            raise pedantic_fault("duplicate window cannot be bigger than max age")
        window = config.max_age
    return window


def _check_combinations(config: StreamConfig) -> None:
    if config.deny_purge and config.allow_rollup_hdrs:
        raise invalid("roll-ups require the purge permission")
    if config.allow_msg_counter:
        if config.discard == "new":
            raise invalid("counter stream cannot use discard new")
        if config.allow_msg_ttl:
            raise invalid("counter stream cannot use message TTLs")
        if config.allow_msg_schedules:
            raise invalid("counter stream cannot use message schedules")
        if config.retention != "limits":
            raise invalid("counter stream can only use limits retention")
    if config.discard_new_per_subject:
        if config.discard != "new":
            raise invalid("discard new per subject requires discard new policy to be set")
        if config.max_msgs_per_subject <= 0:
            raise invalid("discard new per subject requires max msgs per subject > 0")


def _take_features(config: StreamConfig, *, pedantic: bool) -> None:
    """Features bring along what they need."""
    marker_ttl = config.subject_delete_marker_ttl
    if marker_ttl < 0:
        raise invalid("subject delete marker TTL must not be negative")
    if 0 < marker_ttl < SHORTEST_MARKER_TTL:
        raise invalid("subject delete marker TTL must be at least 1 second")
    if marker_ttl:
        if pedantic and not config.allow_msg_ttl:
            raise invalid("subject delete marker cannot be set if message TTLs are disabled")
        config.allow_msg_ttl = True
        _take_rollup(config, "subject delete marker", pedantic=pedantic)
    if config.allow_msg_schedules:
        if config.discard == "new":
            raise invalid("message scheduling cannot use discard new")
        _take_rollup(config, "message scheduling", pedantic=pedantic)
    if config.persist_mode == "async":
        if config.storage != "file":
            raise invalid("async persist mode is only supported on file storage")
        if config.num_replicas > 1:
            raise invalid("async persist mode is not supported on replicated streams")
        if config.allow_atomic:
            raise invalid("async persist mode is not supported with atomic batch publish")


def _take_rollup(config: StreamConfig, feature: str, *, pedantic: bool) -> None:
    if not config.allow_rollup_hdrs:
        if pedantic:
            raise invalid(f"{feature} cannot be set if roll-ups are disabled")
        config.allow_rollup_hdrs, config.deny_purge = True, False


def _check_subjects(config: StreamConfig) -> None:
    if not config.subjects and not config.mirror and not config.sources:
        config.subjects = [config.name]
    seen: set[str] = set()
    for place, subject in enumerate(config.subjects):
        raw = subject.encode()
        if not is_valid(raw):
            raise invalid("invalid subject")
        if subject in seen:
            raise invalid("duplicate subjects detected")
        if not config.no_ack:
            _check_reserved(raw)
        for other in config.subjects[place + 1 :]:
            if overlap(raw, other.encode()):
                raise invalid(f'subject "{subject}" overlaps with "{other}"')
        seen.add(subject)


def _check_reserved(subject: bytes) -> None:
    if subject == b">":
        raise invalid("capturing all subjects requires no-ack to be true")
    for kept, allowed, owner in _RESERVED:
        if overlap(subject, kept) and not is_subset(subject, allowed):
            raise invalid(f"subjects that overlap with {owner} api require no-ack to be true")


def _check_account(config: StreamConfig, limits: Limits) -> None:
    if limits.max_bytes_required and config.max_bytes <= 0:
        raise faults.fault(faults.MAX_BYTES_REQUIRED)
    most = limits.memory_max_stream_bytes if config.storage == "memory" else limits.storage_max_stream_bytes
    if 0 < most < config.max_bytes:
        raise faults.fault(faults.MAX_STREAM_BYTES)


def _check_transforms(config: StreamConfig, *, pedantic: bool) -> None:
    move = config.subject_transform
    if move is not None:
        config.subject_transform = move = {"src": "", "dest": "", **move}
        if move.get("src") and not is_valid(move["src"].encode()):
            raise faults.fault(faults.TRANSFORM_SOURCE, f"invalid subject {move['src']}")
        source_rules.check_transform(move, faults.TRANSFORM_DESTINATION)
    again = config.republish
    if again is None:
        return
    if not again.get("src"):
        if pedantic:
            raise pedantic_fault("republish source can not be empty")
        again["src"] = ">"
    destination = again.get("dest", "")
    is_implicit = move is not None and config.subjects == [move.get("src", "")]
    if move is not None and is_implicit and destination == again["src"] == ">":
        if pedantic:
            raise pedantic_fault("implicit republish based on subject transform")
        destination = again["src"] = again["dest"] = move.get("dest", "")
    if any(overlap(destination.encode(), subject.encode()) for subject in config.subjects):
        raise invalid("stream configuration for republish destination forms a cycle")
    try:
        Transform(again["src"], destination)
    except TransformError:
        text = f"stream configuration for republish with transform from '{again['src']}' to '{destination}' not valid"
        raise invalid(text) from None


def _check_placement(config: StreamConfig) -> None:
    if not config.placement:
        config.placement = None
    elif config.placement.get("preferred"):
        raise invalid("preferred server not permitted in placement")


def check_replicas(config: StreamConfig) -> None:
    """This is one server.

    Raises:
        ApiError: 10074.
    """
    if config.num_replicas > 1:
        raise faults.fault(faults.NO_REPLICAS)


def check_overlap(config: StreamConfig, others: Iterable[StreamConfig]) -> None:
    """No subject belongs to two streams.

    Raises:
        ApiError: 10065.
    """
    for other in others:
        if other.name != config.name:
            for subject in config.subjects:
                if any(overlap(subject.encode(), taken.encode()) for taken in other.subjects):
                    raise faults.fault(faults.SUBJECT_OVERLAP)


def check_update(old: StreamConfig, new: StreamConfig) -> None:
    """What may change, when both are complete.

    Raises:
        ApiError: what may not.
    """
    check_replicas(new)
    if old.storage != new.storage:
        raise invalid("stream configuration update can not change storage type")
    if old.retention != new.retention and "workqueue" in (old.retention, new.retention):
        raise invalid("stream configuration update can not change retention policy to/from workqueue")
    for name, text in (
        ("sealed", "unseal a sealed stream"),
        ("deny_delete", "cancel deny message deletes"),
        ("deny_purge", "cancel deny purge"),
    ):
        if getattr(old, name) and not getattr(new, name):
            raise invalid(f"stream configuration update can not {text}")
    if new.mirror is not None and old.mirror != new.mirror:
        raise faults.fault(faults.MIRROR_UPDATE)
    if old.allow_msg_ttl and not new.allow_msg_ttl:
        raise invalid("message TTL status can not be disabled")
    if old.allow_msg_counter != new.allow_msg_counter:
        raise invalid("stream configuration update can not change message counter setting")
    if old.allow_msg_schedules and not new.allow_msg_schedules:
        raise invalid("message schedules can not be disabled")
    if (old.persist_mode or "default") != (new.persist_mode or "default"):
        raise invalid("stream configuration update can not change persist mode")
    if new.sealed:
        new.discard = "new"
        new.deny_delete = new.deny_purge = True
        new.max_age = 0
        new.allow_rollup_hdrs = False


def same(old: StreamConfig, new: StreamConfig) -> bool:
    return old.to_json() == new.to_json()
