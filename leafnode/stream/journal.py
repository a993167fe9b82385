"""Everything on its way to the disk: keep, take, confirm, or fail.

    stream and consumers     changes are collected in objects of one batch (a stream's rows, a consumer's last state)
    take()                   the batch so far, with a snapshot of counters; later changes go into the next one
    (the store)              one transaction
    confirm(batch)           acknowledgements leave, consumers see the messages
    fail(batch)              nothing of it was kept; streams are told and the shell reloads them

The journal is bounded: while `full`, the shell stops reading publishers' sockets. `on_room` says when to go on.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from leafnode.stream.consumer import Consumer
    from leafnode.stream.contents import Subject
    from leafnode.stream.pending import Pending
    from leafnode.stream.stored import Stored
    from leafnode.stream.stream import Stream

FULL_MESSAGES = 8192  # not yet committed; also the most that one commit and its acknowledgements hold up the loop
FULL_BYTES = 8 << 20  # payload and headers not yet committed; bounds memory on a slow card, and one commit


class StreamState(NamedTuple):
    """A stream's counters, as the store keeps them."""

    first_seq: int
    last_seq: int
    messages: int
    bytes: int
    last_time: int


class StreamChanges:
    """What one commit does to one stream."""

    __slots__ = (
        "acks",
        "cleared_to",
        "dropped",
        "erases",
        "expiries",
        "messages",
        "origins",
        "previous",
        "removed",
        "rows",
        "schedules",
        "settled",
        "settles",
        "state",
        "stream",
        "subject_rows",
        "subjects",
    )

    def __init__(self, stream: "Stream") -> None:
        self.stream = stream
        self.rows: list[
            int | bytes
        ] = []  # flat: sequence, subject, time, length of headers, headers + payload, checksum
        self.messages: list[Stored] = []
        self.acks: list[tuple[bytes, bytes]] = []  # reply subject, PubAck
        self.removed: list[int] = []
        self.settled: list[int] = []  # those of `removed` that consumers were done with
        self.dropped: list[
            tuple[Consumer, int, Pending]
        ] = []  # deliveries of `removed` that waited for acknowledgement
        self.erases = False  # what is removed must not stay in the files
        self.cleared_to = 0  # everything up to here goes
        self.subjects: dict[int, Subject] = {}
        self.subject_rows: list[tuple[int, bytes, int, int, int]] = []  # id, name, last sequence, its size, count
        self.expiries: list[tuple[int, int]] = []  # sequence, when (0: never; negative: a marker)
        self.schedules: dict[bytes, tuple[int, int] | None] = {}  # by subject: sequence, when; None: it is gone
        self.origins: dict[str, int] = {}
        self.previous: dict[int, int] = {}  # for republishing: by sequence, the one before it on its subject
        self.state = StreamState(0, 0, 0, 0, 0)
        self.settles = True  # `state` is written; else the store counts the messages after what it has


class ConsumerState(NamedTuple):
    """A consumer's position, as the store keeps it."""

    delivered_seq: int  # consumer sequence of the last delivery
    delivered_stream_seq: int
    floor_seq: int
    floor_stream_seq: int


class ConsumerChanges:
    """What one commit does to one consumer: its last position and the deliveries that changed."""

    __slots__ = ("consumer", "dropped", "pending", "rewrite", "rows", "state")

    def __init__(self, consumer: "Consumer") -> None:
        self.consumer = consumer
        self.pending: dict[int, Pending | None] = {}  # by stream sequence; None: acknowledged
        self.rows: list[tuple[int, int, int, int]] = []  # stream sequence, last and first consumer sequence, deliveries
        self.dropped: list[int] = []
        self.rewrite = False  # the store's copy may be anything: write it all
        self.state = ConsumerState(0, 0, 0, 0)


class CreateStream(NamedTuple):
    stream_id: int
    account: str
    config: bytes
    created: int
    in_memory: bool


class UpdateStream(NamedTuple):
    stream_id: int
    config: bytes


class DropStream(NamedTuple):
    stream_id: int


class CreateConsumer(NamedTuple):
    consumer_id: int
    stream_id: int
    name: str
    config: bytes
    created: int


class UpdateConsumer(NamedTuple):
    consumer_id: int
    config: bytes


class DropConsumer(NamedTuple):
    consumer_id: int


class SetAside(NamedTuple):
    """A damaged message's row is put where nobody reads it, before the message is removed."""

    stream_id: int
    seq: int


Catalog = SetAside | CreateStream | UpdateStream | DropStream | CreateConsumer | UpdateConsumer | DropConsumer


class Batch:
    """One commit."""

    __slots__ = ("after", "bytes", "catalog", "consumers", "messages", "notes", "streams")

    def __init__(self) -> None:
        self.catalog: list[Catalog] = []
        self.streams: dict[int, StreamChanges] = {}
        self.consumers: dict[int, ConsumerChanges] = {}
        self.notes: dict[tuple[str, str], bytes | None] = {}  # by owner and key; None: the note goes
        self.after: list[Callable[[str], None]] = []  # called with "" or why the commit failed
        self.messages = 0
        self.bytes = 0

    @property
    def is_empty(self) -> bool:
        return not (self.catalog or self.streams or self.consumers or self.notes or self.after)


