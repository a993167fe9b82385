"""Time on a device that wakes up without any.

Uptime in milliseconds never goes back and never wraps. Unix time is uptime plus an offset, known from the system's
clock when that was set, or from an SNTP exchange (RFC 4330). A reading taken before the offset is known is corrected
when it is sent.
"""

import asyncio
import socket
import time

SANE_UNIX_S = 1735689600  # 2025-01-01: a board without time says 2021
NTP_UNIX_S = 2208988800  # from 1900, NTP's epoch, to 1970
NTP_PORT = 123
NTP_REQUEST = b"\x1b" + 47 * b"\0"  # version 3, client
NTP_WAIT_MS = 2000  # for an answer
NTP_POLL_MS = 20
NTP_AGAIN_S = 6 * 3600  # a board's crystal drifts by up to a second in that time
NTP_RETRY_S = 30


class Clock:
    """Uptime, and Unix time once it is known."""

    def __init__(self):
        self._uptime = 0
        self._ticks = _ticks_ms()
        self.offset = 0
        self.known = False
        if time.time() > SANE_UNIX_S:
            self.set(int(time.time() * 1000))

    def uptime_ms(self):
        """Must be called at least every few days, which any task of the firmware does many times a second."""
        now = _ticks_ms()
        self._uptime += _ticks_diff(now, self._ticks)
        self._ticks = now
        return self._uptime

    def set(self, unix_ms):
        self.offset = unix_ms - self.uptime_ms()
        self.known = True

    def epoch_ms(self, uptime_ms):
        return uptime_ms + self.offset

    async def keep_by_ntp(self, host):
        """Asks `host` (or `host:port`) now and then, for ever."""
        while True:
            unix_ms = await ask_ntp(host)
            if unix_ms:
                self.set(unix_ms)
            await asyncio.sleep(NTP_AGAIN_S if unix_ms else NTP_RETRY_S)


async def ask_ntp(host):
    """Unix time in ms, or None. Name resolution blocks; give an address where that hurts."""
    name, _, port = host.partition(":")
    sock = None
    try:
        address = socket.getaddrinfo(name, int(port or NTP_PORT))[0][-1]
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.sendto(NTP_REQUEST, address)
        for _ in range(NTP_WAIT_MS // NTP_POLL_MS):
            await asyncio.sleep(NTP_POLL_MS / 1000)
            try:
                return parse_ntp(sock.recv(64))
            except OSError:
                pass  # nothing there yet
    except OSError:
        pass  # no such name, no network: asked again later
    finally:
        if sock:
            sock.close()
    return None


def parse_ntp(answer):
    """Unix time in ms out of the transmit timestamp; None for anything that is not a server's answer."""
    if len(answer) < 48 or answer[0] & 7 != 4 or answer[1] == 0:
        return None
    seconds = int.from_bytes(answer[40:44], "big")
    fraction = int.from_bytes(answer[44:48], "big")
    return (seconds - NTP_UNIX_S) * 1000 + (fraction * 1000 >> 32) if seconds > NTP_UNIX_S else None


if hasattr(time, "ticks_ms"):
    _ticks_ms = time.ticks_ms
    _ticks_diff = time.ticks_diff
else:

    def _ticks_ms():
        return int(time.monotonic() * 1000)

    def _ticks_diff(new, old):
        return new - old
