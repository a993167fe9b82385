"""Live queries: ask many devices at once, take answers as they come, account for everyone at the end.

One request goes out on the narrowest subject that covers the scope, so that nobody else is woken. The asking ends when
every device that is up has answered, when the time is over, or when someone sets `stop` (Ctrl-C).

At a site that lost its hub nobody can say who is in the fleet, but devices answer: the asking is then blind, and ends
when nothing more has come for a moment.
"""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from agent import subjects
from agent.errors import PayloadError, UsageError
from agent.fleet import presence
from agent.fleet.accounting import Outcome, Tally
from agent.fleet.hub import Answer, Hub
from agent.fleet.presence import Device
from agent.payloads import DEFAULT_ROWS, QueryReply, QueryRequest
from leafnode.base import nuid

TIMEOUT_SECONDS: Final = 5.0  # a device behind a slow mobile link answers in one or two
SURPRISE_SECONDS: Final = 0.5  # how long to listen when presence expects nobody: a device may just be starting
QUIET_SECONDS: Final = 1.0  # when blind: on a site's own network the slowest device answers well within it
SPREAD_FROM: Final = 500  # devices; from this size on answers are spread in time to spare the hub a burst
SPREAD_MS_PER_DEVICE: Final = 1  # 1,000 devices spread over a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to ask and whom. Without where, select and sql a device tells everything (the info document)."""

    where: str | None = None
    select: str | None = None
    sql: str | None = None
    group: str | None = None
    on: tuple[str, ...] | None = None
    limit: int = DEFAULT_ROWS
    timeout: float = TIMEOUT_SECONDS
    explain: bool = False
    """Answer what each part of `where` came to, instead of rows."""
    role: str = ""
    """Ask in this role: devices show what their settings say for it."""

    def __post_init__(self) -> None:
        if self.sql and (self.where or self.select):
            raise UsageError("--sql is a whole statement: it excludes a filter and --select")
        if self.explain and not self.where:
            raise UsageError("an explanation needs a filter: name one")
        if self.group and self.on:
            raise UsageError("--group and --on exclude each other: ask one group, or name the devices")

    def requests(self) -> dict[str, str]:
        """Tag -> subject; the tag is the device when only one can answer."""
        if self.on is not None:
            return {device: subjects.query_device(device, self.role) for device in self.on}
        if self.group is not None:
            return {"": subjects.query_group(self.group, self.role)}
        return {"": subjects.query_all(self.role)}

    def body(self, request_id: str, splay_ms: int) -> bytes:
        if not (self.where or self.select or self.sql):
            return b""
        return QueryRequest(
            id=request_id,
            where=self.where,
            select=self.select,
            sql=self.sql,
            limit=self.limit,
            deadline_ms=int(self.timeout * 1000),
            splay_ms=splay_ms,
            explain=self.explain,
        ).to_bytes()


def parse_reply(body: bytes) -> QueryReply | None:
    """A reply from its JSON; None when no device can be read from it. What cannot be used becomes an error."""
    try:
        reply = QueryReply.from_bytes(body)
    except PayloadError as error:
        device = _device(body)
        return QueryReply(device=device, error=f"its answer cannot be read: {error}") if device else None
    if reply.error:
        return dataclasses.replace(reply, matched=None)
    if reply.matched is None:
        return dataclasses.replace(reply, error="its answer says neither matched nor error")
    return reply


def _device(body: bytes) -> str:
    try:
        fields = json.loads(body)
    except ValueError:
        return ""
    device = fields.get("device") if isinstance(fields, dict) else None
    return device if isinstance(device, str) else ""


class Asking:
    """A question under way: iterate `replies()`, then read `outcome`."""

    def __init__(
        self, hub: Hub, question: Question, known: Iterable[Device] | None, stop: asyncio.Event | None = None
    ) -> None:
        """`known` None: the inventory cannot be read, ask blindly."""
        self._hub = hub
        self._question = question
        self._stop = stop or asyncio.Event()
        self._scope = presence.select(known or (), group=question.group, ids=question.on)
        if known is None:  # those asked by name are worth waiting for: the broker says at once if nobody listens there
            self._scope = [dataclasses.replace(device, state="up") for device in self._scope]
        self._tally = Tally(self._scope, blind=known is None)

    @property
    def outcome(self) -> Outcome:
        now = datetime.now(UTC)
        return self._tally.outcome(now, self._question.timeout, interrupted=self._stop.is_set())

    async def replies(self) -> AsyncIterator[QueryReply]:
        """Each device's first answer, as it arrives."""
        splay_ms = len(self._scope) * SPREAD_MS_PER_DEVICE if len(self._scope) >= SPREAD_FROM else 0
        splay_ms = min(splay_ms, int(self._question.timeout * 500))
        body = self._question.body(nuid.new(), splay_ms)
        requests = self._question.requests()
        async with self._hub.scatter(requests, body) as queue:
            deadline = limit = asyncio.get_running_loop().time() + self._wait_seconds()
            while answer := await self._next(queue, deadline):
                if answer.unheard:
                    self._unheard(answer.tag)
                elif (reply := parse_reply(answer.body)) and self._tally.answer(reply.device, reply.matched):
                    yield reply
                if not self._tally.waiting():
                    more_seconds = QUIET_SECONDS if self._open_ended and not answer.unheard else 0.0
                    deadline = min(limit, asyncio.get_running_loop().time() + more_seconds)

    @property
    def _open_ended(self) -> bool:
        """Blind, and nobody was named: any number of devices may answer."""
        return self._tally.blind and not self._scope

    def _wait_seconds(self) -> float:
        if self._open_ended:
            return self._question.timeout
        return self._question.timeout if self._tally.waiting() else min(SURPRISE_SECONDS, self._question.timeout)

    def _unheard(self, tag: str) -> None:
        """Nobody listens on a subject: on a device's own that is the device, on a shared one it is everybody."""
        for device in [tag] if tag else list(self._tally.waiting()):
            self._tally.unreachable(device)

    async def _next(self, queue: "asyncio.Queue[Answer]", deadline: float) -> Answer | None:
        """The next answer; None at the deadline or when stopped."""
        if self._stop.is_set():
            return None
        if not queue.empty():
            return queue.get_nowait()
        getting = asyncio.ensure_future(queue.get())
        stopping = asyncio.ensure_future(self._stop.wait())
        left = deadline - asyncio.get_running_loop().time()
        try:
            await asyncio.wait({getting, stopping}, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
            return getting.result() if getting.done() else None
        finally:
            for task in (getting, stopping):
                task.cancel()
            await asyncio.gather(getting, stopping, return_exceptions=True)
