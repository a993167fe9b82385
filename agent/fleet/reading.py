"""Reading a stream in order, in bounded steps, whatever the connection does meanwhile.

A Reader makes an ephemeral pull consumer and asks it for at most BATCH messages at a time, so that a large stream never
floods a slow terminal. Three things can go wrong, and all end in the same remedy, another consumer from the next
sequence, so that nothing is skipped:

    the hub forgot the consumer       it restarted, or we paused for long: the request is answered 409 or 503, or not
    messages were lost on the way     the connection broke: the consumer's own count in the next one has a gap
    the hub is away                   the new consumer cannot be made: tried again until it can
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from agent.bus import Subscription
from agent.errors import ConnectionFailed
from agent.fleet import layout
from leafnode.base import nuid

if TYPE_CHECKING:
    from agent.fleet.hub import Hub

BATCH: Final = 256  # messages asked for at once; a terminal's worth of rows, little memory
PULL_SECONDS: Final = 5.0  # how long the hub keeps an unfilled request for messages
PULL_GRACE_SECONDS: Final = 2.0  # its answer "nothing came" may be this late before we suspect the connection
LOOK_SECONDS: Final = 0.5  # how often a wait looks whether the connection is still there
RETRY_SECONDS: Final = 0.5  # between attempts to make a consumer while the hub is away
FORGET_SECONDS: Final = 60  # the hub drops our consumer when nobody asked for that long


class MissingError(ConnectionFailed):
    """A stream or bucket of the fleet is not at this hub."""


class Message(Protocol):
    """A message as the bus hands it over."""

    @property
    def subject(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def reply(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A message of a stream."""

    subject: str
    sequence: int
    stored: datetime
    body: bytes
    headers: Mapping[str, str]

    @property
    def deleted(self) -> bool:
        """Whether this is a bucket's marker that the key is gone (ADR-8 and, for expiry, ADR-43)."""
        return self.headers.get("KV-Operation") in ("DEL", "PURGE") or "Nats-Marker-Reason" in self.headers

    def json(self) -> dict[str, Any]:
        """The body as an object; empty when it is none: one bad entry must not hide the others."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


class Delivery(NamedTuple):
    """What the reply subject of a delivered message tells."""

    consumer: str
    sequence: int
    """In the stream."""

    number: int
    """Of this consumer's deliveries, from 1: a gap means that messages were lost on the way."""

    stored: datetime
    pending: int


def delivery(reply: str) -> Delivery:
    """Take a delivered message's reply subject apart (ADR-15).

    `$JS.ACK.STREAM.CONSUMER.DELIVERED.SSEQ.CSEQ.NANOSECONDS.PENDING`, or the longer form with domain and account
    behind `$JS.ACK` and a random token at the end.
    """
    tokens = reply.split(".")
    if tokens[:2] != ["$JS", "ACK"] or len(tokens) < 9:
        raise ConnectionFailed(
            f"the hub delivered a message with reply subject {reply!r}: that is not JetStream's form"
        )
    first = 2 if len(tokens) == 9 else 4
    sequence, count, nanoseconds, pending = (int(token) for token in tokens[first + 3 : first + 7])
    stored = datetime.fromtimestamp(nanoseconds / layout.NS, UTC)
    return Delivery(tokens[first + 1], sequence, count, stored, pending)


def new_inbox() -> str:
    return f"_INBOX.{nuid.new()}"


