"""Scheduled messages (ADR-51): a message on a subject of its own that makes others when its time comes.

`Nats-Schedule` says when (`@at <time>`, `@every 5m`, `@daily`, six crontab fields) and `Nats-Schedule-Target` where to;
the newest message of a subject is its schedule. What a schedule makes, and the time when it is due next, are in one
commit, so that nothing is made twice or left out whenever the power goes. A schedule that was due while the server was
off makes one message at once, whatever the number of times it missed; repeating ones go on from now.
"""

import heapq
from typing import TYPE_CHECKING, NamedTuple

from leafnode.errors import ApiError
from leafnode.route.subject import is_publishable, overlap
from leafnode.stream import cron, faults, intake, times
from leafnode.stream.intake import Wishes
from leafnode.stream.stored import Stored
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream
    from leafnode.stream.stream_config import StreamConfig

PATTERN, TARGET, SOURCE = b"Nats-Schedule", b"Nats-Schedule-Target", b"Nats-Schedule-Source"
TTL, ROLLUP, ZONE = b"Nats-Schedule-TTL", b"Nats-Schedule-Rollup", b"Nats-Schedule-Time-Zone"
SCHEDULER, NEXT = b"Nats-Scheduler", b"Nats-Schedule-Next"
PURGE = b"purge"  # as NEXT: the schedule has done its work
MESSAGE_TTL, MESSAGE_ROLLUP = b"Nats-TTL", b"Nats-Rollup"
SHORTEST = times.SECOND  # of @every
NONE = 0  # instead of a time: no schedule
_NOT_PASSED_ON = (PATTERN, SCHEDULER, b"Nats-Expected-", b"Nats-Msg-Id", MESSAGE_TTL, MESSAGE_ROLLUP)


class Due(NamedTuple):
    """When a schedule is due after some moment, and whether that is for the last time."""

    at: int
    repeats: bool


def due(given: dict[bytes, bytes], after_ns: int, now_ns: int) -> Due:
    """When the schedule in a message's headers is due next; `at` is NONE without one.

    Raises:
        ApiError: 10189, 10223.
    """
    where = None
    if ZONE in given:
        try:
            where = cron.zone(given[ZONE].decode()) if given[ZONE] else None
        except ValueError:
            where = None
        if where is None:
            raise faults.fault(faults.SCHEDULE_ZONE)
    pattern = given.get(PATTERN, b"").decode(errors="replace")
    if not pattern:
        return Due(NONE, repeats=False)
    try:
        if pattern.startswith(("@at ", "@every ")):
            if where is not None:
                raise ValueError("a time zone is for crontab patterns")
            return _simple(pattern, after_ns, now_ns)
        zone = where or cron.zone("UTC")
        at = cron.following(pattern, zone, after_ns)
        return Due(cron.following(pattern, zone, _rounded(now_ns)) if at < now_ns else at, repeats=True)
    except (ValueError, OverflowError):
        raise faults.fault(faults.SCHEDULE_PATTERN) from None


def _simple(pattern: str, after_ns: int, now_ns: int) -> Due:
    word, _, value = pattern.partition(" ")
    if word == "@at":
        return Due(max(1, times.from_text(value)), repeats=False)
    interval = times.duration(value)
    if interval < SHORTEST:
        raise ValueError("shorter than a second")
    at = _rounded(after_ns) + interval
    return Due(_rounded(now_ns) + interval if at < now_ns else at, repeats=True)


