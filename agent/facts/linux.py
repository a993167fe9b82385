"""What Linux says in files: os-release, device tree, thermal zones. Every reader takes the root, so tests bring one.

Raspberry Pi: `/proc/device-tree/model` and `serial-number` (raspberrypi.com, "Raspberry Pi revision codes"); throttled
flags are those of `vcgencmd get_throttled`, which the firmware driver also shows in sysfs.
"""

import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path("/")
MAX_FILE_BYTES: Final = 65_536  # facts are short; a surprising file must not fill memory

PI: Final = {
    "model": "board and revision",
    "serial": "of the board",
    "throttled": "the firmware's word, as `vcgencmd get_throttled` shows it",
    "under_voltage": "1: the supply is too weak now",
    "frequency_capped": "1: the clock is limited now",
    "throttling": "1: slowed down now",
    "temperature_limited": "1: the soft temperature limit is active now",
    "under_voltage_seen": "1: it was too weak since boot",
    "throttling_seen": "1: slowed down since boot",
}
_THROTTLED: Final = "sys/devices/platform/soc/soc:firmware/get_throttled"
_FLAGS: Final = {
    "under_voltage": 0,
    "frequency_capped": 1,
    "throttling": 2,
    "temperature_limited": 3,
    "under_voltage_seen": 16,
    "throttling_seen": 18,
}

OS: Final = {
    "name": "as os-release has it, or `Android`",
    "id": "short name: `debian`, `raspbian`",
    "version": "release number",
    "codename": "release name: `bookworm`",
    "pretty": "name and version for people",
    "arch": "`aarch64`, `armv7l`, `x86_64`",
}
KERNEL: Final = {"name": "`Linux`", "release": "as `uname -r`", "version": "as `uname -v`"}
TEMPERATURE: Final = {"sensor": "type of the zone: `cpu-thermal`", "celsius": "degrees"}


def read(path: Path) -> str:
    """The text of a small file, without the zero bytes of a device tree; empty if there is none."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES).decode(errors="replace").replace("\0", "").strip()
    except OSError:
        return ""


def os_facts(root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """os-release(5). Android has no such file but sets ANDROID_ROOT in every process."""
    if "ANDROID_ROOT" in environ:
        return {"name": "Android", "id": "android", "arch": platform.machine()}
    fields = release_fields(read(root / "etc/os-release") or read(root / "usr/lib/os-release"))
    return {
        "name": fields.get("NAME") or platform.system(),
        "id": fields.get("ID"),
        "version": fields.get("VERSION_ID"),
        "codename": fields.get("VERSION_CODENAME"),
        "pretty": fields.get("PRETTY_NAME"),
        "arch": platform.machine(),
    }


def release_fields(text: str) -> dict[str, str]:
    """`KEY=value` lines; quotes are taken off."""
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, mark, value in pairs if mark}


def kernel_facts() -> dict[str, Any]:
    name = os.uname()
    return {"name": name.sysname, "release": name.release, "version": name.version}


def pi_facts(root: Path = ROOT) -> dict[str, Any]:
    """NULL everywhere on a machine that is no Raspberry Pi."""
    tree = root / "proc/device-tree"
    model = read(tree / "model")
    if "Raspberry Pi" not in model:
        return {}
    return {"model": model, "serial": read(tree / "serial-number") or None, **throttled(read(root / _THROTTLED))}


def throttled(text: str) -> dict[str, Any]:
    """The flags in a hexadecimal word; empty where the firmware does not tell."""
    try:
        word = int(text, 16)
    except ValueError:
        return {}
    return {"throttled": word, **{name: word >> bit & 1 for name, bit in _FLAGS.items()}}


def temperatures(root: Path = ROOT) -> Iterator[dict[str, Any]]:
    """Every thermal zone that can be read."""
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        try:
            millidegrees = int(read(zone / "temp"))
        except ValueError:
            continue
        yield {"sensor": read(zone / "type") or zone.name, "celsius": millidegrees / 1000}


def cpu_model(root: Path = ROOT) -> str | None:
    """`model name` (x86) or `Model` (Raspberry Pi) of /proc/cpuinfo."""
    for line in read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return None
