"""What the monitor shows: a look at the running parts, under nats-server's names (spec monitoring-and-ops 1)."""

import os
import time
from collections.abc import Callable
from typing import Any

from leafnode import identity
from leafnode.config.options import Config
from leafnode.net.links import Links, LinkView
from leafnode.net.monitor import Answer, BadRequest, Route
from leafnode.net.server import ClientConnection, ClientHost
from leafnode.net.varz import JetStreamFigures, Snapshot, Traffic, varz
from leafnode.route.account import Account
from leafnode.stream.times import to_text

CONNZ_LIMIT = 1024  # connections in one answer unless asked otherwise (nats-server)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

Sorter = Callable[[ClientConnection], Any]

SORTS: dict[str, tuple[Sorter, bool]] = {  # name -> key, descending
    "cid": (lambda c: c.session.client_id, False),
    "start": (lambda c: c.started_ns, False),
    "subs": (lambda c: len(c.session.subs), True),
    "pending": (lambda c: c.pending_bytes, True),
    "msgs_to": (lambda c: c.session.out_msgs, True),
    "msgs_from": (lambda c: c.session.in_msgs, True),
    "bytes_to": (lambda c: c.session.out_bytes, True),
    "bytes_from": (lambda c: c.session.in_bytes, True),
    "last": (lambda c: c.last_activity_ns, True),
    "idle": (lambda c: c.last_activity_ns, False),
    "uptime": (lambda c: c.started_ns, False),
}


class Figures:
    """Reads the broker's parts; changes nothing."""

    def __init__(
        self,
        config: Config,
        server_id: str,
        clients: ClientHost,
        accounts: dict[str, Account],
        links: Links,
        port: Callable[[], int],
        health: Callable[[], str],
        jetstream: Callable[[], JetStreamFigures | None],
    ) -> None:
        """`health()` is empty when all is well, else what is wrong."""
        self._config = config
        self._server_id = server_id
        self._clients = clients
        self._accounts = accounts
        self._links = links
        self._port = port
        self._health = health
        self._jetstream = jetstream
        self._started_ns = time.time_ns()
        self._cpu_before = (time.monotonic(), time.process_time())
        self.request_counts: dict[str, int] = {}
        self.http_port = 0

    def routes(self) -> dict[str, Route]:
        return {"/varz": self.varz, "/connz": self.connz, "/leafz": self.leafz, "/healthz": self.healthz}

    def healthz(self, query: dict[str, str]) -> Answer:
        wrong = self._health()
        return (503, {"status": "unavailable", "error": wrong}) if wrong else (200, {"status": "ok"})

    def varz(self, query: dict[str, str]) -> Answer:
        clients = self._clients
        totals = clients.totals()
        client_traffic = Traffic(**totals)
        for name, value in self._links.totals().items():
            totals[name] += value
        snapshot = Snapshot(
            config=self._config,
            server_id=self._server_id,
            server_name=self._config.server_name or self._server_id,
            version=identity.SPOKEN_VERSION,
            git_commit="leafnode",
            go=str(clients.info_fields.get("go", "")),
            port=self._port(),
            http_port=self.http_port,
            connect_urls=clients.info_fields.get("connect_urls", ()),
            start_ns=self._started_ns,
            now_ns=time.time_ns(),
            config_loaded_ns=self._started_ns,
            mem_bytes=resident_bytes(),
            cores=os.cpu_count() or 1,
            cpu_percent=self._cpu_percent(),
            connections=len(clients.connections),
            total_connections=clients.total_connections,
            leafnodes=len(self._links.up()),
            leaf_port=self._links.port,
            subscriptions=sum(account.subscriptions.count for account in self._accounts.values()),
            traffic=Traffic(**totals),
            client_traffic=client_traffic,
            slow_clients=clients.slow_consumers,
            stale_clients=clients.stale_connections,
            http_requests=self.request_counts,
            jetstream=self._jetstream(),
        )
        return 200, varz(snapshot)

    def _cpu_percent(self) -> float:
        wall, cpu = time.monotonic(), time.process_time()
        since, used = wall - self._cpu_before[0], cpu - self._cpu_before[1]
        self._cpu_before = (wall, cpu)
        return round(100 * used / since, 1) if since > 0 else 0.0

    def connz(self, query: dict[str, str]) -> Answer:
        """Open client connections. Parameters: sort, offset, limit, cid, subs."""
        sort, limit, offset = (
            query.get("sort") or "cid",
            number(query, "limit", CONNZ_LIMIT),
            number(query, "offset", 0),
        )
        if sort not in SORTS:
            raise BadRequest(f"invalid sorting option: {sort}")
        key, descending = SORTS[sort]
        chosen = sorted(self._clients.connections.values(), key=key, reverse=descending)
        if "cid" in query:
            chosen = [c for c in chosen if c.session.client_id == number(query, "cid", 0)]
        shown = chosen[offset : offset + (limit or CONNZ_LIMIT)]
        body = {
            "server_id": self._server_id,
            "now": to_text(time.time_ns()),
            "num_connections": len(shown),
            "total": len(chosen),
            "offset": offset,
            "limit": limit or CONNZ_LIMIT,
            "connections": [connection(c, query.get("subs", "")) for c in shown],
        }
        return 200, body

    def leafz(self, query: dict[str, str]) -> Answer:
        """Links that are up."""
        leafs = [leaf(view) for view in self._links.up()]
        body = {
            "server_id": self._server_id,
            "now": to_text(time.time_ns()),
            "leafnodes": len(leafs),
            "leafs": leafs,
        }
        return 200, body


