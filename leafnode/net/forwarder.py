"""Drives forwards: reads local streams, gives messages to the link, brings answers back, keeps what must be.

One task for each forward; everything that decides is in `leafnode.forward`. A turn: attach to the streams, look at the
link, keep to budgets, read ahead, send, note what moved. What has to be in one commit with a change of the stream (a
message that was dropped, and its tally) is noted when the journal closes its batch.
"""

import asyncio
import contextlib
import datetime
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from leafnode.base import nuid
from leafnode.errors import ApiError
from leafnode.forward.flow import Flow, Notes
from leafnode.forward.lane import Lane
from leafnode.forward.plan import SECOND, Forward
from leafnode.net.budgets import Budgets
from leafnode.net.storage import Storage
from leafnode.route.account import Account, Link
from leafnode.route.leaf import Leaf
from leafnode.route.message import Message, Subscription
from leafnode.route.subject import matches
from leafnode.stream import reads, stream_rules
from leafnode.stream.jetstream import JetStream
from leafnode.stream.stored import Stored
from leafnode.stream.stream import Stream
from leafnode.stream.stream_config import StreamConfig

NOTE_SECONDS = 10.0  # between notes of how far it is, if nothing else is committed: a look at the hub tells the rest
DELETE_SECONDS = 1.0  # the same of forwards whose notes make room
JOIN_SECONDS = 0.5  # between notes in commits that happen anyway
FAILED_SECONDS = 5.0  # until a forward that failed begins anew
LOOK_SECONDS = 1.0  # between looks for a stream that does not exist yet, and at budgets
READ_MESSAGES = 256
OWN_STREAM_BYTES = 64 << 20  # of receipts that wait, and of parked messages
RATE_SECONDS = 2.0  # over which the shown rate is measured

log = logging.getLogger("leafnode.forward")


def instance_id(store_dir: str) -> str:
    """What tells this leafnode from another one of the same name: the machine and the folder of the store."""
    machine = b""
    for path in ("/etc/machine-id", "/sys/firmware/devicetree/base/serial-number", "/sys/class/dmi/id/product_uuid"):
        with contextlib.suppress(OSError):
            machine += Path(path).read_bytes()
    return hashlib.sha256(machine + b"\0" + str(Path(store_dir).resolve()).encode()).hexdigest()[:32]


def minute_of(now_ns: int) -> tuple[int, int]:
    """Day of the week and minute of the day, in the site's time zone."""
    local = datetime.datetime.fromtimestamp(now_ns / SECOND).astimezone()
    return local.weekday(), local.hour * 60 + local.minute


class Follower:
    """Hears of one stream; `on_stored` and so on are the forwarder's."""

    def __init__(self, forwarder: "Forwarder", stream: Stream, lanes: Callable[[], list[Lane]]) -> None:
        self.stream = stream
        self.lanes = lanes
        self.ids: tuple[int, ...] | None = None
        self._forwarder = forwarder
        self.is_counted = False
        stream.watchers.append(self)

    def close(self) -> None:
        self.stream.watchers.remove(self)

    def on_stored(self, messages: list[Stored], upto: int) -> None:
        if self.is_counted:
            self._forwarder.on_stored(self, messages, upto)
        self._forwarder.wake()

    def on_removed(self, seq: int, subject: bytes, size: int, time: int, reason: str) -> None:
        self._forwarder.on_removed(self, seq, subject, size, time, reason)

    def on_cleared(self) -> None:
        self._forwarder.on_cleared(self)


