"""`fleet watch` with a real agent: what changes is told once, at its own time, also when the hub was away meanwhile."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.fleet.client import Fleet
from agent.fleet.exits import Exit
from agent.payloads import parse_rfc3339
from tests.agent import fleet_world as world
from tests.agent.fleet.conftest import DEADLINE_SECONDS, Cli
from tests.support.servers import Broker, Process, leafnode

PUMPS = "SELECT name, state FROM pump"


class Pumps:
    """A device whose facts a test decides."""

    def __init__(self, folder: Path, url: str, device: str = "pi-7", **tables: str) -> None:
        self.facts = folder / "facts.d"
        self.facts.mkdir(parents=True)
        self.state = folder / "state" / "watches"
        self.say(a="on")
        self.agent: Process = world.agent(
            folder,
            url,
            device,
            facts=f'folder = "{self.facts}"\nage_s = 0',
            presence="interval_s = 1",
            telemetry="interval_s = 0",
            **tables,
        )

    def say(self, **states: str) -> None:
        text = json.dumps([{"name": name, "state": state} for name, state in states.items()])
        temporary = self.facts / ".pump.tmp"
        temporary.write_text(text)
        temporary.rename(self.facts / "pump.json")

    async def told(self, count: int, name: str = "pumps") -> None:
        """Return when the device has told so many reports, whether or not anybody heard them."""

        async def look() -> bool:
            try:
                return int(json.loads((self.state / f"{name}.json").read_text())["n"]) >= count
            except OSError:
                return False

        await world.eventually(look, f"{count} reports of {name}")


@pytest.fixture
def pumps(hub: Broker, tmp_path: Path) -> Iterator[Pumps]:
    device = Pumps(tmp_path / "pi-7", hub.url)
    with device.agent:
        yield device


async def shown(fleet: Cli, *rows: tuple[str, str], code: Exit = Exit.OK) -> None:
    """Return when `fleet watch show` prints these rows of pi-7."""

    async def look() -> bool:
        ended = await fleet("watch", "show", "pumps", "--json")
        wanted = [{"device": "pi-7", "name": name, "state": state} for name, state in rows]
        return ended.code is code and sorted(ended.objects, key=str) == sorted(wanted, key=str)

    await world.eventually(look, f"the rows are {rows}")


async def lines(process: asyncio.subprocess.Process, count: int) -> list[dict[str, Any]]:
    assert process.stdout
    async with asyncio.timeout(DEADLINE_SECONDS):
        return [json.loads(await process.stdout.readline()) for _ in range(count)]


async def test_changes_arrive_once_with_their_own_time_after_the_hub_was_away(
    fleet: Cli, hub: Broker, pumps: Pumps
) -> None:
    added = await fleet("watch", "add", "pumps", "--sql", PUMPS, "--key", "name", "--every", "1s")
    assert added.code is Exit.OK
    await shown(fleet, ("a", "on"))
    async with fleet.started("watch", "follow", "pumps", "--json") as following:
        await listened(fleet, hub)
        pumps.say(a="on", b="on")
        [first] = await lines(following, 1)
        assert (first["device"], first["event"], first["row"]) == ("pi-7", "added", {"name": "b", "state": "on"})
        hub.stop()
        pumps.say(a="off", b="on")
        await pumps.told(3)
        pumps.say(b="on")
        await pumps.told(4)
        back = datetime.now(UTC)
        hub.start()
        later = await lines(following, 3)
        assert [(each["event"], each["row"]) for each in later] == [
            ("removed", {"name": "a", "state": "on"}),
            ("added", {"name": "a", "state": "off"}),
            ("removed", {"name": "a", "state": "off"}),
        ]
        moments = [parse_rfc3339(each["at"]) for each in later]
        assert moments == sorted(moments)
        assert moments[-1] < back
        pumps.say(b="on", end="on")
        assert [each["row"]["name"] for each in await lines(following, 1)] == ["end"]
        hub.stop()
        pumps.say(b="off")
        await pumps.told(6)
        pumps.agent.kill()
        pumps.say(z="on")
        killed = datetime.now(UTC)
        hub.start()
        pumps.agent.start()
        later = await lines(following, 5)
        assert [(each["event"], each["row"]["name"]) for each in later] == [
            ("removed", "b"), ("removed", "end"), ("added", "b"), ("removed", "b"), ("added", "z"),
        ]  # fmt: skip
        assert [parse_rfc3339(each["at"]) < killed for each in later] == [True, True, True, False, False]
    await shown(fleet, ("z", "on"))
    async with Fleet.open(server=hub.url) as library:
        stored = await library.hub.snapshot("TELEMETRY", "tele.pi-7.watch.pumps", deliver_policy="all")
    assert [each.json()["n"] for each in stored] == [1, 2, 3, 4, 5, 6, 7]


async def listened(fleet: Cli, hub: Broker) -> None:
    """Return when a reader of the stream is there."""
    async with Fleet.open(server=hub.url) as library:

        async def look() -> bool:
            info = await library.hub.api("STREAM.INFO.TELEMETRY")
            return bool(info["state"]["consumer_count"])

        await world.eventually(look, "the stream is read")


async def test_a_restart_sends_the_state_again_and_removing_ends_it(fleet: Cli, pumps: Pumps) -> None:
    await fleet("watch", "add", "pumps", "--sql", PUMPS, "--every", "1")
    await shown(fleet, ("a", "on"))
    pumps.agent.kill()
    pumps.say(a="off")
    pumps.agent.start()
    await shown(fleet, ("a", "off"))
    wrong = await fleet("watch", "add", "pumps", "--sql", "SELECT nme FROM pump", "--every", "1")
    assert wrong.code is Exit.OK  # only devices know their facts

    async def failing() -> bool:
        ended = await fleet("watch", "show", "pumps")
        return ended.code is Exit.FAILED and "pi-7: no such column: nme" in ended.err

    await world.eventually(failing, "the error is told")
    assert (await fleet("watch", "rm", "pumps")).code is Exit.OK

    async def forgotten() -> bool:
        return not list(pumps.state.iterdir())

    await world.eventually(forgotten, "the device forgot the watch")
    gone = await fleet("watch", "show", "pumps")
    assert (gone.code, "there is no watch 'pumps'" in gone.err) == (Exit.USAGE, True)


async def test_what_no_device_would_ask_is_refused_and_the_list_shows_the_rest(fleet: Cli) -> None:
    slip = await fleet("watch", "add", "full", "disk.percent >> > 90")
    assert slip.code is Exit.USAGE
    nothing = await fleet("watch", "add", "full")
    assert "watch something" in nothing.err
    keyless = await fleet("watch", "add", "full", "disk.percent > 90", "--key", "name")
    assert "--key names a column" in keyless.err
    assert (await fleet("watch", "ls", "--json")).out == ""
    done = await fleet("watch", "add", "full", "disk.percent > 90", "--hold", "5min", "--group", "lab")
    assert done.code is Exit.OK
    [listed] = (await fleet("watch", "ls", "--json")).objects
    assert (listed["watch"], listed["asks"], listed["hold"], listed["devices"]) == (
        "full", "disk.percent > 90", 300.0, "group lab",
    )  # fmt: skip
    unknown = await fleet("watch", "show", "ful")
    assert "did you mean 'full'" in unknown.err


async def test_a_site_watches_without_its_hub_and_the_hub_hears_it_later(tmp_path: Path) -> None:
    async with world.site(tmp_path, leaf_broker=leafnode) as (hub, leaf, _):
        fleet = Cli(hub.url, tmp_path / "home")
        assert (await fleet("site", "add", "site")).code is Exit.OK
        await fleet("watch", "add", "pumps", "--sql", PUMPS, "--every", "1")
        pumps = Pumps(tmp_path / "pi-7", leaf.url, nats='hub_domain = "hub"')
        with pumps.agent:
            await shown(fleet, ("a", "on"))
            hub.kill()
            pumps.say(a="off")
            await pumps.told(2)
            pumps.agent.stop()
            pumps.say(a="on", b="on")
            pumps.agent.start()  # knows from the site's copy what is asked
            await pumps.told(3)
            hub.start()
            await shown(fleet, ("a", "on"), ("b", "on"))
            async with Fleet.open(server=hub.url) as library:
                stored = await library.hub.snapshot("TELEMETRY", "tele.pi-7.watch.pumps", deliver_policy="all")
            assert [each.json()["n"] for each in stored] == [1, 2, 3]
