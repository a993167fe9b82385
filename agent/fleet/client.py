"""The fleet as an object: everything that the command line can do, for programs.

    from agent.fleet.client import Fleet

    async with Fleet.open(server="nats://hub:4222") as fleet:
        asking = await fleet.query("mem.percent > 80", select="host.name, mem.percent")
        async for reply in asking.replies():
            print(reply.device, reply.rows)
        print(asking.outcome.summary())

        change = await fleet.set_config("motd", {"text": "hello"}, group="lab")
        job = await fleet.run(["systemctl", "restart", "x"], on=["pi-1", "pi-2"])
        async for result in job.follow():
            print(result.device, result.state)

Every method raises FleetError (agent/errors.py) with a text fit for a person. Nothing is printed here. The command line
is a skin over this class: agent/fleet/cli.py.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import ConnectionFailed, QueryError, UsageError
from agent.fleet import layers, presence
from agent.fleet.layers import Layer, Value
from agent.fleet.presence import Device
from agent.fleet.settings import Connection

if TYPE_CHECKING:
    from agent.fleet.accounting import Outcome
    from agent.fleet.asking import Asking
    from agent.fleet.configuration import Change, Entry, Origin
    from agent.fleet.convergence import Convergence, Status
    from agent.fleet.hub import Hub
    from agent.fleet.inventory import Readings
    from agent.fleet.jobs import Job
    from agent.fleet.plans import Planned
    from agent.fleet.provision import Source, Step
    from agent.fleet.tracking import Result, Tracker
    from agent.fleet.watches import Difference, Picture, Registered
    from agent.payloads import Watch


@dataclass(frozen=True, slots=True)
class Running:
    """A command that was sent: `tracker` knows where it stands, `follow` waits for more."""

    fleet: "Fleet"
    tracker: "Tracker"
    devices: Mapping[str, Device]
    """The fleet as it was known when the command was sent."""

    asked: "Outcome | None" = None
    """The account of the query that chose the devices, when a filter did."""

    @property
    def command(self) -> str:
        return self.tracker.command

    async def follow(self, seconds: float = 90.0, stop: asyncio.Event | None = None) -> AsyncIterator["Result"]:
        """Each change of state, until all devices that are up have an outcome or `seconds` are over."""
        from agent.fleet import jobs

        async for result in jobs.follow(self.fleet.hub, self.tracker, seconds=seconds, stop=stop):
            yield result


class Fleet:
    """An open connection to one fleet's hub. Make it with `open`."""

    def __init__(self, hub: "Hub") -> None:
        self.hub = hub

    @classmethod
    @asynccontextmanager
    async def open(cls, connection: Connection | None = None, **settings: str) -> AsyncIterator["Fleet"]:
        """Connect, and close at the end of the block. `settings` are the fields of Connection.

        Raises:
            ConnectionFailed: says which server and why.
        """
        from agent.fleet.hub import connect

        hub = await connect(connection or Connection(**settings))
        try:
            yield cls(hub)
        finally:
            await hub.close()

    # -- the hub ----------------------------------------------------------------------------------------------------

    async def init(self) -> list["Step"]:
        """Create the fleet's streams and buckets; keep those that are there."""
        from agent.fleet import provision

        return await provision.init(self.hub)

    async def hub_domain(self) -> str:
        """The hub's own JetStream domain, empty when it has none."""
        from agent.fleet import provision

        return await provision.hub_domain(self.hub)

    async def add_site(self, domain: str) -> list["Step"]:
        """Collect results and telemetry of the site with this JetStream domain."""
        from agent.fleet import provision

        return await provision.add_site(self.hub, domain)

    async def remove_site(self, domain: str) -> list["Step"]:
        """Stop collecting from the site; what came stays."""
        from agent.fleet import provision

        return await provision.remove_site(self.hub, domain)

    async def sites(self) -> list["Source"]:
        """Every site collected from, and how far."""
        from agent.fleet import provision

        return await provision.sites(self.hub)

    # -- devices ----------------------------------------------------------------------------------------------------

    async def devices(
        self, *, group: str | None = None, tags: Mapping[str, str] | None = None, state: str | None = None
    ) -> list[Device]:
        """Everyone known, by id, that meets every condition given."""
        from agent.fleet import inventory

        return presence.select(await inventory.read_devices(self.hub), group=group, tags=tags, state=state)

    async def devices_if_known(self) -> list[Device] | None:
        """Everyone known; None at a site whose hub cannot be reached, where devices answer all the same."""
        from agent.fleet.reading import MissingError

        try:
            return await self.devices()
        except MissingError:  # there is a JetStream, and it is not the fleet's: a mistake to be told
            raise
        except ConnectionFailed:
            return None

    async def device(self, device_id: str) -> Device:
        """One known device, or UsageError with the nearest known id."""
        from leafnode.base.nearest import hint

        known = {device.id: device for device in await self.devices()}
        if device_id not in known:
            raise UsageError(f"no device {device_id!r} is known{hint(device_id, known)}: see `fleet ls`")
        return known[device_id]

    async def telemetry(self) -> dict[str, "Readings"]:
        """The newest reading of every metric of every device."""
        from agent.fleet import inventory

        return await inventory.read_telemetry(self.hub)

    async def query(
        self,
        where: str | None = None,
        *,
        select: str | None = None,
        sql: str | None = None,
        group: str | None = None,
        on: Iterable[str] | None = None,
        limit: int = 100,
        timeout: float = 5.0,  # noqa: ASYNC109 (the devices' time for an answer, not a limit on this call)
        stop: asyncio.Event | None = None,
        known: Iterable[Device] | None = None,
        blind: bool = False,
        explain: bool = False,
        role: str = "",
    ) -> "Asking":
        """A question ready to be asked: iterate its `replies()`, then read its `outcome`.

        `known` spares reading the fleet's buckets again, `blind` trying to; `stop` ends the asking early. `explain`:
        each device answers what the parts of `where` came to (rows of depth, part, result, values as JSON). `role`: ask
        on this role's subjects (default: the connection's).
        """
        from agent.fleet.asking import Asking, Question

        chosen = tuple(on) if on is not None else None
        question = Question(
            where=where,
            select=select,
            sql=sql,
            group=group,
            on=chosen,
            limit=limit,
            timeout=timeout,
            explain=explain,
            role=role or self.hub.connection.role,
        )
        if known is None and not blind:
            known = await self.devices_if_known()
        return Asking(self.hub, question, known, stop)

    # -- standing queries -------------------------------------------------------------------------------------------

    async def watches(self) -> list["Registered"]:
        """Every standing query that is registered."""
        from agent.fleet import watches

        return await watches.registered(self.hub)

    async def add_watch(self, name: str, watch: "Watch") -> int:
        """Register a standing query, or replace the one of this name; its revision."""
        from agent.fleet import watches

        return await watches.add(self.hub, name, watch)

    async def remove_watch(self, name: str) -> None:
        """Devices end it when they learn of it."""
        from agent.fleet import watches

        await watches.remove(self.hub, name)

    async def watched(self, name: str) -> tuple["Registered", "Picture"]:
        """A standing query and its state now over all devices, as far as the hub has heard."""
        from agent.fleet import watches

        watch = await watches.one(self.hub, name)
        return watch, await watches.picture(self.hub, watch)

    async def follow_watch(self, name: str) -> AsyncGenerator["Difference | None", None]:
        """What devices tell of a standing query, as it comes, for ever; None now and then, so that a reader can end."""
        from agent.fleet import watches

        watch = await watches.one(self.hub, name)
        async with aclosing(watches.follow(self.hub, watch)) as differences:
            async for difference in differences:
                yield difference

    # -- devices, one by one ----------------------------------------------------------------------------------------

    async def info(self, device_id: str, timeout: float = 5.0) -> dict[str, Any] | None:  # noqa: ASYNC109
        """Everything a device tells about itself now; None when it does not answer."""
        asking = await self.query(on=[device_id], timeout=timeout)
        found: dict[str, Any] | None = None
        async for reply in asking.replies():
            if reply.error:
                raise QueryError(f"{device_id}: {reply.error}")
            found = dict(reply.info or {})
        return found

    # -- configuration ----------------------------------------------------------------------------------------------

    async def config(self, name: str | None = None) -> list["Entry"]:
        """The current value of every layer (of NAME)."""
        from agent.fleet import configuration

        return await configuration.read(self.hub, name)

    async def effective_config(self, name: str, device_id: str) -> tuple[Value, dict[str, str], dict[str, int]]:
        """What NAME comes to on a device: value, the bucket key that decided each path, revisions merged."""
        from agent.fleet import configuration

        return await configuration.effective(self.hub, name, await self.device(device_id))

    async def explain_config(self, name: str, device_id: str) -> list["Origin"]:
        """For each leaf of NAME on a device: its value, the layer that decides, and the revision that put it there."""
        from agent.fleet import configuration

        return await configuration.explain(self.hub, name, await self.device(device_id))

    async def set_config(
        self,
        name: str,
        value: Value,
        *,
        group: str | None = None,
        device: str | None = None,
        patch: bool = False,
        force: bool = False,
    ) -> "Change":
        """Make `value` the layer's (with `patch`, lay it on what is there). Without group and device: the whole fleet.

        Raises:
            ChangedMeanwhileError: someone else changed the layer at the same time; nothing was written.
            UsageError: the schema forbids it, unless `force`; nothing was written.
        """
        from agent.fleet import configuration

        def alter(old: Value | None) -> Value:
            return layers.set_paths(old or {}, value) if patch else value

        return await configuration.change(self.hub, name, layer_of(group, device), alter, force=force)

    async def remove_config(
        self,
        name: str,
        paths: Sequence[str] = (),
        *,
        group: str | None = None,
        device: str | None = None,
        force: bool = False,
    ) -> "Change":
        """Delete the layer's value of NAME, or only the dotted `paths` in it."""
        from agent.fleet import configuration

        layer = layer_of(group, device)

        def alter(old: Value | None) -> Value | None:
            if old is None:
                raise UsageError(f"{layer.key(name)} has no value: see `fleet config get`")
            return layers.without(old, paths) if paths else None

        return await configuration.change(self.hub, name, layer, alter, force=force)

    async def revert_config(
        self,
        name: str,
        revision: int | None = None,
        *,
        group: str | None = None,
        device: str | None = None,
        force: bool = False,
    ) -> "Change":
        """Put the value of an earlier revision (the last but one) back, as a new revision."""
        from agent.fleet import configuration

        layer = layer_of(group, device)
        entries = await configuration.history(self.hub, name, layer)
        wanted = configuration.at_revision(entries, revision, layer.key(name))
        return await configuration.change(self.hub, name, layer, lambda old: wanted.value, force=force)

    async def replace_config(
        self, name: str, old: Value | None, new: Value | None, *, group: str | None = None, device: str | None = None
    ) -> "Change":
        """Make the layer's value `new` if it is still `old`, and if the schema allows it."""
        from agent.fleet import configuration
        from agent.fleet.hub import ChangedMeanwhileError

        layer = layer_of(group, device)

        def alter(now: Value | None) -> Value | None:
            if now != old:
                raise ChangedMeanwhileError(f"{layer.key(name)} was changed by someone else meanwhile")
            return new

        return await configuration.change(self.hub, name, layer, alter)

    async def plan_folder(self, folder: Path, *, prune: bool = False) -> list["Planned"]:
        """What has to change for the bucket to hold what the files in `folder` say; with `prune`, nothing else."""
        from agent.fleet import plans

        entries = await self.config()
        return plans.differences(entries, plans.read_folder(folder, entries, prune=prune))

    async def plan_moment(self, moment: datetime, name: str | None = None) -> list["Planned"]:
        """What has to change for the bucket to hold what it held at `moment`."""
        from agent.fleet import plans

        return plans.differences(await self.config(), await plans.at_time(self.hub, moment, name))

    async def carry_out(self, planned: list["Planned"], *, force: bool = False) -> list["Change"]:
        """Make the changes of a plan; every one is judged by its schema before the first is written."""
        from agent.fleet import plans

        return await plans.carry_out(self.hub, planned, force=force)

    async def config_history(self, name: str, *, group: str | None = None, device: str | None = None) -> list["Entry"]:
        """The revisions of a layer that the bucket still keeps, oldest first."""
        from agent.fleet import configuration

        return await configuration.history(self.hub, name, layer_of(group, device))

    async def config_status(self, name: str | None = None, device: str | None = None) -> list["Status"]:
        """What devices report."""
        from agent.fleet import configuration

        return await configuration.statuses(self.hub, name, device)

    async def converge(
        self, change: "Change", *, seconds: float = 60.0, stop: asyncio.Event | None = None
    ) -> AsyncIterator["Convergence"]:
        """How devices take up a change: the same object after each report, until it settled or time is over."""
        from agent.fleet import configuration

        known = await self.devices()
        managed = {status.device for status in await self.config_status(change.name)}
        unsure = [each for each in known if change.layer.concerns(each) and each.id not in managed]
        having, itemless = await self._asked_for_item(change.name, unsure, stop)
        async for state in configuration.follow(
            self.hub, change, known, managed=managed | having, itemless=itemless, seconds=seconds, stop=stop
        ):
            yield state

    async def _asked_for_item(
        self, name: str, devices: Sequence[Device], stop: asyncio.Event | None
    ) -> tuple[set[str], set[str]]:
        """Who of `devices` says that it has a configuration item NAME, and who that it has none."""
        from agent.fleet.configuration import ITEM_SECONDS

        up = [device.id for device in devices if device.state == "up"]
        having: set[str] = set()
        itemless: set[str] = set()
        if up:
            sql = f"SELECT name FROM config WHERE name = '{name}'"  # a checked name: no quotes in it
            asking = await self.query(sql=sql, on=up, timeout=ITEM_SECONDS, stop=stop, known=devices)
            async for reply in asking.replies():
                if reply.matched is not None:
                    (having if reply.rows else itemless).add(reply.device)
        return having, itemless

    # -- commands ---------------------------------------------------------------------------------------------------

    async def run(
        self,
        argv: Sequence[str],
        *,
        on: Iterable[str] | None = None,
        group: str | None = None,
        where: str | None = None,
        everyone: bool = False,
        query_timeout: float = 5.0,
        **terms: Any,
    ) -> Running:
        """Send a command to the devices named, of a group, matching a filter now, or to all. `terms`: fields of
        payloads.Command, e.g. timeout_s, stdin, on_unknown.

        Returns once every command is stored at the hub. Absent devices get it when they are back.
        """
        from agent.fleet import jobs
        from agent.fleet.tracking import Tracker

        if sum((on is not None, group is not None, where is not None, everyone)) != 1:
            raise UsageError("say to whom: one of --on ID, --group GROUP, --where FILTER, --all")
        known = await self.devices()
        asked = None
        if where is not None:
            ids, asked = await self._matching(where, query_timeout)
        elif on is not None:
            ids = list(dict.fromkeys(on))
        else:
            ids = [device.id for device in presence.select(known, group=group)]
        command = await jobs.send(self.hub, ids, argv, **terms)
        up = {device.id for device in known if device.state == "up"}
        return Running(self, Tracker(command, ids, up), {device.id: device for device in known}, asked)

    async def _matching(self, where: str, seconds: float) -> tuple[list[str], "Outcome"]:
        asking = await self.query(where, timeout=seconds)
        matching = []
        async for reply in asking.replies():
            if reply.error:
                raise QueryError(f"the filter does not work on {reply.device}: {reply.error}. Nothing was sent")
            if reply.matched:
                matching.append(reply.device)
        if not matching:
            raise UsageError(f"no device matches {where!r} ({asking.outcome.summary()}): nothing was sent")
        return sorted(matching), asking.outcome

    async def commands(self, since: datetime, limit: int = 20) -> list["Job"]:
        """Commands that are queued or were heard of since then, the newest last."""
        from agent.fleet import jobs

        return await jobs.recent(self.hub, since, limit)

    async def results(self, command: str, device: str | None = None) -> list["Result"]:
        """Where a command stands on every device it was sent to."""
        from agent.fleet import jobs

        return await jobs.results(self.hub, command, device)


def layer_of(group: str | None, device: str | None) -> Layer:
    """The layer that group and device name: at most one may be given; neither is the whole fleet."""
    if group and device:
        raise UsageError("one layer at a time: --group or --device")
    if group:
        return Layer("group", group)
    return Layer("device", device) if device else Layer("all")


def now() -> datetime:
    return datetime.now(UTC)
