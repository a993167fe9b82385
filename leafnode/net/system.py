"""The system account: listens for requests, answers them, and tells who listens what happens.

An event is made only when somebody is subscribed to it, so an unwatched broker spends nothing on them. Requests from
ordinary accounts (`requests.OF_ANYBODY`) come in through subscriptions in each of those accounts.
"""

import asyncio
import dataclasses
import json
import logging
import time
from collections.abc import Callable
from typing import Any

from leafnode.base import nuid
from leafnode.config.options import GLOBAL_ACCOUNT
from leafnode.net import advisories, requests, tracing
from leafnode.net.figures import Figures, Running, link_row
from leafnode.net.links import LinkView
from leafnode.net.requests import Controls, Request, Requests
from leafnode.net.server import ClientConnection
from leafnode.net.sockets import Row
from leafnode.route.account import Account
from leafnode.route.auth import User
from leafnode.route.message import Message, Subscription
from leafnode.route.session import Session

STATSZ_SECONDS = 10.0  # between two STATSZ events (nats-server)
FIRST_STATSZ_SECONDS = 0.25  # after the start; then doubled until it is the above (nats-server)
PREFIX = "$SYS.REQ."

log = logging.getLogger("leafnode.system")


class Listener:
    """A sink that hands requests on."""

    is_remote = False

    def __init__(self, account: Account, take: Callable[[Account, Message, bytes], None]) -> None:
        self._account = account
        self._take = take

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        sub.delivered += 1
        try:
            self._take(self._account, message, to)
        except Exception:
            log.exception("request %s failed", to.decode(errors="replace"))
        return True


class SystemAccount:
    """One for the broker. Implements `Watcher` and `LinkWatcher`."""

    def __init__(self, running: Running, figures: Figures, controls: Controls) -> None:
        self._running = running
        self._figures = figures
        self._account = running.accounts[running.system_account]
        self._seq = 0
        self._subs: dict[str, list[Subscription]] = {}  # by account
        self._requests = Requests(figures, controls, self._server, self._event)

    # life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to answer."""
        of_all = [f"SERVER.PING.{word}" for word in requests.OF_SERVER]
        of_us = [f"SERVER.{self._running.server_id}.{w}" for w in (*requests.OF_SERVER, *requests.OF_THIS_SERVER)]
        of_account = [f"ACCOUNT.*.{word}" for word in requests.OF_ACCOUNT]
        self._listen(self._account, "SERVER.PING", "USER.INFO", *of_all, *of_us, *of_account)
        for account in self._running.accounts.values():
            self.add(account)

    def add(self, account: Account) -> None:
        """An ordinary account is there: its clients may ask about it."""
        if account is not self._account:
            self._listen(account, *requests.OF_ANYBODY)

    def remove(self, account: Account) -> None:
        for sub in self._subs.pop(account.name, []):
            account.unsubscribe(sub)

    def _listen(self, account: Account, *subjects: str) -> None:
        listener = Listener(account, self._take)
        kept = self._subs.setdefault(account.name, [])
        for number, words in enumerate(subjects, len(kept) + 1):
            sub = Subscription(f"{PREFIX}{words}".encode(), listener, sid=b"%d" % number)
            kept.append(sub)
            account.subscribe(sub)

    # requests ----------------------------------------------------------------------------------------------------

    def _take(self, account: Account, message: Message, to: bytes) -> None:
        reply = message.reply
        if not reply:
            return
        words = to.decode(errors="replace").removeprefix(PREFIX)
        asker = asker_of(account, reply) if words == "USER.INFO" else None
        is_system = account is self._account
        request = Request(words, message.payload, account.name, is_system, asker)

        def say(body: dict[str, Any]) -> None:
            payload = encoded(body)
            tracing.system_said(reply, b"", payload)
            account.publish(Message(reply, payload=payload))

        answer = self._requests.answer(request, later=say)
        if answer is not None:
            say(answer)

    # events ------------------------------------------------------------------------------------------------------

    def connected(self, connection: ClientConnection) -> None:
        self._came(connection.row())

    def link_came(self, view: LinkView) -> None:
        self._came(link_row(view, with_subs=False))

    def link_went(self, view: LinkView) -> None:
        row = link_row(view, with_subs=False)
        self.disconnected(dataclasses.replace(row, stop_ns=time.time_ns(), reason=view.leaf.close_reason))

    def _came(self, row: Row) -> None:
        self._tell(
            f"$SYS.ACCOUNT.{row.account}.CONNECT",
            lambda: self._event(advisories.CONNECT, client=advisories.client(row)),
        )
        self._count(row.account)

    def disconnected(self, row: Row) -> None:
        def body() -> dict[str, Any]:
            return self._event(advisories.DISCONNECT, **advisories.gone(row))

        if not row.account:
            if row.reason.startswith("Authentication"):
                self._tell(f"$SYS.SERVER.{self._running.server_id}.CLIENT.AUTH.ERR", body)
                self._tell(f"$SYS.ACCOUNT.{GLOBAL_ACCOUNT}.DISCONNECT", body)
            return
        self._tell(f"$SYS.ACCOUNT.{row.account}.DISCONNECT", body)
        self._count(row.account)

    def _count(self, name: str) -> None:
        """How many connections an account has, under both of its subjects."""
        subjects = (f"$SYS.ACCOUNT.{name}.SERVER.CONNS", f"$SYS.SERVER.ACCOUNT.{name}.CONNS")
        wanted = [subject for subject in subjects if self._account.has_interest(subject.encode())]
        stat = self._figures.account_stat(name) if wanted else None
        if stat is not None:
            body = self._event(advisories.CONNECTIONS, **stat)
            for subject in wanted:
                self._tell(subject, lambda: body)

    def lame_duck(self) -> None:
        self._tell(f"$SYS.SERVER.{self._running.server_id}.LAMEDUCK", self._server)

    def shutdown(self) -> None:
        self._tell(f"$SYS.SERVER.{self._running.server_id}.SHUTDOWN", self._server)

    async def beat(self) -> None:
        """STATSZ, until cancelled."""
        pause = FIRST_STATSZ_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, STATSZ_SECONDS)
            self._tell(
                f"$SYS.SERVER.{self._running.server_id}.STATSZ",
                lambda: {"server": self._server(), "statsz": self._figures.statsz()},
            )

    def _tell(self, subject: str, body: Callable[[], dict[str, Any]]) -> None:
        to = subject.encode()
        if self._account.has_interest(to):
            payload = encoded(body())
            tracing.system_said(to, b"", payload)
            self._account.publish(Message(to, payload=payload))

    def _event(self, kind: str, **fields: object) -> dict[str, Any]:
        return advisories.event(kind, nuid.new(), time.time_ns(), self._server(), **fields)

    def server_info(self) -> dict[str, Any]:
        """Who we are, freshly numbered."""
        return self._server()

    def _server(self) -> dict[str, Any]:
        running = self._running
        self._seq += 1
        return advisories.server_info(
            running.config,
            running.server_id,
            jetstream=running.storage is not None,
            seq=self._seq,
            now_ns=time.time_ns(),
        )


def asker_of(account: Account, reply: bytes) -> User | None:
    """Whose inbox a reply goes to. Of several listeners the one with the most particular subscription asked."""
    found = [sub for sub in account.subscriptions.match(reply) if isinstance(sub.sink, Session) and sub.sink.user]
    nearest = max(found, key=lambda sub: (b"*" not in sub.subject, len(sub.subject)), default=None)
    return nearest.sink.user if nearest is not None and isinstance(nearest.sink, Session) else None


def encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