def connection(shown: ClientConnection, subs: str) -> dict[str, Any]:
    session = shown.session
    now = time.time_ns()
    described: dict[str, Any] = {
        "cid": session.client_id,
        "kind": "Client",
        "type": "nats",
        "ip": shown.peer[0],
        "port": shown.peer[1],
        "start": to_text(shown.started_ns),
        "last_activity": to_text(shown.last_activity_ns),
        "uptime": duration(now - shown.started_ns),
        "idle": duration(now - shown.last_activity_ns),
        "pending_bytes": shown.pending_bytes,
        "in_msgs": session.in_msgs,
        "out_msgs": session.out_msgs,
        "in_bytes": session.in_bytes,
        "out_bytes": session.out_bytes,
        "subscriptions": len(session.subs),
    }
    for name in ("name", "lang", "version"):
        if getattr(session, name):
            described[name] = getattr(session, name)
    if session.account is not None:
        described["account"] = session.account.name
    if subs in ("1", "true"):
        described["subscriptions_list"] = [sub.subject.decode(errors="replace") for sub in session.subs.values()]
    elif subs == "detail":
        described["subscriptions_list_detail"] = [
            {
                "subject": sub.subject.decode(errors="replace"),
                **({"qgroup": sub.queue.decode(errors="replace")} if sub.queue else {}),
                "sid": sub.sid.decode(errors="replace"),
                "msgs": sub.delivered,
                **({"max": sub.max} if sub.max else {}),
                "cid": session.client_id,
            }
            for sub in session.subs.values()
        ]
    return described


def leaf(view: LinkView) -> dict[str, Any]:
    link = view.leaf
    return {
        "name": str(link.remote.get("name" if link.accepted else "server_name", "")),
        "is_spoke": not link.accepted,
        "account": link.account.name,
        "ip": view.host,
        "port": view.port,
        "in_msgs": link.in_msgs,
        "out_msgs": link.out_msgs,
        "in_bytes": link.in_bytes,
        "out_bytes": link.out_bytes,
        "subscriptions": link.interest_count,
        "compression": "not supported",
    }


def number(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None or text == "":
        return default
    if not text.isdigit():
        raise BadRequest(f"Error decoding int for '{name}': strconv.Atoi: parsing \"{text}\": invalid syntax")
    return int(text)


def duration(nanoseconds: int) -> str:
    """`1d2h3m4s`, as nats-server writes it."""
    seconds = max(nanoseconds, 0) // 1_000_000_000
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"))
    return "".join(f"{value}{unit}" for value, unit in parts if value) + f"{seconds}s"


def resident_bytes() -> int:
    """Resident memory of this process; 0 where /proc is not there."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * PAGE_BYTES
    except OSError:
        return 0
