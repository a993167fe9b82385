"""What the monitor and the system account show: a look at the running parts, under nats-server's names.

Each endpoint is a function of its options (`questions`), the same over HTTP and over $SYS. Nothing here changes
anything, and nothing is counted for it while messages flow: sums are made when somebody asks (spec
monitoring-and-ops section 1).
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from leafnode import identity
from leafnode.config.options import Config
from leafnode.net import accountz, connz, forwardz, jsz, metrics, sockets
from leafnode.net.links import Links, LinkView
from leafnode.net.metrics import Sample
from leafnode.net.monitor import Answer, BadRequest, Exposition, Json, Route
from leafnode.net.process import PAGE_BYTES, resident_bytes
from leafnode.net.questions import Accountz, Accstatz, Connz, Healthz, Ipqueuesz, Jsz, Leafz, Nothing, Options, Subsz
from leafnode.net.server import ClientHost
from leafnode.net.sockets import TRAFFIC, Row
from leafnode.net.stacks import stacks
from leafnode.net.varz import JetStreamFigures, Snapshot, Traffic, rfc3339, varz
from leafnode.route.account import Account
from leafnode.route.session import Session

if TYPE_CHECKING:
    from leafnode.net.forwarder import Forwarder, Forwarders
    from leafnode.net.storage import Storage
    from leafnode.net.websocket import WebsocketListener
    from leafnode.stream.jetstream import JetStream

_Counts = Counter[str]  # by account
_Moved = dict[str, Counter[str]]  # messages and bytes by account

SPARE_QUARTERS = 3  # of the machine's memory and of what was free on the disk at the first look (nats-server)


class Running(Protocol):
    """What is looked at: the broker."""

    config: Config
    server_id: str
    server_name: str
    started_ns: int
    loaded_ns: int
    """When the configuration in force was read."""
    system_account: str
    """Its name; empty: there is none."""
    accounts: dict[str, Account]
    clients: ClientHost
    links: Links
    forwarders: "Forwarders | None"
    websocket: "WebsocketListener | None"
    storage: "Storage | None"
    store_dir: str
    jetstreams: "dict[str, JetStream]"
    port: int
    http_port: int

    @property
    def trouble(self) -> str:
        """Why the broker as a whole is not well; empty: it is."""
        ...


class Endpoint(NamedTuple):
    path: str
    options: type[Options]
    answer: Callable[[Any], Answer]


class Figures:
    """All endpoints, keyed by the word of the $SYS request."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._cpu_before = (time.monotonic(), time.process_time())
        self._machine: tuple[int, int] | None = None
        self.request_counts: Mapping[str, int] = {}
        self.endpoints: dict[str, Endpoint] = {
            "VARZ": Endpoint("/varz", Nothing, self.varz),
            "CONNZ": Endpoint("/connz", Connz, self.connz),
            "SUBSZ": Endpoint("/subsz", Subsz, self.subsz),
            "ROUTEZ": Endpoint("/routez", Nothing, self.routez),
            "GATEWAYZ": Endpoint("/gatewayz", Nothing, self.gatewayz),
            "LEAFZ": Endpoint("/leafz", Leafz, self.leafz),
            "ACCOUNTZ": Endpoint("/accountz", Accountz, self.accountz),
            "ACCSTATZ": Endpoint("/accstatz", Accstatz, self.accstatz),
            "JSZ": Endpoint("/jsz", Jsz, self.jsz),
            "HEALTHZ": Endpoint("/healthz", Healthz, self.healthz),
            "IPQUEUESZ": Endpoint("/ipqueuesz", Ipqueuesz, self.ipqueuesz),
        }

    def routes(self) -> dict[str, Route]:
        """For the monitor."""
        found: dict[str, Route] = {end.path: _over_http(end) for end in self.endpoints.values()}
        found["/subscriptionsz"] = found["/subsz"]
        found["/healthz"] = self._healthz_page
        found["/forwardz"] = lambda _query: (200, self.forwardz())
        found["/linkz"] = lambda _query: (200, self.linkz())
        found["/raftz"] = lambda _query: (404, "No Raft nodes registered")
        found["/stacksz"] = lambda _query: (200, stacks())
        found["/metrics"] = lambda _query: (200, Exposition(metrics.exposition(self.samples())))
        return found

    def _healthz_page(self, query: dict[str, str]) -> Answer:
        status, body = self.healthz(Healthz.from_query(query))
        return status, Json.compact(body)

    # the server --------------------------------------------------------------------------------------------------

    def varz(self, _asked: Nothing) -> Answer:
        running, clients = self._running, self._running.clients
        by_clients = clients.totals()
        totals = {name: by_clients[name] + moved for name, moved in running.links.totals().items()}
        snapshot = Snapshot(
            config=running.config,
            server_id=running.server_id,
            server_name=running.server_name,
            version=identity.SPOKEN_VERSION,
            git_commit="leafnode",
            go=str(clients.info_fields.get("go", "")),
            port=running.port,
            http_port=running.http_port,
            leaf_port=running.links.port,
            websocket_port=running.websocket.port if running.websocket is not None else 0,
            connect_urls=clients.info_fields.get("connect_urls", ()),
            websocket_urls=clients.info_fields.get("ws_connect_urls", ()),
            start_ns=running.started_ns,
            now_ns=time.time_ns(),
            config_loaded_ns=running.loaded_ns,
            mem_bytes=resident_bytes(),
            cores=os.cpu_count() or 1,
            cpu_percent=self._cpu_percent(),
            connections=len(clients.connections),
            total_connections=clients.total_connections,
            leafnodes=len(running.links.up()),
            subscriptions=self._subscriptions(),
            traffic=Traffic(**totals),
            client_traffic=Traffic(**by_clients),
            slow_clients=clients.slow_consumers,
            stale_clients=clients.stale_connections,
            stalled_clients=clients.stalled,
            http_requests=self.request_counts,
            jetstream=self._jetstream(),
        )
        return 200, varz(snapshot)

    def statsz(self) -> dict[str, Any]:
        """The short form that servers of a system send each other (spec section 2)."""
        _, full = self.varz(Nothing())
        assert isinstance(full, dict)
        running = self._running
        sent = {"msgs": full["out_msgs"], "bytes": full["out_bytes"]}
        received = {"msgs": full["in_msgs"], "bytes": full["in_bytes"]}
        answer = {name: full[name] for name in ("start", "mem", "cores", "cpu", "connections", "total_connections")}
        answer |= {
            "active_accounts": sum(1 for account in running.accounts.values() if account.connections),
            "subscriptions": full["subscriptions"],
            "sent": sent,
            "sent_to_clients": {"msgs": full["out_client_msgs"], "bytes": full["out_client_bytes"]},
            "received": received,
            "received_from_clients": {"msgs": full["in_client_msgs"], "bytes": full["in_client_bytes"]},
            "slow_consumers": full["slow_consumers"],
            "active_servers": 1,
        }
        if full["jetstream"]:
            config = {key: value for key, value in full["jetstream"]["config"].items() if key != "store_dir"}
            answer["jetstream"] = {**full["jetstream"], "config": config}
        return answer | {"gomaxprocs": full["gomaxprocs"]}

    def healthz(self, asked: Healthz) -> Answer:
        running = self._running
        return jsz.healthz(
            asked,
            enabled=running.storage is not None,
            wrong=running.trouble,
            store_wrong=running.storage.trouble if running.storage else "",
            jetstreams=running.jetstreams,
        )

    def ipqueuesz(self, asked: Ipqueuesz) -> Answer:
        """What waits inside of the server; here that is only what is on its way to the disk."""
        storage = self._running.storage
        queues = {"JetStream journal": storage.journal.backlog[0]} if storage is not None else {}
        return 200, {
            name: {"pending": pending}
            for name, pending in queues.items()
            if (pending or asked.all) and asked.filter in name
        }

    def _cpu_percent(self) -> float:
        wall, cpu = time.monotonic(), time.process_time()
        since, used = wall - self._cpu_before[0], cpu - self._cpu_before[1]
        self._cpu_before = (wall, cpu)
        return round(100 * used / since, 1) if since > 0 else 0.0

    def _subscriptions(self) -> int:
        return sum(account.subscriptions.count for account in self._running.accounts.values())

    # connections -------------------------------------------------------------------------------------------------

    def connz(self, asked: Connz) -> Answer:
        live = [*self._client_rows(with_subs=connz.needs_subs(asked)), *self._link_rows(connz.needs_subs(asked))]
        gone = self._running.clients.gone.rows
        return 200, connz.connz(self._running.server_id, time.time_ns(), asked, live, gone)

    def _client_rows(self, *, with_subs: bool = False) -> list[Row]:
        return [connection.row(with_subs=with_subs) for connection in self._running.clients.connections.values()]

    def _link_rows(self, with_subs: bool) -> list[Row]:
        return [link_row(view, with_subs=with_subs) for view in self._running.links.up()]

    def leafz(self, asked: Leafz) -> Answer:
        shown = [
            accountz.leaf(
                link_row(view, with_subs=asked.subs),
                is_spoke=not view.leaf.is_hub,
                is_isolated=view.leaf.isolated,
                subs=asked.subs,
            )
            for view in self._running.links.up()
            if not asked.acc or view.leaf.account.name == asked.acc
        ]
        return 200, accountz.leafz(self._running.server_id, time.time_ns(), shown)

    def _forwards(self) -> "Sequence[Forwarder]":
        forwarders = self._running.forwarders
        return forwarders.all if forwarders is not None else ()

    def forwardz(self) -> dict[str, Any]:
        """What waits for hubs, and how it goes."""
        running = self._running
        return forwardz.forwardz(running.server_id, time.time_ns(), self._forwards())

    def linkz(self) -> dict[str, Any]:
        """The links that we dial, up or not. Ours: /leafz, as nats-server's, shows only those that are up."""
        return {
            "server_id": self._running.server_id,
            "now": rfc3339(time.time_ns()),
            "links": [uplink.describe() for uplink in self._running.links.uplinks],
        }

    def routez(self, _asked: Nothing) -> Answer:
        return 200, accountz.routez(self._running.server_id, self._running.server_name, time.time_ns())

    def gatewayz(self, _asked: Nothing) -> Answer:
        return 200, accountz.gatewayz(self._running.server_id, time.time_ns())

    # accounts ----------------------------------------------------------------------------------------------------

    def subsz(self, asked: Subsz) -> Answer:
        return 200, accountz.subsz(self._running.server_id, time.time_ns(), asked, self._running.accounts)

    def accountz(self, asked: Accountz) -> Answer:
        running = self._running
        body = accountz.accountz(running.server_id, time.time_ns(), running.system_account, running.accounts)
        if asked.acc:
            del body["accounts"]
            body["account_detail"] = self.account_detail(asked.acc)
        return 200, body

    def account_detail(self, name: str) -> dict[str, Any]:
        """Raises BadRequest when there is no such account."""
        running = self._running
        account = running.accounts.get(name)
        if account is None:
            raise BadRequest(f"Account {name} does not exist")
        return accountz.account_detail(
            account,
            updated_ns=running.loaded_ns,
            clients=self._clients_of()[name],
            leafs=self._leafs_of()[name],
            jetstream=name in running.jetstreams,
            is_system=name == running.system_account,
        )

    def accstatz(self, asked: Accstatz) -> Answer:
        return 200, accountz.accstatz(self._running.server_id, time.time_ns(), asked, self.account_stats())

    def account_stats(self) -> list[dict[str, Any]]:
        """One entry an account."""
        counts = self._counts()
        return [self._stat(account, *counts) for account in self._running.accounts.values()]

    def account_stat(self, name: str) -> dict[str, Any] | None:
        """One account's entry; None: there is no such account."""
        account = self._running.accounts.get(name)
        return self._stat(account, *self._counts(name)) if account is not None else None

    def _stat(self, account: Account, clients: _Counts, leafs: _Counts, moved: _Moved, over: _Moved) -> dict[str, Any]:
        name, nothing = account.name, Counter[str]()
        over_leafs = over.get(name, nothing)
        return accountz.account_stat(account, clients[name], leafs[name], moved.get(name, nothing), over_leafs)

    def _counts(self, only: str = "") -> tuple[_Counts, _Counts, _Moved, _Moved]:
        """Clients and links by account, and what they moved."""
        clients = self._running.clients
        sessions = list(self._sessions(only))
        moved = sockets.by_account(clients.gone.moved, sessions)
        return Counter(name for name, _ in sessions), self._leafs_of(), moved, self._moved_over_links()

    def _sessions(self, only: str = "") -> Iterator[tuple[str, Session]]:
        """Who is there, with its account; of one account if named."""
        for connection in self._running.clients.connections.values():
            session = connection.session
            if session.account is not None and not session.closing and only in ("", session.account.name):
                yield session.account.name, session

    def _clients_of(self) -> _Counts:
        return Counter(name for name, _ in self._sessions())

    def _leafs_of(self) -> _Counts:
        return Counter(view.leaf.account.name for view in self._running.links.up())

    def _moved_over_links(self) -> _Moved:
        found: dict[str, Counter[str]] = {}
        for uplink in self._running.links.uplinks:
            found.setdefault(uplink.remote.account, Counter()).update(uplink.totals())
        for view in self._running.links.up():
            if view.leaf.accepted:
                moved = {name: getattr(view.leaf, name) for name in TRAFFIC}
                found.setdefault(view.leaf.account.name, Counter()).update(moved)
        return found

    # streams -----------------------------------------------------------------------------------------------------

    def jsz(self, asked: Jsz) -> Answer:
        running = self._running
        totals = self._jetstream()
        body = jsz.jsz(running.server_id, time.time_ns(), asked, running.config, totals, running.jetstreams)
        if running.storage is not None:
            body |= jsz.store(running.config, running.storage.damaged_messages, running.storage.salvaged)
        return 200, body

    def jetstream_of(self, name: str, asked: Jsz) -> dict[str, Any] | None:
        """An account's part; None: it has no JetStream."""
        js = self._running.jetstreams.get(name)
        return jsz.account_detail(js, asked) if js is not None else None

    def _jetstream(self) -> JetStreamFigures | None:
        running = self._running
        if running.storage is None:
            return None
        if self._machine is None:
            self._machine = spare_bytes(running.store_dir)
        return jsz.figures(running.config, running.store_dir, running.jetstreams, self._machine)

    # metrics -----------------------------------------------------------------------------------------------------

    def samples(self) -> Iterator[Sample]:
        """Everything that /metrics shows."""
        yield from self._server_samples()
        yield from self._link_samples()
        for name, count in sorted(self._clients_of().items()):
            yield Sample("leafnode_account_connections", count, {"account": name})
        yield from self._store_samples()
        yield from forwardz.samples(self._forwards(), time.time_ns())
        for name, js in sorted(self._running.jetstreams.items()):
            yield from metrics.jetstream_samples(name, js)

    def _server_samples(self) -> Iterable[Sample]:
        running, clients = self._running, self._running.clients
        totals = clients.totals()
        for name, moved in running.links.totals().items():
            totals[name] += moved
        about = {"server_id": running.server_id, "server_name": running.server_name}
        return [
            Sample("leafnode_info", 1, {**about, "version": identity.SPOKEN_VERSION}),
            Sample("leafnode_start_time_seconds", running.started_ns / 1e9),
            Sample("leafnode_healthy", self.healthz(Healthz())[0] == 200),
            Sample("leafnode_process_resident_memory_bytes", resident_bytes()),
            Sample("leafnode_process_cpu_seconds_total", time.process_time()),
            Sample("leafnode_connections", len(clients.connections)),
            Sample("leafnode_connections_total", clients.total_connections),
            Sample("leafnode_subscriptions", self._subscriptions()),
            Sample("leafnode_received_messages_total", totals["in_msgs"]),
            Sample("leafnode_received_bytes_total", totals["in_bytes"]),
            Sample("leafnode_sent_messages_total", totals["out_msgs"]),
            Sample("leafnode_sent_bytes_total", totals["out_bytes"]),
            Sample("leafnode_slow_consumers_total", clients.slow_consumers),
            Sample("leafnode_stale_connections_total", clients.stale_connections),
            Sample("leafnode_stalled_reads_total", clients.stalled),
        ]

    def _link_samples(self) -> Iterator[Sample]:
        links = self._running.links
        yield Sample("leafnode_leaf_links", len(links.up()))
        for uplink in links.uplinks:
            labels = {"remote": str(uplink.remote.urls[0]), "account": uplink.remote.account}
            moved = uplink.totals()
            yield Sample("leafnode_leaf_link_up", uplink.is_up, labels)
            yield Sample("leafnode_leaf_link_outages_total", uplink.outages, labels)
            yield Sample("leafnode_leaf_link_down_seconds", uplink.down_s, labels)
            yield Sample("leafnode_leaf_link_last_outage_seconds", uplink.last_outage_s, labels)
            yield Sample("leafnode_leaf_link_attempts_total", uplink.attempts, labels)
            if uplink.is_up and uplink.endpoint is not None:
                yield Sample("leafnode_leaf_link_rtt_seconds", uplink.endpoint.rtt_ns / 1e9, labels)
            yield Sample("leafnode_leaf_link_received_messages_total", moved["in_msgs"], labels)
            yield Sample("leafnode_leaf_link_sent_messages_total", moved["out_msgs"], labels)

    def _store_samples(self) -> Iterator[Sample]:
        storage = self._running.storage
        if storage is None:
            return
        messages, size = storage.journal.backlog
        yield Sample("leafnode_store_write_failures_total", storage.write_failures)
        yield Sample("leafnode_store_lost_messages_total", storage.journal.lost_messages)
        yield Sample("leafnode_store_damaged_messages_total", storage.damaged_messages)
        yield Sample("leafnode_store_salvaged", storage.salvaged is not None)
        yield Sample("leafnode_store_refuses", bool(storage.trouble))
        yield Sample("leafnode_journal_messages", messages)
        yield Sample("leafnode_journal_bytes", size)


def _over_http(end: Endpoint) -> Route:
    return lambda query: end.answer(end.options.from_query(query))


def link_row(view: LinkView, *, with_subs: bool) -> Row:
    """What the monitor shows of a link."""
    leaf, end = view.leaf, view.endpoint
    return Row(
        cid=view.cid,
        kind="Leafnode",
        type="",
        ip=view.host,
        port=view.port,
        start_ns=end.started_ns,
        last_activity_ns=end.last_activity_ns,
        rtt_ns=end.rtt_ns,
        pending_bytes=end.pending_bytes,
        **{name: getattr(leaf, name) for name in TRAFFIC},
        subscriptions=leaf.interest_count,
        name=str(leaf.remote.get("name" if leaf.accepted else "server_name", "")),
        account=leaf.account.name,
        subs=leaf.interest() if with_subs else (),
    )


def spare_bytes(store_dir: str) -> tuple[int, int]:
    """Memory and disk that JetStream could have on this machine."""
    memory = PAGE_BYTES * os.sysconf("SC_PHYS_PAGES")
    disk = os.statvfs(store_dir)
    return memory // 4 * SPARE_QUARTERS, disk.f_bavail * disk.f_frsize // 4 * SPARE_QUARTERS
