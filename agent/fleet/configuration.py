"""Desired and reported configuration at the hub: read, change with care, follow what devices make of it.

A change reads the layer's value, alters it and puts it back on condition that nobody else did meanwhile; a lost race is
an error, never a lost update.
"""

import asyncio
import getpass
import json
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agent import subjects
from agent.errors import UsageError
from agent.fleet import layers
from agent.fleet.convergence import Convergence, Status, parse_status
from agent.fleet.hub import ChangedMeanwhileError, Hub
from agent.fleet.layers import Layer, Value
from agent.fleet.layout import stream_of
from agent.fleet.presence import Device
from agent.fleet.reading import Stored

WAIT_SECONDS: Final = 60.0  # validate, reload and verify of a service with a slow start
ITEM_SECONDS: Final = 2.0  # for the question whether a device has an item at all
HEADER_AUTHOR: Final = "Fleet-Author"  # who made a revision, by his own account
UNKNOWN: Final = "unknown"  # author of what was put by another tool
AUTHOR_MAX: Final = 128  # characters of an author
SILENT_SECONDS: Final = 5.0  # a device with the item reports `pending` or its result well within this


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One revision of one layer's value. `value` is None when the revision deleted it."""

    key: str
    layer: Layer
    name: str
    revision: int
    at: datetime
    value: Value | None
    author: str = UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A revision that was just made (or not: `revision` is then the old one and `new == old`)."""

    layer: Layer
    name: str
    revision: int
    old: Value | None
    new: Value | None
    mark: int
    """The newest report in the status bucket before the change: what comes later may be about it."""

    @property
    def key(self) -> str:
        return self.layer.key(self.name)

    @property
    def changed(self) -> bool:
        return self.old != self.new


def entry(key: str, stored: Stored) -> Entry | None:
    parts = layers.split_key(key)
    if parts is None:
        return None
    layer, name = parts
    value = None if stored.deleted else stored.json()
    author = stored.headers.get(HEADER_AUTHOR) or UNKNOWN
    return Entry(
        key=key, layer=layer, name=name, revision=stored.sequence, at=stored.stored, value=value, author=author
    )


def author_of(configured: str) -> str:
    """Who is named in revisions: as configured, or else USER@HOST; printable and of one line.

    It is a claim, like that of a commit: who may write at all is for the hub's permissions to say.
    """
    text = configured
    if not text:
        try:
            user = getpass.getuser()
        except (KeyError, OSError, ImportError):  # a container's user has no name
            user = f"uid-{os.getuid()}"
        text = f"{user}@{os.uname().nodename}"
    return "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in text)[:AUTHOR_MAX].strip()


async def read(hub: Hub, name: str | None = None) -> list[Entry]:
    """The current value of every layer (of NAME), without deleted ones, by key."""
    stored = await hub.keys(subjects.BUCKET_CONFIG)
    entries = [found for key, each in sorted(stored.items()) if (found := entry(key, each))]
    return [each for each in entries if each.value is not None and name in (None, each.name)]


async def history(hub: Hub, name: str, layer: Layer) -> list[Entry]:
    """The revisions of one layer's NAME that the bucket still keeps, oldest first."""
    key = layer.key(name)
    subject = f"$KV.{subjects.BUCKET_CONFIG}.{key}"
    stored = await hub.snapshot(stream_of(subjects.BUCKET_CONFIG), subject, deliver_policy="all")
    return [one for each in stored if (one := entry(key, each))]


