"""Standing queries: follows the bucket of watches, asks each at its interval, tells what differs.

The bucket is watched where it is nearest, as the configuration is: a site goes on without its hub. Reports go the way
of readings: stored at the site, once, in order, with the time at which things happened. What was told last of a watch
is a small file of its own in the state directory, written when something is told.
"""

import asyncio
import contextlib
import json
import logging
import random
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from agent import query, subjects
from agent.bucket import Bucket, Entry
from agent.bus import Bus
from agent.edges import Edge
from agent.errors import FleetError, QueryError
from agent.facts.history import History
from agent.payloads import QueryRequest, Watch, WatchReport
from agent.policy import Roles
from agent.sandbox import Answer, Limits
from agent.standing import Memory, Standing
from leafnode.base import files

log = logging.getLogger(__name__)

MAX_WATCHES: Final = 32  # on one device: each costs an evaluation at its interval, and a file
MAX_ROWS: Final = 256  # of one watch; who wants more asks for counts
MAX_BYTES: Final = 64 * 1024  # of its rows: what a restart sends again, and a change writes to the card
MARGIN_BYTES: Final = 4096  # of a message that are not rows
LEAST_EVERY_SECONDS: Final = 1.0  # whatever a watch says: an evaluation may take a tenth of that
SPLAY_SECONDS: Final = 5.0  # first evaluations of a fleet are spread over this: all learn of a watch at once
RENEWED_SECONDS: Final = 5.0  # for the keys of a bucket that was made again; a site copies it first
FOLDER: Final = "watches"
MATCHED: Final = "1 AS matched"  # shown of a filter alone: its columns' values would be a change each time


class Outlet(Protocol):
    """Where reports go."""

    @property
    def dropped(self) -> int: ...

    def tell_watch(self, report: WatchReport, sent: Callable[[], None]) -> None: ...


