"""The leaf-node listener: sockets of links that others dial, for a leafnode that is the hub of a small fleet."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from leafnode.net.endpoint import Core
from leafnode.net.frames import FrameLayer
from leafnode.net.link_endpoint import Limits, LinkEndpoint
from leafnode.net.listening import peer_address
from leafnode.route.auth import USER_EXPIRED, Arrival
from leafnode.route.gate import Gate, Guest, permission_fields
from leafnode.route.leaf import Leaf
from leafnode.route.leaf_options import LeafOptions
from leafnode.route.verdict import Verdict

LEAF_PROTO = 3  # version of the leaf protocol that INFO says

log = logging.getLogger("leafnode.leaf")

Admission = Callable[[dict[str, Any], bytes, Arrival], Guest | Verdict[Guest] | None]
"""(options of CONNECT, nonce, how it came) -> who a leaf is."""


class LeafListener:
    """Everything that accepted links share. Implements `GateHost`."""

    def __init__(
        self,
        *,
        info: Callable[[], Mapping[str, Any]],
        options: LeafOptions,
        admit: Admission,
        on_leaf: Callable[[Leaf], None],
        on_gone: Callable[["LeafConnection"], None],
        make_nonce: Callable[[], bytes],
        secrecy: Mapping[str, bool],
        limits: Limits,
        auth_timeout_s: float,
        cluster: str = "",
        min_version: str = "",
        urls: Callable[[], list[str]],
        next_id: Callable[[], int],
    ) -> None:
        """`info()`: the fields of INFO that all links share; `secrecy`: those about TLS, which websockets do without.
        `urls()`: what leaves are told to reconnect to. `next_id()` numbers connections.
        """
        self.cluster = cluster
        self.min_version = min_version
        self.limits = limits
        self.auth_timeout_s = auth_timeout_s
        self.links: dict[int, LeafConnection] = {}
        self._before = {"in_msgs": 0, "in_bytes": 0, "out_msgs": 0, "out_bytes": 0}  # of links that are gone
        self._next_id = next_id
        self._info = info
        self._options = options
        self.admission = admit
        self._on_leaf = on_leaf
        self._on_gone = on_gone
        self._make_nonce = make_nonce
        self._urls = urls
        self._secrecy = secrecy

    def accept(self) -> "LeafConnection":
        return LeafConnection(self, Gate(self, self._next_id(), self._make_nonce()))

    # what gates ask ----------------------------------------------------------------------------------------------

    def admit(self, gate: Gate, options: dict[str, Any]) -> Guest | Verdict[Guest] | None:
        certificate = self.links[gate.client_id].transport.get_extra_info("peercert")
        arrival = Arrival("LEAFNODE", gate.address, gate.client_id, certificate=certificate)
        guest = self.admission(options, gate.nonce, arrival)
        if isinstance(guest, Verdict):
            guest.then(lambda found: _note_refusal(options, found))
        else:
            _note_refusal(options, guest)
        return guest

    def leaf_options(self) -> LeafOptions:
        return self._options

    def leaf_info(self, gate: Gate, *, guest: Guest | None) -> bytes:
        connection = self.links[gate.client_id]
        fields = {**self._info(), "proto": LEAF_PROTO, "client_id": gate.client_id, "auth_required": True}
        fields |= {"ip": f"{connection.peer[0]}:{connection.peer[1]}", "leafnode_urls": self._urls()}
        fields["info_on_connect"] = True
        if not isinstance(connection.transport, FrameLayer):
            fields |= self._secrecy
        if guest is None:
            fields["nonce"] = gate.nonce.decode()
        else:
            fields |= {"connect_info": True, "remote_account": guest.account.name}
            fields |= permission_fields(guest.permissions)
        return b"INFO " + json.dumps(fields, separators=(",", ":")).encode() + b" \r\n"

    def on_leaf(self, leaf: Leaf) -> None:
        """A link is up. An older one of the same leaf is a leftover: it is told so and closed."""
        for connection in list(self.links.values()):
            other = connection.leaf
            if other is not None and other is not leaf and not other.closing and _same(other, leaf):
                other.fail("Duplicate Remote LeafNode Connection", "Duplicate Remote LeafNode Connection")
        self._on_leaf(leaf)

    # connections -------------------------------------------------------------------------------------------------

    def forget(self, connection: "LeafConnection") -> None:
        self.links.pop(connection.client_id, None)
        leaf = connection.leaf
        if leaf is None:
            return
        for name in self._before:
            self._before[name] += getattr(leaf, name)
        self._on_gone(connection)
        log.warning("leaf link from %s lost: %s", leaf.remote.get("name", "?"), leaf.close_reason)

    def totals(self) -> dict[str, int]:
        """Messages and payload bytes over all accepted links since the start."""
        sums = dict(self._before)
        for connection in self.links.values():
            if connection.leaf is not None:
                for name in sums:
                    sums[name] += getattr(connection.leaf, name)
        return sums


def _note_refusal(options: dict[str, Any], guest: Guest | None) -> None:
    if guest is None:
        log.error("leaf %s - authentication error", options.get("name", "?"))


def _same(one: Leaf, two: Leaf) -> bool:
    """Whether two links belong to the same leaf (spec leafnode-protocol section 5)."""
    keys = ("name", "cluster", "remote_account")
    return (
        one.account is two.account
        and bool(two.remote.get("remote_account"))
        and all(one.remote.get(key) == two.remote.get(key) for key in keys)
    )


class LeafConnection(LinkEndpoint):
    """The socket of one accepted link: first a gate, then the link."""

    lost_reason = "closed by the leaf"

    def __init__(self, host: LeafListener, gate: Gate) -> None:
        super().__init__(host.limits)
        self.host = host
        self.client_id = gate.client_id
        self.leaf: Leaf | None = None
        self.core: Core = gate
        self.peer: tuple[str, int] = ("", 0)
        self._gate = gate
        self._auth_timer: asyncio.TimerHandle | None = None
        self._end_timer: asyncio.TimerHandle | None = None

    def opened(self) -> None:
        self.peer = peer_address(self.transport)
        self.host.links[self.client_id] = self
        self._gate.address = self.peer[0]
        self._gate.wake = self.wake
        self._gate.become = self._become
        self._gate.on_verdict = self._resume
        self._gate.greet()
        self._auth_timer = self._loop.call_later(self.host.auth_timeout_s, self._auth_timeout)

    @property
    def name(self) -> str:
        return f"{self.peer[0]}:{self.peer[1]} - lid:{self.client_id}"

    def _become(self, leaf: Leaf) -> None:
        leaf.wake = self.wake
        leaf.on_pong = self.on_pong
        self.leaf = leaf
        self.core = leaf
        self.watch()
        if leaf.user is not None and leaf.user.ends_s:
            wait_s = max(leaf.user.ends_s - time.time(), 0.0)
            self._end_timer = self._loop.call_later(wait_s, leaf.fail, USER_EXPIRED, "Authentication Expired")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._gate.waits:
            self.transport.pause_reading()

    def _resume(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _auth_timeout(self) -> None:
        if self.leaf is None and not self._gate.waits:
            self._gate.fail("Authentication Timeout", "Authentication Timeout")

    def closed(self) -> None:
        for timer in (self._auth_timer, self._end_timer):
            if timer is not None:
                timer.cancel()
        self.host.forget(self)
