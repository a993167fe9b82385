"""The client listener: sockets, timers and limits around `Session`.

`ClientHost` is what sessions ask (who may connect, what INFO says) and what the monitor reads. A publisher whose
receivers are congested waits a moment before it is read again, and one that fills the journal waits until the disk
has caught up: TCP carries the pressure to where it comes from.
"""

import asyncio
import itertools
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from leafnode.net import tracing
from leafnode.net.endpoint import Endpoint, Waiter
from leafnode.net.layer import Layer
from leafnode.net.listening import peer_address
from leafnode.net.sockets import CLOSED_MAX, Gone, Row
from leafnode.net.tls import ServerTls, TlsLayer, tls_facts
from leafnode.route.account import Account
from leafnode.route.auth import ARRIVAL, USER_EXPIRED, Arrival, Authenticator, User
from leafnode.route.certificate import user_of_certificate
from leafnode.route.known import FastSink
from leafnode.route.session import Session
from leafnode.route.verdict import Verdict

STALL_SECONDS = 0.005  # a publisher's pause when a receiver is congested; nats-server stalls for 2 to 5 ms
STALLS_MAX = 50  # pauses on end for a receiver that is half drowned but reads; one that hardly reads gets no more
READING_SECONDS = 1.0  # since its socket last took something, a receiver counts as one that reads
FIRST_PING_SECONDS = 2.0  # after connecting, to learn that the peer answers (nats-server)
NONCE_BYTES = 11  # 15 characters of base64

log = logging.getLogger("leafnode.client")


class Watcher(Protocol):
    """Who wants to know of clients that come and go: the system account's events."""

    def connected(self, connection: "ClientConnection") -> None: ...
    def disconnected(self, row: Row) -> None: ...


class Nobody:
    """Until there is a watcher."""

    def connected(self, connection: "ClientConnection") -> None: ...
    def disconnected(self, row: Row) -> None: ...


@dataclass(slots=True, kw_only=True)
class Entrance:
    """What differs between the listeners that clients come in by."""

    type: Literal["nats", "websocket"] = "nats"
    tls: ServerTls | None = None
    authenticator: Authenticator | None = None
    """None = that of the server."""
    auth_timeout_s: float
    ping_interval_s: float
    info_fields: dict[str, Any] = field(default_factory=dict)
    """Fields of INFO that are this listener's own."""


