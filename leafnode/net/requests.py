"""What requests to `$SYS.REQ.…` are answered with (spec monitoring-and-ops section 2). No sockets, no subscriptions.

A request is a subject without `$SYS.REQ.`, its body, and the account it came from. The answer is an object, None when
there is none (a filter that means other servers), or comes later through `Controls`. Accounts other than the system's
see themselves only.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from leafnode.net import advisories
from leafnode.net.figures import Figures
from leafnode.net.monitor import BadRequest
from leafnode.net.questions import Accstatz, Connz, Jsz, Leafz, ServerFilter, Subsz, parse
from leafnode.route.auth import User

NO_CLIENT_OR_LEAF = "no such client or leafnode id"
NO_CLIENT = "no such client id"
OF_SERVER = (
    *("IDZ", "STATSZ", "VARZ", "CONNZ", "SUBSZ", "ROUTEZ", "GATEWAYZ", "LEAFZ", "ACCOUNTZ", "JSZ", "HEALTHZ"),
    *("IPQUEUESZ", "RAFTZ"),
)
"""Asked of all servers (`SERVER.PING.…`) or of one (`SERVER.<id>.…`)."""
OF_THIS_SERVER = ("RELOAD", "KICK", "LDM")
OF_ACCOUNT = ("CONNZ", "SUBSZ", "LEAFZ", "JSZ", "INFO", "STATZ", "CONNS")
OF_ANYBODY = ("USER.INFO", "SERVER.PING.CONNZ", "ACCOUNT.PING.CONNZ", "ACCOUNT.PING.STATZ")
"""Answered in every account, about that account."""

Answer = dict[str, Any] | None
Later = Callable[[dict[str, Any]], None]


class Controls(Protocol):
    """What can be done to the broker."""

    def kick(self, cid: int) -> bool:
        """Close a client or link; False: there is none of that number."""
        ...

    def send_away(self, cid: int) -> bool:
        """Tell a client that this server is going; False: there is none."""
        ...

    def reload_soon(self, then: Callable[[str], None]) -> None:
        """Read the configuration again; `then` with "" or why it was refused."""
        ...


class Request(NamedTuple):
    words: str
    """The subject without `$SYS.REQ.`"""
    body: bytes
    account: str
    is_system: bool
    """It came from the system account."""
    asker: User | None = None
    """Where it matters and is known."""


class Requests:
    """Answers them."""

    def __init__(
        self,
        figures: Figures,
        controls: Controls,
        server: Callable[[], dict[str, Any]],
        new_event: Callable[..., dict[str, Any]],
    ) -> None:
        """`server()`: who we are, freshly numbered. `new_event(kind, **fields)`: the body of an event."""
        self._figures = figures
        self._controls = controls
        self._server = server
        self._event = new_event

    def answer(self, request: Request, later: Later) -> Answer:
        """The whole reply, or None; `later` is called with what takes time."""
        try:
            return self._answer(request, later)
        except BadRequest as error:
            return self._failed(400, str(error))

    def _answer(self, request: Request, later: Later) -> Answer:
        match request.words.split("."):
            case ["USER", "INFO"]:
                return self._said(advisories.user_info(request.asker, time.time())) if request.asker else None
            case ["SERVER", "PING"]:
                return self._of_server("STATSZ", request)
            case ["SERVER", "PING", "CONNZ"] | ["ACCOUNT", "PING", "CONNZ"] if not request.is_system:
                return self._of_account(request.account, "CONNZ", request.body)
            case ["SERVER", _, word]:
                return self._ordered(word, request, later) if word in OF_THIS_SERVER else self._of_server(word, request)
            case ["ACCOUNT", "PING", "STATZ"]:
                return self._statz(request)
            case ["ACCOUNT", "PING", "CONNZ"]:
                return self._said(self._figures.connz(Connz.from_json(request.body))[1])
            case ["ACCOUNT", name, word]:
                return self._of_account(name, word, request.body)
        return None

    def _ordered(self, word: str, request: Request, later: Later) -> Answer:
        """Something is to be done."""
        if word == "KICK":
            return self._done("" if self._controls.kick(_cid(request.body)) else NO_CLIENT_OR_LEAF)
        if word == "LDM":
            return self._done("" if self._controls.send_away(_cid(request.body)) else NO_CLIENT)
        self._controls.reload_soon(lambda failure: later(self._done(failure)))
        return None

    # the server --------------------------------------------------------------------------------------------------

    def _of_server(self, word: str, request: Request) -> Answer:
        server = self._server()
        if word == "IDZ":  # answered by everybody
            return {name: server[name] for name in ("name", "host", "id")}
        asked = ServerFilter.from_json(request.body)
        if not asked.accepts(
            server_name=server["name"],
            cluster=server.get("cluster", ""),
            host=server["host"],
            domain=server.get("domain", ""),
            tags=tuple(server.get("tags", ())),
        ):
            return None
        if word == "STATSZ":
            return {"server": server, "statsz": self._figures.statsz()}
        if word == "RAFTZ":
            return {"server": server, "data": {}}  # there is no Raft here
        end = self._figures.endpoints[word]
        options = end.options.from_json(request.body)
        try:
            status, body = end.answer(options)
        except BadRequest as error:  # well said, but not to be had
            return self._failed(500, str(error), data=None)
        if word == "HEALTHZ" and isinstance(body, dict):
            body = {"status": body["status"], "status_code": status} | body
        return {"server": server, "data": body}

    # accounts ----------------------------------------------------------------------------------------------------

    def _statz(self, request: Request) -> Answer:
        asked = Accstatz.from_json(request.body)
        if not request.is_system:
            asked = dataclasses.replace(asked, accounts=(request.account,), unused=True)
        return self._said(self._figures.accstatz(asked)[1])

    def _of_account(self, name: str, word: str, body: bytes) -> Answer:
        figures = self._figures
        match word:
            case "CONNZ":
                return self._said(figures.connz(dataclasses.replace(Connz.from_json(body), acc=name))[1])
            case "SUBSZ":
                asked = dataclasses.replace(Subsz.from_json(body), acc=name, subs=True)
                return self._said(figures.subsz(asked)[1])
            case "LEAFZ":
                return self._said(figures.leafz(dataclasses.replace(Leafz.from_json(body), acc=name))[1])
            case "STATZ":
                return self._said(figures.accstatz(Accstatz(accounts=(name,), unused=True))[1])
            case "INFO":
                try:
                    return self._said(figures.account_detail(name))
                except BadRequest as error:
                    return self._failed(500, str(error), data=None)
            case "JSZ":
                detail = figures.jetstream_of(name, Jsz.from_json(body))
                missing = f'account "{name}" not jetstream enabled'
                return self._said(detail) if detail is not None else self._failed(500, missing, data=None)
            case "CONNS":
                stat = figures.account_stat(name)
                return self._event(advisories.CONNECTIONS, **stat) if stat else None
        return None

    # replies -----------------------------------------------------------------------------------------------------

    def _said(self, data: object) -> dict[str, Any]:
        return {"server": self._server(), "data": data}

    def _failed(self, code: int, text: str, **data: object) -> dict[str, Any]:
        return {"server": self._server(), **data, "error": {"code": code, "description": text}}

    def _done(self, failure: str) -> dict[str, Any]:
        return self._failed(500, failure) if failure else {"server": self._server()}


def _cid(body: bytes) -> int:
    cid = parse(body).get("cid", 0)
    if not isinstance(cid, int):
        raise BadRequest("cannot use what is given for field 'cid' of type int")
    return cid
