"""Desired configuration: layers of a bucket become the values of one file. Pure.

Layers merge in the order all, the device's groups as it lists them, the device itself: the nearest wins, objects merge
deeply, null removes a key.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agent import schema, subjects

Values = dict[str, Any]


class LayerError(ValueError):
    """A layer is not a JSON object; the text names it."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The newest revision of one key."""

    key: str
    revision: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Desired:
    """What a file should hold, and which revisions say so. `error` is set when a layer cannot be read."""

    values: Values = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    error: str = ""
    overridden_until: str = ""
    """When the local layer in these values ends (RFC 3339); empty without one."""

    @property
    def revision(self) -> int:
        return max(self.revisions.values(), default=0)


def keys(name: str, device: str, groups: Sequence[str]) -> list[str]:
    """The keys of the item's layers, farthest first."""
    return [
        subjects.config_all(name),
        *(subjects.config_group(group, name) for group in groups),
        subjects.config_device(device, name),
    ]


def patterns(device: str, groups: Sequence[str]) -> list[str]:
    """What to watch to see every layer of every item, and every item's schema."""
    return ["all.*", "schema.*", *(f"group.{group}.*" for group in dict.fromkeys(groups)), f"device.{device}.*"]


def item_of(key: str) -> str:
    """The item that a key is a layer of."""
    return key.rpartition(".")[2]


def resolve(layers: Mapping[str, Layer], order: Sequence[str]) -> Desired:
    """Merge the layers that exist; `order` are their keys, farthest first."""
    present = [layers[key] for key in order if key in layers]
    revisions = {layer.key: layer.revision for layer in present}
    try:
        values: Values = {}
        for layer in present:
            values = merge(values, read_layer(layer))
    except LayerError as error:
        return Desired({}, revisions, str(error))
    except RecursionError:
        return Desired({}, revisions, f"{', '.join(revisions)}: the values are nested too deeply")
    return Desired(values, revisions)


def judge(wanted: Desired, found: Layer | None) -> Desired:
    """`wanted`, with an error if it is not as the item's schema says, or if that is no schema."""
    if found is None or wanted.error or not wanted.revisions:
        return wanted
    where = f"{found.key} (revision {found.revision})"
    try:
        violations = schema.violations(schema.read(found.body), wanted.values)
    except schema.SchemaError as error:
        return replace(wanted, error=f"{where} cannot be used: {error}")
    return replace(wanted, error=f"{where}: {schema.summary(violations)}") if violations else wanted


def overlay(wanted: Desired, values: Mapping[str, Any], until: str) -> Desired:
    """`wanted` with a local layer on it; an item that no layer configures is nobody's to override."""
    if not wanted.revisions:
        return wanted
    return replace(wanted, values=merge(wanted.values, values), overridden_until=until)


def read_layer(layer: Layer) -> Values:
    """Raises LayerError if the body is no JSON object."""
    try:
        values = json.loads(layer.body)
    except (ValueError, RecursionError) as error:
        raise LayerError(f"{layer.key} (revision {layer.revision}) is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise LayerError(f"{layer.key} (revision {layer.revision}) is not a JSON object")
    return values


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Values:
    """`above` over `below`; neither is changed. A null in `above` removes the key, at any depth."""
    merged = dict(below)
    for key, value in above.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            under = merged.get(key)
            merged[key] = merge(under if isinstance(under, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged
