"""Facts that psutil knows: the only file that imports it."""

import socket
import time
from collections.abc import Iterator
from typing import Any, Final

import psutil

from agent import identity
from agent.facts import linux
from agent.facts.table import Table, many, single

FRESH_SECONDS: Final = 0.5  # CPU use is measured between two moments at least this far apart
MAX_TEXT: Final = 1000  # characters of a process's command line; an answer carries many

HOST_COLUMNS: Final = ("name", "boot_id", "booted", "uptime_s")
CPU_COLUMNS: Final = ("count", "percent", "mhz", "model")
LOAD_COLUMNS: Final = ("m1", "m5", "m15")
MEM_COLUMNS: Final = ("total", "available", "used", "percent")
SWAP_COLUMNS: Final = ("total", "used", "free", "percent")
DISK_COLUMNS: Final = ("path", "total", "used", "free", "percent")
MOUNT_COLUMNS: Final = ("device", "path", "type", "total", "used", "free", "percent")
NET_COLUMNS: Final = ("name", "family", "address", "up", "mac", "bytes_sent", "bytes_received")
PROCESS_COLUMNS: Final = ("pid", "parent", "name", "user", "state", "rss", "cpu_s", "started", "command")

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
        single("host", host, HOST_COLUMNS),
        single("os", linux.os_facts, linux.OS_COLUMNS),
        single("kernel", linux.kernel_facts, linux.KERNEL_COLUMNS),
        single("cpu", lambda: cpu(meter), CPU_COLUMNS),
        single("load", load, LOAD_COLUMNS),
        single("mem", mem, MEM_COLUMNS),
        single("swap", swap, SWAP_COLUMNS),
        single("disk", lambda: disk("/"), DISK_COLUMNS),
        single("pi", linux.pi_facts, linux.PI_COLUMNS),
        many("mount", mounts, MOUNT_COLUMNS),
        many("net", nets, NET_COLUMNS),
        many("process", processes, PROCESS_COLUMNS),
        many("temperature", linux.temperatures, linux.TEMPERATURE_COLUMNS),
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
    return dict(zip(LOAD_COLUMNS, psutil.getloadavg(), strict=True))


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


def own_rss() -> int:
    """Resident memory of this process, in bytes."""
    return int(psutil.Process().memory_info().rss)
