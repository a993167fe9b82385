"""One lane of a forward: reads part of a stream in order, keeps a window on its way to the hub, and knows what arrived.

    DOWN --link--> OPENING --the hub answered--> RUNNING --answer missing, fence moved, link lost--> DOWN or OPENING

Feed, take, confirm, wake: `supply` brings messages of the local stream, `take` gives what goes over the link, `answer`
brings what the hub said, `on_time` is called at `next_deadline_ns`. What moved is in `memory`, which the shell stores
now and then: it may be late, because each session begins with a look at what the hub has (`opening`).

Messages are settled in order: `position` rises over what is done, so that a crash counts nothing twice.
"""

import json
from collections import Counter, deque
from collections.abc import Callable
from typing import Literal

from leafnode.forward import record
from leafnode.forward.memory import Memory
from leafnode.forward.opening import Opened, Opening
from leafnode.forward.plan import SECOND, Forward
from leafnode.route.message import Message
from leafnode.stream.stored import Stored
from leafnode.wire import headers as header_block

READ_AHEAD = 512  # messages read and not yet sent; about two windows
READ_AHEAD_BYTES = 2 << 20
ANSWER_NS = 5 * SECOND  # for one request; a slow link's round trip, several times
QUIET_NS = 30 * SECOND  # messages are on their way and nothing is acknowledged: look what arrived; a slow link needs it
RETRY_FIRST_NS = SECOND // 2
RETRY_MAX_NS = 30 * SECOND
REFUSED_NS = 30 * SECOND  # between attempts when the hub or its configuration forbids
HOLD_FIRST_NS = SECOND  # the hub cannot take messages just now
FENCE_MESSAGES = 50_000  # then the fence is renewed: bounds what must be looked at after a restore
TRIES_MAX = 3  # sessions in which a message got no answer although later ones did: it is parked
FENCE_MOVED = (10071, 10164)
PASSING = {10077, 10023, 10047, 10028, 10008, 10039, 10076, 10158}  # out of room, not ready: the message is fine

State = Literal["down", "opening", "running", "waiting", "refused"]


class Entry:
    """One message from reading to settling."""

    __slots__ = ("hub_seq", "reason", "sent", "stored", "subject", "tries")

    def __init__(self, stored: Stored, subject: bytes, reason: str = "") -> None:
        self.stored = stored
        self.subject = subject  # at the hub
        self.reason = reason  # how it ended: "arrived", or why it did not go; empty: it has not
        self.sent = 0  # in the order of sending; 0: it waits
        self.tries = 0
        self.hub_seq = 0

    @property
    def size(self) -> int:
        return len(self.stored.headers) + len(self.stored.payload)


ARRIVED = "arrived"


