"""Desired configuration in layers: which keys make a device's values, where each value comes from, what changed.

A NAME has up to one value in each layer: `all.NAME`, then `group.GROUP.NAME` for each of the device's groups in its
order, then `device.ID.NAME`. Later layers win, objects merge deeply, null removes (docs/fleet-protocol.md).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent import subjects
from agent.errors import UsageError
from agent.fleet.presence import Device

Value = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Layer:
    """One of `all`, a group, a device; or `schema`, which concerns no device by itself."""

    kind: str
    of: str = ""

    def key(self, name: str) -> str:
        """The key of this layer's value of NAME in the bucket."""
        if self.kind == "all":
            return subjects.config_all(name)
        if self.kind == "schema":
            return subjects.config_schema(name)
        if self.kind == "group":
            return subjects.config_group(self.of, name)
        return subjects.config_device(self.of, name)

    def concerns(self, device: Device) -> bool:
        """Whether a change of this layer reaches `device`."""
        if self.kind == "all":
            return True
        return self.of in device.groups if self.kind == "group" else self.of == device.id

    def option(self) -> str:
        """As the command line spells it."""
        return "--all" if self.kind == "all" else f"--{self.kind} {self.of}"


def split_key(key: str) -> tuple[Layer, str] | None:
    """A bucket key as (layer, NAME); None for a key that is no layer's (someone else put it there)."""
    match key.split("."):
        case ["all" | "schema" as kind, name]:
            return Layer(kind), name
        case ["group" | "device" as kind, of, name]:
            return Layer(kind, of), name
        case _:
            return None


def layers_of(device_id: str, groups: Iterable[str]) -> list[Layer]:
    """The layers that make this device's values, the strongest last."""
    return [Layer("all"), *(Layer("group", group) for group in groups), Layer("device", device_id)]


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> Value:
    """`over` laid on `under`: objects deeply, null removes, anything else replaces."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def effective(values: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[Value, dict[str, str]]:
    """The merged value of (bucket key, value) layers, and for each dotted path the bucket key that decided it."""
    merged: Value = {}
    origins: dict[str, str] = {}
    for key, value in values:
        merged = merge(merged, value)
        origins.update(dict.fromkeys(flat(value), key))
    return merged, {path: origins.get(path) or _emptied_by(values, path) for path in flat(merged)}


def _emptied_by(values: Sequence[tuple[str, Mapping[str, Any]]], path: str) -> str:
    """The last layer that said something below `path`: an object is a leaf when a layer removed the last of it."""
    below = f"{path}."
    return next((key for key, value in reversed(values) if any(each.startswith(below) for each in flat(value))), "")


ABSENT: Final = object()  # no value at all, which null is not


def at_path(value: Mapping[str, Any], path: str) -> Any:
    """What stands at the dotted path as `flat` spells it, or ABSENT."""
    if path in value:
        return value[path]
    for end in (at for at, sign in enumerate(path) if sign == "."):
        below = value.get(path[:end])
        if isinstance(below, Mapping) and (found := at_path(below, path[end + 1 :])) is not ABSENT:
            return found
    return ABSENT


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted path. Lists and empty objects are leaves."""
    leaves: dict[str, Any] = {}
    for key, each in value.items():
        if isinstance(each, Mapping) and each:
            leaves.update(flat(each, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = each
    return leaves


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """(`-` or `+`, dotted path, value) for every leaf that differs, by path, the old before the new."""
    before, after = flat(old), flat(new)
    lines: list[tuple[str, str, Any]] = []
    for path in sorted({*before, *after}):
        if path in before and path in after and before[path] == after[path]:
            continue
        if path in before:
            lines.append(("-", path, before[path]))
        if path in after:
            lines.append(("+", path, after[path]))
    return lines


def parse_assignments(pairs: Iterable[str]) -> Value:
    """`["a.b=1", "text=hello"]` -> `{"a": {"b": 1}, "text": "hello"}`.

    What reads as JSON is JSON (numbers, true, null, quoted text, lists, objects); anything else is text.
    """
    result: Value = {}
    for pair in pairs:
        path, separator, text = pair.partition("=")
        if not (separator and path and all(path.split("."))):
            raise UsageError(f"{pair!r} is not KEY=VALUE: write for example interval_s=30 or mqtt.port=1883")
        *parents, last = path.split(".")
        table = result
        for parent in parents:
            below = table.setdefault(parent, {})
            if not isinstance(below, dict):
                raise UsageError(f"{pair!r}: {parent!r} was given a plain value before: it cannot also have parts")
            table = below
        table[last] = _value(text)
    return result


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def parse_document(text: str, where: str) -> Value:
    """A JSON object, or UsageError naming `where` it came from."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{where} is not JSON: {error}. For a plain text file use --text") from error
    if not isinstance(value, dict):
        raise UsageError(f'{where} is JSON but not an object: desired values are an object, e.g. {{"interval_s": 30}}')
    return value


def set_paths(value: Mapping[str, Any], patch: Mapping[str, Any]) -> Value:
    """A layer's stored value with `patch` laid on it; unlike `merge`, null is kept: in a layer it means "remove"."""
    result = dict(value)
    for key, each in patch.items():
        below = result.get(key)
        if isinstance(each, Mapping) and isinstance(below, Mapping):
            result[key] = set_paths(below, each)
        else:
            result[key] = each
    return result


def without(value: Mapping[str, Any], paths: Iterable[str]) -> Value:
    """A layer's stored value without the dotted `paths`; parents left empty go too. UsageError for a missing path."""
    result: Value = json.loads(json.dumps(value))
    for path in paths:
        _remove(result, path.split("."), path)
    return result


def _remove(table: Value, tokens: Sequence[str], path: str) -> None:
    first, *rest = tokens
    if first not in table or (rest and not isinstance(table[first], dict)):
        raise UsageError(f"there is no {path!r} in this layer: see `fleet config get`")
    if not rest:
        del table[first]
        return
    _remove(table[first], rest, path)
    if not table[first]:
        del table[first]
