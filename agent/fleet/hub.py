"""What `fleet` needs of the hub: JetStream's API in JSON, buckets, reading streams, scattering a request.

Why JSON as it comes and not classes: an update of a stream must give back fields that this version does not know. And
the hub may sit behind a leaf in a JetStream domain of its own: then every API subject begins with `$JS.DOMAIN.API`, and
so does a bucket's put (nats-server maps `$JS.DOMAIN.API.$KV.>` back).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent.bus import Bus, BusOptions, without_secrets
from agent.errors import ConnectionFailed, FleetError, NotAnswered
from agent.fleet import layout
from agent.fleet.reading import Message, MissingError, Reader, Stored, new_inbox
from agent.fleet.settings import Connection

CONNECT_SECONDS: Final = 3.0  # a hub across the world with TLS needs one or two
API_SECONDS: Final = 5.0  # nats.go's default for JetStream requests
ANSWERS_MAX: Final = 1024  # replies kept for a slow terminal; more wait in the connection

STREAM_NOT_FOUND: Final = 10059
WRONG_LAST_SEQUENCE: Final = (10071, 10164)
NO_MESSAGE: Final = 10037
NO_RESPONDERS: Final = "503"


class ApiError(FleetError):
    """The hub's JetStream answered with an error."""

    def __init__(self, text: str, *, code: int = 0, err_code: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.err_code = err_code


class ChangedMeanwhileError(ApiError):
    """Someone else changed the key since it was read."""


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
        self.server = ",".join(map(without_secrets, connection.server.split(",")))
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
        try:
            return _checked(json.loads(answer.data), verb.rpartition(".")[2])
        except MissingError as error:
            if self.connection.domain:
                raise
            raise MissingError(f"{error} (or give --domain when {self.server} is a leaf node)") from error

    async def _request(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> Message:
        try:
            return await self.bus.request(subject, body, timeout_s=API_SECONDS, headers=headers)
        except NotAnswered as error:
            if "nobody listens" in str(error):
                raise ConnectionFailed(self._nobody(subject)) from error
            raise ConnectionFailed(f"{self.server}: {error}") from error

    def _nobody(self, subject: str) -> str:
        server, domain = self.server, self.connection.domain
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
    async def reader(
        self, stream: str, pattern: str = ">", *, patient: bool = False, **start: Any
    ) -> AsyncIterator[Reader]:
        """A reader of `stream`; `start` is the consumer's deliver policy, e.g. `deliver_policy="last_per_subject"`.

        A `patient` reader does not mind that the hub is away when it begins.
        """
        reader = Reader(self, stream, pattern, start or {"deliver_policy": "all"})
        await reader.open(patient=patient)
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

    async def put(
        self, bucket: str, key: str, body: bytes, *, last: int | None = None, headers: Mapping[str, str] | None = None
    ) -> int:
        """Set a key; with `last` only if that is still its revision (0: if it does not exist). Returns the revision."""
        return await self._put(bucket, key, body, {**(headers or {})}, last)

    async def delete(
        self, bucket: str, key: str, *, last: int | None = None, headers: Mapping[str, str] | None = None
    ) -> int:
        """Mark a key deleted; its history stays."""
        return await self._put(bucket, key, b"", {**(headers or {}), "KV-Operation": "DEL"}, last)

    async def _put(self, bucket: str, key: str, body: bytes, headers: dict[str, str], last: int | None) -> int:
        if last is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(last)
        prefix = f"{self.prefix}." if self.connection.domain else ""
        return await self.publish(f"{prefix}$KV.{bucket}.{key}", body, headers or None)


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
