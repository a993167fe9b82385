"""All lanes of one forward: whose message goes next, what does not go and why, and what is to be remembered.

The shell feeds it (`supply`, `answer`, `link_up`, `link_down`, `on_time`, and what the local stream stores and removes)
and takes from it: messages for the link (`take`), and what must be kept in one commit (`take_notes`).

    lane            reads            goes
    notices         notices stream   receipts, aggregates, advisories; before everything else
    CLASS[-n]       local stream     by priority; n: its partition
    CLASS[-n].old   local stream     what waited when the link came, of classes with `live: first`; after the others
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from leafnode.forward import record
from leafnode.forward.entry import ARRIVED, COUNTED, Around, Entry
from leafnode.forward.lane import Lane
from leafnode.forward.memory import Memory
from leafnode.forward.plan import SECOND, Class, Forward
from leafnode.forward.sampling import Event, Sampler
from leafnode.forward.shaping import Meter, MinuteOf, is_open, minutes_until_open
from leafnode.forward.tallies import Tallies
from leafnode.route.message import Message
from leafnode.stream import schema
from leafnode.stream.stored import Stored, file_size
from leafnode.wire import headers as header_block

TURN_MESSAGES = 128  # given to the link in one go: others' turn comes within milliseconds
TURN_BYTES = 256 * 1024
WAYS_MAX = 4096  # subjects whose class and partition are remembered
NOTICES_MAX = 10_000  # waiting for the hub; beyond, advisories are not written, and counted
MINUTE_NS = 60 * SECOND
PARKED_REASON = b"Leafnode-Parked"


class Notes(NamedTuple):
    """What is kept in one commit."""

    rows: dict[str, bytes | None]
    notices: list[tuple[bytes, bytes]]  # subject at the hub, body
    parked: list[Stored]
    delivered: list[int]  # sequences that may leave the local stream
    told: list[int]  # and those of the notices stream
    reserved: dict[str, int]


class Group:
    """The lanes of one class."""

    def __init__(self, plan: Class, senders: Mapping[str, bytes], old_senders: Mapping[str, bytes]) -> None:
        self.plan = plan
        self.meter = Meter(plan.rate)
        self.sampler = Sampler(plan, senders)
        self.old_sampler = Sampler(plan, old_senders)
        self.lanes: list[Lane] = []
        self.old: list[Lane] = []  # beside `lanes`, for classes with live_first

    @property
    def samplers(self) -> tuple[tuple[str, Sampler], ...]:
        return (self.plan.name, self.sampler), (f"{self.plan.name}.old", self.old_sampler)

    @property
    def backlog(self) -> tuple[int, int]:
        """Messages that wait, and their bytes."""
        every = [*self.lanes, *self.old]
        return sum(lane.memory.backlog for lane in every), sum(lane.memory.backlog_bytes for lane in every)


class Flow:
    """One forward."""

    def __init__(
        self,
        forward: Forward,
        rows: Mapping[str, bytes],
        *,
        instance: str,
        server: str,
        inbox: str,
        new_id: Callable[[], str],
        minute_of: MinuteOf,
        size_of: Callable[[int, int, int], int] = file_size,
    ) -> None:
        """`rows`: what `take_notes` gave before. Answers are expected at `inbox`.LANE.TOKEN."""
        self.forward = forward
        self.changed = False
        self.urgent = False
        """Something must be stored before the hub is told."""
        self.soon = False
        """Something should be stored now; the hub may be told meanwhile."""
        self.size_of = size_of
        self.tallies = Tallies(row for key, row in rows.items() if key.startswith("tally."))
        self.not_delivered: Counter[str] = Counter(json.loads(rows.get("totals", b"{}")))
        """Messages by why they did not go, ever; what the hub refused is one reason."""
        self.suppressed = 0  # advisories that were not written
        self._tallied = False
        self._rows = rows
        self._new_id, self._instance, self._server, self._inbox = new_id, instance, server, inbox
        self._minute_of = minute_of
        self._ways: dict[bytes, tuple[Group, int]] = {}
        self._transforms = forward.transforms()
        self._meter = Meter(forward.rate)
        self._notices: list[tuple[bytes, bytes]] = []
        self._parked: list[Stored] = []
        self._delivered: list[int] = []
        self._told: list[int] = []
        self._receipts_at = 0
        self._turn = 0
        self._committed = 0
        self.lanes: list[Lane] = []
        self.notices = self._lane("notices", None, forward.notices)
        self.groups = [self._group(plan) for plan in forward.classes]
        self._by_priority = sorted(self.groups, key=lambda group: group.plan.priority)
        self._deadline_ns: int | None = None

    def _group(self, plan: Class) -> Group:
        group = Group(plan, self._senders(plan.name), self._senders(f"{plan.name}.old"))
        for number in range(self.forward.partitions):
            name = plan.name if self.forward.partitions == 1 else f"{plan.name}-{number}"
            group.lanes.append(self._lane(name, None, self.forward.stream, is_split=plan.live_first))
            group.lanes[-1].keeps_verdicts = plan.sampling.samples
            if plan.live_first:
                group.old.append(self._lane(f"{name}.old", [], self.forward.stream, is_split=True))
                group.old[-1].keeps_verdicts = plan.sampling.samples
        return group

    def _senders(self, name: str) -> dict[str, bytes]:
        prefix = f"sender.{name}:"
        return {key[len(prefix) :]: row for key, row in self._rows.items() if key.startswith(prefix)}

    def _lane(self, name: str, spans: list[list[int]] | None, stream: str, *, is_split: bool = False) -> Lane:
        row = self._rows.get(f"lane.{name}")
        number = len(self.lanes)
        around = Around(
            instance=self._instance,
            server=self._server,
            new_id=self._new_id,
            keep=self._keep_now,
            keep_soon=self._keep_soon,
            settled=self._on_settled if self.lanes else self._on_told,
            lost=self._on_lost,
        )
        lane = Lane(
            self.forward,
            name,
            Memory.from_bytes(row) if row else Memory(spans=spans),
            around,
            stream=stream,
            inbox=f"{self._inbox}.{number}",
            is_split=is_split,
        )
        prefix = f"orphan.{name}:"
        found = {int(key[len(prefix) :]): row for key, row in self._rows.items() if key.startswith(prefix)}
        lane.orphans.load(found)
        self.lanes.append(lane)
        return lane

    @property
    def main_lanes(self) -> list[Lane]:
        """Those that read the local stream."""
        return self.lanes[1:]

    def _keep_now(self) -> None:
        self.changed = self.urgent = True

    def _keep_soon(self) -> None:
        self.changed = self.soon = True

    # what became of messages -------------------------------------------------------------------------------------

    def _on_settled(self, entry: Entry) -> None:
        self.changed = True
        stored = entry.stored
        if entry.is_refused:
            self._park(entry)
        if entry.reason not in (ARRIVED, COUNTED):
            self._tally(stored.subject, entry.reason, stored.seq, stored.time, entry.weight)
            self.not_delivered["refused" if entry.is_refused else entry.reason] += 1
        if self.forward.delete and entry.reason != COUNTED:
            self._delivered.append(entry.stored.seq)

    def _on_told(self, entry: Entry) -> None:
        """A notice: there is no receipt for a receipt."""
        self.changed = True
        self._told.append(entry.stored.seq)
        self.suppressed += entry.reason != ARRIVED

    def _on_lost(self, subject: bytes, reason: str, seq: int, time: int, size: int) -> None:
        self.changed = self.soon = True
        self._tally(subject, reason, seq, time, size)
        self.not_delivered[reason] += 1

    def _tally(self, subject: bytes, reason: str, seq: int, time: int, size: int) -> None:
        self.tallies.add(subject, reason, seq, time, size)
        self._tallied = True

    def _park(self, entry: Entry) -> None:
        """A message that the hub will not have is put aside, with why and where it was to go."""
        reason = entry.reason.encode(errors="replace").replace(b"\r", b" ").replace(b"\n", b" ")
        headers = header_block.with_lines(
            record.copied(entry.stored.headers, keep_ttl=False),
            (PARKED_REASON, reason),
            (b"Leafnode-Subject", entry.subject),
        )
        self._parked.append(entry.stored._replace(headers=headers))
        self.soon = True

    # the local stream --------------------------------------------------------------------------------------------

    def needs_start(self, created: int) -> bool:
        return any(lane.memory.created != created for lane in self.main_lanes)

    def attach(self, created: int, first: int) -> None:
        """The local stream; `first`: where a lane without a position begins, after the start policy.

        A lane that is new beside others begins where the last of them is: classes may change.
        """
        known = [lane.memory.position for lane in self.main_lanes if lane.memory.created == created]
        for lane in self.main_lanes:
            if lane.memory.created != created:
                lane.begin_stream(created, min(known, default=first), is_joining=bool(known))
                self._keep_now()

    def attach_notices(self, created: int) -> None:
        if self.notices.memory.created != created:
            self.notices.begin_stream(created, 0)
            self._keep_now()

    def lane_of(self, seq: int, subject: bytes) -> Lane | None:
        """Who sends a message of the local stream; None: nobody."""
        if not self.forward.wants(subject):
            return None
        group, number = self._way_of(subject)
        if group.old:
            spans = group.old[number].memory.spans or []
            if any(first < seq <= last for first, last in spans):
                return group.old[number]
        return group.lanes[number]

    def group_of(self, subject: bytes) -> Group:
        return self._way_of(subject)[0]

    def _way_of(self, subject: bytes) -> tuple[Group, int]:
        """Class and partition of a subject."""
        known = self._ways.get(subject)
        if known is None:
            if len(self._ways) >= WAYS_MAX:
                self._ways.clear()
            plan = self.forward.class_of(subject)
            group = next(group for group in self.groups if group.plan is plan)
            known = self._ways[subject] = group, self.forward.partition(subject)
        return known

    def supply(self, lane: Lane, messages: Sequence[Stored], scanned_to: int) -> None:
        """Messages that were read for a lane."""
        if lane is self.notices:
            entries = [Entry(stored, stored.subject, self._weigh(stored)) for stored in messages]
            for entry in entries:
                entry.reason = ARRIVED if lane.is_known(entry.stored) else ""
        else:
            mine = [stored for stored in messages if self.lane_of(stored.seq, stored.subject) is lane]
            entries = [self._entry(lane, stored) for stored in mine]
        lane.supply(entries, scanned_to)
        self.changed = True
        self._look_for_events()

    def _look_for_events(self) -> None:
        """What is said about senders should not wait."""
        if any(sampler.events for group in self.groups for _, sampler in group.samplers):
            self.changed = self.soon = True

    def _weigh(self, stored: Stored) -> int:
        return self.size_of(len(stored.subject), len(stored.headers), len(stored.payload))

    def _entry(self, lane: Lane, stored: Stored) -> Entry:
        arrived = lane.is_known(stored)
        group = self.group_of(stored.subject)
        sampler = group.old_sampler if lane in group.old else group.sampler
        reason: str | None = ""
        if sampler.is_on:
            reason = lane.verdict(stored.seq)
            if reason is None:
                reason = sampler.judge(stored, arrived=arrived)
                if not arrived and sampler.samples and lane.was_passed(stored.seq):
                    reason = "sampled"  # a later one is at the hub: it was left out before
        return Entry(
            stored, self.destination(stored.subject), self._weigh(stored), ARRIVED if arrived else reason or ""
        )

    def destination(self, subject: bytes) -> bytes:
        """The subject at the hub."""
        for transform in self._transforms:
            moved = transform.apply(subject)
            if moved is not None:
                return moved
        return subject

    def stored(self, messages: Sequence[Stored], upto: int) -> None:
        """The local stream has more."""
        lanes = self.main_lanes
        if len(lanes) == 1 and not self.forward.filters and messages and messages[0].seq > lanes[0].memory.counted:
            size_of = self.size_of  # the plain case is counted in one go: publishers wait for this
            size = sum([size_of(len(one.subject), len(one.headers), len(one.payload)) for one in messages])
            lanes[0].count_many(messages[-1].seq, len(messages), size)
        else:
            for stored in messages:
                self.counted(stored.seq, stored.subject, self._weigh(stored))
        self._committed = upto
        for lane in self.main_lanes:
            lane.memory.counted = max(lane.memory.counted, upto)

    def counted(self, seq: int, subject: bytes, size: int) -> None:
        """A message of the local stream waits; each is told once, in order."""
        lane = self.lane_of(seq, subject)
        if lane is not None and seq > lane.position:
            lane.count(seq, size)

    def removed(self, seq: int, subject: bytes, size: int, time: int, reason: str) -> None:
        """A message left the local stream."""
        lane = self.lane_of(seq, subject)
        if lane is not None:
            lane.removed(seq, subject, size, time, reason)

    def cleared(self, last_seq: int) -> None:
        """Everything left the local stream."""
        for lane in self.main_lanes:
            memory = lane.memory
            if memory.backlog:
                self.tallies.add_many("purged", memory.backlog, memory.backlog_bytes, memory.position + 1, last_seq)
                self._tallied = True
                self.not_delivered["purged"] += memory.backlog
            lane.forget(last_seq)
        self.changed = self.soon = True

    # the link ----------------------------------------------------------------------------------------------------

    def link_up(self, now_ns: int, max_payload: int) -> None:
        for lane in self.lanes:
            lane.max_payload = max_payload
            lane.link_up(now_ns)

    def link_down(self) -> None:
        for lane in self.lanes:
            lane.link_down()

    def answer(self, rest: bytes, message: Message, now_ns: int) -> None:
        """Something came for `LANE.TOKEN`."""
        number, _, token = rest.partition(b".")
        if not (number.isdigit() and token.isdigit() and int(number) < len(self.lanes)):
            return
        lane = self.lanes[int(number)]
        before = lane.state
        lane.answer(int(token), message, now_ns)
        if before == "opening" and lane.state == "running":
            self._split(lane)

    def _split(self, lane: Lane) -> None:
        """Old messages of a class that prefers new ones go to their own lane, if they are more than a window."""
        for group in self.groups:
            if lane in group.lanes and group.plan.live_first and lane.memory.backlog > self.forward.window.messages:
                lane.hand_over(group.old[group.lanes.index(lane)], self._committed)
                self._keep_now()

    def take(self, now_ns: int) -> Iterator[tuple[Lane, Message]]:
        """What may go over the link now, up to a turn's worth."""
        for lane in self.lanes:
            while lane.out:
                yield lane, lane.out.popleft()
        self._deadline_ns = None
        self._turn += 1
        room = _Room(TURN_MESSAGES, TURN_BYTES)
        yield from self._take_from([self.notices], [], now_ns, room)
        for olds in (False, True):
            for group in self._by_priority:
                lanes = group.old if olds else group.lanes
                if lanes and self._is_open(group, now_ns):
                    yield from self._take_from(lanes, [self._meter, group.meter], now_ns, room)

    def _take_from(
        self, lanes: list[Lane], meters: list[Meter], now_ns: int, room: "_Room"
    ) -> Iterator[tuple[Lane, Message]]:
        """Lanes of one rank take turns."""
        shift = self._turn % len(lanes)
        going = lanes[shift:] + lanes[:shift]
        while going and room.messages > 0 and room.bytes > 0:
            for lane in list(going):
                size = lane.next_size(now_ns)
                ready_ns = max((meter.ready_ns(now_ns) for meter in meters), default=now_ns)
                if size is None or ready_ns > now_ns:
                    going.remove(lane)
                    if size is not None:
                        self._wake_at(ready_ns)
                    continue
                message = lane.send_next(now_ns)
                if message is not None:
                    room.messages, room.bytes = room.messages - 1, room.bytes - size
                    for meter in meters:
                        meter.take(size)
                    yield lane, message

    def _is_open(self, group: Group, now_ns: int) -> bool:
        if not group.plan.hours:
            return True
        day, minute = self._minute_of(now_ns)
        if is_open(group.plan.hours, day, minute):
            return True
        wait = minutes_until_open(group.plan.hours, day, minute) * MINUTE_NS
        self._wake_at(now_ns - now_ns % MINUTE_NS + wait)
        return False

    def _wake_at(self, when_ns: int) -> None:
        self._deadline_ns = min(self._deadline_ns or when_ns, when_ns)

    # time --------------------------------------------------------------------------------------------------------

    def next_deadline_ns(self) -> int | None:
        """When `on_time` and `take` should be called next."""
        every = [when for lane in self.lanes if (when := lane.next_deadline_ns()) is not None]
        if self._deadline_ns is not None:
            every.append(self._deadline_ns)
        if self._are_receipts_due:
            every.append(self._receipts_at)
        return min(every, default=None)

    @property
    def _are_receipts_due(self) -> bool:
        return bool(len(self.tallies)) and self.notices.state == "running"

    def on_time(self, now_ns: int) -> None:
        for lane in self.lanes:
            lane.on_time(now_ns)
        for group in self.groups:
            for _, sampler in group.samplers:
                sampler.look(now_ns)
                if sampler.changed:
                    self.changed = True
        self._look_for_events()
        if self._are_receipts_due and now_ns >= self._receipts_at:
            self.changed = self.soon = True

    # memory ------------------------------------------------------------------------------------------------------

    def take_notes(self, now_ns: int) -> Notes | None:
        """What changed since the last call; None: nothing."""
        if not self.changed:
            return None
        self.changed = self.urgent = self.soon = False
        rows: dict[str, bytes | None] = {f"lane.{lane.name}": lane.checkpoint().to_bytes() for lane in self.lanes}
        for lane in self.lanes:
            rows.update({f"orphan.{lane.name}:{seq}": row for seq, row in lane.orphans.take_rows()})
        for group in self.groups:
            for name, sampler in group.samplers:
                self._announce(sampler.take_events())
                rows.update({f"sender.{name}:{key}": row for key, row in sampler.take_rows()})
        if self._are_receipts_due and now_ns >= self._receipts_at:
            self._receipts_at = now_ns + self.forward.receipts_ns
            subject = f"{self.forward.control}.receipt".encode()
            receipts = self.tallies.take_receipts(self.forward.name, self.forward.stream)
            self._notices += [(subject, body) for body in receipts]
            self._tallied = True
        if self._tallied:
            self._tallied = False
            rows.update({f"tally.{key}": row for key, row in self.tallies.take_rows()})
            rows["totals"] = schema.encode(dict(self.not_delivered))
        notes = Notes(
            rows,
            self._notices,
            self._parked,
            self._delivered,
            self._told,
            {lane.name: lane.memory.reserved for lane in self.lanes},
        )
        self._notices, self._parked, self._delivered, self._told = [], [], [], []
        return notes

    def noted(self, notes: Notes) -> None:
        """They are on the disk."""
        for lane in self.lanes:
            lane.durable_reserved = max(lane.durable_reserved, notes.reserved.get(lane.name, 0))

    def _announce(self, events: list[Event]) -> None:
        for event in events:
            if self.notices.memory.backlog + len(self._notices) >= NOTICES_MAX:
                self.suppressed += 1
                continue
            body = {"forward": self.forward.name, **event.body}
            if event.kind == "aggregate":
                subject = self.destination(event.subject) + b".aggregate"
                body["subject"] = event.subject.decode(errors="replace")
            else:
                subject = f"{self.forward.control}.advisory.{event.kind}".encode()
            self._notices.append((subject, schema.encode(body)))


class _Room:
    """What is left of a turn."""

    def __init__(self, messages: int, size: int) -> None:
        self.messages = messages
        self.bytes = size
