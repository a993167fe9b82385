"""What a stream may be: defaults, limits and refusals (spec jetstream-api section 3), and what an update may change.

What is not built is refused here, by name, so that nobody believes to have it.
"""

import itertools
from collections.abc import Iterable
from typing import Any

from leafnode.errors import ApiError
from leafnode.route.subject import is_valid, overlap
from leafnode.route.transform import Transform, TransformError
from leafnode.stream import faults, schema, times
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
API_LEVEL = 1  # of ADR-44 that we offer: per-message TTL, markers, pause
OWN_KEYS = ("_nats.level", "_nats.req.level", "_nats.ver")
_RESERVED = (
    (b"$JS.API.>", "jetstream"),
    (b"$JSC.>", "jetstream"),
    (b"$NRG.>", "jetstream"),
    (b"$SYS.>", "system"),
)
_SYSTEM_ALLOWED = b"$SYS.ACCOUNT.>"
_LIMITS_WITH_NONE = ("max_consumers", "max_msgs", "max_bytes", "max_msgs_per_subject", "max_msg_size")
_NOT_BUILT = ("allow_msg_counter", "allow_atomic", "allow_msg_schedules", "allow_batched")


def invalid(text: str) -> ApiError:
    return faults.fault(faults.INVALID_STREAM_CONFIG, text)


def accept(config: StreamConfig, limits: Limits, *, pedantic: bool = False) -> StreamConfig:
    """Fill in defaults and check everything that does not depend on other streams.

    Raises:
        ApiError: what is wrong.
    """
    _check_name(config.name)
    _check_not_built(config)
    _check_replicas(config)
    _fill_in(config, limits, pedantic=pedantic)
    _check_texts(config)
    _check_times(config, limits)
    _check_combinations(config)
    _check_sources(config)
    _check_transforms(config)
    _check_subjects(config)
    _check_limits(config, limits)
    config.metadata = {key: value for key, value in config.metadata.items() if key not in OWN_KEYS}
    config.metadata["_nats.req.level"] = str(required_level(config))
    return config


def required_level(config: StreamConfig) -> int:
    return 1 if config.allow_msg_ttl or config.subject_delete_marker_ttl else 0


def _check_name(name: str) -> None:
    if "/" in name or "\\" in name:
        raise faults.fault(faults.STREAM_NAME_PATH)
    if not name or any(forbidden in name for forbidden in " .*>\t\r\n"):
        raise invalid("stream name is required and can not contain '.', '*', '>', path separators or white space")
    if len(name) > NAME_MAX:
        raise invalid(f"stream name is too long, maximum allowed is {NAME_MAX}")


def _check_not_built(config: StreamConfig) -> None:
    for feature in _NOT_BUILT:
        if getattr(config, feature):
            raise invalid(f"{feature} is not supported by this server")
    if config.persist_mode == "async":
        raise invalid("persist_mode async is not supported by this server: acknowledged means on disk")
    for source in [config.mirror, *config.sources]:
        if source and source.get("consumer"):
            raise invalid("a pre-created consumer for a mirror or source is not supported by this server")


def _check_replicas(config: StreamConfig) -> None:
    if config.num_replicas < 0:
        raise faults.fault(faults.NEGATIVE_REPLICAS)
    if config.num_replicas > REPLICAS_MAX:
        raise invalid(f"maximum replicas is {REPLICAS_MAX}")
    if config.num_replicas > 1:
        raise faults.fault(faults.NO_REPLICAS)
    config.num_replicas = 1


