"""One stream: takes messages, refuses duplicates, numbers, applies limits, acknowledges what is stored.

Order of events for one message:

    deliver()         checked, numbered, handed to the journal; the publisher hears nothing yet
    (the disk)        the shell commits the journal's batch
    on_stored()       republished, acknowledged, seen by consumers: only now may the publisher forget it

Counters run ahead of the disk (`contents`), readers see what is committed (`committed`). When a commit fails, the shell
reloads the stream from the disk and the messages on their way are refused with 503/10077.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from leafnode.errors import ApiError
from leafnode.route.message import Message, Subscription
from leafnode.route.transform import Transform
from leafnode.stream import admission, counters, faults, intake, schedules, schema
from leafnode.stream.admission import Draft
from leafnode.stream.aging import Aging
from leafnode.stream.audience import Audience
from leafnode.stream.batches import ID as BATCH_ID
from leafnode.stream.batches import AtomicBatches
from leafnode.stream.contents import Contents, Subject
from leafnode.stream.counters import Counters
from leafnode.stream.duplicates import Duplicates
from leafnode.stream.fast_batches import SUFFIX as FAST_SUFFIX
from leafnode.stream.fast_batches import FastBatches
from leafnode.stream.intake import Wishes
from leafnode.stream.journal import SetAside, StreamChanges, StreamState
from leafnode.stream.loaded import LoadedContents
from leafnode.stream.lookups import LookUps
from leafnode.stream.purge import Purge
from leafnode.stream.recall import Recall
from leafnode.stream.recent import Shelf
from leafnode.stream.republish import Republisher
from leafnode.stream.retention import Retention
from leafnode.stream.schedules import Schedules
from leafnode.stream.stored import Stored, checksum, file_size, memory_size
from leafnode.stream.stream_config import StreamConfig
from leafnode.stream.surroundings import Surroundings
from leafnode.stream.tail import Tail
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.consumer import Consumer
    from leafnode.stream.pending import Pending

STORE_DOWN = "insufficient resources: the store does not take messages"


class Watcher(Protocol):
    """A part of the broker that follows a stream (`Stream.watchers`). Must not raise and must not wait."""

    def on_stored(self, messages: list[Stored], upto: int) -> None:
        """These are committed; so is everything up to a sequence that still exists."""
        ...

    def on_removed(self, seq: int, subject: bytes, size: int, time: int, reason: str) -> None:
        """A message goes, in the next commit. `time` 0: not known."""
        ...

    def on_cleared(self) -> None:
        """Every message goes, in the next commit."""
        ...


class Stream:
    """One stream of one account. A sink for its subjects."""

    is_remote = False

    def __init__(self, number: int, config: StreamConfig, created: int, around: Surroundings) -> None:
        self.id = number
        self.config = config
        self.created = created
        self.around = around
        self.contents = Contents(config.first_seq or 1, with_history=keeps_history(config))
        self.committed = self.contents.last_seq
        self.shelf = Shelf(self.contents.last_seq)
        self.consumers: dict[str, Consumer] = {}
        self.duplicates = Duplicates(config.duplicate_window)
        self.origins: dict[str, int] = {}  # by source: the newest sequence of it that is here
        self.on_reloaded: Callable[[], None] = _nobody
        self.watchers: list[Watcher] = []
        self.guard: Callable[[bytes, int], str] | None = None
        """Why a message of a subject and size is not taken just now; empty: it is."""
        self.suspended = ""  # why messages are refused, while the store does not take them
        self._held = ""  # the same, beyond the next restore
        self.deleted = False
        self.usage = around.memory if config.storage == "memory" else around.disk
        self.size_of = memory_size if config.storage == "memory" else file_size
        self.recall = Recall(self)
        self.tail = Tail(always=config.storage == "memory")
        self.retention = Retention(self)
        self.aging = Aging(self)
        self.counters = Counters(self)
        self.schedules = Schedules(self)
        self.atomic = AtomicBatches(self)
        self.fast = FastBatches(self)
        self.lookups = LookUps(around.journal)
        self._subscriptions: list[Subscription] = []
        self._changes: StreamChanges | None = None
        self._audience = Audience()
        self._settled_again: list[int] = []  # removals to repeat after a failed commit
        self._dropped_again: list[
            tuple[Consumer, int, Pending]
        ] = []  # deliveries that wait again after a failed commit
        self._reported = 0  # bytes that `usage` knows of
        self._configure(config)

    # configuration -----------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.config.name

    def _configure(self, config: StreamConfig) -> None:
        self.config = config
        self.duplicates.window_ns = config.duplicate_window
        domain = f',"domain":{schema.encode(self.around.domain).decode()}' if self.around.domain else ""
        self.ack_head = f'{{"stream":"{config.name}"{domain},"seq":'.encode()
        move = config.subject_transform
        self._transform = Transform(move.get("src", ""), move.get("dest", "")) if move else None
        self._republisher = Republisher(config.name, config.republish) if config.republish else None
        self._is_limited = config.max_msgs > 0 or config.max_bytes > 0
        self._most_each = max(config.max_msgs_per_subject, 0)  # messages of a subject; 0: any number
        self._simple = not (
            config.sealed
            or (config.discard == "new" and (self._is_limited or config.discard_new_per_subject))
            or config.max_msg_size > 0
            or self._transform
            or config.mirror
            or config.retention == "interest"
            or config.allow_msg_counter
            or config.allow_msg_schedules
        )
        self._acks_early = config.persist_mode == "async"

    def reconfigure(self, config: StreamConfig, then: Callable[[], None]) -> None:
        """Take on a changed configuration that `stream_rules` has accepted; `then`: what is over new limits is gone."""
        self._configure(config)
        if not config.allow_atomic:
            self.atomic.clear()
        if keeps_history(config) and not self.contents.with_history:
            self.recall.begin_history()
        self.aging.disarm()
        self.aging.arm()
        self.retention.enforce_all(then)

    def subscribe(self) -> None:
        """Capture the configured subjects."""
        for subject in self.config.subjects:
            sub = Subscription(subject.encode(), self)
            sub.is_stream = True
            self._subscriptions.append(sub)
            self.around.account.subscribe(sub)

    def unsubscribe(self) -> None:
        for sub in self._subscriptions:
            self.around.account.unsubscribe(sub)
        self._subscriptions.clear()

    def forget(self) -> None:
        """It is deleted."""
        self.deleted = True
        self._report_usage(0)
        self.aging.disarm()
        self.around.timers.disarm(self.schedules)
        self.atomic.clear()
        self.fast.clear()
        self.lookups.clear()
        self.unsubscribe()

    # publish -----------------------------------------------------------------------------------------------------

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        """Take one publish; the PubAck follows the commit."""
        subject, reply, headers, payload = message
        if to:
            subject = to
        if (
            headers
            or not self._simple
            or self.suspended
            or self.usage.is_near
            or self.lookups.queue
            or self.guard is not None
            or reply.endswith(FAST_SUFFIX)
        ):
            self._deliver_checked(subject, reply, headers, payload)
        else:
            self.keep(subject, reply, headers, payload, self.around.now_ns())
        return True

    def _deliver_checked(self, subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
        def step() -> None:
            try:
                self._take(subject, reply, headers, payload)
            except ApiError as error:
                self.refuse(reply, error)

        self.lookups.run(step, len(headers) + len(payload))

    def refuse(self, reply: bytes, error: ApiError) -> None:
        """Tell a publisher why its message was not taken."""
        if reply and not self.config.no_ack:
            body: dict[str, object] = {"error": error_json(error), "stream": self.name}
            if self.around.domain:
                body["domain"] = self.around.domain
            body["seq"] = 0
            self.around.account.publish(Message(reply, payload=schema.encode(body)))

    def _take(self, subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
        """The complete way.

        Raises:
            ApiError: refused.
            NeedsLookUp: something must be read first.
        """
        if self.config.mirror or self.deleted:
            return
        now = self.around.now_ns()
        headers = _without_status(headers) if headers else headers
        wishes = intake.read(headers) if headers else None
        if reply.endswith(FAST_SUFFIX):
            self.fast.take(reply, Draft(self.moved(subject), headers, payload, wishes), now)
        elif wishes is not None and wishes.get(BATCH_ID):
            self.atomic.take(reply, Draft(subject, headers, payload, wishes), now)
        else:
            self._take_one(Draft(self.moved(subject), headers, payload, wishes), reply, now)

    def _take_one(self, draft: Draft, reply: bytes, now: int) -> None:
        admission.check_open(self)
        admission.check_size(self, draft.headers, draft.payload)
        admission.check_before(self, draft, now)
        if draft.wishes is not None and draft.wishes.msg_id and self._is_duplicate(draft.wishes.msg_id, reply, now):
            return
        admission.check_after(self, draft)
        admission.check_limits(self, draft.subject, len(draft.headers), len(draft.payload))
        admission.check_rollup_ready(self, draft)
        tail = b"}" if draft.count is None else b',"val":"%d"}' % draft.count.total
        self.keep_draft(draft, reply, now, tail)

    def moved(self, subject: bytes) -> bytes:
        """The subject under which a message is kept."""
        return subject if self._transform is None else self._transform.apply(subject) or subject

    def keep_draft(self, draft: Draft, reply: bytes, now: int, tail: bytes = b"}") -> int:
        """Keep a message that all checks let through, or count it if nobody is interested; returns its sequence."""
        wishes = draft.wishes
        if self.config.retention == "interest" and not self.interested(draft.subject):
            seq = self._skip(draft, reply, now, tail)
        else:
            seq = self.keep(draft.subject, reply, draft.headers, draft.payload, now, wishes, draft.ttl, tail)
            if draft.count is not None:
                self.counters.keep(draft.subject, seq, draft.count)
            if self.config.allow_msg_schedules:
                self.schedules.taken(draft.subject, seq, wishes, now)
        if wishes is not None and wishes.get(schedules.NEXT) == schedules.PURGE:
            self._end_schedule(wishes.get(schedules.SCHEDULER))
        return seq

    def _end_schedule(self, subject: bytes) -> None:
        """A message says that a schedule has done its work."""
        if not self.config.allow_rollup_hdrs or self.config.deny_purge:
            return
        entry = self.contents.subjects.get(subject)
        if entry is not None and entry.count == 1 and entry.last_seq:
            self.remove(entry.last_seq, entry, entry.last_size, "replaced")
        elif entry is not None:
            Purge(self, [subject]).start()

    def _is_duplicate(self, msg_id: bytes, reply: bytes, now: int) -> bool:
        """Acknowledge a copy again; with the first one's commit, if that is still on its way."""
        seq = self.duplicates.find(msg_id, now) if self.config.duplicate_window else None
        if seq is None:
            return False
        if reply and not self.config.no_ack:
            ack = b'%b%d,"duplicate": true}' % (self.ack_head, seq)
            if seq <= self.committed or self.around.journal.is_idle:
                self.around.account.publish(Message(reply, payload=ack))
            else:
                self.changes().acks.append((reply, ack))
        return True

    def _skip(self, draft: Draft, reply: bytes, now: int, tail: bytes) -> int:
        """Interest retention and nobody interested: acknowledged with a number, not stored."""
        seq = self.contents.last_seq + 1
        self.contents.skip(seq)
        self._remember(draft.wishes, seq, now)
        changes = self.changes()
        if reply and not self.config.no_ack:
            changes.acks.append((reply, b"%b%d%b" % (self.ack_head, seq, tail)))
        rollup = draft.wishes.rollup if draft.wishes is not None else b""
        if rollup:
            Purge(self, [draft.subject] if rollup == b"sub" else None).start()
        return seq

    def keep(
        self,
        subject: bytes,
        reply: bytes,
        headers: bytes,
        payload: bytes,
        now: int,
        wishes: Wishes | None = None,
        ttl: int = 0,
        tail: bytes = b"}",
    ) -> int:
        """Number a message that is admitted and hand it to the journal; returns its sequence."""
        contents = self.contents
        seq = contents.last_seq + 1
        changes = self._changes or self.changes()
        entry = contents.subjects.get(subject) or contents.subject(subject)
        replaced, replaced_size = entry.last_seq, entry.last_size
        if wishes is not None and wishes.rollup == b"all":
            self.clear()
            entry = contents.subject(subject)
        size = self.size_of(len(subject), len(headers), len(payload))
        if wishes is not None:
            self._remember(wishes, seq, now)
        else:
            self.duplicates.last_id = b""
        contents.add(seq, entry, size, now)
        body = headers + payload if headers else payload
        check = checksum(self.id, seq, subject, now, len(headers), body)
        changes.rows += (seq, entry.id, now, len(headers), body, check)
        changes.messages.append(Stored(seq, subject, now, headers, payload))
        changes.subjects[entry.id] = entry
        if reply and not self.config.no_ack:
            ack = b"%b%d%b" % (self.ack_head, seq, tail)
            if self._acks_early:
                self.around.account.publish(Message(reply, b"", b"", ack))
            else:
                changes.acks.append((reply, ack))
        self.around.journal.weigh(size)
        if self._republisher is not None:
            changes.previous[seq] = replaced
        if ttl or (headers and self.config.subject_delete_marker_ttl):
            self.aging.taken(seq, headers, ttl, now)
        if wishes is not None and wishes.rollup:
            self.retention.roll_up(wishes.rollup, entry, seq, replaced, replaced_size)
        if 0 < self._most_each < entry.count:
            if self._most_each == 1 and entry.count == 2 and replaced:
                self.remove(replaced, entry, replaced_size, "replaced")
            else:
                self.retention.enforce(entry)
        if self._is_limited:
            self.retention.enforce(entry)
        if self.config.max_age:
            self.aging.kept_by_age(now)
        return seq

    def _remember(self, wishes: Wishes | None, seq: int, now: int) -> None:
        self.duplicates.last_id = wishes.msg_id if wishes is not None else b""
        if wishes is not None and wishes.msg_id and self.config.duplicate_window:
            self.duplicates.add(wishes.msg_id, seq, now)

    def changes(self) -> StreamChanges:
        """This stream's part of the batch being collected."""
        if self._changes is None:
            self._changes = self.around.journal.stream_changes(self)
        return self._changes

    # copies of another stream ------------------------------------------------------------------------------------

    def keep_copy(self, stored: Stored) -> None:
        """A mirror's way: sequence and time are the origin's; what it left out does not exist here either.

        Raises:
            NeedsLookUp: what the message rolls up must be read first.
        """
        wishes = self._copied_wishes(stored.headers)
        if wishes is not None:
            self.retention.check_rolls_up(stored.subject, wishes.rollup)
        if stored.seq > self.contents.last_seq + 1:
            self.contents.skip(stored.seq - 1)
        ttl = self._copied_ttl(stored.headers)
        self.keep(stored.subject, b"", stored.headers, stored.payload, stored.time, wishes, ttl)

    def keep_restored(self, stored: Stored) -> None:
        """A snapshot's way: as it was, whatever its headers say of other messages."""
        if stored.seq > self.contents.last_seq + 1:
            self.contents.skip(stored.seq - 1)
        ttl = self._copied_ttl(stored.headers)
        self.keep(stored.subject, b"", stored.headers, stored.payload, stored.time, None, ttl)
        if self.config.allow_msg_schedules:
            self.schedules.taken(stored.subject, stored.seq, intake.read(stored.headers), stored.time)

    def _copied_wishes(self, headers: bytes) -> Wishes | None:
        """Of what the publisher asked the origin: a copy rolls up if it may."""
        wishes = intake.read(headers) if headers else None
        if wishes is not None and (not self.config.allow_rollup_hdrs or self.config.deny_purge):
            wishes.rollup = b""
        return wishes

    def keep_from_source(self, subject: bytes, headers: bytes, payload: bytes) -> None:
        """A source's way: numbered and stamped here, limits apply, what was expected of the origin does not.

        Raises:
            ApiError: a limit with discard new refuses it, or the store does.
            NeedsLookUp: a counter's last value must be looked up first.
        """
        admission.check_open(self)
        now = self.around.now_ns()
        wishes = self._copied_wishes(headers)
        draft = Draft(self.moved(subject), headers, payload, wishes)
        counters.increment(wishes)
        if wishes is not None and wishes.msg_id and self._is_duplicate(wishes.msg_id, b"", now):
            return
        if self.config.allow_msg_counter:
            admission.count(self, draft, None)
        draft.ttl = self._copied_ttl(headers)
        admission.check_limits(self, draft.subject, len(draft.headers), len(draft.payload))
        admission.check_rollup_ready(self, draft)
        self.keep_draft(draft, b"", now)

    def keep_made(self, subject: bytes, headers: bytes, payload: bytes) -> bool:
        """What a schedule makes; whether it was taken."""
        draft = Draft(self.moved(subject), headers, payload, intake.read(headers))
        draft.ttl = self._copied_ttl(headers)
        try:
            admission.check_open(self)
            admission.check_size(self, headers, payload)
        except ApiError:
            return False
        self.keep_draft(draft, b"", self.around.now_ns())
        return True

    def _copied_ttl(self, headers: bytes) -> int:
        """The TTL of a copied message counts if this stream allows TTLs."""
        value = header_block.get(headers, b"Nats-TTL") if headers and self.config.allow_msg_ttl else None
        try:
            return intake.ttl_ns(value) if value else 0
        except ApiError:
            return 0

    def keep_origin(self, key: str, seq: int) -> None:
        """Everything of a source up to `seq` is here; kept in the same commit as the messages."""
        self.origins[key] = seq
        self.changes().origins[key] = seq

    # removal -----------------------------------------------------------------------------------------------------

    def remove(self, seq: int, subject: Subject, size: int, reason: str = "limit", *, purged: bool = False) -> None:
        """One message goes. Consumers forget it; who had it delivered is told, except by a purge."""
        changes = self._changes or self.changes()
        if self.watchers:
            weight = self.contents.head.get(seq)
            for watcher in self.watchers:
                watcher.on_removed(seq, subject.name, size, weight.time if weight is not None else 0, reason)
        self.contents.remove(seq, subject, size)
        changes.removed.append(seq)
        changes.subjects[subject.id] = subject
        self.shelf.messages.pop(seq, None)
        if self.aging.expiry:
            self.aging.expiry.discard(seq)
        if self.config.allow_msg_schedules:
            self.schedules.removed(seq)
        if subject.count and not subject.last_seq:
            self.recall.last_of(subject)
        for consumer in self.interested(subject.name) if self.consumers else ():
            if (entry := consumer.on_removed(seq, advise=not purged)) is not None:
                changes.dropped.append((consumer, seq, entry))
        if self.contents.wants_head:
            self.recall.refill_head()

    def lose(self, seq: int, name: bytes, headers: int, payload: int) -> bool:
        """The store found a message damaged: it goes. False where its subject is not known, so nobody counted it."""
        subject = self.contents.subjects.get(name)
        if subject is None or self.deleted or self.contents.is_gone(seq):
            return False
        self.around.journal.catalog(SetAside(self.id, seq))
        self.remove(seq, subject, self.size_of(len(name), headers, payload))
        self.around.advise(
            f"ADVISORY.STREAM.DAMAGED.{self.name}", "advisory.v1.stream_damaged", stream=self.name, seq=seq
        )
        return True

    def clear(self) -> int:
        """Everything goes at once; how many messages that were."""
        for watcher in self.watchers:
            watcher.on_cleared()
        changes = self.changes()
        removed = self.contents.messages
        changes.cleared_to = self.contents.last_seq
        for subject in self.contents.clear():
            changes.subjects[subject.id] = subject
        self.shelf.clear(self.contents.last_seq)
        self.aging.expiry.clear()
        self.schedules.clear()
        self.counters.clear()
        for consumer in self.consumers.values():
            consumer.on_cleared()
        return removed

    # the disk ----------------------------------------------------------------------------------------------------

    def close_changes(self, changes: StreamChanges) -> None:
        """The batch leaves for the disk: what comes now belongs to the next."""
        contents = self.contents
        self._changes = None
        changes.state = StreamState(
            contents.first_seq, contents.last_seq, contents.messages, contents.bytes, contents.last_time
        )
        self.tail.close(changes)
        self._report_usage(contents.bytes)
        contents.age_gone()

    @property
    def unreported(self) -> int:
        """Bytes that came since `usage` heard of this stream."""
        return self.contents.bytes - self._reported

    def _report_usage(self, bytes_now: int) -> None:
        self.usage.change(bytes_now - self._reported)
        self._reported = bytes_now

    def on_stored(self, changes: StreamChanges) -> None:
        """A batch is committed."""
        self.committed = changes.state.last_seq
        live = self.contents.not_gone(changes.messages)
        self.around.recent.add(self.shelf, live)
        if self._republisher is not None:
            for stored in changes.messages:
                again = self._republisher.message(stored, changes.previous.get(stored.seq, 0))
                if again is not None:
                    self.around.account.publish(again)
        self.around.account.answer(changes.acks)
        if self.consumers and not self.deleted:
            self._show(live)
        for watcher in self.watchers:
            watcher.on_stored(live, self.committed)
        if self.recall.is_idle:
            self.contents.forget_gone()

    def _show(self, messages: list[Stored]) -> None:
        waiting: dict[Consumer, None] = {}
        for stored in messages:
            for consumer in self.interested(stored.subject):
                consumer.on_stored(stored)
                waiting[consumer] = None
        for consumer in waiting:
            consumer.pump()

    def on_refused(self, changes: StreamChanges, reason: str) -> None:
        """A batch was not kept: say so, and take nothing until `restore`."""
        self.suspended = STORE_DOWN
        self._changes = None
        self._settled_again += changes.settled
        self._dropped_again += changes.dropped
        refusal = faults.fault(faults.STORE_FAILED, reason)
        for reply, _ in changes.acks:
            self.refuse(reply, refusal)

    def hold(self, reason: str) -> None:
        """Refuse messages for this reason, until called with none: the disk is full."""
        self._held = self.suspended = reason
        if not reason:
            self.aging.arm()
            self.schedules.arm()

    def restore(self, contents: Contents, loaded: LoadedContents) -> None:
        """Take on what is on the disk: at start, and after a failed commit."""
        self.contents = contents
        self.committed = contents.last_seq
        self._report_usage(contents.bytes)
        self.shelf.clear(contents.last_seq)
        self.duplicates.forget_above(contents.last_seq)
        self.aging.expiry.clear()
        for seq, kept in loaded.expiries:
            self.aging.expiry.add(seq, kept)
        self.counters.clear()
        self.schedules.restore(loaded.schedules)
        self.origins = dict(loaded.origins)
        self.tail.restore(contents, loaded)
        self.suspended = self._held
        self.recall.restore()
        self._put_back_deliveries()
        for consumer in self.consumers.values():
            consumer.on_restored()
        settled, self._settled_again = self._settled_again, []
        for seq in settled:
            self.retention.settled(seq)
        self.aging.arm()
        self.on_reloaded()

    def _put_back_deliveries(self) -> None:
        """Messages that a refused commit took away are there again; so is who had not acknowledged them."""
        dropped, self._dropped_again = self._dropped_again, []
        for consumer, seq, entry in dropped:
            if not consumer.deleted and not self.contents.is_gone(seq):
                consumer.ledger.put_back(seq, entry)

    # readers -----------------------------------------------------------------------------------------------------

    def interested(self, subject: bytes) -> "tuple[Consumer, ...]":
        """The consumers that want messages of a subject."""
        return self._audience.of(subject) if self.consumers else ()

    def add_consumer(self, consumer: "Consumer") -> None:
        self.consumers[consumer.name] = consumer
        self._audience.add(consumer)

    def remove_consumer(self, consumer: "Consumer") -> None:
        self.consumers.pop(consumer.name, None)
        self._audience.remove(consumer)

    def refile_consumer(self, consumer: "Consumer") -> None:
        """Its filters have changed."""
        self._audience.add(consumer)

    def is_needed(self, seq: int, subject: bytes) -> bool:
        """Interest retention: whether some consumer still has to see a message."""
        return any(consumer.needs(seq) for consumer in self.interested(subject))

    def subject_ids(self, filters: list[bytes]) -> tuple[int, ...] | None:
        """For questions to the store: None asks for all."""
        if not filters:
            return None
        return tuple(sorted(subject.id for subject in self.contents.matching_any(filters)))

    def size_of_stored(self, stored: Stored) -> int:
        return self.size_of(len(stored.subject), len(stored.headers), len(stored.payload))


def error_json(error: ApiError) -> dict[str, object]:
    return {"code": error.code, "err_code": error.err_code, "description": error.description}


def keeps_history(config: StreamConfig) -> bool:
    """Whether the sequences of each subject are remembered: one newest message needs no list."""
    return config.max_msgs_per_subject > 1


def _without_status(headers: bytes) -> bytes:
    """A status after the version is not stored."""
    if headers.startswith(b"NATS/1.0\r\n"):
        return headers
    end = headers.find(b"\r\n")
    return b"NATS/1.0" + headers[end:] if end >= 0 else headers


def _nobody() -> None:
    """Nobody wants to know."""
