"""`fleet config`: change desired configuration and watch devices take it up; look at what is, was and is reported."""

import asyncio
import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from agent.errors import FleetError, UsageError
from agent.fleet import editing, layers
from agent.fleet.ages import ago
from agent.fleet.client import Fleet, layer_of, now
from agent.fleet.configuration import Change, Entry, at_revision
from agent.fleet.convergence import FINAL, Convergence, Status
from agent.fleet.exits import Exit, worst
from agent.fleet.output import Output, counted
from agent.fleet.plans import Planned
from agent.payloads import rfc3339


async def get(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    if arguments.for_:
        return await _get_for(arguments, fleet, output)
    entries = await fleet.config(arguments.name)
    if arguments.all or arguments.group or arguments.device:
        layer = layer_of(arguments.group, arguments.device)
        entries = [entry for entry in entries if entry.layer == layer]
    if arguments.name and not entries:
        raise UsageError(f"no value of {arguments.name} in this layer: see `fleet config get` for all there are")
    _entries(entries, output, empty="no configuration yet: fleet config set NAME KEY=VALUE --all")
    return Exit.OK


def _entries(entries: list[Entry], output: Output, empty: str = "") -> None:
    moment = now()
    rows = [
        (
            entry.key,
            entry.revision,
            ago(entry.at, moment) if output.for_people else rfc3339(entry.at),
            entry.author,
            _shown(entry.value) if output.shape != "json" else entry.value,
        )
        for entry in entries
    ]
    output.table(("key", "revision", "changed", "author", "value"), rows, empty=empty)


def _shown(value: Any) -> str:
    return "(deleted)" if value is None else json.dumps(value, ensure_ascii=False)


async def _get_for(arguments: Namespace, fleet: Fleet, output: Output) -> Exit:
    if not arguments.name:
        raise UsageError("--for wants a NAME: fleet config get NAME --for ID")
    value, origins, revisions = await fleet.effective_config(arguments.name, arguments.for_)
    if output.shape == "json":
        output.object({"device": arguments.for_, "name": arguments.name, "value": value, "revisions": revisions})
        return Exit.OK
    rows = [(path, json.dumps(each, ensure_ascii=False), origins[path]) for path, each in layers.flat(value).items()]
    output.table(("key", "value", "from"), rows, empty=f"nothing: no layer that concerns {arguments.for_} has a value")
    return Exit.OK


async def explain(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    moment = now()
    rows = [
        (
            origin.path,
            json.dumps(origin.value, ensure_ascii=False) if output.shape != "json" else origin.value,
            origin.since.key,
            origin.since.revision,
            origin.since.author,
            ago(origin.since.at, moment) if output.for_people else rfc3339(origin.since.at),
        )
        for origin in await fleet.explain_config(arguments.name, arguments.id)
    ]
    nothing = f"nothing: no layer that concerns {arguments.id} has a value of {arguments.name}"
    output.table(("key", "value", "layer", "revision", "author", "changed"), rows, empty=nothing)
    return Exit.OK


async def set_(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    value, patch = desired(arguments)
    layer = {"group": arguments.group, "device": arguments.device}
    change = await fleet.set_config(arguments.name, value, patch=patch, force=arguments.force, **layer)
    return await _follow(arguments, fleet, output, stop, change)


def desired(arguments: Namespace) -> tuple[layers.Value, bool]:
    """The value that the command line (or file or stdin) gives, and whether it is laid on the old one."""
    given = [bool(arguments.values), arguments.file is not None, arguments.text is not None]
    if sum(given) != 1:
        raise UsageError("give the values once: KEY=VALUE words, a JSON object, --file FILE or --text FILE")
    if arguments.text is not None:
        return {"text": _content(arguments.text)}, False
    if arguments.file is not None:
        return layers.parse_document(_content(arguments.file), _source(arguments.file)), False
    first = arguments.values[0]
    if len(arguments.values) == 1 and first == "-":
        return layers.parse_document(_content("-"), _source("-")), False
    if len(arguments.values) == 1 and first.lstrip().startswith("{"):
        return layers.parse_document(first, "the value"), False
    return layers.parse_assignments(arguments.values), not arguments.replace


def _source(name: str) -> str:
    return "stdin" if name == "-" else name


def _content(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{_source(name)} is not UTF-8 text: only text can be configuration") from error


async def rm(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    layer = {"group": arguments.group, "device": arguments.device}
    change = await fleet.remove_config(arguments.name, arguments.keys, force=arguments.force, **layer)
    return await _follow(arguments, fleet, output, stop, change)


async def revert(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    layer = {"group": arguments.group, "device": arguments.device}
    if arguments.to_time:
        if arguments.to or arguments.all or any(layer.values()):
            raise UsageError("--to-time concerns every layer: give neither a layer nor --to")
        planned = await fleet.plan_moment(arguments.to_time, arguments.name)
        return await _carry_out(arguments, fleet, output, stop, planned)
    if not arguments.name or not (arguments.all or any(layer.values())):
        raise UsageError("name the item and its layer (--all, --group or --device), or go back with --to-time")
    change = await fleet.revert_config(arguments.name, arguments.to, force=arguments.force, **layer)
    return await _follow(arguments, fleet, output, stop, change)


async def apply(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    planned = await fleet.plan_folder(Path(arguments.file), prune=arguments.prune)
    return await _carry_out(arguments, fleet, output, stop, planned)


async def _carry_out(
    arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event, planned: list[Planned]
) -> Exit:
    """Show what is to change and, unless only the plan is wanted, make it and watch each change converge."""
    for each in planned:
        word = "create" if each.old is None else "delete" if each.new is None else "change"
        if output.shape == "json" and arguments.plan:
            output.object({"key": each.key, "action": word, "old": each.old, "new": each.new})
            continue
        (output.line if arguments.plan else output.note)(f"{word} {each.key}")
        for sign, path, value in layers.difference(each.old or {}, each.new or {}) if arguments.plan else ():
            output.line(f"  {sign} {path} = {json.dumps(value, ensure_ascii=False)}")
    if not planned:
        output.note("nothing to change: the bucket holds just that")
        return Exit.OK
    if arguments.plan:
        output.note(f"{counted(len(planned), 'change')} planned, none made")
        return Exit.OK
    codes = []
    for change in await fleet.carry_out(planned, force=arguments.force):
        if change.layer.kind == "schema":
            output.note(f"{change.key} revision {change.revision}")
        elif not stop.is_set():
            codes.append(await _follow(arguments, fleet, output, stop, change))
    return worst(*codes, Exit.INTERRUPTED) if stop.is_set() else worst(*codes)


async def edit(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    layer = layer_of(arguments.group, arguments.device)
    where = {"group": arguments.group, "device": arguments.device}
    held = {entry.layer: entry.value for entry in await fleet.config(arguments.name)}
    old = held.get(layer)
    text = json.dumps(old or {}, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    path = await editing.edit(text, f"{layer.key(arguments.name)}.json")
    try:
        edited = layers.parse_document(_content(str(path)), str(path))
        if edited == (old or {}):
            output.note(f"{layer.key(arguments.name)}: unchanged")
            editing.discard(path)
            return Exit.OK
        change = await fleet.replace_config(arguments.name, old, edited, **where)
    except FleetError as error:
        raise type(error)(f"{error}; nothing was written, your text is in {path}") from error
    editing.discard(path)
    return await _follow(arguments, fleet, output, stop, change)


async def _follow(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event, change: Change) -> Exit:
    """Say what was written and, unless detached, watch it converge."""
    if not change.changed:
        output.note(f"{change.key}: unchanged, still revision {change.revision}")
    for sign, path, value in layers.difference(change.old or {}, change.new or {}) if output.for_people else ():
        output.note(f"  {sign} {path} = {json.dumps(value, ensure_ascii=False)}")
    if arguments.detach:
        _finish(change, None, output)
        return Exit.OK
    state: Convergence | None = None
    async for state in fleet.converge(change, seconds=arguments.timeout, stop=stop):
        output.progress(f"{change.key} revision {change.revision}: {state.progress()}")
    return _finish(change, state, output, interrupted=stop.is_set())


def _finish(change: Change, state: Convergence | None, output: Output, *, interrupted: bool = False) -> Exit:
    states = state.states() if state else {}
    if output.shape == "json":
        output.object({"key": change.key, "revision": change.revision, "changed": change.changed, "devices": states})
    else:
        output.line(f"{change.key} revision {change.revision}")
    if state is None:
        output.note(f"not waiting: see `fleet config status {change.name}`")
        return Exit.OK
    for device, what in states.items():
        if error := state.error(device):
            output.note(f"{device} {what}: {error}")
    if interrupted:
        output.note(f"interrupted: the change stays; see `fleet config status {change.name}`")
    output.note(f"{counted(len(states), 'device')}: {state.progress()}{_names(states)}")
    if not states:
        output.note("no known device is in this layer yet: devices take the value up when they enrol")
    if states and set(states.values()) == {"no item"}:
        output.note(f"no device in this layer has an item {change.name!r}: check the name, and the devices' settings")
    return worst(state.exit_code(), Exit.INTERRUPTED) if interrupted else state.exit_code()


NAMED_MAX = 5  # devices named in the summary; the status table has them all


def _names(states: dict[str, str]) -> str:
    late = [f"{device} {what}" for device, what in states.items() if what not in ("applied", "released", "no item")]
    if not late:
        return ""
    more = f", and {len(late) - NAMED_MAX} more" if len(late) > NAMED_MAX else ""
    return f" ({', '.join(late[:NAMED_MAX])}{more})"


async def history(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    entries = await fleet.config_history(arguments.name, group=arguments.group, device=arguments.device)
    _entries(entries, output, empty=f"no history of {arguments.name} in this layer")
    return Exit.OK


async def diff(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    entries = await fleet.config_history(arguments.name, group=arguments.group, device=arguments.device)
    key = layer_of(arguments.group, arguments.device).key(arguments.name)
    if not entries:
        raise UsageError(f"{key} was never set: see `fleet config get`")
    new = at_revision(entries, arguments.to, key) if arguments.to else entries[-1]
    earlier = [entry for entry in entries if entry.revision <= new.revision]
    old = at_revision(earlier, arguments.from_, key)
    for sign, path, value in layers.difference(old.value or {}, new.value or {}):
        if output.shape == "json":
            output.object({"sign": sign, "key": path, "value": value})
        else:
            output.line(f"{sign} {path} = {json.dumps(value, ensure_ascii=False)}")
    output.note(f"{key}: revision {old.revision} to {new.revision}")
    return Exit.OK


async def status(arguments: Namespace, fleet: Fleet, output: Output, stop: asyncio.Event) -> Exit:
    found = await fleet.config_status(arguments.name, arguments.device)
    wanted = {entry.key: entry.revision for entry in await fleet.config(arguments.name)}
    known = {device.id: device for device in await fleet.devices()}
    rows, codes = [], []
    moment = now()
    for each in found:
        groups = known[each.device].groups if each.device in known else ()
        behind = is_behind(each, groups, wanted)
        codes.append(_code(each, behind))
        at = (ago(each.at, moment) if output.for_people else rfc3339(each.at)) if each.at else None
        newest: str | bool = ("behind" if behind else "yes") if output.for_people else not behind
        reason = f"overridden until {each.overridden_until}" if each.overridden_until and not each.error else each.error
        rows.append((each.device, each.name, each.state, each.revision, newest, at, reason, each.diff))
    columns = ("device", "name", "state", "revision", "newest", "reported", "error", "diff")
    shown = len(columns) - (output.shape != "json")  # a diff has lines, and a table's row is one
    output.table(columns[:shown], [row[:shown] for row in rows], empty="no reports yet")
    for each in found:
        if each.diff and output.for_people:
            output.note(f"{each.device} {each.name}: {each.error}\n{each.diff}")
    return worst(*codes)


def is_behind(status: Status, groups: tuple[str, ...], wanted: dict[str, int]) -> bool:
    """Whether the layers at the hub are other ones than those that the report was made with."""
    keys = [layer.key(status.name) for layer in layers.layers_of(status.device, groups)]
    present = {key: wanted[key] for key in keys if key in wanted}
    if not present:
        return False  # nothing is desired any more: what the device has stays
    outdated = any(status.revisions.get(key, 0) < revision for key, revision in present.items())
    return outdated or any(key not in present for key in status.revisions)


def _code(status: Status, behind: bool) -> Exit:
    if status.state in ("refused", "reverted", "drifted", "unreadable"):
        return Exit.FAILED
    return Exit.INCOMPLETE if behind or status.state not in FINAL else Exit.OK