class Lane:
    """See the module. `settled(entry)` is told of each message, in order."""

    def __init__(
        self,
        forward: Forward,
        name: str,
        memory: Memory,
        *,
        instance: str,
        server: str,
        inbox: str,
        new_id: Callable[[], str],
        keep: Callable[[], None],
        settled: Callable[[Entry], None],
    ) -> None:
        self.forward = forward
        self.name = name
        self.memory = memory
        self.state: State = "down"
        self.reason = ""
        """Why it does not run."""
        self.out: deque[Message] = deque()
        self.read_to = memory.position
        self.session_acks = 0
        self.resets = 0
        self.window = forward.window
        self.max_payload = 1 << 20
        self._instance = instance
        self._server = server
        self._inbox = inbox
        self._new_id = new_id
        self._keep = keep
        self._settled = settled
        self._fence_subject = f"{forward.control}.fence.{name}"
        self._entries: deque[Entry] = deque()  # read, in order, up to the first that is not settled
        self._ready: deque[Entry] = deque()  # to be sent
        self._ready_bytes = 0
        self._sent: dict[int, Entry] = {}  # by the token of the reply subject
        self._sent_bytes = 0
        self._subjects: Counter[bytes] = Counter()  # on their way, by subject at the hub
        self._awaited: dict[int, Callable[[Message], None]] = {}
        self._token = 0
        self._deadline_ns: int | None = None
        self._failures = 0
        self._holds = 0
        self._held_until_ns = 0
        self._now_ns = 0
        self._opened: Opened | None = None
        self._found: dict[int, int] = {}
        self._known = (0, 0)
        self._settled_hub = memory.hub_seq
        self._gap_ns = 0  # when an answer came before one that was due earlier; 0: none did
        self._linked = False
        self._renewing = False
        self._adopts = forward.adopt
        self._looked = False  # since the start of the process: what was on its way before is known

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
        return len(self._ready) < READ_AHEAD and self._ready_bytes < READ_AHEAD_BYTES and self.state == "running"

    @property
    def is_idle(self) -> bool:
        """Everything read is settled."""
        return not self._entries

    # the stream --------------------------------------------------------------------------------------------------

    def begin_stream(self, created: int, position: int) -> None:
        """The local stream is another one: forget the old one's messages."""
        self._drop()
        self.memory.created, self.memory.position, self.memory.time = created, position, 0
        self.memory.begun = True
        self.read_to = position

    def rewind(self, memory: Memory, now_ns: int) -> None:
        """Go on from what is on the disk: a commit failed."""
        self._drop()
        self.memory = memory
        self.read_to = memory.position
        self._settled_hub = memory.hub_seq
        self._looked = False
        if self._linked:
            self._open(now_ns)

    def checkpoint(self) -> Memory:
        """The memory, ready to be stored: `hub_seq` is below everything of ours that is not settled."""
        if not self._found:
            known = (entry.hub_seq for entry in self._entries if entry.hub_seq)
            safe = min(self._settled_hub, min(known, default=self._settled_hub + 1) - 1)
            self.memory.hub_seq = max(self.memory.hub_seq, safe)
        return self.memory

    def _drop(self) -> None:
        self._entries.clear()
        self._ready.clear()
        self._ready_bytes = 0
        self._forget_sent()

    def supply(self, entries: list[Entry], scanned_to: int) -> None:
        """Messages of the local stream after `read_to`, in order; those with a reason do not go."""
        for entry in entries:
            if self._is_known(entry.stored):
                entry.reason = ARRIVED
            self._entries.append(entry)
            if not entry.reason:
                self._ready.append(entry)
                self._ready_bytes += entry.size
        self.read_to = max(self.read_to, scanned_to)
        self._advance()

    def _is_known(self, stored: Stored) -> bool:
        """Whether the hub said that it has a message."""
        seq, time = self._known
        return (stored.seq <= seq and stored.time <= time) or self._found.get(stored.seq) == stored.time

    def removed(self, seq: int, reason: str) -> bool:
        """A message left the local stream before it was sent; False: it was not read yet, or is on its way."""
        for entry in self._ready:
            if entry.stored.seq == seq and not entry.tries:
                entry.reason = reason
                self._ready.remove(entry)
                self._ready_bytes -= entry.size
                return True
        return False

    def _advance(self) -> None:
        """Settle what is done, in order."""
        entries, memory = self._entries, self.memory
        while entries and entries[0].reason:
            entry = entries.popleft()
            memory.position, memory.time = entry.stored.seq, entry.stored.time
            if entry.reason == ARRIVED:
                self._settled_hub = max(self._settled_hub, entry.hub_seq)
                memory.delivered += 1
                memory.delivered_bytes += entry.size
            self._settled(entry)
        if not entries and self.read_to > memory.position:
            memory.position = self.read_to
        if self._found and memory.position >= max(self._found):
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
            instance=self._instance,
            server=self._server,
            session=self._new_id(),
            ask=self._request,
            keep=self._keep,
            done=self._on_opened,
            failed=self._on_failed,
            may_adopt=self._adopts,
            must_look=not self._looked,
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
        self._looked = True
        self._failures = 0
        self._awaited.clear()
        self.state, self.reason = "running", ""
        self._deadline_ns = None
        self._found.update(opened.found)
        self._known = max(self._known, opened.known)
        if opened.back_to is not None and opened.back_to < self.memory.position:
            self._drop()
            self._looked = True
            self.memory.position = self.read_to = opened.back_to
            self.memory.hub_seq = self._settled_hub = opened.fence if not opened.found else 0
        self._sort_out(opened)
        self._keep()

    def _sort_out(self, opened: Opened) -> None:
        """What arrived is done; so is what went before it, if the hub has dropped what was there."""
        newest = max(opened.found, default=0)
        waiting: list[Entry] = []
        for entry in self._ready:
            is_older = entry.tries > 0 and entry.stored.seq < newest
            if self._is_known(entry.stored) or (is_older and not opened.is_complete):
                entry.reason = ARRIVED
            elif is_older and entry.tries >= TRIES_MAX:
                entry.reason = "no answer"
            else:
                waiting.append(entry)
        self._ready = deque(waiting)
        self._ready_bytes = sum(entry.size for entry in waiting)
        self._advance()

    # sending -----------------------------------------------------------------------------------------------------

    def next_size(self, now_ns: int) -> int | None:
        """Bytes of the message that may go now; None: none may."""
        if self.state != "running" or not self._ready or self._renewing or now_ns < self._held_until_ns:
            return None
        assert self._opened is not None
        hub, entry = self._opened.hub, self._ready[0]
        if self._sent:
            full = len(self._sent) >= self.window.messages or self._sent_bytes + entry.size > self.window.bytes
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
            self.forward.stream.encode(),
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
        entry.reason = reason
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
