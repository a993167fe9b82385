"""One stream: takes messages, refuses duplicates, numbers, applies limits, acknowledges what is stored.

Order of events for one message:

    deliver()         checked, numbered, handed to the journal; the publisher hears nothing yet
    (the disk)        the shell commits the journal's batch
    on_stored()       republished, acknowledged, seen by consumers: only now may the publisher forget it

Counters run ahead of the disk (`contents`), readers see what is committed (`committed`). When a commit fails, the shell
reloads the stream from the disk and the messages on their way are refused with 503/10077.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from leafnode.errors import ApiError
from leafnode.route.message import Message, Subscription
from leafnode.route.subject import matches
from leafnode.stream import faults, intake, reads, schema, times
from leafnode.stream.contents import Contents, Subject, Weight
from leafnode.stream.duplicates import Duplicates
from leafnode.stream.expiry import MARKER_SIGN, NEVER, Expiry
from leafnode.stream.intake import Wishes
from leafnode.stream.journal import StreamChanges, StreamState
from leafnode.stream.loaded import LoadedContents
from leafnode.stream.purge import Purge
from leafnode.stream.recent import Shelf
from leafnode.stream.stored import Stored, file_size, memory_size
from leafnode.stream.stream_config import StreamConfig
from leafnode.stream.surroundings import Surroundings
from leafnode.stream.transform import Transform
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.consumer import Consumer

INTEREST_CACHE_MAX = 4096  # subjects whose interested consumers are remembered per stream
EXPIRE_AT_ONCE = 1024  # messages that one call of the timer removes; the rest follows in the next
STORE_DOWN = "insufficient resources: the store does not take messages"


class Stream:
    """One stream of one account. A sink for its subjects."""

    is_remote = False

    def __init__(
        self, number: int, config: StreamConfig, created: int, around: Surroundings, contents: Contents | None = None
    ) -> None:
        self.id = number
        self.config = config
        self.created = created
        self.around = around
        self.contents = contents or Contents(config.first_seq or 1, with_history=_keeps_history(config))
        self.committed = self.contents.last_seq
        self.shelf = Shelf(self.contents.last_seq)
        self.consumers: dict[str, Consumer] = {}
        self.expiry = Expiry()
        self.duplicates = Duplicates(config.duplicate_window)
        self.origins: dict[str, int] = {}  # by source: the newest sequence of it that is here
        self.on_reloaded: Callable[[], None] = lambda: None
        self.suspended = ""  # why messages are refused, while the store does not take them
        self.armed_ns = 0
        self.deleted = False
        self._subscriptions: list[Subscription] = []
        self._changes: StreamChanges | None = None
        self._interested: dict[bytes, tuple[Consumer, ...]] = {}
        self._settled_again: list[int] = []  # removals to repeat after a failed commit
        self._reading = 0
        self._head_asked = False
        self._history_known = True
        self._usage = around.memory if config.storage == "memory" else around.disk
        self._reported = 0
        self.configure(config)

    # configuration -----------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.config.name

    def configure(self, config: StreamConfig) -> None:
        """Take on a configuration that `stream_rules` has accepted."""
        self.config = config
        self.duplicates.window_ns = config.duplicate_window
        self._size_of = memory_size if config.storage == "memory" else file_size
        domain = f',"domain":{schema.encode(self.around.domain).decode()}' if self.around.domain else ""
        self._ack_head = f'{{"stream":"{config.name}"{domain},"seq":'.encode()
        move = config.subject_transform
        self._transform = Transform(move.get("src", ""), move.get("dest", "")) if move else None
        again = config.republish
        self._republish = Transform(again.get("src", ""), again.get("dest", "")) if again else None
        self._evicts = config.max_msgs > 0 or config.max_bytes > 0 or config.max_msgs_per_subject > 0
        self._simple = not (
            config.sealed
            or config.discard == "new"
            or config.max_msg_size > 0
            or self._transform
            or config.mirror
            or config.retention == "interest"
        )

    def reconfigure(self, config: StreamConfig) -> None:
        """Take on a changed configuration; lower limits take effect at once."""
        had_history = self.contents.with_history
        self.configure(config)
        if _keeps_history(config) and not had_history:
            self.contents.with_history = True
            for subject in self.contents.subjects.values():
                subject.history = []
            self._history_known = False
            self.around.journal.after(lambda _failure: self._learn_history(0))
        self._enforce(None)
        if config.max_msgs_per_subject > 0 and self._history_known:
            for subject in list(self.contents.subjects.values()):
                self._enforce(subject)
        self.armed_ns = 0
        self.arm()

    def subscribe(self) -> None:
        """Capture the configured subjects."""
        for subject in self.config.subjects:
            sub = Subscription(subject.encode(), self)
            self._subscriptions.append(sub)
            self.around.account.subscribe(sub)

    def forget(self) -> None:
        """It is deleted."""
        self.deleted = True
        self._report_usage(0)
        self.around.timers.disarm(self)
        self.unsubscribe()

    def unsubscribe(self) -> None:
        for sub in self._subscriptions:
            self.around.account.unsubscribe(sub)
        self._subscriptions.clear()

    # publish -----------------------------------------------------------------------------------------------------

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        """Take one publish; the PubAck follows the commit."""
        subject, reply, headers, payload = message
        if to:
            subject = to
        if headers or self.suspended or self._usage.is_over or not self._simple:
            self._deliver_checked(subject, reply, headers, payload)
        else:
            self._keep(subject, reply, headers, payload, self.around.now_ns())
        return True

    def _deliver_checked(self, subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
        try:
            self._take(subject, reply, headers, payload)
        except ApiError as error:
            self._refuse(reply, error)

    def _refuse(self, reply: bytes, error: ApiError) -> None:
        if reply and not self.config.no_ack:
            body: dict[str, object] = {"error": error_json(error), "stream": self.name}
            if self.around.domain:
                body["domain"] = self.around.domain
            body["seq"] = 0
            self.around.account.publish(Message(reply, payload=schema.encode(body)))

    def _take(self, subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
        """The complete way, in nats-server's order of checks.

        Raises:
            ApiError: refused.
        """
        config = self.config
        if config.mirror:
            return
        if self.suspended:
            raise faults.fault(faults.STORE_FAILED, self.suspended)
        if config.sealed:
            raise faults.fault(faults.SEALED)
        if self._usage.is_over:
            raise faults.fault(faults.RESOURCES_EXCEEDED)
        now = self.around.now_ns()
        if headers:
            headers = _without_status(headers)
        wishes = intake.read(headers) if headers else None
        if self._transform is not None:
            subject = self._transform.apply(subject) or subject
        self._check_size(headers, payload)
        ttl = 0
        if wishes is not None:
            ttl = self._check_expectations(wishes, subject)
            if wishes.msg_id and self._is_duplicate(wishes.msg_id, reply, now):
                return
            self._check_last_id(wishes)
            self._check_rollup(wishes.rollup)
        self._check_limits(subject, len(headers), len(payload))
        if config.retention == "interest" and not self.interested(subject):
            self._skip(reply, wishes, now)
            return
        self._keep(subject, reply, headers, payload, now, wishes, ttl)

    def _check_expectations(self, wishes: Wishes, subject: bytes) -> int:
        contents = self.contents
        if wishes.refused in (faults.COUNTER_DISABLED, faults.BATCH_DISABLED):
            raise faults.fault(wishes.refused)
        if wishes.expected_stream and wishes.expected_stream != self.name.encode():
            raise faults.fault(faults.EXPECTED_STREAM)
        ttl = self._check_ttl(wishes.ttl) if wishes.ttl else 0
        if wishes.expected_subject and wishes.expected_subject_last is None:
            raise faults.fault(faults.MISSING_SUBJECT_SEQUENCE)
        if wishes.expected_subject_last is not None:
            last = self._last_on(wishes.expected_subject or subject)
            if last != wishes.expected_subject_last:
                raise faults.fault(faults.WRONG_LAST_SEQUENCE, last)
        if wishes.expected_last is not None and wishes.expected_last != contents.last_seq:
            raise faults.fault(faults.WRONG_LAST_SEQUENCE, contents.last_seq)
        if wishes.refused:
            raise faults.fault(wishes.refused)
        return ttl

    def _last_on(self, subject: bytes) -> int:
        return max((entry.last_seq for entry in self.contents.matching(subject)), default=0)

    def _check_ttl(self, value: bytes) -> int:
        if not self.config.allow_msg_ttl:
            raise faults.fault(faults.TTL_DISABLED)
        ttl = intake.ttl_ns(value)
        marker = self.config.subject_delete_marker_ttl
        if 0 < ttl < marker and self.config.max_msgs_per_subject != 1:
            return marker
        return ttl

    def _is_duplicate(self, msg_id: bytes, reply: bytes, now: int) -> bool:
        """Acknowledge a copy again; with the first one's commit, if that is still on its way."""
        if not self.config.duplicate_window:
            return False
        seq = self.duplicates.find(msg_id, now)
        if seq is None:
            return False
        if reply and not self.config.no_ack:
            ack = b'%b%d,"duplicate": true}' % (self._ack_head, seq)
            if seq <= self.committed or self.around.journal.is_idle:
                self.around.account.publish(Message(reply, payload=ack))
            else:
                self.changes().acks.append((reply, ack))
        return True

    def _check_last_id(self, wishes: Wishes) -> None:
        if wishes.expected_id is not None and wishes.expected_id != self.duplicates.last_id:
            raise faults.fault(faults.WRONG_LAST_ID, self.duplicates.last_id.decode(errors="replace"))

    def _check_rollup(self, rollup: bytes) -> None:
        if not rollup:
            return
        if not self.config.allow_rollup_hdrs or self.config.deny_purge:
            raise faults.fault(faults.ROLLUP, "rollup not permitted")
        if rollup not in (b"sub", b"all"):
            raise faults.fault(faults.ROLLUP, f'rollup value invalid: "{rollup.decode(errors="replace")}"')

    def _check_size(self, headers: bytes, payload: bytes) -> None:
        if 0 <= self.config.max_msg_size < len(headers) + len(payload):
            raise faults.fault(faults.MESSAGE_TOO_BIG)
        if len(headers) > intake.HEADERS_MAX:
            raise faults.fault(faults.HEADERS_TOO_BIG)

    def _check_limits(self, subject: bytes, headers: int, payload: int) -> None:
        config, contents = self.config, self.contents
        if config.discard != "new":
            return
        entry = contents.subjects.get(subject)
        at_limit = entry is not None and 0 < config.max_msgs_per_subject <= entry.count
        if at_limit and config.discard_new_per_subject:
            raise faults.fault(faults.STORE_FAILED, "maximum messages per subject exceeded")
        if 0 < config.max_msgs <= contents.messages and not at_limit:
            raise faults.fault(faults.STORE_FAILED, "maximum messages exceeded")
        size = self._size_of(len(subject), headers, payload)
        freed = entry.last_size if entry is not None and at_limit and config.max_msgs_per_subject == 1 else 0
        if 0 < config.max_bytes < contents.bytes + size - freed:
            raise faults.fault(faults.STORE_FAILED, "maximum bytes exceeded")

    def _skip(self, reply: bytes, wishes: Wishes | None, now: int) -> None:
        """Interest retention and nobody interested: acknowledged with a number, not stored."""
        seq = self.contents.last_seq + 1
        self.contents.skip(seq)
        self._remember(wishes, seq, now)
        changes = self.changes()
        if reply and not self.config.no_ack:
            changes.acks.append((reply, b"%b%d}" % (self._ack_head, seq)))

    def _keep(
        self,
        subject: bytes,
        reply: bytes,
        headers: bytes,
        payload: bytes,
        now: int,
        wishes: Wishes | None = None,
        ttl: int = 0,
    ) -> int:
        """Number a message and hand it to the journal."""
        contents = self.contents
        seq = contents.last_seq + 1
        changes = self._changes or self.changes()
        entry = contents.subjects.get(subject) or contents.subject(subject)
        size = self._size_of(len(subject), len(headers), len(payload))
        if wishes is not None:
            self._remember(wishes, seq, now)
        else:
            self.duplicates.last_id = b""
        replaced, replaced_size = entry.last_seq, entry.last_size
        contents.add(seq, entry, size, now)
        changes.rows += (seq, entry.id, now, len(headers), headers + payload if headers else payload)
        changes.messages.append(Stored(seq, subject, now, headers, payload))
        changes.subjects[entry.id] = entry
        if reply and not self.config.no_ack:
            changes.acks.append((reply, b"%b%d}" % (self._ack_head, seq)))
        self.around.journal.weigh(size)
        if self._republish is not None:
            changes.previous[seq] = replaced
        if ttl:
            self._keep_expiry(seq, NEVER if ttl == intake.NEVER else now + ttl)
        if wishes is not None and wishes.rollup:
            self._roll_up(wishes.rollup, entry, seq, replaced, replaced_size)
        if self._evicts:
            if entry.count == 2 and replaced and self.config.max_msgs_per_subject == 1:
                self.remove(replaced, entry, replaced_size)
            self._enforce(entry)
        max_age = self.config.max_age
        if max_age and not (self.armed_ns and self.armed_ns <= now + max_age):
            self.around.timers.arm(self, now + max_age)
        return seq

    def keep_as(self, stored: Stored, *, skipped_to: int = 0) -> None:
        """A mirror's way: sequence and time are the origin's; `skipped_to` sequences before it do not exist."""
        contents = self.contents
        if skipped_to > contents.last_seq:
            contents.skip(skipped_to)
        if stored.seq > contents.last_seq + 1:
            contents.skip(stored.seq - 1)
        self._keep(
            stored.subject, b"", stored.headers, stored.payload, stored.time, None, self._own_ttl(stored.headers)
        )

    def _own_ttl(self, headers: bytes) -> int:
        """A mirror obeys the TTL of what it copies if it allows TTLs."""
        value = header_block.get(headers, b"Nats-TTL") if headers and self.config.allow_msg_ttl else None
        try:
            return intake.ttl_ns(value) if value else 0
        except ApiError:
            return 0

    def keep_from_source(self, subject: bytes, headers: bytes, payload: bytes) -> None:
        """A source's way: numbered here, stamped here, limits apply.

        Raises:
            ApiError: a limit with discard new refuses it.
        """
        if self.suspended:
            raise faults.fault(faults.STORE_FAILED, self.suspended)
        if self._usage.is_over:
            raise faults.fault(faults.RESOURCES_EXCEEDED)
        now = self.around.now_ns()
        wishes = intake.read(headers)
        if wishes is not None and wishes.msg_id and self._is_duplicate(wishes.msg_id, b"", now):
            return
        self._check_limits(subject, len(headers), len(payload))
        if self.config.retention == "interest" and not self.interested(subject):
            self._skip(b"", wishes, now)
            return
        ttl = self._own_ttl(headers)
        if wishes is not None and not self.config.allow_rollup_hdrs:
            wishes.rollup = b""
        self._keep(subject, b"", headers, payload, now, wishes, ttl)

    def keep_origin(self, key: str, seq: int) -> None:
        """Everything of a source up to `seq` is here; kept in the same commit as the messages."""
        self.origins[key] = seq
        self.changes().origins[key] = seq

    def _remember(self, wishes: Wishes | None, seq: int, now: int) -> None:
        self.duplicates.last_id = wishes.msg_id if wishes is not None else b""
        if wishes is not None and wishes.msg_id and self.config.duplicate_window:
            self.duplicates.add(wishes.msg_id, seq, now)

    def changes(self) -> StreamChanges:
        """This stream's part of the batch being collected."""
        if self._changes is None:
            self._changes = self.around.journal.stream_changes(self)
        return self._changes

    # removal -----------------------------------------------------------------------------------------------------

    def remove(self, seq: int, subject: Subject, size: int) -> None:
        """One message goes. Consumers forget it."""
        changes = self._changes or self.changes()
        self.contents.remove(seq, subject, size)
        changes.removed.append(seq)
        changes.subjects[subject.id] = subject
        self.shelf.messages.pop(seq, None)
        if self.expiry:
            self.expiry.discard(seq)
        if subject.count and not subject.last_seq:
            self._look_up_last(subject)
        for consumer in self._interested.get(subject.name) or self.interested(subject.name):
            consumer.on_removed(seq)
        if self.contents.wants_head:
            self._refill_head()

    def remove_settled(self, seq: int, weight: Weight | None) -> None:
        """Consumers are done with a message of a work queue or an interest stream."""
        if self.contents.is_gone(seq) or seq > self.contents.last_seq:
            return
        weight = weight or self.weight(seq)
        if weight is None:
            self.with_weights([seq], lambda found: self._settle_found(seq, found))
            return
        self.changes().settled.append(seq)
        self.remove(seq, weight.subject, weight.size)

    def remove_unneeded(self, filters: list[bytes]) -> None:
        """Interest retention: a consumer left; what nobody else wants goes."""
        self.around.journal.after(lambda _failure: self._look_for_unneeded(filters, 0))

    def _look_for_unneeded(self, filters: list[bytes], after: int) -> None:
        ids = self.subject_ids(filters)
        if ids == () or not self.contents.messages:
            return

        def found(answer: reads.Metas) -> None:
            self._reading -= 1
            for meta in answer.metas:
                weight = self.weigh_meta(meta)
                if weight is not None and not self.is_needed(meta.seq, meta.subject):
                    self.remove_settled(meta.seq, weight)
            if answer.scanned_to < self.committed and not self.deleted:
                self._look_for_unneeded(filters, answer.scanned_to)

        self._reading += 1
        self.around.reads.ask(reads.Weights(self.id, after, self.committed, ids, found))

    def _settle_found(self, seq: int, found: dict[int, Weight]) -> None:
        if seq in found and not self.contents.is_gone(seq):
            self.remove_settled(seq, found[seq])

    def weight(self, seq: int) -> Weight | None:
        """What a message weighs, if that is known here."""
        known = self.contents.weight(seq)
        if known is not None:
            return known
        stored = self.shelf.messages.get(seq)
        return self._weigh(stored) if stored is not None else None

    def _weigh(self, stored: Stored) -> Weight | None:
        subject = self.contents.subjects.get(stored.subject)
        if subject is None:
            return None
        return Weight(subject, self.size_of(stored), stored.time)

    def size_of(self, stored: Stored) -> int:
        return self._size_of(len(stored.subject), len(stored.headers), len(stored.payload))

    def with_weights(self, sequences: list[int], then: Callable[[dict[int, Weight]], None]) -> None:
        """Call with the weights of the sequences that exist on disk."""

        def found(answer: reads.Metas) -> None:
            self._reading -= 1
            weights = {meta.seq: weight for meta in answer.metas if (weight := self.weigh_meta(meta)) is not None}
            then(weights)

        self._reading += 1
        self.around.reads.ask(reads.WeightsOf(self.id, sequences, found))

    def weigh_meta(self, meta: reads.Meta) -> Weight | None:
        subject = self.contents.subjects.get(meta.subject)
        if subject is None or self.contents.is_gone(meta.seq):
            return None
        return Weight(subject, self._size_of(len(meta.subject), meta.headers, meta.payload), meta.time)

    def _enforce(self, entry: Subject | None) -> None:
        """Take away what is over the limits, oldest first."""
        config, contents = self.config, self.contents
        if entry is not None and 0 < config.max_msgs_per_subject < entry.count:
            self._enforce_subject(entry)
        if 0 < config.max_msgs < contents.messages:
            self._drop_oldest(lambda: contents.messages > config.max_msgs)
        if 0 < config.max_bytes < contents.bytes:
            self._drop_oldest(lambda: contents.bytes > config.max_bytes)

    def _enforce_subject(self, entry: Subject) -> None:
        limit = self.config.max_msgs_per_subject
        if entry.history is None or not self._history_known:
            Purge(self, [entry.name], below=self.contents.last_seq + 1, keep=limit).start()
            return
        while entry.history and entry.count > limit:
            self.remove(entry.history[0][0], entry, entry.history[0][1])

    def _drop_oldest(self, over: Callable[[], bool]) -> None:
        head = self.contents.head
        while head and over():
            seq, weight = next(iter(head.items()))
            self.remove(seq, weight.subject, weight.size)
        if self.contents.wants_head:
            self._refill_head()

    def _roll_up(self, rollup: bytes, entry: Subject, seq: int, replaced: int, replaced_size: int) -> None:
        """Everything before `seq` of the subject, or of all, goes."""
        if rollup == b"all":
            Purge(self, None, below=seq).start()
        elif entry.count == 2 and replaced:
            self.remove(replaced, entry, replaced_size)
        elif entry.history and self._history_known:
            while entry.history[0][0] < seq:
                self.remove(entry.history[0][0], entry, entry.history[0][1])
        elif entry.count > 1:
            Purge(self, [entry.name], below=seq).start()

    def clear(self) -> int:
        """Everything goes at once; how many messages that were."""
        changes = self.changes()
        removed = self.contents.messages
        changes.cleared_to = self.contents.last_seq
        for subject in self.contents.clear():
            changes.subjects[subject.id] = subject
        self.shelf.clear(self.contents.last_seq)
        self.expiry.clear()
        for consumer in self.consumers.values():
            consumer.on_cleared()
        return removed

    def _look_up_last(self, subject: Subject) -> None:
        """The newest message of a subject went and an older one took its place: find out which."""
        if self.config.retention != "limits":
            return  # work queues come here often and nobody asks

        def found(meta: reads.Meta | None) -> None:
            self._reading -= 1
            if meta is None or subject.last_seq or self.contents.subjects.get(subject.name) is not subject:
                return
            if self.contents.is_gone(meta.seq):
                self._look_up_last(subject)
                return
            subject.last_seq = meta.seq
            subject.last_size = self._size_of(len(subject.name), meta.headers, meta.payload)
            self.changes().subjects[subject.id] = subject

        self._reading += 1
        self.around.reads.ask(reads.LastOf(self.id, subject.id, self.committed, found))

    # age ---------------------------------------------------------------------------------------------------------

    def _keep_expiry(self, seq: int, kept: int) -> None:
        self.expiry.add(seq, kept)
        self.changes().expiries.append((seq, kept))
        if kept != NEVER:
            self.around.timers.arm(self, abs(kept))

    def arm(self) -> None:
        """Ask to be called when the next message is due to go."""
        when = self.expiry.next_ns()
        if when is not None:
            self.around.timers.arm(self, when)
        if self.config.max_age:
            for seq, weight in self.contents.head.items():
                if not self.expiry.is_exempt(seq):
                    self.around.timers.arm(self, weight.time + self.config.max_age)
                    break

    def on_time(self, now_ns: int) -> None:
        """Messages whose time has come go, at most EXPIRE_AT_ONCE."""
        if self.deleted or self.suspended:
            return
        due = [(seq, weight) for seq in self.expiry.due(now_ns) if (weight := self._weight_or_ask(seq)) is not None]
        if self.config.max_age:
            horizon = now_ns - self.config.max_age
            for seq, weight in self.contents.head.items():
                if len(due) >= EXPIRE_AT_ONCE or (weight.time > horizon and not self.expiry.is_exempt(seq)):
                    break
                if not self.expiry.is_exempt(seq):
                    due.append((seq, weight))
        for seq, weight in due:
            if not self.contents.is_gone(seq):
                self._expire(seq, weight, now_ns)
        self.arm()

    def _weight_or_ask(self, seq: int) -> Weight | None:
        weight = self.weight(seq)
        if weight is None and not self.contents.is_gone(seq):
            self.with_weights([seq], lambda found: self._expire_found(seq, found))
        return weight

    def _expire_found(self, seq: int, found: dict[int, Weight]) -> None:
        if seq in found and not self.contents.is_gone(seq):
            self._expire(seq, found[seq], self.around.now_ns())

    def _expire(self, seq: int, weight: Weight, now: int) -> None:
        marker_ttl = self.config.subject_delete_marker_ttl
        leaves_marker = marker_ttl and weight.subject.count == 1 and not self.expiry.is_marker(seq)
        self.remove(seq, weight.subject, weight.size)
        if leaves_marker:
            headers = b"NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-TTL: %ds\r\nNats-Rollup: sub\r\n\r\n" % (
                marker_ttl // times.SECOND
            )
            kept = self._keep(weight.subject.name, b"", headers, b"", now)
            self._keep_expiry(kept, MARKER_SIGN * (now + marker_ttl))

    # the disk ----------------------------------------------------------------------------------------------------

    def close_changes(self, changes: StreamChanges) -> None:
        """The batch leaves for the disk: what comes now belongs to the next."""
        contents = self.contents
        self._changes = None
        changes.state = StreamState(
            contents.first_seq, contents.last_seq, contents.messages, contents.bytes, contents.last_time
        )
        self._report_usage(contents.bytes)
        changes.subject_rows = [
            (subject.id, subject.name, subject.last_seq, subject.last_size, subject.count)
            for subject in changes.subjects.values()
        ]
        contents.age_gone()

    def _report_usage(self, bytes_now: int) -> None:
        self._usage.change(bytes_now - self._reported)
        self._reported = bytes_now

    def on_stored(self, changes: StreamChanges) -> None:
        """A batch is committed."""
        self.committed = changes.state.last_seq
        live = [stored for stored in changes.messages if not self.contents.is_gone(stored.seq)]
        for stored in live:
            self.around.recent.add(self.shelf, stored)
        if self._republish is not None:
            self._publish_again(changes)
        publish = self.around.account.publish
        for reply, ack in changes.acks:
            publish(Message(reply, b"", b"", ack))
        if self.consumers and not self.deleted:
            self._show(live)
        if not self._reading:
            self.contents.forget_gone()

    def _show(self, messages: list[Stored]) -> None:
        waiting: dict[Consumer, None] = {}
        for stored in messages:
            for consumer in self.interested(stored.subject):
                consumer.on_stored(stored)
                waiting[consumer] = None
        for consumer in waiting:
            consumer.pump()

    def _publish_again(self, changes: StreamChanges) -> None:
        """Republish (ADR-28), before the PubAck."""
        assert self._republish is not None
        bare = bool((self.config.republish or {}).get("headers_only"))
        for stored in changes.messages:
            to = self._republish.apply(stored.subject)
            if to is None:
                continue
            lines = [
                (b"Nats-Stream", self.name.encode()),
                (b"Nats-Subject", stored.subject),
                (b"Nats-Sequence", b"%d" % stored.seq),
                (b"Nats-Time-Stamp", times.to_text(stored.time).encode()),
                (b"Nats-Last-Sequence", b"%d" % changes.previous.get(stored.seq, 0)),
            ]
            if bare:
                lines.append((b"Nats-Msg-Size", b"%d" % len(stored.payload)))
            headers = header_block.with_lines(stored.headers, *lines)
            self.around.account.publish(Message(to, b"", headers, b"" if bare else stored.payload))

    def on_refused(self, changes: StreamChanges, reason: str) -> None:
        """A batch was not kept: say so, and take nothing until `restore`."""
        self.suspended = STORE_DOWN
        self._changes = None
        self._settled_again += changes.settled
        refusal = faults.fault(faults.STORE_FAILED, reason)
        for reply, _ in changes.acks:
            self._refuse(reply, refusal)

    def restore(self, contents: Contents, loaded: LoadedContents) -> None:
        """Take on what is on the disk: at start, and after a failed commit."""
        self.contents = contents
        self.committed = contents.last_seq
        self._report_usage(contents.bytes)
        self.shelf.clear(contents.last_seq)
        self.duplicates.forget_above(contents.last_seq)
        self.expiry.clear()
        for seq, kept in loaded.expiries:
            self.expiry.add(seq, kept)
        self.origins = dict(loaded.origins)
        self.suspended = ""
        self._head_asked = False
        self._history_known = not contents.with_history or not contents.messages
        self._refill_head()
        if not self._history_known:
            self._learn_history(0)
        for consumer in self.consumers.values():
            consumer.on_restored()
        settled, self._settled_again = self._settled_again, []
        for seq in settled:
            self.remove_settled(seq, None)
        self.on_reloaded()

    def learn_duplicates(self) -> None:
        """Read back the ids of the window: once, at start."""
        if self.config.duplicate_window and self.contents.messages:
            since = self.around.now_ns() - self.config.duplicate_window
            self.around.reads.ask(reads.FirstAt(self.id, since, self._learn_ids_from))

    def _learn_ids_from(self, seq: int) -> None:
        if seq:
            self.around.reads.ask(reads.Messages(self.id, seq - 1, self.committed, None, self._learn_ids))

    def _learn_ids(self, rows: reads.Rows) -> None:
        for stored in rows.messages:
            wishes = intake.read(stored.headers)
            self.duplicates.last_id = wishes.msg_id if wishes is not None else b""
            if wishes is not None and wishes.msg_id:
                self.duplicates.add(wishes.msg_id, stored.seq, stored.time)
        if rows.scanned_to < self.committed:
            self._learn_ids_from(rows.scanned_to + 1)

    def _refill_head(self) -> None:
        contents = self.contents
        if self._head_asked or not contents.wants_head or contents.head_to >= self.committed:
            return
        self._head_asked = True
        self._reading += 1
        self.around.reads.ask(reads.Weights(self.id, contents.head_to, self.committed, None, self._head_found))

    def _head_found(self, answer: reads.Metas) -> None:
        self._reading -= 1
        if not self._head_asked:
            return  # restored since: another answer is coming
        self._head_asked = False
        size = self._size_of
        rows = [
            (meta.seq, meta.subject, size(len(meta.subject), meta.headers, meta.payload), meta.time)
            for meta in answer.metas
        ]
        self.contents.extend_head(rows, answer.scanned_to)
        self._enforce(None)
        self.arm()
        self._refill_head()

    def _learn_history(self, after: int) -> None:
        self._reading += 1
        self.around.reads.ask(reads.Weights(self.id, after, self.committed, None, self._history_found))

    def _history_found(self, answer: reads.Metas) -> None:
        self._reading -= 1
        for meta in answer.metas:
            subject = self.contents.subjects.get(meta.subject)
            if subject is not None and subject.history is not None and not self.contents.is_gone(meta.seq):
                size = self._size_of(len(meta.subject), meta.headers, meta.payload)
                subject.history.append((meta.seq, size))
        if answer.scanned_to < self.committed:
            self._learn_history(answer.scanned_to)
            return
        self._history_known = True
        for subject in list(self.contents.subjects.values()):
            if subject.history:
                subject.history.sort()
            self._enforce(subject)

    # readers -----------------------------------------------------------------------------------------------------

    def interested(self, subject: bytes) -> "tuple[Consumer, ...]":
        """The consumers that want messages of a subject."""
        if not self.consumers:
            return ()
        found = self._interested.get(subject)
        if found is None:
            if len(self._interested) >= INTEREST_CACHE_MAX:
                self._interested.clear()
            found = tuple(consumer for consumer in self.consumers.values() if consumer.wants(subject))
            self._interested[subject] = found
        return found

    def add_consumer(self, consumer: "Consumer") -> None:
        self.consumers[consumer.name] = consumer
        self._interested.clear()

    def remove_consumer(self, consumer: "Consumer") -> None:
        self.consumers.pop(consumer.name, None)
        self._interested.clear()

    def forget_interest(self) -> None:
        """A consumer's filter changed."""
        self._interested.clear()

    def is_needed(self, seq: int, subject: bytes) -> bool:
        """Interest retention: whether some consumer still has to see a message."""
        return any(consumer.needs(seq) for consumer in self.interested(subject))

    def subject_ids(self, filters: list[bytes]) -> tuple[int, ...] | None:
        """For questions to the store: None asks for all."""
        if not filters:
            return None
        return tuple(sorted(subject.id for subject in self.contents.matching_any(filters)))

    def read_sequence(self, seq: int, then: Callable[[Stored | None], None]) -> None:
        """Call with one committed message, at once if it is recent."""
        if seq > self.committed or self.contents.is_gone(seq):
            then(None)
            return
        recent = self.shelf.messages.get(seq)
        if recent is not None or seq > self.shelf.floor:
            then(recent)
            return

        def found(rows: reads.Rows) -> None:
            self._reading -= 1
            stored = rows.messages[0] if rows.messages else None
            then(stored if stored is not None and not self.contents.is_gone(stored.seq) else None)

        self._reading += 1
        self.around.reads.ask(reads.BySequence(self.id, [seq], found))

    def read_started(self) -> None:
        """Somebody asks the store for this stream's messages: keep marks of what is removed meanwhile."""
        self._reading += 1

    def read_finished(self) -> None:
        self._reading -= 1


def error_json(error: ApiError) -> dict[str, object]:
    return {"code": error.code, "err_code": error.err_code, "description": error.description}


def _keeps_history(config: StreamConfig) -> bool:
    return config.max_msgs_per_subject > 1


def _without_status(headers: bytes) -> bytes:
    """A status after the version is not stored."""
    if headers.startswith(b"NATS/1.0\r\n"):
        return headers
    end = headers.find(b"\r\n")
    return b"NATS/1.0" + headers[end:] if end >= 0 else headers


def covers(patterns: Iterable[bytes], subject: bytes) -> bool:
    return any(matches(pattern, subject) for pattern in patterns)
