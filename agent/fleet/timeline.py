"""What happened to a device, from all that the hub remembers of it; and what happens to the fleet, as it happens.

A timeline is made of the device's own events (why it started, when the hub was out of reach, frozen, low voltage), of
the commands it ran, of the configuration it took, and of its presence now. Moments are the device's, not those of
arrival: what it did while nobody saw it stands where it happened.

Fleet events come from the presence bucket: `new` (never seen before), `timeout` (its key expired), `stopped` (it said
good-bye), `recover` (it is back), `expire` (forgotten: the hub keeps nothing of it any more). Each is said once.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agent import subjects
from agent.fleet import layout
from agent.fleet.ages import duration, parse
from agent.fleet.hub import Hub
from agent.fleet.inventory import forgotten, to_presence
from agent.fleet.reading import Reader, Stored

EVENT: Final = "event"  # the metric under which devices tell what happened to them
WAIT_SECONDS: Final = 5.0  # for the next change before the reader looks again


@dataclass(frozen=True, slots=True, order=True)
class Happening:
    """One line of a timeline."""

    at: datetime
    device: str
    event: str
    text: str

    def fields(self) -> dict[str, Any]:
        return {"at": self.at, "device": self.device, "event": self.event, "text": self.text}


async def timeline(hub: Hub, device: str, since: datetime) -> list[Happening]:
    """What the hub knows of a device since then, the oldest first."""
    start = {"deliver_policy": "by_start_time", "opt_start_time": since.isoformat()}
    told = await hub.snapshot(subjects.STREAM_TELEMETRY, subjects.telemetry(device, EVENT), **start)
    ran = await hub.snapshot(subjects.STREAM_RESULTS, subjects.results_of(device), **start)
    taken = await hub.keys(subjects.BUCKET_CONFIG_STATUS, f"{device}.*")
    found = [*map(_of_device, told), *map(_of_command, ran), *map(_of_config, taken.values())]
    present = (await hub.keys(subjects.BUCKET_PRESENCE, device)).get(device)
    if present is not None and not forgotten(present):
        state = to_presence(present)
        said = {"up": "up", "down": "stopped"}.get(state.state, "absent") if not state.expired else "absent"
        found.append(Happening(present.stored, device, "presence", said))
    return sorted(happening for happening in found if happening is not None and happening.at >= since)


def _of_device(message: Stored) -> Happening | None:
    body = message.json()
    at = parse(body.get("at"))
    if at is None:
        return None
    return Happening(at, str(body.get("device")), str(body.get("event")), _told(body, at))


def _told(body: Mapping[str, Any], at: datetime) -> str:
    """`power lost, last sign of life 3 h before`."""
    words = str(body.get("reason"))
    if since := parse(body.get("since")):
        span = duration((at - since).total_seconds())
        words += f", last sign of life {span} before" if body.get("event") == "started" else f", for {span}"
    evidence = body.get("evidence")
    if isinstance(evidence, dict) and evidence.get("under_voltage_seen"):
        words += ", the supply was too weak"
    return words


def _of_command(message: Stored) -> Happening | None:
    body = message.json()
    if body.get("step") != "outcome":
        return None
    at = parse(body.get("finished")) or message.stored
    words = " ".join(map(str, body.get("argv") or ()))
    code = body.get("exit_code")
    text = f"{words}: {body.get('outcome')}" + (f" ({code})" if code else "")
    return Happening(at, str(body.get("device")), "command", text)


def _of_config(entry: Stored) -> Happening | None:
    body = entry.json()
    at = parse(body.get("at"))
    if entry.deleted or at is None:
        return None
    why = f": {body['error']}" if body.get("error") else ""
    text = f"{body.get('name')} {body.get('state')}, revision {body.get('revision')}{why}"
    return Happening(at, str(body.get("device")), "config", text)


class Watch:
    """Turns changes of presence keys into events; pure. Fed with every entry in order, the known ones first."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        """`known`: devices of the inventory; who is not among them and appears is new."""
        self._states: dict[str, str] = dict.fromkeys(known, "absent")

    def learn(self, device: str, state: str) -> None:
        """What was so before the watch began: no event."""
        self._states[device] = state

    def take(self, device: str, state: str, at: datetime) -> Happening | None:
        """The event that this change is, if it is one. `state`: up, stopped, absent or forgotten."""
        before = self._states.get(device)
        if state == "forgotten":
            self._states.pop(device, None)
            return Happening(at, device, "expire", "forgotten") if before is not None else None
        self._states[device] = state
        if before == state:
            return None
        if state == "up":
            return Happening(at, device, "new" if before is None else "recover", _was(before))
        return Happening(at, device, "timeout" if state == "absent" else "stopped", _was(before))


def _was(before: str | None) -> str:
    return f"was {before}" if before else "never seen before"


def state_of(entry: Stored) -> str:
    """What a presence key says, as `Watch` takes it."""
    if forgotten(entry):
        return "forgotten"
    found = to_presence(entry)
    if found.expired:
        return "absent"
    return "up" if found.state == "up" else "stopped"


async def follow(hub: Hub) -> AsyncGenerator[Happening | None, None]:
    """Events of the fleet as they happen, for ever; None now and then, so that the reader can end."""
    bucket = layout.stream_of(subjects.BUCKET_PRESENCE)
    begin = len(f"$KV.{subjects.BUCKET_PRESENCE}.")
    watch = Watch(await hub.keys(subjects.BUCKET_DEVICES))
    last = await hub.last_sequence(bucket)
    async with hub.reader(bucket, deliver_policy="last_per_subject") as reader, aclosing(_entries(reader)) as entries:
        async for entry in entries:
            if entry is None:
                yield None
            elif entry.sequence <= last:
                watch.learn(entry.subject[begin:], state_of(entry))
            elif happening := watch.take(entry.subject[begin:], state_of(entry), entry.stored):
                yield happening


async def _entries(reader: Reader) -> AsyncGenerator[Stored | None, None]:
    while True:
        yield await reader.next(WAIT_SECONDS)
