"""Routes, wireless links and listening ports, as the kernel shows them in /proc (proc(5), proc_net(5))."""

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final

from agent.facts.linux import ROOT, read

ROUTE: Final = {
    "family": "`ipv4` or `ipv6`",
    "destination": "network with prefix length; `0.0.0.0/0` or `::/0` is the default route",
    "gateway": "next hop, NULL on the network itself",
    "interface": "where it leaves",
    "metric": "the lower one is taken",
}
WIFI: Final = {
    "interface": "name",
    "quality": "of the link, 0 to 70 with most drivers",
    "signal_dbm": "signal strength",
    "noise_dbm": "noise, NULL where the driver does not tell",
    "missed_beacons": "since the interface is up",
}
PORT: Final = {
    "protocol": "`tcp` or `udp`",
    "family": "`ipv4` or `ipv6`",
    "address": "what it listens on; `0.0.0.0` and `::` are all",
    "port": "number",
    "uid": "user id of the owner",
}

_LISTENING: Final = "0A"  # TCP_LISTEN
_UNBOUND: Final = "07"  # what /proc shows for a UDP socket without a peer
_UID: Final = 7  # column of the owner in /proc/net/tcp and its kin
_REJECT: Final = 0x0200  # RTF_REJECT: a route to nowhere
_NO_NOISE: Final = -256  # dBm, the drivers' word for "not measured"


def routes(root: Path = ROOT) -> Iterator[dict[str, Any]]:
    """IPv4 and IPv6 routes of the main table; IPv6 without those to nowhere and to our own addresses."""
    for line in read(root / "proc/net/route").splitlines()[1:]:
        name, destination, gateway, _flags, _, _, metric, mask, *_ = line.split()
        prefix = int(mask, 16).bit_count()
        yield {
            "family": "ipv4",
            "destination": f"{_ipv4(destination)}/{prefix}",
            "gateway": _ipv4(gateway) if int(gateway, 16) else None,
            "interface": name,
            "metric": int(metric),
        }
    for line in read(root / "proc/net/ipv6_route").splitlines():
        destination, length, _, _, gateway, metric, _, _, flags, name = line.split()
        if int(flags, 16) & _REJECT or name == "lo":
            continue
        yield {
            "family": "ipv6",
            "destination": f"{_ipv6_plain(destination)}/{int(length, 16)}",
            "gateway": _ipv6_plain(gateway) if int(gateway, 16) else None,
            "interface": name,
            "metric": int(metric, 16),
        }


def wireless(root: Path = ROOT) -> Iterator[dict[str, Any]]:
    """/proc/net/wireless: two lines of heading, then one an interface."""
    for line in read(root / "proc/net/wireless").splitlines()[2:]:
        name, _, rest = line.partition(":")
        words = rest.split()
        quality, signal, noise = (float(word) for word in words[1:4])
        yield {
            "interface": name.strip(),
            "quality": int(quality),
            "signal_dbm": int(signal),
            "noise_dbm": None if noise <= _NO_NOISE else int(noise),
            "missed_beacons": int(words[9]) if len(words) > 9 else None,
        }


def ports(root: Path = ROOT) -> Iterator[dict[str, Any]]:
    """Sockets that wait for somebody to come."""
    for name, waiting in (("tcp", _LISTENING), ("tcp6", _LISTENING), ("udp", _UNBOUND), ("udp6", _UNBOUND)):
        for line in read(root / "proc/net" / name).splitlines()[1:]:
            words = line.split()
            if len(words) <= _UID or words[3] != waiting:  # the end of a long file is cut
                continue
            address, _, port = words[1].partition(":")
            six = name.endswith("6")
            yield {
                "protocol": name[:3],
                "family": "ipv6" if six else "ipv4",
                "address": _ipv6_words(address) if six else _ipv4(address),
                "port": int(port, 16),
                "uid": int(words[_UID]),
            }


def _ipv4(text: str) -> str:
    """The kernel prints the word as the machine holds it."""
    return str(IPv4Address(struct.pack("=I", int(text, 16))))


def _ipv6_words(text: str) -> str:
    """Four words, each as the machine holds it."""
    packed = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, 32, 8))
    return socket.inet_ntop(socket.AF_INET6, packed)


def _ipv6_plain(text: str) -> str:
    return str(IPv6Address(bytes.fromhex(text)))
