"""The devices of a fleet, from its inventory and its presence bucket.

state   `up`       the agent refreshed its presence key in time
        `stopped`  the agent said good-bye
        `absent`   neither: power, network or agent is gone, or the key expired and left a marker

Known is who has a key in either bucket. "Last seen" is the newest moment that any of the two can prove; an expired
key's marker proves that the device was there until one lifetime (three intervals) before.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from agent.errors import UsageError
from agent.fleet.ages import parse

STATES: Final = ("up", "stopped", "absent")
EXPIRY_SECONDS = (
    30.0  # three intervals of 10 s, the agent's default: how long before its marker a device was last there
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    id: str
    state: str
    seen: datetime | None = None
    groups: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    agent_version: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def os(self) -> str:
        """What runs there, in a few words."""
        os = self.facts.get("os")
        if not isinstance(os, Mapping):
            return ""
        pretty = os.get("pretty") or os.get("pretty_name")
        return str(pretty or " ".join(str(os[key]) for key in ("name", "version") if os.get(key)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A presence entry: what the bucket holds and when the hub stored it."""

    state: str
    stored: datetime
    expired: bool = False


def devices(inventory: Mapping[str, Mapping[str, Any]], presence: Mapping[str, Presence]) -> list[Device]:
    """Everyone known, by id."""
    return [_device(each, inventory.get(each, {}), presence.get(each)) for each in sorted({*inventory, *presence})]


def _device(device_id: str, entry: Mapping[str, Any], present: Presence | None) -> Device:
    moments = [moment for moment in (parse(entry.get("seen")), _proof(present)) if moment]
    tags = entry.get("tags")
    facts = entry.get("facts")
    return Device(
        id=device_id,
        state=_state(present),
        seen=max(moments, default=None),
        groups=tuple(str(group) for group in entry.get("groups") or ()),
        tags={str(key): str(value) for key, value in tags.items()} if isinstance(tags, Mapping) else {},
        agent_version=str(entry.get("agent_version") or ""),
        facts=facts if isinstance(facts, Mapping) else {},
    )


def _state(present: Presence | None) -> str:
    if present is None or present.expired:
        return "absent"
    return "up" if present.state == "up" else "stopped"


def _proof(present: Presence | None) -> datetime | None:
    if present is None:
        return None
    return present.stored - timedelta(seconds=EXPIRY_SECONDS) if present.expired else present.stored


def select(
    known: Iterable[Device],
    *,
    group: str | None = None,
    tags: Mapping[str, str] | None = None,
    state: str | None = None,
    ids: Iterable[str] | None = None,
) -> list[Device]:
    """The devices that meet every condition given. Ids that nobody knows become absent devices, never seen."""
    found = list(known)
    if ids is not None:
        by_id = {device.id: device for device in found}
        found = [by_id.get(each) or Device(id=each, state="absent") for each in dict.fromkeys(ids)]
    if group is not None:
        found = [device for device in found if group in device.groups]
    for key, value in (tags or {}).items():
        found = [device for device in found if device.tags.get(key) == value]
    if state is not None:
        found = [device for device in found if device.state == state]
    return found


def parse_tags(pairs: Iterable[str]) -> dict[str, str]:
    """`["site=roof"]` -> `{"site": "roof"}`, or UsageError."""
    tags = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not (separator and key):
            raise UsageError(f"--tag {pair!r} is not KEY=VALUE: write for example --tag site=roof")
        tags[key] = value
    return tags
