"""The new messages of one consumer, in order, and how many there are.

They come from the recent messages or, further back, from the store, a bounded portion at a time and only while somebody
takes them. A feed that has caught up gets each message when it is committed.

`num_pending` is exact: counted once at the start, then kept by every message stored, delivered or removed.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from leafnode.stream import reads
from leafnode.stream.stored import Stored

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream

READY_MAX = 256  # messages read ahead of the reader
READY_BYTES = 1 << 20  # of their payloads and headers


class Feed:
    """Where a consumer is in its stream, and what comes next."""

    def __init__(
        self,
        stream: "Stream",
        position: int,
        *,
        wants: Callable[[bytes], bool],
        filters: Callable[[], list[bytes]],
        pump: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._wants = wants
        self._filters = filters
        self._pump = pump
        self.position = position  # stream sequence of the last new delivery
        self.reach = position  # looked at so far: with another filter, what was passed over is not gone back to
        self.num_pending = 0
        self.is_counting = False
        self.closed = False
        self._recount = False
        self._then: Callable[[], None] | None = None
        self._ready: deque[Stored] = deque()
        self._ready_bytes = 0
        self._dropped: set[int] = set()  # removed while they stood in _ready
        self._scanned = position  # everything wanted up to here was delivered or is ready
        self._caught_up = False
        self._asked = 0  # serial of the question under way; 0: none
        self._serial = 0
        self._selected: OrderedDict[int, None] | None = None  # last_per_subject: these first
        self._selected_to = 0

    # start -------------------------------------------------------------------------------------------------------

    def begin(self, first: int, then: Callable[[], None] | None = None) -> None:
        """Start before sequence `first`; call `then` when num_pending is known."""
        self.position = self.reach = max(0, first - 1)
        self._reset(self.position)
        self.count(then)

    def begin_selected(self, sequences: list[int]) -> None:
        """Deliver these first, then what is new."""
        self._selected = OrderedDict.fromkeys(sorted(sequences))
        self._selected_to = self._scanned = self._stream.committed
        first = next(iter(self._selected), self._selected_to + 1)
        self.position = self.reach = max(0, first - 1)
        self.num_pending = len(sequences)

    def restart(self, then: Callable[[], None]) -> None:
        """Read and count anew from where it is: the stream was reloaded or the filters changed."""
        self._reset(max(self.position, min(self.reach, self._stream.committed)))
        self.count(then)

    def _reset(self, scanned: int) -> None:
        self._ready.clear()
        self._ready_bytes = 0
        self._dropped.clear()
        self._selected = None
        self._asked = 0
        self._scanned = scanned
        self._caught_up = False
        self.is_counting = False

    def count(self, then: Callable[[], None] | None = None) -> None:
        """Find out num_pending: often from counters, else by asking the store."""
        stream, contents = self._stream, self._stream.contents
        filters = self._filters()
        committed = stream.committed
        if self._scanned >= committed or not contents.messages:
            self.num_pending = 0
        elif self._scanned < contents.first_seq and committed == contents.last_seq:
            wanted = contents.matching_any(filters) if filters else None
            self.num_pending = contents.messages if wanted is None else sum(subject.count for subject in wanted)
        else:
            self.is_counting = True
            self._recount = False
            self.num_pending = 0
            self._then = then
            self._serial += 1
            serial = self._count_serial = self._serial
            ids = stream.subject_ids(filters)
            stream.around.reads.ask(
                reads.Count(stream.id, self._scanned, committed, ids, lambda number: self._counted(serial, number))
            )
            return
        if then:
            then()

    _count_serial = 0

    def _counted(self, serial: int, number: int) -> None:
        if serial != self._count_serial or not self.is_counting:
            return  # another count began since
        self.is_counting = False
        then, self._then = self._then, None
        if self._recount:
            self.count(then)
            return
        self.num_pending += number
        if then:
            then()
        self._pump()

    # the stream's events -----------------------------------------------------------------------------------------

    def on_stored(self, stored: Stored, *, taken: bool) -> None:
        """A message that it wants is committed; `taken`: somebody takes messages now."""
        if stored.seq <= self.position:
            return  # it begins further on
        self.num_pending += 1
        if not self._caught_up:
            return
        if taken and len(self._ready) < READY_MAX and self._ready_bytes < READY_BYTES:
            self._scanned = max(self._scanned, stored.seq)
            self._make_ready(stored)
        else:
            self._caught_up = False

    def on_removed(self, seq: int) -> None:
        """A message that it wants is gone from the stream."""
        if seq <= self.reach or seq > self._stream.committed:
            return
        if self._selected is not None and seq <= self._selected_to:
            if seq in self._selected:
                del self._selected[seq]
                self.num_pending -= 1
                self._dropped.add(seq)
        elif self.is_counting:
            self._recount = True
        else:
            self.num_pending -= 1
            if seq <= self._scanned:
                self._dropped.add(seq)

    def on_cleared(self) -> None:
        """Everything is gone from the stream."""
        last = self._stream.contents.last_seq
        then, self._then = self._then, None
        self.position = self.reach = max(self.reach, last)
        self._reset(self.position)
        self.num_pending = 0
        if then:
            then()

    def move_to(self, seq: int) -> None:
        """Nothing that it wants is left up to a sequence, nor up to where it has looked already."""
        self.position = self.reach = max(self.reach, seq)
        self._scanned = max(self._scanned, self.position)

    # the next message --------------------------------------------------------------------------------------------

    def peek(self) -> Stored | None:
        """The next new message; it stays until `advance`. None: there is none, or it is being read."""
        while True:
            while self._ready:
                stored = self._ready[0]
                if stored.seq not in self._dropped:
                    return stored
                self._dropped.discard(stored.seq)
                self._pop()
            if self._asked or not self._fetch():
                return None

    def advance(self) -> None:
        """The message that `peek` showed is delivered."""
        stored = self._pop()
        if self._selected is not None:
            self._selected.pop(stored.seq, None)
        self.position = self.reach = stored.seq
        self.num_pending = max(0, self.num_pending - 1)

    def look_to(self, seq: int) -> None:
        """Somebody wanted more: what is in the stream up to there, of other subjects, has been passed over."""
        self.reach = max(self.reach, seq)

    @property
    def is_live(self) -> bool:
        """Nothing old is left: what comes now is new."""
        return self._caught_up and not self._ready

    @property
    def is_exhausted(self) -> bool:
        return self.num_pending <= 0 and not self.is_counting

    def _pop(self) -> Stored:
        stored = self._ready.popleft()
        self._ready_bytes -= len(stored.payload) + len(stored.headers)
        return stored

    def _make_ready(self, stored: Stored) -> None:
        self._ready.append(stored)
        self._ready_bytes += len(stored.payload) + len(stored.headers)

    def _fetch(self) -> bool:
        """Look for more; True if something became ready."""
        if self._selected is not None:
            return self._fetch_selected(self._selected)
        stream = self._stream
        if self._caught_up or self._scanned >= stream.committed:
            self._caught_up = True
            return False
        if self._scanned >= stream.shelf.floor:
            return self._fetch_recent()
        ids = stream.subject_ids(self._filters())
        if ids == () or self.is_exhausted:
            self._scanned = stream.committed
            self._caught_up = True
            return False
        after, upto = self._scanned, stream.committed
        self._ask(lambda done: reads.Messages(stream.id, after, upto, ids, done))
        return False

    def _fetch_recent(self) -> bool:
        stream = self._stream
        for stored in stream.shelf.after(self._scanned, stream.committed):
            if len(self._ready) >= READY_MAX or self._ready_bytes >= READY_BYTES:
                return True
            self._scanned = stored.seq
            if self._wants(stored.subject):
                self._make_ready(stored)
        self._scanned = stream.committed
        self._caught_up = True
        return bool(self._ready)

    def _fetch_selected(self, selected: OrderedDict[int, None]) -> bool:
        wanted = [seq for seq, _ in zip(selected, range(READY_MAX), strict=False)]
        if not wanted:
            self._selected = None
            self._dropped.clear()
            self.reach = max(self.reach, self._selected_to)
            self._scanned = self._selected_to
            return self._fetch()
        recent = self._stream.shelf.messages
        if all(seq in recent for seq in wanted):
            for seq in wanted:
                self._make_ready(recent[seq])
            return True
        self._ask(lambda done: reads.BySequence(self._stream.id, wanted, done))
        return False

    def _ask(self, question: Callable[[Callable[[reads.Rows], None]], reads.Question]) -> None:
        self._serial += 1
        serial = self._asked = self._serial
        recall = self._stream.recall
        recall.started()

        def found(rows: reads.Rows) -> None:
            recall.finished()
            if self._asked == serial and not self.closed:
                self._asked = 0
                self._supply(rows)

        self._stream.around.reads.ask(question(found))

    def _supply(self, rows: reads.Rows) -> None:
        is_gone = self._stream.contents.is_gone
        for stored in rows.messages:
            if not is_gone(stored.seq):
                self._make_ready(stored)
            elif self._selected is not None:
                self._selected.pop(stored.seq, None)
        if self._selected is None:
            self._scanned = max(self._scanned, rows.scanned_to)
        elif not self._ready:
            self._selected.clear()
        self._pump()
