"""Asks the auth service: a signed request in its account, one answer within the time that clients have for CONNECT."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from leafnode.base import nuid
from leafnode.errors import TrustError
from leafnode.net.secrets import Signer, check_signature
from leafnode.route.account import Account
from leafnode.route.auth import Arrival, User
from leafnode.route.callout import AUDIENCE, SUBJECT, read_response, request_body
from leafnode.route.jwt import Token, encode
from leafnode.route.message import Message, Subscription
from leafnode.route.verdict import Verdict

log = logging.getLogger("leafnode.auth")

Judge = Callable[[Token, str], User]
"""(response, the nkey that the user must have) -> who the client becomes. Raises TrustError."""


class Desk:
    """Where questions about clients are asked from; one for a broker."""

    def __init__(self, key: Signer, server: Callable[[], Mapping[str, Any]], timeout_s: Callable[[], float]) -> None:
        """`key`: the server's, whose public part is its id. `server()`: who we are, for requests."""
        self._key = key
        self._server = server
        self._timeout_s = timeout_s

    def ask(
        self,
        account: Account,
        addressee: str,
        client: tuple[Mapping[str, object], bytes, Arrival, str],
        judge: Judge,
    ) -> Verdict[User]:
        """`account`: the service's. `addressee`: whose answer it is. `client`: its options of CONNECT, its nonce, how
        it came, and what it calls itself."""
        options, nonce, arrival, user = client
        user_nkey = Signer.fresh("U").public
        now_s, timeout_s = int(time.time()), self._timeout_s()
        body = request_body(self._server(), user_nkey, options, nonce, arrival, user)
        claims = {
            "aud": AUDIENCE,
            "exp": now_s + max(int(timeout_s), 1),
            "iat": now_s,
            "iss": self._key.public,
            "sub": addressee,
        }
        text = encode(claims, "authorization_request", body, self._key.sign)
        question = _Question(account, judge, self._key.public, user_nkey, timeout_s)
        question.ask(text)
        return question.verdict


class _Question:
    """One request that waits for its answer."""

    is_remote = False

    def __init__(self, account: Account, judge: Judge, server_id: str, user_nkey: str, timeout_s: float) -> None:
        self.verdict: Verdict[User] = Verdict()
        self._account = account
        self._judge = judge
        self._server_id = server_id
        self._user_nkey = user_nkey
        self._sub = Subscription(f"$SYS._INBOX.{nuid.new()}".encode(), self)
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self._end, None, "no answer in time")
        account.subscribe(self._sub)

    def ask(self, text: str) -> None:
        reached = self._account.publish(Message(SUBJECT.encode(), reply=self._sub.subject, payload=text.encode()))
        if not reached:
            self._end(None, "the auth service is not there")

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        try:
            response = read_response(
                message.payload.decode(errors="replace"),
                server_id=self._server_id,
                user_nkey=self._user_nkey,
                check_signature=check_signature,
                now_s=time.time(),
            )
            user = self._judge(response, self._user_nkey)
        except TrustError as error:
            self._end(None, str(error))
        else:
            self._end(user)
        return True

    def _end(self, user: User | None, why: str = "") -> None:
        if self.verdict.is_settled:
            return
        self._timer.cancel()
        self._account.unsubscribe(self._sub)
        if why:
            log.warning("auth callout in account %s: refused: %s", self._account.name, why)
        self.verdict.settle(user)
