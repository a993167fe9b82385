"""The stage: every process of the demo, its files and its ports, and their end.

    with Stage(teller, folder) as stage:
        stage.start_hub(); stage.start_site("roof"); stage.start_device("pi-roof-1")
        stage.fleet("ls")                # typed by the operator, shown with its output
        stage.until("three are up", lambda: ...)

Leaving the block ends everything by pid, devices before brokers, whatever happened inside.
"""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from tests.demo import places
from tests.demo.telling import Teller, typed
from tests.support import micropython
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.servers import PYTHON, Broker, Process, leafnode, stock_hub

ROOT: Final = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS: Final = 30.0  # for anything to come true on a loaded machine; most of it takes one or two
COMMAND_SECONDS: Final = 75.0  # a `fleet` command that has not ended by then never will: it waits up to 60 itself
ENDING_SECONDS: Final = 5.0  # between SIGTERM and SIGKILL
LOOK_EVERY_SECONDS: Final = 0.1
TAIL_LINES: Final = 15  # of a log, when something did not come true
SITE_BROKERS: Final = {"leafnode": leafnode, "nats-server": stock_hub}


class Untrue(Exception):  # noqa: N818  what the demo claims did not come true
    """Something that a step promises is not so. `log` is the file that may tell why."""

    def __init__(self, text: str, log: Path | None = None) -> None:
        super().__init__(text)
        self.log = log


@dataclass(frozen=True, slots=True)
class Said:
    """What a `fleet` command came to."""

    code: int
    text: str


