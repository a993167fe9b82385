"""Listening sockets: handed over by the service manager (sd_listen_fds(3)), or made here.

One that systemd holds outlives a restart: who connects in between waits in the kernel's queue instead of being refused.
A wildcard address takes IPv4 and IPv6, as nats-server's does; addresses of peers are shown without the difference.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Iterator, MutableMapping
from typing import Literal, get_args

FIRST_FD = 3  # where sd_listen_fds(3) begins
BACKLOG = 1024  # connections the kernel holds for us; a site's devices all return at once after a power cut
WILDCARDS = ("", "0.0.0.0", "::")
NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
MAPPED = "::ffff:"  # before an IPv4 address that came in by an IPv6 socket

Name = Literal["client", "leaf", "websocket", "monitor"]
NAMES = get_args(Name)

log = logging.getLogger("leafnode")


class Sockets:
    """Where listeners get theirs. A socket that was handed over is taken once, by its name or else by its port."""

    def __init__(self, given: list[tuple[str, socket.socket]] | None = None) -> None:
        self._given = given or []

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> "Sockets":
        """Those that LISTEN_FDS promises to this process; the variables are taken away."""
        meant_for = environ.pop("LISTEN_PID", "")
        count = environ.pop("LISTEN_FDS", "")
        names = environ.pop("LISTEN_FDNAMES", "").split(":")
        if meant_for != str(os.getpid()) or not count.isdigit():
            return cls()
        return cls(list(_opened(int(count), names)))

    def listen(self, name: Name, host: str, port: int) -> socket.socket:
        """A socket that listens; a `port` of -1 or 0 is any free one.

        Raises:
            OSError: the address cannot be had.
        """
        for known, handed in self._given:
            if known == name or (known not in NAMES and port_of(handed) == port):
                self._given.remove((known, handed))
                log.info("The service manager's socket at port %d is the %s listener's", port_of(handed), name)
                return handed
        return make(host, max(port, 0))

    def close_rest(self) -> None:
        """Those that no listener took."""
        for name, handed in self._given:
            log.warning(
                "the service manager's socket %r at port %d is closed, no listener has this port: name it client, "
                "leaf, websocket or monitor (FileDescriptorName=), or change the port",
                name,
                port_of(handed),
            )
            handed.close()
        self._given.clear()


def _opened(count: int, names: list[str]) -> Iterator[tuple[str, socket.socket]]:
    for place in range(count):
        name = names[place] if place < len(names) else ""
        try:
            handed = socket.socket(fileno=FIRST_FD + place)
        except OSError as error:
            log.warning("descriptor %d was handed over, but is no socket: %s", FIRST_FD + place, error.strerror)
            continue
        is_inet = handed.family in (socket.AF_INET, socket.AF_INET6)
        if is_inet and handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            handed.set_inheritable(False)
            handed.setblocking(False)
            yield name, handed
        else:
            log.warning("socket %r was handed over, but does not listen for TCP", name)
            handed.close()


def make(host: str, port: int) -> socket.socket:
    """One listening socket. Of a name with several addresses it has the first, IPv4 before IPv6.

    Raises:
        OSError: the address cannot be had.
    """
    if host in WILDCARDS and socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in NO_IPV6:
                raise
    found = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return socket.create_server((str(address[0]), int(address[1])), family=family, backlog=BACKLOG)


def port_of(listening: socket.socket) -> int:
    return int(listening.getsockname()[1])


def peer_address(transport: asyncio.BaseTransport) -> tuple[str, int]:
    """Host and port of the other side; of an IPv4 peer the IPv4 address, whatever the listener."""
    address = transport.get_extra_info("peername") or ("", 0)
    return str(address[0]).removeprefix(MAPPED), int(address[1])
