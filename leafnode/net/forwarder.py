"""Drives forwards: reads local streams, gives messages to the link, brings answers back, keeps what must be.

One task for each forward; everything that decides is in `leafnode.forward`. A turn: attach to the stream, look at the
link, read ahead, send, note what moved.
"""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from leafnode.base import nuid
from leafnode.forward.flow import Flow
from leafnode.forward.lane import Lane
from leafnode.forward.plan import Forward
from leafnode.net.storage import Storage
from leafnode.route.account import Account, Link
from leafnode.route.leaf import Leaf
from leafnode.route.message import Message, Subscription
from leafnode.route.subject import matches
from leafnode.stream import reads
from leafnode.stream.jetstream import JetStream
from leafnode.stream.stream import Stream

NOTE_SECONDS = 0.5  # between notes of how far it is: what a look at the hub costs at most after a crash
LOOK_SECONDS = 1.0  # between looks for a stream that does not exist yet
READ_MESSAGES = 256

log = logging.getLogger("leafnode.forward")


def instance_id(store_dir: str) -> str:
    """What tells this leafnode from another one of the same name: the machine and the folder of the store."""
    machine = b""
    for path in ("/etc/machine-id", "/sys/firmware/devicetree/base/serial-number", "/sys/class/dmi/id/product_uuid"):
        with contextlib.suppress(OSError):
            machine += Path(path).read_bytes()
    return hashlib.sha256(machine + b"\0" + str(Path(store_dir).resolve()).encode()).hexdigest()[:32]


