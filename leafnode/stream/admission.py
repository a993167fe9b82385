"""Whether a stream takes a message: the checks of a publish, in nats-server's order (spec jetstream-api section 4).

One publish goes through `check_size`, `check_before`, the duplicates (in `stream`) and `check_after`. Those of a batch
are all checked before the first is kept: `check_staged` does the same with what the batch has staged so far.
Measured against nats-server: the size comes first.
"""

from functools import partial
from typing import TYPE_CHECKING

from leafnode.errors import ApiError
from leafnode.route.subject import is_publishable
from leafnode.stream import counters, faults, intake, schedules, times
from leafnode.stream.intake import Wishes
from leafnode.stream.lookups import NeedsLookUp
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream

SOURCE_HEADER = b"Nats-Stream-Source"


class Draft:
    """One message on its way in, as the checks leave it."""

    __slots__ = ("count", "headers", "payload", "subject", "ttl", "wishes")

    def __init__(self, subject: bytes, headers: bytes, payload: bytes, wishes: Wishes | None) -> None:
        self.subject = subject
        self.headers = headers
        self.payload = payload
        self.wishes = wishes
        self.ttl = 0  # nanoseconds, or intake.NEVER
        self.count: counters.Count | None = None  # the counter after this message


class Staged:
    """What the messages of a batch, checked so far, will do."""

    def __init__(self) -> None:
        self.written: dict[bytes, bool] = {}  # by subject: whether its newest message is a schedule
        self.counts: dict[bytes, counters.Count] = {}
        self.messages: dict[bytes, int] = {}  # by subject: how many
        self.bytes = 0
        self.ids: set[bytes] = set()
        self.expected: dict[bytes, int] = {}  # by subject: the sequence that was there


class DuplicateError(ApiError):
    """A message of a batch is stored already, as `seq`, or is in the batch twice (0)."""

    def __init__(self, seq: int) -> None:
        super().__init__(*faults.BATCH_DUPLICATE)
        self.seq = seq


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


def check_guard(stream: "Stream", subject: bytes, headers: int, payload: int) -> None:
    if stream.guard is not None:
        reason = stream.guard(subject, stream.size_of(len(subject), headers, payload))
        if reason:
            raise faults.fault(faults.STORE_FAILED, reason)


# one message -----------------------------------------------------------------------------------------------------


def check_before(stream: "Stream", draft: Draft, now_ns: int) -> None:
    """What is checked before duplicates; a schedule gets its rollup header.

    Raises:
        ApiError: refused.
        NeedsLookUp: the newest message of a subject must be looked up first.
    """
    wishes = draft.wishes
    if wishes is None:
        return
    _check_increment(stream, draft, wishes)
    if wishes.expected_stream and wishes.expected_stream != stream.name.encode():
        raise faults.fault(faults.EXPECTED_STREAM)
    if _is_ttl(wishes.ttl) and not stream.config.allow_msg_ttl:
        raise faults.fault(faults.TTL_DISABLED)
    _check_subject_sequence(stream, draft.subject, wishes, None)
    if wishes.expected_last is not None and wishes.expected_last != stream.contents.last_seq:
        raise faults.fault(faults.WRONG_LAST_SEQUENCE, stream.contents.last_seq)
    _check_schedule(stream, draft, wishes, now_ns, None)
    if wishes.get(SOURCE_HEADER):
        raise faults.fault(faults.SOURCE_HEADER)


def check_after(stream: "Stream", draft: Draft) -> None:
    """What is checked after duplicates: the expected last id, rollups, counters, the TTL.

    Raises:
        ApiError: refused.
        NeedsLookUp: a counter's last value must be looked up first.
    """
    wishes = draft.wishes
    if wishes is not None:
        last_id = stream.duplicates.last_id
        if wishes.expected_id and wishes.expected_id != last_id:
            raise faults.fault(faults.WRONG_LAST_ID, last_id.decode(errors="replace"))
        _check_rollup(stream, wishes)
    if stream.config.allow_msg_counter:
        count(stream, draft, None)
        check_size(stream, draft.headers, draft.payload)
    if wishes is not None and wishes.ttl:
        _take_ttl(stream, draft, wishes)


# of a batch ------------------------------------------------------------------------------------------------------


def check_staged(stream: "Stream", draft: Draft, staged: Staged, now_ns: int) -> None:
    """All checks of one message of a batch; what it does is added to `staged`.

    Raises:
        ApiError: refused.
        NeedsLookUp: something must be looked up first; nothing is staged.
    """
    wishes = draft.wishes
    is_schedule = False
    if wishes is not None:
        _check_increment(stream, draft, wishes)
        if wishes.expected_stream and wishes.expected_stream != stream.name.encode():
            raise faults.fault(faults.EXPECTED_STREAM)
        if wishes.ttl:
            if not stream.config.allow_msg_ttl:
                raise faults.fault(faults.TTL_DISABLED)
            _take_ttl(stream, draft, wishes)
        _check_id(stream, wishes, staged, now_ns)
        if wishes.get(SOURCE_HEADER):
            raise faults.fault(faults.SOURCE_HEADER)
    if stream.config.allow_msg_counter:
        count(stream, draft, staged)
        check_size(stream, draft.headers, draft.payload)
    if wishes is not None:
        _check_staged_sequences(stream, draft.subject, wishes, staged)
        is_schedule = _check_schedule(stream, draft, wishes, now_ns, staged)
        _check_staged_rollup(stream, draft.subject, wishes, staged)
    _stage(stream, draft, staged, is_schedule=is_schedule)
    _check_staged_limits(stream, draft, staged)