def _fill_in(config: StreamConfig, limits: Limits, *, pedantic: bool) -> None:
    for name in _LIMITS_WITH_NONE:
        value = getattr(config, name)
        if pedantic and value == 0:
            raise faults.fault(faults.PEDANTIC, f"{name} must be set to -1")
        if value <= 0:
            setattr(config, name, -1)
    if not config.subjects and not config.mirror and not config.sources:
        config.subjects = [config.name]
    if config.subject_delete_marker_ttl > 0:
        config.allow_msg_ttl = True
        config.allow_rollup_hdrs = True
    if not config.duplicate_window and not config.mirror and (config.subjects or not config.sources):
        bounds = [bound for bound in (config.max_age, limits.duplicate_window_ns) if bound > 0]
        config.duplicate_window = min([DUPLICATE_WINDOW, *bounds])
    for key in ("republish", "subject_transform"):
        pair = getattr(config, key)
        if pair is not None and not pair.get("src"):
            pair["src"] = ">"


def _check_texts(config: StreamConfig) -> None:
    if len(config.description.encode()) > DESCRIPTION_MAX:
        raise invalid(f"stream description is too long, maximum allowed is {DESCRIPTION_MAX}")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in config.metadata.items())
    if size > METADATA_MAX:
        raise invalid(f"stream metadata exceeds maximum size of {METADATA_MAX} bytes")


def _check_times(config: StreamConfig, limits: Limits) -> None:
    if config.max_age < 0:
        raise invalid("max age can not be negative")
    if 0 < config.max_age < SHORTEST:
        raise invalid("max age needs to be >= 100ms")
    if config.duplicate_window < 0:
        raise invalid("duplicates window can not be negative")
    if config.max_age and config.duplicate_window > config.max_age:
        raise invalid("duplicates window can not be larger then max age")
    if 0 < limits.duplicate_window_ns < config.duplicate_window:
        limit = times.to_go(limits.duplicate_window_ns)
        raise invalid(f"duplicates window can not be larger then server limit of {limit}")
    if 0 < config.duplicate_window < SHORTEST:
        raise invalid("duplicates window needs to be >= 100ms")
    if config.subject_delete_marker_ttl < 0:
        raise invalid("subject delete marker TTL must not be negative")
    if 0 < config.subject_delete_marker_ttl < SHORTEST_MARKER_TTL:
        raise invalid("subject delete marker TTL must be at least 1 second")


def _check_combinations(config: StreamConfig) -> None:
    if config.first_seq > FIRST_SEQ_MAX:
        raise invalid(f"first sequence is too large, maximum allowed is {FIRST_SEQ_MAX}")
    if config.discard_new_per_subject and config.discard != "new":
        raise invalid("discard new per subject requires discard new policy to be set")
    if config.discard_new_per_subject and config.max_msgs_per_subject <= 0:
        raise invalid("discard new per subject requires max msgs per subject > 0")
    if config.allow_rollup_hdrs and config.deny_purge:
        raise invalid("roll-ups require the purge permission")
    if config.mirror_direct and not config.mirror:
        raise invalid("stream has no mirror but does have mirror direct")
    if config.subject_delete_marker_ttl and config.mirror:
        raise invalid("subject delete markers forbidden on mirrors")


def _check_sources(config: StreamConfig) -> None:
    mirror = config.mirror
    if mirror is not None:
        if config.subjects:
            raise faults.fault(faults.MIRROR_WITH_SUBJECTS)
        if config.sources:
            raise faults.fault(faults.MIRROR_WITH_SOURCES)
        if config.first_seq:
            raise faults.fault(faults.MIRROR_FIRST_SEQ)
        if mirror.get("filter_subject") and mirror.get("subject_transforms"):
            raise faults.fault(faults.MIRROR_FILTER_TRANSFORM)
        if _overlapping(mirror):
            raise faults.fault(faults.MIRROR_FILTERS_OVERLAP)
        if mirror.get("name") == config.name and not mirror.get("external"):
            raise invalid("detected cycle: a stream can not mirror itself")
    seen: set[bytes] = set()
    for source in config.sources:
        key = schema.encode(
            {name: source.get(name) for name in ("name", "filter_subject", "subject_transforms", "external")}
        )
        if key in seen:
            raise faults.fault(faults.DUPLICATE_SOURCE)
        seen.add(key)
        if source.get("filter_subject") and source.get("subject_transforms"):
            raise faults.fault(faults.SOURCE_FILTER_TRANSFORM)
        if _overlapping(source):
            raise faults.fault(faults.SOURCE_FILTERS_OVERLAP)
    if mirror is not None:
        _check_source(mirror)
    for source in config.sources:
        _check_source(source)


