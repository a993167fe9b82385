"""JetStream as the fleet uses it: streams and pull consumers, built on request and reply.

One JetStream object speaks to one domain: the API prefix is `$JS.API`, or `$JS.DOMAIN.API` for another domain.
Configurations are the API's own JSON, with its field names and nanoseconds. Buckets are in `agent.bucket`.
"""

import asyncio
import base64
import json
import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from agent.errors import ApiError, NotAnswered

INTERRUPTED: Final = "interrupted"  # our own status: the connection was lost in between, messages may be missing
NANOSECONDS: Final = 1_000_000_000
FETCH_GRACE_SECONDS: Final = 2.0  # beyond a pull's own expiry, for the way back


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as it arrived."""

    subject: str
    data: bytes
    reply: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """The server's status such as 503 (no responders) or 404 (no messages); empty on ordinary messages."""
        return "" if self.data else self.headers.get("Status", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class PubAck:
    """The stream has it, as number `seq`; `duplicate`: it had it before."""

    stream: str
    seq: int
    duplicate: bool


class Inbox(Protocol):
    """Messages of one subscription. A lost connection shows as a message with status `INTERRUPTED`."""

    subject: str

    async def __anext__(self) -> Message: ...


class Transport(Protocol):
    """What a JetStream needs of a connection."""

    async def publish(
        self, subject: str, data: bytes, *, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None: ...

    async def request(
        self, subject: str, data: bytes, *, timeout_s: float = ..., headers: Mapping[str, str] | None = None
    ) -> Message: ...

    def listen(self, subject: str = "") -> AbstractAsyncContextManager[Inbox]: ...


class JetStream:
    """The JetStream of one domain; `domain` empty means the broker that we are connected to."""

    def __init__(self, transport: Transport, domain: str) -> None:
        self.domain = domain
        self.prefix = f"$JS.{domain}.API" if domain else "$JS.API"
        self.transport = transport

    async def api(
        self, operation: str, body: Mapping[str, Any] | None = None, *, timeout_s: float = 5.0
    ) -> dict[str, Any]:
        """One API request, e.g. `STREAM.INFO.TELEMETRY`.

        Raises:
            ApiError: the server refused.
            NotAnswered: it is not there, or JetStream is off.
        """
        data = json.dumps(body).encode() if body is not None else b""
        answer = await self.transport.request(f"{self.prefix}.{operation}", data, timeout_s=timeout_s)
        return _checked(operation, answer)

    async def publish(
        self,
        subject: str,
        data: bytes,
        *,
        message_id: str = "",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 5.0,
    ) -> PubAck:
        """Publish to whatever stream captures `subject` and return once that stream has it.

        With `message_id` the stream keeps one message only, however often this is repeated.

        Raises:
            NotAnswered: no stream captures the subject, or no acknowledgement came in time: it may or may not be kept.
            ApiError: the stream refused.
        """
        both = {**(headers or {}), **({"Nats-Msg-Id": message_id} if message_id else {})}
        answer = _checked(
            subject, await self.transport.request(subject, data, timeout_s=timeout_s, headers=both or None)
        )
        return PubAck(
            stream=str(answer.get("stream", "")),
            seq=int(answer.get("seq", 0)),
            duplicate=bool(answer.get("duplicate", False)),
        )

    # Streams

    async def stream_info(self, name: str, **request: Any) -> dict[str, Any] | None:
        """The stream's `config` and `state`; None when there is no such stream."""
        try:
            return await self.api(f"STREAM.INFO.{name}", request or None)
        except ApiError as error:
            if error.is_missing:
                return None
            raise

    async def ensure_stream(self, config: Mapping[str, Any]) -> bool:
        """Make a stream with this configuration exist; True if it was created or changed.

        An existing stream keeps what `config` does not mention, so that an operator's own limits stay.
        """
        name = str(config["name"])
        info = await self.stream_info(name)
        if info is None:
            await self.api(f"STREAM.CREATE.{name}", config)
            return True
        present = info["config"]
        if all(_covers(present.get(key), value) for key, value in config.items()):
            return False
        await self.api(f"STREAM.UPDATE.{name}", {**present, **config})
        return True

    async def streams(self) -> list[dict[str, Any]]:
        """Every stream's info."""
        found: list[dict[str, Any]] = []
        while True:
            page = await self.api("STREAM.LIST", {"offset": len(found)})
            batch = page.get("streams") or []
            found += batch
            if not batch or len(found) >= int(page.get("total", 0)):
                return found

    async def purge(self, stream: str, subject: str = "") -> int:
        """Remove the messages of a stream (of `subject` only, if given); how many they were."""
        answer = await self.api(f"STREAM.PURGE.{stream}", {"filter": subject} if subject else {})
        return int(answer.get("purged", 0))

    async def message(self, stream: str, *, seq: int = 0, last_of: str = "") -> "Stored | None":
        """A stored message: number `seq`, or the last one of subject `last_of`; None if absent."""
        try:
            answer = await self.api(f"STREAM.MSG.GET.{stream}", {"seq": seq} if seq else {"last_by_subj": last_of})
        except ApiError as error:
            if error.is_missing:
                return None
            raise
        return stored(answer["message"])

    # Consumers

    async def ensure_consumer(self, stream: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """Make the durable consumer `config["durable_name"]` exist as configured; its info."""
        return await self.api(
            f"CONSUMER.DURABLE.CREATE.{stream}.{config['durable_name']}",
            {"stream_name": stream, "config": dict(config)},
        )

    async def delete_consumer(self, stream: str, name: str) -> None:
        await self.api(f"CONSUMER.DELETE.{stream}.{name}")

    async def fetch(self, stream: str, consumer: str, *, batch: int = 1, wait_s: float = 5.0) -> list[Message]:
        """Up to `batch` messages of a pull consumer; an empty list when there is none within `wait_s`.

        Raises:
            NotAnswered: stream or consumer is not there (any more), or nobody answered.
        """
        pull = {"batch": batch, "expires": int(wait_s * NANOSECONDS)}
        taken: list[Message] = []
        async with self.transport.listen() as inbox:
            await self.transport.publish(
                f"{self.prefix}.CONSUMER.MSG.NEXT.{stream}.{consumer}", json.dumps(pull).encode(), reply=inbox.subject
            )
            try:
                async with asyncio.timeout(wait_s + FETCH_GRACE_SECONDS):
                    while len(taken) < batch:
                        message = await anext(inbox)
                        if message.status in ("404", "408"):
                            break
                        if message.status == "100":
                            continue
                        if message.status:
                            raise NotAnswered(
                                f"{stream}/{consumer}: {message.headers.get('Description', message.status)}"
                            )
                        taken.append(message)
            except TimeoutError:
                if not taken:
                    raise NotAnswered(f"{stream}/{consumer}: no answer within {wait_s:g} s") from None
        return taken

    async def acknowledge(self, message: Message, *, timeout_s: float = 5.0) -> None:
        """Tell the consumer that `message` is dealt with, and wait until it knows (a double acknowledgement).

        Raises:
            NotAnswered: it may be delivered again.
        """
        await self.transport.request(message.reply, b"+ACK", timeout_s=timeout_s)

    async def in_progress(self, message: Message) -> None:
        """Ask for more time: the message is not delivered again for another ack_wait."""
        await self.transport.publish(message.reply, b"+WPI")

    async def refuse(self, message: Message, *, delay_s: float = 0.0) -> None:
        """Give the message back, to be delivered again after `delay_s`."""
        delay = json.dumps({"delay": int(delay_s * NANOSECONDS)}) if delay_s else ""
        await self.transport.publish(message.reply, f"-NAK {delay}".strip().encode())


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as a stream keeps it."""

    subject: str
    seq: int
    data: bytes
    headers: Mapping[str, str]
    created: datetime


@dataclass(frozen=True, slots=True)
class Delivered:
    """What the acknowledgement subject of a delivered message says about it."""

    stream: str
    consumer: str
    times: int
    stream_seq: int
    consumer_seq: int
    created: datetime
    pending: int


def delivered(message: Message) -> Delivered:
    """Take `$JS.ACK.…` apart; both forms, without and with domain and account.

    Raises:
        ValueError: the message did not come from a consumer.
    """
    tokens = message.reply.split(".")
    if tokens[:2] != ["$JS", "ACK"] or len(tokens) < _ACK_TOKENS:
        raise ValueError(f"reply {message.reply!r} is not of a consumer")
    rest = tokens[2:] if len(tokens) == _ACK_TOKENS else tokens[4:]
    stream, consumer, times, stream_seq, consumer_seq, nanoseconds, pending = rest[:7]
    return Delivered(
        stream,
        consumer,
        int(times),
        int(stream_seq),
        int(consumer_seq),
        datetime.fromtimestamp(int(nanoseconds) / NANOSECONDS, UTC),
        int(pending),
    )


_ACK_TOKENS: Final = 9  # $JS.ACK.stream.consumer.times.stream_seq.consumer_seq.time.pending


def stored(raw: Mapping[str, Any]) -> Stored:
    """The `message` of a STREAM.MSG.GET answer."""
    return Stored(
        str(raw["subject"]),
        int(raw["seq"]),
        base64.b64decode(raw.get("data") or ""),
        _headers(base64.b64decode(raw.get("hdrs") or "")),
        parse_time(str(raw["time"])),
    )


def _headers(block: bytes) -> dict[str, str]:
    """The fields of a `NATS/1.0` block."""
    lines = block.decode(errors="replace").split("\r\n")[1:]
    return {name.strip(): value.strip() for name, mark, value in (line.partition(":") for line in lines) if mark}


def parse_time(text: str) -> datetime:
    """A server's RFC 3339 time; its nanoseconds are cut to microseconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))


def _checked(operation: str, answer: Message) -> dict[str, Any]:
    """The JSON object of an answer, or the ApiError inside it."""
    if answer.status:
        raise NotAnswered(f"{operation}: status {answer.status} {answer.headers.get('Description', '')}".rstrip())
    try:
        values = json.loads(answer.data)
    except ValueError as error:
        raise NotAnswered(f"{operation}: the answer is not JSON") from error
    if not isinstance(values, dict):
        raise NotAnswered(f"{operation}: the answer is not a JSON object")
    if refusal := values.get("error"):
        raise ApiError(
            operation, int(refusal.get("code", 0)), int(refusal.get("err_code", 0)), str(refusal.get("description", ""))
        )
    return values


def _covers(present: Any, wanted: Any) -> bool:
    """Whether a part of a configuration already is as wanted: servers add fields of their own."""
    if isinstance(wanted, Mapping):
        return isinstance(present, Mapping) and all(_covers(present.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(present, list) and len(present) == len(wanted) and all(map(_covers, present, wanted))
    return bool(present == wanted) or (not present and not wanted)
