"""Reading the fleet's buckets: who is known, who is there, and the newest readings."""

from collections.abc import Iterable
from typing import Any

from agent import subjects
from agent.fleet.hub import Hub
from agent.fleet.presence import Device, Presence, devices
from agent.fleet.reading import Stored


async def read_devices(hub: Hub) -> list[Device]:
    """Everyone in inventory or presence, by id.

    Raises:
        MissingError: the buckets are not there: `fleet init`.
    """
    inventory = await hub.keys(subjects.BUCKET_DEVICES)
    present = await hub.keys(subjects.BUCKET_PRESENCE)
    return devices(
        {key: entry.json() for key, entry in inventory.items() if not entry.deleted},
        {key: to_presence(entry) for key, entry in present.items() if not forgotten(entry)},
    )


def to_presence(entry: Stored) -> Presence:
    return Presence(state=str(entry.json().get("state") or ""), stored=entry.stored, expired=entry.deleted)


def forgotten(entry: Stored) -> bool:
    """Whether an operator deleted the key; an expired one (a marker with a reason) stays known."""
    return entry.headers.get("KV-Operation") in ("DEL", "PURGE") and "Nats-Marker-Reason" not in entry.headers


Readings = dict[str, dict[str, Any]]
"""METRIC -> its newest values."""


async def read_telemetry(hub: Hub) -> dict[str, Readings]:
    """The newest reading of every metric, by device."""
    return latest(await hub.snapshot(subjects.STREAM_TELEMETRY, subjects.READINGS_ALL))


def latest(messages: Iterable[Stored]) -> dict[str, Readings]:
    """Fold readings into {device: {metric: values}}; a Pico's single value becomes {"value": ...}."""
    found: dict[str, Readings] = {}
    for message in messages:
        body = message.json()
        device, metric = body.get("device"), body.get("metric")
        if not (isinstance(device, str) and isinstance(metric, str)):
            continue
        values = body.get("values")
        found.setdefault(device, {})[metric] = values if isinstance(values, dict) else {"value": body.get("value")}
    return found