def _rounded(time_ns: int) -> int:
    """To the nearest second."""
    return (time_ns + times.SECOND // 2) // times.SECOND * times.SECOND


def check(config: "StreamConfig", subject: bytes, wishes: Wishes, now_ns: int) -> bool:
    """Whether a publish is a schedule, and if so one that this stream takes.

    Raises:
        ApiError: 10188 to 10192, 10203, 10223, 10166.
    """
    try:
        at = due(wishes.given, now_ns, now_ns).at
    except ApiError:
        if not config.allow_msg_schedules:
            raise faults.fault(faults.SCHEDULES_DISABLED) from None
        raise
    if at == NONE:
        return False
    if not config.allow_msg_schedules:
        raise faults.fault(faults.SCHEDULES_DISABLED)
    _check_output(config, wishes)
    target, source = wishes.get(TARGET), wishes.get(SOURCE)
    if not is_publishable(target) or target == subject or not _belongs(config, target):
        raise faults.fault(faults.SCHEDULE_TARGET)
    if source and (source in (target, subject) or not is_publishable(source) or not _belongs(config, source)):
        raise faults.fault(faults.SCHEDULE_SOURCE)
    if wishes.rollup not in (b"", b"sub"):
        raise faults.fault(faults.SCHEDULE_ROLLUP)
    return True


def _check_output(config: "StreamConfig", wishes: Wishes) -> None:
    ttl = wishes.get(TTL)
    if ttl:
        try:
            intake.ttl_ns(ttl)
        except ApiError:
            raise faults.fault(faults.SCHEDULE_TTL) from None
    if wishes.get(ROLLUP) not in (b"", b"sub"):
        raise faults.fault(faults.SCHEDULE_ROLLUP)
    if ttl and not config.allow_msg_ttl:
        raise faults.fault(faults.TTL_DISABLED)


def _belongs(config: "StreamConfig", subject: bytes) -> bool:
    return any(overlap(pattern.encode(), subject) for pattern in config.subjects)


class Schedules:
    """The schedules of one stream: one small entry each, in memory."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream
        self._entries: dict[bytes, tuple[int, int]] = {}  # by subject: sequence, time
        self._subjects: dict[int, bytes] = {}  # by sequence
        self._heap: list[tuple[int, bytes]] = []
        self._firing: set[bytes] = set()
        self.armed_ns = 0

    def __contains__(self, subject: bytes) -> bool:
        return subject in self._entries

    # what is there -----------------------------------------------------------------------------------------------

    def restore(self, rows: list[tuple[bytes, int, int]]) -> None:
        """Take on what is on the disk: subject, sequence, time."""
        self._entries.clear()
        self._subjects.clear()
        self._heap.clear()
        self._firing.clear()
        for subject, seq, at in rows:
            self._enter(subject, seq, at)

    def taken(self, subject: bytes, seq: int, wishes: Wishes | None, taken_ns: int) -> None:
        """A message was numbered: it may be a schedule, end one, or be what one made."""
        try:
            at = due(wishes.given, taken_ns, self._stream.around.now_ns()).at if wishes is not None else NONE
        except ApiError:
            at = NONE
        scheduler = wishes.get(SCHEDULER) if wishes is not None else b""
        if at != NONE:
            self._enter(subject, seq, at)
            self._stream.changes().schedules[subject] = (seq, at)
        elif not scheduler:
            self._leave(subject)

    def removed(self, seq: int) -> None:
        """A message went."""
        subject = self._subjects.get(seq)
        if subject is not None:
            self._leave(subject)

    def clear(self) -> None:
        """All messages went."""
        for subject in list(self._entries):
            self._leave(subject)

    def _enter(self, subject: bytes, seq: int, at: int) -> None:
        before = self._entries.get(subject)
        if before is not None:
            self._subjects.pop(before[0], None)
        self._entries[subject] = (seq, at)
        self._subjects[seq] = subject
        self._firing.discard(subject)
        heapq.heappush(self._heap, (at, subject))
        self.arm()

    def _leave(self, subject: bytes) -> None:
        entry = self._entries.pop(subject, None)
        if entry is not None:
            self._subjects.pop(entry[0], None)
            self._firing.discard(subject)
            self._stream.changes().schedules[subject] = None

    # time --------------------------------------------------------------------------------------------------------

    def arm(self) -> None:
        heap = self._heap
        while heap and self._entries.get(heap[0][1], (0, 0))[1] != heap[0][0]:
            heapq.heappop(heap)
        if heap:
            self._stream.around.timers.arm(self, heap[0][0])

    def on_time(self, now_ns: int) -> None:
        """Schedules whose time has come make their messages, in the order of their sequences."""
        stream = self._stream
        if stream.deleted or stream.suspended:
            return  # armed again by `restore`
        ready: list[tuple[int, bytes]] = []
        while self._heap and self._heap[0][0] <= now_ns:
            at, subject = heapq.heappop(self._heap)
            entry = self._entries.get(subject)
            if entry is not None and entry[1] == at and subject not in self._firing:
                self._firing.add(subject)
                ready.append((entry[0], subject))
        for seq, subject in sorted(ready):
            self._load(subject, seq)
        self.arm()

    def _load(self, subject: bytes, seq: int) -> None:
        stream = self._stream

        def found(stored: Stored | None) -> None:
            if self._entries.get(subject, (0, 0))[0] != seq or subject not in self._firing:
                return
            if stored is None:
                self._leave(subject)
            else:
                self._with_source(stored)

        stream.around.journal.after(lambda _failure: stream.recall.message(seq, found))

    def _with_source(self, schedule: Stored) -> None:
        """What is passed on: the newest message of the source if there is one, else the schedule's own."""
        wishes = intake.read(schedule.headers) or Wishes({})
        source = self._stream.contents.subjects.get(wishes.get(SOURCE))
        if source is None:
            self._make(schedule, wishes, schedule)
        elif not source.last_seq:
            self._stream.recall.look_up_last(source, lambda: self._with_source(schedule))
        else:
            self._stream.around.journal.after(lambda _failure: self._read_source(schedule, wishes, source.last_seq))

    def _read_source(self, schedule: Stored, wishes: Wishes, seq: int) -> None:
        self._stream.recall.message(seq, lambda stored: self._make(schedule, wishes, stored or schedule))

    def _make(self, schedule: Stored, wishes: Wishes, content: Stored) -> None:
        stream = self._stream
        entry = self._entries.get(schedule.subject)
        if entry is None or entry[0] != schedule.seq or stream.suspended or stream.deleted:
            self._firing.discard(schedule.subject)
            return
        try:
            following = due(wishes.given, entry[1], stream.around.now_ns())
        except ApiError:
            self._leave(schedule.subject)
            return
        headers = header_block.without_prefixes(content.headers, *_NOT_PASSED_ON)
        lines = [
            (SCHEDULER, schedule.subject),
            (NEXT, times.to_text(following.at).encode() if following.repeats else PURGE),
        ]
        lines += [(MESSAGE_TTL, wishes.get(TTL))] if wishes.get(TTL) else []
        lines += [(MESSAGE_ROLLUP, wishes.get(ROLLUP))] if wishes.get(ROLLUP) else []
        self._firing.discard(schedule.subject)
        if following.repeats:
            self._enter(schedule.subject, schedule.seq, following.at)
            stream.changes().schedules[schedule.subject] = (schedule.seq, following.at)
        stream.keep_made(wishes.get(TARGET), header_block.with_lines(headers, *lines), content.payload)
