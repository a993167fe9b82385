"""What systemd is to a service: it holds its listening sockets and hears what it says of itself. For tests only."""

import select
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.servers import PYTHON, Process

HEARD_SECONDS = 20.0  # for a message that must come
BECOME = """
import os, sys
count = int(sys.argv[1])
held = [os.dup2(int(fd), 100 + place) for place, fd in enumerate(sys.argv[2 : 2 + count])]
for place, fd in enumerate(held):
    os.dup2(fd, 3 + place)
    os.close(fd)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2 + count :]])
"""
"""Puts the sockets where sd_listen_fds(3) looks for them, and becomes the service."""


class ServiceManager:
    """Holds sockets over restarts of a service."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sockets: list[tuple[str, socket.socket]] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._address = str(folder / "notify")
        self._heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._heard.bind(self._address)

    def hold(self, name: str) -> int:
        """Listen at any free port from now on; returns it."""
        held = socket.create_server(("127.0.0.1", 0), backlog=16)
        self._sockets.append((name, held))
        return int(held.getsockname()[1])

    def service(self, arguments: Sequence[str], *, watchdog_s: float = 0) -> "Service":
        """`python -m leafnode` with these arguments, not started."""
        numbers = [held.fileno() for _, held in self._sockets]
        environment = {
            "NOTIFY_SOCKET": self._address,
            "LISTEN_FDS": str(len(numbers)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in self._sockets),
        }
        if watchdog_s:
            environment["WATCHDOG_USEC"] = str(round(watchdog_s * 1_000_000))
        begin = [PYTHON, "-c", BECOME, str(len(numbers)), *map(str, numbers)]
        return Service([*begin, "-m", "leafnode", *arguments], self._folder / "service.log", numbers, environment)

    def wait_for(self, word: str, *, within_s: float = HEARD_SECONDS) -> str:
        """The next message that has a line beginning with `word`; earlier ones are dropped."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if select.select([self._heard], [], [], within_s)[0]:
                text = self._heard.recv(4096).decode()
                if any(line.startswith(word) for line in text.splitlines()):
                    return text
        raise TimeoutError(word)

    def hear_out(self, word: str, *, within_s: float) -> None:
        """Raises TimeoutError as soon as no such message comes within the time."""
        while True:
            self.wait_for(word, within_s=within_s)

    def close(self) -> None:
        self._heard.close()
        for _, held in self._sockets:
            held.close()

    def __enter__(self) -> "ServiceManager":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Service(Process):
    """One run of the service."""

    def __init__(self, argv: Sequence[str], log: Path, sockets: Sequence[int], environment: dict[str, str]) -> None:
        super().__init__(argv, log, ready="Server is ready", pass_fds=sockets)
        self._more = environment

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), **self._more}
