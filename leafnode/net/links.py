"""The leaf links of a broker: those that it dials and those that dial it, built from the configuration."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from leafnode import identity
from leafnode.base import nuid
from leafnode.config.options import Config, LeafRemote, ServerUrl
from leafnode.config.reload import mark
from leafnode.errors import ConfigError, LeafnodeError
from leafnode.net import secrets
from leafnode.net.endpoint import Disk, Endpoint
from leafnode.net.leaf_listener import Admission, LeafConnection, LeafListener
from leafnode.net.link_endpoint import DEADLINE_SECONDS, Limits
from leafnode.net.listening import BACKLOG, Sockets, port_of
from leafnode.net.tls import ServerTls, TlsLayer, client_context
from leafnode.net.uplink import Reports, Stored, Uplink
from leafnode.route.account import Account
from leafnode.route.leaf import Leaf
from leafnode.route.leaf_options import LeafOptions

log = logging.getLogger("leafnode")


class LinkView(NamedTuple):
    """A link that is up, for the monitor."""

    leaf: Leaf
    host: str
    port: int
    cid: int
    endpoint: Endpoint


class LinkWatcher(Protocol):
    """Who wants to know of those that dial us: the system account's events."""

    def link_came(self, view: LinkView) -> None: ...
    def link_went(self, view: LinkView) -> None: ...


class Nobody:
    """Until there is a watcher."""

    def link_came(self, view: LinkView) -> None: ...
    def link_went(self, view: LinkView) -> None: ...