class Forwarder:
    """One forward. A sink for the hub's answers."""

    is_remote = False

    def __init__(self, forward: Forward, jetstream: JetStream, storage: Storage, *, instance: str, server: str) -> None:
        self.forward = forward
        self.flow: Flow
        self.stream: Stream | None = None
        self.link: Link | None = None
        self._jetstream = jetstream
        self._account: Account = jetstream.around.account
        self._storage = storage
        self._instance = instance
        self._server = server
        self._inbox = f"_INBOX.{nuid.new()}"
        self._wake = asyncio.Event()
        self._api = f"{forward.to.api}.STREAM.INFO.{forward.to.stream}".encode()
        self._blinked = False  # interest in the hub's JetStream came or went
        self._reading: set[Lane] = set()
        self._storing = False
        self._noted = 0.0
        self._start: int | None = None  # where to begin, once it is looked up
        self._shown: dict[str, str] = {}  # by lane: what the log said last

    @property
    def _owner(self) -> str:
        return f"forward.{self._account.name}.{self.forward.name}"

    async def run(self) -> None:
        """Until cancelled; then notes how far it is."""
        rows = await self._storage.notes(self._owner)
        self.flow = Flow(
            self.forward, rows, instance=self._instance, server=self._server, inbox=self._inbox, new_id=nuid.new
        )
        subscription = Subscription(f"{self._inbox}.>".encode(), self)
        self._account.subscribe(subscription)
        self._account.interest_listeners.append(self._on_interest)
        try:
            while True:
                self._wake.clear()
                self._turn()
                await self._rest()
        finally:
            self._account.interest_listeners.remove(self._on_interest)
            self._account.unsubscribe(subscription)
            self._follow(None)
            self._note()

    async def _rest(self) -> None:
        if self._wake.is_set():
            await asyncio.sleep(0)
            return
        now = time.time_ns()
        seconds = LOOK_SECONDS
        deadline = self.flow.next_deadline_ns()
        if deadline is not None:
            seconds = min(seconds, max(0.0, (deadline - now) / 1e9))
        if self.flow.changed:
            seconds = min(seconds, max(0.0, self._noted + NOTE_SECONDS - time.monotonic()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _turn(self) -> None:
        now = time.time_ns()
        if not self._attach():
            return
        self._look_at_link(now)
        self.flow.on_time(now)
        if self.flow.urgent or (self.flow.changed and time.monotonic() >= self._noted + NOTE_SECONDS):
            self._note()
        self._read()
        if not self._storing:
            self._send(now)
        self._say()

    # the stream --------------------------------------------------------------------------------------------------

    def _attach(self) -> bool:
        """Whether there is a stream to read, and it is known where to begin."""
        stream = self._jetstream.streams.get(self.forward.stream)
        if stream is not self.stream:
            self._follow(stream)
        if stream is None:
            return False
        if self.flow.needs_start(stream.created):
            start = self._first(stream)
            if start is None:
                return False
            self.flow.attach(stream.created, start)
        return True

    def _follow(self, stream: Stream | None) -> None:
        if self.stream is not None:
            self.stream.followers.remove(self._wake.set)
        self.stream, self._start = stream, None
        if stream is not None:
            stream.followers.append(self._wake.set)

    def _first(self, stream: Stream) -> int | None:
        """The sequence behind which a forward without a position begins; None: it is being looked up."""
        start = self.forward.start
        match start.policy:
            case "new":
                return stream.committed
            case "sequence":
                return start.sequence - 1
            case "time" if self._start is None:
                self._start = -1

                def found(seq: int) -> None:
                    self._start = (seq or stream.committed + 1) - 1
                    self._wake.set()

                stream.around.reads.ask(reads.FirstAt(stream.id, start.time_ns, found))
                return None
            case "time":
                return self._start if self._start is not None and self._start >= 0 else None
        return 0

    def _read(self) -> None:
        stream = self.stream
        assert stream is not None
        for lane in self.flow.lanes:
            if lane.wants and lane not in self._reading and lane.read_to < stream.committed:
                self._read_for(lane, stream)

    def _read_for(self, lane: Lane, stream: Stream) -> None:
        after, upto = max(lane.read_to, stream.contents.first_seq - 1), stream.committed
        if after >= stream.shelf.floor:
            upto = min(upto, after + READ_MESSAGES)
            self.flow.supply(lane, list(stream.shelf.after(after, upto)), upto)
            self._wake.set()
            return
        created, recall = stream.created, stream.recall
        self._reading.add(lane)
        recall.started()

        def found(rows: reads.Rows) -> None:
            recall.finished()
            self._reading.discard(lane)
            self._wake.set()
            if lane.memory.created == created and lane.read_to <= after:
                kept = [stored for stored in rows.messages if not stream.contents.is_gone(stored.seq)]
                self.flow.supply(lane, kept, rows.scanned_to)

        stream.around.reads.ask(reads.Messages(stream.id, after, upto, self._ids(stream), found, READ_MESSAGES))

    def _ids(self, stream: Stream) -> tuple[int, ...] | None:
        return stream.subject_ids([one.encode() for one in self.forward.filters])

    # the link ----------------------------------------------------------------------------------------------------

    def _on_interest(self, sub: Subscription, added: bool) -> None:
        if sub.sink.is_remote and matches(sub.subject, self._api):
            self._blinked = self._blinked or not added
            self._wake.set()

    def _look_at_link(self, now: int) -> None:
        """Follow the way to the hub: it may be over several links."""
        links = self._account.match(self._api).links
        link = next((one for one in links if isinstance(one, Leaf) and not one.accepted and not one.closing), None)
        blinked, self._blinked = self._blinked, False
        if link is self.link and not blinked:
            return
        if self.link is not None:
            self.flow.link_down()
        self.link = link
        if link is not None:
            self.flow.link_up(now, link.max_payload)

    def _send(self, now: int) -> None:
        link = self.link
        if not isinstance(link, Leaf):
            return
        sent = False
        for lane, message in self.flow.take(now):
            sent = True
            if not link.send(message):
                lane.refuse_sent(message.reply, "the link may not carry the subject")
            if self.flow.urgent:
                break
        if sent:
            self._wake.set()

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        """An answer of the hub."""
        self.flow.answer(to[len(self._inbox) + 1 :], message, time.time_ns())
        self._wake.set()
        return True

    # memory ------------------------------------------------------------------------------------------------------

    def _note(self) -> None:
        """Keep what moved; while something urgent is on its way to the disk, nothing is sent."""
        if self._storing:
            return
        urgent = self.flow.urgent
        rows = self.flow.take_rows()
        if not rows:
            return
        self._noted = time.monotonic()
        self._storing = urgent
        self._jetstream.around.journal.note(self._owner, dict(rows))
        self._jetstream.around.journal.after(self._on_noted)

    def _on_noted(self, failure: str) -> None:
        self._storing = False
        self._wake.set()
        if failure:
            self._restoring = asyncio.ensure_future(self._restore())

    async def _restore(self) -> None:
        self.flow.rewind(await self._storage.notes(self._owner), time.time_ns())
        self._wake.set()

    # the log -----------------------------------------------------------------------------------------------------

    def _say(self) -> None:
        """One line when a lane begins to run and when it may not."""
        for lane in self.flow.lanes:
            said = f"{lane.state} {lane.reason}" if lane.state in ("refused", "running") else ""
            if not said or self._shown.get(lane.name) == said:
                continue
            self._shown[lane.name] = said
            where = f"forward {self.forward.name}/{lane.name} to {self.forward.to.stream}@{self.forward.to.domain}"
            if lane.state == "refused":
                log.error("%s does not run: %s", where, lane.reason)
            else:
                log.info("%s runs from sequence %d of %s", where, lane.position + 1, self.forward.stream)


class Forwarders:
    """All forwards of the broker."""

    def __init__(self) -> None:
        self.all: list[Forwarder] = []
        self._tasks: list[asyncio.Task[None]] = []

    def start(
        self,
        forwards: Sequence[Forward],
        jetstream_of: Callable[[str], JetStream | None],
        storage: Storage,
        *,
        store_dir: str,
        server: str,
    ) -> None:
        """Each in a task of its own; `jetstream_of` finds an account's JetStream."""
        instance = instance_id(store_dir)
        for forward in forwards:
            jetstream = jetstream_of(forward.account)
            assert jetstream is not None  # the configuration was checked
            one = Forwarder(forward, jetstream, storage, instance=instance, server=server)
            self.all.append(one)
            self._tasks.append(asyncio.create_task(one.run(), name=f"forward {forward.name}"))

    async def stop(self) -> None:
        """How far they are is in the journal then."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
