"""The composition root: builds every object from the configuration, runs them, stops them in order.

Nothing is decided here. Start: storage, accounts, client listener, links, monitor, then READY. Stop: no new
connections, everything in the journal on disk, connections closed. A second signal stops at once.
"""

import asyncio
import dataclasses
import logging
import os
import random
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafnode import identity
from leafnode.access import authenticator, leaf_admission, websocket_authenticator
from leafnode.accounts import limits_of, mappings_of
from leafnode.base.notify import Notifier
from leafnode.config.options import GLOBAL_ACCOUNT, AccountConfig, Config, JetStreamConfig
from leafnode.errors import DamagedError, LeafnodeError
from leafnode.imports import Imports, no_tokens
from leafnode.net.figures import Figures
from leafnode.net.links import Links
from leafnode.net.listening import BACKLOG, Sockets, port_of
from leafnode.net.process import PortsFile, Signals, feed_watchdog, give_back_memory, settle_memory, write_pid_file
from leafnode.net.secrets import Signer
from leafnode.net.server import ClientHost
from leafnode.net.system import SystemAccount
from leafnode.net.tls import ServerTls, monitor_context
from leafnode.route.account import Account
from leafnode.route.auth import Authenticator
from leafnode.route.leaf import Leaf

if TYPE_CHECKING:  # what not every broker has is imported by who has it: it costs time at the start, and memory
    from leafnode.members import Connected
    from leafnode.net.callout import Desk
    from leafnode.net.forwarder import Forwarders
    from leafnode.net.monitor import Monitor
    from leafnode.net.storage import Storage
    from leafnode.net.websocket import WebsocketListener
    from leafnode.stream.jetstream import JetStream
    from leafnode.stream.surroundings import Limits
    from leafnode.tenants import Tenants

log = logging.getLogger("leafnode")


