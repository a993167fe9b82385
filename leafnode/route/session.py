"""A client connection without its socket: bytes in with `receive`, bytes out of `take_output`.

The path of a published message, fastest first; each falls through to the next, and all do the same:

1. a whole control line seen before (`PUB sensors.7 42`): one look into a dict gives who gets it and the prepared
   `MSG` lines; two list appends a receiver. Frames that begin with the same line are alike in length, so a row of
   them is found by one regular expression and cut by stride;
2. a subject seen before: the rest of the frame (reply, size, payload) is forwarded as it came, for `MSG` and `PUB`
   end alike; one slice, two appends a receiver;
3. anything else: parsed, checked, published to the account.

`receive` never raises and never waits. What the shell must do it learns from `closing` and from `wake`.
Source: spec client-protocol sections 1 to 10.
"""

import json
import re
from collections.abc import Callable
from typing import Protocol

from leafnode.errors import ProtocolError
from leafnode.route.account import Account, Appender, Route
from leafnode.route.auth import User
from leafnode.route.limits import lowest
from leafnode.route.message import Message, Subscription
from leafnode.route.permissions import REMEMBERED_MAX, Permissions, ReplyBudget
from leafnode.route.subject import is_publishable, is_valid
from leafnode.wire import control, headers
from leafnode.wire.backlog import Backlog
from leafnode.wire.control import CRLF, parse_client

LINES_MAX = 2048  # whole control lines a connection remembers; about 0.5 KB each
SEEN_MAX = 4096  # lines seen once: only what comes again is worth preparing
ROW_MIN = 8  # messages with the same line after which a whole row is looked for
ROWS_MAX = 64  # lines for which a connection keeps a regular expression; compiling one costs as much as 500 messages
TOO_MANY_CONNECTIONS = "maximum account active connections exceeded"
RESERVED_REPLIES = (b"$JS.ACK.", b"_R_.", b"_GR_.")
RESERVED_SUBJECTS = (b"$NRG.", b"_GR_.")  # between servers of a cluster, which clients must not pretend to be
CR, LF = 13, 10

# size of the payload with its line end, route, prepared heads, size without line end
Line = tuple[int, Route, list[tuple[Appender, bytes]], int]


