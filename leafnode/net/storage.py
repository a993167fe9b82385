"""Drives the stores for every JetStream of the broker: one writer, one reader, one timer.

    storage = await Storage.open(store_dir, now_ns=time.time_ns, new_id=nuid.new)
    js = await storage.attach(account, domain="leaf", server_name="site-7", limits=Limits())
    group.create_task(storage.run(), name="storage")     # until cancelled; it commits what is left on its way out
    ...
    await storage.close()                                 # after run() has ended

`storage.full` tells connections to stop reading publishers; `storage.on_room` is called when they may go on.
`js.on_link_up()` is for the uplink. Nothing here decides: batches, questions and deadlines come from the core.
"""

import asyncio
import itertools
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leafnode.base import files, nuid
from leafnode.base.sqlite import Synchronous
from leafnode.errors import StoreError
from leafnode.net.commits import Commits
from leafnode.route.account import Account
from leafnode.store import FILE_NAME, LOCK_NAME, RESERVE_NAME
from leafnode.store.base import Damaged
from leafnode.store.memory import MemoryStore
from leafnode.store.reserve import Reserve
from leafnode.store.sqlite import SqliteStore
from leafnode.stream.jetstream import JetStream
from leafnode.stream.journal import DropStream, Journal
from leafnode.stream.loaded import LoadedStream
from leafnode.stream.surroundings import Limits, Surroundings

log = logging.getLogger(__name__)

SLEEP_SECONDS = 5.0  # a timer's longest sleep: a clock that was set forward is noticed after it


