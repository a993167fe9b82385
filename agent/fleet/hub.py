"""What `fleet` needs of the hub: JetStream's API in JSON, buckets, reading streams, scattering a request.

Why JSON as it comes and not classes: an update of a stream must give back fields that this version does not know. And
the hub may sit behind a leaf in a JetStream domain of its own: then every API subject begins with `$JS.DOMAIN.API`, and
so does a bucket's put (nats-server maps `$JS.DOMAIN.API.$KV.>` back).

Streams are read through ephemeral pull consumers: the reader asks for at most BATCH messages at a time, so a large
stream never floods a slow terminal. When the hub forgot the consumer (restart, long pause), the reader makes another
one from the next sequence: nothing is skipped.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from agent.bus import Bus, BusOptions, Subscription
from agent.errors import ConnectionFailed, FleetError, NotAnswered
from agent.fleet import layout
from agent.fleet.settings import Connection
from leafnode.base import nuid

CONNECT_SECONDS: Final = 3.0  # a hub across the world with TLS needs one or two
API_SECONDS: Final = 5.0  # nats.go's default for JetStream requests
BATCH: Final = 256  # messages asked for at once; a terminal's worth of rows, little memory
PULL_SECONDS: Final = 5.0  # how long the hub keeps an unfilled request for messages
PULL_GRACE_SECONDS: Final = 2.0  # its answer "nothing came" may be this late before we suspect the connection
ANSWERS_MAX: Final = 1024  # replies kept for a slow terminal; more wait in the connection
FORGET_SECONDS: Final = 60  # the hub drops our consumer when nobody asked for that long

STREAM_NOT_FOUND: Final = 10059
WRONG_LAST_SEQUENCE: Final = (10071, 10164)
NO_MESSAGE: Final = 10037
NO_RESPONDERS: Final = "503"


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


class ApiError(FleetError):
    """The hub's JetStream answered with an error."""

    def __init__(self, text: str, *, code: int = 0, err_code: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.err_code = err_code


class MissingError(ConnectionFailed):
    """A stream or bucket of the fleet is not at this hub."""


class ChangedMeanwhileError(ApiError):
    """Someone else changed the key since it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A message of a stream."""

    subject: str
    sequence: int
    stored: datetime
    body: bytes
    headers: Mapping[str, str]
    pending: int = 0

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


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply to a scattered request; `tag` says to which of them, `unheard` that nobody listens there."""

    tag: str
    body: bytes
    unheard: bool = False


class Hub:
    """An open connection; make one with `connect`, end it with `close`."""

    def __init__(self, bus: Bus, connection: Connection) -> None:
        self.bus = bus
        self.connection = connection
        self.prefix = layout.external_api(connection.domain) if connection.domain else "$JS.API"

    async def close(self) -> None:
        await self.bus.close()

    # -- requests ---------------------------------------------------------------------------------------------------

    async def api(self, verb: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request of the JetStream API, e.g. `STREAM.INFO.ORDERS`.

        Raises:
            ApiError: the hub refused it.
            MissingError: the stream does not exist.
            ConnectionFailed: nobody answers.
        """
        answer = await self._request(f"{self.prefix}.{verb}", json.dumps(body).encode() if body else b"")
        return _checked(json.loads(answer.data), verb.rpartition(".")[2])

    async def _request(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> Message:
        try:
            return await self.bus.request(subject, body, timeout_s=API_SECONDS, headers=headers)
        except NotAnswered as error:
            if "nobody listens" in str(error):
                raise ConnectionFailed(self._nobody(subject)) from error
            raise ConnectionFailed(f"{self.connection.server}: {error}") from error

    def _nobody(self, subject: str) -> str:
        server, domain = self.connection.server, self.connection.domain
        if not subject.startswith("$JS."):
            return f"{server} has no stream for {subject}: run `fleet init`, or give --domain when this is a leaf node"
        if domain:
            return f"{server} reaches no JetStream domain {domain!r}: is its link to the hub up, and --domain right?"
        return f"{server} has no JetStream for us: enable it there, or give --domain when this is a leaf node"

    async def publish(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> int:
        """Store a message in whatever stream captures `subject`; returns its sequence once it is stored.

        Raises:
            ChangedMeanwhileError: the header for the expected last sequence did not hold.
            ApiError, ConnectionFailed: it is not stored.
        """
        answer = await self._request(subject, body, headers)
        return int(_checked(json.loads(answer.data), subject)["seq"])

    @asynccontextmanager
    async def scatter(self, requests: Mapping[str, str], body: bytes) -> AsyncIterator["asyncio.Queue[Answer]"]:
        """Send `body` on every subject of `requests` (tag -> subject); replies arrive in the queue."""
        replies: asyncio.Queue[Answer] = asyncio.Queue(ANSWERS_MAX)
        inbox = new_inbox()
        tags = {f"{inbox}.{number}": tag for number, tag in enumerate(requests)}

        async def keep(message: Message) -> None:
            unheard = message.headers.get("Status") == NO_RESPONDERS
            await replies.put(Answer(tags[message.subject], message.data, unheard))

        subscription = await self.bus.subscribe(f"{inbox}.*", keep)
        try:
            for reply, tag in tags.items():
                await self.bus.publish(requests[tag], body, reply=reply)
            yield replies
        finally:
            await subscription.close()

    # -- streams ----------------------------------------------------------------------------------------------------

    async def stream(self, name: str) -> dict[str, Any] | None:
        """The stream's configuration as the hub spells it, or None."""
        try:
            config: dict[str, Any] = (await self.api(f"STREAM.INFO.{name}"))["config"]
        except MissingError:
            return None
        return config

    async def last_sequence(self, name: str) -> int:
        """The sequence of the newest message that the stream ever had."""
        return int((await self.api(f"STREAM.INFO.{name}"))["state"]["last_seq"])

    async def subjects(self, stream: str, pattern: str) -> list[str]:
        """The subjects of messages now in a stream that match `pattern`."""
        found: list[str] = []
        while True:
            info = await self.api(f"STREAM.INFO.{stream}", {"subjects_filter": pattern, "offset": len(found)})
            page = info.get("state", {}).get("subjects") or {}
            found.extend(page)
            if not page or len(found) >= int(info.get("total") or 0):
                return found

    async def last(self, stream: str, subject: str) -> Stored | None:
        """The newest message on `subject`, read without a consumer (a work queue allows no second one)."""
        return await self._get(stream, {"last_by_subj": subject})

    async def at(self, stream: str, sequence: int) -> Stored | None:
        """The message with this sequence."""
        return await self._get(stream, {"seq": sequence})

    async def _get(self, stream: str, which: Mapping[str, Any]) -> Stored | None:
        try:
            message = (await self.api(f"STREAM.MSG.GET.{stream}", which))["message"]
        except ApiError as error:
            if error.err_code == NO_MESSAGE or error.code == 404:
                return None
            raise
        return _stored(message)

    @asynccontextmanager
    async def reader(self, stream: str, pattern: str = ">", **start: Any) -> AsyncIterator["Reader"]:
        """A reader of `stream`; `start` is the consumer's deliver policy, e.g. `deliver_policy="last_per_subject"`."""
        reader = Reader(self, stream, pattern, start or {"deliver_policy": "all"})
        await reader.open()
        try:
            yield reader
        finally:
            await reader.close()

    async def snapshot(self, stream: str, pattern: str = ">", **start: Any) -> list[Stored]:
        """What the stream holds now: by default the newest message of each subject."""
        async with self.reader(stream, pattern, **(start or {"deliver_policy": "last_per_subject"})) as reader:
            return [message async for message in reader.present()]

    async def keys(self, bucket: str, pattern: str = ">") -> dict[str, Stored]:
        """A bucket's entries by key, markers of deleted and expired keys included."""
        begin = len(f"$KV.{bucket}.")
        entries = await self.snapshot(layout.stream_of(bucket), f"$KV.{bucket}.{pattern}")
        return {entry.subject[begin:]: entry for entry in entries}

    async def put(self, bucket: str, key: str, body: bytes, *, last: int | None = None) -> int:
        """Set a key; with `last` only if that is still its revision (0: if it does not exist). Returns the revision."""
        return await self._put(bucket, key, body, {}, last)

    async def delete(self, bucket: str, key: str, *, last: int | None = None) -> int:
        """Mark a key deleted; its history stays."""
        return await self._put(bucket, key, b"", {"KV-Operation": "DEL"}, last)

    async def _put(self, bucket: str, key: str, body: bytes, headers: dict[str, str], last: int | None) -> int:
        if last is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(last)
        prefix = f"{self.prefix}." if self.connection.domain else ""
        return await self.publish(f"{prefix}$KV.{bucket}.{key}", body, headers or None)


class Reader:
    """Reads one stream in order from where it was told to start, for as long as it is asked."""

    def __init__(self, hub: Hub, stream: str, pattern: str, start: Mapping[str, Any]) -> None:
        self._hub = hub
        self._stream = stream
        self._pattern = pattern
        self._start = dict(start)
        self._consumer = ""
        self._last = 0
        self._requested = 0
        self._inbox = new_inbox()
        self._messages: asyncio.Queue[Message] = asyncio.Queue(2 * BATCH)  # one batch, and the next if it overlaps
        self._subscription: Subscription | None = None
        self.pending = 0
        """Messages in the stream that were not taken yet, as of the last answer."""

    async def open(self) -> None:
        self._subscription = await self._hub.bus.subscribe(self._inbox, self._messages.put)
        try:
            await self._create()
        except BaseException:
            await self._subscription.close()
            raise

    async def close(self) -> None:
        if self._subscription:
            await self._subscription.close()
        if self._consumer and self._hub.bus.connected:
            await self._hub.bus.publish(f"{self._hub.prefix}.CONSUMER.DELETE.{self._stream}.{self._consumer}", b"")

    async def _create(self) -> None:
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
        self._requested = 0
        self.pending = int(info.get("num_pending") or 0)

    async def present(self) -> AsyncIterator[Stored]:
        """What was in the stream when the reader was opened, then end."""
        while self.pending:
            message = await self.next(PULL_SECONDS)
            if message:
                yield message

    async def next(self, seconds: float) -> Stored | None:
        """The next message, or None when none came within `seconds`."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return None
            if self._requested <= 0:
                await self._ask()
            message = await self._receive(min(left, PULL_SECONDS + PULL_GRACE_SECONDS))
            if message is not None:
                return message

    async def _ask(self) -> None:
        body = {"batch": BATCH, "expires": int(PULL_SECONDS * layout.NS)}
        subject = f"{self._hub.prefix}.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        await self._hub.bus.publish(subject, json.dumps(body).encode(), reply=self._inbox)
        self._requested = BATCH

    async def _receive(self, seconds: float) -> Stored | None:
        """One message; None when nothing or only a status came."""
        try:
            message = await asyncio.wait_for(self._messages.get(), seconds)
        except TimeoutError:
            if seconds >= PULL_SECONDS:  # not even "nothing came": the request or the consumer is lost
                await self._create()
            return None
        status = message.headers.get("Status")
        if status is not None:
            self._requested = 0
            if status not in ("404", "408"):  # 409 consumer deleted, 503 nobody there
                await self._create()
            return None
        return self._taken(message)

    def _taken(self, message: Message) -> Stored | None:
        sequence, stored, pending = delivery(message.reply)
        self._requested -= 1
        self.pending = pending
        if sequence <= self._last:
            return None
        self._last = sequence
        return Stored(
            subject=message.subject,
            sequence=sequence,
            stored=stored,
            body=message.data,
            headers=message.headers,
            pending=pending,
        )


def new_inbox() -> str:
    return f"_INBOX.{nuid.new()}"


def delivery(reply: str) -> tuple[int, datetime, int]:
    """Stream sequence, time stored and messages pending, from the reply subject of a delivered message (ADR-15).

    `$JS.ACK.STREAM.CONSUMER.DELIVERED.SSEQ.CSEQ.NANOSECONDS.PENDING`, or the longer form with domain and account
    behind `$JS.ACK` and a random token at the end.
    """
    tokens = reply.split(".")
    if tokens[:2] != ["$JS", "ACK"] or len(tokens) < 9:
        raise ConnectionFailed(
            f"the hub delivered a message with reply subject {reply!r}: that is not JetStream's form"
        )
    first = 2 if len(tokens) == 9 else 4
    sequence, _, nanoseconds, pending = (int(token) for token in tokens[first + 3 : first + 7])
    return sequence, datetime.fromtimestamp(nanoseconds / layout.NS, UTC), pending


def _checked(answer: dict[str, Any], what: str) -> dict[str, Any]:
    error = answer.get("error")
    if not error:
        return answer
    code, err_code = int(error.get("code") or 0), int(error.get("err_code") or 0)
    text = str(error.get("description") or f"error {code}")
    if err_code == STREAM_NOT_FOUND:
        raise MissingError(f"the hub has no {layout.title(what)}: run: fleet init")
    if err_code in WRONG_LAST_SEQUENCE:
        raise ChangedMeanwhileError(
            f"{what} was changed by someone else meanwhile: look at it and try again", err_code=err_code
        )
    raise ApiError(f"the hub refused {what}: {text}", code=code, err_code=err_code)


def _stored(message: Mapping[str, Any]) -> Stored:
    """A message as STREAM.MSG.GET spells it: base64 bodies."""
    import base64
    from email.parser import BytesHeaderParser

    raw = base64.b64decode(message.get("hdrs") or "")
    headers = BytesHeaderParser().parsebytes(raw.partition(b"\r\n")[2])
    return Stored(
        subject=message["subject"],
        sequence=int(message["seq"]),
        stored=datetime.fromisoformat(message["time"]).astimezone(UTC),
        body=base64.b64decode(message.get("data") or ""),
        headers={str(key): str(value) for key, value in headers.items()},
    )


async def connect(connection: Connection) -> Hub:
    """Connect; a hub that is not there is said within seconds, one that goes away later is waited for.

    Raises:
        ConnectionFailed: says which server, why, and what to check.
    """
    options = BusOptions(
        urls=tuple(server.strip() for server in connection.server.split(",") if server.strip()),
        name="fleet",
        user=connection.user,
        password=connection.password,
        credentials=Path(connection.creds) if connection.creds else None,
        hub_domain=connection.domain,
        tls_ca=Path(connection.tls_ca) if connection.tls_ca else None,
        tls_cert=Path(connection.tls_cert) if connection.tls_cert else None,
        tls_key=Path(connection.tls_key) if connection.tls_key else None,
    )
    try:
        return Hub(await Bus.open(options, patience_s=CONNECT_SECONDS), connection)
    except ConnectionFailed as error:
        raise ConnectionFailed(f"{error}: {_advice(str(error))}") from error


_CLOSED: Final = ("reset by peer", "unexpected eof", "empty response", "connection closed", "broken pipe")


def _advice(text: str) -> str:
    said = text.lower()
    if "authorization" in said or "authentication" in said:
        return "check --creds, or --user and --password"
    if any(word in said for word in _CLOSED):  # a refusal that was overtaken by the end of the connection looks so
        return "it closes the connection: check --creds, or --user and --password, and whether it wants TLS"
    if "nkeys" in text:
        return "credentials files need the nkeys package: pip install 'nats-py[nkeys]'"
    return "is a NATS server running there? Check --server or FLEET_SERVER"
