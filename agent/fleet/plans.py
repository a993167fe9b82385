"""Many values at once: what a folder of files says, or what the bucket held at a moment, against what it holds now.

    all/NAME.json   group/GROUP/NAME.json   device/ID/NAME.json   schema/NAME.json

or `.toml`, or `.txt` for items of format text. Null cannot be said in TOML; everything else means the same.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from agent import subjects
from agent.errors import FleetError, UsageError
from agent.fleet import configuration, layers
from agent.fleet.configuration import Change, Entry
from agent.fleet.hub import Hub
from agent.fleet.judging import judge
from agent.fleet.layers import Layer, Value
from agent.fleet.layout import stream_of

Wanted = Mapping[str, Value | None]
"""Bucket key -> value; None: it is to be deleted. Keys that are not in it stay as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One layer's value that is to change."""

    layer: Layer
    name: str
    old: Value | None
    new: Value | None

    @property
    def key(self) -> str:
        return self.layer.key(self.name)


def differences(entries: list[Entry], wanted: Wanted) -> list[Planned]:
    """What has to change for the bucket to hold `wanted`, by key: schemas last, so that a stricter one finds the
    values that it wants."""
    held = {entry.key: entry.value for entry in entries}
    found = []
    for key in sorted(wanted, key=lambda key: (key.startswith("schema."), key)):
        parts = layers.split_key(key)
        if parts and wanted[key] != held.get(key):
            found.append(Planned(layer=parts[0], name=parts[1], old=held.get(key), new=wanted[key]))
    return found


async def carry_out(hub: Hub, planned: list[Planned], *, force: bool = False) -> list[Change]:
    """Make the changes, all of them judged before the first is written.

    Raises:
        UsageError: a schema forbids one; nothing was written.
        FleetError: one could not be written; the text says how many were.
    """
    if not force:
        for name in sorted({each.name for each in planned}):
            held = {entry.key: entry.value for entry in await configuration.read(hub, name) if entry.value is not None}
            await judge(hub, name, held, {each.key: each.new for each in planned if each.name == name})
    made: list[Change] = []
    for each in planned:
        try:
            made.append(await configuration.replace(hub, each.name, each.layer, each.old, each.new))
        except FleetError as error:
            raise type(error)(f"{error} ({len(made)} of {len(planned)} changes were written)") from error
    return made


# What a folder says


def read_folder(folder: Path, entries: list[Entry], *, prune: bool = False) -> dict[str, Value | None]:
    """The values in a folder of files; with `prune`, everything else of `entries` is to be deleted.

    Raises:
        UsageError: names the file that cannot be used.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder: it should have files such as all/NAME.json")
    wanted: dict[str, Value | None] = {entry.key: None for entry in entries} if prune else {}
    seen: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_dir() or any(part.startswith(".") for part in parts):
            continue
        key = _key_of(path, parts)
        if key in seen:
            raise UsageError(f"{seen[key]} and {path} are both {key}: keep one")
        seen[key] = path
        wanted[key] = _value_of(path)
    if not seen:
        raise UsageError(f"{folder} has no file such as all/NAME.json")
    return wanted


def _key_of(path: Path, parts: tuple[str, ...]) -> str:
    *folders, file = parts
    name = file.removesuffix(path.suffix)
    try:
        match folders:
            case ["all"]:
                return subjects.config_all(name)
            case ["group", group]:
                return subjects.config_group(group, name)
            case ["device", device]:
                return subjects.config_device(device, name)
            case ["schema"]:
                return subjects.config_schema(name)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    raise UsageError(f"{path} is in no layer: all/NAME, group/GROUP/NAME, device/ID/NAME and schema/NAME are")


def _value_of(path: Path) -> Value:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            table: Value = json.loads(json.dumps(tomllib.loads(text)))
            return table
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    except TypeError as error:
        raise UsageError(f"{path} has a time, which JSON has not: write it in quotes") from error
    if path.suffix == ".txt":
        return {"text": text}
    if path.suffix != ".json":
        raise UsageError(f"{path}: write values as .json or .toml, and text as .txt")
    return layers.parse_document(text, str(path))


# What the bucket held


async def at_time(hub: Hub, moment: datetime, name: str | None = None) -> dict[str, Value | None]:
    """What every layer (of NAME) held at `moment`, schemas too.

    Raises:
        UsageError: the history of a key does not reach back so far.
    """
    stream = stream_of(subjects.BUCKET_CONFIG)
    kept = int(((await hub.stream(stream)) or {}).get("max_msgs_per_subject") or 0)
    revisions: dict[str, list[Entry]] = {}
    for stored in await hub.snapshot(stream, deliver_policy="all"):
        entry = configuration.entry(stored.subject.removeprefix(f"$KV.{subjects.BUCKET_CONFIG}."), stored)
        if entry is not None and name in (None, entry.name):
            revisions.setdefault(entry.key, []).append(entry)
    wanted: dict[str, Value | None] = {}
    for key, history in revisions.items():
        before = [entry for entry in history if entry.at <= moment]
        if not before and len(history) >= kept > 0:
            raise UsageError(
                f"{key} had {kept} revisions since then, and the bucket keeps no more: name the revision, with"
                " fleet config revert NAME --to"
            )
        wanted[key] = before[-1].value if before else None
    return wanted
