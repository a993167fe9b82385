"""A hub, a link and a site without sockets, disks or clocks: whatever can happen to a forward, in any order.

`Hub` answers like nats-server as far as a forward asks. `World` holds what is durable at the site (the local streams,
the rows) and what is not (the flow, what is on its way), and does harm on request.
"""

import base64
import itertools
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from leafnode.forward import record
from leafnode.forward.flow import Flow, Notes
from leafnode.forward.lane import Lane
from leafnode.forward.plan import SECOND, Forward
from leafnode.route.message import Message
from leafnode.route.subject import matches
from leafnode.stream.stored import Stored
from leafnode.wire import headers as header_block

API = "$JS.hub.API."


@dataclass
class Kept:
    seq: int
    subject: str
    headers: bytes
    body: bytes


@dataclass
class Hub:
    """One stream of a nats-server."""

    config: dict[str, Any] = field(default_factory=lambda: {"subjects": ["up.>", "$FWD.COPIES.>"]})
    created: str = "2026-01-01T00:00:00Z"
    kept: list[Kept] = field(default_factory=list)
    last_seq: int = 0
    consumers: dict[str, list[Kept]] = field(default_factory=dict)
    refuses: Callable[[str], dict[str, Any] | None] = lambda _subject: None

    def handle(self, message: Message) -> list[Message]:
        """The answers, each under the reply subject of what it answers."""
        subject = message.subject.decode()
        if not subject.startswith(API):
            return [Message(message.reply, payload=json.dumps(self._publish(message)).encode())]
        verb, body = subject.removeprefix(API), json.loads(message.payload or b"{}")
        if verb == "STREAM.INFO.COPIES":
            first = self.kept[0].seq if self.kept else self.last_seq + 1
            state = {"first_seq": first, "last_seq": self.last_seq}
            return [_answer(message, {"config": self.config, "state": state, "created": self.created})]
        if verb == "STREAM.MSG.GET.COPIES":
            return [_answer(message, self._last(body["last_by_subj"]))]
        if verb.startswith("CONSUMER.CREATE.COPIES."):
            return [_answer(message, self._create(verb.split(".")[-1], body["config"]))]
        return self._next(message, verb.split(".")[-1], body["batch"])

    def _on(self, subject: str) -> int:
        return max((one.seq for one in self.kept if one.subject == subject), default=0)

    def _publish(self, message: Message) -> dict[str, Any]:
        subject = message.subject.decode()
        refusal = self.refuses(subject)
        if refusal:
            return {"error": refusal, "stream": "COPIES", "seq": 0}
        wanted = header_block.get(message.headers, b"Nats-Expected-Last-Subject-Sequence")
        about = header_block.get(message.headers, b"Nats-Expected-Last-Subject-Sequence-Subject")
        if wanted is not None:
            last = self._on((about or message.subject).decode())
            if last != int(wanted):
                return {
                    "error": {"code": 400, "err_code": 10071, "description": f"wrong last sequence: {last}"},
                    "seq": 0,
                }
        self.last_seq += 1
        self.kept.append(Kept(self.last_seq, subject, message.headers, message.payload))
        return {"stream": "COPIES", "seq": self.last_seq}

    def _last(self, subject: str) -> dict[str, Any]:
        seq = self._on(subject)
        if not seq:
            return {"error": {"code": 404, "err_code": 10037, "description": "no message found"}}
        found = next(one for one in self.kept if one.seq == seq)
        return {"message": {"subject": subject, "seq": seq, "data": base64.b64encode(found.body).decode()}}

    def _create(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        wanted = config.get("filter_subjects", [">"])
        found = [
            one
            for one in self.kept
            if one.seq >= config["opt_start_seq"] and any(matches(w.encode(), one.subject.encode()) for w in wanted)
        ]
        self.consumers[name] = found
        return {"name": name, "num_pending": len(found)}

    def _next(self, message: Message, name: str, batch: int) -> list[Message]:
        waiting = self.consumers.get(name, [])
        page, self.consumers[name] = waiting[:batch], waiting[batch:]
        answers = []
        for place, one in enumerate(page):
            left = len(waiting) - place - 1
            ack = f"$JS.ACK.COPIES.{name}.1.{one.seq}.{place + 1}.0.{left}"
            answers.append((one, ack))
        told = [Message(message.reply, ack.encode(), one.headers, b"") for one, ack in answers]
        if len(page) < batch and not page:
            told.append(Message(message.reply, b"", header_block.status(404, "No Messages"), b""))
        return told

    def copies(self, prefix: str = "up.") -> list[Kept]:
        return [one for one in self.kept if one.subject.startswith(prefix)]


def _answer(message: Message, body: dict[str, Any]) -> Message:
    return Message(message.reply, payload=json.dumps(body).encode())


class World:
    """A site, its link and its hub."""

    def __init__(self, forward: Forward, hub: Hub | None = None) -> None:
        self.forward = forward
        self.hub = hub or Hub()
        self.now = 1_800_000_000 * SECOND
        self.stream: list[Stored] = []
        self.last_seq = 0
        self.created = 5
        self.notices: list[Stored] = []
        self.notice_seq = 0
        self.parked: list[Stored] = []
        self.rows: dict[str, bytes] = {}
        self.up: deque[Message] = deque()
        self.down: deque[Message] = deque()
        self.late: list[Message] = []  # cut off on the way up, not lost: they come when nobody waits for them
        self.linked = False
        self.produced = 0
        self._ids = itertools.count(1)
        self.instance = "pi"
        self.flow: Flow
        self.start()

    # the site ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """A process begins with what is durable."""
        self.flow = Flow(
            self.forward,
            self.rows,
            instance=self.instance,
            server="site",
            inbox="in",
            new_id=lambda: f"session{id(self)}{next(self._ids):08d}",
            minute_of=lambda now: (0, now // (60 * SECOND) % 1440),
        )
        if self.flow.needs_start(self.created):
            self.flow.attach(self.created, 0)
        self.flow.attach_notices(7)
        counted = min(lane.memory.counted for lane in self.flow.main_lanes)
        for stored in self.stream:
            if stored.seq > counted:
                self.flow.counted(stored.seq, stored.subject, self._size(stored))
        self.flow.stored((), self.last_seq)
        if self.linked:
            self.flow.link_up(self.now, 1 << 20)

    def _size(self, stored: Stored) -> int:
        return self.flow.size_of(len(stored.subject), len(stored.headers), len(stored.payload))

    def publish(self, subject: str, body: bytes = b"x", headers: bytes = b"") -> Stored:
        self.last_seq += 1
        self.produced += 1
        self.now += 1000
        stored = Stored(self.last_seq, subject.encode(), self.now, headers, body)
        self.stream.append(stored)
        self.flow.stored([stored], stored.seq)
        return stored

    def drop(self, place: int = 0, reason: str = "limit") -> None:
        """The local stream loses a message; what is counted for it is in the same commit."""
        stored = self.stream.pop(place)
        self.flow.removed(stored.seq, stored.subject, self._size(stored), stored.time, reason)
        self.note()

    def note(self) -> None:
        notes: Notes | None = self.flow.take_notes(self.now)
        if notes is None:
            return
        for key, value in notes.rows.items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
        told = set(notes.told)
        self.notices = [one for one in self.notices if one.seq not in told]
        for subject, body in notes.notices:
            self.notice_seq += 1
            stored = Stored(self.notice_seq, subject, self.now, b"", body)
            self.notices.append(stored)
            self.flow.notices.count(stored.seq, self._size(stored))
        self.parked += notes.parked
        self.flow.noted(notes)

    def crash(self) -> None:
        self.cut()
        self.start()

    def turn(self) -> None:
        """What the shell does in a turn."""
        flow = self.flow
        flow.on_time(self.now)
        if flow.urgent or flow.soon:
            self.note()
        for lane in flow.lanes:
            self._read(lane)
        for _, message in flow.take(self.now):
            self.up.append(message)
            if flow.urgent:
                self.note()

    def _read(self, lane: Lane) -> None:
        source, last = (self.notices, self.notice_seq) if lane is self.flow.notices else (self.stream, self.last_seq)
        limit = lane.read_limit(last)
        if lane.wants and lane.read_to < limit:
            after = lane.read_to
            upto = min(limit, after + 50)
            self.flow.supply(lane, [one for one in source if after < one.seq <= upto], upto)

    # the link ----------------------------------------------------------------------------------------------------

    def link(self) -> None:
        if not self.linked:
            self.linked = True
            self.flow.link_up(self.now, 1 << 20)

    def cut(self, late: int = 0) -> None:
        """Everything on its way is lost, but for the first messages upwards, which come late."""
        self.late += list(self.up)[:late]
        self.up.clear()
        self.down.clear()
        if self.linked:
            self.linked = False
            self.flow.link_down()

    def carry_up(self, count: int = 1_000_000) -> None:
        while self.up and count > 0:
            count -= 1
            self.down += self.hub.handle(self.up.popleft())

    def carry_down(self, count: int = 1_000_000) -> None:
        while self.down and count > 0:
            count -= 1
            answer = self.down.popleft()
            self.flow.answer(answer.subject.removeprefix(b"in."), answer, self.now)

    def come_late(self) -> None:
        if self.late:
            self.hub.handle(self.late.pop(0))

    def run(self, rounds: int = 400) -> None:
        """Until nothing moves any more."""
        self.link()
        for _ in range(rounds):
            self.turn()
            self.carry_up()
            self.carry_down()
            self.note()
            self.now += SECOND // 4
            idle = all(lane.is_idle and lane.read_to >= lane.read_limit(self.last_seq) for lane in self.flow.main_lanes)
            if idle and not len(self.flow.tallies) and not self.flow.notices.memory.backlog and not self.flow.changed:
                break
        self.note()

    # what is true ------------------------------------------------------------------------------------------------

    def delivered(self) -> list[tuple[str, int]]:
        """Subject and local sequence of each copy, in the hub's order."""
        found = []
        for one in self.hub.copies():
            origin = record.origin_of(one.headers)
            if origin is not None and origin.stream == self.forward.stream.encode():
                found.append((origin.subject.decode(), origin.seq))
        return found

    def receipts(self) -> list[dict[str, Any]]:
        at_hub = self.hub.copies(f"{self.forward.control}.receipt")
        return [json.loads(one.body) for one in at_hub]

    def receipted(self) -> int:
        return sum(receipt["count"] for receipt in self.receipts()) + self.flow.tallies.total()
