"""Bytes between one socket and one connection object of the core: the part that clients and links share.

The core appends to its `out` list and calls `wake`; the endpoint writes what has gathered, joined into one `write`.
When that is, the loop's `Turn` says: the effects of the first input of a turn are written at once, for whoever waits
for an answer; those of all other input at the end of the turn, once a connection, for the sake of throughput. A peer
that does not read is given up at `max_pending` bytes, or when it took nothing at all for the write deadline. Nothing is
decided here.
"""

import asyncio
import socket
import time
import weakref
from collections.abc import Callable
from typing import Protocol, cast

from leafnode.net import tracing
from leafnode.net.listening import peer_address
from leafnode.wire.trace import Conversation

HIGH_WATER = 1024 * 1024  # bytes waiting in a socket's buffer from which its peer counts as congested
LOW_WATER = 256 * 1024  # and below which it no longer does


class Core(Protocol):
    """A connection without its socket: `Session` and `Leaf`."""

    out: list[bytes]
    closing: bool
    close_reason: str
    pings_out: int
    heard: bool

    def receive(self, data: bytes) -> None: ...
    def ping(self) -> None: ...
    def fail(self, text: str, reason: str) -> None: ...
    def end(self) -> None: ...


class Waiter(Protocol):
    """A connection that is not read until there is room on the disk."""

    def resume(self) -> None: ...


class Disk(Protocol):
    """Says when too much waits for the disk. TCP carries the pressure to where it comes from."""

    journal_full: Callable[[], bool]

    def wait_for_disk(self, connection: Waiter) -> None: ...