class Host(Protocol):
    """What a session needs of the server that it belongs to."""

    max_payload: int
    max_control_line: int
    max_subscriptions: int  # per connection; 0: unlimited
    max_sub_tokens: int  # of a subscription's subject; 0: unlimited
    has_headers: bool  # messages may have headers

    def authenticate(self, session: "Session", options: dict[str, object]) -> User | None: ...
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
        # input
        self._backlog = Backlog()
        # caches
        self.fast = True  # False: the complete way for everything (the property test compares both)
        self._remembers = False
        self._lines: dict[bytes, Line] = {}
        self._seen: set[bytes] = set()
        self._rows: dict[bytes, re.Pattern[bytes]] = {}
        self._touched: list[Route] = []  # routes with something to count
        self._fed: set[Session] = set()  # who got something in this turn
        self.congested = False  # set by the shell: the socket takes less than we write
        self.slowed = False  # one of our receivers is congested: the shell lets us wait a moment
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
        data = joined
        try:
            position, need = self._consume(data)
        except ProtocolError as error:
            self.fail(error.text, error.reason)
            position, need = len(data), 0
        if position < len(data) and not self.closing:
            self._backlog.keep(data[position:], need)
        if self._fed:
            for fed in self._fed:
                fed.wake()
                self.slowed = self.slowed or fed.congested
            self._fed.clear()

    def _consume(self, data: bytes) -> tuple[int, int]:  # noqa: C901, PLR0915 (a call a message would cost too much)
        """Work off all complete operations; returns where it stopped and how many bytes it needs from there."""
        position = 0
        end = len(data)
        find = data.find
        known = self._lines.get
        last: Line | None = None
        run = 0  # messages in a row with the same line
        while True:
            after = find(b"\n", position) + 1
            if not after:
                self._settle(last, run)
                return self._incomplete_line(end, position)
            line = data[position:after]
            hit = known(line)
            if hit is not None:
                size, route, targets, _ = hit
                stop = after + size
                if stop > end:
                    self._settle(last, run)
                    return position, stop - position
                if not route.stale and data[stop - 1] == LF and data[stop - 2] == CR:
                    body = data[after:stop]
                    for append, head in targets:
                        append(head)
                        append(body)
                    position = stop
                    if hit is last:
                        run += 1
                        if run == ROW_MIN:
                            position = self._row(line, hit, data, stop)
                            run += (position - stop) // (size + len(line))
                        continue
                    if run:
                        assert last is not None
                        before = last[1]
                        if not before.messages:
                            self._touched.append(before)
                        before.messages += run
                        before.size += run * last[3]
                    last = hit
                    run = 1
                    continue
                del self._lines[line]
            if run:
                self._note(last, run)
                run = 0
            stop = self._forward_known_subject(line, data, position, after, end) if self._remembers else 0
            if not stop:
                self._settle(None, 0)
                stop = self._operation(line, data, after, end)
                if self.closing:
                    return end, 0
            if stop > end:
                self._settle(None, 0)
                return position, stop - position
            position = stop

    def _row(self, line: bytes, hit: Line, data: bytes, position: int) -> int:
        """All frames from here on that begin with the same line, at once; returns where they end."""
        pattern = self._rows.get(line)
        size, _, targets, payload = hit
        if pattern is None:
            if len(self._rows) >= ROWS_MAX:
                return position
            pattern = re.compile(b"(?:%b.{%d}\r\n)*+" % (re.escape(line), payload), re.DOTALL)
            self._rows[line] = pattern
        found = pattern.match(data, position)
        stop = found.end() if found else position
        if targets and stop > position:
            bodies = [data[i : i + size] for i in range(position + len(line), stop, size + len(line))]
            for append, head in targets:
                append(head)
                append(head.join(bodies))
        return stop

    def _note(self, line: Line | None, run: int) -> None:
        """Remember what is to be counted."""
        assert line is not None
        route = line[1]
        if not route.messages:
            self._touched.append(route)
        route.messages += run
        route.size += run * line[3]

    def _settle(self, line: Line | None, run: int) -> None:
        """Count what the fast ways delivered: nobody may look at a counter before."""
        if run:
            self._note(line, run)
        fed = self._fed
        for route in self._touched:
            messages, size = route.messages, route.size
            route.messages = route.size = 0
            self.in_msgs += messages
            self.in_bytes += size
            for sub in route.subs:
                sub.delivered += messages
                sink: Session = sub.sink  # type: ignore[assignment]
                sink.out_msgs += messages
                sink.out_bytes += size
                fed.add(sink)
        self._touched.clear()

    def _incomplete_line(self, end: int, position: int) -> tuple[int, int]:
        if end - position > self.host.max_control_line:
            raise ProtocolError("maximum control line exceeded", "Maximum Control Line Exceeded")
        return position, 0

    def _forward_known_subject(self, line: bytes, data: bytes, position: int, after: int, end: int) -> int:
        """Second way: the subject is known, the rest goes out as it came. 0: not possible; else where it ends."""
        args = line.split(b" ")
        count = len(args)
        if args[0] != b"PUB" or not 3 <= count <= 4:  # odd spacing makes empty arguments: refused below
            return 0
        number = args[-1][:-2]
        if not number.isdigit() or line[-2] != CR:
            return 0
        size = int(number)
        if size > self.max_payload >= 0:
            return 0
        if count == 4 and (not args[2] or b"\t" in args[2] or args[2].startswith(RESERVED_REPLIES)):
            return 0
        stop = after + size + 2
        if stop > end:
            return stop
        if data[stop - 1] != LF or data[stop - 2] != CR:
            return 0
        subject = args[1]
        account = self.account
        assert account is not None
        matched = account.routes.get(subject)
        if matched is None:
            return stop if self._forward_once(subject, data[position + 5 + len(subject) : stop], size) else 0
        route = matched.route
        targets = route.targets
        if not targets:
            return 0
        body = data[position + 5 + len(subject) : stop]
        for append, head in targets:
            append(head)
            append(body)
        if not route.messages:
            self._touched.append(route)
        route.messages += 1
        route.size += size
        if count == 3:
            self._remember(line, route, size)
        return stop

    def _forward_once(self, subject: bytes, body: bytes, size: int) -> bool:
        """As above for a subject that is not worth remembering; False if it needs the complete way."""
        assert self.account is not None
        subs = self.account.plain_clients(subject)
        if not subs or subject.startswith(RESERVED_SUBJECTS):
            return False
        self.in_msgs += 1
        self.in_bytes += size
        for sub in subs:
            sink: Session = sub.sink  # type: ignore[assignment]
            sink.out += (b"MSG %b %b " % (subject, sub.sid), body)
            sub.delivered += 1
            sink.out_msgs += 1
            sink.out_bytes += size
            self._fed.add(sink)
        return True

    def _remember(self, line: bytes, route: Route, size: int, header_size: int = -1) -> None:
        """Prepare the first way for a line that comes for the second time."""
        if line not in self._seen:
            if len(self._seen) >= SEEN_MAX:
                self._seen.clear()
            self._seen.add(line)
            return
        if len(self._lines) >= LINES_MAX:
            self._lines.clear()
        targets = route.targets or ()
        if header_size < 0:
            tail = b"%d\r\n" % size
            heads = [(append, head + tail) for append, head in targets]
        else:
            tail = b"%d %d\r\n" % (header_size, size)
            heads = [(append, b"H" + head + tail) for append, head in targets]
        self._lines[line] = (size + 2, route, heads, size)

    # the complete way --------------------------------------------------------------------------------------------

    def _operation(self, line: bytes, data: bytes, after: int, end: int) -> int:
        """Third way. Returns where the operation ends; beyond `end` if its payload is not there yet."""
        if len(line) > self.host.max_control_line + 8:  # the limit is on the arguments
            raise ProtocolError("maximum control line exceeded", "Maximum Control Line Exceeded")
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
            case control.Err():
                raise ProtocolError(reason="Client Error")
            case _:  # INFO and +OK from a client are ignored
                pass
        return after

    def _admit_without_connect(self, op: control.Op) -> bool:
        """A client that never sends CONNECT is welcome where nobody needs credentials."""
        if self.account is not None:
            return True
        user = None if self.auth_required else self.host.authenticate(self, {})
        if user is None:
            self.fail("Authorization Violation", "Authentication Failure")
            return False
        self._enter(user)
        return True

    def _pub(self, op: control.Pub, line: bytes, data: bytes, after: int, end: int) -> int:
        if op.size > self.max_payload >= 0:
            raise ProtocolError("Maximum Payload Violation", "Maximum Message Payload Exceeded")
        if op.header_size >= 0 and not self.takes_headers:
            raise ProtocolError(reason="Protocol Violation: headers were not agreed on")
        stop = after + op.size + 2
        if stop > end:
            return stop
        if data[stop - 1] != LF or data[stop - 2] != CR:
            raise ProtocolError(control.UNKNOWN)
        split = after + max(op.header_size, 0)
        message = Message(op.subject, op.reply, data[after:split], data[split : stop - 2])
        self.in_msgs += 1
        self.in_bytes += op.size
        self._publish(message, line, op)
        return stop

    def _publish(self, message: Message, line: bytes, op: control.Pub) -> None:
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
        reached = account.publish(message, origin=self, echo=self.echo) if message.subject else 0
        if account.is_bridged:
            account.asker = None
        if not reached and message.reply and self.no_responders:
            self._answer_no_responders(message)
        if self._remembers and not message.reply:
            self._maybe_remember(message, line, op, account)

    def _maybe_remember(self, message: Message, line: bytes, op: control.Pub, account: Account) -> None:
        """Prepare the first way for this line, if its route is one that can be prepared."""
        if message.subject is not op.subject and message.subject != op.subject:
            return  # mapped
        route = account.match(message.subject).route
        if route.targets is None or (op.header_size > 0 and not route.all_take_headers):
            return
        if op.header_size != 0:
            self._remember(line, route, op.size, op.header_size)

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
            if sub.sink is self:
                block = headers.status(503, "", ("Nats-Subject", message.subject.decode("utf-8", "replace")))
                self.deliver(sub, Message(message.reply, b"", block, b""), message.reply)
                return

    # connecting --------------------------------------------------------------------------------------------------

    def _connect(self, text: bytes) -> None:
        try:
            options = json.loads(text)
        except (ValueError, RecursionError):
            options = None
        if not isinstance(options, dict):
            raise ProtocolError(reason="Protocol Violation: CONNECT is not JSON")
        self._forget_subscriptions()
        self._take_options(options)
        user = self.host.authenticate(self, options)
        if user is None or "account" in options or "new_account" in options:
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
        self.echo = options.get("echo", self.echo) is not False
        self.takes_headers = self.host.has_headers and options.get("headers", self.takes_headers) is True
        self.no_responders = options.get("no_responders", self.no_responders) is True
        protocol = options.get("protocol", self.protocol)
        for key in ("name", "lang", "version"):
            setattr(self, key, str(options.get(key, "") or getattr(self, key)))
        if self.no_responders and not self.takes_headers:
            raise ProtocolError("no responders requires headers support", "No Responders Requires Headers")
        if protocol not in (0, 1):
            raise ProtocolError("invalid client protocol", "Bad Client Protocol Version")
        self.protocol = int(protocol)

    def _enter(self, user: User) -> None:
        if self.account is not None:
            self.account.connections -= 1
            self.account = None
        account = self.host.account_of(user)
        most = account.limits.max_connections
        if 0 <= most <= account.connections + account.leafnodes:
            raise ProtocolError(TOO_MANY_CONNECTIONS, "Maximum Account Active Connections Exceeded")
        self.account = account
        account.connections += 1
        self._take_rules(user)

    def _take_rules(self, user: User) -> None:
        self.user = user
        self._permissions = user.permissions
        responses = user.permissions.responses if user.permissions else None
        self._replies = ReplyBudget(responses) if responses else None
        self.forget_routes()
        self._remembers = self.fast and self.echo and not (self.verbose or self.pedantic or self._permissions)

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
        self._lines.clear()
        self._may_publish.clear()
        self._take_limits()

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
        self._lines.clear()
        self._backlog.clear()
        self.wake()


def _nothing() -> None:
    pass
