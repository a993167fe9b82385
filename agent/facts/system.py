"""Facts that psutil knows: the only file that imports it."""

import socket
import time
from collections.abc import Iterator
from typing import Any, Final

import psutil

from agent import identity
from agent.facts import hardware, linux, network, packages, services
from agent.facts.table import Table, many, single

FRESH_SECONDS: Final = 0.5  # CPU use is measured between two moments at least this far apart
MAX_TEXT: Final = 1000  # characters of a process's command line; an answer carries many

HOST: Final = {
    "name": "host name",
    "boot_id": "changes with every boot",
    "booted": "when the machine started",
    "uptime_s": "seconds since then",
}
CPU: Final = {
    "count": "processors, as the scheduler counts them",
    "percent": "busy since the previous question, 0 to 100 over all processors",
    "mhz": "clock now",
    "model": "name of the processor, or of the board on a Pi",
}
LOAD: Final = {"m1": "load average of one minute", "m5": "of five", "m15": "of fifteen"}
MEM: Final = {
    "total": "bytes",
    "available": "bytes that programs can have without swapping",
    "used": "bytes",
    "percent": "of the total that is not available",
}
SWAP: Final = {"total": "bytes", "used": "bytes", "free": "bytes", "percent": "of the total that is used"}
DISK: Final = {
    "path": "where it is mounted",
    "total": "bytes",
    "used": "bytes",
    "free": "bytes that programs without privileges can have",
    "percent": "used, of what can be had",
}
MOUNT: Final = {"device": "block device", "path": "where it is mounted", "type": "file system"} | {
    name: DISK[name] for name in ("total", "used", "free", "percent")
}
NET: Final = {
    "name": "interface",
    "family": "`ipv4` or `ipv6`",
    "address": "without prefix length",
    "up": "1 or 0",
    "mac": "hardware address",
    "bytes_sent": "since boot, by the interface",
    "bytes_received": "since boot, by the interface",
    "errors": "packets received or sent with an error, since boot",
    "drops": "packets dropped, since boot",
}
PROCESS: Final = {
    "pid": "process id",
    "parent": "process id of its parent",
    "name": "as the kernel knows it",
    "user": "whose it is",
    "state": "`running`, `sleeping`, `zombie` …",
    "rss": "resident bytes",
    "cpu_s": "seconds of processor time",
    "started": "when",
    "command": f"command line, cut at {MAX_TEXT} characters",
}
USER: Final = {
    "name": "login name",
    "terminal": "tty or pts",
    "host": "where the login came from",
    "since": "when",
}

_FAMILIES: Final = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}


class CpuMeter:
    """Share of time that the processors were busy since the previous question."""

    def __init__(self) -> None:
        self._busy, self._all = _cpu_seconds()
        self._asked = time.monotonic()
        self._percent = 0.0

    def percent(self) -> float:
        now = time.monotonic()
        if now - self._asked >= FRESH_SECONDS:
            busy, total = _cpu_seconds()
            if total > self._all:
                self._percent = round(100 * (busy - self._busy) / (total - self._all), 1)
            self._busy, self._all, self._asked = busy, total, now
        return min(100.0, max(0.0, self._percent))


def _cpu_seconds() -> tuple[float, float]:
    times = psutil.cpu_times()
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


def tables(meter: CpuMeter) -> list[Table]:
    """The tables about the machine itself."""
    return [
        single("host", host, HOST, "the machine"),
        single("os", linux.os_facts, linux.OS, "the operating system; `Android` where that is"),
        single("kernel", linux.kernel_facts, linux.KERNEL, "the kernel"),
        single("cpu", lambda: cpu(meter), CPU, "the processors"),
        single("load", load, LOAD, "processes that want to run"),
        single("mem", mem, MEM, "memory"),
        single("swap", swap, SWAP, "swap space"),
        single("disk", lambda: disk("/"), DISK, "the file system of `/`"),
        single("pi", linux.pi_facts, linux.PI, "a Raspberry Pi's firmware; NULL on other machines"),
        many("mount", mounts, MOUNT, "one file system on a device"),
        many("net", nets, NET, "one address of an interface"),
        many("route", network.routes, network.ROUTE, "one route"),
        many("wifi", network.wireless, network.WIFI, "one wireless interface"),
        many("port", network.ports, network.PORT, "one listening port"),
        many("process", processes, PROCESS, "one process"),
        many("user", users, USER, "one login"),
        many("temperature", linux.temperatures, linux.TEMPERATURE, "one thermal zone"),
        many("power", hardware.supplies, hardware.POWER, "one battery, charger or supply monitor"),
        many("usb", hardware.usb, hardware.USB, "one USB device"),
        many("unit", services.units, services.UNIT, "one systemd service, socket or mount", services.AGE_SECONDS),
        many("timer", services.timers, services.TIMER, "one systemd timer", services.AGE_SECONDS),
        many("container", services.containers, services.CONTAINER, "one container", services.AGE_SECONDS),
        many("package", packages.packages, packages.PACKAGE, "one installed Debian package", packages.AGE_SECONDS),
    ]


