"""The agent as a process, against a stock nats-server: queries, presence, inventory, telemetry, a site."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import subjects
from agent.bucket import Bucket, Entry
from agent.bus import Bus
from agent.fleet import layout
from agent.payloads import CommandResult, Inventory, Presence, QueryReply, QueryRequest, Reading
from tests.agent import fleet_world as world
from tests.support.servers import PYTHON, Broker, Process, leafnode, stock_hub

QUICK = {"telemetry": "interval_s = 0.2", "presence": "interval_s = 1"}


async def test_the_whole_life_of_a_device_at_a_hub(tmp_path: Path) -> None:
    async with world.hub(tmp_path / "hub") as (broker, bus):
        with world.agent(tmp_path / "pi-7", broker.url, **QUICK):
            document = QueryReply.from_bytes((await bus.request(subjects.DEVICE_INFO, b"")).data)
            assert document.matched is True
            assert document.info
            assert document.info["tags"] == {"site": "roof"}
            assert document.info["groups"] == ["pumps", "north"]
            assert document.info["agent"]["device"] == "pi-7"

            text = b"os.name <> '' AND mem.percent >= 0 AND tag.site = 'roof'"
            found = QueryReply.from_bytes((await bus.request(subjects.DEVICE_INFO, text)).data)
            assert (found.matched, found.columns) == (True, ("os.name", "mem.percent", "tag.site"))

            narrow = QueryRequest(id="q1", sql="SELECT name FROM groups ORDER BY 1")
            for subject in (subjects.query_group("pumps"), subjects.query_device("pi-7"), subjects.QUERY_ALL):
                reply = QueryReply.from_bytes((await bus.request(subject, narrow.to_bytes())).data)
                assert (reply.id, reply.rows) == ("q1", (("north",), ("pumps",)))

            absent = QueryRequest(where="os.name = 'Plan 9'")
            reply = QueryReply.from_bytes((await bus.request(subjects.QUERY_ALL, absent.to_bytes())).data)
            assert (reply.matched, reply.rows) == (False, None)
            quiet = [m async for m in bus.request_many(subjects.QUERY_ALL, b"os.name = 'Plan 9'", deadline_s=0.5)]
            assert quiet == []
            wrong = QueryReply.from_bytes((await bus.request(subjects.QUERY_ALL, b"oss.name = 1")).data)
            assert (wrong.matched, wrong.error) == (None, "no such column: oss.name; did you mean 'os.name'?")
            future = QueryReply.from_bytes((await bus.request(subjects.QUERY_ALL, b'{"v": 2}')).data)
            assert future.error
            assert "'v'" in future.error

            service = json.loads((await bus.request("$SRV.INFO.fleet-agent", b"")).data)
            assert service["metadata"] == {"device": "pi-7"}

            devices = Bucket(bus.local, subjects.BUCKET_DEVICES)
            entry = await world.eventually(lambda: devices.get("pi-7"), "inventory")
            inventory = Inventory.from_bytes(entry.value)
            assert (inventory.groups, inventory.tags) == (("pumps", "north"), {"site": "roof"})
            assert inventory.facts["cpu"]["count"] > 0

            stored = await world.eventually(
                lambda: bus.local.message(subjects.STREAM_TELEMETRY, last_of="tele.pi-7.mem"), "telemetry"
            )
            assert Reading.from_bytes(stored.data).values["percent"] > 0


async def test_a_stopped_device_says_so_and_a_killed_one_leaves_a_marker(tmp_path: Path) -> None:
    async with world.hub(tmp_path / "hub") as (broker, bus):
        presence = Bucket(bus.local, subjects.BUCKET_PRESENCE)
        device = world.agent(tmp_path / "pi-7", broker.url, **QUICK)
        async with contextlib.aclosing(presence.watch()) as entries, asyncio.timeout(world.PATIENCE_S):

            async def until(state: str) -> Entry:
                async for entry in entries:
                    if entry and state == (Presence.from_bytes(entry.value).state if entry.is_put else entry.operation):
                        return entry
                raise AssertionError("a watch does not end")

            with device:
                await until("up")
            await until("down")
            assert device.child
            assert device.child.returncode == 0
            with device.start():
                await until("up")
                device.kill()
            assert (await until("expired")).key == "pi-7"


async def test_an_agent_without_a_broker_waits_and_goes_on_when_it_comes(tmp_path: Path) -> None:
    port = world.free_port()
    device = world.agent(tmp_path / "pi-7", f"nats://127.0.0.1:{port}")
    device.ready = "broker not reachable"
    with device, world.stock_hub(tmp_path / "hub", port=port, config=world.jetstream(tmp_path / "hub")) as broker:
        async with await world.Bus.open(world.BusOptions(urls=(broker.url,), name="operator")) as bus:
            request = QueryRequest(select="agent.device").to_bytes()
            reply = await world.eventually(lambda: bus.request(subjects.QUERY_ALL, request), "an answer")
            assert QueryReply.from_bytes(reply.data).rows == (("pi-7",),)


LEAVES = pytest.mark.parametrize("leaf_broker", [stock_hub, leafnode], ids=["nats-server", "leafnode"])
AT_SITE = {"nats": 'hub_domain = "hub"', **QUICK}


@LEAVES
async def test_an_agent_at_a_site_uses_the_site_for_what_must_not_be_lost(
    tmp_path: Path, leaf_broker: Callable[..., Broker]
) -> None:
    async with world.site(tmp_path, leaf_broker) as (_, leaf, bus):
        item = f'path = "{tmp_path / "motd"}"\nformat = "text"'
        await world.desire(bus, "all.motd", {"text": "hello"})
        with world.agent(tmp_path / "pi-7", leaf.url, config__motd=item, **AT_SITE):
            await world.status(bus, "motd", "applied")
            assert (tmp_path / "motd").read_text() == "hello"
            reply = await world.eventually(lambda: bus.request(subjects.QUERY_ALL, b"os.name <> ''"), "an answer")
            assert QueryReply.from_bytes(reply.data).matched
            each = world.command("echo", "done")
            await world.send(bus, each)
            at_site = bus.domain("site")
            subject = subjects.result("pi-7", each.id)

            async def outcome_at_site() -> bool:
                stored = await at_site.message(subjects.STREAM_RESULTS, last_of=subject)
                return stored is not None and CommandResult.from_bytes(stored.data).stdout == "done\n"

            await world.eventually(outcome_at_site, "the outcome is stored at the site")
            assert await bus.local.message(subjects.STREAM_RESULTS, last_of=subject) is None
            await world.eventually(lambda: at_site.message(subjects.STREAM_TELEMETRY, last_of="tele.pi-7.cpu"), "cpu")
            assert await bus.local.message(subjects.STREAM_TELEMETRY, last_of="tele.pi-7.cpu") is None
            await world.eventually(lambda: nothing_waits(bus), "the command is acknowledged")


async def nothing_waits(bus: Bus) -> bool:
    return await world.waiting(bus) == 0


@LEAVES
async def test_a_site_works_alone_and_goes_on_with_the_hub_afterwards(
    tmp_path: Path, leaf_broker: Callable[..., Broker]
) -> None:
    async with world.site(tmp_path, leaf_broker) as (hub, leaf, bus):
        gate, path = tmp_path / "gate", tmp_path / "motd"
        item = f'path = "{path}"\nformat = "text"'
        await world.desire(bus, "all.motd", {"text": "hello"})
        with world.agent(tmp_path / "pi-7", leaf.url, config__motd=item, **AT_SITE) as device:
            await world.status(bus, "motd", "applied")
            each = world.command("sh", "-c", f"touch {gate}.in; while [ ! -e {gate} ]; do sleep 0.05; done; echo done")
            await world.send(bus, each)
            await world.eventually(lambda: exists(Path(f"{gate}.in")), "the command runs")
            hub.kill()
            gate.touch()
            await world.eventually(
                lambda: says(device, f"command finished id={each.id}"), "it finished without the hub"
            )
            async with await Bus.open(world.BusOptions(urls=(leaf.url,), name="at the site")) as site:
                reply = await site.request(subjects.query_device("pi-7"), b"EXISTS (SELECT 1 FROM command)")
                assert QueryReply.from_bytes(reply.data).matched
                assert path.read_text() == "hello"
            hub.start()
            await world.eventually(lambda: nothing_waits(bus), "the command is acknowledged")
            subject = subjects.result("pi-7", each.id)
            stored = await bus.domain("site").message(subjects.STREAM_RESULTS, last_of=subject)
            assert stored
            assert CommandResult.from_bytes(stored.data).stdout == "done\n"
            revision = await world.desire(bus, "device.pi-7.motd", {"text": "back"})
            await world.status(bus, "motd", "applied", revision)
            assert path.read_text() == "back"


async def exists(path: Path) -> bool:
    return path.exists()


async def says(device: Process, words: str) -> bool:
    return words in device.output()


async def test_two_agents_with_one_id_notice_each_other(tmp_path: Path) -> None:
    async with world.hub(tmp_path / "hub") as (broker, _):
        first = world.agent(tmp_path / "one", broker.url, **QUICK)
        second = world.agent(tmp_path / "two", broker.url, **QUICK)

        async def noticed() -> bool:
            return all("another agent has our device id" in device.log.read_text() for device in (first, second))

        with first, second:
            await world.eventually(noticed, "both say so")


async def test_a_second_agent_does_not_start_in_a_state_directory_in_use(tmp_path: Path) -> None:
    async with world.hub(tmp_path / "hub") as (broker, _):
        with world.agent(tmp_path / "pi-7", broker.url, **QUICK):
            second = await asyncio.create_subprocess_exec(
                *(PYTHON, "-m", "agent", "-c", str(tmp_path / "pi-7" / "agent.toml")), stderr=asyncio.subprocess.PIPE
            )
            _, said = await second.communicate()
    assert second.returncode == 2
    assert b"is in use by another fleet-agent" in said


async def test_a_hub_with_a_new_store_is_told_everything_again(tmp_path: Path) -> None:
    """Without a restart of the site: inventory and status once more, and the copy of the new configuration."""
    motd = f'path = "{tmp_path / "motd"}"\nformat = "text"'
    async with world.site(tmp_path, leaf_broker=leafnode) as (_, leaf, bus):
        config = Bucket(bus.local, subjects.BUCKET_CONFIG)
        devices = Bucket(bus.local, subjects.BUCKET_DEVICES)
        domain = 'hub_domain = "hub"'
        with world.agent(tmp_path / "pi-7", leaf.url, nats=domain, config__motd=motd, **QUICK) as device:
            for number in range(3):
                await config.put("all.motd", b'{"text": "old %d"}' % number)
            await world.status(bus, "motd", "applied", 3)
            await world.eventually(lambda: devices.get("pi-7"), "inventory")
            for stream in layout.streams():
                await bus.local.api(f"STREAM.DELETE.{stream['name']}")
            for stream in layout.streams():
                await bus.local.ensure_stream(stream)
            await config.put("all.motd", b'{"text": "new"}')
            await world.eventually(lambda: devices.get("pi-7"), "inventory again")

            async def is_new() -> bool:
                return (tmp_path / "motd").read_text() == "new"

            await world.eventually(is_new, "the new configuration")
            assert "the hub has a new store" in device.log.read_text()