class Broker:
    """Everything of one server. Make it, `start` it, `stop` it."""

    def __init__(self, config: Config, sockets: Sockets | None = None) -> None:
        """`sockets`: where listeners get theirs, when some were handed over."""
        self.config = config
        self._sockets = sockets or Sockets()
        self.key = Signer.fresh("N") if config.is_operated or config.authorization.callout else None
        self.server_id = self.key.public if self.key is not None else identity.new_server_id()
        self.server_name = config.server_name or self.server_id
        self.started_ns = self.loaded_ns = time.time_ns()
        self.accounts: dict[str, Account] = {}
        self.port = config.port
        self.monitor: Monitor | None = None
        self.monitor_tls: ssl.SSLContext | None = None
        self.http_port = 0
        self.storage: Storage | None = None
        self.store_dir = ""
        self.system_account = config.system_account if not config.no_system_account else ""
        self.jetstreams: dict[str, JetStream] = {}
        self.failed = False  # something without which there is no going on has ended
        self.on_failure: Callable[[], None] = do_nothing
        self.on_reloaded: Callable[[], None] = do_nothing
        self._reloading = asyncio.Lock()
        self._attaching = asyncio.Lock()
        self._reloads: set[asyncio.Task[str]] = set()
        self._storing: asyncio.Task[None] | None = None
        self._mending: asyncio.Task[None] | None = None
        self._listener: asyncio.Server | None = None
        self.websocket: WebsocketListener | None = None
        self.system: SystemAccount | None = None
        for name in dict.fromkeys((GLOBAL_ACCOUNT, *config.accounts, self.system_account)):
            if name:
                self.accounts[name] = Account(name, random.randrange)
        self.tenants: Tenants | None = None
        for name in self.accounts:
            self.furnish(config.account(name))
        self.imports = Imports(self.accounts, no_tokens)
        self.imports.settle(config.accounts)
        if config.is_operated:
            self.tenants = self._tenants(config)
            self.imports = self.tenants.imports
            self.system_account = self.tenants.system_account
            self.tenants.attach = self._attach_tenants
        self.desk = self._desk(self.key) if self.key is not None else None
        if self.tenants is not None:
            self.tenants.admission.desk = self.desk
        known = self.known(config)
        self.clients = ClientHost(
            info={},
            authenticator=known,
            account_of=self.accounts.__getitem__,
            make_nonce=identity.new_nonce,
            max_payload=config.max_payload,
            max_control_line=config.max_control_line,
            max_pending=config.max_pending,
            max_connections=config.max_connections,
            max_subscriptions=config.max_subscriptions,
            max_sub_tokens=config.max_sub_tokens,
            has_headers=not config.no_header_support,
            stalls=not config.no_fast_producer_stall,
            remembers=config.max_closed_clients,
            ping_interval_s=config.ping_interval_s,
            ping_max=config.ping_max,
            write_deadline_s=config.write_deadline_s,
            auth_timeout_s=config.auth_timeout_s,
            tls=ServerTls(config.tls, optional=config.allow_non_tls) if config.tls else None,
        )
        self.links = Links(
            config,
            self.accounts,
            self.server_id,
            on_up=self._on_link_up,
            info=lambda: self.clients.info_fields,
            admit=leaf_admission(config, self.accounts, known),
            next_id=self.clients.next_id,
            stored=self._stored,
            disk=self.clients,
        )
        self.forwarders: Forwarders | None = None
        self.figures = Figures(self)
        if self.system_account:
            self.system = SystemAccount(self, self.figures, self)
        self._beating: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    def _tenants(self, config: Config) -> "Tenants":
        from leafnode.tenants import Tenants

        return Tenants(config, self)

    def _desk(self, key: Signer) -> "Desk":
        from leafnode.net.callout import Desk

        def server() -> dict[str, Any]:
            fields = identity.info_fields(self.config, self.server_id, self.port)
            told = {"name": self.server_name, "host": self.config.host, "id": self.server_id}
            told |= {key: fields[key] for key in ("version", "cluster") if fields.get(key)}
            return told | ({"tags": list(self.config.server_tags)} if self.config.server_tags else {})

        return Desk(key, server, lambda: self.config.authorization.timeout_s)

    def known(self, config: Config) -> Authenticator:
        """Who may connect as a client. Raises ConfigError."""
        if self.tenants is not None:
            return self.tenants.doorkeeper
        return self._called_out(authenticator(config), config)

    def known_by_websocket(self, config: Config) -> Authenticator | None:
        """Who may by websocket; None: the same. Raises ConfigError."""
        own = websocket_authenticator(config)
        return self._called_out(own, config) if own is not None else None

    def _called_out(self, known: Authenticator, config: Config) -> Authenticator:
        """With the auth service before them, where there is one."""
        if config.authorization.callout is None:
            return known
        from leafnode.callout import called_out

        return called_out(known, config, self.desk, self.accounts)

    # start -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Returns when clients are welcome. Raises LeafnodeError when it cannot be done."""
        storage = await self.open_store(self.config.jetstream)
        if storage is not None:
            try:
                await self.start_jetstream(storage)
            except DamagedError:  # met while it was read; it is marked, and salvaged now
                await self._mend_store()
        if self.system is not None:
            self.system.start()
            self.clients.watcher = self.links.watcher = self.system
            self._beating = asyncio.create_task(self.system.beat(), name="system events")
        if self.tenants is not None:
            self._start_tenants(self.tenants)
            self._watching = asyncio.create_task(self.tenants.watch(), name="tenants")
        await self._listen()
        self._start_forwarders()
        await self.links.start(self._sockets)
        await self._start_monitor()
        self._sockets.close_rest()
        log.info("Server is ready")

    def _start_forwarders(self) -> None:
        if self.storage is not None and self.config.forwards:
            from leafnode.net.forwarder import Forwarders

            self.forwarders = Forwarders()
            self.forwarders.start(
                self.config.forwards,
                self.accounts.get,
                self.jetstreams.get,
                self.storage,
                store_dir=self.store_dir,
                server=self.server_name,
            )

    def _start_tenants(self, tenants: "Tenants") -> None:
        from leafnode.net.account_claims import ClaimsRequests

        requests = None
        if self.system is not None:
            requests = ClaimsRequests(self.accounts[self.system_account], tenants, self.system.server_info)
            requests.start()
        tenants.start(requests.listener if requests is not None else None)

    async def open_store(self, config: JetStreamConfig) -> "Storage | None":
        """The store, where JetStream is to be on and is not. Raises LeafnodeError when it cannot be used."""
        if not config.enabled or self.storage is not None:
            return None
        from leafnode.jetstream import open_storage, store_folder

        folder = store_folder(config)
        self.store_dir = str(folder)
        return await open_storage(folder, config)

    async def start_jetstream(self, storage: "Storage") -> None:
        self.storage = storage
        await self.attach_jetstream(self.config)
        self.clients.journal_full = lambda: self.storage is not None and self.storage.full
        storage.set_on_room(self.clients.on_room)
        self._storing = asyncio.create_task(storage.run(), name="storage")
        self._storing.add_done_callback(self._on_storage_end)
        if self.config.jetstream.sync == "always":
            log.info("JetStream store: %s (fsync before acknowledgement)", self.store_dir)
        else:
            log.warning(
                "JetStream store: %s (sync: normal: a power cut may take acknowledged messages)", self.store_dir
            )

    async def _close_store(self) -> None:
        """What was accepted is on disk then."""
        storage, self.storage = self.storage, None
        if storage is None:
            return
        if self._storing is not None:
            self._storing.cancel()
            await asyncio.gather(self._storing, return_exceptions=True)
        await storage.close()
        self.clients.on_room()

    async def attach_jetstream(self, config: Config) -> None:
        """JetStream for the accounts that are to have it, with the limits they are to have; again after a change."""
        async with self._attaching:
            if self.tenants is not None:
                config = dataclasses.replace(config, accounts=self.tenants.configs)
            wanted: dict[str, Limits] = {}
            if self.storage is not None:
                from leafnode.jetstream import jetstream_accounts

                wanted = dict(jetstream_accounts(config))
            for name in self.jetstreams.keys() - wanted.keys():
                await self._detach(name, config)
            for name, limits in wanted.items():
                if name in self.jetstreams:
                    self.jetstreams[name].around.take_limits(limits)
                else:
                    await self._attach(name, limits, config)

    async def _attach(self, name: str, limits: "Limits", config: Config) -> None:
        assert self.storage is not None
        account, domain = self.accounts[name], config.jetstream.domain
        account.set_mappings(mappings_of(config, config.account(name), has_jetstream=True))
        self.jetstreams[name] = await self.storage.attach(
            account, domain=domain, server_name=self.server_name, limits=limits
        )

    async def _detach(self, name: str, config: Config) -> None:
        """The account's streams stay on the disk, and come back with its JetStream."""
        jetstream = self.jetstreams.pop(name)
        jetstream.around.account.set_mappings(mappings_of(config, config.account(name), has_jetstream=False))
        if self.storage is not None:
            await self.storage.detach(jetstream)

    async def stop_jetstream(self) -> None:
        """While the rest goes on."""
        if self.storage is not None:
            await self._close_store()
            await self.attach_jetstream(self.config)
            log.info("JetStream is off: its streams stay in %s", self.store_dir)

    async def _attach_tenants(self) -> None:
        await self.attach_jetstream(self.config)

    def make_account(self, name: str) -> Account:
        """One that a JWT makes."""
        account = self.accounts[name] = Account(name, random.randrange)
        if self.system is not None:
            self.system.add(account)
        return account

    def furnish(self, settings: AccountConfig) -> None:
        """Mappings and limits of an account, as they are now."""
        account = self.accounts[settings.name]
        has_jetstream = settings.name in self.jetstreams
        account.set_mappings(mappings_of(self.config, settings, has_jetstream=has_jetstream))
        account.limits = limits_of(settings.limits)

    def connected(self) -> "list[Connected]":
        """Clients and accepted links, oldest first."""
        listener = self.links.listener
        links = [link for link in listener.links.values() if link.leaf is not None] if listener else []
        known: list[tuple[int, Connected]] = [(link.client_id, link.leaf) for link in links if link.leaf is not None]
        known += [(cid, connection.session) for cid, connection in self.clients.connections.items()]
        return [each for _, each in sorted(known, key=lambda pair: pair[0]) if not each.closing]

    def _on_storage_end(self, task: asyncio.Task[None]) -> None:
        """Without its writer a broker would take messages that it cannot keep: better to end and be restarted."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, BaseExceptionGroup) and error.subgroup(DamagedError) is not None:
            self._mending = asyncio.create_task(self._mend_store(), name="salvage")
        elif error is not None:
            self._fail_store(error)

    def _fail_store(self, error: BaseException) -> None:
        log.critical("the store's writer failed: %r", error, exc_info=error)
        self.failed = True
        self.on_failure()

    async def _mend_store(self) -> None:
        """The file is damaged: close it, have it salvaged, go on. Clients stay; JetStream is away meanwhile."""
        try:
            if self.forwarders is not None:
                await self.forwarders.stop()
            await self._close_store()
            await self.attach_jetstream(self.config)
            storage = await self.open_store(self.config.jetstream)
            if storage is not None:
                await self.start_jetstream(storage)
            if self._listener is not None:  # else `start` comes to it
                self._start_forwarders()
        except LeafnodeError as error:
            self._fail_store(error)

    async def _listen(self) -> None:
        config = self.config
        port = max(config.port, 0)
        try:
            listening = self._sockets.listen("client", config.host, port)
            self._listener = await asyncio.get_running_loop().create_server(
                self.clients.accept, sock=listening, backlog=BACKLOG
            )
        except OSError as error:
            raise LeafnodeError(
                f'Error listening on port: {config.host}:{port}, "{error.strerror or error}"'
            ) from error
        self.port = port_of(listening)
        self.clients.info_fields.update(identity.info_fields(config, self.server_id, self.port))
        log.info("Listening for client connections on %s", identity.shown_address(config.host, self.port))
        if config.websocket.port is not None:
            from leafnode.net.websocket import WebsocketListener

            self.websocket = WebsocketListener(self.clients, config, self.known_by_websocket(config))
            if config.leafnodes.port is not None:
                self.websocket.accept_leaf = self.links.accept
            await self.websocket.start(self._sockets)

    async def _start_monitor(self) -> None:
        config = self.config
        wanted = config.http_port if config.https_port is None else config.https_port
        if wanted is None:
            return
        if config.https_port is not None and config.tls is not None:
            self.monitor_tls = monitor_context(config.tls)
        from leafnode.net.monitor import Monitor

        self.monitor = Monitor(self.figures.routes(), base_path=config.http_base_path)
        self.figures.request_counts = self.monitor.request_counts
        try:
            listening = self._sockets.listen("monitor", config.http_host, wanted)
            await self.monitor.start(listening, self.monitor_tls)
        except OSError as error:
            where = identity.shown_address(config.http_host, wanted)
            raise LeafnodeError(f'Error listening on monitoring port: {where}, "{error.strerror or error}"') from error
        self.http_port = port_of(listening)
        where = identity.shown_address(config.http_host, self.http_port)
        log.info("Starting %s monitor on %s", self._monitor_scheme, where)

    @property
    def _monitor_scheme(self) -> str:
        return "http" if self.monitor_tls is None else "https"

    @property
    def trouble(self) -> str:
        """Why the whole broker is not well; empty: it is."""
        return "the store's writer has failed; the broker is ending" if self.failed else ""

    def _on_link_up(self, leaf: Leaf) -> None:
        log.info(
            "leaf link up: %s=%s domain=%s account=%s",
            "leaf" if leaf.accepted else "hub",
            leaf.remote.get("name" if leaf.accepted else "server_name", "?"),
            leaf.remote.get("domain", "-"),
            leaf.account.name,
        )
        jetstream = self.jetstreams.get(leaf.account.name)
        if jetstream is not None:
            jetstream.on_link_up()

    def _stored(self, account: str) -> tuple[int, int]:
        """Messages ever stored in the account's streams, and bytes in them now."""
        jetstream = self.jetstreams.get(account)
        contents = [stream.contents for stream in jetstream.streams.values()] if jetstream is not None else []
        return sum(each.last_seq for each in contents), sum(each.bytes for each in contents)

    # what the system account may order -----------------------------------------------------------------------------

    def kick(self, cid: int) -> bool:
        """Close a client or a link; False: there is none of that number."""
        connection = self.clients.connections.get(cid)
        if connection is not None:
            connection.session.fail("", "Kicked")
            return True
        links = [view.leaf for view in self.links.up() if view.cid == cid]
        for leaf in links:
            leaf.fail("", "Kicked")
        return bool(links)

    def send_away(self, cid: int) -> bool:
        return self.clients.send_away(cid)

    def reload_soon(self, then: Callable[[str], None]) -> None:
        """Read the configuration again; `then` with "" or why it was refused."""
        task = asyncio.create_task(self._reload(), name="reload")
        self._reloads.add(task)

        def done(ended: asyncio.Task[str]) -> None:
            self._reloads.discard(ended)
            if not ended.cancelled():
                then(ended.result())

        task.add_done_callback(done)

    async def _reload(self) -> str:
        from leafnode.reloading import reload

        async with self._reloading:
            return await reload(self)

    def addresses(self) -> dict[str, list[str]]:
        """Where the listeners are, for the ports file."""
        host = connectable(self.config.host)
        found = {"nats": [f"nats://{identity.shown_address(host, self.port)}"]}
        if self.monitor is not None:
            found["monitoring"] = [f"{self._monitor_scheme}://{identity.shown_address(host, self.http_port)}"]
        if self.websocket is not None:
            found["websocket"] = [self.websocket.url(connectable(self.config.websocket.host))]
        return found

    # stop --------------------------------------------------------------------------------------------------------

    async def lame_duck(self) -> None:
        """Take no new clients, ask those that are here to go elsewhere, then close them at an even pace."""
        config = self.config
        log.info("Entering lame duck mode, stop accepting new clients")
        self._stop_listening()
        if self.system is not None:
            self.system.lame_duck()
        self.clients.announce_lame_duck()
        if not self.clients.connections:
            return
        await asyncio.sleep(config.lame_duck_grace_s)
        waiting = list(self.clients.connections.values())
        pause = max(config.lame_duck_duration_s - config.lame_duck_grace_s, 0.0) / max(len(waiting), 1)
        while waiting:
            connection = waiting.pop(0)
            if not connection.session.closing:
                connection.session.fail("", "Server Shutdown")
                await asyncio.sleep(pause if waiting else 0)

    def _stop_listening(self) -> None:
        for listener in (self._listener, self.websocket):
            if listener is not None:
                listener.close()

    async def stop(self) -> None:
        """Orderly: what was acknowledged is on disk, what waits for clients is written."""
        self._stop_listening()
        if self.monitor is not None:
            await self.monitor.close()
        if self.system is not None:
            self.system.shutdown()
        for task in (*self._reloads, self._beating, self._watching, self._mending):
            if task is not None:
                task.cancel()
        if self.forwarders is not None:
            await self.forwarders.stop()
        if self.tenants is not None:
            self.tenants.close()
        for jetstream in self.jetstreams.values():
            jetstream.farewell()
        await self.links.stop()
        for connection in list(self.clients.connections.values()):
            connection.session.fail("", "Server Shutdown")
            connection.flush()
        await self._close_store()
        log.info("Server Exiting..")


