"""Holding configuration to its schema before anything is published.

A layer is a part of a value: what counts is what it comes to on the devices that it concerns. Where none is known yet,
the layer alone is judged, and what is required may still come from another.
"""

from collections.abc import Mapping
from typing import Final

from agent import schema, subjects
from agent.errors import UsageError
from agent.fleet import inventory, layers
from agent.fleet.hub import Hub
from agent.fleet.layers import Layer, Value
from agent.fleet.layout import stream_of
from agent.fleet.presence import Device

DEVICES_SHOWN: Final = 3  # of those on which a value would be refused


async def judge(hub: Hub, name: str, current: Mapping[str, Value], wanted: Mapping[str, Value | None]) -> None:
    """Raise UsageError if a device would refuse what NAME comes to when `wanted` (bucket key -> value, None deletes) is
    laid over `current`, or if the new schema is none."""
    key = subjects.config_schema(name)
    rules = wanted.get(key)
    if key not in wanted:
        stored = await hub.last(stream_of(subjects.BUCKET_CONFIG), f"$KV.{subjects.BUCKET_CONFIG}.{key}")
        if stored is None or stored.deleted:
            return
        try:
            rules = dict(schema.read(stored.body))
        except schema.SchemaError as error:
            raise UsageError(f"{key} (revision {stored.sequence}) cannot be used: {error}") from error
    if rules is None:
        return
    try:
        schema.check(rules)
    except schema.SchemaError as error:
        raise UsageError(f"{key}: {error}") from error
    found = judged(rules, name, await inventory.read_devices(hub), current, wanted)
    if found:
        raise UsageError(f"{key} forbids it, and nothing was written: {found} (--force writes it all the same)")


def judged(
    rules: Value, name: str, devices: list[Device], current: Mapping[str, Value], wanted: Mapping[str, Value | None]
) -> str:
    """What the schema `rules` has against the change, in a line; empty for nothing."""
    after = {key: value for key, value in {**current, **wanted}.items() if value is not None}
    refusing: dict[str, str] = {}
    concerned: set[str] = set()
    for device in devices:
        keys = [layer.key(name) for layer in layers.layers_of(device.id, device.groups)]
        present = [(key, after[key]) for key in keys if key in after]
        concerned.update(key for key in keys if key in wanted)
        if present and any(key in wanted for key in keys):
            value, _ = layers.effective(present)
            if found := schema.violations(rules, value):
                refusing[device.id] = schema.summary(found)
    for key, alone in wanted.items():
        parts = layers.split_key(key)
        is_layer = alone is not None and key not in concerned and parts and parts[0] != Layer("schema")
        if is_layer and (found := schema.violations(rules, alone, partial=True)):
            refusing[key] = schema.summary(found)
    more = f", and so on {len(refusing) - DEVICES_SHOWN} more" if len(refusing) > DEVICES_SHOWN else ""
    return ", ".join(f"{who}: {why}" for who, why in list(refusing.items())[:DEVICES_SHOWN]) + more
