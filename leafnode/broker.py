"""The composition root: builds every object from the configuration, runs them, stops them in order.

Nothing is decided here. Start: storage, accounts, client listener, links, monitor, then READY. Stop: no new
connections, everything in the journal on disk, connections closed. A second signal stops at once.
"""

import asyncio
import logging
import os
import random
import ssl
import time
from pathlib import Path

from leafnode import identity
from leafnode.base import nuid
from leafnode.base.notify import Notifier
from leafnode.config.options import (
    GLOBAL_ACCOUNT,
    Config,
    LeafRemote,
    PermissionsConfig,
    ServerUrl,
    TlsConfig,
    UserConfig,
)
from leafnode.errors import ConfigError, LeafnodeError
from leafnode.net import secrets
from leafnode.net.figures import Figures
from leafnode.net.monitor import Monitor
from leafnode.net.process import PortsFile, Signals, feed_watchdog, write_pid_file
from leafnode.net.server import ClientHost
from leafnode.net.uplink import Limits, Uplink
from leafnode.net.varz import JetStreamFigures
from leafnode.route.account import Account
from leafnode.route.auth import Authenticator, User
from leafnode.route.leaf import Leaf, LeafOptions
from leafnode.route.permissions import Permissions, Responses

BACKLOG = 1024  # connections the kernel holds for us; a site's devices all return at once after a power cut

log = logging.getLogger("leafnode")


class Broker:
    """Everything of one server. Make it, `start` it, `stop` it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.server_id = identity.new_server_id()
        self.server_name = config.server_name or self.server_id
        self.started_ns = time.time_ns()
        self.accounts: dict[str, Account] = {}
        self.clients: ClientHost
        self.uplinks: list[Uplink] = []
        self.port = config.port
        self.monitor: Monitor | None = None
        self.http_port = 0
        self._loop_id = nuid.new().encode()
        self._listener: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        for name in (GLOBAL_ACCOUNT, *config.accounts):
            self.accounts[name] = Account(name, random.randrange)

    # start -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Returns when clients are welcome. Raises LeafnodeError when it cannot be done."""
        self._start_clients()
        await self._listen()
        self._start_uplinks()
        await self._start_monitor()
        log.info("Server is ready")

    def _start_clients(self) -> None:
        config = self.config
        self.clients = ClientHost(
            info={},
            authenticator=authenticator(config),
            account_of=self.accounts.__getitem__,
            make_nonce=identity.new_nonce,
            max_payload=config.max_payload,
            max_control_line=config.max_control_line,
            max_pending=config.max_pending,
            max_connections=config.max_connections,
            max_subscriptions=config.max_subscriptions,
            ping_interval_s=config.ping_interval_s,
            ping_max=config.ping_max,
            write_deadline_s=config.write_deadline_s,
            auth_timeout_s=config.auth_timeout_s,
            trace=config.trace,
        )

    async def _listen(self) -> None:
        config = self.config
        port = max(config.port, 0)
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self.clients.accept, config.host, port, backlog=BACKLOG, reuse_address=True
            )
        except OSError as error:
            raise LeafnodeError(
                f'Error listening on port: {config.host}:{port}, "{error.strerror or error}"'
            ) from error
        self.port = self._listener.sockets[0].getsockname()[1]
        self.clients.info_fields.update(identity.info_fields(config, self.server_id, self.port))
        log.info("Listening for client connections on %s", shown_address(config.host, self.port))

    async def _start_monitor(self) -> None:
        config = self.config
        if config.http_port is None:
            return
        figures = Figures(
            config,
            self.server_id,
            self.clients,
            self.accounts,
            self.uplinks,
            port=lambda: self.port,
            health=self._health,
            jetstream=self._jetstream_figures,
        )
        self.monitor = Monitor(figures.routes(), base_path=config.http_base_path)
        figures.request_counts = self.monitor.request_counts
        try:
            self.http_port = figures.http_port = await self.monitor.start(config.http_host, config.http_port)
        except OSError as error:
            where = shown_address(config.http_host, config.http_port)
            raise LeafnodeError(f'Error listening on monitoring port: {where}, "{error.strerror or error}"') from error
        log.info("Starting http monitor on %s", shown_address(config.http_host, self.http_port))

    def _health(self) -> str:
        return ""

    def _jetstream_figures(self) -> JetStreamFigures | None:
        return None

    def _start_uplinks(self) -> None:
        for remote in self.config.leafnodes.remotes:
            if remote.disabled:
                continue
            uplink = self._uplink(remote)
            self.uplinks.append(uplink)
            self._tasks.append(asyncio.create_task(uplink.run(), name=f"uplink {remote.urls[0]}"))

    def _uplink(self, remote: LeafRemote) -> Uplink:
        config = self.config
        account = self.accounts.get(remote.account)
        if account is None:
            raise ConfigError(f"leafnodes: a remote names the account {remote.account!r}, which is not configured")
        options = LeafOptions(
            server_id=self.server_id,
            server_name=self.server_name,
            version=identity.SPOKEN_VERSION,
            domain=config.jetstream.domain,
            jetstream=config.jetstream.enabled,
            deny_imports=tuple(subject.encode() for subject in remote.deny_imports),
            deny_exports=tuple(subject.encode() for subject in remote.deny_exports),
            loop_id=self._loop_id,
            max_payload=config.max_payload,
            max_control_line=config.max_control_line,
        )
        file = None
        if remote.credentials or remote.nkey:
            file = secrets.Credentials(creds_file=remote.credentials, nkey=remote.nkey)

        def make(url: ServerUrl) -> Leaf:
            prove = file.prove if file else lambda _nonce: url_credentials(url)
            return Leaf(account, options, prove, self._on_link_up)

        limits = Limits(
            max_pending=config.max_pending,
            write_deadline_s=config.leafnodes.write_deadline_s or config.write_deadline_s,
            ping_interval_s=config.ping_interval_s,
            ping_max=config.ping_max,
        )
        tls = client_tls(remote.tls) if remote.tls else None
        return Uplink(remote, make, limits, reconnect_s=config.leafnodes.reconnect_s, tls=tls)

    def _on_link_up(self, leaf: Leaf) -> None:
        log.info(
            "leaf link up: hub=%s domain=%s account=%s",
            leaf.remote.get("server_name", "?"),
            leaf.remote.get("domain", "-"),
            leaf.account.name,
        )

    def addresses(self) -> dict[str, list[str]]:
        """Where the listeners are, for the ports file."""
        host = "127.0.0.1" if self.config.host in ("0.0.0.0", "::") else self.config.host
        found = {"nats": [f"nats://{shown_address(host, self.port)}"]}
        if self.monitor is not None:
            found["monitoring"] = [f"http://{shown_address(host, self.http_port)}"]
        return found

    # stop --------------------------------------------------------------------------------------------------------

    async def lame_duck(self) -> None:
        """Take no new clients, ask those that are here to go elsewhere, then close them at an even pace."""
        config = self.config
        log.info("Entering lame duck mode, stop accepting new clients")
        if self._listener is not None:
            self._listener.close()
        self.clients.announce_lame_duck()
        if not self.clients.connections:
            return
        await asyncio.sleep(config.lame_duck_grace_s)
        waiting = list(self.clients.connections.values())
        pause = max(config.lame_duck_duration_s - config.lame_duck_grace_s, 0.0) / max(len(waiting), 1)
        for connection in waiting:
            if not connection.session.closing:
                connection.session.fail("", "Server Shutdown")
                await asyncio.sleep(pause)

    async def stop(self) -> None:
        """Orderly: what was acknowledged is on disk, what waits for clients is written."""
        if self._listener is not None:
            self._listener.close()
        if self.monitor is not None:
            await self.monitor.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self.clients.connections.values()):
            connection.session.fail("", "Server Shutdown")
            connection.flush()
        log.info("Server Exiting..")


