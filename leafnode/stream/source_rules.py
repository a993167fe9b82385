"""What a mirror or source of a stream may be, in nats-server's order (spec jetstream-api section 3)."""

import itertools
from collections.abc import Mapping
from typing import Any

from leafnode.route.subject import is_literal, is_publishable, is_subset, is_valid, overlap
from leafnode.route.transform import Transform, TransformError
from leafnode.stream import faults, schema
from leafnode.stream.stream_config import StreamConfig

NAME_FORBIDDEN = " \t\r\n\f.*>\\/"
_API = b"$JS.API"
Source = dict[str, Any]
Known = Mapping[str, StreamConfig]


def is_name(name: str) -> bool:
    """Whether a stream or consumer may be called so."""
    return bool(name) and not any(character in name for character in NAME_FORBIDDEN)


def check_mirror(config: StreamConfig, known: Known, *, pedantic: bool) -> None:
    """A mirror, and what does not go with one. It takes direct gets if its origin does.

    Raises:
        ApiError: what is wrong.
    """
    mirror = config.mirror
    if mirror is None:
        return
    _check_excluded(config)
    if not _is_consumer_sound(mirror):
        raise faults.fault(faults.MIRROR_CONSUMER)
    pairs = mirror.get("subject_transforms", [])
    if mirror.get("filter_subject") and pairs:
        raise faults.fault(faults.MIRROR_FILTER_TRANSFORM)
    if config.subject_delete_marker_ttl > 0:
        raise faults.fault(faults.INVALID_STREAM_CONFIG, "subject delete markers forbidden on mirrors")
    for pair in pairs:
        _check_pair(pair, faults.MIRROR_TRANSFORM_SOURCE, faults.MIRROR_TRANSFORM)
        if any(overlap(_source(pair), _source(other)) for other in pairs if other is not pair):
            raise faults.fault(faults.MIRROR_FILTERS_OVERLAP)
    if mirror.get("external") is not None:
        return
    if not is_name(mirror.get("name", "")):
        raise faults.fault(faults.MIRROR_NAME)
    origin = known.get(mirror["name"])
    if origin is not None:
        _check_size(config, origin, faults.MIRROR_TOO_BIG)
        if pedantic and config.mirror_direct != origin.allow_direct:
            raise faults.fault(faults.PEDANTIC, "origin stream has direct get set, mirror has it disabled")
        config.mirror_direct = origin.allow_direct


def _check_excluded(config: StreamConfig) -> None:
    for is_there, fault in (
        (config.first_seq, faults.MIRROR_FIRST_SEQ),
        (config.subjects, faults.MIRROR_WITH_SUBJECTS),
        (config.sources, faults.MIRROR_WITH_SOURCES),
        (config.allow_msg_counter, faults.MIRROR_COUNTERS),
        (config.allow_atomic, faults.MIRROR_ATOMIC),
        (config.allow_batched, faults.MIRROR_FAST),
        (config.allow_msg_schedules, faults.MIRROR_SCHEDULES),
    ):
        if is_there:
            raise faults.fault(fault)


def check_sources(config: StreamConfig, known: Known) -> None:
    """The sources, each and together.

    Raises:
        ApiError: what is wrong.
    """
    if config.sources and config.allow_msg_schedules:
        raise faults.fault(faults.SOURCE_SCHEDULES)
    seen: set[str] = set()
    consumers: set[str] = set()
    for source in config.sources:
        if not is_name(source.get("name", "")):
            raise faults.fault(faults.SOURCE_NAME)
        if _key(source) in seen:
            raise faults.fault(faults.DUPLICATE_SOURCE)
        seen.add(_key(source))
        _check_source(source)
        if source.get("consumer") is not None:
            consumer = schema.encode([source["name"], _api_of(source), source["consumer"].get("name", "")]).decode()
            if consumer in consumers:
                raise faults.fault(faults.SOURCE_CONSUMER_TWICE)
            consumers.add(consumer)
        origin = known.get(source["name"])
        if source.get("external") is None and origin is not None:
            _check_size(config, origin, faults.SOURCE_TOO_BIG)


def _check_source(source: Source) -> None:
    pairs = source.get("subject_transforms", [])
    if source.get("filter_subject") and pairs:
        raise faults.fault(faults.SOURCE_FILTER_TRANSFORM)
    for pair in pairs:
        _check_pair(pair, faults.SOURCE_TRANSFORM_SOURCE, faults.SOURCE_TRANSFORM)
    for one, two in itertools.permutations(pairs, 2):
        if is_subset(_source(one), _source(two)):
            raise faults.fault(faults.SOURCE_FILTERS_OVERLAP)
    if not _is_consumer_sound(source):
        raise faults.fault(faults.SOURCE_CONSUMER)