class Stage:
    """Everything that runs. `folder` holds all files; `site_broker` is what the sites run."""

    def __init__(self, tell: Teller, folder: Path, *, site_broker: str = "leafnode") -> None:
        self.tell = tell
        self.folder = folder
        self.site_broker = site_broker
        self.hub: Broker
        self.leaf_port = 0
        self.monitor_port = 0
        self.sites: dict[str, Broker] = {}
        self.links: dict[str, Proxy] = {}
        self.devices: dict[str, Process] = {}
        self.site_of: dict[str, str] = {}
        self.notes: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    # Starting.

    def start_hub(self) -> None:
        self.leaf_port, self.monitor_port = free_port(), free_port()
        folder = self.folder / "hub"
        config = places.hub(folder=folder, leaf_port=self.leaf_port, monitor_port=self.monitor_port)
        self.hub = stock_hub(folder, config=config)
        begin("the hub", self.hub)

    def start_site(self, name: str) -> None:
        """A broker whose link to the hub goes through a proxy, so that it can be cut."""
        link = self.links[name] = Proxy(self.leaf_port).start()
        folder = self.folder / name
        config = places.site(name=name, folder=folder, hub_port=link.port)
        self.sites[name] = SITE_BROKERS[self.site_broker](folder, config=config)
        begin(f"the broker of the {name}", self.sites[name])

    def start_device(self, name: str, site: str) -> None:
        """An agent at a site; also one that ran before, with its state."""
        folder = self.home(name)
        folder.mkdir(parents=True, exist_ok=True)
        thermostat = [PYTHON, "-I", str(Path(__file__).with_name("thermostat.py"))]
        settings = places.device(
            name=name,
            site=site,
            folder=folder,
            broker=self.sites[site].url,
            groups=["heating"],
            check=[*thermostat, "check"],
            works=[*thermostat, "works"],
        )
        (folder / "agent.toml").write_text(settings)
        argv = [PYTHON, "-m", "agent", "-c", str(folder / "agent.toml")]
        self._start(name, site, Process(argv, folder / "agent.log"))

    def start_pico(self, name: str, site: str) -> str:
        """The firmware; returns what it runs under."""
        folder = self.home(name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(places.pico(name=name, folder=folder, broker=self.sites[site].url))
        firmware = [str(ROOT / "firmware" / "main.py"), str(folder / "config.json")]
        found = micropython.find()
        argv = found[0].command(*firmware, heap=micropython.PICO_HEAP) if found else [PYTHON, *firmware]
        self._start(name, site, Process(argv, folder / "pico.log", cwd=folder))
        return f"MicroPython {found[0].version}, {found[0].bits}-bit, with a Pico's heap" if found else ""

    def _start(self, name: str, site: str, process: Process) -> None:
        self.devices[name] = process
        self.site_of[name] = site
        begin(name, process)

    def home(self, name: str) -> Path:
        """A device's folder."""
        return self.folder / name

    # Ending.

    def end(self) -> None:
        """All processes, by pid: devices first, so that they can say goodbye; what does not end in time is killed."""
        hub = [self.hub] if hasattr(self, "hub") else []
        for group in (list(self.devices.values()), list(self.sites.values()), hub):
            end_all(group)
        for link in self.links.values():
            link.stop()

    # The operator.

    def environment(self) -> dict[str, str]:
        """For `fleet`: this hub, nobody's settings file, and output at once."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("FLEET_")}
        own = {"FLEET_SERVER": self.hub.url, "FLEET_CONFIG": str(self.folder / "fleet.toml"), "COLUMNS": "160"}
        return {**clean, **own, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    def fleet(self, *words: str, expect: int | None = 0, quiet: bool = False) -> Said:
        """Run `fleet WORDS` as an operator types it, showing the line and its output as it comes.

        Raises:
            Untrue: it ended with another exit code than `expect` (None: any will do).
        """
        line = typed(["fleet", *words])
        if not quiet:
            self.tell.command(line)
        said = self._run([PYTHON, "-m", "agent.fleet", *words], show=not quiet)
        if expect is not None and said.code != expect:
            raise Untrue(f"`{line}` ended with exit code {said.code}, not {expect}: {said.text.strip()[-300:]}")
        return said

    def _run(self, argv: list[str], *, show: bool) -> Said:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment(),
            cwd=self.folder,
            text=True,
            errors="replace",
        )
        alarm = threading.Timer(COMMAND_SECONDS, child.kill)
        alarm.start()
        lines = []
        try:
            assert child.stdout is not None
            for line in child.stdout:
                lines.append(line)
                if show:
                    self.tell.printed(line)
        finally:
            alarm.cancel()
            if child.poll() is None:
                child.terminate()
            child.wait()
            assert child.stdout is not None
            child.stdout.close()
        return Said(child.returncode, "".join(lines))

    # Looking.

    def check(self, true: object, claim: str, log: Path | None = None) -> None:
        """Raises Untrue with `claim` when it is not so."""
        if not true:
            raise Untrue(f"not so: {claim}", log)

    def until(
        self, claim: str, true: Callable[[], object], *, seconds: float = PATIENCE_SECONDS, log: Path | None = None
    ) -> None:
        """Wait until `true()`; raises Untrue with `claim` when that takes too long or a process of ours died."""
        deadline = time.monotonic() + seconds
        while not true():
            self.check_alive()
            if time.monotonic() > deadline:
                raise Untrue(f"not within {seconds:.0f} s: {claim}", log)
            time.sleep(LOOK_EVERY_SECONDS)

    def check_alive(self) -> None:
        """Raises Untrue when a process ended that nobody asked to."""
        for name, process in [("hub", self.hub), *self.sites.items(), *self.devices.items()]:
            if process.child is not None and process.child.poll() not in (None, 0):
                raise Untrue(f"{name} ended with exit code {process.child.returncode}", process.log)

    def linked(self) -> set[str]:
        """The sites that the hub has a leaf connection with, as its monitoring tells."""
        leafs = self._monitor("/leafz").get("leafs") or []
        return {str(leaf.get("name")) for leaf in leafs} & set(self.sites)

    def _monitor(self, path: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.monitor_port, timeout=5)
        try:
            connection.request("GET", path)
            return dict(json.loads(connection.getresponse().read()))
        finally:
            connection.close()

    def up(self) -> set[str]:
        """The devices that `fleet ls` calls up."""
        said = self.fleet("ls", "--json", "--state", "up", expect=None, quiet=True)
        rows = [json.loads(line) for line in said.text.splitlines() if line.startswith("{")]
        return {row["device"] for row in rows}

    def tail(self, log: Path | None) -> None:
        """Show the end of a log; without one in particular, of the last that was written."""
        logs = sorted(self.folder.glob("*/*.log"), key=lambda path: path.stat().st_mtime)
        if chosen := log or (logs[-1] if logs else None):
            lines = chosen.read_text(errors="replace").splitlines() if chosen.exists() else []
            self.tell.tail(f"the end of {chosen}:", lines[-TAIL_LINES:])


def begin(name: str, process: Process) -> None:
    """Start it and wait until it is ready; raises Untrue with its log when it never is."""
    try:
        process.start()
    except (RuntimeError, TimeoutError) as error:
        raise Untrue(f"{name} does not start", process.log) from error


def end_all(processes: Sequence[Process]) -> None:
    """SIGTERM to all, then wait for each; SIGKILL for what is left."""
    for process in processes:
        if process.alive() and process.child:
            process.child.terminate()
    deadline = time.monotonic() + ENDING_SECONDS
    for process in processes:
        if process.child:
            try:
                process.child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


def shown_python() -> str:
    return f"CPython {sys.version.split()[0]}"