class ClientHost:
    """Everything that client connections share."""

    def __init__(
        self,
        *,
        info: Mapping[str, Any],
        authenticator: Authenticator,
        account_of: Callable[[str], Account],
        make_nonce: Callable[[], bytes],
        max_payload: int,
        max_control_line: int,
        max_pending: int,
        max_connections: int,
        max_subscriptions: int,
        ping_interval_s: float,
        ping_max: int,
        write_deadline_s: float,
        auth_timeout_s: float,
        max_sub_tokens: int = 0,
        has_headers: bool = True,
        stalls: bool = True,
        remembers: int = CLOSED_MAX,
        tls: ServerTls | None = None,
    ) -> None:
        """`info`: the fields of INFO that are the same for all clients. Sizes are bytes; -1 or 0: no limit.

        `stalls`: publishers wait for receivers. `remembers`: closed connections for the monitor.
        """
        self.stalls = stalls
        self.entrance = Entrance(tls=tls, auth_timeout_s=auth_timeout_s, ping_interval_s=ping_interval_s)
        self.info_fields = dict(info)
        self.authenticator = authenticator
        self.max_payload = max_payload
        self.max_control_line = max_control_line
        self.max_pending = max_pending
        self.max_connections = max_connections
        self.max_subscriptions = max(max_subscriptions, 0)
        self.max_sub_tokens = max_sub_tokens
        self.has_headers = has_headers
        self.ping_max = ping_max
        self.write_deadline_s = write_deadline_s
        self.connections: dict[int, ClientConnection] = {}
        self.total_connections = 0
        self.slow_consumers = 0
        self.stale_connections = 0
        self.stalled = 0
        self.slow: set[FastSink] = set()
        self.in_msgs = self.in_bytes = self.out_msgs = self.out_bytes = 0  # of connections that are gone
        self.next_id = itertools.count(1).__next__  # of connections, also of leaf links
        self.gone = Gone(remembers)
        self.watcher: Watcher = Nobody()
        self.journal_full: Callable[[], bool] = _never
        self._account_of = account_of
        self._make_nonce = make_nonce
        self._waiting_for_disk: set[Waiter] = set()

    # what sessions ask -------------------------------------------------------------------------------------------

    def authenticate(self, session: Session, options: dict[str, object]) -> User | Verdict[User] | None:
        connection = self.connections.get(session.client_id)
        known = self.authenticator_of(session)
        tls = connection.entrance.tls if connection is not None else None
        maps = tls is not None and tls.config.verify_and_map and bool(known.users)
        if not options:
            return None if maps else self._arrived(known.anonymous(), connection)
        if connection is not None and connection.credentials:
            options = {**connection.credentials, **{key: value for key, value in options.items() if value}}
        if maps and not options.get("nkey"):
            certificate = connection.transport.get_extra_info("peercert") if connection is not None else None
            named = user_of_certificate(certificate or {}, known.users) if not options.get("user") else None
            arrived = self._arrived(named, connection)
            user = known.review(arrived, options, session.nonce, self._arrival(connection))
        else:
            user = known.authenticate(options, session.nonce, self._arrival(connection))
        if isinstance(user, Verdict):
            user.then(lambda found: self._note_refusal(session, found))
        else:
            self._note_refusal(session, user)
        return user

    def _note_refusal(self, session: Session, user: User | None) -> None:
        if user is None:
            log.error("%s - authentication error", self._who(session))

    def _arrived(self, user: User | None, connection: "ClientConnection | None") -> User | None:
        return user if user is not None and user.may_arrive(self._arrival(connection)) else None

    def _arrival(self, connection: "ClientConnection | None") -> Arrival:
        if connection is None:
            return ARRIVAL
        kind = "STANDARD" if connection.entrance.type == "nats" else "WEBSOCKET"
        tls = connection.transport.get_extra_info("ssl_object")
        told = (lambda: tls_facts(tls)) if tls is not None else None
        return Arrival(kind, connection.peer[0], connection.session.client_id, told)

    def authenticator_of(self, session: Session) -> Authenticator:
        connection = self.connections.get(session.client_id)
        entrance = connection.entrance if connection is not None else self.entrance
        return entrance.authenticator or self.authenticator

    def account_of(self, user: User) -> Account:
        return self._account_of(user.account)

    def request_info(self, session: Session, *, share: bool) -> dict[str, object]:
        """What an imported service is told of who asks: not much, unless the importer shares it."""
        connection = self.connections.get(session.client_id)
        account = session.account.name if session.account else ""
        rtt: dict[str, object] = {"rtt": connection.rtt_ns} if connection is not None and connection.rtt_ns else {}
        if not share or connection is None:
            return {"acc": account, **rtt}
        given = {"user": session.user.name if session.user else "", "name": session.name, "lang": session.lang}
        return {
            "start": datetime.fromtimestamp(connection.started_ns / 1e9, UTC).isoformat().replace("+00:00", "Z"),
            "host": connection.peer[0],
            "id": session.client_id,
            "acc": account,
            **{key: value for key, value in {**given, "ver": session.version}.items() if value},
            **rtt,
            "server": self.info_fields.get("server_name", ""),
            "kind": "Client",
            "client_type": connection.entrance.type,
        }

    def now_ns(self) -> int:
        return time.time_ns()

    def on_connect(self, session: Session) -> None:
        connection = self.connections.get(session.client_id)
        if connection is not None:
            connection.on_connect()
            self.watcher.connected(connection)

    def info(self, session: Session, *, connected: bool) -> bytes:
        connection = self.connections.get(session.client_id)
        fields = {**self.info_fields, "client_id": session.client_id}
        if connection is not None:
            fields["client_ip"] = connection.peer[0]
            fields |= connection.entrance.info_fields
            if connection.entrance.tls is not None:
                fields |= connection.entrance.tls.info_fields()
            if connection.leaving:
                fields["ldm"] = True
                fields.pop("connect_urls", None)
        if session.nonce:
            fields["nonce"] = session.nonce.decode()
        if self.authenticator_of(session).required:
            fields["auth_required"] = True
        if connected:
            fields["connect_info"] = True
            fields["max_payload"] = session.max_payload
            fields["remote_account"] = session.account.name if session.account else ""
        return b"INFO " + json.dumps(fields, separators=(",", ":")).encode() + b" \r\n"

    def _who(self, session: Session) -> str:
        connection = self.connections.get(session.client_id)
        return connection.name if connection is not None else f"cid:{session.client_id}"

    # connections -------------------------------------------------------------------------------------------------

    def accept(self) -> asyncio.Protocol:
        """A protocol object for the next socket of the plain listener."""
        tls = self.entrance.tls
        return self.enter(self.entrance) if tls is None else TlsLayer(tls, lambda: self.enter(self.entrance))

    def enter(self, entrance: Entrance) -> "ClientConnection":
        """A new client's connection, still without its socket."""
        known = entrance.authenticator or self.authenticator
        self.total_connections += 1
        number = self.next_id()
        nonce = self._make_nonce() if known.wants_nonce else b""
        required = known.anonymous() is None
        session = Session(self, number, nonce=nonce, auth_required=required)
        return ClientConnection(self, session, entrance)

    def forget(self, connection: "ClientConnection") -> None:
        session = connection.session
        self.connections.pop(session.client_id, None)
        self._waiting_for_disk.discard(connection)
        self.in_msgs += session.in_msgs
        self.in_bytes += session.in_bytes
        self.out_msgs += session.out_msgs
        self.out_bytes += session.out_bytes
        if session.close_reason.startswith("Slow Consumer"):
            self.slow_consumers += 1
            log.warning("%s - %s", connection.name, session.close_reason)
        elif session.close_reason == "Stale Connection":
            self.stale_connections += 1
        row = connection.row(stop_ns=time.time_ns())
        self.gone.add(row)
        self.watcher.disconnected(row)
        log.debug("%s - Client connection closed: %s", connection.name, session.close_reason)

    def wait_for_disk(self, connection: Waiter) -> None:
        self._waiting_for_disk.add(connection)

    def on_room(self) -> None:
        """The journal has room again."""
        waiting, self._waiting_for_disk = self._waiting_for_disk, set()
        for connection in waiting:
            connection.resume()

    def announce_lame_duck(self) -> None:
        """Tell all clients that understand it to go elsewhere."""
        self.info_fields["ldm"] = True
        self.info_fields.pop("connect_urls", None)
        for connection in list(self.connections.values()):
            if connection.session.protocol >= 1:
                connection.session.greet()

    def send_away(self, cid: int) -> bool:
        """Tell one client to go elsewhere; False: there is none of that number."""
        connection = self.connections.get(cid)
        if connection is not None:
            connection.leaving = True
            connection.session.greet()
        return connection is not None

    def totals(self) -> dict[str, int]:
        """Messages and payload bytes in and out since the start, of all connections that ever were."""
        sums = {name: getattr(self, name) for name in ("in_msgs", "in_bytes", "out_msgs", "out_bytes")}
        for connection in self.connections.values():
            for name in sums:
                sums[name] += getattr(connection.session, name)
        return sums