def _is_consumer_sound(source: Source) -> bool:
    """A consumer that was made beforehand has a name, a place to deliver to, and decides itself what it sends."""
    consumer = source.get("consumer")
    if consumer is None:
        return True
    subject = consumer.get("deliver_subject", "").encode()
    decides = not (source.get("opt_start_seq") or source.get("opt_start_time") or source.get("filter_subject"))
    return is_name(consumer.get("name", "")) and is_literal(subject) and is_valid(subject) and decides


def _check_size(config: StreamConfig, origin: StreamConfig, fault: faults.Fault) -> None:
    if 0 < config.max_msg_size < origin.max_msg_size:
        raise faults.fault(fault)


def _check_pair(pair: dict[str, str], source_fault: faults.Fault, fault: faults.Fault) -> None:
    if pair.get("src") and not is_valid(pair["src"].encode()):
        raise faults.fault(source_fault, f"invalid subject {pair['src']}")
    check_transform(pair, fault)


def check_transform(pair: dict[str, str], fault: faults.Fault) -> None:
    """Whether a destination can be filled from its source.

    Raises:
        ApiError: of the kind `fault`.
    """
    try:
        Transform(pair.get("src", ""), pair.get("dest", ""))
    except TransformError as error:
        text = str(error)
        raise faults.fault(fault, "invalid subject" if text.startswith("invalid subject") else text) from None


def _source(pair: dict[str, str]) -> bytes:
    return (pair.get("src") or ">").encode()


def _api_of(source: Source) -> str:
    return str((source.get("external") or {}).get("api", "")) if source.get("external") is not None else "$"


def _key(source: Source) -> str:
    """Two sources with the same key would copy the same messages to the same subjects."""
    pairs = source.get("subject_transforms", [])
    moves = [(pair.get("src") or ">", pair.get("dest") or ">") for pair in pairs]
    consumer = (source.get("consumer") or {}).get("name", "") if source.get("consumer") is not None else None
    return schema.encode(
        [source["name"], _api_of(source), consumer, moves or [(source.get("filter_subject") or ">", ">")]]
    ).decode()


def check_prefixes(config: StreamConfig, known: Known) -> None:
    """Where the answers and messages of external origins travel.

    Raises:
        ApiError: 10021, 10022, 10024, 10052.
    """
    origins = [origin for origin in (config.mirror, *config.sources) if origin is not None]
    here = [known[origin["name"]] for origin in origins if origin.get("external") is None and origin["name"] in known]
    external = [origin["external"] for origin in origins if origin.get("external") is not None]
    for deliver in (item["deliver"] for item in external if item.get("deliver")):
        if not is_publishable(deliver.encode()):
            raise faults.fault(faults.EXTERNAL_DELIVER, deliver)
        for subject in (subject for stream in here for subject in stream.subjects):
            if overlap(subject.encode(), f"{deliver}.{subject}".encode()):
                raise faults.fault(faults.EXTERNAL_DELIVER_OVERLAP, deliver, subject)
    for api in (item["api"] for item in external if item.get("api")):
        if not is_publishable(api.encode()):
            text = f'stream external api prefix "{api}" must be a valid subject without wildcards'
            raise faults.fault(faults.INVALID_STREAM_CONFIG, text)
        if overlap(api.encode(), _API):
            raise faults.fault(faults.EXTERNAL_API_OVERLAP, api, _API.decode())


def check_cycle(config: StreamConfig, known: Known) -> None:
    """No stream copies from itself, however many others are between.

    Raises:
        ApiError: 10052.
    """
    visited: set[str] = set()
    to_visit = [config]
    while to_visit:
        stream = to_visit.pop(0)
        visited.add(stream.name)
        for source in stream.sources:
            if source.get("external") is not None:
                continue
            if source["name"] in visited:
                if _takes_any(source.get("filter_subject", ""), stream.subjects):
                    raise faults.fault(faults.INVALID_STREAM_CONFIG, "detected cycle")
            elif source["name"] in known:
                to_visit.append(known[source["name"]])
        mirror = stream.mirror
        if mirror is not None and mirror.get("external") is None:
            if mirror["name"] in visited:
                raise faults.fault(faults.INVALID_STREAM_CONFIG, "detected cycle")
            if mirror["name"] in known:
                to_visit.append(known[mirror["name"]])


def _takes_any(pattern: str, subjects: list[str]) -> bool:
    return not pattern or any(overlap(subject.encode(), pattern.encode()) for subject in subjects)


def check_filters(config: StreamConfig) -> None:
    """The filters of a new stream's mirror and sources.

    Raises:
        ApiError: 10049.
    """
    for origin, kind in (
        (config.mirror, "for the mirror"),
        *((source, "for the source:") for source in config.sources),
    ):
        pattern = origin.get("filter_subject") if origin is not None else ""
        if pattern and not is_valid(pattern.encode()):
            raise faults.fault(faults.STREAM_CREATE, f"subject filter '{pattern}' {kind} invalid subject")
