"""Takes batches from the journal to the disk, one at a time, and back; waits for space while the disk refuses.

    journal wakes us      at the end of the turn the batch goes to the writer's thread
    the thread is done    the batch is confirmed in that very turn, and what gathered meanwhile is the next batch
    the disk refuses      the batch is given back, file streams take nothing more until the reserve could be taken again

Callbacks, not a task: an acknowledgement waits for two turns of the loop fewer.
"""

import asyncio
import contextlib
import logging
from functools import partial

from leafnode.errors import DamagedError, StoreError
from leafnode.store.memory import MemoryStore
from leafnode.store.reserve import Reserve
from leafnode.store.sqlite import SqliteStore
from leafnode.stream.jetstream import JetStream
from leafnode.stream.journal import Batch, Journal
from leafnode.stream.stream import Stream

log = logging.getLogger(__name__)

NO_SPACE = "insufficient resources: the disk is full"
LATER_SECONDS = 0.25  # positions of consumers that need not be kept at once wait so long for company
LOOK_SECONDS = 2.0  # after a commit, whether removed messages left much space in the file
SHRINK_PAUSE_SECONDS = 0.01  # between two steps that give it back: publishers have the disk meanwhile
RETRY_SECONDS = 1.0  # between attempts to write, and to find space, while the disk refuses


class Commits:
    """One for the broker: there is one writer."""

    def __init__(
        self, journal: Journal, disk: SqliteStore, memory: MemoryStore, reserve: Reserve, jetstreams: list[JetStream]
    ) -> None:
        self._journal = journal
        self._disk = disk
        self._memory = memory
        self._reserve = reserve
        self._jetstreams = jetstreams
        self._loop = asyncio.get_running_loop()
        self._due = False  # a batch is taken at the end of this turn
        self._busy = False  # a batch is in the writer's thread
        self._refused: tuple[Batch, StoreError] | None = None
        self._broken: BaseException | None = None
        self._trouble = asyncio.Event()
        self._idle = asyncio.Event()
        self._log_grew = asyncio.Event()
        self._stored = asyncio.Event()  # something, since it was last looked for free space in the file
        self.is_full = False
        self.write_failures = 0  # commits that the disk refused, since the start
        journal.wake = self._begin_soon
        journal.wake_later = self._begin_later

    @property
    def trouble(self) -> str:
        """Why messages are refused now; empty: they are not."""
        return NO_SPACE if self.is_full else ""

    def take_reserve(self) -> bool:
        """At the start: whether there is space at all."""
        self.is_full = not self._reserve.take()
        return not self.is_full

    # the usual way -----------------------------------------------------------------------------------------------

    def _begin_soon(self) -> None:
        if not (self._due or self._busy):
            self._due = True
            self._loop.call_soon(self._begin)

    def _begin_later(self) -> None:
        self._loop.call_later(LATER_SECONDS, self._begin_soon)

    def _begin(self) -> None:
        """Take what has gathered."""
        self._due = False
        if self._busy or self._refused or self._broken:
            return
        try:
            batch = self._journal.take()
            if batch is None:
                self._idle.set()
            elif batch.catalog or batch.notes or _touches_disk(batch):
                self._busy = True
                self._disk.submit(batch, partial(self._ended, batch))
            else:
                self._keep(batch)
                self._begin_soon()
        except Exception as error:
            self._break(error)

    def _ended(self, batch: Batch, error: StoreError | None) -> None:
        """The writer's thread is done with a batch."""
        self._busy = False
        if isinstance(error, DamagedError):
            self._break(error)
            return
        if error is not None:
            self._refused = batch, error
            self._trouble.set()
            return
        try:
            self._keep(batch)
        except Exception as fault:
            self._break(fault)
            return
        self._begin()
        self._stored.set()
        if self._disk.wants_checkpoint():
            self._log_grew.set()

    def _keep(self, batch: Batch) -> None:
        self._memory.apply(batch)
        self._journal.confirm(batch)

    def _break(self, error: BaseException) -> None:
        """A fault of ours: `run` raises it, and the broker ends rather than taking what it cannot keep."""
        self._broken = error
        self._trouble.set()
        self._idle.set()

    async def drain(self) -> None:
        """Return when nothing waits any more, or the disk refuses it."""
        while not (self._refused or self._broken):
            self._idle.clear()
            self._begin_soon()
            if not self._busy and self._journal.is_idle:
                return
            waits = [asyncio.create_task(self._idle.wait()), asyncio.create_task(self._trouble.wait())]
            _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in pending:
                wait.cancel()

    # when the disk refuses ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Checkpoints and what goes wrong, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._checkpoint_forever(), name="checkpointer")
            group.create_task(self._recover_forever(), name="recovery")
            group.create_task(self._shrink_forever(), name="shrinking")

    async def _checkpoint_forever(self) -> None:
        while True:
            await self._log_grew.wait()
            await self._disk.checkpoint()
            self._log_grew.clear()
            if not self.is_full and self._reserve.is_short():
                log.error("store leaves less free than min_free_store and refuses messages")
                self._hold()

    async def _shrink_forever(self) -> None:
        while True:
            await self._stored.wait()
            await asyncio.sleep(LOOK_SECONDS)
            self._stored.clear()
            shrunk = False
            while not (self.is_full or self._refused) and await self._disk.shrink():
                shrunk = True
                if self._disk.wants_checkpoint():
                    self._log_grew.set()
                await asyncio.sleep(SHRINK_PAUSE_SECONDS)
            if shrunk:
                self._log_grew.set()

    async def _recover_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):  # while the disk is full, look again for space
                async with asyncio.timeout(RETRY_SECONDS if self.is_full else None):
                    await self._trouble.wait()
            self._trouble.clear()
            if self._broken is not None:
                raise self._broken
            if self._refused is not None:
                await self._give_back(*self._refused)
                await asyncio.sleep(RETRY_SECONDS)
                self._refused = None
            elif self.is_full:
                await self._look_for_space()
            self._begin_soon()

    async def _give_back(self, batch: Batch, error: StoreError) -> None:
        self.write_failures += 1
        if not self.is_full:
            log.error("store refuses messages error=%s", error)
        await asyncio.to_thread(self._reserve.release)
        await self._disk.shorten()
        self._hold()
        for stream in self._journal.fail(batch, str(error)):
            await self._restore(stream)

    def _hold(self) -> None:
        self.is_full = True
        for jetstream in self._jetstreams:
            jetstream.hold(NO_SPACE)
        self._trouble.set()  # from now on space is looked for

    async def _restore(self, stream: Stream) -> None:
        store = self._memory if self._memory.holds(stream.id) else self._disk
        loaded = await store.load_contents(stream.id)
        for jetstream in self._jetstreams:
            if jetstream.owns(stream):
                jetstream.restore(stream, loaded)

    async def _look_for_space(self) -> None:
        """Messages are taken again when the reserve is."""
        if self._busy:
            return
        await self._disk.reclaim()
        if not await asyncio.to_thread(self._reserve.take):
            return
        self.is_full = False
        log.warning("store takes messages again")
        for jetstream in self._jetstreams:
            jetstream.hold("")


def _touches_disk(batch: Batch) -> bool:
    return any(changes.stream.config.storage != "memory" for changes in batch.streams.values()) or any(
        changes.consumer.is_kept for changes in batch.consumers.values()
    )
