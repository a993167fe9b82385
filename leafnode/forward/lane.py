"""One lane of a forward: reads part of a stream in order, keeps a window on its way to the hub, and knows what arrived.

    DOWN --link--> OPENING --the hub answered--> RUNNING --answer missing, fence moved, link lost--> DOWN or OPENING

Feed, take, confirm, wake: `supply` brings messages of the local stream, `take` gives what goes over the link, `answer`
brings what the hub said, `on_time` is called at `next_deadline_ns`. What moved is in `memory`, which the shell stores
now and then: it may be late, because each session begins with a look at what the hub has (`opening`).

Messages are settled in order: `position` rises over what is done, so that a crash counts nothing twice. What leaves
the local stream before it was sent is told to `removed` and counted as lost, unless it may be at the hub already:
nothing behind `reserved` was ever sent (that is kept before it is exceeded), so these are few, and the next look tells.

A lane of old messages has `spans` to send and no end of its own; all others go on with what is stored next.
"""

import json
from collections import Counter, deque
from collections.abc import Callable
from typing import Literal

from leafnode.forward import record
from leafnode.forward.entry import ARRIVED, COUNTED, Around, Entry, Orphan, Orphans
from leafnode.forward.memory import Memory
from leafnode.forward.opening import Opened, Opening
from leafnode.forward.plan import SECOND, Forward
from leafnode.route.message import Message
from leafnode.stream.stored import Stored
from leafnode.wire import headers as header_block

READ_AHEAD = 512  # messages read and not yet sent; about two windows
READ_AHEAD_BYTES = 2 << 20
ENTRIES_MAX = 4 * READ_AHEAD  # messages read and not settled, also those that do not go
RESERVE = 1024  # sequences by which `reserved` is ahead: one note for so many, and the most orphans there can be
ANSWER_NS = 5 * SECOND  # for one request; a slow link's round trip, several times
QUIET_NS = 30 * SECOND  # messages are on their way and nothing is acknowledged: look what arrived; a slow link needs it
JOINING = "joining"  # a session that never was: the hub has to be asked
RETRY_FIRST_NS = SECOND // 2
RETRY_MAX_NS = 8 * SECOND  # the link stands, so it is the hub that is not ready: soon it will be
REFUSED_NS = 30 * SECOND  # between attempts when the hub or its configuration forbids
HOLD_FIRST_NS = SECOND  # the hub cannot take messages just now
FENCE_MESSAGES = 50_000  # then the fence is renewed: bounds what must be looked at after a restore
TRIES_MAX = 3  # sessions in which a message got no answer although later ones did: it is parked
FENCE_MOVED = (10071, 10164)
PASSING = {10077, 10023, 10047, 10028, 10008, 10039, 10076, 10158}  # out of room, not ready: the message is fine

State = Literal["down", "opening", "running", "waiting", "refused"]