class Journal:
    """One for the broker, since one transaction serves all accounts."""

    def __init__(self, *, full_messages: int = FULL_MESSAGES, full_bytes: int = FULL_BYTES) -> None:
        """`full_messages`, `full_bytes`: what may be on its way to the disk before publishers have to wait."""
        self._full_messages = full_messages
        self._full_bytes = full_bytes
        self._open = Batch()
        self._in_flight: list[Batch] = []
        self._messages = 0
        self._bytes = 0
        self._was_full = False
        self.lost_messages = 0  # acknowledged before their commit, as their stream asks for, and then not kept
        self._woken = False
        self.wake: Callable[[], None] = _nobody
        self.wake_later: Callable[[], None] = _nobody
        self.on_room: Callable[[], None] = _nobody
        self.before_take: list[Callable[[], None]] = []  # last chance to add to a batch
        self.stream_ids = itertools.count(1)
        self.consumer_ids = itertools.count(1)

    # keep --------------------------------------------------------------------------------------------------------

    def stream_changes(self, stream: "Stream") -> StreamChanges:
        """The stream's part of the batch being collected; the stream holds it until `close_changes`."""
        self._want_commit()
        changes = self._open.streams.get(stream.id)
        if changes is None:
            changes = self._open.streams[stream.id] = StreamChanges(stream)
        return changes

    def consumer_changes(self, consumer: "Consumer", *, soon: bool) -> ConsumerChanges:
        """The consumer's part. What is not needed `soon` (a delivery) goes with the next commit or a bit later."""
        if soon:
            self._want_commit()
        elif not self._woken and not self._open.consumers:
            self.wake_later()
        changes = self._open.consumers.get(consumer.id)
        if changes is None:
            changes = self._open.consumers[consumer.id] = ConsumerChanges(consumer)
        return changes

    def catalog(self, change: Catalog) -> None:
        self._want_commit()
        self._open.catalog.append(change)

    def note(self, owner: str, notes: Mapping[str, bytes | None]) -> None:
        """Rows that a part of the broker keeps for itself, in one commit with what else changes now.

        When that commit fails they are gone with it; use `after` to hear of it.
        """
        self._want_commit()
        self._open.notes.update({(owner, key): value for key, value in notes.items()})

    def after(self, call: Callable[[str], None]) -> None:
        """Call once everything kept so far is committed, with "", or with the reason why it was not."""
        if self.is_idle:
            call("")
            return
        self._want_commit()
        self._open.after.append(call)

    def weigh(self, size: int) -> None:
        """A message of `size` bytes was added to the batch."""
        self._open.messages += 1
        self._open.bytes += size
        self._messages += 1
        self._bytes += size

    def hold_back(self, messages: int, size: int) -> None:
        """So many messages wait for something before they can be kept (negative: no longer)."""
        self._messages += messages
        self._bytes += size
        if messages < 0:
            self._room()

    def _want_commit(self) -> None:
        if not self._woken:
            self._woken = True
            self.wake()

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing is on its way."""
        return self._open.is_empty and not self._in_flight

    @property
    def backlog(self) -> tuple[int, int]:
        """Messages not yet on the disk, and their bytes."""
        return self._messages, self._bytes

    @property
    def full(self) -> bool:
        """Publishers' sockets should not be read now."""
        if self._messages >= self._full_messages or self._bytes >= self._full_bytes:
            self._was_full = True
            return True
        return False

    # take, confirm, fail -----------------------------------------------------------------------------------------

    def take(self) -> Batch | None:
        """What is to be committed next, or None."""
        for call in self.before_take:
            call()
        batch = self._open
        if batch.is_empty:
            self._woken = False  # a failed batch may have asked for a commit of nothing: the next change asks again
            return None
        self._open = Batch()
        self._woken = False
        self._in_flight.append(batch)
        for changes in batch.streams.values():
            changes.stream.close_changes(changes)
        for consumer_changes in batch.consumers.values():
            consumer_changes.consumer.ledger.close_changes(consumer_changes)
        return batch

    def confirm(self, batch: Batch) -> None:
        """The batch would survive a power cut."""
        self._leave(batch)
        for changes in batch.streams.values():
            changes.stream.on_stored(changes)
        for call in batch.after:
            call("")
        self._room()

    def fail(self, batch: Batch, reason: str) -> list["Stream"]:
        """Nothing of the batch was kept. Returns the streams that must be reloaded from what is on disk.

        Changes of the catalog and of consumers are tried again with the next commit; messages are refused, together
        with those that came after them.
        """
        self._leave(batch)
        behind, self._open = self._open, Batch()
        self._messages -= behind.messages
        self._bytes -= behind.bytes
        broken: dict[int, Stream] = {}
        for lost in (batch, behind):
            self._open.catalog.extend(lost.catalog)
            for changes in lost.streams.values():
                broken[changes.stream.id] = changes.stream
        for lost in (batch, behind):
            for changes in lost.streams.values():
                if changes.stream.config.persist_mode == "async":
                    self.lost_messages += len(changes.messages)
                changes.stream.on_refused(changes, reason)
            for consumer_changes in lost.consumers.values():
                consumer_changes.consumer.ledger.on_not_kept()
        for call in [*batch.after, *behind.after]:
            call(reason)
        self._room()
        self._want_commit()
        return list(broken.values())

    def _leave(self, batch: Batch) -> None:
        self._in_flight.remove(batch)
        self._messages -= batch.messages
        self._bytes -= batch.bytes

    def _room(self) -> None:
        if self._was_full and not self.full:
            self._was_full = False
            self.on_room()


def _nobody() -> None:
    """Nobody waits yet."""