class Shelf:
    """A file for each watch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._edge = Edge(log, "watch state")

    def names(self) -> list[str]:
        return sorted(path.stem for path in self._folder.glob("*.json"))

    def load(self, name: str) -> Memory | None:
        try:
            return Memory.from_bytes(self._path(name).read_bytes())
        except OSError:
            return None

    def save(self, name: str, memory: Memory) -> None:
        """A failure is said and survived: the next start sends a full state anyway."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            files.write_atomic(self._path(name), memory.to_bytes())
            self._edge.works()
        except OSError as error:
            self._edge.failed(f"{self._path(name)} cannot be written: {error}")

    def drop(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self._path(name).unlink()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


class Watching:
    """The standing queries of one device."""

    def __init__(
        self,
        bus: Bus,
        device: str,
        groups: Iterable[str],
        limits: Limits,
        roles: Roles,
        history: History | None,
        outlet: Outlet,
        state_dir: Path,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._bus = bus
        self._device = device
        self._groups = frozenset(groups)
        self._limits = Limits(
            time_ms=limits.time_ms, rows=min(limits.rows, MAX_ROWS), bytes=min(limits.bytes, MAX_BYTES)
        )
        self._roles = roles
        self._history = history
        self._outlet = outlet
        self._shelf = Shelf(state_dir / FOLDER)
        self._now = now
        self._clock = clock
        self._uniform = uniform
        self._wanted: dict[str, tuple[int, Watch]] = {}
        self._complete = False
        self._standing: dict[str, Standing] = {}
        self._due: dict[str, float] = {}
        self._refused: dict[str, int] = {}
        self._heard: set[str] = set()
        self._settling: asyncio.TimerHandle | None = None
        self._dropped = outlet.dropped
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        """Learn what is asked of this device, now and at each change, for ever."""
        bucket = Bucket(self._bus.local, subjects.BUCKET_WATCHES)
        async with contextlib.aclosing(bucket.watch(renewed=self.renewed)) as entries:
            async for entry in entries:
                self.learn(entry)

    def learn(self, entry: Entry | None) -> None:
        """One key of the bucket as it is now; None: that was all there is. Nothing begins or ends before."""
        if entry is None:
            self._complete = True
        else:
            self._take(entry)
        if self._complete:
            self._settle()

    def renewed(self) -> None:
        """Another bucket, of a hub with a new store, which counts revisions anew and has no reports.

        What it does not have ends, once its keys had time to come; of the rest the full state is told.
        """
        self._wanted.clear()
        for standing in self._standing.values():
            standing.again("lost")
        self._settling = asyncio.get_running_loop().call_later(RENEWED_SECONDS, self._settle)

    def _take(self, entry: Entry) -> None:
        self._wanted.pop(entry.key, None)
        if not entry.is_put:
            return
        try:
            watch = Watch.from_bytes(entry.value)
            subjects.check_name(entry.key, "watch")
        except FleetError as error:
            log.warning("watch not readable name=%s revision=%d reason=%r", entry.key, entry.revision, str(error))
            return
        if watch.concerns(self._device, self._groups):
            self._wanted[entry.key] = (entry.revision, watch)

    def _settle(self) -> None:
        """Begin and end what the bucket says."""
        allowed = dict(sorted(self._wanted.items())[:MAX_WATCHES])
        for name in {*self._standing, *self._shelf.names()} - set(allowed):
            self._end(name)
        for name, (revision, watch) in allowed.items():
            standing = self._standing.get(name)
            if standing is None or (standing.revision, standing.watch) != (revision, watch):
                self._begin(name, revision, watch)
        self._refuse({name: each[0] for name, each in self._wanted.items() if name not in allowed})
        self._changed.set()

    def _begin(self, name: str, revision: int, watch: Watch) -> None:
        before = self._standing.get(name)
        memory = before.remember() if before else self._shelf.load(name)
        standing = self._standing[name] = Standing(self._device, name, revision, watch, memory)
        self._tell(standing, standing.unsent())
        self._due[name] = self._clock() + self._uniform(0, min(_interval(watch), SPLAY_SECONDS))
        log.info("watch begins name=%s revision=%d every=%gs", name, revision, _interval(watch))

    def _end(self, name: str) -> None:
        standing = self._standing.pop(name, None)
        self._due.pop(name, None)
        if standing is None and (memory := self._shelf.load(name)):
            standing = Standing(self._device, name, memory.revision, memory.watch, memory)
        if standing is not None:
            log.info("watch ends name=%s", name)
            self._tell(standing, [standing.ended(self._now())])
        self._shelf.drop(name)

    def _refuse(self, names: dict[str, int]) -> None:
        """Say once of each watch that is too many that it is not asked."""
        for name, revision in names.items():
            if self._refused.get(name) != revision:
                error = f"not asked: this device has {MAX_WATCHES} watches already; remove one"
                refused = Standing(self._device, name, revision, Watch())
                self._tell(refused, refused.failed(error, self._now(), self._clock()))
        self._refused = names

    async def run(self) -> None:
        """Ask each watch when it is due, one after another, for ever."""
        while True:
            wait = min(self._due.values(), default=float("inf")) - self._clock()
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if wait == float("inf") else wait):
                        await self._changed.wait()
                self._changed.clear()
                continue
            name = min(self._due, key=self._due.__getitem__)
            standing = self._standing[name]
            self._due[name] = max(self._due[name] + _interval(standing.watch), self._clock())
            await self._ask(standing)

    async def _ask(self, standing: Standing) -> None:
        self._look_for_loss()
        at, clock = self._now(), self._clock()
        try:
            answer = await asyncio.to_thread(self._evaluate, standing.watch)
            if self._standing.get(standing.name) is not standing:
                return  # changed or ended meanwhile
            reports = standing.rows(answer.columns, answer.rows, at, clock)
        except FleetError as error:
            reports = standing.failed(str(error), at, clock)
        if self._standing.get(standing.name) is not standing or not reports:
            return
        self._tell(standing, reports)
        await asyncio.to_thread(self._shelf.save, standing.name, standing.remember())

    def _tell(self, standing: Standing, reports: Iterable[WatchReport]) -> None:
        for report in reports:
            self._outlet.tell_watch(report, partial(self._sent, standing, report.n))

    def _sent(self, standing: Standing, n: int) -> None:
        """Not written each time: a report that is told once more after a crash has the same number and message id."""
        standing.sent(n)
        self._heard.add(standing.name)

    def stop(self) -> None:
        """In order: note what the streams have, so that the next start need not tell it again."""
        if self._settling:
            self._settling.cancel()
        for name in self._heard & set(self._standing):
            self._shelf.save(name, self._standing[name].remember())

    def _evaluate(self, watch: Watch) -> Answer:
        """
        Raises:
            QueryError: as for a live query, or more rows than a watch may have.
        """
        select = watch.select or (MATCHED if watch.where else None)
        request = QueryRequest(where=watch.where, select=select, sql=watch.sql, limit=self._limits.rows)
        if request.is_info or (request.sql and watch.where):
            raise QueryError("a watch needs a filter, columns or a statement")
        answer = query.ask(request, self._roles.facts(""), self._limits, self._history, self._roles.policy("").sees_all)
        if answer.truncated:
            raise QueryError(
                f"more than {self._limits.rows} rows or {self._limits.bytes} bytes: narrow the watch, or let it count"
            )
        most = self._bus.max_payload // 2 - MARGIN_BYTES  # a difference holds rows that came and rows that went
        if len(json.dumps(answer.rows, ensure_ascii=False).encode(errors="replace")) > most:
            raise QueryError(f"the rows are too large for the broker (more than {most} bytes): narrow the watch")
        return answer

    def _look_for_loss(self) -> None:
        """Readers are told the full state again after reports may have been dropped."""
        if self._outlet.dropped != self._dropped:
            self._dropped = self._outlet.dropped
            for standing in self._standing.values():
                standing.again("lost")


def _interval(watch: Watch) -> float:
    return max(LEAST_EVERY_SECONDS, watch.every_s)
