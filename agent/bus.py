"""The connection to NATS: the only file that imports the nats library.

A Bus connects for ever, with a delay that grows and is spread by chance, because a site whose power comes back starts
all its devices in one second. Callers see three things only: messages, NotAnswered, and whether it is connected. What
JetStream adds (streams, buckets, consumers) is built on requests in `agent.jetstream`; `bus.hub` is the JetStream that
holds the fleet's streams and buckets, `bus.local` the one of the broker that we are connected to.
"""

import asyncio
import base64
import contextlib
import logging
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from agent.errors import ConfigError, ConnectionFailed, NotAnswered, NotConnected
from agent.identity import Credentials, read_credentials
from agent.jetstream import INTERRUPTED, JetStream, Message

log = logging.getLogger(__name__)

FIRST_DELAY_SECONDS: Final = 0.5  # after the first failure; a broker that restarts is back in about that
LAST_DELAY_SECONDS: Final = 30.0  # the delay stops growing here: a repaired link is used within half a minute
PING_SECONDS: Final = 20  # two unanswered pings mean that the connection is dead
REQUEST_SECONDS: Final = 5.0  # a JetStream API answer across a slow link
PENDING_MESSAGES: Final = 4096  # messages waiting for a slow handler of ours before the newest are dropped
INBOX_MESSAGES: Final = 256  # taken over ahead of the reader
PENDING_BYTES: Final = 8 * 1024 * 1024  # and their size
SCHEMES: Final = ("nats", "tls", "ws", "wss")  # what the library speaks
OUT_BYTES: Final = 1024 * 1024  # published while disconnected, sent on reconnection; beyond it publishing fails

Handler = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BusOptions:
    """Where to connect and as whom."""

    urls: tuple[str, ...]
    name: str
    """Shown in the broker's list of connections."""
    user: str = ""
    password: str = ""
    token: str = ""
    credentials: Path | None = None
    """A .creds file: user JWT and nkey seed."""
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    hub_domain: str = ""
    """JetStream domain of the hub, when the broker is a site's leafnode. Empty: the broker is the hub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One endpoint of a micro service (ADR-32)."""

    name: str
    subject: str
    handler: Handler


class Subscription:
    """Interest that can be given up."""

    def __init__(self, inner: NatsSubscription) -> None:
        self._inner = inner

    async def close(self) -> None:
        with contextlib.suppress(nats.errors.Error):
            await self._inner.unsubscribe()


