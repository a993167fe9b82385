"""The process around the broker: signals, the PID and ports files, systemd's notify and watchdog."""

import asyncio
import gc
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from leafnode.base import logs
from leafnode.base.notify import Notifier
from leafnode.config.options import Config
from leafnode.config.section import syslog_address
from leafnode.errors import LeafnodeError
from leafnode.net import tracing

HEAP_BYTES = 2 << 20  # blocks up to this size are kept for the next message instead of given back to the kernel
COLLECT_AFTER = 50_000  # objects more than before: rows of messages make thousands of tuples that soon go by themselves
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TRIM_SECONDS = 15.0  # between two looks at whether there is memory to give back
TRIM_WORTH_BYTES = 8 << 20  # resident beyond what the start needed: less is not worth a look through the heap
TRIM_RARITY = 1000  # times as long as giving back took is the pause after it

log = logging.getLogger("leafnode")


def settle_memory() -> None:
    """To be called when everything is loaded, before messages come.

    What is loaded stays: the collector need not look at it again. And glibc fetches and returns each large block by a
    system call, with a page fault for each of its pages, until it has seen one of that size freed (mallopt(3), dynamic
    threshold): so it is shown one. Elsewhere that does nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 10, 10)
    bytes(HEAP_BYTES)


async def give_back_memory() -> None:
    """What is free between blocks in use goes back to the kernel now and then: after thousands of connections or
    subscriptions glibc would keep most of what they had. Ends at once with another C library."""
    settled = resident_bytes()
    trim: Callable[[int], int] | None = None
    pause_s = TRIM_SECONDS
    while True:
        await asyncio.sleep(pause_s)
        if resident_bytes() < settled + TRIM_WORTH_BYTES:
            continue
        trim = trim or malloc_trim()
        if trim is None:
            return
        began = time.monotonic()
        trim(0)
        pause_s = max(TRIM_SECONDS, TRIM_RARITY * (time.monotonic() - began))


def malloc_trim() -> Callable[[int], int] | None:
    """malloc_trim(3); None where there is none. Its module is loaded only when it is needed."""
    import ctypes

    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None


def resident_bytes() -> int:
    """Resident memory of this process; 0 where /proc is not there."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * PAGE_BYTES
    except OSError:
        return 0


class Signals:
    """What a service is told by signals (spec monitoring-and-ops section 3).

    SIGINT, SIGTERM: stop (a second one: at once). SIGUSR1: open the log file again. SIGUSR2: lame duck, then stop.
    SIGHUP: read the configuration again.
    """

    def __init__(self, on_second: Callable[[], None], on_reload: Callable[[], None]) -> None:
        self.stop = asyncio.Event()
        self.lame_duck = asyncio.Event()
        self._on_second = on_second
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._stop)
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGUSR1, logs.reopen)
        loop.add_signal_handler(signal.SIGUSR2, self._lame_duck)
        loop.add_signal_handler(signal.SIGHUP, on_reload)

    def _stop(self) -> None:
        if self.stop.is_set():
            self._on_second()
        self.stop.set()

    def _lame_duck(self) -> None:
        self.lame_duck.set()

    async def wait(self) -> bool:
        """Until told to end; True: as a lame duck."""
        waits = [asyncio.create_task(event.wait()) for event in (self.stop, self.lame_duck)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        return not self.stop.is_set()


def start_log(config: Config) -> None:
    """Lines of the levels asked for. `trace` without `debug` shows the protocol and no details, as in nats-server.

    Raises LeafnodeError; the log is as it was then.
    """
    tracing.set_rules(config)
    level = logs.TRACE if config.trace else logging.DEBUG if config.debug else logging.INFO
    try:
        handler = logs.setup_broker(
            level,
            file=config.log_file or None,
            timestamps=config.logtime,
            utc=config.logtime_utc,
            size_limit=config.log_size_limit,
            max_files=config.log_max_files,
            syslog=syslog_of(config),
        )
    except OSError as error:
        raise LeafnodeError(f"open {config.log_file}: {error.strerror}") from error
    if not config.debug:
        handler.addFilter(lambda record: record.levelno != logging.DEBUG)
    for library in ("asyncio", "aiosqlite"):  # their details are not the broker's
        logging.getLogger(library).setLevel(logging.WARNING)


def syslog_of(config: Config) -> logs.SyslogAddress | None:
    """Which syslog the log goes to; None: to a file or stderr."""
    if config.remote_syslog:
        return syslog_address(config.remote_syslog)
    return logs.LOCAL_SYSLOG if config.syslog else None


def write_pid_file(path: str) -> None:
    """Left behind at the end, as nats-server does. Raises LeafnodeError."""
    if path:
        try:
            Path(path).write_text(f"{os.getpid()}\n")
        except OSError as error:
            raise LeafnodeError(f"could not write pidfile: {path}: {error.strerror}") from error


class PortsFile:
    """`<program>_<pid>.ports` with the addresses that listeners got; removed at a clean end."""

    def __init__(self, folder: str, program: str) -> None:
        self._name = f"{program}_{os.getpid()}.ports"
        self.path = Path(folder) / self._name if folder else None

    def write(self, addresses: Mapping[str, Sequence[str]]) -> None:
        if self.path is None:
            return
        try:
            self.path.write_text(json.dumps(addresses))
        except OSError as error:
            raise LeafnodeError(f"could not write ports file: {self.path}: {error.strerror}") from error

    def move(self, folder: str, addresses: Mapping[str, Sequence[str]]) -> None:
        """To another folder, or to none."""
        path = Path(folder) / self._name if folder else None
        if path != self.path:
            self.remove()
            self.path = path
            self.write(addresses)

    def remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)


async def feed_watchdog(notifier: Notifier) -> None:
    """As long as the loop turns. Ends at once where no watchdog is set."""
    interval = notifier.watchdog_interval_s
    while interval:
        notifier.watchdog()
        await asyncio.sleep(interval)