class ClientConnection(Endpoint):
    """One client's socket."""

    def __init__(self, host: ClientHost, session: Session, entrance: Entrance) -> None:
        super().__init__(
            max_pending=host.max_pending,
            write_deadline_s=host.write_deadline_s,
            ping_interval_s=entrance.ping_interval_s,
            ping_max=host.ping_max,
        )
        self.host = host
        self.entrance = entrance
        self.session = session
        self.core = session
        self.peer: tuple[str, int] = ("", 0)
        self.credentials: dict[str, str] = {}  # from outside of CONNECT, which goes before: cookies of a websocket
        self.leaving = False  # it was told to go to another server
        self._auth_timer: asyncio.TimerHandle | None = None
        self._end_timer: asyncio.TimerHandle | None = None
        self._drained_seen = 0
        self._reading_until = 0.0  # on the loop's clock, if its socket takes nothing more
        self._out_msgs_before = -1  # at the last look; none yet
        self._about = ""  # for the log: who it is

    def on_connect(self) -> None:
        """The first round trip: our INFO, its CONNECT."""
        self.rtt_ns = self.rtt_ns or time.time_ns() - self.started_ns
        user = self.session.user
        if user is not None and user.ends_s:
            self._end_timer = self._loop.call_later(max(user.ends_s - time.time(), 0.0), self._expire)
        self._about = self._described()

    def _expire(self) -> None:
        self.session.fail(USER_EXPIRED, "Authentication Expired")

    def _described(self) -> str:
        """What the client says of itself, and as whom it is here: for the log, as nats-server has it."""
        session = self.session
        version = f"v{session.version}" if session.version else ""
        program = ":".join(part for part in (version, session.lang, session.name) if part)
        user = session.user
        who = (f"nkey:{user.nkey}" if user.nkey else f"user:{user.name}" * bool(user.name)) if user else ""
        account = session.account.name if session.account else ""
        parts = [program, f"{account}/{who}" if account and who else ""]
        return "".join(f" - {json.dumps(part, ensure_ascii=False)}" for part in parts if part)

    def take_limits(self) -> None:
        """Those of the host may have changed, and whether it is traced."""
        self.traced = tracing.begin(lambda: self.name)
        self._max_pending = self.host.max_pending
        self._write_deadline_s = self.host.write_deadline_s
        self._ping_interval_s = self.entrance.ping_interval_s
        self._ping_max = self.host.ping_max
        if self._pinger is not None and not self._ended:
            self._pinger.cancel()
            self.start_pings(self._ping_interval_s)

    def row(self, *, stop_ns: int = 0, with_subs: bool = False) -> Row:
        """What the monitor shows of it now."""
        session = self.session
        before, self._out_msgs_before = self._out_msgs_before, session.out_msgs
        if before not in (-1, session.out_msgs) and not stop_ns:
            self.last_activity_ns = time.time_ns()  # nobody notes when a message is sent: since the last look
        tls = self.transport.get_extra_info("cipher") or ("", "", 0)
        return Row(
            cid=session.client_id,
            type=self.entrance.type,
            ip=self.peer[0],
            port=self.peer[1],
            start_ns=self.started_ns,
            last_activity_ns=self.last_activity_ns,
            stop_ns=stop_ns,
            reason=session.close_reason if stop_ns else "",
            rtt_ns=self.rtt_ns,
            pending_bytes=0 if stop_ns else self.pending_bytes,
            in_msgs=session.in_msgs,
            in_bytes=session.in_bytes,
            out_msgs=session.out_msgs,
            out_bytes=session.out_bytes,
            subscriptions=len(session.subs),
            name=session.name,
            lang=session.lang,
            version=session.version,
            tls_version=tls[1].removeprefix("TLSv"),
            tls_cipher=tls[0],
            user=(session.user.name or session.user.nkey) if session.user else "",
            account=session.account.name if session.account else "",
            subs=tuple(session.subs.values()) if with_subs else (),
        )

    @property
    def name(self) -> str:
        mark = "cid" if self.entrance.type == "nats" else "wid"
        return f"{self.peer[0]}:{self.peer[1]} - {mark}:{self.session.client_id}{self._about}"

    def opened(self) -> None:
        self.peer = peer_address(self.transport)
        host, session = self.host, self.session
        session.wake = self.wake
        session.on_pong = self.on_pong
        session.on_verdict = self.resume
        host.connections[session.client_id] = self
        log.debug("%s - Client connection created", self.name)
        session.greet()
        if 0 < host.max_connections < len(host.connections):
            session.fail("maximum connections exceeded", "Maximum Connections Exceeded")
            return
        self.start_pings(FIRST_PING_SECONDS)
        if session.auth_required:
            self._auth_timer = self._loop.call_later(self.entrance.auth_timeout_s, self._auth_timeout)

    def _auth_timeout(self) -> None:
        if not (self.session.connected or self.session.waits):
            self.session.fail("Authentication Timeout", "Authentication Timeout")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        session = self.session
        if session.slowed:
            slow, session.slowed = session.slowed, set()
            if self.host.stalls:
                self._stall(slow)
                return
        if self.host.journal_full():
            self.transport.pause_reading()
            self.host.wait_for_disk(self)
        if session.waits:
            self.transport.pause_reading()

    def _stall(self, slow: set[FastSink]) -> None:
        """Receivers of ours take less than we publish: wait a moment."""
        self.host.stalled += 1
        self.transport.pause_reading()
        known = [self.host.connections.get(sink.client_id) for sink in slow]
        waited_for = [connection for connection in known if connection is not None]
        self._loop.call_later(STALL_SECONDS, self._look_again, waited_for, 1)

    def _look_again(self, waited_for: "list[ClientConnection]", pauses: int) -> None:
        """Many publishers together would drown a receiver that does read: they wait until it has half its room."""
        still = [connection for connection in waited_for if connection.is_half_drowned()]
        if still and pauses < STALLS_MAX:
            self._loop.call_later(STALL_SECONDS, self._look_again, still, pauses + 1)
        else:
            self.resume()

    def resume(self) -> None:
        if not (self.transport.is_closing() or self.session.waits):
            self.transport.resume_reading()

    def is_half_drowned(self) -> bool:
        """Whether waiting for it is needed and makes sense."""
        now, drained = self._loop.time(), self.drained()
        if drained != self._drained_seen:
            self._drained_seen, self._reading_until = drained, now + READING_SECONDS
        return 2 * self.pending_bytes > self._max_pending and now < self._reading_until

    def added_bytes(self) -> int:
        return self.transport.added_bytes() if isinstance(self.transport, Layer) else 0

    def congested(self, is_congested: bool) -> None:
        self.session.congested = is_congested

    def quiet_ping(self) -> bool:
        return self.session.heard and self.session.connected

    def closed(self) -> None:
        for timer in (self._auth_timer, self._end_timer):
            if timer is not None:
                timer.cancel()
        self.host.forget(self)
        self.session.release()


def _never() -> bool:
    return False
