"""A client connection without its socket: bytes in with `receive`, bytes out of `take_output`.

Operations are parsed, checked and carried out here, one by one: the complete way. What clients under no special rules
publish goes by the fast ways where it can (`leafnode.route.fast`), with the same effect.

`receive` never raises and never waits. What the shell must do it learns from `closing` and from `wake`.
Source: spec client-protocol sections 1 to 10.
"""

from collections.abc import Callable
from typing import Protocol

from leafnode.errors import ProtocolError
from leafnode.route.account import Account
from leafnode.route.auth import User
from leafnode.route.fast import CR, LF, FastWays
from leafnode.route.known import FastSink
from leafnode.route.limits import lowest
from leafnode.route.message import Message, Subscription
from leafnode.route.permissions import REMEMBERED_MAX, Permissions, ReplyBudget
from leafnode.route.subject import RESERVED_REPLIES, RESERVED_SUBJECTS, is_publishable, is_valid
from leafnode.route.verdict import Verdict
from leafnode.wire import control, headers
from leafnode.wire.backlog import Backlog
from leafnode.wire.connect import parse_connect, parse_object
from leafnode.wire.control import CRLF, parse_client

LINE_SPARE = len("CONNECT \r\n")  # bytes of a line around its arguments, of which alone the length is limited
TOO_MANY_CONNECTIONS = "maximum account active connections exceeded"


class Host(Protocol):
    """What a session needs of the server that it belongs to."""

    max_payload: int
    max_control_line: int
    max_subscriptions: int  # per connection; 0: unlimited
    max_sub_tokens: int  # of a subscription's subject; 0: unlimited
    has_headers: bool  # messages may have headers
    slow: set[FastSink]  # congested receivers of what was published last

    def authenticate(self, session: "Session", options: dict[str, object]) -> User | Verdict[User] | None: ...
    def account_of(self, user: User) -> Account: ...
    def info(self, session: "Session", *, connected: bool) -> bytes: ...
    def now_ns(self) -> int: ...
    def request_info(self, session: "Session", *, share: bool) -> dict[str, object]: ...
    def on_connect(self, session: "Session") -> None: ...


