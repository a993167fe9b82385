"""Requests about accounts' JWTs in the system account: what `nsc push` and `nats auth account push` send.

    $SYS.REQ.CLAIMS.UPDATE            a JWT            -> {server, data | error}
    $SYS.REQ.ACCOUNT.<id>.CLAIMS.UPDATE   the same, of this account
    $SYS.REQ.CLAIMS.LIST              nothing          -> {server, data: [ids]}
    $SYS.REQ.ACCOUNT.<id>.CLAIMS.LOOKUP   nothing      -> the JWT, or nothing
    $SYS.REQ.CLAIMS.PACK              nothing or a hash -> `id|JWT` one a message, then an empty one
    $SYS.REQ.CLAIMS.DELETE            a signed list    -> {server, data | error}

Source: spec auth section 4.
"""

import json
import logging
from asyncio import Task
from collections.abc import Callable
from typing import Any, Protocol

from leafnode.config.options import ResolverConfig
from leafnode.errors import TrustError
from leafnode.net.resolver import Resolver
from leafnode.net.system import Listener
from leafnode.route.account import Account
from leafnode.route.message import Message, Subscription

UPDATES = ("$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.ACCOUNT.*.CLAIMS.UPDATE", "$SYS.ACCOUNT.*.CLAIMS.UPDATE")
OF_KEEPERS = ("$SYS.REQ.CLAIMS.LIST", "$SYS.REQ.CLAIMS.DELETE")
OF_OWNERS = ("$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP",)
PACK = "$SYS.REQ.CLAIMS.PACK"
PACK_QUEUE = b"responder"  # one server answers for all of a cluster
SUBJECTS: dict[str, tuple[str, ...]] = {
    "full": (*UPDATES, *OF_KEEPERS, *OF_OWNERS, PACK),
    "memory": (*UPDATES, *OF_KEEPERS, *OF_OWNERS, PACK),
    "cache": (*UPDATES, *OF_KEEPERS),
    "url": UPDATES,
}
"""By the kind of resolver: what only caches JWTs does not answer for them."""

log = logging.getLogger("leafnode.auth")


class Tenants(Protocol):
    """Who keeps accounts."""

    resolver: Resolver
    rules: ResolverConfig

    def update(self, text: str, *, account: str = "") -> tuple[str, str]: ...
    def delete_asked(self, text: str) -> int: ...
    def attach_soon(self) -> "Task[None]": ...


class ClaimsRequests:
    """Answers them."""

    def __init__(self, account: Account, tenants: Tenants, server: Callable[[], dict[str, Any]]) -> None:
        """`account`: the system's. `server()`: who we are, for answers."""
        self._account = account
        self._tenants = tenants
        self._server = server

        self.listener = Listener(account, self._take)

    def start(self) -> None:
        for number, subject in enumerate(SUBJECTS[self._tenants.rules.kind], 1):
            queue = PACK_QUEUE if subject == PACK else b""
            self._account.subscribe(Subscription(subject.encode(), self.listener, queue, sid=b"claims%d" % number))

    def _take(self, _: Account, message: Message, to: bytes) -> None:
        match to.decode(errors="replace").removeprefix("$SYS.").removeprefix("REQ.").split("."):
            case ["CLAIMS", "UPDATE"]:
                self._update(message, "")
            case ["ACCOUNT", account, "CLAIMS", "UPDATE"]:
                self._update(message, account)
            case ["CLAIMS", "LIST"]:
                self._say(message.reply, {"server": self._server(), "data": self._tenants.resolver.ids()})
            case ["ACCOUNT", account, "CLAIMS", "LOOKUP"]:
                self._answer(message.reply, self._tenants.resolver.get(account).encode())
            case ["CLAIMS", "PACK"]:
                self._pack(message)
            case ["CLAIMS", "DELETE"]:
                self._delete(message)

    def _update(self, message: Message, account: str) -> None:
        """The answer waits for JetStream: whoever got it may connect and use it."""
        try:
            changed, done = self._tenants.update(message.payload.decode(errors="replace"), account=account)
        except TrustError as error:
            log.warning("%s", error)
            self._failed(message.reply, getattr(error, "account", ""), str(error))
            return
        log.info("%s account=%s", done, changed)
        told = {"server": self._server(), "data": {"account": changed, "code": 200, "message": done}}
        self._tenants.attach_soon().add_done_callback(lambda _: self._say(message.reply, told))

    def _delete(self, message: Message) -> None:
        try:
            count = self._tenants.delete_asked(message.payload.decode(errors="replace"))
        except TrustError as error:
            log.warning("%s", error)
            self._failed(message.reply, "", str(error))
            return
        log.info("deleted %d accounts", count)
        done = {"code": 200, "message": f"deleted {count} accounts"}
        self._say(message.reply, {"server": self._server(), "data": done})

    def _pack(self, message: Message) -> None:
        resolver = self._tenants.resolver
        if message.payload != resolver.digest():
            for account in resolver.ids():
                self._answer(message.reply, f"{account}|{resolver.get(account)}".encode())
        self._answer(message.reply, b"")

    def _failed(self, reply: bytes, account: str, text: str) -> None:
        error = {"account": account, "code": 500, "description": text}
        self._say(reply, {"server": self._server(), "error": {key: value for key, value in error.items() if value}})

    def _say(self, reply: bytes, body: dict[str, Any]) -> None:
        self._answer(reply, json.dumps(body, separators=(",", ":")).encode())

    def _answer(self, reply: bytes, payload: bytes) -> None:
        if reply:
            self._account.publish(Message(reply, payload=payload))