async def serve(config: Config, *, argv0: str) -> int:
    """Run a broker until a signal ends it; returns the exit status: 0 orderly, 1 could not start."""
    notifier = Notifier()
    broker = Broker(config, Sockets.from_environment(os.environ))
    ports = PortsFile(config.ports_file_dir, Path(argv0).name)
    signals = Signals(on_second=lambda: os._exit(1), on_reload=lambda: broker.reload_soon(ignore))
    broker.on_failure = signals.stop.set
    broker.on_reloaded = lambda: rewrite_files(broker, ports)
    try:
        await broker.start()
        write_pid_file(config.pid_file)
        ports.write(broker.addresses())
    except LeafnodeError as error:
        log.critical("%s", error)
        await broker.stop()
        return 1
    settle_memory()
    notifier.ready(f"serving clients on port {broker.port}")
    watchdog = asyncio.create_task(feed_watchdog(notifier), name="watchdog")
    memory = asyncio.create_task(give_back_memory(), name="memory")
    try:
        if await signals.wait():
            await broker.lame_duck()
    finally:
        notifier.stopping()
        watchdog.cancel()
        memory.cancel()
        await broker.stop()
        ports.remove()
    return 1 if broker.failed else 0


def rewrite_files(broker: Broker, ports: PortsFile) -> None:
    """Their paths may have changed with the configuration; a file that cannot be written ends nothing now."""
    try:
        write_pid_file(broker.config.pid_file)
        ports.move(broker.config.ports_file_dir, broker.addresses())
    except LeafnodeError as error:
        log.error("%s", error)


def connectable(host: str) -> str:
    """Where a listener of all addresses is reached from this machine."""
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host


def ignore(_failure: str) -> None:
    """It is in the log."""


def do_nothing() -> None:
    """Until somebody wants to know."""