class Links:
    """Dials every remote for ever and, where configured, listens."""

    def __init__(
        self,
        config: Config,
        accounts: dict[str, Account],
        server_id: str,
        on_up: Callable[[Leaf], None],
        info: Callable[[], Mapping[str, Any]],
        admit: "Admission",
        next_id: Callable[[], int],
        stored: Callable[[str], Stored],
        disk: Disk,
    ) -> None:
        """`on_up` is called for each link that comes up. For those who dial us: `info()` gives the INFO fields that all
        share, `admit(options, nonce, address)` says who a leaf is. `next_id()` numbers connections. `stored(account)`:
        messages ever stored in its streams, and bytes in them now.
        """
        self._stored = stored
        self._disk = disk
        self._admit = admit
        self._next_id = next_id
        self._config = config
        self._accounts = accounts
        self._on_up = on_up
        self._info = info
        self._server_id = server_id
        self._loop_id = nuid.new().encode()
        self._server: asyncio.Server | None = None
        self._tasks: dict[Uplink, asyncio.Task[None]] = {}
        self.uplinks: list[Uplink] = []
        self._retired: Counter[str] = Counter()  # what links moved that a reload took away
        self.watcher: LinkWatcher = Nobody()
        self.listener: LeafListener | None = None
        self.port = 0

    async def start(self, sockets: Sockets) -> None:
        """Raises LeafnodeError when a remote makes no sense or the listener's address cannot be had."""
        if self._config.leafnodes.port is not None:
            await self._listen(self._config.leafnodes.port, sockets)
        for remote in self._config.leafnodes.remotes:
            if not remote.disabled:
                self._dial(self._uplink(remote))

    def _dial(self, uplink: Uplink) -> None:
        self.uplinks.append(uplink)
        self._tasks[uplink] = asyncio.create_task(uplink.run(), name=f"uplink {uplink.remote.urls[0]}")

    def prepare(self, config: Config) -> list[Uplink]:
        """Links for the remotes of a changed configuration that are not dialled yet.

        Raises:
            LeafnodeError: one makes no sense; nothing has changed.
        """
        known = {mark(uplink.remote) for uplink in self.uplinks}
        wanted = [remote for remote in config.leafnodes.remotes if not remote.disabled]
        return [self._uplink(remote) for remote in wanted if mark(remote) not in known]

    async def take_over(self, config: Config, fresh: list[Uplink], admit: Admission, *, recheck: bool) -> None:
        """Dial what `prepare` made, stop what is not wanted; with `recheck` those who dialled us must come anew."""
        self._config, self._admit = config, admit
        wanted = {mark(remote) for remote in config.leafnodes.remotes if not remote.disabled}
        for uplink in [uplink for uplink in self.uplinks if mark(uplink.remote) not in wanted]:
            self.uplinks.remove(uplink)
            task = self._tasks.pop(uplink)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._retired.update(uplink.totals())
        for uplink in fresh:
            self._dial(uplink)
        if self.listener is not None:
            self.listener.admission = admit
            if recheck:
                for connection in list(self.listener.links.values()):
                    connection.core.fail("", "Configuration Reload")

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for connection in list(self.listener.links.values()) if self.listener else []:
            connection.core.fail("", "Server Shutdown")
            connection.flush()

    def up(self) -> list[LinkView]:
        """Links that carry messages now."""
        dialled = [
            LinkView(link.leaf, link.host, link.port, link.cid, link.endpoint)
            for link in self.uplinks
            if link.leaf and link.endpoint and link.is_up
        ]
        accepted = self.listener.links.values() if self.listener else ()
        return dialled + [
            LinkView(c.leaf, *c.peer, c.client_id, c) for c in accepted if c.leaf is not None and not c.leaf.closing
        ]

    def totals(self) -> dict[str, int]:
        """Messages and payload bytes over all links since the start."""
        parts = [self._retired, *(uplink.totals() for uplink in self.uplinks)]
        if self.listener is not None:
            parts.append(self.listener.totals())
        return {name: sum(part[name] for part in parts) for name in ("in_msgs", "in_bytes", "out_msgs", "out_bytes")}

    # accepting ---------------------------------------------------------------------------------------------------

    async def _listen(self, port: int, sockets: Sockets) -> None:
        config, rules = self._config, self._config.leafnodes
        tls = ServerTls(rules.tls) if rules.tls else None
        self.listener = listener = LeafListener(
            info=lambda: {**self._info(), "host": rules.host, "port": self.port},
            options=self._options(),
            admit=self._admit,
            on_leaf=self._came,
            on_gone=self._went,
            make_nonce=identity.new_nonce,
            secrecy=tls.info_fields() if tls else {},
            limits=self._limits(),
            auth_timeout_s=rules.authorization.timeout_s if rules.authorization else config.auth_timeout_s,
            cluster=config.cluster.name,
            min_version=rules.min_version,
            urls=self._advertised,
            next_id=self._next_id,
        )
        try:
            listening = sockets.listen("leaf", rules.host, port)
            self._server = await asyncio.get_running_loop().create_server(
                (lambda: TlsLayer(tls, listener.accept)) if tls else listener.accept, sock=listening, backlog=BACKLOG
            )
        except OSError as error:
            raise LeafnodeError(
                f'Error listening on leafnode port: {rules.host}:{port}, "{error.strerror or error}"'
            ) from error
        self.port = port_of(listening)
        log.info("Listening for leafnode connections on %s", identity.shown_address(rules.host, self.port))

    def accept(self) -> LeafConnection:
        """A link that comes in by another door: the websocket's."""
        assert self.listener is not None
        return self.listener.accept()

    def _came(self, leaf: Leaf) -> None:
        self._on_up(leaf)
        for view in self.up():
            if view.leaf is leaf:
                self.watcher.link_came(view)

    def _went(self, connection: LeafConnection) -> None:
        if connection.leaf is not None:
            self.watcher.link_went(LinkView(connection.leaf, *connection.peer, connection.client_id, connection))

    def _advertised(self) -> list[str]:
        """Where leaves may reconnect to; nothing useful is known behind a wildcard address."""
        rules = self._config.leafnodes
        if rules.no_advertise or (not rules.advertise and rules.host in ("0.0.0.0", "::")):
            return []
        return [rules.advertise or identity.shown_address(rules.host, self.port)]

    # dialling ----------------------------------------------------------------------------------------------------

    def _uplink(self, remote: LeafRemote) -> Uplink:
        account = self._accounts.get(remote.account)
        if account is None:
            raise ConfigError(f"leafnodes: a remote names the account {remote.account!r}, which is not configured")
        options = self._options(remote)
        file = None
        if remote.credentials or remote.nkey:
            file = secrets.Credentials(creds_file=remote.credentials, nkey=remote.nkey)

        def make(url: ServerUrl, on_up: Callable[[Leaf], None]) -> Leaf:
            def up(leaf: Leaf) -> None:
                on_up(leaf)
                self._on_up(leaf)

            prove = file.prove if file else lambda _nonce: url_credentials(url)
            return Leaf(account, options, prove, up)

        config = self._config
        rules = config.leafnodes
        return Uplink(
            remote,
            make,
            self._limits(remote),
            reconnect_s=rules.reconnect_s,
            dial_s=rules.dial_timeout_s,
            next_id=self._next_id,
            stored=lambda: self._stored(remote.account),
            tls=client_context(remote.tls) if remote.tls else None,
            reports=Reports(config.connect_error_reports, config.reconnect_error_reports),
        )

    def _options(self, remote: LeafRemote | None = None) -> LeafOptions:
        config = self._config
        return LeafOptions(
            server_id=self._server_id,
            server_name=config.server_name or self._server_id,
            version=identity.SPOKEN_VERSION,
            domain=config.jetstream.domain,
            jetstream=config.jetstream.enabled,
            deny_imports=tuple(subject.encode() for subject in remote.deny_imports) if remote else (),
            deny_exports=tuple(subject.encode() for subject in remote.deny_exports) if remote else (),
            loop_id=self._loop_id,
            isolate=config.leafnodes.isolate or (remote is not None and remote.isolate),
            request_isolation=remote is not None and remote.request_isolation,
            hub=remote is not None and remote.hub,
            max_payload=config.max_payload,
            max_control_line=config.max_control_line,
        )

    def _limits(self, remote: LeafRemote | None = None) -> Limits:
        """Without a deadline of its own a link is not given more time than a client."""
        config = self._config
        own = (remote.link_deadline_s if remote else None) or config.leafnodes.link_deadline_s
        return Limits(
            max_pending=config.max_pending,
            write_deadline_s=config.leafnodes.write_deadline_s or config.write_deadline_s,
            disk=self._disk,
            deadline_s=own or min(DEADLINE_SECONDS, config.ping_interval_s * (config.ping_max + 1)),
        )


def url_credentials(url: ServerUrl) -> dict[str, str]:
    if url.user and url.password:
        return {"user": url.user, "pass": url.password}
    alone = url.user or url.token
    return {"user": alone, "auth_token": alone} if alone else {}