class Lane:
    """See the module."""

    def __init__(
        self, forward: Forward, name: str, memory: Memory, around: Around, *, stream: str, inbox: str, is_split: bool
    ) -> None:
        """`stream`: whose messages it reads; answers are expected at `inbox`.TOKEN; `is_split`: old and new messages of
        its subjects go in different lanes.
        """
        self.forward = forward
        self.name = name
        self.memory = memory
        self.state: State = "down"
        self.reason = "no link to the hub"
        """Why it does not run."""
        self.out: deque[Message] = deque()
        self.read_to = memory.position
        self.session_acks = 0
        self.resets = 0
        self.max_payload = 1 << 20
        self.orphans = Orphans()
        self.keeps_verdicts = False
        """What is decided about messages must not be decided anew."""
        self.durable_reserved = memory.reserved
        """`reserved` as it is on the disk."""
        self._around = around
        self._stream_name = stream
        self._inbox = inbox
        self._is_split = is_split
        self._judged, self._skipped = memory.judged, memory.skipped
        self._fence_subject = f"{forward.control}.fence.{name}"
        self._adopts = forward.adopt
        self._entries: deque[Entry] = deque()  # read, in order, up to the first that is not settled
        self._ready: deque[Entry] = deque()  # to be sent
        self._ready_bytes = 0
        self._sent: dict[int, Entry] = {}  # by the token of the reply subject
        self._sent_bytes = 0
        self._subjects: Counter[bytes] = Counter()  # on their way, by subject at the hub
        self._awaited: dict[int, Callable[[Message], None]] = {}
        self._token = 0
        self._now_ns = 0
        self._begin_counters()

    def _begin_counters(self) -> None:
        """Of the talk with the hub."""
        self._deadline_ns: int | None = None
        self._failures = 0
        self._holds = 0
        self._held_until_ns = 0
        self._gap_ns = 0  # when an answer came before one that was due earlier; 0: none did
        self._opened: Opened | None = None
        self._found: dict[int, int] = {}
        self._found_to = 0
        self._known = (0, 0)
        self._settled_hub = self.memory.hub_seq
        self._linked = False
        self._renewing = False
        self._has_looked = False  # the hub was asked, in this process, what earlier ones sent
        self._looked = False  # and nothing was left without an answer since

    # what is known -----------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        return self.memory.position

    @property
    def in_flight(self) -> int:
        return len(self._sent)

    @property
    def wants(self) -> bool:
        """More messages of the stream should be read."""
        room = len(self._entries) < ENTRIES_MAX and len(self._ready) < READ_AHEAD
        return room and self._ready_bytes < READ_AHEAD_BYTES and self.state == "running"

    @property
    def oldest_ns(self) -> int | None:
        """When the local stream took the oldest message that is read and not settled."""
        return self._entries[0].stored.time if self._entries else None

    @property
    def is_idle(self) -> bool:
        """Everything read is settled."""
        return not self._entries

    # the stream --------------------------------------------------------------------------------------------------

    def begin_stream(self, created: int, position: int, *, is_joining: bool = False) -> None:
        """The local stream is another one: forget the old one. `is_joining`: other lanes may have sent of this one."""
        self._drop()
        self._judged = 0
        memory = self.memory
        memory.created, memory.position, memory.time = created, position, 0
        self.orphans.clear()
        memory.reserved, memory.counted = 0, position
        memory.backlog = memory.backlog_bytes = 0
        memory.spans = None if memory.spans is None else []
        self.durable_reserved = 0
        self.read_to = position
        if is_joining:
            memory.session, memory.hub_seq = JOINING, 0

    def checkpoint(self) -> Memory:
        """The memory, ready to be stored: `hub_seq` is below everything of ours that is not settled."""
        if not self._found:
            known = (entry.hub_seq for entry in self._entries if entry.hub_seq)
            safe = min(self._settled_hub, min(known, default=self._settled_hub + 1) - 1)
            self.memory.hub_seq = max(self.memory.hub_seq, safe)
        if self.keeps_verdicts:
            skipped: dict[str, list[int]] = {}
            for entry in self._entries:
                if entry.reason not in ("", ARRIVED):
                    skipped.setdefault(entry.reason, []).append(entry.stored.seq)
            self.memory.judged, self.memory.skipped = max(self.read_to, self.memory.position), skipped
        return self.memory

    def verdict(self, seq: int) -> str | None:
        """What was decided about a message before a restart; None: nothing."""
        if seq > self._judged:
            return None
        return next((reason for reason, found in self._skipped.items() if seq in found), "")

    def _drop(self) -> None:
        self._entries.clear()
        self._ready.clear()
        self._ready_bytes = 0
        self._forget_sent()

    def read_limit(self, committed: int) -> int:
        """Up to where it reads a stream of which so much is there."""
        spans = self.memory.spans
        if spans is None:
            return committed
        return min(spans[0][1], committed) if spans else self.read_to

    def supply(self, entries: list[Entry], scanned_to: int) -> None:
        """Messages of the local stream after `read_to`, in order; those with a reason do not go."""
        for entry in entries:
            self._entries.append(entry)
            if not entry.reason:
                self._ready.append(entry)
                self._ready_bytes += entry.size
        self.read_to = max(self.read_to, scanned_to)
        self._advance()

    def is_known(self, stored: Stored) -> bool:
        """Whether the hub said that it has a message."""
        seq, time = self._known
        return (stored.seq <= seq and stored.time <= time) or self._found.get(stored.seq) == stored.time

    def was_passed(self, seq: int) -> bool:
        """A message behind this one was found at the hub."""
        return bool(self._found) and seq < self._found_to

    def removed(self, seq: int, subject: bytes, size: int, time: int, reason: str) -> None:
        """A message left the local stream. `size`, headers and body, and `time` are as far as they are known."""
        memory = self.memory
        if seq <= memory.position:
            return
        entry = self._find(seq) if seq <= self.read_to else None
        if entry is not None and entry.reason == COUNTED:
            return
        if entry is not None and entry.reason not in ("", ARRIVED):  # it did not go anyway
            self._leave_backlog(seq, entry.weight)
            self._around.lost(subject, entry.reason, seq, entry.stored.time, entry.weight)
            entry.reason = COUNTED
        elif entry is not None and not entry.reason and not entry.tries:
            entry.reason = COUNTED
            self._ready.remove(entry)
            self._ready_bytes -= entry.size
            self._leave_backlog(seq, size)
            self._around.lost(subject, reason, seq, entry.stored.time, size)
            self._advance()
        elif entry is None and (seq > memory.reserved or (self._has_looked and seq not in self._found)):
            self._leave_backlog(seq, size)
            self._around.lost(subject, reason, seq, time, size)
        elif entry is None and self._has_looked:
            self._leave_backlog(seq, size)
            self._count_delivered(size)
            self._around.keep_soon()
        else:
            self._around.keep_soon()
            self.orphans.add(seq, Orphan(subject.decode(errors="replace"), size, time, reason))

    def forget(self, upto: int) -> None:
        """Everything up to a sequence is gone and counted."""
        self._drop()
        memory = self.memory
        memory.position = self.read_to = max(memory.position, upto)
        memory.backlog = memory.backlog_bytes = 0
        memory.counted = max(memory.counted, upto)
        self.orphans.clear()
        memory.spans = None if memory.spans is None else []

    def _find(self, seq: int) -> Entry | None:
        return next((entry for entry in self._entries if entry.stored.seq == seq), None)

    def _settle_orphans(self) -> None:
        """What left the local stream while it may have been at the hub: now it is known."""
        for seq, orphan in self.orphans.all():
            entry = self._find(seq) if seq <= self.read_to else None
            if entry is not None:
                continue  # it is here, and goes
            self.orphans.forget(seq)
            self._leave_backlog(seq, orphan.size)
            if seq in self._found or (seq <= self._known[0] and orphan.time <= self._known[1]):
                self._count_delivered(orphan.size)
            else:
                self._around.lost(orphan.subject.encode(), orphan.reason, seq, orphan.time, orphan.size)

    def _count_delivered(self, size: int) -> None:
        self.memory.delivered += 1
        self.memory.delivered_bytes += size

    def _leave_backlog(self, seq: int, size: int) -> None:
        memory = self.memory
        if seq <= memory.counted:
            memory.backlog = max(0, memory.backlog - 1)
            memory.backlog_bytes = max(0, memory.backlog_bytes - size)

    def count(self, seq: int, size: int) -> None:
        """A message waits; in order."""
        if seq > self.memory.counted:
            self.count_many(seq, 1, size)

    def count_many(self, last_seq: int, messages: int, size: int) -> None:
        """Messages wait, of which none was counted."""
        memory = self.memory
        memory.counted = last_seq
        memory.backlog += messages
        memory.backlog_bytes += size

    def hand_over(self, other: "Lane", upto: int) -> None:
        """Leave everything up to a sequence to a lane of old messages, and go on behind it."""
        mine, theirs = self.memory, other.memory
        assert theirs.spans is not None
        if not theirs.spans:
            theirs.position = other.read_to = mine.position
            theirs.hub_seq = other._settled_hub = min(mine.hub_seq, self._settled_hub)
        theirs.hub_seq = min(theirs.hub_seq, mine.hub_seq)
        theirs.created = mine.created
        theirs.spans.append([mine.position, upto])
        theirs.backlog, theirs.backlog_bytes = theirs.backlog + mine.backlog, theirs.backlog_bytes + mine.backlog_bytes
        theirs.counted = max(theirs.counted, upto)
        theirs.reserved = max(theirs.reserved, mine.reserved)
        for seq, orphan in self.orphans.all():
            other.orphans.add(seq, orphan)
        self.orphans.clear()
        other._found.update(self._found)
        other._found_to = max(other._found, default=0)
        other._known = max(other._known, self._known)
        mine.backlog = mine.backlog_bytes = 0
        mine.position = self.read_to = upto
        self._found.clear()
        self._entries.clear()
        self._ready.clear()
        self._ready_bytes = 0

    def _advance(self) -> None:
        """Settle what is done, in order."""
        entries, memory = self._entries, self.memory
        while entries and entries[0].reason:
            entry = entries.popleft()
            memory.position, memory.time = entry.stored.seq, entry.stored.time
            if entry.reason == ARRIVED:
                self._settled_hub = max(self._settled_hub, entry.hub_seq)
                self._count_delivered(entry.weight)
            self.orphans.forget(entry.stored.seq)
            if entry.reason != COUNTED:
                self._leave_backlog(entry.stored.seq, entry.weight)
            self._around.settled(entry)
        if not entries and self.read_to > memory.position:
            memory.position = self.read_to
        if memory.spans and not entries and memory.position >= memory.spans[0][1]:
            memory.spans.pop(0)
            if memory.spans:
                memory.position = self.read_to = memory.spans[0][0]
        if self._found and memory.position >= self._found_to:
            self._found.clear()

    # the link ----------------------------------------------------------------------------------------------------

    def link_up(self, now_ns: int) -> None:
        self._linked = True
        self._failures = 0
        self._open(now_ns)

    def link_down(self) -> None:
        self._linked = False
        self._stop("down", "no link to the hub")
        self._deadline_ns = None

    def _stop(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason
        self.out.clear()
        self._awaited.clear()
        if self._sent:
            self._looked = False
        self._return_sent()

    def _forget_sent(self) -> None:
        if self._sent:
            self._looked = False
        self._sent.clear()
        self._sent_bytes = 0
        self._subjects.clear()
        self._gap_ns = 0

    def _return_sent(self) -> None:
        """What got no answer waits again, before everything else, in its order."""
        again = sorted(self._sent.values(), key=lambda entry: entry.stored.seq)
        self._forget_sent()
        for entry in reversed(again):
            entry.sent = 0
            self._ready.appendleft(entry)
            self._ready_bytes += entry.size

    def _open(self, now_ns: int) -> None:
        self._now_ns = now_ns
        self._stop("opening", "asking the hub")
        self._renewing = False
        self.session_acks = 0
        Opening(
            self.forward,
            self._fence_subject,
            self.memory,
            instance=self._around.instance,
            server=self._around.server,
            session=self._around.new_id(),
            ask=self._request,
            keep=self._around.keep,
            done=self._on_opened,
            failed=self._on_failed,
            may_adopt=self._adopts,
            must_look=not self._looked,
            is_split=self._is_split,
            sends_notices=self._stream_name == self.forward.notices,
        ).begin()

    def _request(self, subject: str, headers: bytes, body: bytes, then: Callable[[Message], None]) -> None:
        self._awaited.clear()
        token = self._next_token()
        self._awaited[token] = then
        self.out.append(Message(subject.encode(), self._reply(token), headers, body))
        self._deadline_ns = self._now_ns + ANSWER_NS

    def _next_token(self) -> int:
        self._token += 1
        return self._token

    def _reply(self, token: int) -> bytes:
        return f"{self._inbox}.{token}".encode()

    def _on_failed(self, reason: str, is_final: bool) -> None:
        self._stop("refused" if is_final else "waiting", reason)
        if is_final:
            wait = REFUSED_NS
        else:
            wait = min(RETRY_FIRST_NS << min(self._failures, 8), RETRY_MAX_NS)
            self._failures += 1
        self._deadline_ns = self._now_ns + wait

    def _on_opened(self, opened: Opened) -> None:
        self._opened = opened
        self._adopts = False  # once: whoever takes the name from us later is another one
        self._looked = self._has_looked = True
        self._failures = 0
        self._awaited.clear()
        self.state, self.reason = "running", ""
        self._deadline_ns = None
        self._found.update(opened.found)
        self._found_to = max(self._found, default=0)
        self._known = max(self._known, opened.known)
        if opened.back_to is not None and opened.back_to < self.memory.position:
            self._drop()
            self._looked = True
            self.memory.position = self.read_to = opened.back_to
        self._sort_out(opened)
        self._settle_orphans()
        if not self._found and not any(entry.reason for entry in self._entries):
            self._settled_hub = self.memory.hub_seq = opened.fence  # none of what is to come is at the hub
        self._reserve(self.memory.position)

    def _sort_out(self, opened: Opened) -> None:
        """What arrived is done; so is what went before it, if the hub has dropped what was there."""
        newest = max(opened.found, default=0)
        waiting: list[Entry] = []
        for entry in self._ready:
            is_older = entry.tries > 0 and entry.stored.seq < newest
            if self.is_known(entry.stored) or (is_older and not opened.is_complete):
                entry.reason = ARRIVED
            elif is_older and entry.tries >= TRIES_MAX:
                entry.reason, entry.is_refused = "no answer", True
            else:
                waiting.append(entry)
        self._ready = deque(waiting)
        self._ready_bytes = sum(entry.size for entry in waiting)
        self._advance()

    def _reserve(self, seq: int) -> None:
        """Half of what is reserved is used up: more is, before it is needed."""
        if seq + RESERVE // 2 > self.memory.reserved:
            self.memory.reserved = seq + RESERVE
            self._around.keep_soon()

    # sending -----------------------------------------------------------------------------------------------------

    def next_size(self, now_ns: int) -> int | None:
        """Bytes of the message that may go now; None: none may."""
        if self.state != "running" or not self._ready or self._renewing or now_ns < self._held_until_ns:
            return None
        assert self._opened is not None
        hub, entry = self._opened.hub, self._ready[0]
        self._reserve(entry.stored.seq)
        if entry.stored.seq > self.durable_reserved:
            return None
        if self._sent:
            full = (
                len(self._sent) >= self.forward.window.messages
                or self._sent_bytes + entry.size > self.forward.window.bytes
            )
            if full or hub.one_at_a_time or (hub.one_per_subject and self._subjects[entry.subject]):
                return None
        return entry.size

    def send_next(self, now_ns: int) -> Message | None:
        """What `next_size` was about; None: it can never go, and is settled with a reason."""
        assert self._opened is not None
        opened, entry = self._opened, self._ready.popleft()
        self._ready_bytes -= entry.size
        stored = entry.stored
        origin = record.Origin(
            self.forward.name.encode(),
            self._stream_name.encode(),
            self.memory.created,
            stored.seq,
            stored.time,
            stored.subject,
        )
        headers = header_block.with_lines(
            record.copied(stored.headers, keep_ttl=opened.hub.keeps_ttl),
            record.source_line(origin),
            (b"Nats-Expected-Last-Subject-Sequence", b"%d" % opened.fence),
            (b"Nats-Expected-Last-Subject-Sequence-Subject", self._fence_subject.encode()),
        )
        size = len(headers) + len(stored.payload)
        if size > self.max_payload or 0 <= opened.hub.max_msg_size < size:
            self.refuse(entry, "too big")
            return None
        if not self._sent:
            self._deadline_ns = now_ns + QUIET_NS
        token = self._next_token()
        entry.sent = token
        entry.tries += 1
        self._sent[token] = entry
        self._sent_bytes += entry.size
        self._subjects[entry.subject] += 1
        return Message(entry.subject, self._reply(token), headers, stored.payload)

    def refuse(self, entry: Entry, reason: str) -> None:
        """A message that will never arrive."""
        entry.reason, entry.is_refused = reason, True
        self._advance()

    def refuse_sent(self, reply: bytes, reason: str) -> None:
        """The link may not carry a message that was just given to it."""
        entry = self._take_sent(int(reply.rsplit(b".", 1)[1]))
        if entry is not None:
            self.refuse(entry, reason)

    # answers -----------------------------------------------------------------------------------------------------

    def answer(self, token: int, message: Message, now_ns: int) -> None:
        """What the hub said to one of our messages."""
        self._now_ns = now_ns
        then = self._awaited.get(token)
        if then is not None:
            self._deadline_ns = now_ns + ANSWER_NS
            then(message)
            return
        if token not in self._sent or self.state != "running":
            return
        seq, error = _puback(message.payload)
        if error is None:
            self._on_ack(token, seq, now_ns)
        else:
            self._on_error(token, error, now_ns)

    def _take_sent(self, token: int) -> Entry | None:
        entry = self._sent.pop(token, None)
        if entry is not None:
            self._sent_bytes -= entry.size
            self._subjects[entry.subject] -= 1
            if not self._subjects[entry.subject]:
                del self._subjects[entry.subject]
        return entry

    def _on_ack(self, token: int, seq: int, now_ns: int) -> None:
        entry = self._take_sent(token)
        assert entry is not None
        entry.reason = ARRIVED
        entry.hub_seq = seq
        self._holds = 0
        self.session_acks += 1
        self._gap_ns = (self._gap_ns or now_ns) if self._sent_before(token) else 0
        self._deadline_ns = (self._gap_ns or now_ns) + QUIET_NS if self._sent else None
        self._advance()
        if self.session_acks >= FENCE_MESSAGES:
            self._renewing = True
        if self._renewing and not self._sent:
            self._open(now_ns)

    def _sent_before(self, token: int) -> bool:
        """Whether something sent before has no answer yet: then it may be stored before this one."""
        first = next(iter(self._sent), token)
        return first < token

    def _on_error(self, token: int, error: dict[str, object], now_ns: int) -> None:
        code = error.get("err_code")
        what = f"{error.get('description', 'refused')} ({code})"
        if code in FENCE_MOVED:
            self.resets += 1
            if self.session_acks:
                self._open(now_ns)
            else:  # somebody else writes, or the hub does not know the header: not in a tight circle
                self._on_failed(f"the hub does not accept the fence: {what}", False)
        elif code in PASSING:
            self._hold(now_ns, what)
        else:
            entry = self._take_sent(token)
            assert entry is not None
            self.refuse(entry, what)

    def _hold(self, now_ns: int, what: str) -> None:
        """The hub has no room now: what it refused goes first when it has."""
        self._held_until_ns = now_ns + min(HOLD_FIRST_NS << min(self._holds, 5), RETRY_MAX_NS)
        self._holds += 1
        self._stop("waiting", f"the hub does not take messages: {what}")
        self._deadline_ns = self._held_until_ns

    # time --------------------------------------------------------------------------------------------------------

    def next_deadline_ns(self) -> int | None:
        return self._deadline_ns

    def on_time(self, now_ns: int) -> None:
        if self._deadline_ns is None or now_ns < self._deadline_ns:
            return
        self._now_ns = now_ns
        self._deadline_ns = None
        if not self._linked:
            return
        if self.state == "opening":
            self._on_failed("the hub does not answer", False)
        else:
            if self.state == "running":
                self.resets += 1
            self._open(now_ns)


def _puback(body: bytes) -> tuple[int, dict[str, object] | None]:
    """Sequence, or the error."""
    try:
        answer = json.loads(body)
        error = answer.get("error")
        return int(answer.get("seq", 0)), error
    except (ValueError, AttributeError, TypeError):
        return 0, {"description": "an answer that cannot be read", "err_code": 10077}