class Bus:
    """One connection. Open it with `Bus.open` and close it with `close`, or use `async with await Bus.open(...)`."""

    def __init__(self, options: BusOptions, uniform: Callable[[float, float], float]) -> None:
        self.options = options
        self.hub = JetStream(self, options.hub_domain)
        self.local = JetStream(self, "")
        self._client = Client()
        self._uniform = uniform
        self._failures = 0
        self._up = asyncio.Event()
        self._closed = asyncio.Event()
        self._begun = False
        self._stopping = False
        self._last_error: Exception | None = None
        self._refusal: Exception | None = None
        self._services: list[Any] = []
        self._inboxes: set[Inbox] = set()

    # Life

    @classmethod
    async def open(
        cls,
        options: BusOptions,
        *,
        patience_s: float | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> "Bus":
        """Connect; with `patience_s` for that long only, without it until it succeeds.

        Raises:
            ConnectionFailed: not connected within `patience_s`; the text has the reason and the urls.
        """
        bus = cls(options, uniform)
        try:
            async with asyncio.timeout(patience_s):
                await bus._connect()
        except (TimeoutError, nats.errors.Error, OSError) as error:
            reason = bus._refusal or bus._last_error or error
            await bus.close()
            raise ConnectionFailed(
                f"cannot connect to {', '.join(map(without_secrets, options.urls))}: {explain(reason)}"
            ) from error
        except BaseException:
            await bus.close()
            raise
        return bus

    async def _connect(self) -> None:
        options = self.options
        credentials, tls = prepare(options)
        self._begun = True  # from here on the library has something to close
        await self._client.connect(
            servers=list(options.urls),
            name=options.name,
            user=options.user or None,
            password=options.password or None,
            token=options.token or None,
            user_jwt_cb=credentials.jwt if credentials else None,
            signature_cb=credentials.sign if credentials else None,
            tls=tls,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            connect_timeout=5,
            ping_interval=PING_SECONDS,
            pending_size=OUT_BYTES,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_connected,
            closed_cb=self._on_closed,
        )
        await self._on_connected()

    async def close(self) -> None:
        """Send what is buffered, if connected, and end; safe to call twice."""
        self._stopping = True
        for service in self._services:
            with contextlib.suppress(nats.errors.Error, OSError):
                await service.stop()
        self._services.clear()
        if self._client.is_connected:
            with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                await self._client.flush(1)
        if self._begun:
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._client.close()
        self._up.clear()
        self._closed.set()

    async def __aenter__(self) -> "Bus":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        return self._client.is_connected

    @property
    def max_payload(self) -> int:
        """Largest body the broker takes, in bytes."""
        return int(self._client.max_payload)

    async def wait_connected(self) -> None:
        await self._up.wait()

    async def wait_closed(self) -> None:
        """Return when the connection ended for good, by `close` or because the broker refused us for ever."""
        await self._closed.wait()

    def domain(self, name: str) -> JetStream:
        """The JetStream of another domain, e.g. a site's seen from the hub."""
        return JetStream(self, name)

    # Core NATS

    async def publish(
        self, subject: str, data: bytes, *, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        """Hand a message to the connection: at most once, nobody says whether it arrived.

        Raises:
            ConnectionFailed: not connected. Nothing is kept for later: who needs that uses JetStream.
        """
        if not self.connected:
            raise ConnectionFailed(f"cannot publish to {subject}: not connected")
        try:
            await self._client.publish(subject, data, reply=reply, headers=dict(headers) if headers else None)
        except (nats.errors.Error, OSError) as error:
            raise ConnectionFailed(f"cannot publish to {subject}: {explain(error)}") from error

    async def request(
        self,
        subject: str,
        data: bytes,
        *,
        timeout_s: float = REQUEST_SECONDS,
        headers: Mapping[str, str] | None = None,
    ) -> Message:
        """The first answer.

        Raises:
            NotAnswered: nobody listens, or nobody answered in time; NotConnected: it was not sent.
        """
        if not self.connected:
            raise NotConnected(f"no answer on {subject}: not connected")
        task = asyncio.current_task()
        cancels = task.cancelling() if task else 0
        try:
            answer = await self._client.request(
                subject, data, timeout=timeout_s, headers=dict(headers) if headers else None
            )
        except nats.errors.NoRespondersError as error:
            raise NotAnswered(f"nobody listens on {subject}") from error
        except (nats.errors.TimeoutError, TimeoutError) as error:
            raise NotAnswered(f"no answer on {subject} within {timeout_s:g} s") from error
        except (nats.errors.Error, OSError) as error:
            raise NotAnswered(f"no answer on {subject}: {explain(error)}") from error
        if task and task.cancelling() > cancels:
            # Python 3.11's wait_for, which the library uses, loses a cancellation that meets the answer.
            raise asyncio.CancelledError
        return _message(answer)

    async def request_many(
        self, subject: str, data: bytes, *, deadline_s: float, enough: Callable[[int], bool] = lambda count: False
    ) -> AsyncIterator[Message]:
        """Scatter-gather: every answer as it arrives, until the deadline or until `enough(answers so far)`.

        Ends at once, without an answer, when nobody listens. Close it (`aclosing`) when leaving early.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + deadline_s
        async with self.listen() as answers:
            await self.publish(subject, data, reply=answers.subject)
            count = 0
            while not enough(count):
                try:
                    async with asyncio.timeout_at(deadline):
                        answer = await anext(answers)
                except TimeoutError:
                    return
                if answer.status == INTERRUPTED:
                    continue
                if answer.status == "503":
                    return
                count += 1
                yield answer

    @contextlib.asynccontextmanager
    async def listen(self, subject: str = "") -> AsyncIterator["Inbox"]:
        """An iterator over the messages of a subject (by default of a fresh inbox), while the block lasts."""
        inbox = Inbox(subject or self._client.new_inbox())
        try:
            inner = await self._client.subscribe(
                inbox.subject, cb=inbox.take, pending_msgs_limit=PENDING_MESSAGES, pending_bytes_limit=PENDING_BYTES
            )
        except (nats.errors.Error, OSError) as error:
            raise ConnectionFailed(f"cannot subscribe to {inbox.subject}: {explain(error)}") from error
        self._inboxes.add(inbox)
        try:
            yield inbox
        finally:
            self._inboxes.discard(inbox)
            with contextlib.suppress(nats.errors.Error, OSError):
                await inner.unsubscribe()

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        """Call `handler` with each message, one at a time, in order."""

        async def receive(message: Msg) -> None:
            await handler(_message(message))

        return Subscription(
            await self._client.subscribe(
                subject,
                queue=queue,
                cb=receive,
                pending_msgs_limit=PENDING_MESSAGES,
                pending_bytes_limit=PENDING_BYTES,
            )
        )

    async def respond(self, message: Message, data: bytes) -> None:
        """Answer a request; nothing happens if it did not ask for an answer."""
        if message.reply:
            await self.publish(message.reply, data)

    async def serve(
        self, name: str, version: str, endpoints: Sequence[Endpoint], *, metadata: Mapping[str, str], queue: str
    ) -> None:
        """Register a micro service (ADR-32) until the bus closes. Who asks after this returned reaches it."""
        from nats import micro  # only the agent serves; the CLI should not pay for it

        service = await micro.add_service(
            self._client, name=name, version=version, metadata=dict(metadata), queue_group=queue
        )
        self._services.append(service)
        for endpoint in endpoints:
            await service.add_endpoint(
                name=endpoint.name, subject=endpoint.subject, handler=_micro_handler(endpoint.handler)
            )
        with contextlib.suppress(nats.errors.Error, TimeoutError):  # gone meanwhile: it subscribes again when back
            await self._client.flush(int(REQUEST_SECONDS))

    # What the library tells us

    async def _on_connected(self) -> None:
        self._failures = 0
        self._up.set()
        for inbox in self._inboxes:
            inbox.interrupt()
        log.info("broker connected url=%s", without_secrets(self._url()))

    def _url(self) -> str:
        url = self._client.connected_url
        return url.geturl() if url else ""

    async def _on_disconnected(self) -> None:
        was_up = self._up.is_set()
        self._up.clear()
        if was_up and not self._stopping:
            log.warning("broker lost url=%s", ",".join(map(without_secrets, self.options.urls)))

    async def _on_closed(self) -> None:
        self._up.clear()
        self._closed.set()

    async def _on_error(self, error: Exception) -> None:
        """A failed attempt, or a complaint of the server. Sets the delay that the library waits before the next one."""
        self._last_error = error
        if "authorization" in str(error).lower():
            self._refusal = error  # the connections that follow may fail with less to say
        if isinstance(error, nats.errors.SlowConsumerError):
            log.warning("messages dropped subject=%s reason=slow-consumer", error.subject)
            return
        self._failures += 1
        self._client.options["reconnect_time_wait"] = delay_seconds(self._failures, self._uniform)
        first = self._failures == 1 and not self._stopping
        log.log(logging.WARNING if first else logging.DEBUG, "broker not reachable error=%r", explain(error))


class Inbox:
    """Messages of one subscription, waiting in order; a reader that gives up waiting loses none."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self._messages: asyncio.Queue[Message] = asyncio.Queue(maxsize=INBOX_MESSAGES)

    def __aiter__(self) -> "Inbox":
        return self

    async def __anext__(self) -> Message:
        return await self._messages.get()

    def interrupt(self) -> None:
        """Tell the reader that the connection was lost and is back; one that is behind will notice by itself."""
        with contextlib.suppress(asyncio.QueueFull):
            self._messages.put_nowait(Message(subject=self.subject, data=b"", headers={"Status": INTERRUPTED}))

    async def take(self, message: Msg) -> None:
        """Called by the library; waits while the reader is behind, and then the library's own limits apply."""
        await self._messages.put(_message(message))


def delay_seconds(failures: int, uniform: Callable[[float, float], float]) -> float:
    """How long to wait after so many failures in a row: doubling, capped, spread over its upper half."""
    longest = min(LAST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(max(failures, 1) - 1, 10))
    return uniform(longest / 2, longest)


def without_secrets(url: str) -> str:
    """The url with user and password taken out."""
    scheme, mark, rest = url.rpartition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def explain(error: BaseException) -> str:
    """The error in words; the library's `nats: ` prefix says nothing."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return str(error).removeprefix("nats: ") or type(error).__name__


def prepare(options: BusOptions) -> "tuple[_LiveCredentials | None, ssl.SSLContext | None]":
    """What a connection with these options needs from files.

    Raises:
        ConfigError: an address or a file cannot be used; the text says which and why.
    """
    for url in options.urls:
        check_url(url)
    return _credentials(options.credentials), _tls(options)


def _tls(options: BusOptions) -> ssl.SSLContext | None:
    """A context when certificates are configured or a url asks for TLS; None leaves it to the server."""
    wanted = options.tls_ca or options.tls_cert or any(url.startswith("tls://") for url in options.urls)
    if not wanted:
        return None
    try:
        context = ssl.create_default_context(cafile=options.tls_ca)
        if options.tls_cert:
            context.load_cert_chain(options.tls_cert, options.tls_key)
    except OSError as error:
        files = ", ".join(str(path) for path in (options.tls_ca, options.tls_cert, options.tls_key) if path)
        raise ConfigError(f"{files}: not usable as certificates and key: {error}") from error
    return context


def check_url(url: str) -> None:
    """Raises ConfigError if the library could not connect to `url`: it would fail with less to say."""
    whole = url if "://" in url else f"nats://{url}"
    try:
        parts = urlsplit(whole)
        good = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or too large; brackets that are not closed
        good = False
    if not good:
        raise ConfigError(
            f"{without_secrets(url)!r} is not the address of a NATS server: write for example nats://hub.example:4222"
        )


class _LiveCredentials:
    """What the library asks for at each connection; the file is read again, so that a renewed one is used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read()

    def _read(self) -> Credentials:
        return read_credentials(self._path)

    def jwt(self) -> bytearray:
        return bytearray(self._read().jwt.encode())

    def sign(self, nonce: str) -> bytes:
        return base64.b64encode(self._read().sign(nonce.encode()))


def _credentials(path: Path | None) -> "_LiveCredentials | None":
    return _LiveCredentials(path) if path else None


def _message(message: Msg) -> Message:
    return Message(subject=message.subject, data=message.data, reply=message.reply, headers=dict(message.headers or {}))


def _micro_handler(handler: Handler) -> Callable[[Any], Awaitable[None]]:
    async def handle(request: Any) -> None:
        await handler(_message(request._msg))  # the request hides the reply subject, which a later answer needs

    return handle