async def effective(hub: Hub, name: str, device: Device) -> tuple[Value, dict[str, str], dict[str, int]]:
    """What NAME comes to on `device`: the merged value, which key decided each path, the revisions merged."""
    entries = {entry.key: entry for entry in await read(hub, name)}
    keys = [layer.key(name) for layer in layers.layers_of(device.id, device.groups)]
    present = [entries[key] for key in keys if key in entries]
    value, origins = layers.effective([(entry.key, entry.value or {}) for entry in present])
    return value, origins, {entry.key: entry.revision for entry in present}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where one leaf of a device's value comes from. `since`: the oldest revision kept that has the value in place,
    without one between in which it was other."""

    path: str
    value: object
    since: Entry


async def explain(hub: Hub, name: str, device: Device) -> list[Origin]:
    """For each leaf of NAME as it comes to be on `device`: the layer that decides it, and who put it there when."""
    value, origins, _ = await effective(hub, name, device)
    histories = {
        layer.key(name): await history(hub, name, layer)
        for layer in layers.layers_of(device.id, device.groups)
        if layer.key(name) in origins.values()
    }
    return [
        Origin(path=path, value=each, since=_since(histories[origins[path]], path))
        for path, each in layers.flat(value).items()
        if histories.get(origins[path])
    ]


def _since(entries: Sequence[Entry], path: str) -> Entry:
    """The revision that gave the leaf at `path` the value which the newest of `entries` has there."""
    newest = since = entries[-1]
    wanted = layers.at_path(newest.value or {}, path)
    for entry in reversed(entries[:-1]):
        if entry.value is None or layers.at_path(entry.value, path) != wanted:
            break
        since = entry
    return since


async def change(
    hub: Hub, name: str, layer: Layer, alter: Callable[[Value | None], Value | None], *, force: bool = False
) -> Change:
    """Replace the layer's value by what `alter` makes of it; None deletes. An unchanged value is not written again.

    Raises:
        ChangedMeanwhileError: someone else changed it between our reading and our writing.
        UsageError: the schema in the bucket forbids the result, unless `force`.
    """
    from agent.fleet.judging import judge

    stored = await _stored(hub, layer.key(name))
    old = None if stored is None or stored.deleted else stored.json()
    new = alter(old)
    if new != old and not force:
        held = {each.key: each.value for each in await read(hub, name) if each.value is not None}
        await judge(hub, name, held, {layer.key(name): new})
    return await _write(hub, name, layer, old, new, stored.sequence if stored else 0)


async def replace(hub: Hub, name: str, layer: Layer, old: Value | None, new: Value | None) -> Change:
    """Replace `old` by `new`; the schema is not asked.

    Raises:
        ChangedMeanwhileError: the layer does not hold `old`, or not any more.
    """
    key = layer.key(name)
    stored = await _stored(hub, key)
    if (None if stored is None or stored.deleted else stored.json()) != old:
        raise ChangedMeanwhileError(f"{key} was changed by someone else meanwhile: look at it and try again")
    return await _write(hub, name, layer, old, new, stored.sequence if stored else 0)


async def _stored(hub: Hub, key: str) -> Stored | None:
    return await hub.last(stream_of(subjects.BUCKET_CONFIG), f"$KV.{subjects.BUCKET_CONFIG}.{key}")


async def _write(hub: Hub, name: str, layer: Layer, old: Value | None, new: Value | None, last: int) -> Change:
    """Put or delete, on condition that `last` is still the revision."""
    key = layer.key(name)
    mark = await hub.last_sequence(stream_of(subjects.BUCKET_CONFIG_STATUS))
    revision = last
    headers = {HEADER_AUTHOR: author_of(hub.connection.author)}
    if new is None and old is not None:
        revision = await hub.delete(subjects.BUCKET_CONFIG, key, last=last, headers=headers)
    elif new is not None and new != old:
        body = json.dumps(new, ensure_ascii=False, separators=(",", ":")).encode()
        revision = await hub.put(subjects.BUCKET_CONFIG, key, body, last=last, headers=headers)
    return Change(layer=layer, name=name, revision=revision, old=old, new=new, mark=mark)


def at_revision(entries: Iterable[Entry], revision: int | None, what: str) -> Entry:
    """The entry with that revision; without one, the last but one. UsageError when there is none."""
    kept = list(entries)
    if revision is None:
        if len(kept) < 2:
            raise UsageError(f"{what} has no earlier revision: see `fleet config history`")
        return kept[-2]
    for entry in kept:
        if entry.revision == revision:
            return entry
    have = ", ".join(str(entry.revision) for entry in kept) or "none"
    raise UsageError(f"{what} has no revision {revision} (kept: {have}): see `fleet config history`")


async def statuses(hub: Hub, name: str | None = None, device: str | None = None) -> list[Status]:
    """What devices report, by device and name."""
    pattern = f"{device or '*'}.{name or '*'}"
    stored = await hub.keys(subjects.BUCKET_CONFIG_STATUS, pattern)
    return [
        status
        for key, each in sorted(stored.items())
        if not each.deleted and (status := parse_status(key, each.body, each.sequence))
    ]


async def follow(
    hub: Hub,
    made: Change,
    devices: Iterable[Device],
    *,
    itemless: Iterable[str] = (),
    managed: Iterable[str] = (),
    seconds: float = WAIT_SECONDS,
    stop: asyncio.Event | None = None,
) -> AsyncIterator[Convergence]:
    """Yield the same Convergence, first at once and then after each report, until it settled or time is over."""
    scope = [device for device in devices if made.layer.concerns(device)]
    if made.layer.kind == "device" and not scope:
        scope = [Device(id=made.layer.of, state="absent")]
    released = await _released(hub, made, scope) if made.new is None else ()
    state = Convergence(
        scope,
        made.key,
        made.revision,
        managed=managed,
        itemless=itemless,
        released=released,
        mark=made.mark,
        deleted=made.new is None,
    )
    loop = asyncio.get_running_loop()
    started = loop.time()
    pattern = f"$KV.{subjects.BUCKET_CONFIG_STATUS}.*.{made.name}"
    stream = stream_of(subjects.BUCKET_CONFIG_STATUS)
    async with hub.reader(stream, pattern, patient=True, deliver_policy="last_per_subject") as reader:
        async for stored in reader.present():
            _take(state, stored)
        yield state
        while not (stop and stop.is_set()):
            waited = loop.time() - started
            if state.settled(patient=waited < min(SILENT_SECONDS, seconds)) or waited >= seconds:
                break
            until = seconds if waited >= SILENT_SECONDS else min(SILENT_SECONDS, seconds)
            stored_now = await reader.next(min(until - waited, LOOK_SECONDS))
            if stored_now and _take(state, stored_now):
                yield state
    yield state


async def _released(hub: Hub, made: Change, scope: Iterable[Device]) -> list[str]:
    """Devices for which no layer of the item is left: agents then leave the file alone and report nothing."""
    present = {entry.key for entry in await read(hub, made.name)}
    return [
        device.id
        for device in scope
        if not any(layer.key(made.name) in present for layer in layers.layers_of(device.id, device.groups))
    ]


LOOK_SECONDS: Final = 0.5  # how often a wait looks at the clock and at Ctrl-C


def _take(state: Convergence, stored: Stored) -> bool:
    key = stored.subject.removeprefix(f"$KV.{subjects.BUCKET_CONFIG_STATUS}.")
    status = None if stored.deleted else parse_status(key, stored.body, stored.sequence)
    return bool(status and state.report(status))