async def serve(config: Config, *, argv0: str) -> int:
    """Run a broker until a signal ends it; returns the exit status: 0 orderly, 1 could not start."""
    notifier = Notifier()
    broker = Broker(config)
    ports = PortsFile(config.ports_file_dir, Path(argv0).name)
    try:
        await broker.start()
        write_pid_file(config.pid_file)
        ports.write(broker.addresses())
    except LeafnodeError as error:
        log.critical("%s", error)
        await broker.stop()
        return 1
    signals = Signals(on_second=lambda: os._exit(1))
    notifier.ready(f"serving clients on port {broker.port}")
    watchdog = asyncio.create_task(feed_watchdog(notifier), name="watchdog")
    try:
        if await signals.wait():
            await broker.lame_duck()
    finally:
        notifier.stopping()
        watchdog.cancel()
        await broker.stop()
        ports.remove()
    return 0


def authenticator(config: Config) -> Authenticator:
    """Users of the configuration as the core wants them. Raises ConfigError where a library is missing."""
    rules = config.authorization
    users = [user_of(GLOBAL_ACCOUNT, user, rules.default_permissions) for user in rules.users]
    if rules.user:
        users.append(User(name=rules.user, password=rules.password))
    for account in config.accounts.values():
        users += [user_of(account.name, user, account.default_permissions) for user in account.users]
    if any(user.password.startswith("$2") for user in users) or rules.token.startswith("$2"):
        secrets.require_bcrypt()
    return Authenticator(
        users=tuple(users),
        token=rules.token,
        no_auth_user=config.no_auth_user,
        check_hash=secrets.check_hash,
        check_signature=secrets.check_signature,
    )


def user_of(account: str, user: UserConfig, default: PermissionsConfig | None) -> User:
    rules = user.permissions or default
    return User(
        name=user.user,
        password=user.password,
        nkey=user.nkey,
        account=account,
        permissions=permissions_of(rules) if rules else None,
    )


def permissions_of(rules: PermissionsConfig) -> Permissions:
    responses = rules.responses
    return Permissions(
        publish_allow=encoded(rules.publish.allow),
        publish_deny=encoded(rules.publish.deny),
        subscribe_allow=encoded(rules.subscribe.allow),
        subscribe_deny=encoded(rules.subscribe.deny),
        responses=Responses(responses.max_msgs, int(responses.expires_s * 1e9)) if responses else None,
    )


def encoded(subjects: tuple[str, ...] | None) -> tuple[bytes, ...]:
    return tuple(subject.encode() for subject in subjects or ())


def url_credentials(url: ServerUrl) -> dict[str, str]:
    if url.user and url.password:
        return {"user": url.user, "pass": url.password}
    alone = url.user or url.token
    return {"user": alone, "auth_token": alone} if alone else {}


def client_tls(tls: TlsConfig) -> ssl.SSLContext:
    """For dialling. Raises ConfigError when a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file or None)
        if tls.cert_file:
            context.load_cert_chain(tls.cert_file, tls.key_file or None)
    except OSError as error:
        raise ConfigError(f"tls of a leafnode remote: cannot use {tls.ca_file or tls.cert_file}: {error}") from error
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def shown_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