def _check_id(stream: "Stream", wishes: Wishes, staged: Staged, now_ns: int) -> None:
    if not wishes.msg_id:
        return
    if wishes.msg_id in staged.ids:
        raise DuplicateError(0)
    seq = stream.duplicates.find(wishes.msg_id, now_ns) if stream.config.duplicate_window else None
    if seq is not None:
        raise DuplicateError(seq)


def _check_staged_sequences(stream: "Stream", subject: bytes, wishes: Wishes, staged: Staged) -> None:
    if wishes.expected_last is not None:
        if wishes.expected_last != stream.contents.last_seq + sum(staged.messages.values()):
            raise faults.fault(faults.WRONG_LAST_SEQUENCE, stream.contents.last_seq + sum(staged.messages.values()))
        if staged.written:
            raise faults.fault(faults.WRONG_LAST_SEQUENCE_CONSTANT)
    if wishes.expected_subject_last is not None and (wishes.expected_subject or subject) in staged.written:
        raise faults.fault(faults.WRONG_LAST_SEQUENCE_CONSTANT)
    _check_subject_sequence(stream, subject, wishes, staged)


def _check_staged_rollup(stream: "Stream", subject: bytes, wishes: Wishes, staged: Staged) -> None:
    _check_rollup(stream, wishes)
    if wishes.rollup == b"sub" and subject in staged.written:
        raise faults.fault(faults.ROLLUP, "batch rollup sub invalid")
    if wishes.rollup == b"all" and staged.written:
        raise faults.fault(faults.ROLLUP, "batch rollup all invalid")


def _stage(stream: "Stream", draft: Draft, staged: Staged, *, is_schedule: bool) -> None:
    staged.written[draft.subject] = is_schedule
    staged.messages[draft.subject] = staged.messages.get(draft.subject, 0) + 1
    staged.bytes += stream.size_of(len(draft.subject), len(draft.headers), len(draft.payload))
    if draft.wishes is not None and draft.wishes.msg_id:
        staged.ids.add(draft.wishes.msg_id)
    if draft.count is not None:
        staged.counts[draft.subject] = draft.count


def _check_staged_limits(stream: "Stream", draft: Draft, staged: Staged) -> None:
    check_guard(stream, draft.subject, len(draft.headers), len(draft.payload))
    config, contents = stream.config, stream.contents
    check_room(stream, staged.bytes)
    if config.discard != "new":
        return
    if 0 < config.max_msgs < contents.messages + sum(staged.messages.values()):
        raise faults.fault(faults.STORE_FAILED, "maximum messages exceeded")
    if 0 < config.max_bytes < contents.bytes + staged.bytes:
        raise faults.fault(faults.STORE_FAILED, "maximum bytes exceeded")
    entry = contents.subjects.get(draft.subject)
    there = (entry.count if entry is not None else 0) + staged.messages[draft.subject]
    rolls_up = draft.wishes is not None and draft.wishes.rollup
    if config.discard_new_per_subject and not rolls_up and there > config.max_msgs_per_subject:
        raise faults.fault(faults.STORE_FAILED, "maximum messages per subject exceeded")


# rules -----------------------------------------------------------------------------------------------------------


def _check_increment(stream: "Stream", draft: Draft, wishes: Wishes) -> None:
    if counters.increment(wishes) is None:
        return
    if not stream.config.allow_msg_counter:
        raise faults.fault(faults.COUNTER_DISABLED)
    if draft.payload:
        raise faults.fault(faults.COUNTER_PAYLOAD)
    if wishes.rollup or wishes.expects:
        raise faults.fault(faults.COUNTER_INVALID)


def count(stream: "Stream", draft: Draft, staged: Staged | None) -> None:
    """On a stream of counters: the message gets the sum.

    Raises:
        ApiError: 10169, 10171, 10172.
        NeedsLookUp: the last value is not in memory.
    """
    amount = counters.increment(draft.wishes)
    if amount is None:
        raise faults.fault(faults.COUNTER_MISSING)
    before = staged.counts.get(draft.subject) if staged is not None else None
    if before is None:
        before = stream.counters.last(draft.subject)
    draft.headers, draft.payload, draft.count = counters.add(
        before, draft.subject, draft.headers, draft.payload, amount
    )