def host() -> dict[str, Any]:
    booted = psutil.boot_time()
    return {
        "name": socket.gethostname(),
        "boot_id": identity.boot_id(),
        "booted": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(booted)),
        "uptime_s": int(time.time() - booted),
    }


def cpu(meter: CpuMeter) -> dict[str, Any]:
    try:
        frequency = psutil.cpu_freq()
    except (OSError, RuntimeError, NotImplementedError):
        frequency = None
    return {
        "count": psutil.cpu_count(),
        "percent": meter.percent(),
        "mhz": round(frequency.current) if frequency else None,
        "model": linux.cpu_model(),
    }


def load() -> dict[str, Any]:
    return dict(zip(LOAD, psutil.getloadavg(), strict=True))


def mem() -> dict[str, Any]:
    return psutil.virtual_memory()._asdict()


def swap() -> dict[str, Any]:
    return psutil.swap_memory()._asdict()


def disk(path: str) -> dict[str, Any]:
    return {"path": path, **psutil.disk_usage(path)._asdict()}


def mounts() -> Iterator[dict[str, Any]]:
    """File systems on devices; network and virtual ones may hang or say nothing."""
    for part in psutil.disk_partitions(all=False):
        try:
            usage = psutil.disk_usage(part.mountpoint)._asdict()
        except OSError:
            continue
        yield {"device": part.device, "path": part.mountpoint, "type": part.fstype, **usage}


def nets() -> Iterator[dict[str, Any]]:
    """One row for each address of each interface."""
    states = psutil.net_if_stats()
    counters = psutil.net_io_counters(pernic=True)
    for name, addresses in psutil.net_if_addrs().items():
        mac = next((each.address for each in addresses if each.family == psutil.AF_LINK), None)
        common = {
            "name": name,
            "mac": mac,
            "up": int(states[name].isup) if name in states else None,
            "bytes_sent": counters[name].bytes_sent if name in counters else None,
            "bytes_received": counters[name].bytes_recv if name in counters else None,
            "errors": counters[name].errin + counters[name].errout if name in counters else None,
            "drops": counters[name].dropin + counters[name].dropout if name in counters else None,
        }
        for each in addresses:
            if each.family in _FAMILIES:
                yield {**common, "family": _FAMILIES[each.family], "address": each.address.partition("%")[0]}


def processes() -> Iterator[dict[str, Any]]:
    attributes = ["pid", "ppid", "name", "username", "status", "memory_info", "cpu_times", "create_time", "cmdline"]
    for process in psutil.process_iter(attributes):
        known = process.info
        times = known["cpu_times"]
        yield {
            "pid": known["pid"],
            "parent": known["ppid"],
            "name": known["name"],
            "user": known["username"],
            "state": known["status"],
            "rss": known["memory_info"].rss if known["memory_info"] else None,
            "cpu_s": round(times.user + times.system, 2) if times else None,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(known["create_time"])),
            "command": " ".join(known["cmdline"] or [])[:MAX_TEXT],
        }


def users() -> Iterator[dict[str, Any]]:
    for login in psutil.users():
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(login.started))
        yield {"name": login.name, "terminal": login.terminal, "host": login.host or None, "since": since}


def own_rss() -> int:
    """Resident memory of this process, in bytes."""
    return int(psutil.Process().memory_info().rss)
