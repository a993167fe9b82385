"""Where account JWTs come from that are not here: a web server, or other servers, asked over the system account.

    URL(http://…/accounts/)   GET <url><account id>                    -> the JWT
    others                    $SYS.REQ.ACCOUNT.<id>.CLAIMS.LOOKUP       -> the JWT, or nothing where it is not known
                              $SYS.REQ.CLAIMS.PACK with our digest      -> `id|JWT` for each, unless theirs is the same

Every question ends in time. What comes back is not trusted here; whoever asked checks it. Source: spec auth section 4.
"""

import asyncio
import concurrent.futures
import http.client
import ssl
import time
import urllib.request
from collections.abc import Callable
from typing import Protocol

from leafnode.base import nuid
from leafnode.errors import TrustError
from leafnode.net.resolver import FILE_MAX
from leafnode.route.account import Account
from leafnode.route.message import Message, Sink, Subscription

FETCH_SECONDS = 1.9  # for a JWT from elsewhere (nats-server): within the two seconds that a client has for its CONNECT
PACK_SECONDS = 5.0  # for all of them
THREADS = 4  # that wait for a web server; it is asked once an account
INBOX = "$SYS._INBOX."


class Source(Protocol):
    """Somewhere else."""

    async def fetch(self, account: str) -> str:
        """The account's JWT; empty: it is not known there. Raises TrustError where nobody could be asked."""
        ...

    def close(self) -> None: ...


class WebSource:
    """A web server with a file for each account."""

    def __init__(self, url: str, timeout_s: float = 0.0, tls: ssl.SSLContext | None = None) -> None:
        self._url = url if url.endswith("/") else f"{url}/"
        self._timeout_s = timeout_s or FETCH_SECONDS
        handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls)]
        self._opener = urllib.request.build_opener(*handlers)
        self._threads = concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix="resolver")

    async def fetch(self, account: str) -> str:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await loop.run_in_executor(self._threads, self._get, account)
        except TimeoutError as error:
            raise TrustError("the resolver's web server does not answer in time") from error

    def _get(self, account: str) -> str:
        """In a thread. A server that gives a byte now and then does not keep it for longer than the others."""
        until = time.monotonic() + self._timeout_s
        try:
            with self._opener.open(self._url + account, timeout=self._timeout_s) as answer:
                text = b""
                while len(text) <= FILE_MAX and (part := answer.read1(FILE_MAX)):
                    text += part
                    if time.monotonic() > until:
                        raise TimeoutError("it is too slow")
                return text.decode().strip()
        except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: not text
            raise TrustError(f"could not fetch the account's JWT: {error}") from error

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class PeerSource:
    """Other servers that the system account reaches over leaf links."""

    def __init__(self, account: Account, ourselves: Sink, timeout_s: float = 0.0) -> None:
        """`account`: the system's. `ourselves`: who answers such questions here, and is not asked."""
        self._account = account
        self._ourselves = ourselves
        self._timeout_s = timeout_s or FETCH_SECONDS

    async def fetch(self, account: str) -> str:
        found: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def take(payload: bytes) -> None:
            if payload and not found.done():
                found.set_result(payload.decode(errors="replace"))

        with _Inbox(self._account, take) as inbox:
            if not self._ask(f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP", inbox.subject, b""):
                return ""
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await found
            except TimeoutError:
                return ""

    async def pack(self, digest: bytes) -> list[tuple[str, str]]:
        """All JWTs of another server, by account, if they differ from those with our digest."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        packed: list[tuple[str, str]] = []

        def take(payload: bytes) -> None:
            if payload:
                lines = payload.decode(errors="replace").split("\n")
                packed.extend((name, text) for name, bar, text in (line.partition("|") for line in lines) if bar)
            elif not done.done():
                done.set_result(None)

        with _Inbox(self._account, take) as inbox:
            if self._ask("$SYS.REQ.CLAIMS.PACK", inbox.subject, digest):
                try:
                    async with asyncio.timeout(PACK_SECONDS):
                        await done
                except TimeoutError:
                    return packed
        return packed

    def _ask(self, subject: str, inbox: bytes, payload: bytes) -> bool:
        question = Message(subject.encode(), reply=inbox, payload=payload)
        return self._account.publish(question, origin=self._ourselves, echo=False) > 0

    def close(self) -> None:
        """Nothing is held."""


class _Inbox:
    """A subject for the answers to one question."""

    is_remote = False

    def __init__(self, account: Account, take: Callable[[bytes], None]) -> None:
        self.subject = f"{INBOX}{nuid.new()}".encode()
        self._account = account
        self._take = take
        self._sub = Subscription(self.subject, self)

    def __enter__(self) -> "_Inbox":
        self._account.subscribe(self._sub)
        return self

    def __exit__(self, *exc: object) -> None:
        self._account.unsubscribe(self._sub)

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        self._take(message.payload)
        return True
