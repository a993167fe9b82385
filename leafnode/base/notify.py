"""Telling systemd how the service is (sd_notify(3)); a no-op when nobody listens.

The protocol is one datagram of `KEY=value` lines to the socket named in NOTIFY_SOCKET. With `Type=notify` systemd
waits for READY=1; with `WatchdogSec=` it kills a service whose WATCHDOG=1 stays away.
"""

import os
import socket
import time
from collections.abc import Mapping

_BEATS_PER_DEADLINE = 2  # sd_watchdog_enabled(3) recommends half of the deadline


class Notifier:
    """Speaks to the service manager named by `environ`, or to nobody."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = _socket_address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_interval_s = _watchdog_interval_s(environ)
        """Seconds between calls of `watchdog()` that systemd expects; None when it expects none."""

    def ready(self, status: str = "") -> None:
        """Start-up, or a reload, is complete."""
        self.send("READY=1", *_status(status))

    def reloading(self) -> None:
        """A reload begins; `ready()` ends it. systemd wants the time to tell old answers from new."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str = "") -> None:
        self.send("STOPPING=1", *_status(status))

    def watchdog(self) -> None:
        """Still alive."""
        self.send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self.send(*_status(text))

    def send(self, *lines: str) -> bool:
        """Send the lines as one message; False when nobody listens. Never raises, never blocks."""
        if not self._address or not lines:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaker:
                speaker.setblocking(False)
                speaker.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return False
        return True


def _socket_address(name: str) -> str:
    """Path of the socket; a leading `@` stands for the abstract namespace."""
    return f"\0{name[1:]}" if name.startswith("@") else name


def _status(text: str) -> list[str]:
    return [f"STATUS={' '.join(text.split())}"] if text else []


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    """Half of systemd's deadline, if one is set and meant for this process."""
    try:
        deadline_us = int(environ.get("WATCHDOG_USEC", "0"))
        owner = int(environ.get("WATCHDOG_PID", "0"))
    except ValueError:
        return None
    if deadline_us <= 0 or owner not in (0, os.getpid()):
        return None
    return deadline_us / 1_000_000 / _BEATS_PER_DEADLINE