class Reader:
    """Reads one stream in order from where it was told to start, for as long as it is asked."""

    def __init__(self, hub: "Hub", stream: str, pattern: str, start: Mapping[str, Any]) -> None:
        self._hub = hub
        self._stream = stream
        self._pattern = pattern
        self._start = dict(start)
        self._consumer = ""
        self._last = 0
        self._count = 0
        self._requested = 0
        self._suspect_at = 0.0
        self._inbox = new_inbox()
        self._messages: asyncio.Queue[Message] = asyncio.Queue(2 * BATCH)  # one batch, and the next if it overlaps
        self._subscription: Subscription | None = None
        self.pending = 0
        """Messages in the stream that were not taken yet, as of the last answer."""

    async def open(self, *, patient: bool = False) -> None:
        """Make the first consumer; a `patient` reader of a hub that is away begins when it is back.

        Raises:
            MissingError: there is no such stream.
            ConnectionFailed: the hub does not answer.
        """
        self._subscription = await self._hub.bus.subscribe(self._inbox, self._messages.put)
        try:
            if patient:
                await self._create_again(0)
            else:
                await self._create()
        except BaseException:
            await self._subscription.close()
            raise

    async def close(self) -> None:
        if self._subscription:
            await self._subscription.close()
        if self._consumer and self._hub.bus.connected:
            with suppress(ConnectionFailed):  # the hub forgets it by itself, only later
                await self._hub.bus.publish(f"{self._hub.prefix}.CONSUMER.DELETE.{self._stream}.{self._consumer}", b"")

    async def _create(self) -> None:
        self._consumer = ""
        start = {"deliver_policy": "by_start_sequence", "opt_start_seq": self._last + 1} if self._last else self._start
        config = {
            "ack_policy": "none",
            "filter_subject": self._pattern,
            "replay_policy": "instant",
            "inactive_threshold": FORGET_SECONDS * layout.NS,
            "mem_storage": True,
            "num_replicas": 1,
            **start,
        }
        info = await self._hub.api(f"CONSUMER.CREATE.{self._stream}", {"stream_name": self._stream, "config": config})
        self._consumer = info["name"]
        self._count = 0
        self._requested = 0
        self.pending = int(info.get("num_pending") or 0)

    async def present(self) -> AsyncIterator[Stored]:
        """What was in the stream when the reader was opened, then end.

        Raises:
            ConnectionFailed: the hub stopped answering.
        """
        while self.pending:
            message = await self.next(PULL_SECONDS + PULL_GRACE_SECONDS)
            if message:
                yield message
            else:
                await self._create()  # counts again: what was pending may have been deleted

    async def next(self, seconds: float) -> Stored | None:
        """The next message, or None when none came within `seconds`."""
        now = asyncio.get_running_loop().time
        deadline = now() + seconds
        while (left := deadline - now()) > 0:
            if not self._consumer:
                await self._create_again(left)
            elif self._requested <= 0:
                await self._ask()
                self._suspect_at = now() + PULL_SECONDS + PULL_GRACE_SECONDS
            elif (message := await self._receive(min(left, LOOK_SECONDS))) is not None:
                return message
        return None

    async def _create_again(self, seconds: float) -> None:
        try:
            await self._create()
        except MissingError:
            raise  # it does not come back by waiting
        except ConnectionFailed:
            await asyncio.sleep(min(RETRY_SECONDS, seconds))

    async def _ask(self) -> None:
        body = {"batch": BATCH, "expires": int(PULL_SECONDS * layout.NS)}
        subject = f"{self._hub.prefix}.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        try:
            await self._hub.bus.publish(subject, json.dumps(body).encode(), reply=self._inbox)
        except ConnectionFailed:  # the hub went away between two looks: begin again when it is back
            self._consumer = ""
            await asyncio.sleep(RETRY_SECONDS)
            return
        self._requested = BATCH

    async def _receive(self, seconds: float) -> Stored | None:
        """One message; None when nothing or only a status came."""
        try:
            async with asyncio.timeout(seconds):  # wait_for of Python 3.11 may swallow a cancellation
                message = await self._messages.get()
        except TimeoutError:
            overdue = asyncio.get_running_loop().time() >= self._suspect_at  # not even "nothing came"
            if overdue or not self._hub.bus.connected:
                self._consumer = ""  # the request or the consumer is lost
            return None
        status = message.headers.get("Status")
        if status is not None:
            self._requested = 0
            if status not in ("404", "408"):  # 409 consumer deleted, 503 nobody there
                self._consumer = ""
                await asyncio.sleep(RETRY_SECONDS)
            return None
        return self._taken(message)

    def _taken(self, message: Message) -> Stored | None:
        told = delivery(message.reply)
        if told.consumer != self._consumer:
            return None  # of the consumer before
        if told.number != self._count + 1:
            self._consumer = ""
            return None
        self._count = told.number
        self._requested -= 1
        self._suspect_at = asyncio.get_running_loop().time() + PULL_SECONDS + PULL_GRACE_SECONDS
        self.pending = told.pending
        if told.sequence <= self._last:
            return None
        self._last = told.sequence
        return Stored(
            subject=message.subject,
            sequence=told.sequence,
            stored=told.stored,
            body=message.data,
            headers=message.headers,
        )
