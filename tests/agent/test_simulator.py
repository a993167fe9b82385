"""A simulated fleet is what its profile says, the same for the same seed, and real on the wire."""

import asyncio
import contextlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from agent.bus import BusOptions
from agent.errors import QueryError
from agent.facts.table import Table
from agent.fleet.arguments import PROFILES as OFFERED
from agent.fleet.client import Fleet
from agent.simulator.fleet import Plan, run, slices
from agent.simulator.profile import PROFILES, Profile, facts, parts
from tests.agent import fleet_world as world


def test_the_shares_are_exact_and_the_seed_decides_who() -> None:
    profile = Profile(off=0.05, slow=0.1, raising=0.02)
    fleet = list(parts(200, profile, "a"))
    assert fleet == list(parts(200, profile, "a"))
    assert [part.off for part in fleet] != [part.off for part in parts(200, profile, "b")]
    assert Counter((part.off, part.delay_s > 0, part.raising) for part in fleet) == {
        (True, False, False): 10,
        (False, True, False): 20,
        (False, False, True): 4,
        (False, False, False): 166,
    }
    assert len({part.id for part in fleet}) == 200


def test_every_profile_is_offered() -> None:
    assert tuple(PROFILES) == OFFERED


def test_a_machine_has_facts_that_change_with_time() -> None:
    now = [0.0]
    [part] = parts(1, Profile(), "a")
    known = facts(part, "a", "1.0", lambda: now[0])
    assert all(isinstance(table, Table) and table.rows() for table in known)
    before = known.rows("cpu")
    assert known.rows("cpu") == before
    now[0] = 200
    assert known.rows("cpu") != before
    broken = facts(replace(part, raising=True), "a", "1.0", lambda: 0.0)
    with pytest.raises(QueryError, match="simulated"):
        broken.rows("mem")


@pytest.mark.parametrize(("devices", "processes"), [(10, 1), (10, 3), (2, 2)])
def test_every_device_is_played_once(devices: int, processes: int) -> None:
    assert [number for each in slices(devices, processes) for number in each] == list(range(devices))


async def test_forty_devices_answer_and_add_up(tmp_path: Path) -> None:
    plan = Plan(devices=40, off=0.1, raising=0.05, interval_s=2)
    heard: list[tuple[int, int]] = []
    async with world.hub(tmp_path) as (broker, _):
        playing = asyncio.create_task(
            run(plan, BusOptions(urls=(broker.url,), name="sim"), range(40), lambda *counts: heard.append(counts))
        )
        try:
            async with Fleet.open(server=broker.url) as fleet:

                async def known() -> bool:
                    states = Counter(device.state for device in await fleet.devices())
                    return states == {"up": 36, "absent": 4}

                await world.eventually(known, "36 devices up, 4 only known")
                asking = await fleet.query("mem.percent >= 0", select="os.name, mem.percent", timeout=30)
                replies = [reply async for reply in asking.replies()]
                outcome = asking.outcome
        finally:
            playing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await playing
    assert heard[0][1] == 36
    assert (outcome.matched, outcome.errored, len(outcome.absent)) == (34, 2, 4)
    assert all(reply.rows for reply in replies if reply.matched)