class Forwarder:
    """One forward. A sink for the hub's answers."""

    is_remote = False

    def __init__(
        self,
        forward: Forward,
        account: Account,
        jetstream_of: Callable[[str], JetStream | None],
        storage: Storage,
        *,
        instance: str,
        server: str,
        store_dir: str,
    ) -> None:
        self.forward = forward
        self.flow: Flow | None = None
        self.main: Follower | None = None
        self.notices: Follower | None = None
        self.link: Link | None = None
        self.trouble = ""
        """Why nothing goes, if that is not a lane's matter."""
        self.budgets = Budgets(forward, store_dir)
        self._jetstream_of = jetstream_of
        self._journal = storage.journal
        self._account = account
        self._storage = storage
        self._instance = instance
        self._server = server
        self._inbox = f"_INBOX.{nuid.new()}"
        self._round = 0  # of flows: answers to an earlier one mean nothing
        self._woken = asyncio.Event()
        self._api = f"{forward.to.api}.STREAM.INFO.{forward.to.stream}".encode()
        self._blinked = False  # interest in the hub's JetStream went, perhaps only for a moment
        self._reading: set[Lane] = set()
        self._counting = False
        self._storing = 0  # urgent notes on their way to the disk
        self._noted = 0.0
        self._pause = DELETE_SECONDS if forward.delete else NOTE_SECONDS  # between notes
        self._first: int | None = None  # where to begin, once it is looked up
        self._shown: dict[str, str] = {}  # by lane: what the log said last
        self._restoring: asyncio.Task[None] | None = None
        self._rate = 0.0
        self._measured: tuple[float, int] | None = None

    @property
    def _owner(self) -> str:
        return f"forward.{self._account.name}.{self.forward.name}"

    def wake(self) -> None:
        self._woken.set()

    @property
    def _jetstream(self) -> JetStream:
        """The account's; it is there while anything runs."""
        found = self._jetstream_of(self._account.name)
        assert found is not None
        return found

    async def run(self) -> None:
        """Until cancelled; what fails is in the log, and begun anew from what is on the disk."""
        while True:
            try:
                await self._run()
            except Exception:
                log.exception("forward %s failed and begins anew", self.forward.name)
                self.flow = self.link = None
            await asyncio.sleep(FAILED_SECONDS)

    async def _run(self) -> None:
        while self._jetstream_of(self._account.name) is None:  # of an account whose JWT is still to come
            self.trouble = f"account {self._account.name} has no JetStream"
            await asyncio.sleep(LOOK_SECONDS)
        await self._begin()
        subscription = Subscription(f"{self._inbox}.>".encode(), self)
        self._account.subscribe(subscription)
        self._account.interest_listeners.append(self._on_interest)
        self._journal.before_take.append(self._before_commit)
        try:
            while True:
                self._woken.clear()
                self._turn()
                await self._rest()
        except asyncio.CancelledError:
            self._note()
            raise
        finally:
            self._journal.before_take.remove(self._before_commit)
            self._account.interest_listeners.remove(self._on_interest)
            self._account.unsubscribe(subscription)
            self._let_go()

    async def _begin(self) -> None:
        """From the rows on the disk."""
        rows = await self._storage.notes(self._owner)
        self._round += 1
        self._storing, self._counting = 0, False
        self._reading.clear()
        self.flow = Flow(
            self.forward,
            rows,
            instance=self._instance,
            server=self._server,
            inbox=f"{self._inbox}.{self._round}",
            new_id=nuid.new,
            minute_of=minute_of,
        )

    async def _rest(self) -> None:
        assert self.flow is not None
        if self._woken.is_set():
            await asyncio.sleep(0)
            return
        seconds = LOOK_SECONDS
        deadline = self.flow.next_deadline_ns()
        if deadline is not None:
            seconds = min(seconds, max(0.0, (deadline - time.time_ns()) / SECOND))
        if self.flow.changed:
            seconds = min(seconds, max(0.0, self._noted + self._pause - time.monotonic()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    def _turn(self) -> None:
        flow, now = self.flow, time.time_ns()
        if flow is None or not self._attach(flow):
            return
        assert self.main is not None
        self._look_at_link(flow, now)
        self._measure(flow)
        flow.on_time(now)
        if self.main.is_counted:
            self.budgets.keep_to(flow, self.main.stream)
        else:
            self._count(flow, self.main)
        if flow.urgent or flow.soon or (flow.changed and time.monotonic() >= self._noted + self._pause):
            self._note()
        for follower in (self.main, self.notices):
            if follower is not None:
                self._read(flow, follower)
        if not self._storing:
            self._send(flow, now)
        self._say(flow)

    # streams -----------------------------------------------------------------------------------------------------

    def _attach(self, flow: Flow) -> bool:
        """Whether there is a stream to read, and it is known where to begin."""
        stream = self._jetstream.streams.get(self.forward.stream)
        if self.main is not None and stream is not self.main.stream:
            self._let_go()
        if stream is None:
            self.trouble = f"there is no stream {self.forward.stream}"
            return False
        if flow.needs_start(stream.created):
            start = self._start(stream)
            if start is None:
                return False
            flow.attach(stream.created, start)
        if self.main is None:
            flow.size_of = stream.size_of
            self.main = Follower(self, stream, lambda: flow.main_lanes)
            self.budgets.attach(flow, stream)
        self._attach_notices(flow)
        self.trouble = ""
        return True

    def _attach_notices(self, flow: Flow) -> None:
        stream = self._jetstream.streams.get(self.forward.notices)
        if self.notices is not None and stream is not self.notices.stream:
            self.notices.close()
            self.notices = None
        if stream is not None and self.notices is None:
            flow.attach_notices(stream.created)
            self.notices = Follower(self, stream, lambda: [flow.notices])
            self.notices.is_counted = True
            flow.notices.memory.counted = max(flow.notices.memory.counted, flow.notices.position)

    def _let_go(self) -> None:
        for follower in (self.main, self.notices):
            if follower is not None:
                follower.close()
        if self.main is not None:
            self.budgets.detach(self.main.stream)
        self.main = self.notices = self._first = None

    def _own_stream(self, name: str) -> Stream:
        """A stream of the forward itself, made when it is missing. Raises ApiError when it cannot be."""
        found = self._jetstream.streams.get(name)
        if found is not None:
            return found
        config = StreamConfig(name=name, subjects=[f"$FWD.local.{name}"], max_bytes=OWN_STREAM_BYTES)
        return self._jetstream.create_stream(stream_rules.accept(config, self._jetstream.around.limits))

    def _start(self, stream: Stream) -> int | None:
        """The sequence behind which a forward without a position begins; None: it is being looked up."""
        start = self.forward.start
        match start.policy:
            case "new":
                return stream.committed
            case "sequence":
                return start.sequence - 1
            case "time" if self._first is None:
                self._first = -1

                def found(seq: int) -> None:
                    self._first = (seq or stream.committed + 1) - 1
                    self.wake()

                stream.around.reads.ask(reads.FirstAt(stream.id, start.time_ns, found))
                return None
            case "time":
                return self._first if self._first is not None and self._first >= 0 else None
        return 0

    def on_stored(self, follower: Follower, messages: list[Stored], upto: int) -> None:
        if self.flow is None:
            return
        if follower is self.main:
            self.flow.stored(messages, upto)
        else:
            for stored in messages:
                self.flow.notices.count(stored.seq, follower.stream.size_of_stored(stored))

    def on_removed(self, follower: Follower, seq: int, subject: bytes, size: int, time: int, reason: str) -> None:
        if self.flow is None:
            return
        if follower is self.main:
            self.flow.removed(seq, subject, size, time, reason)
        elif seq > self.flow.notices.position:
            self.flow.notices.removed(seq, subject, size, time, reason)

    def on_cleared(self, follower: Follower) -> None:
        if self.flow is not None and follower is self.main:
            self.flow.cleared(follower.stream.contents.last_seq)

    # reading -----------------------------------------------------------------------------------------------------

    def _count(self, flow: Flow, main: Follower) -> None:
        """How much waits, of what was stored while nobody counted."""
        stream = main.stream
        after = min(lane.memory.counted for lane in flow.main_lanes)
        if after >= stream.committed:
            main.is_counted = True
            flow.stored((), stream.committed)
            return
        if self._counting:
            return
        self._counting = True
        stream.recall.started()

        def found(answer: reads.Metas) -> None:
            stream.recall.finished()
            self._counting = False
            self.wake()
            if self.flow is not flow or self.main is not main:
                return
            for meta in answer.metas:
                if not stream.contents.is_gone(meta.seq):
                    flow.counted(meta.seq, meta.subject, stream.size_of(len(meta.subject), meta.headers, meta.payload))
            for lane in flow.main_lanes:
                lane.memory.counted = max(lane.memory.counted, answer.scanned_to)

        stream.around.reads.ask(reads.Weights(stream.id, after, stream.committed, None, found))

    def _read(self, flow: Flow, follower: Follower) -> None:
        for lane in follower.lanes():
            if lane.wants and lane not in self._reading and lane.read_to < lane.read_limit(follower.stream.committed):
                self._read_for(flow, lane, follower.stream)

    def _read_for(self, flow: Flow, lane: Lane, stream: Stream) -> None:
        upto = lane.read_limit(stream.committed)
        after = max(lane.read_to, min(stream.contents.first_seq - 1, upto))
        if after >= stream.shelf.floor:
            upto = min(upto, after + READ_MESSAGES)
            flow.supply(lane, list(stream.shelf.after(after, upto)), upto)
            self.wake()
            return
        created, recall = stream.created, stream.recall
        self._reading.add(lane)
        recall.started()

        def found(rows: reads.Rows) -> None:
            recall.finished()
            self._reading.discard(lane)
            self.wake()
            if self.flow is flow and lane.memory.created == created and lane.read_to <= after:
                kept = [stored for stored in rows.messages if not stream.contents.is_gone(stored.seq)]
                flow.supply(lane, kept, rows.scanned_to)

        stream.around.reads.ask(reads.Messages(stream.id, after, upto, self._ids(lane, stream), found, READ_MESSAGES))

    def _ids(self, lane: Lane, stream: Stream) -> tuple[int, ...] | None:
        """The subjects that a lane can have, where that is narrower than all."""
        assert self.flow is not None
        if lane is self.flow.notices:
            return None
        wanted: Sequence[str] = self.forward.filters
        for group in self.flow.groups:
            if group.plan.subjects and lane in (*group.lanes, *group.old):
                wanted = group.plan.subjects
        return stream.subject_ids([one.encode() for one in wanted])

    # the link ----------------------------------------------------------------------------------------------------

    def _on_interest(self, sub: Subscription, added: bool) -> None:
        if sub.sink.is_remote and matches(sub.subject, self._api):
            self._blinked = self._blinked or not added
            self.wake()

    def _look_at_link(self, flow: Flow, now: int) -> None:
        """Follow the way to the hub: it may be over several links."""
        links = self._account.match(self._api).links
        link = next((one for one in links if isinstance(one, Leaf) and not one.accepted and not one.closing), None)
        blinked, self._blinked = self._blinked, False
        if link is self.link and not blinked:
            return
        if self.link is not None:
            flow.link_down()
        self.link = link
        if link is not None:
            flow.link_up(now, link.max_payload)

    def _send(self, flow: Flow, now: int) -> None:
        link = self.link
        if not isinstance(link, Leaf):
            return
        sent = False
        for lane, message in flow.take(now):
            sent = True
            if not link.send(message):
                lane.refuse_sent(message.reply, "the link may not carry the subject")
            if flow.urgent:
                break
        if sent or flow.urgent or flow.soon:
            self.wake()

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        """An answer of the hub."""
        number, _, rest = to[len(self._inbox) + 1 :].partition(b".")
        if self.flow is not None and number == b"%d" % self._round:
            self.flow.answer(rest, message, time.time_ns())
            self.wake()
        return True

    # memory ------------------------------------------------------------------------------------------------------

    def _before_commit(self) -> None:
        """A batch is closed: what was counted because of its changes belongs into it."""
        flow = self.flow
        if flow is not None and (flow.soon or (flow.changed and time.monotonic() >= self._noted + JOIN_SECONDS)):
            self._note()

    def _note(self) -> None:
        """Keep what moved; while something urgent is on its way to the disk, nothing is sent."""
        flow = self.flow
        if flow is None:
            return
        is_urgent = flow.urgent
        notes = flow.take_notes(time.time_ns())
        if notes is None:
            return
        self._noted = time.monotonic()
        self._storing += is_urgent
        try:
            self._keep(notes)
        except ApiError as error:
            log.error("forward %s: cannot keep receipts or parked messages: %s", self.forward.name, error)
        self._journal.note(self._owner, notes.rows)
        self._journal.after(lambda failure: self._on_noted(flow, notes, failure, is_urgent=is_urgent))

    def _keep(self, notes: Notes) -> None:
        """Raises ApiError when there is no stream for them."""
        now = time.time_ns()
        for subject, body in notes.notices:
            self._own_stream(self.forward.notices).keep(subject, b"", b"", body, now)
        for stored in notes.parked:
            self._own_stream(self.forward.parked).keep(stored.subject, b"", stored.headers, stored.payload, now)
        if self.notices is not None:
            for seq in notes.told:
                self.notices.stream.retention.settled(seq)
        if self.main is not None:
            for seq in notes.delivered:
                self.main.stream.retention.settled(seq)

    def _on_noted(self, flow: Flow, notes: Notes, failure: str, *, is_urgent: bool) -> None:
        self.wake()
        if self.flow is not flow:
            return
        self._storing -= is_urgent
        if not failure:
            flow.noted(notes)
        else:  # the disk does not have what this flow believes
            self.flow = self.link = None
            self._let_go()
            self._restoring = asyncio.ensure_future(self._restore())

    async def _restore(self) -> None:
        await asyncio.sleep(LOOK_SECONDS)
        await self._begin()
        self.wake()

    # what is seen ------------------------------------------------------------------------------------------------

    def _say(self, flow: Flow) -> None:
        """One line when a lane begins to run and when it may not."""
        for lane in flow.lanes:
            said = f"{lane.state} {lane.reason}" if lane.state in ("refused", "running") else ""
            if not said or self._shown.get(lane.name) == said:
                continue
            self._shown[lane.name] = said
            where = f"forward {self.forward.name}/{lane.name} to {self.forward.to.stream}@{self.forward.to.domain}"
            if lane.state == "refused":
                log.error("%s does not run: %s", where, lane.reason)
            else:
                log.info("%s runs behind sequence %d", where, lane.position)

    def rate(self) -> float:
        """Messages that the hub took in a second, of late."""
        return self._rate

    def _measure(self, flow: Flow) -> None:
        now = time.monotonic()
        then, before = self._measured or (now, 0)
        if self._measured is not None and now - then < RATE_SECONDS:
            return
        delivered = sum(lane.memory.delivered for lane in flow.main_lanes)
        if self._measured is not None:
            self._rate = max(0, delivered - before) / (now - then)
        self._measured = (now, delivered)

    def oldest_ns(self, lane: Lane) -> int | None:
        """When the stream took the oldest message that waits in a lane; None: not known without the disk."""
        if lane.oldest_ns is not None or self.main is None:
            return lane.oldest_ns
        stream = self.main.stream
        behind = lane.position
        weight = next((weight for seq, weight in stream.contents.head.items() if seq > behind), None)
        if weight is not None:
            return weight.time
        stored = next(stream.shelf.after(max(behind, stream.shelf.floor), stream.committed), None)
        return stored.time if stored is not None else None


class Forwarders:
    """All forwards of the broker."""

    def __init__(self) -> None:
        self.all: list[Forwarder] = []
        self._tasks: list[asyncio.Task[None]] = []

    def start(
        self,
        forwards: Sequence[Forward],
        account_of: Callable[[str], Account | None],
        jetstream_of: Callable[[str], JetStream | None],
        storage: Storage,
        *,
        store_dir: str,
        server: str,
    ) -> None:
        """Each in a task of its own; the functions find an account and its JetStream."""
        instance = instance_id(store_dir)
        for forward in forwards:
            account = account_of(forward.account)
            if account is None:
                log.error("forward %s: there is no account %s", forward.name, forward.account)
                continue
            one = Forwarder(
                forward, account, jetstream_of, storage, instance=instance, server=server, store_dir=store_dir
            )
            self.all.append(one)
            self._tasks.append(asyncio.create_task(one.run(), name=f"forward {forward.name}"))

    async def stop(self) -> None:
        """How far they are is in the journal then."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self.all.clear()