def _overlapping(source: dict[str, Any]) -> bool:
    """Whether two transforms of one mirror or source want the same subjects."""
    wanted = [(pair.get("src") or ">").encode() for pair in source.get("subject_transforms", [])]
    return any(overlap(one, two) for one, two in itertools.combinations(wanted, 2))


def _check_source(source: dict[str, Any]) -> None:
    if not source.get("name"):
        raise invalid("a mirror or source needs the name of a stream")
    external = source.get("external")
    if external is not None:
        api = external.get("api", "")
        if not api or not is_valid(api.encode()) or overlap(api.encode() + b".>", b"$JS.API.>"):
            raise faults.fault(faults.EXTERNAL_API_OVERLAP, api, "$JS.API.>")
    try:
        for pair in source.get("subject_transforms", []):
            Transform(pair.get("src", ""), pair.get("dest", ""))
    except TransformError as error:
        raise faults.fault(faults.TRANSFORM_SOURCE, error) from None


def _check_transforms(config: StreamConfig) -> None:
    pair = config.subject_transform
    if pair is not None:
        if not is_valid(pair["src"].encode()):
            raise faults.fault(faults.TRANSFORM_SOURCE, f"invalid subject {pair['src']}")
        try:
            Transform(pair["src"], pair.get("dest", ""))
        except TransformError as error:
            raise faults.fault(faults.TRANSFORM_DESTINATION, error) from None
    again = config.republish
    if again is not None:
        destination = again.get("dest", "")
        if not destination:
            raise invalid("stream republish configuration needs a destination")
        try:
            Transform(again["src"], destination)
        except TransformError as error:
            raise invalid(f"stream configuration for republish with transform from {again['src']!r}: {error}") from None
        if any(overlap(destination.encode(), subject.encode()) for subject in config.subjects):
            raise invalid("stream configuration for republish destination forms a cycle")


def _check_subjects(config: StreamConfig) -> None:
    subjects = config.subjects
    for place, subject in enumerate(subjects):
        raw = subject.encode()
        if not is_valid(raw):
            raise invalid("invalid subject")
        if not config.no_ack and raw == b">":
            raise invalid("capturing all subjects requires no-ack to be true")
        if not config.no_ack:
            _check_reserved(raw)
        for other in subjects[place + 1 :]:
            if subject == other:
                raise invalid("duplicate subjects detected")
            if overlap(raw, other.encode()):
                raise invalid(f'subject "{subject}" overlaps with "{other}"')


def _check_reserved(subject: bytes) -> None:
    if subject.startswith(_SYSTEM_ALLOWED[:-1]):
        return
    for kept, owner in _RESERVED:
        if overlap(subject, kept):
            raise invalid(f"subjects that overlap with {owner} api require no-ack to be true")


def _check_limits(config: StreamConfig, limits: Limits) -> None:
    if limits.max_bytes_required and config.max_bytes <= 0:
        raise faults.fault(faults.MAX_BYTES_REQUIRED)
    most = limits.memory_max_stream_bytes if config.storage == "memory" else limits.storage_max_stream_bytes
    if most > 0 and config.max_bytes > most:
        raise faults.fault(faults.MAX_STREAM_BYTES)


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
    if old.allow_msg_ttl and not new.allow_msg_ttl:
        raise invalid("message TTL status can not be disabled")
    promoted = new.mirror is None and bool(new.subjects)
    if old.mirror != new.mirror and not promoted:
        raise faults.fault(faults.MIRROR_UPDATE)
    if new.sealed:
        new.discard = "new"
        new.deny_delete = new.deny_purge = True
        new.max_age = 0
        new.allow_rollup_hdrs = False


def same(old: StreamConfig, new: StreamConfig) -> bool:
    return old.to_json() == new.to_json()