class Session:
    """One client. Implements `FastSink`: routes write into `out` and call `wake` once per turn."""

    is_remote = False

    def __init__(self, host: Host, client_id: int, *, nonce: bytes = b"", auth_required: bool = False) -> None:
        self.host = host
        self.client_id = client_id
        self.nonce = nonce
        self.out: list[bytes] = []
        self.wake: Callable[[], None] = _nothing
        self.on_pong: Callable[[], None] = _nothing
        self.closing = False
        self.close_reason = ""
        self.connected = False  # a CONNECT was accepted
        self.waits = False  # for the verdict on its CONNECT: what comes meanwhile is held
        self.on_verdict: Callable[[], None] = _nothing
        self.auth_required = auth_required
        self.user: User | None = None
        self.account: Account | None = None
        self.subs: dict[bytes, Subscription] = {}
        self.max_payload = host.max_payload
        self.max_subscriptions = host.max_subscriptions or -1
        self.name = self.lang = self.version = ""
        self.in_msgs = self.in_bytes = self.out_msgs = self.out_bytes = 0
        self.pings_out = 0  # server PINGs not yet answered
        self.heard = False  # something arrived since the last ping timer
        # options of CONNECT, with the defaults of a client that never sends one
        self.verbose = self.pedantic = self.echo = True
        self.takes_headers = self.no_responders = False
        self.protocol = 0
        self._backlog = Backlog()
        self.fast = True  # False: the complete way for everything (the property test compares both)
        self.fed: set[FastSink] = set()
        self._ways: FastWays | None = None  # None: each message needs thought
        self.congested = False  # set by the shell: the socket takes less than we write
        self.slowed: set[FastSink] = set()  # receivers of ours that are congested: the shell lets us wait a moment
        self._may_publish: dict[bytes, bool] = {}
        self._permissions: Permissions | None = None
        self._replies: ReplyBudget | None = None
        self._info_due = False

    # input -------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what the socket gave. Any chunking of the same bytes has the same effect."""
        if self.closing:
            return
        self.heard = True
        joined = self._backlog.join(data)
        if joined is None:
            return
        if self.waits:
            self._backlog.keep(joined, 0)
            return
        data = joined
        try:
            position, need = self._consume(data)
        except ProtocolError as error:
            self.fail(error.text, error.reason)
            position, need = len(data), 0
        if position < len(data) and not self.closing:
            self._backlog.keep(data[position:], need)
        if self.fed:
            for sink in self.fed:
                sink.wake()
                if sink.congested:
                    self.slowed.add(sink)
            self.fed.clear()

    def _consume(self, data: bytes) -> tuple[int, int]:
        """Work off all complete operations; returns where it stopped and how many bytes it needs from there."""
        position = 0
        end = len(data)
        while True:
            if self._ways is not None:
                position, need = self._ways.advance(data, position)
                if need:
                    return position, need
            after = data.find(b"\n", position) + 1
            if not after:
                return self._incomplete_line(end, position)
            stop = self._operation(data[position:after], data, after, end)
            if self.closing or self.waits:
                return (end if self.closing else stop), 0
            if stop > end:
                return position, stop - position
            position = stop

    def _incomplete_line(self, end: int, position: int) -> tuple[int, int]:
        if end - position >= self.host.max_control_line + LINE_SPARE:
            raise ProtocolError("maximum control line exceeded", "Maximum Control Line Exceeded")
        return position, 0

    # the complete way --------------------------------------------------------------------------------------------

    def _operation(self, line: bytes, data: bytes, after: int, end: int) -> int:
        """The complete way. Returns where the operation ends; beyond `end` if its payload is not there yet."""
        if len(line) > self.host.max_control_line:
            self._check_length(line)
        op = parse_client(line)
        if not self.connected and not isinstance(op, control.Connect) and not self._admit_without_connect(op):
            return end
        if isinstance(op, control.Pub):
            return self._pub(op, line, data, after, end)
        match op:
            case control.Ping():
                self._pong()
            case control.Pong():
                self.pings_out = 0
                self.on_pong()
            case control.Sub(subject, queue, sid):
                self._subscribe(subject, queue, sid)
            case control.Unsub(sid, maximum):
                self._unsubscribe(sid, maximum)
            case control.Connect(text):
                self._connect(text)
            case control.Info(text):
                parse_object(text)
            case control.Err():
                raise ProtocolError(reason="Client Error")
            case control.Ok():
                pass
        return after

    def _check_length(self, line: bytes) -> None:
        """The limit is on what stands after the verb."""
        limit = self.host.max_control_line
        arguments = line.rstrip(CRLF).split(None, 1)[1:]
        if len(line) > limit + LINE_SPARE or (arguments and len(arguments[0]) > limit):
            raise ProtocolError("maximum control line exceeded", "Maximum Control Line Exceeded")

    def _admit_without_connect(self, op: control.Op) -> bool:
        """A client that never sends CONNECT is welcome where nobody needs credentials."""
        if self.account is not None:
            return True
        user = None if self.auth_required else self.host.authenticate(self, {})
        if user is None or isinstance(user, Verdict):
            self.fail("Authorization Violation", "Authentication Failure")
            return False
        self._enter(user)
        return True

    def _pub(self, op: control.Pub, line: bytes, data: bytes, after: int, end: int) -> int:
        if op.header_size >= 0 and not self.takes_headers:
            raise ProtocolError(reason="Protocol Violation: headers were not agreed on")
        if op.size > self.max_payload >= 0:
            raise ProtocolError("Maximum Payload Violation", "Maximum Message Payload Exceeded")
        stop = after + op.size + 2
        if stop > end:
            return stop
        if data[stop - 1] != LF or data[stop - 2] != CR:
            raise ProtocolError(control.UNKNOWN)
        split = after + max(op.header_size, 0)
        message = Message(op.subject, op.reply, data[after:split], data[split : stop - 2])
        self.in_msgs += 1
        self.in_bytes += op.size
        self._publish(message, op)
        return stop

    def _publish(self, message: Message, op: control.Pub) -> None:
        account = self.account
        assert account is not None
        if self.pedantic and not is_publishable(op.subject):
            self._error("Invalid Publish Subject")
        if account.mappings is not None:
            message = message._replace(subject=account.mappings.apply(op.subject))
        if not self._allowed(message):
            return
        if self.verbose:
            self._say(b"+OK\r\n")
        if account.is_bridged:
            account.asker = self._request_info
        self.host.slow.clear()
        reached = account.publish(message, origin=self, echo=self.echo) if message.subject else 0
        self.slowed.update(self.host.slow)
        if account.is_bridged:
            account.asker = None
        if not reached and message.reply and self.no_responders:
            self._answer_no_responders(message)

    def give(self, sub: Subscription, message: Message, size: int) -> None:
        """The same, where nothing is to be asked and one stream takes it (`route.fast` found out)."""
        self.in_msgs += 1
        self.in_bytes += size
        slow = self.host.slow
        slow.clear()
        sub.sink.deliver(sub, message, message.subject)
        if slow:
            self.slowed.update(slow)

    def _allowed(self, message: Message) -> bool:
        reply = message.reply
        if reply and reply.startswith(RESERVED_REPLIES):
            self._permission_error(b'Publish with Reply of "%b"' % reply)
            return False
        forbidden = message.subject.startswith(RESERVED_SUBJECTS)
        if forbidden or (self._permissions is not None and not self._permitted(message.subject)):
            self._permission_error(b'Publish to "%b"' % message.subject)
            return False
        return True

    def _permitted(self, subject: bytes) -> bool:
        verdict = self._may_publish.get(subject)
        if verdict is None:
            assert self._permissions is not None
            verdict = self._permissions.may_publish(subject)
            if len(self._may_publish) >= REMEMBERED_MAX:
                self._may_publish.clear()
            self._may_publish[subject] = verdict
        if verdict or self._replies is None:
            return verdict
        return self._replies.take(subject, self.host.now_ns())

    def _request_info(self, share: bool) -> dict[str, object]:
        return self.host.request_info(self, share=share)

    def _answer_no_responders(self, message: Message) -> None:
        assert self.account is not None
        for sub in self.account.subscriptions.match(message.reply):
            if sub.sink is self and not sub.queue:  # it counts for no limit of the subscription
                block = headers.status(503, "", ("Nats-Subject", message.subject.decode("utf-8", "replace")))
                size = len(block)
                self._say(b"HMSG %b %b %d %d\r\n%b\r\n" % (message.reply, sub.sid, size, size, block))
                return

    @property
    def max_control_line(self) -> int:
        """Bytes of arguments that a line may have."""
        return self.host.max_control_line

    # connecting --------------------------------------------------------------------------------------------------

    def _connect(self, text: bytes) -> None:
        options = parse_connect(text)
        if self.connected:
            self._forget_subscriptions()
        self._take_options(options)
        if options.get("account") or options.get("new_account"):
            self._admit(None)
            return
        user = self.host.authenticate(self, options)
        if isinstance(user, Verdict):
            self.waits = True
            user.then(self._take_verdict)
        else:
            self._admit(user)

    def _take_verdict(self, user: User | None) -> None:
        """Go on with what came in the meantime."""
        self.waits = False
        if self.closing:
            return
        try:
            self._admit(user)
        except ProtocolError as error:
            self.fail(error.text, error.reason)
        self.on_verdict()
        self.receive(b"")

    def _admit(self, user: User | None) -> None:
        """Whoever sent the CONNECT is this user; None: nobody."""
        if user is None:
            self.fail("Authorization Violation", "Authentication Failure")
            return
        self._enter(user)
        self.connected = True
        self._info_due = self.protocol >= 1
        self.host.on_connect(self)
        if self.verbose and not self.closing:
            self._say(b"+OK\r\n")

    def _take_options(self, options: dict[str, object]) -> None:
        """A later CONNECT changes what it names and leaves the rest (as nats-server does)."""
        self.verbose = options.get("verbose", self.verbose) is True
        self.pedantic = options.get("pedantic", self.pedantic) is True
        self.echo = options.get("echo", self.echo) is True
        self.takes_headers = self.host.has_headers and options.get("headers", self.takes_headers) is True
        self.no_responders = options.get("no_responders", self.no_responders) is True
        protocol = options.get("protocol", self.protocol)
        for key in ("name", "lang", "version"):
            setattr(self, key, str(options.get(key, "") or getattr(self, key)))
        if self.no_responders and not self.takes_headers:
            raise ProtocolError("no responders requires headers support", "No Responders Requires Headers")
        if not isinstance(protocol, int) or protocol not in (0, 1):
            raise ProtocolError("invalid client protocol", "Bad Client Protocol Version")
        self.protocol = protocol

    def _enter(self, user: User) -> None:
        before, account = self.account, self.host.account_of(user)
        if before is not None:
            if before is not account:
                self._forget_subscriptions()
            before.connections -= 1
            self.account = None
        most = account.limits.max_connections
        if 0 <= most <= account.connections + account.leafnodes:
            raise ProtocolError(TOO_MANY_CONNECTIONS, "Maximum Account Active Connections Exceeded")
        self.account = account
        account.connections += 1
        self.renew(user)

    def _take_rules(self, user: User) -> None:
        self.user = user
        self._permissions = user.permissions
        responses = user.permissions.responses if user.permissions else None
        self._replies = ReplyBudget(responses) if responses else None
        self.forget_routes()

    def renew(self, user: User) -> None:
        """The same user under new rules: subscriptions that they do not allow are dropped, with the error of a refusal.

        The account's routes must be forgotten afterwards: what is filtered may have changed.
        """
        self._take_rules(user)
        for sub in list(self.subs.values()):
            if self._permissions is not None and not self._permissions.may_subscribe(sub.subject, sub.queue):
                self._permission_error(b'Subscription to "%b" (sid "%b")' % (sub.subject, sub.sid))
                self._drop(sub)
            else:
                sub.filtered = self._needs_filter(sub.subject)

    def _needs_filter(self, subject: bytes) -> bool:
        return self._replies is not None or bool(self._permissions and self._permissions.needs_filter(subject))

    def forget_routes(self) -> None:
        """After a change of rules: nothing prepared may be used any more."""
        self._may_publish.clear()
        self._take_limits()
        self._ways = None
        is_plain = not (self.verbose or self.pedantic or self._permissions)
        if self.fast and self.echo and is_plain and self.account is not None:
            known = self.account.known(self.max_payload, takes_headers=self.takes_headers)
            self._ways = FastWays(self, self.account, known)

    def _take_limits(self) -> None:
        """Of the server, the account and the user the lowest."""
        host, user, account = self.host, self.user, self.account
        if user is None or account is None:
            return
        limits = account.limits
        self.max_payload = lowest(host.max_payload, limits.max_payload, user.max_payload)
        most = (host.max_subscriptions or -1, limits.max_subscriptions, user.max_subscriptions)
        self.max_subscriptions = lowest(*most)

    def _pong(self) -> None:
        self._say(b"PONG\r\n")
        if self._info_due:
            self._info_due = False
            self._say(self.host.info(self, connected=True))

    # subscriptions -----------------------------------------------------------------------------------------------

    def _subscribe(self, subject: bytes, queue: bytes, sid: bytes) -> None:
        account = self.account
        assert account is not None
        if not is_valid(subject):
            self._error("Invalid Subject")
            return
        if sid not in self.subs:
            if 0 < self.host.max_sub_tokens <= subject.count(b"."):
                self._permission_error(b'Subscription to "%b", too many tokens' % subject)
                return
            if 0 <= self.max_subscriptions <= len(self.subs):
                self._error("maximum subscriptions exceeded")
                return
            if not self._may_subscribe(subject, queue):
                return
            sub = Subscription(subject, self, queue, sid)
            sub.is_client = True
            sub.filtered = self._needs_filter(subject)
            self.subs[sid] = sub
            account.subscribe(sub)
        if self.verbose:
            self._say(b"+OK\r\n")

    def _may_subscribe(self, subject: bytes, queue: bytes) -> bool:
        allowed = queue != b"_sys_" and (self._permissions is None or self._permissions.may_subscribe(subject, queue))
        if not allowed:
            named = b' using queue "%b"' % queue if queue else b""
            self._permission_error(b'Subscription to "%b"' % subject + named)
        return allowed

    def _unsubscribe(self, sid: bytes, maximum: int) -> None:
        sub = self.subs.get(sid)
        if sub is not None:
            assert self.account is not None
            if maximum > sub.delivered:
                sub.max = maximum
                self.account.forget_routes(sub.subject)
            else:
                self._drop(sub)
        if self.verbose:
            self._say(b"+OK\r\n")

    def _drop(self, sub: Subscription) -> None:
        self.subs.pop(sub.sid, None)
        if self.account is not None:
            self.account.unsubscribe(sub)

    def _forget_subscriptions(self) -> None:
        for sub in list(self.subs.values()):
            self._drop(sub)

    # output ------------------------------------------------------------------------------------------------------

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        """One copy for one of our subscriptions."""
        if self.closing or not sub.active:
            return False
        if sub.filtered and not self._may_receive(message):
            return False
        sub.delivered += 1
        if self.congested:
            self.host.slow.add(self)
        subject, reply, block, payload = message
        space = b" " if reply else b""
        if block and self.takes_headers:
            size = len(block) + len(payload)
            head = b"HMSG %b %b %b%b%d %d\r\n" % (subject, sub.sid, reply, space, len(block), size)
            self.out += (head, block, payload, CRLF)
        else:
            size = len(payload)
            self.out += (b"MSG %b %b %b%b%d\r\n" % (subject, sub.sid, reply, space, size), payload, CRLF)
        self.out_msgs += 1
        self.out_bytes += size
        if sub.max and sub.delivered >= sub.max:
            self._drop(sub)
        self.wake()
        return True

    def _may_receive(self, message: Message) -> bool:
        if self._permissions is not None and not self._permissions.may_receive(message.subject):
            return False
        if self._replies is not None and message.reply:
            self._replies.received(message.reply, self.host.now_ns())
        return True

    def _say(self, text: bytes) -> None:
        self.out.append(text)
        self.wake()

    def _error(self, text: str) -> None:
        self._say(b"-ERR '%b'\r\n" % text.encode())

    def _permission_error(self, what: bytes) -> None:
        self._say(b"-ERR 'Permissions Violation for %b'\r\n" % what)

    def greet(self) -> None:
        """First words to a new client."""
        self._say(self.host.info(self, connected=False))

    def ping(self) -> None:
        self.pings_out += 1
        self._say(b"PING\r\n")

    def take_output(self) -> list[bytes]:
        """What to write, in order; the caller must copy it out before anything else runs (the list is reused)."""
        return self.out

    def fail(self, text: str, reason: str) -> None:
        """Close: say why if there are words for it, write what is waiting, then end."""
        if self.closing:
            return
        if text:
            self._error(text)
        self.close_reason = reason
        self.end()

    def end(self) -> None:
        """The connection is gone or going: nothing more is received or delivered."""
        if self.closing:
            return
        self.closing = True
        self._forget_subscriptions()
        if self.account is not None:
            self.account.connections -= 1
        self._backlog.clear()
        self.wake()

    def release(self) -> None:
        """The socket is gone: let go of whoever refers to us, so that it is freed without the collector."""
        self.wake = self.on_pong = self.on_verdict = _nothing
        self._ways = None


def _nothing() -> None:
    pass
