"""A start says why, an outage says how long, and each is told once, at its own time."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent import life
from agent.fleet import timeline
from agent.fleet.client import Fleet
from agent.fleet.timeline import Watch
from agent.life import Life, LifeTask, reason
from agent.payloads import DeviceEvent
from tests.agent import fleet_world as world

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
QUICK = {"presence": "interval_s = 1"}


@pytest.mark.parametrize(
    ("ended", "boot", "why"),
    [(True, "a", "stopped"), (True, "b", "rebooted"), (False, "a", "killed"), (False, "b", "power lost")],
)
def test_a_start_is_judged_by_the_note_of_the_one_before(ended: bool, boot: str, why: str) -> None:
    assert reason(Life("a", "", "", ended), boot) == why


def test_without_a_note_it_is_new(tmp_path: Path) -> None:
    assert reason(None, "a") == "new"
    (tmp_path / life.FILE).write_text("{")
    assert life.read(tmp_path / life.FILE) is None


class Device:
    """A life with hands on its clock and its supply."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.moment = NOON
        self.supply: dict[str, object] = {}
        self.told: list[DeviceEvent] = []

    def boots(self, boot_id: str) -> LifeTask:
        task = LifeTask(self.folder, "pi-7", boot_id, lambda: self.supply, lambda: self.moment)
        task.begin()
        task.to(self.told.append)
        return task

    def words(self) -> list[tuple[str, str]]:
        return [(event.event, event.reason) for event in self.told]


def test_a_power_cut_is_told_with_the_last_sign_of_life_and_the_evidence(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.boots("a")
    device.moment += timedelta(hours=3)
    device.supply = {"under_voltage_seen": 1}
    device.boots("b").end()
    device.moment += timedelta(hours=1)
    device.boots("b")
    assert device.words() == [("started", "new"), ("started", "power lost"), ("started", "stopped")]
    cut = device.told[1]
    assert (cut.at - cut.since) == timedelta(hours=3)
    assert cut.evidence == {"boot_id": "b", "boot_id_before": "a", "under_voltage_seen": 1}


def test_an_outage_is_told_once_when_it_is_over(tmp_path: Path) -> None:
    device = Device(tmp_path)
    task = device.boots("a")
    task.hub_back()
    task.hub_lost()
    device.moment += timedelta(minutes=7)
    task.hub_lost()
    task.hub_back()
    task.hub_back()
    assert device.words()[1:] == [("link", "hub out of reach")]
    assert device.told[-1].at - device.told[-1].since == timedelta(minutes=7)


def test_what_cannot_be_told_waits(tmp_path: Path) -> None:
    device = Device(tmp_path)
    task = LifeTask(tmp_path, "pi-7", "a", dict, lambda: device.moment)
    task.begin()
    task.hub_lost()
    task.hub_back()
    task.to(device.told.append)
    task.to(device.told.append)
    assert device.words() == [("started", "new"), ("link", "hub out of reach")]


async def test_standing_still_and_a_weak_supply_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "LOOK_SECONDS", 0.001)
    device = Device(tmp_path)
    clock = [0.0]
    task = LifeTask(tmp_path, "pi-7", "a", lambda: device.supply, lambda: device.moment, lambda: clock[0])
    task.to(device.told.append)
    running = asyncio.create_task(task.run())
    try:
        await asyncio.sleep(0)
        clock[0] = 100.0
        device.supply = {"under_voltage": 1}
        await asyncio.wait_for(_until(lambda: len(device.told) >= 2), 10)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert device.words() == [("frozen", "stood still"), ("power", "low voltage")]


async def _until(look) -> None:
    while not look():
        await asyncio.sleep(0.001)


# The fleet's side


def test_changes_of_presence_are_events_once_each() -> None:
    watch = Watch(["pi-1", "pi-2"])
    watch.learn("pi-2", "up")
    states = [
        ("pi-1", "up"), ("pi-1", "up"), ("pi-2", "up"), ("pi-3", "up"), ("pi-2", "absent"), ("pi-2", "absent"),
        ("pi-2", "up"), ("pi-1", "stopped"), ("pi-1", "absent"), ("pi-3", "forgotten"), ("pi-3", "forgotten"),
        ("pi-3", "up"),
    ]  # fmt: skip
    found = [watch.take(device, state, NOON) for device, state in states]
    assert [(each.device, each.event) for each in found if each] == [
        ("pi-1", "recover"), ("pi-3", "new"), ("pi-2", "timeout"), ("pi-2", "recover"), ("pi-1", "stopped"),
        ("pi-1", "timeout"), ("pi-3", "expire"), ("pi-3", "new"),
    ]  # fmt: skip


async def test_a_killed_agent_is_in_the_timeline_and_among_the_events(tmp_path: Path) -> None:
    async with world.hub(tmp_path / "hub") as (broker, bus):
        heard: list[tuple[str, str]] = []
        async with Fleet.open(server=broker.url) as fleet:

            async def listen() -> None:
                async for each in timeline.follow(fleet.hub):
                    heard.extend([(each.device, each.event)] if each else [])

            listening = asyncio.create_task(listen())

            async def listens() -> bool:
                info = await bus.local.stream_info("KV_fleet_presence")
                return bool(info and info["state"]["consumer_count"])

            try:
                await world.eventually(listens, "the bucket is watched")
                running = world.agent(tmp_path / "pi-7", broker.url, **QUICK).start()
                await world.eventually(_async(lambda: ("pi-7", "new") in heard), "the device is new")
                running.kill()
                await world.eventually(_async(lambda: ("pi-7", "timeout") in heard), "its key expired")
                with world.agent(tmp_path / "pi-7", broker.url, **QUICK):
                    await world.eventually(_async(lambda: ("pi-7", "recover") in heard), "it is back")

                    async def told() -> list[str]:
                        found = await timeline.timeline(fleet.hub, "pi-7", NOON - timedelta(days=365))
                        texts = [each.text for each in found if each.event == "started"]
                        return texts if len(texts) == 2 else []

                    texts = await world.eventually(told, "both starts are told")
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
        assert texts[0] == "new"
        assert texts[1].startswith("killed, last sign of life")
        assert heard == [("pi-7", "new"), ("pi-7", "timeout"), ("pi-7", "recover")]


def _async(look):
    async def asked() -> bool:
        return bool(look())

    return asked