def _check_subject_sequence(stream: "Stream", subject: bytes, wishes: Wishes, staged: Staged | None) -> None:
    if wishes.expected_subject_last is None:
        if wishes.expected_subject:
            raise faults.fault(faults.MISSING_SUBJECT_SEQUENCE)
        return
    wanted = wishes.expected_subject or subject
    last = staged.expected.get(wanted) if staged is not None else None
    if last is None:
        last = _last_on(stream, wanted)
    if last != wishes.expected_subject_last:
        raise faults.fault(faults.WRONG_LAST_SEQUENCE, last)
    if staged is not None:
        staged.expected[wanted] = last


def _last_on(stream: "Stream", subject: bytes) -> int:
    """The newest sequence of a subject, or of all that a pattern covers."""
    last = 0
    for entry in stream.contents.matching(subject):
        if not entry.last_seq:
            raise NeedsLookUp(partial(stream.recall.look_up_last, entry))
        last = max(last, entry.last_seq)
    return last


def _is_ttl(value: bytes) -> bool:
    """Whether this is a TTL; what is not is refused later."""
    try:
        return bool(value) and intake.ttl_ns(value) != 0
    except ApiError:
        return False


def _take_ttl(stream: "Stream", draft: Draft, wishes: Wishes) -> None:
    """A TTL shorter than that of markers is raised: else a marker could be missed."""
    ttl = intake.ttl_ns(wishes.ttl)
    marker = stream.config.subject_delete_marker_ttl
    least = marker - marker % times.SECOND
    if 0 < ttl < least and stream.config.max_msgs_per_subject != 1:
        ttl = least
        lines = header_block.without(draft.headers, b"Nats-TTL")
        draft.headers = header_block.with_lines(lines, (b"Nats-TTL", b"%d" % (least // times.SECOND)))
    draft.ttl = ttl


def _check_schedule(stream: "Stream", draft: Draft, wishes: Wishes, now_ns: int, staged: Staged | None) -> bool:
    """Whether it is a schedule, which rolls its subject up."""
    given = wishes.given
    is_schedule = False
    if schedules.PATTERN in given or schedules.ZONE in given:
        is_schedule = schedules.check(stream.config, draft.subject, wishes, now_ns)
        if is_schedule and not wishes.rollup:
            wishes.rollup = b"sub"
            draft.headers = header_block.with_lines(draft.headers, (schedules.MESSAGE_ROLLUP, b"sub"))
    if wishes.get(schedules.NEXT):
        _check_end_of_schedule(stream, draft, wishes, staged)
    elif wishes.get(schedules.SCHEDULER):
        raise faults.fault(faults.SCHEDULER)
    return is_schedule


def _check_end_of_schedule(stream: "Stream", draft: Draft, wishes: Wishes, staged: Staged | None) -> None:
    """A client may end a schedule with a message on another subject."""
    scheduler = wishes.get(schedules.SCHEDULER)
    if wishes.get(schedules.NEXT) != schedules.PURGE or scheduler == draft.subject or not is_publishable(scheduler):
        raise faults.fault(faults.SCHEDULER)
    if not stream.config.allow_msg_schedules:
        raise faults.fault(faults.SCHEDULES_DISABLED)
    is_schedule = staged.written.get(scheduler) if staged is not None else None
    if is_schedule is None:
        is_schedule = scheduler in stream.schedules or scheduler not in stream.contents.subjects
    if not is_schedule:
        raise faults.fault(faults.SCHEDULER)


def _check_rollup(stream: "Stream", wishes: Wishes) -> None:
    if not wishes.rollup:
        return
    if not stream.config.allow_rollup_hdrs or stream.config.deny_purge:
        raise faults.fault(faults.ROLLUP, "rollup not permitted")
    if wishes.rollup not in (b"sub", b"all"):
        raise faults.fault(faults.ROLLUP, f'rollup value invalid: "{wishes.rollup.decode(errors="replace")}"')


def check_rollup_ready(stream: "Stream", draft: Draft) -> None:
    """The last check before a message is kept.

    Raises:
        NeedsLookUp: what it rolls up must be read first.
    """
    if draft.wishes is not None and draft.wishes.rollup:
        stream.retention.check_rolls_up(draft.subject, draft.wishes.rollup)


def check_room(stream: "Stream", size: int) -> None:
    """Whether the account may keep so much more.

    Raises:
        ApiError: 10002.
    """
    if not stream.usage.has_room(stream.unreported + size):
        raise faults.fault(faults.RESOURCES_EXCEEDED)


def check_limits(stream: "Stream", subject: bytes, headers: int, payload: int) -> None:
    """With discard new, what does not fit is refused; a subject at its own limit makes room by itself.

    Raises:
        ApiError: 10077.
    """
    check_guard(stream, subject, headers, payload)
    config, contents = stream.config, stream.contents
    if stream.usage.is_near:
        check_room(stream, stream.size_of(len(subject), headers, payload))
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
