"""Whether a stream takes a message: the checks of a publish, in nats-server's order (spec jetstream-api section 4).

Measured against nats-server: the size comes first, then expectations, duplicates, and what rollups and limits say.
"""

from typing import TYPE_CHECKING

from leafnode.stream import faults, intake
from leafnode.stream.intake import Wishes

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream


def check_open(stream: "Stream") -> None:
    """The store takes messages, and the stream does.

    Raises:
        ApiError: it does not.
    """
    if stream.suspended:
        raise faults.fault(faults.STORE_FAILED, stream.suspended)
    if stream.config.sealed:
        raise faults.fault(faults.SEALED)
    if stream.usage.is_over:
        raise faults.fault(faults.RESOURCES_EXCEEDED)


def check_size(stream: "Stream", headers: bytes, payload: bytes) -> None:
    if 0 <= stream.config.max_msg_size < len(headers) + len(payload):
        raise faults.fault(faults.MESSAGE_TOO_BIG)
    if len(headers) > intake.HEADERS_MAX:
        raise faults.fault(faults.HEADERS_TOO_BIG)


def check_expectations(stream: "Stream", wishes: Wishes, subject: bytes) -> int:
    """What the publisher expects of the stream; returns the message's own TTL (0: none).

    Raises:
        ApiError: an expectation does not hold.
    """
    contents = stream.contents
    if wishes.refused in (faults.COUNTER_DISABLED, faults.BATCH_DISABLED):
        raise faults.fault(wishes.refused)
    if wishes.expected_stream and wishes.expected_stream != stream.name.encode():
        raise faults.fault(faults.EXPECTED_STREAM)
    ttl = _own_ttl(stream, wishes.ttl) if wishes.ttl else 0
    if wishes.expected_subject and wishes.expected_subject_last is None:
        raise faults.fault(faults.MISSING_SUBJECT_SEQUENCE)
    if wishes.expected_subject_last is not None:
        last = _last_on(stream, wishes.expected_subject or subject)
        if last != wishes.expected_subject_last:
            raise faults.fault(faults.WRONG_LAST_SEQUENCE, last)
    if wishes.expected_last is not None and wishes.expected_last != contents.last_seq:
        raise faults.fault(faults.WRONG_LAST_SEQUENCE, contents.last_seq)
    if wishes.refused:
        raise faults.fault(wishes.refused)
    return ttl


def _last_on(stream: "Stream", subject: bytes) -> int:
    """The newest sequence of a subject. When it must be looked up first, the publisher has to try again."""
    last = 0
    for entry in stream.contents.matching(subject):
        if not entry.last_seq:
            stream.recall.look_up_last(entry)
            raise faults.fault(faults.WRONG_LAST_SEQUENCE, stream.contents.last_seq)
        last = max(last, entry.last_seq)
    return last


def _own_ttl(stream: "Stream", value: bytes) -> int:
    if not stream.config.allow_msg_ttl:
        raise faults.fault(faults.TTL_DISABLED)
    ttl = intake.ttl_ns(value)
    marker = stream.config.subject_delete_marker_ttl
    if 0 < ttl < marker and stream.config.max_msgs_per_subject != 1:
        return marker
    return ttl


def check_rest(stream: "Stream", wishes: Wishes) -> None:
    """What is checked after duplicates: the expected last id and rollups.

    Raises:
        ApiError: refused.
    """
    last_id = stream.duplicates.last_id
    if wishes.expected_id is not None and wishes.expected_id != last_id:
        raise faults.fault(faults.WRONG_LAST_ID, last_id.decode(errors="replace"))
    if not wishes.rollup:
        return
    if not stream.config.allow_rollup_hdrs or stream.config.deny_purge:
        raise faults.fault(faults.ROLLUP, "rollup not permitted")
    if wishes.rollup not in (b"sub", b"all"):
        raise faults.fault(faults.ROLLUP, f'rollup value invalid: "{wishes.rollup.decode(errors="replace")}"')


def check_limits(stream: "Stream", subject: bytes, headers: int, payload: int) -> None:
    """With discard new, what does not fit is refused; a subject at its own limit makes room by itself.

    Raises:
        ApiError: 10077.
    """
    config, contents = stream.config, stream.contents
    if config.discard != "new":
        return
    entry = contents.subjects.get(subject)
    at_limit = entry is not None and 0 < config.max_msgs_per_subject <= entry.count
    if at_limit and config.discard_new_per_subject:
        raise faults.fault(faults.STORE_FAILED, "maximum messages per subject exceeded")
    if 0 < config.max_msgs <= contents.messages and not at_limit:
        raise faults.fault(faults.STORE_FAILED, "maximum messages exceeded")
    size = stream.size_of(len(subject), headers, payload)
    freed = entry.last_size if entry is not None and at_limit and config.max_msgs_per_subject == 1 else 0
    if 0 < config.max_bytes < contents.bytes + size - freed:
        raise faults.fault(faults.STORE_FAILED, "maximum bytes exceeded")
