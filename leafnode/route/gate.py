"""The door of the leaf-node listener, without its socket: everything before a link exists.

    us                                       the leaf
    INFO {nonce, leafnode_urls, …}      ->
                                        <-   CONNECT {credentials, name, cluster, domain}
    INFO {connect_info, permissions}    ->
    (from here on it is a `Leaf`: interest and messages)

Anything but CONNECT first is refused, a client that dialled the wrong port is told so, and the refusals have
nats-server's words, by which a real leaf chooses its next attempt (spec leafnode-protocol sections 1 and 5).
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from leafnode.errors import ProtocolError
from leafnode.route.account import Account
from leafnode.route.auth import User
from leafnode.route.leaf import CONTROL_LINE_FACTOR, Leaf
from leafnode.route.leaf_options import LeafOptions
from leafnode.route.permissions import Permissions
from leafnode.route.session import TOO_MANY_CONNECTIONS
from leafnode.route.verdict import Verdict
from leafnode.wire import control
from leafnode.wire.control import parse_leaf


class Guest(NamedTuple):
    """Who a leaf turned out to be."""

    account: Account
    permissions: Permissions | None
    user: User | None = None
    """Where a JWT made it one."""


class GateHost(Protocol):
    """What a gate asks of the server."""

    cluster: str  # our cluster's name; empty: none
    min_version: str  # the oldest server that may link; empty: any

    def admit(self, gate: "Gate", options: dict[str, Any]) -> Guest | Verdict[Guest] | None: ...
    def leaf_info(self, gate: "Gate", *, guest: Guest | None) -> bytes: ...
    def leaf_options(self) -> LeafOptions: ...
    def on_leaf(self, leaf: Leaf) -> None: ...


class Gate:
    """One connection until its CONNECT."""

    def __init__(self, host: GateHost, client_id: int, nonce: bytes) -> None:
        self.host = host
        self.client_id = client_id
        self.nonce = nonce
        self.address = ""  # of the peer
        self.out: list[bytes] = []
        self.wake: Callable[[], None] = _nothing
        self.become: Callable[[Leaf], None] = _ignore  # the shell goes on with the link
        self.closing = False
        self.close_reason = ""
        self.pings_out = 0
        self.heard = False
        self.waits = False  # for the verdict on its CONNECT
        self.on_verdict: Callable[[], None] = _nothing
        self._held = b""

    def greet(self) -> None:
        self._say(self.host.leaf_info(self, guest=None))

    def receive(self, data: bytes) -> None:
        """Take what the socket gave; never raises."""
        if self.closing:
            return
        self.heard = True
        data = self._held + data
        if self.waits:
            self._held = data
            return
        end = data.find(b"\n") + 1
        if not end:
            self._held = data
            if len(data) > self.host.leaf_options().max_control_line * CONTROL_LINE_FACTOR:
                self.fail("maximum control line exceeded", "Maximum Control Line Exceeded")
            return
        try:
            op = parse_leaf(data[:end])
            if not isinstance(op, control.Connect):
                raise ProtocolError("Authorization Violation", "Authentication Failure")
            self._connect(_options(op.text), data[end:])
        except ProtocolError as error:
            self.fail(error.text, error.reason)

    def _connect(self, options: dict[str, Any], rest: bytes) -> None:
        self._check(options)
        guest = self.host.admit(self, options)
        if isinstance(guest, Verdict):
            self.waits, self._held = True, rest
            guest.then(lambda found: self._take_verdict(found, options))
        else:
            self._enter(guest, options, rest)

    def _take_verdict(self, guest: Guest | None, options: dict[str, Any]) -> None:
        self.waits = False
        if self.closing:
            return
        rest, self._held = self._held, b""
        try:
            self._enter(guest, options, rest)
        except ProtocolError as error:
            self.fail(error.text, error.reason)
        self.on_verdict()

    def _enter(self, guest: Guest | None, options: dict[str, Any], rest: bytes) -> None:
        if guest is None:
            raise ProtocolError("Authorization Violation", "Authentication Failure")
        _check_room(guest.account)
        leaf = Leaf(guest.account, self.host.leaf_options(), _no_credentials, self.host.on_leaf, accepted=True)
        leaf.out = self.out
        leaf.user = guest.user
        self._say(self.host.leaf_info(self, guest=guest))
        self.become(leaf)
        rules = guest.permissions or Permissions()
        leaf.admit(
            options,
            may_send=(rules.publish_allow or None, rules.publish_deny),
            may_receive=(rules.subscribe_allow or None, rules.subscribe_deny),
        )
        if rest:
            leaf.receive(rest)

    def _check(self, options: dict[str, Any]) -> None:
        """Who is no leaf of ours whatever its credentials."""
        cluster = str(options.get("cluster") or "")
        if options.get("lang"):
            raise ProtocolError("attempted to connect to leaf node port", "Wrong Port")
        if options.get("gateway"):
            named = f'Rejecting connection from gateway "{options["gateway"]}" on the leafnode port'
            raise ProtocolError(named, "Wrong Gateway")
        oldest = self.host.min_version
        if oldest and _version(str(options.get("version", ""))) < _version(oldest):
            named = f'connection rejected since minimum version required is "{oldest}"'
            raise ProtocolError(named, "Minimum Version Required")
        if " " in cluster:
            raise ProtocolError("cluster name cannot contain spaces", "Cluster Name Has Spaces")
        if cluster and cluster == self.host.cluster:
            raise ProtocolError("remote leafnode has same cluster name", "Cluster Names Identical")

    def _say(self, text: bytes) -> None:
        self.out.append(text)
        self.wake()

    def ping(self) -> None:
        """Nothing: the time for CONNECT is short enough."""

    def fail(self, text: str, reason: str) -> None:
        if self.closing:
            return
        if text:
            self._say(b"-ERR '%b'\r\n" % text.encode())
        self.close_reason = reason
        self.end()

    def end(self) -> None:
        self.closing = True
        self.wake()


def _check_room(account: Account) -> None:
    limits = account.limits
    is_full = 0 <= limits.max_connections <= account.connections + account.leafnodes
    if is_full or 0 <= limits.max_leafnodes <= account.leafnodes:
        raise ProtocolError(TOO_MANY_CONNECTIONS, "Maximum Account Active Connections Exceeded")


def _options(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(reason="Protocol Violation: CONNECT is not JSON") from error
    if not isinstance(value, dict):
        raise ProtocolError(reason="Protocol Violation: CONNECT is not an object")
    return value


def _version(text: str) -> tuple[int, ...]:
    """`2.10.3-beta` -> (2, 10, 3); what is no version is older than all."""
    numbers = text.removeprefix("v").partition("-")[0].split(".")
    return tuple(int(number) for number in numbers) if all(number.isdigit() for number in numbers) else ()


def permission_fields(permissions: Permissions | None) -> dict[str, Any]:
    """`import` and `export` of the second INFO: what the leaf's user may subscribe to and publish."""
    if permissions is None:
        return {}
    found = {}
    for key, allow, deny in (
        ("import", permissions.subscribe_allow, permissions.subscribe_deny),
        ("export", permissions.publish_allow, permissions.publish_deny),
    ):
        rules = {"allow": allow, "deny": deny}
        listed = {name: [subject.decode() for subject in subjects] for name, subjects in rules.items() if subjects}
        if listed:
            found[key] = listed
    return found


def _no_credentials(nonce: bytes) -> dict[str, str]:
    return {}


def _nothing() -> None:
    pass


def _ignore(leaf: Leaf) -> None:
    pass
