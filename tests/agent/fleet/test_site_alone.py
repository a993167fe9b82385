"""`fleet` at a site whose hub is gone: devices are asked as always; what only the hub knows is said to be unknown."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.fleet.exits import Exit
from tests.agent.fleet.fake_device import FakeDevice
from tests.support.servers import jetstream, stock_hub

ROOT = Path(__file__).resolve().parents[3]


class Lonely(FakeDevice):
    """A device that nobody's inventory holds."""

    async def announce(self) -> None:
        pass

    async def present(self, state: str, ttl: str = "10m") -> None:
        pass


def is_roof(query):
    return {"matched": "roof" in query["where"], "columns": ["host.name"], "rows": [["x"]]}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A broker with a JetStream of its own and no way to the domain of the hub."""
    folder = tmp_path_factory.mktemp("site")
    with stock_hub(folder, config=jetstream(folder, "roof")) as broker:
        yield broker


def fleet(site, *words):
    argv = [sys.executable, "-m", "agent.fleet", "--server", site.url, "--domain", "hub", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=ROOT)


async def ask(site, *words):
    import asyncio

    return await asyncio.to_thread(fleet, site, *words)


async def test_everyone_who_is_there_answers(site):
    async with Lonely(site.url, "pi-1", answer=is_roof), Lonely(site.url, "pi-2", answer=is_roof):
        done = await ask(site, "query", "tag.site = 'roof'", "--json")
    assert sorted(json.loads(line)["device"] for line in done.stdout.splitlines()) == ["pi-1", "pi-2"]
    assert "2 matched, 0 unmatched, 0 errored; who is absent only the hub knows" in done.stderr
    assert done.returncode == Exit.INCOMPLETE


async def test_those_asked_by_name_are_accounted_for(site):
    async with Lonely(site.url, "pi-1", answer=is_roof):
        done = await ask(site, "query", "tag.site = 'roof'", "--on", "pi-9,pi-1", "--json")
    assert [json.loads(line)["device"] for line in done.stdout.splitlines()] == ["pi-1"]
    assert "1 matched, 0 unmatched, 0 errored, 1 absent (pi-9, does not answer)" in done.stderr
    assert done.returncode == Exit.INCOMPLETE


def test_nobody_there_ends_at_once(site):
    done = fleet(site, "query", "tag.site = 'roof'", "--timeout", "300")
    assert "0 matched" in done.stderr
    assert done.returncode == Exit.INCOMPLETE


def test_a_wrong_jetstream_is_still_a_mistake(site):
    argv = [sys.executable, "-m", "agent.fleet", "--server", site.url, "query", "1"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == Exit.UNREACHABLE
    assert "fleet_devices" in done.stderr
