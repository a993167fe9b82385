"""What simulated devices are like: pure, and the same for the same seed.

A profile says which share of a fleet is off, answers late or cannot answer, and how often a link is lost. Which device
it is, and what its machine looks like, follows from seed and number: a second run is the same fleet.
"""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from agent.errors import QueryError
from agent.facts.table import Facts, Row, Table, many, single

OS: Final = (
    ("Debian GNU/Linux", "debian", "12", "bookworm", 60),
    ("Debian GNU/Linux", "debian", "13", "trixie", 25),
    ("Raspbian GNU/Linux", "raspbian", "11", "bullseye", 10),
    ("Android", "android", None, None, 5),
)
BOARDS: Final = ("Raspberry Pi Zero 2 W Rev 1.0", "Raspberry Pi 4 Model B Rev 1.5", "Raspberry Pi 5 Model B Rev 1.0")
GROUPS: Final = ("pumps", "gates", "meters")
SITES: Final = ("roof", "cellar", "attic", "yard")
GIB: Final = 1 << 30
WAVE_SECONDS: Final = 600.0  # load and temperature go up and down once in this time


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Shares are 0 to 1, times seconds."""

    off: float = 0.0
    """Known to the inventory, and not there."""
    slow: float = 0.0
    """Answer after `slow_s`."""
    slow_s: tuple[float, float] = (0.5, 2.0)
    raising: float = 0.0
    """Cannot collect their facts."""
    up_s: float = math.inf
    """Mean time between two losses of the link."""
    down_s: float = 0.0
    """Mean time that it is lost."""


PROFILES: Final[dict[str, Profile]] = {
    "healthy": Profile(),
    "lan": Profile(off=0.01, slow=0.01, raising=0.002),
    "flaky-lte": Profile(off=0.03, slow=0.10, raising=0.005, slow_s=(0.3, 3.0), up_s=300, down_s=45),
    "mixed": Profile(off=0.05, slow=0.01, raising=0.005),
}


@dataclass(frozen=True, slots=True)
class Part:
    """What one device has to play."""

    id: str
    number: int
    groups: tuple[str, ...]
    tags: dict[str, str]
    off: bool
    delay_s: float
    raising: bool


def parts(count: int, profile: Profile, seed: str, prefix: str = "sim") -> Iterator[Part]:
    """The devices of a fleet; exactly the shares of the profile, at places that the seed decides."""
    order = list(range(count))
    random.Random(f"{seed}/order").shuffle(order)
    place = {number: at for at, number in enumerate(order)}
    off, slow, raising = (round(count * share) for share in (profile.off, profile.slow, profile.raising))
    width = len(str(count))
    for number in range(count):
        own = random.Random(f"{seed}/{number}")
        at = place[number]
        yield Part(
            id=f"{prefix}-{number + 1:0{width}}",
            number=number,
            groups=(GROUPS[number % len(GROUPS)],),
            tags={"site": own.choice(SITES), "profile": "simulated"},
            off=at < off,
            delay_s=own.uniform(*profile.slow_s) if off <= at < off + slow else 0.0,
            raising=off + slow <= at < off + slow + raising,
        )


def facts(part: Part, seed: str, version: str, clock: Callable[[], float]) -> Facts:
    """The tables of the invented machine; `clock` in seconds moves load and temperature."""
    own = random.Random(f"{seed}/{part.number}/machine")
    system = own.choices(OS, [weight for *_, weight in OS])[0]
    board = own.choice(BOARDS)
    total = own.choice((GIB // 2, GIB, 4 * GIB, 8 * GIB))
    phase, base = own.uniform(0, 2 * math.pi), own.uniform(5, 70)
    address = f"10.{part.number >> 16 & 255}.{part.number >> 8 & 255}.{part.number & 255}"
    full = own.uniform(10, 97)

    def wave() -> float:
        return (math.sin(2 * math.pi * clock() / WAVE_SECONDS + phase) + 1) / 2

    def memory() -> dict[str, Any]:
        if part.raising:
            raise QueryError("simulated: the sensor bus does not answer")
        percent = round(min(99.0, base + 20 * wave()), 1)
        return {"total": total, "available": int(total * (1 - percent / 100)), "percent": percent}

    def always(name: str, /, **values: Any) -> Table:
        return single(name, lambda: values, tuple(values))

    tag_rows: list[Row] = list(part.tags.items())
    group_rows: list[Row] = [(group,) for group in part.groups]
    return Facts(
        [
            always("host", name=part.id, uptime_s=own.randrange(10_000_000)),
            always("os", name=system[0], id=system[1], version=system[2], codename=system[3], arch="aarch64"),
            always("kernel", name="Linux", release="6.12.34+rpt-rpi-v8"),
            single("cpu", lambda: {"count": 4, "percent": round(100 * wave(), 1), "model": board}, CPU),
            single("load", lambda: {"m1": round(4 * wave(), 2)}, ("m1",)),
            single("mem", memory, ("total", "available", "percent")),
            always("disk", path="/", total=32 * GIB, used=int(32 * GIB * full / 100), percent=round(full, 1)),
            always("pi", model=board, serial=f"{own.getrandbits(64):016x}", under_voltage=0),
            always("agent", device=part.id, version=version),
            many(
                "net", lambda: [{"name": "eth0", "family": "ipv4", "address": address}], ("name", "family", "address")
            ),
            many(
                "temperature", lambda: [{"sensor": "cpu-thermal", "celsius": round(35 + 40 * wave(), 1)}], TEMPERATURE
            ),
            Table("tag", ("name", "value"), False, lambda: tag_rows),
            Table("groups", ("name",), False, lambda: group_rows),
        ]
    )


CPU: Final = ("count", "percent", "model")
TEMPERATURE: Final = ("sensor", "celsius")
