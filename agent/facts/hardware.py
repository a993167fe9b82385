"""Power supplies and USB devices, from sysfs (kernel documentation: ABI/testing/sysfs-class-power, sysfs-bus-usb)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from agent.facts.linux import ROOT, read

POWER: Final = {
    "name": "as the driver calls it",
    "type": "`Battery`, `Mains`, `USB`, `hwmon`",
    "online": "1: it supplies the machine",
    "status": "`Charging`, `Discharging`, `Full`",
    "percent": "charge, 0 to 100",
    "volts": "now",
    "amperes": "now",
    "low": "1: voltage is or was too low (hwmon alarm; on a Pi the supply is too weak)",
}
USB: Final = {
    "bus": "number",
    "device": "number on the bus",
    "vendor": "four hexadecimal digits",
    "product": "four hexadecimal digits",
    "maker": "name",
    "name": "of the product",
    "serial": "number, where it has one",
}

_MICRO: Final = 1_000_000  # sysfs counts in microvolts and microamperes
_MILLI: Final = 1_000  # hwmon in millivolts


def supplies(root: Path = ROOT) -> Iterator[dict[str, Any]]:
    """Batteries and chargers, then voltage monitors with an alarm (the Pi's is `rpi_volt`)."""
    for folder in sorted((root / "sys/class/power_supply").glob("*")):
        yield {
            "name": folder.name,
            "type": read(folder / "type") or None,
            "online": _number(folder / "online"),
            "status": read(folder / "status") or None,
            "percent": _number(folder / "capacity"),
            "volts": _scaled(folder / "voltage_now", _MICRO),
            "amperes": _scaled(folder / "current_now", _MICRO),
        }
    for folder in sorted((root / "sys/class/hwmon").glob("*")):
        alarm = _number(folder / "in0_lcrit_alarm")
        if alarm is not None:
            volts = _scaled(folder / "in0_input", _MILLI)
            yield {"name": read(folder / "name"), "type": "hwmon", "volts": volts, "low": alarm}


def usb(root: Path = ROOT) -> Iterator[dict[str, Any]]:
    """Devices, with the hubs, without their interfaces."""
    for folder in sorted((root / "sys/bus/usb/devices").glob("*")):
        if vendor := read(folder / "idVendor"):
            yield {
                "bus": _number(folder / "busnum"),
                "device": _number(folder / "devnum"),
                "vendor": vendor,
                "product": read(folder / "idProduct"),
                "maker": read(folder / "manufacturer") or None,
                "name": read(folder / "product") or None,
                "serial": read(folder / "serial") or None,
            }


def _number(path: Path) -> int | None:
    try:
        return int(read(path))
    except ValueError:
        return None


def _scaled(path: Path, unit: int) -> float | None:
    value = _number(path)
    return None if value is None else round(value / unit, 3)