class Storage:
    """One for the broker."""

    def __init__(
        self,
        disk: SqliteStore,
        reserve: Reserve,
        lock: int,
        journal: Journal,
        now_ns: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        self._disk = disk
        self._lock = lock
        self._memory = MemoryStore()
        self._now_ns = now_ns
        self._new_id = new_id
        self._loaded: list[LoadedStream] = []
        self._is_loaded_of_the_past = False  # streams were changed by a JetStream that may come back
        self._jetstreams: list[JetStream] = []
        self._questions = asyncio.Event()
        self._deadline = asyncio.Event()
        self.damaged_messages = 0  # found damaged since the start, and taken out of their streams
        self.journal = journal
        self._commits = Commits(self.journal, disk, self._memory, reserve, self._jetstreams)

    @classmethod
    async def open(
        cls,
        store_dir: Path,
        *,
        journal: Journal | None = None,
        synchronous: Synchronous = "FULL",
        min_free: int = 0,
        now_ns: Callable[[], int] = time.time_ns,
        new_id: Callable[[], str] = nuid.new,
    ) -> "Storage":
        """Open or create the file in a folder. `journal`: one with bounds of its own; `min_free`: bytes of
        the file system that are left free.

        Raises:
            StoreError: it cannot be used; says why and what to do.
        """
        _make(store_dir)
        lock = _hold(store_dir)
        try:
            disk = await SqliteStore.open(store_dir / FILE_NAME, synchronous=synchronous)
        except BaseException:
            os.close(lock)
            raise
        storage = cls(
            disk, Reserve(store_dir / RESERVE_NAME, min_free=min_free), lock, journal or Journal(), now_ns, new_id
        )
        if not storage._commits.take_reserve():
            log.error("store has no space left and refuses messages folder=%s", store_dir)
        storage._loaded, disk.loaded = disk.loaded, []
        last_stream = max((stream.id for stream in storage._loaded), default=0)
        last_consumer = max((row.id for stream in storage._loaded for row in stream.consumers), default=0)
        storage.journal.stream_ids = itertools.count(last_stream + 1)
        storage.journal.consumer_ids = itertools.count(last_consumer + 1)
        return storage

    async def attach(
        self, account: Account, *, domain: str = "", server_name: str = "leafnode", limits: Limits | None = None
    ) -> JetStream:
        """JetStream for an account, with the streams and consumers that the file has for it."""
        around = Surroundings(
            account=account,
            journal=self.journal,
            now_ns=self._now_ns,
            new_id=self._new_id,
            domain=domain,
            server_name=server_name,
            limits=limits or Limits(),
        )
        if self._is_loaded_of_the_past:
            self._loaded = await self._disk.load()
        around.reads.wake = self._questions.set
        around.timers.wake = self._deadline.set
        jetstream = JetStream(around)
        self._jetstreams.append(jetstream)
        mine = [stream for stream in self._loaded if stream.account == account.name]
        self._loaded = [stream for stream in self._loaded if stream.account != account.name]  # rows weigh as much again
        jetstream.open(mine)
        while await self._answer():
            pass
        if self.trouble:
            jetstream.hold(self.trouble)
        return jetstream

    async def notes(self, owner: str) -> dict[str, bytes]:
        """What a part of the broker keeps for itself (`Journal.note`), as it is on the disk."""
        return await self._disk.notes(owner)

    async def detach(self, jetstream: JetStream) -> None:
        """JetStream is taken from its account: what was accepted is kept, but for streams in memory, which end."""
        jetstream.close()
        for stream in jetstream.streams.values():
            if stream.config.storage == "memory":
                self.journal.catalog(DropStream(stream.id))
        written = asyncio.get_running_loop().create_future()
        self.journal.after(written.set_result)
        await written
        self._jetstreams.remove(jetstream)
        self._is_loaded_of_the_past = True

    @property
    def full(self) -> bool:
        """Publishers' sockets should not be read now."""
        return self.journal.full

    @property
    def trouble(self) -> str:
        """Why messages are refused now; empty: they are not."""
        return self._commits.trouble

    @property
    def salvaged(self) -> dict[str, Any] | None:
        """What was lost and kept, if the file was damaged when it was opened."""
        return self._disk.salvaged

    @property
    def write_failures(self) -> int:
        """Commits that the disk refused, since the start."""
        return self._commits.write_failures

    def set_on_room(self, call: Callable[[], None]) -> None:
        """Call when `full` ends."""
        self.journal.on_room = call

    async def run(self) -> None:
        """Write, read and keep time until cancelled; then commit what is left."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._commits.run(), name="writer")
                group.create_task(self._read_forever(), name="reader")
                group.create_task(self._time_forever(), name="timer")
        finally:
            await asyncio.shield(self._commits.drain())

    async def close(self) -> None:
        """Close the file. `run` has ended."""
        for jetstream in self._jetstreams:
            jetstream.close()
        await self._commits.drain()
        await self._disk.close()
        os.close(self._lock)
        await self._memory.close()

    # reader ------------------------------------------------------------------------------------------------------

    async def _read_forever(self) -> None:
        while True:
            await self._questions.wait()
            self._questions.clear()
            while await self._answer():
                pass

    async def _answer(self) -> bool:
        """Answer what is asked now; False if nothing was."""
        questions = [question for jetstream in self._jetstreams for question in jetstream.around.reads.take()]
        on_disk = [question for question in questions if not self._memory.holds(question.stream_id)]
        answered = [self._memory.answer_now(item) for item in questions if self._memory.holds(item.stream_id)]
        if on_disk:
            answered += await self._disk.answer(on_disk)
            for message in self._disk.take_damaged():
                self._lose(message)
        for done, answer in answered:
            done(answer)
        return bool(questions)

    def _lose(self, found: Damaged) -> None:
        """A message was not as it was stored: say so, and take it out of its stream."""
        for jetstream in self._jetstreams:
            stream = jetstream.stream_by_id(found.stream_id)
            if stream is None or stream.contents.is_gone(found.seq):
                continue
            self.damaged_messages += 1
            log.error(
                "message is damaged and lost account=%s stream=%s sequence=%d subject=%s",
                *(stream.around.account.name, stream.name, found.seq, found.subject.decode(errors="replace")),
            )
            stream.lose(found.seq, found.subject, found.headers, found.payload)

    # timer -------------------------------------------------------------------------------------------------------

    async def _time_forever(self) -> None:
        while True:
            now = self._now_ns()
            for jetstream in self._jetstreams:
                jetstream.on_time(now)
            deadlines = [jetstream.next_deadline_ns() for jetstream in self._jetstreams]
            earliest = min((deadline for deadline in deadlines if deadline is not None), default=None)
            seconds = SLEEP_SECONDS if earliest is None else max(0.0, (earliest - self._now_ns()) / 1e9)
            self._deadline.clear()
            try:
                async with asyncio.timeout(min(seconds, SLEEP_SECONDS)):
                    await self._deadline.wait()
            except TimeoutError:
                continue


def _hold(folder: Path) -> int:
    """Two brokers on one store would number each other's messages: the second one is refused."""
    try:
        return files.hold(folder / LOCK_NAME)
    except BlockingIOError as error:
        raise StoreError(
            f"{folder} is in use by another leafnode: stop that one, or give this one a store_dir"
        ) from error
    except OSError as error:
        raise StoreError(f"{folder / LOCK_NAME}: cannot be made: {error.strerror}") from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made ({error}): name another store_dir") from error
