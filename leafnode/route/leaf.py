"""A leaf link without its socket: interest and messages both ways.

What happens on a link that we dialled (spec leafnode-protocol section 1); what happens before CONNECT on one that we
accepted is in `route.gate`:

    hub                                us
    INFO {nonce, cluster, domain}  ->
                                   <-  CONNECT {credentials, our name, our domain}
    INFO {connect_info, limits}    ->
    LS+ ... (its interest)        <->  LS+ ... (ours)
    LMSG / HMSG / LS+ / LS-       <->  the same, for as long as the link lasts

The hub of a link is who was dialled, unless the dialler says that it is the hub itself (`hub: true`): the hub tells
its leaves of each other, and its permissions count. What the other side must know of our interest is in
`route.interest`; what is learned from it lives in the account as subscriptions whose sink is this link, and goes when
the link goes.

What asks for a consumer (`$JS.<domain>.API.CONSUMER.>`) is told together with CONNECT: a hub that sources from us asks
in the moment in which it has seen CONNECT, and if it finds nobody, again half a minute later.

JetStream domains (section 8): our own API is offered as `$JS.<domain>.API.…`; `$JS.API.>`, `$KV.>` and `$OBJ.>` never
cross in either direction. A consumer's delivery crosses as its deliver subject with the original subject glued to the
acknowledgement reply by `@`.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from leafnode.errors import ProtocolError
from leafnode.route.account import Account
from leafnode.route.auth import User
from leafnode.route.crossing import NEVER_CROSS, Crossing, Permits, permits_of, subjects_of
from leafnode.route.interest import API_SUFFIX, LOOP_PREFIX, PLAIN, Interest
from leafnode.route.leaf_options import LeafOptions
from leafnode.route.mapping import DROPPED, Mapping
from leafnode.route.message import Message, Subscription
from leafnode.route.nudge import INBOX, Nudge
from leafnode.route.subject import is_valid, matches
from leafnode.wire import control
from leafnode.wire.backlog import Backlog
from leafnode.wire.control import CRLF, parse_leaf

CONTROL_LINE_FACTOR = 16  # control lines on links may be so many times longer than a client's (nats-server)
ACK_PREFIX = b"$JS.ACK."
ACK_DOTS = 8  # dots in an acknowledgement subject before a glued subject can follow
LASTING = (  # in what a hub says before it closes: the next attempt will meet the same, and so may be later
    "Loop detected",
    "Permissions Violation",
    "same cluster name",
    "minimum version",
    "Duplicate Remote LeafNode",
)
OURS = "leafnode"  # `git_commit` in the INFO of a leafnode
LISTENER_FIELDS = {
    "leafnode_urls",
    "info_on_connect",
}  # an INFO with neither is a client port's; `no_advertise` omits the first


class Leaf:
    """One link. Implements `Link` towards its account."""

    is_remote = True

    def __init__(
        self,
        account: Account,
        options: LeafOptions,
        credentials: Callable[[bytes], dict[str, str]],
        on_up: Callable[["Leaf"], None],
        *,
        accepted: bool = False,
    ) -> None:
        """`credentials(nonce)` gives the fields of CONNECT that prove who we are; `on_up` is called once.

        `accepted`: the other side dialled us, so we are its hub; `admit` begins the link.
        """
        self.accepted = accepted
        self.is_hub = accepted or options.hub
        self.isolated = options.isolate
        self.account = account
        self.user: User | None = None  # who dialled us, where a JWT says it
        account.leafnodes += accepted
        self.options = options
        self.out: list[bytes] = []
        self.wake: Callable[[], None] = _nothing
        self.on_pong: Callable[[], None] = _nothing
        self.closing = False
        self.close_reason = ""
        self.remote: dict[str, Any] = {}  # the hub's INFO
        self.remote_cluster = ""
        self.up = False
        self.must_wait = False
        self.wants_tls: Callable[[], None] | None = None  # set by the shell; called once instead of CONNECT
        self.in_msgs = self.in_bytes = self.out_msgs = self.out_bytes = 0
        self.pings_out = 0
        self.heard = False
        self._credentials = credentials
        self._on_up = on_up
        self._state = self._await_info
        self._headers = False
        self._max_payload = options.max_payload
        self._backlog = Backlog()
        self._theirs: dict[tuple[bytes, bytes], Subscription] = {}
        self._ours = Interest()
        self._nudge: Nudge | None = None
        self._crossing = Crossing(
            domain=options.domain, deny_imports=options.deny_imports, deny_exports=options.deny_exports
        )

    # input -------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what the socket gave; never raises."""
        if self.closing:
            return
        self.heard = True
        joined = self._backlog.join(data)
        if joined is None:
            return
        data = joined
        try:
            position, need = self._consume(data)
        except ProtocolError as error:
            self.fail(error.text, error.reason)
            return
        if position < len(data) and not self.closing:
            self._backlog.keep(data[position:], need)

    def _consume(self, data: bytes) -> tuple[int, int]:
        position = 0
        end = len(data)
        while not self.closing:
            after = data.find(b"\n", position) + 1
            if not after:
                if end - position > self.options.max_control_line * CONTROL_LINE_FACTOR:
                    raise ProtocolError("maximum control line exceeded")
                return position, 0
            op = parse_leaf(data[position:after])
            if isinstance(op, control.LeafMsg):
                stop = after + op.size + 2
                if op.size > self._max_payload:
                    raise ProtocolError("Maximum Payload Violation")
                if stop > end:
                    return position, stop - position
                if data[stop - 2 : stop] != CRLF:
                    raise ProtocolError(control.UNKNOWN)
                split = after + max(op.header_size, 0)
                self._message(op, data[after:split], data[split : stop - 2])
                position = stop
            else:
                self._operation(op)
                position = after
        return end, 0

    def _operation(self, op: control.LeafOp) -> None:
        match op:
            case control.Info(text):
                self._state(_json(text))
            case control.LeafSub(subject, queue, weight):
                self._learn(subject, queue, weight)
            case control.LeafUnsub(subject, queue):
                self._unlearn(subject, queue)
            case control.Ping():
                self._say(b"PONG\r\n")
            case control.Pong():
                self.pings_out = 0
                self.on_pong()
                if self._nudge is not None:
                    self._after_burst(self._nudge)
            case control.Err(text):
                self.close_reason = text.decode(errors="replace").strip("' ")
                self.must_wait = any(words in self.close_reason for words in LASTING)
            case _:  # +OK, CONNECT
                pass

    # handshake ---------------------------------------------------------------------------------------------------

    def _await_info(self, info: dict[str, Any]) -> None:
        if not info.get("client_id") or not LISTENER_FIELDS & info.keys():
            raise ProtocolError(reason="attempted to connect to wrong port: this is not a leafnode listener")
        self.remote = info
        self.remote_cluster = str(info.get("cluster", ""))
        self._headers = info.get("headers") is True
        if self.wants_tls is not None and not self.closing:
            start = self.wants_tls
            self.wants_tls = None
            start()  # the shell calls send_connect when the handshake is done
        else:
            self.send_connect()

    def send_connect(self) -> None:
        nonce = str(self.remote.get("nonce", "")).encode()
        fields = self.options.connect(self.account.name, self._credentials(nonce))
        self._say(b"CONNECT " + json.dumps(fields, separators=(",", ":")).encode() + CRLF)
        self._tell_early()
        if self.remote.get("info_on_connect") is True:
            self._state = self._await_admission
        else:
            self._begin()

    def _tell_early(self) -> None:
        """Only wildcards: a hub ends the link over a literal subject that it does not permit."""
        for mapping in self._mappings():
            if mapping.source.endswith(API_SUFFIX) and self._is_wanted(mapping.source):
                self._say(self._ours.tell_early(mapping.source))

    def _mappings(self) -> Iterable[Mapping]:
        return self.account.mappings.all if self.account.mappings is not None else ()

    def _await_admission(self, info: dict[str, Any]) -> None:
        if info.get("connect_info") is not True:
            return
        self._take_permissions(info)
        self._begin()

    def admit(self, options: dict[str, Any], *, may_send: Permits, may_receive: Permits) -> None:
        """Begin a link that was accepted: `options` is the other side's CONNECT, which was found good.

        The permits are those of its user: what it may publish to us and subscribe to from us.
        """
        self.remote = options
        self.remote_cluster = str(options.get("cluster") or "")
        self._headers = options.get("headers") is True
        self.is_hub = options.get("is_hub") is not True
        self.isolated = self.isolated or options.get("isolate") is True
        allowed, denied = may_receive
        self._crossing.told(inward=may_send, outward=(allowed, (*denied, *subjects_of(options.get("deny_pub")))))
        self._begin()

    def _update(self, info: dict[str, Any]) -> None:
        """A later INFO: limits may have changed. Who dialled us does not say what it may do."""
        if self.accepted:
            return
        self.remote.update(info)
        if info.get("connect_info") is True:
            self._take_permissions(info)

    def _take_permissions(self, info: dict[str, Any]) -> None:
        self._crossing.told(inward=permits_of(info.get("import")), outward=permits_of(info.get("export")))

    def _begin(self) -> None:
        """Both sides know each other: exchange interest."""
        self._state = self._update
        self.up = True
        loop = LOOP_PREFIX + self.options.loop_id
        self._say(b"LS+ " + loop + CRLF)
        for mapping in self._mappings():
            if self._is_wanted(mapping.source):
                self._ours.change(mapping.source, PLAIN, 1)
        for sub in self.account.subscriptions.all():
            self._interest_changed(sub, added=True)
        self.settle()
        if not self.is_hub and self._may_be_sourced():
            self._nudge = Nudge(self.options.introduction())
            self.ping()  # the answer comes after the hub's interest
        self.account.interest_listeners.append(self._interest_changed)
        self._on_up(self)

    def _may_be_sourced(self) -> bool:
        """Whether the hub may have mirrors and sources of our streams, and needs to be told that we are back."""
        return self.options.jetstream and bool(self.options.domain) and self.remote.get("git_commit") != OURS

    def _after_burst(self, nudge: Nudge) -> None:
        self._nudge = None
        for line in nudge.say():
            self._say(line)

    # interest ----------------------------------------------------------------------------------------------------

    def _interest_changed(self, sub: Subscription, added: bool) -> None:
        """A subscription of ours came or went: the hub is told at the end of the turn if it makes a difference."""
        if (sub.sink.is_remote and not self._relays(sub)) or not self._is_wanted(sub.subject):
            return
        weight = sub.weight if sub.queue else 1
        if self._ours.is_settled:
            self.wake()
        self._ours.change(sub.subject, sub.queue, weight if added else -weight)

    def settle(self) -> None:
        """Tell the other side what has changed; before any message, and at the end of each turn."""
        if not self._ours.is_settled and not self.closing:
            self.out += self._ours.settle()

    def _relays(self, sub: Subscription) -> bool:
        """Whether the other side hears of interest that came over another link.

        A hub tells its leaves of each other (but not those of one cluster, nor one that is isolated); a spoke tells its
        hub of its own leaves, and never of another hub's interest, but for the marks by which loops are found.
        """
        link: Leaf = sub.sink  # type: ignore[assignment]
        if link is self or self.isolated:
            return False
        if not (self.is_hub or link.is_hub or sub.subject.startswith(LOOP_PREFIX)):
            return False
        return not self.remote_cluster or self.remote_cluster != link.remote_cluster

    def _is_wanted(self, subject: bytes) -> bool:
        return self._crossing.is_wanted(subject, is_hub=self.is_hub)

    def _learn(self, subject: bytes, queue: bytes, weight: int) -> None:
        if subject == LOOP_PREFIX + self.options.loop_id:
            self.must_wait = True
            text = f'Loop detected for leafnode account="{self.account.name}". Delaying attempt to reconnect for 30s'
            raise ProtocolError(text, "Loop Detected")
        if not is_valid(subject):
            raise ProtocolError("Invalid Subscription")
        if self._crossing.outward.is_shut_for(subject):
            return
        if not self._crossing.may_hear(subject):
            if not self.is_hub:
                return
            text = f'Permissions Violation for Subscription to "{subject.decode(errors="replace")}"'
            raise ProtocolError(text, "Permissions Violation")
        if self._nudge is not None:
            self._nudge.learned(subject)
        key = (subject, queue)
        known = self._theirs.get(key)
        if known is not None:
            if known.weight == weight or not queue:
                return
            self.account.unsubscribe(known)  # other links are told the new total
        sub = Subscription(subject, self, queue)
        sub.weight = max(weight, 1)
        self._theirs[key] = sub
        self.account.subscribe(sub)

    def _unlearn(self, subject: bytes, queue: bytes) -> None:
        if self._nudge is not None:
            self._nudge.settled(subject)
        sub = self._theirs.pop((subject, queue), None)
        if sub is not None:
            self.account.unsubscribe(sub)

    @property
    def interest_count(self) -> int:
        """Subscriptions learned from the hub, for /leafz."""
        return len(self._theirs)

    def interest(self) -> tuple[Subscription, ...]:
        """Those subscriptions."""
        return tuple(self._theirs.values())

    # messages ----------------------------------------------------------------------------------------------------

    def _message(self, op: control.LeafMsg, block: bytes, payload: bytes) -> None:
        self.in_msgs += 1
        self.in_bytes += op.size
        subject = op.subject
        if not self._crossing.inward.open_to(subject):
            self._refuse(subject)
            return
        reply, shown = op.reply, subject
        if reply.startswith(ACK_PREFIX):
            reply, glued = unglue(reply)
            shown = glued or subject
        if self._nudge is not None and reply.startswith(INBOX):
            self._nudge.settled(reply)
        only: Sequence[bytes] | None = op.queues
        if self.account.mappings is not None:
            mapped = self.account.mappings.apply(subject)
            if mapped == DROPPED:
                return
            if mapped != subject:
                subject = shown = mapped
                only = None
        self.account.publish(Message(shown, reply, block, payload), origin=self, to=subject, only_queues=only)

    def _refuse(self, subject: bytes) -> None:
        """A spoke drops in silence what it does not import; a hub ends the link over a broken permission."""
        if self.is_hub and not any(matches(pattern, subject) for pattern in NEVER_CROSS):
            text = f'Permissions Violation for Publish to "{subject.decode(errors="replace")}"'
            raise ProtocolError(text, "Permissions Violation")

    def forward(self, message: Message, to: bytes, queues: Sequence[bytes], *, plain: bool) -> bool:
        """Send one message up; False if it may not cross."""
        if self.closing or not self._crossing.outward.open_to(to):
            return False
        self._carry(message, to, queues)
        return True

    def send(self, message: Message) -> bool:
        """Send a message of the broker itself: `deny_exports` is about what others publish. False if the hub's rules
        or the domains forbid it.
        """
        if self.closing or not self._crossing.broker.open_to(message.subject):
            return False
        self._carry(message, message.subject, ())
        return True

    @property
    def max_payload(self) -> int:
        """Bytes of the largest message that the other side takes."""
        told = self.remote.get("max_payload")
        return told if isinstance(told, int) and told > 0 else self._max_payload

    def _carry(self, message: Message, to: bytes, queues: Sequence[bytes]) -> None:
        if not self._ours.is_settled:
            self.settle()
        subject, reply, block, payload = message
        if to != subject and reply.startswith(ACK_PREFIX):
            reply = reply + b"@" + subject
        if queues:
            names = b" ".join(queues)
            middle = b"+ %b %b " % (reply, names) if reply else b"| %b " % names
        else:
            middle = reply + b" " if reply else b""
        if block and self._headers:
            size = len(block) + len(payload)
            self.out += (b"HMSG %b %b%d %d\r\n" % (to, middle, len(block), size), block, payload, CRLF)
        else:
            size = len(payload)
            self.out += (b"LMSG %b %b%d\r\n" % (to, middle, size), payload, CRLF)
        self.out_msgs += 1
        self.out_bytes += size
        self.wake()

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        """As any sink; the account uses `forward`, which also carries the queues."""
        return self.forward(message, to, (sub.queue,) if sub.queue else (), plain=not sub.queue)

    # output ------------------------------------------------------------------------------------------------------

    def _say(self, text: bytes) -> None:
        self.out.append(text)
        self.wake()

    def ping(self) -> None:
        self.pings_out += 1
        self._say(b"PING\r\n")

    def fail(self, text: str, reason: str) -> None:
        if self.closing:
            return
        if text:
            self._say(b"-ERR '%b'\r\n" % text.encode())
        self.close_reason = reason or text
        self.end()

    def renew(self, user: User) -> None:
        """Other permissions of the user hold for links to come: what this one may do was agreed when it came up."""
        self.user = user

    def forget_routes(self) -> None:
        """Nothing is prepared on a link."""

    def end(self) -> None:
        """The link is gone: forget what it taught us."""
        if self.closing:
            return
        self.closing = True
        self.account.leafnodes -= self.accepted
        if self._interest_changed in self.account.interest_listeners:
            self.account.interest_listeners.remove(self._interest_changed)
        for sub in self._theirs.values():
            self.account.unsubscribe(sub)
        self._theirs.clear()
        self._ours = Interest()
        self._backlog.clear()
        self.wake()


def unglue(reply: bytes) -> tuple[bytes, bytes]:
    """`$JS.ACK.….2@orders.7` -> (`$JS.ACK.….2`, `orders.7`); no subject: empty.

    Names of streams and consumers may hold an @ themselves, so the first one after eight dots counts.
    """
    position = 0
    for _ in range(ACK_DOTS):
        position = reply.find(b".", position) + 1
        if not position:
            return reply, b""
    at = reply.find(b"@", position)
    return (reply, b"") if at < 0 else (reply[:at], reply[at + 1 :])


def _json(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(reason=f"INFO is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ProtocolError(reason="INFO is not an object")
    return value


def _nothing() -> None:
    pass
