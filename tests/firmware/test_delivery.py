"""Readings reach the stream once each and in order, whatever happens to the link, the server or the device."""

import asyncio
import random

import pytest

from tests.firmware import rig
from tests.support.proxy import Proxy

FAULTS = ["reset", "fin", "cut", "cut", "cut", "cut_down", "stall", "stall_down", "stall_up", "blackhole", "refuse"]


@pytest.fixture
def settled(device, site):
    """Ends the run: everything is delivered, and the stream is right."""

    async def check() -> dict:
        stats = await device.finish()
        messages = [one for one in await rig.stored(site.url) if not one[0].endswith(".lost")]
        rig.check_once_in_order(messages, device.words("pub"))
        assert len(messages) == len(device.words("pub"))
        return stats

    return check


async def test_every_reading_arrives_once(host, site, tmp_path):
    device = rig.Device(host, tmp_path / "pico", [site.url])
    with device.begin(count=300, pause_ms=0):
        stats = await device.finish()
    messages = await rig.stored(site.url)
    rig.check_once_in_order(messages, device.words("pub"))
    assert stats["acked"] == len(messages) == 300
    assert stats["lost"] == stats["superseded"] == 0
    subject, identity, body = messages[0]
    assert (subject, identity) == ("tele.pico-1.a", "pico-1-1-1")
    assert body["clock"] is True
    assert body["ms"] > 1_700_000_000_000
    del body["ms"], body["clock"]
    assert body == {"v": 1, "device": "pico-1", "metric": "a", "seq": 1, "boot": 1, "value": 0}


async def test_flash_is_not_touched_while_the_link_is_up(device, settled):
    device.settings.update(max_loss_s=60, spill_after_s=60)  # a loaded machine must not look like a broken link
    device.begin(count=100, pause_ms=5)
    await settled()
    assert device.words("stored") == []
    assert [file.name for file in device.flash.iterdir()] == ["boot"]


async def inflict(fault: str, link, device, seed: random.Random) -> None:
    """One fault, until the device has noticed and is back."""
    before = len(device.words("picoleaf: up"))
    if fault == "reset":
        link.reset()
    elif fault == "fin":
        link.fin()
    elif fault == "cut":
        link.cut_after(seed.randrange(1, 4000))
    elif fault == "cut_down":
        link.cut_after(seed.randrange(1, 400), "down")
    elif fault == "refuse":
        link.refuse()
        link.reset()
        stored = len(device.words("stored"))
        await device.said("stored", stored + 10)
        link.accept()
    else:
        downs = len(device.words("picoleaf: down"))
        getattr(link, fault.split("_")[0])(fault.split("_")[1] if "_" in fault else "both")
        await device.said("picoleaf: down", downs + 1)
        link.reset()
        link.restore()
    await device.said("picoleaf: up", before + 1)


@pytest.mark.parametrize("seed", [1])
async def test_a_bad_link_costs_nothing(device, link, settled, seed):
    source = random.Random(seed)
    faults = source.sample(FAULTS, len(FAULTS))
    device.begin(pause_ms=4)
    await device.said("acked")
    for fault in faults:
        await inflict(fault, link, device, source)
    device.enough()
    stats = await settled()
    assert stats["connects"] > len(faults)
    assert stats["lost"] == stats["superseded"] == 0


async def test_doubles_are_avoided_beyond_the_duplicate_window(broker, pico, tmp_path):
    """Readings are stored, their acknowledgements are not heard, and the server forgets their ids meanwhile."""
    await rig.make_stream(broker.url, duplicate_window=0.1)
    with Proxy(broker.port) as link, rig.Device(pico, tmp_path / "pico", [link.url]).begin(0, 4) as device:
        for _ in range(3):
            acked = len(device.words("acked"))
            await device.said("acked", acked + 20)
            link.stall("down")
            await device.said("pub", len(device.words("pub")) + 20)  # by then a window is under way without an answer
            link.refuse()
            link.reset()
            await asyncio.sleep(0.3)  # the duplicate window is a matter of time
            link.restore()
            link.accept()
        device.enough()
        await device.finish()
        messages = await rig.stored(broker.url)
        rig.check_once_in_order(messages, device.words("pub"))
        assert len(messages) == len(device.words("pub"))


async def test_a_killed_server_loses_nothing(device, site, settled):
    device.begin(pause_ms=5)
    for _ in range(3):
        acked = len(device.words("acked"))
        await device.said("acked", acked + 10)
        site.kill()
        await device.said("stored", len(device.words("stored")) + 5)
        site.start()
    device.enough()
    await settled()


async def test_a_killed_device_loses_nothing_that_was_stored_or_acknowledged(device, link, site):
    """Power cuts with the link up, down and just back; the flash folder is all that remains."""
    source = random.Random(2)
    for life in range(8):
        device.begin(count=0, pause_ms=4)
        await device.said("picoleaf: device", life + 1)
        if life % 2:
            link.refuse()
            link.reset()
            await device.said("stored", len(device.words("stored")) + 20)
            if life % 4 == 3:
                link.accept()
                await device.said("picoleaf: up", len(device.words("picoleaf: up")) + 1)
                await device.said("acked", len(device.words("acked")) + source.randrange(1, 30))
        else:
            link.accept()
            await device.said("acked", len(device.words("acked")) + source.randrange(1, 60))
        device.kill()
    link.accept()
    device.begin(count=10, pause_ms=4)
    await device.finish()
    messages = await rig.stored(site.url)
    rig.check_once_in_order(messages, device.words("acked") + device.words("stored"))


async def test_a_full_store_drops_the_oldest_and_says_so(pico, site, tmp_path):
    with Proxy(site.port) as link:
        link.refuse()
        device = rig.Device(pico, tmp_path / "pico", [link.url], store_bytes=6000)
        with device.begin(count=600, pause_ms=2):
            await device.said("dropped", 100)
            await device.said("pub", 600)
            assert sum(file.stat().st_size for file in device.flash.glob("*.q")) <= 6000
            link.accept()
            stats = await device.finish()
            messages = await rig.stored(site.url)
    reports = [body["values"] for subject, _, body in messages if subject == "tele.pico-1.lost"]
    readings = [one for one in messages if not one[0].endswith(".lost")]
    rig.check_once_in_order(readings, [])
    assert len(readings) + sum(report["count"] for report in reports) == 600
    kept = [key for _, identity, _ in readings for key in [rig.key(identity)]]
    assert sorted(kept) == sorted({rig.key(one) for one in device.words("pub")})[-len(kept) :], "not the newest"
    assert reports[0]["first"] == "1-1"
    assert stats["lost"] == 0


async def test_heap_stays_flat(pico, site, tmp_path):
    device = rig.Device(pico, tmp_path / "pico", [site.url])
    with device.begin(6000, 0, "quiet"):
        await device.finish()
    free = [int(one) for one in device.words("heap")]
    assert len(free) == 12
    assert min(free[2:]) > free[1] - 1024
