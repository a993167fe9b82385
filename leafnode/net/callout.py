"""Asks the auth service: a signed request in its account, one answer within the time that clients have for CONNECT."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from leafnode.base import nuid
from leafnode.errors import TrustError
from leafnode.net.secrets import SealingKey, Signer, check_signature
from leafnode.route.account import Account
from leafnode.route.auth import Arrival, User
from leafnode.route.callout import AUDIENCE, SUBJECT, read_response, request_body
from leafnode.route.jwt import Token, encode
from leafnode.route.message import Message, Subscription
from leafnode.route.verdict import Verdict
from leafnode.wire import headers

log = logging.getLogger("leafnode.auth")

Judge = Callable[[Token, str, bool], User]
"""(response, the nkey that the user must have, whether it came sealed) -> who the client becomes. Raises TrustError."""
XKEY_HEADER = "Nats-Server-Xkey"
TOKEN_START = b"eyJ"  # how a JWT begins that is not sealed


class Service(NamedTuple):
    """Who is asked."""

    account: Account
    issuer: str
    """To whom requests are addressed."""
    xkey: str = ""
    """Public curve key that they are sealed for; empty: they are not."""


class Desk:
    """Where questions about clients are asked from; one for a broker."""

    def __init__(self, key: Signer, server: Callable[[], Mapping[str, Any]], timeout_s: Callable[[], float]) -> None:
        """`key`: the server's, whose public part is its id. `server()`: who we are, for requests."""
        self._key = key
        self._server = server
        self._timeout_s = timeout_s

    def ask(
        self, service: Service, client: tuple[Mapping[str, object], bytes, Arrival, str], judge: Judge
    ) -> Verdict[User]:
        """`client`: its options of CONNECT, its nonce, how it came, and what it calls itself. Raises TrustError."""
        options, nonce, arrival, user = client
        user_nkey = Signer.fresh("U").public
        now_s, timeout_s = int(time.time()), self._timeout_s()
        sealing = SealingKey() if service.xkey else None
        server = {**self._server(), **({"xkey": sealing.public} if sealing is not None else {})}
        body = request_body(server, user_nkey, options, nonce, arrival, user)
        claims = {
            "aud": AUDIENCE,
            "exp": now_s + max(int(timeout_s), 1),
            "iat": now_s,
            "iss": self._key.public,
            "sub": service.issuer,
        }
        request = encode(claims, "authorization_request", body, self._key.sign).encode()
        block = b""
        if sealing is not None:
            request = _sealed(sealing, request, service.xkey)
            block = headers.with_lines(b"", (XKEY_HEADER.encode(), sealing.public.encode()))
        question = _Question(service, judge, self._key.public, user_nkey, sealing)
        question.ask(block, request, timeout_s)
        return question.verdict


def _sealed(key: SealingKey, request: bytes, xkey: str) -> bytes:
    try:
        return key.seal(request, xkey)
    except ValueError as error:
        raise TrustError(f"auth callout: xkey {xkey}: {error}") from error


class _Question:
    """One request that waits for its answer."""

    is_remote = False

    def __init__(
        self, service: Service, judge: Judge, server_id: str, user_nkey: str, sealing: SealingKey | None
    ) -> None:
        self.verdict: Verdict[User] = Verdict()
        self._service = service
        self._account = service.account
        self._judge = judge
        self._server_id = server_id
        self._user_nkey = user_nkey
        self._sealing = sealing
        self._sub = Subscription(f"$SYS._INBOX.{nuid.new()}".encode(), self)
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, block: bytes, request: bytes, timeout_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self._end, None, "no answer in time")
        self._account.subscribe(self._sub)
        if not self._account.publish(Message(SUBJECT.encode(), self._sub.subject, block, request)):
            self._end(None, "the auth service is not there")

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        sealing, payload = self._sealing, message.payload
        is_sealed = sealing is not None and bool(payload) and not payload.startswith(TOKEN_START)
        try:
            response = read_response(
                (self._open(payload) if is_sealed else payload).decode(errors="replace"),
                server_id=self._server_id,
                user_nkey=self._user_nkey,
                check_signature=check_signature,
                now_s=time.time(),
            )
            user = self._judge(response, self._user_nkey, is_sealed)
        except TrustError as error:
            self._end(None, str(error))
        else:
            self._end(user)
        return True

    def _open(self, envelope: bytes) -> bytes:
        assert self._sealing is not None
        try:
            return self._sealing.open(envelope, self._service.xkey)
        except ValueError as error:
            raise TrustError(f"error decrypting auth callout response: {error}") from error

    def _end(self, user: User | None, why: str = "") -> None:
        if self.verdict.is_settled:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._account.unsubscribe(self._sub)
        if why:
            log.warning("auth callout in account %s: refused: %s", self._account.name, why)
        self.verdict.settle(user)
