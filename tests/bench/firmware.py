"""What the Pico firmware does on the real MicroPython, 32-bit, with the heap of a Pico W, against a stock nats-server.

`run()` returns rows of `name`, `value`, `unit`. Rates are of a PC, not of a Pico (which is some two hundred times
slower): compare them with each other and from run to run. Heap and flash figures hold for the board.
"""

import asyncio
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.firmware import rig
from tests.support import micropython
from tests.support.servers import Broker, jetstream, stock_hub

READINGS = {16: 6000, 1: 2000}  # published per window: half a second or more each
KILLS = 5
STORED_READINGS = 400  # written to the flash model
HEAP_FOR_MODEL = "1M"  # the flash model itself lives in the heap


def run() -> list[dict[str, Any]]:
    """All figures; one row that says why when there is no MicroPython."""
    if not micropython.find():
        return [{"name": f"MicroPython: not run: {micropython.why_not()}", "value": 0.0, "unit": ""}]
    host = rig.hosts()[0]
    with tempfile.TemporaryDirectory() as name:
        return [*asyncio.run(_online(host, Path(name))), *_flash(micropython.find()[0])]


async def _online(host: rig.Host, folder: Path) -> list[dict[str, Any]]:
    with stock_hub(folder / "hub", config=jetstream(folder / "hub")) as hub:
        await rig.make_stream(hub.url)
        rows = []
        used = 0
        for window, count in READINGS.items():
            device = rig.Device(host, folder / f"window-{window}", [hub.url], window=window)
            with device.begin(count, 0, "quiet"):
                await device.finish()
            rate = count / (int(device.words("took")[0]) / 1000)
            used = int(device.words("used")[0])
            rows.append({"name": f"acknowledged readings, window {window}", "value": rate, "unit": "msg/s"})
        rows.append({"name": "heap of the whole firmware, connected", "value": used / 1024, "unit": "KB"})
        rows.append({"name": "back after a server kill, median", "value": await _back(host, folder, hub), "unit": "ms"})
        return rows


async def _back(host: rig.Host, folder: Path, hub: Broker) -> float:
    """Milliseconds from the server being ready again to the device being connected."""
    times = []
    with rig.Device(host, folder / "back", [hub.url]).begin(0, 20) as device:
        for kill in range(KILLS):
            await device.said("picoleaf: up", kill + 1)
            hub.kill()
            await device.said("picoleaf: down", kill + 1)
            hub.start()
            began = time.perf_counter()
            await device.said("picoleaf: up", kill + 2)
            times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def _flash(interpreter: micropython.Interpreter) -> list[dict[str, Any]]:
    """What an offline reading costs on littlefs, counted at the block device."""
    script = str(rig.DEVICE.with_name("powercut.py"))
    argv = interpreter.command(script, str(rig.FIRMWARE), "cost", str(STORED_READINGS), heap=HEAP_FOR_MODEL)
    words = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    readings, erases, programmed = (int(word) for word in words[1:4])
    return [
        {"name": "flash per reading, link up", "value": 0.0, "unit": "B"},
        {"name": "flash per reading, link down", "value": programmed / readings, "unit": "B"},
        {"name": "erases per reading, link down", "value": erases / readings, "unit": "blocks"},
    ]


if __name__ == "__main__":
    for row in run():
        print(f"{row['name']:<44} {row['value']:>12.3f} {row['unit']}")
