"""The socket of a leaf link, dialled or accepted: interest is settled once per turn, and a dead link is noticed.

A link whose other end has fallen silent is dead after its deadline, however TCP feels about it. Each third of the
deadline a PING goes out. What counts is the answer; but on a slow link it stands behind a backlog, of ours or of the
other side's, so what is heard and bytes that leave count as life too, for a while. Not for ever: a link may have lost
only one direction, and a middlebox may swallow all that we send.
"""

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from typing import NamedTuple

from leafnode.net.endpoint import Disk, Endpoint
from leafnode.net.layer import Layer
from leafnode.route.leaf import Leaf

DEADLINE_SECONDS = 15.0  # of silence; a PING each 5 s is 2 MB in a day, headers of IP and TCP included
LOOKS_PER_DEADLINE = 3
BACKLOG_BYTES = 1024  # waiting for the network: more than a PING or two
PATIENCE = 6  # deadlines for which anything else stands for an answer
CLOSE_SECONDS = 1.0  # for the last words to leave when we end a link
FIRST_PING_SECONDS = 1.0  # after connecting (nats-server)


class Limits(NamedTuple):
    """Of a link; seconds and bytes."""

    max_pending: int
    write_deadline_s: float
    deadline_s: float
    disk: Disk


class LinkEndpoint(Endpoint):
    """Subclasses set `core` and, once it is one, `leaf`."""

    leaf: Leaf | None

    def __init__(self, limits: Limits) -> None:
        super().__init__(
            max_pending=limits.max_pending,
            write_deadline_s=limits.write_deadline_s,
            ping_interval_s=limits.deadline_s / LOOKS_PER_DEADLINE,
            ping_max=LOOKS_PER_DEADLINE,
        )
        self._deadline_s = limits.deadline_s
        self._answered_at = self._alive_at = self._loop.time()
        self._backlog_before = self._left_before = 0
        self._closer: asyncio.TimerHandle | None = None
        self._disk = limits.disk
        self._is_paused = False  # we do not read, so that nothing heard says nothing about the other side

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._disk.journal_full() and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()
            self._disk.wait_for_disk(self)

    def resume(self) -> None:
        self._is_paused = False
        self._answered_at = self._alive_at = self._loop.time()
        if not self._ended and not self.transport.is_closing():
            self.transport.resume_reading()

    def watch(self) -> None:
        """From now on silence ends the link."""
        self._answered_at = self._alive_at = self._loop.time()
        self.start_pings(FIRST_PING_SECONDS)

    def _ping(self) -> None:
        core, now = self.core, self._loop.time()
        if core.closing:
            return
        is_draining = self._is_draining()
        if self._is_paused:
            self._answered_at = self._alive_at = now
        if (core.heard or is_draining) and now - self._answered_at < self._deadline_s * PATIENCE:
            self._alive_at = now
        if now - self._alive_at >= self._deadline_s:
            self._die()
            return
        core.heard = False
        self._pinged_at = self._pinged_at or now
        core.ping()
        next_look = min(self._ping_interval_s, max(self._alive_at + self._deadline_s - now, 0.0))
        self._pinger = self._loop.call_later(next_look, self._ping)

    def on_pong(self) -> None:
        super().on_pong()
        self._answered_at = self._alive_at = self._loop.time()

    def _die(self) -> None:
        silent_s = self._loop.time() - self._answered_at
        self.core.fail("Stale Connection", f"Stale Connection: no answer for {silent_s:.3g} s")
        self.flush()
        self.be_gone()

    def _is_draining(self) -> bool:
        """Whether bytes of a backlog have left since the last look."""
        unsent = _unsent(self.transport)
        left = self.drained() - unsent
        had_backlog, has_left = self._backlog_before > BACKLOG_BYTES, left > self._left_before
        self._backlog_before, self._left_before = self.pending_bytes + unsent, left
        return had_backlog and has_left

    def flush(self) -> None:
        if self.leaf is not None:
            self.leaf.settle()
        super().flush()
        if self.core.closing and not self._ended and self._closer is None:
            self._closer = self._loop.call_later(CLOSE_SECONDS, self.be_gone)

    def give_up(self, reason: str) -> None:
        super().give_up(reason)
        self.be_gone()

    def be_gone(self) -> None:
        """Now, whatever the transport does: one that closes waits for bytes to leave that may never leave, one that
        says goodbye in TLS waits for the answer, and one that is aborted within its handshake tells nobody.
        """
        self.transport.abort()
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closer is not None:
            self._closer.cancel()
        super().connection_lost(exc)

    def added_bytes(self) -> int:
        return self.transport.added_bytes() if isinstance(self.transport, Layer) else 0


def _unsent(transport: object) -> int:
    """Bytes that the kernel holds because the other end has not confirmed them; 0 where that cannot be asked."""
    found: socket.socket | None = transport.get_extra_info("socket")  # type: ignore[attr-defined]
    if found is None:
        return 0
    with contextlib.suppress(OSError, ValueError):
        size: int = struct.unpack("i", fcntl.ioctl(found.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]
        return size
    return 0
