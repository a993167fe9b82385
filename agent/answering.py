"""The device as a micro service: takes queries from the bus, evaluates them off the event loop, answers.

Every device must get every request, so the queue group of the endpoints is the device itself: two agents that run by
mistake under one id answer once.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from agent import query, subjects
from agent.bus import Bus, Endpoint
from agent.errors import FleetError, PayloadError
from agent.facts.history import History
from agent.facts.table import Facts
from agent.jetstream import Message
from agent.payloads import QueryReply, QueryRequest
from agent.policy import Policy, Roles
from agent.sandbox import Limits
from agent.settings import Query as QuerySettings

log = logging.getLogger(__name__)

MAX_WAITING: Final = 64  # queries being evaluated or spread over time; a further one is answered `busy`
REPLY_MARGIN: Final = 4096  # bytes of a message that are not rows


class QueryService:
    """Answers the queries of one device."""

    def __init__(
        self,
        bus: Bus,
        device: str,
        groups: tuple[str, ...],
        settings: QuerySettings,
        facts: Facts | Roles,
        history: History | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._bus = bus
        self._device = device
        self._groups = groups
        self._roles = facts if isinstance(facts, Roles) else Roles(facts, Policy(), {})
        self._history = history
        self._uniform = uniform
        self.limits = Limits(time_ms=settings.time_limit_ms, rows=settings.rows, bytes=settings.bytes)
        self._running: set[asyncio.Task[None]] = set()

    async def start(self, version: str) -> None:
        """Serve until the bus closes."""
        endpoints = [Endpoint(name="info", subject=subjects.DEVICE_INFO, handler=self._taker(""))]
        for role in self._roles.names():
            endpoints += self._endpoints(role)
        await self._bus.serve(
            subjects.SERVICE_NAME, version, endpoints, metadata={"device": self._device}, queue=self._device
        )

    def _endpoints(self, role: str) -> list[Endpoint]:
        """The subjects on which a role asks: everyone, this device, its groups."""
        prefix = f"{role}-" if role else ""
        take = self._taker(role)
        return [
            Endpoint(name=f"{prefix}query", subject=subjects.query_all(role), handler=take),
            Endpoint(name=f"{prefix}device", subject=subjects.query_device(self._device, role), handler=take),
            *(
                Endpoint(name=f"{prefix}group-{group}", subject=subjects.query_group(group, role), handler=take)
                for group in dict.fromkeys(self._groups)
            ),
        ]

    def _taker(self, role: str) -> Callable[[Message], Awaitable[None]]:
        async def take(message: Message) -> None:
            await self._take(message, role)

        return take

    async def stop(self) -> None:
        """Give up what is being answered."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _take(self, message: Message, role: str) -> None:
        """Evaluate in a task of its own: one that waits for its splay must not hold up the next."""
        if not message.reply:
            return
        try:
            request = QueryRequest.from_bytes(message.data)
        except PayloadError as error:
            await self._reply(message, QueryReply(device=self._device, error=str(error)))
            return
        if len(self._running) >= MAX_WAITING:
            await self._reply(message, QueryReply(id=request.id, device=self._device, error="busy: ask again later"))
            return
        task = asyncio.create_task(self._answer(message, request, role), name=f"query {request.id}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer(self, message: Message, request: QueryRequest, role: str) -> None:
        if request.splay_ms > 0:
            await asyncio.sleep(self._uniform(0, min(request.splay_ms, request.deadline_ms) / 1000))
        reply = await asyncio.to_thread(
            query.answer,
            request,
            self._roles.facts(role),
            self._device,
            self.limits,
            self._history,
            self._roles.policy(role).sees_all,
        )
        if reply.matched is False and request.quiet:
            return
        if reply.error and request.quiet:
            log.info("query not answered reason=%r", reply.error)
        await self._reply(message, reply)

    async def _reply(self, message: Message, reply: QueryReply) -> None:
        body = reply.to_bytes()
        if len(body) > self._bus.max_payload - REPLY_MARGIN:
            body = QueryReply(
                id=reply.id, device=self._device, error="the answer is too large: ask for less"
            ).to_bytes()
        try:
            await self._bus.respond(message, body)
        except FleetError as error:
            log.info("query answer lost reason=%r", str(error))