class Turn:
    """Who is to be written to in the present turn of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._woken: list[Endpoint] = []
        self._ends = False  # `_end` will be called
        self._is_first = True  # nobody's input has had an effect yet
        self._reads = False  # a socket's input is being worked off

    def wake(self, endpoint: "Endpoint") -> None:
        self._woken.append(endpoint)
        if not (self._ends or self._reads):
            self._end_soon()

    def begin_input(self) -> None:
        """One socket has given something."""
        self._reads = True

    def end_input(self) -> None:
        """It is worked off."""
        self._reads = False
        if not self._woken:
            return
        if self._is_first:
            self._is_first = False
            self._flush()
        if not self._ends:
            self._end_soon()

    def _end_soon(self) -> None:
        self._ends = True
        self._call_soon(self._end)

    def _end(self) -> None:
        self._ends = False
        self._is_first = True
        self._flush()

    def _flush(self) -> None:
        woken, self._woken = self._woken, []
        for endpoint in woken:
            endpoint.flush()


_turns: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Turn]" = weakref.WeakKeyDictionary()


def turn_of(loop: asyncio.AbstractEventLoop) -> Turn:
    turn = _turns.get(loop)
    if turn is None:
        turn = _turns[loop] = Turn(loop)
    return turn


class Endpoint(asyncio.Protocol):
    """One socket. Subclasses make the core in `opened` and clean up in `closed`."""

    core: Core
    transport: asyncio.Transport

    def __init__(self, *, max_pending: int, write_deadline_s: float, ping_interval_s: float, ping_max: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._turn = turn_of(self._loop)
        self._max_pending = max_pending
        self._write_deadline_s = write_deadline_s
        self._ping_interval_s = ping_interval_s
        self._ping_max = ping_max
        self._flush_due = False
        self._written = 0  # bytes handed to the transport so far
        self._deadline: asyncio.TimerHandle | None = None
        self._drained_before = 0
        self._pinger: asyncio.TimerHandle | None = None
        self._ended = False
        self._pinged_at = 0.0  # seconds on the loop's clock; 0: no answer is due
        self.started_ns = self.last_activity_ns = time.time_ns()  # of what was received
        self.rtt_ns = 0  # the last round trip of a PING; 0: none yet
        self.traced: Conversation | None = None

    # asyncio.Protocol --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.traced = tracing.begin(lambda: self.name)
        self.opened()

    @property
    def name(self) -> str:
        """What log lines call it."""
        host, port = peer_address(self.transport)
        return f"{host}:{port} - lid"

    def opened(self) -> None:
        """The socket is there; called once."""

    def closed(self) -> None:
        """The socket is gone; called once."""

    def data_received(self, data: bytes) -> None:
        self.last_activity_ns = time.time_ns()
        if self.traced is not None:
            self.traced.received(data)
        turn = self._turn
        turn.begin_input()
        try:
            self.core.receive(data)
        finally:
            turn.end_input()

    def eof_received(self) -> bool:
        return False

    lost_reason = "Client Closed"  # when the peer ended it

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ended:
            return
        self._ended = True
        for timer in (self._deadline, self._pinger):
            if timer is not None:
                timer.cancel()
        if not self.core.closing:
            self.core.close_reason = self.core.close_reason or (
                self.lost_reason if exc is None else f"Read Error: {exc}"
            )
            self.core.end()
        self.core.out.clear()
        self.closed()

    def pause_writing(self) -> None:
        self.congested(True)
        self._drained_before = self.drained()
        self._deadline = self._loop.call_later(self._write_deadline_s, self._check_deadline)

    def resume_writing(self) -> None:
        self.congested(False)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def congested(self, is_congested: bool) -> None:
        """The peer takes less than we write, or takes it again."""

    # output ------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something is in `out`, or the core closes: write before this turn of the loop is over."""
        if not self._flush_due:
            self._flush_due = True
            self._turn.wake(self)

    def flush(self) -> None:
        self._flush_due = False
        core = self.core
        if self._ended:
            core.out.clear()
            return
        out = core.out
        if out:
            data = b"".join(out) if len(out) > 1 else out[0]
            out.clear()
            self._written += len(data)
            if self.traced is not None:
                self.traced.sent(data)
            self.transport.write(data)
            if not core.closing and self.transport.get_write_buffer_size() > self._max_pending:
                self.give_up("Slow Consumer (Pending Bytes)")
                return
        if core.closing:
            self.transport.close()

    @property
    def pending_bytes(self) -> int:
        """Waiting for the peer to read."""
        return self.transport.get_write_buffer_size()

    def give_up(self, reason: str) -> None:
        """Close without another word: the peer does not read anyway."""
        self.core.close_reason = reason
        self.core.end()
        self.transport.abort()

    def drained(self) -> int:
        """Bytes that the socket took so far."""
        return self._written + self.added_bytes() - self.transport.get_write_buffer_size()

    def added_bytes(self) -> int:
        """What layers between us and the socket put on top of what we wrote."""
        return 0

    def _check_deadline(self) -> None:
        drained = self.drained()
        if drained == self._drained_before:
            self.give_up("Slow Consumer (Write Deadline)")
            return
        self._drained_before = drained
        self._deadline = self._loop.call_later(self._write_deadline_s, self._check_deadline)

    # pings -------------------------------------------------------------------------------------------------------

    def start_pings(self, first_s: float) -> None:
        self._pinger = self._loop.call_later(min(first_s, self._ping_interval_s), self._ping)

    def _ping(self) -> None:
        core = self.core
        if core.closing:
            return
        if core.pings_out >= self._ping_max:
            core.fail("Stale Connection", "Stale Connection")
            return
        if core.pings_out or not self.quiet_ping():
            self._pinged_at = self._pinged_at or self._loop.time()
            core.ping()
        core.heard = False
        self._pinger = self._loop.call_later(self._ping_interval_s, self._ping)

    def on_pong(self) -> None:
        """The peer answered: that took a round trip."""
        if self._pinged_at:
            self.rtt_ns = int((self._loop.time() - self._pinged_at) * 1e9)
            self._pinged_at = 0.0

    def quiet_ping(self) -> bool:
        """Whether recent traffic makes a PING unnecessary."""
        return self.core.heard
