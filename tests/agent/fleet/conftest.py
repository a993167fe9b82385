"""A stock hub with the fleet's streams, and `fleet` run against it as a process of its own."""

import asyncio
import atexit
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.fleet.client import Fleet
from agent.fleet.exits import Exit
from tests.support.servers import Broker, jetstream, stock_hub

DEADLINE_SECONDS = 30.0  # for one command line; a loaded machine needs a few
_COMPILED = tempfile.TemporaryDirectory(
    prefix="fleet-compiled-"
)  # compiled once for all runs of `fleet`, not each time
atexit.register(_COMPILED.cleanup)
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Ended:
    """A command line that ended."""

    code: Exit
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        """stdout of --json."""
        return [json.loads(line) for line in self.lines]

    @property
    def last(self) -> str:
        """The last line of stderr: the summary."""
        return self.err.splitlines()[-1]


class Cli:
    """Runs `fleet` for one hub."""

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        self._environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith("FLEET_")},
            "FLEET_SERVER": url,
            "XDG_CONFIG_HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": _COMPILED.name,
        }

    @asynccontextmanager
    async def started(self, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A running command line; it is ended with the block."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "agent.fleet", *words),
            env=self._environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            await process.communicate()

    async def __call__(self, *words: str, stdin: str = "") -> Ended:
        """Run to the end."""
        async with self.started(*words) as process, asyncio.timeout(DEADLINE_SECONDS):
            out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return Ended(Exit(process.returncode), out.decode(), err.decode())


@pytest.fixture
def bare_hub(tmp_path: Path) -> Iterator[Broker]:
    """A stock nats-server that knows nothing of fleets."""
    folder = tmp_path / "hub"
    with stock_hub(folder, config=jetstream(folder, "hub")) as hub:
        yield hub


@pytest.fixture
async def hub(bare_hub: Broker) -> Broker:
    """The same after `fleet init`."""
    async with Fleet.open(server=bare_hub.url) as fleet:
        await fleet.init()
    return bare_hub


@pytest.fixture
def fleet(hub: Broker, tmp_path: Path) -> Cli:
    """`await fleet("ls")` runs the command line against the hub."""
    return Cli(hub.url, tmp_path / "home")


async def eventually(url: str, condition: Callable[[Fleet], Awaitable[bool]]) -> None:
    """Return when `condition` holds, seen through the library; TimeoutError if it never does."""
    async with Fleet.open(server=url) as library, asyncio.timeout(DEADLINE_SECONDS):
        while not await condition(library):
            await asyncio.sleep(0.05)


async def has_succeeded(library: Fleet, command: str) -> bool:
    """Whether a command succeeded on every device it was sent to."""
    return all(result.state == "succeeded" for result in await library.results(command))
