"""`fleet ls`, `query`, `info` and `top` with a real hub and devices that do as they are told."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from agent.fleet.client import Fleet
from agent.fleet.exits import Exit
from tests.agent.fleet.conftest import DEADLINE_SECONDS, Cli
from tests.agent.fleet.fake_device import FakeDevice
from tests.support.servers import Broker


async def left(url: str, device: str, **about: Any) -> None:
    """A device that was there and said good-bye."""
    async with FakeDevice(url, device, **about) as gone:
        await gone.present("down")


def rows(*values: list[Any]) -> Any:
    return lambda query: {"matched": True, "columns": ["host.name", "mem.percent"], "rows": list(values)}


async def test_ls_shows_everyone(fleet: Cli, hub: Broker) -> None:
    assert (await fleet("ls")).err == "no devices yet: start fleet-agent on one, and look again\n"
    await left(hub.url, "pi-3", groups=("lab",))
    async with (
        FakeDevice(hub.url, "pi-1", groups=("lab",), tags={"site": "roof"}),
        FakeDevice(hub.url, "pi-2", tags={"site": "cellar"}),
    ):
        shown = await fleet("ls")
        assert shown.code is Exit.OK
        assert shown.lines[0].split() == ["DEVICE", "STATE", "SEEN", "GROUPS", "TAGS", "OS", "AGENT"]
        assert "site=roof" in shown.lines[1]
        assert shown.last == "3 devices: 2 up, 1 stopped"
        assert [each["device"] for each in (await fleet("ls", "--group", "lab", "--json")).objects] == ["pi-1", "pi-3"]
        assert [each["device"] for each in (await fleet("ls", "--state", "stopped", "--json")).objects] == ["pi-3"]
        tagged = await fleet("ls", "--tag", "site=roof", "--csv")
        assert tagged.lines[0] == "device,state,seen,groups,tags,os,agent"
        assert [line.split(",")[0] for line in tagged.lines[1:]] == ["pi-1"]


async def test_a_device_whose_presence_expires_is_absent_and_remembered(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1") as device, Fleet.open(server=hub.url) as library:
        await device.present("up", ttl="1s")
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (await library.devices())[0].state == "up":
                await asyncio.sleep(0.05)
        [found] = (await fleet("ls", "--json")).objects
        assert (found["device"], found["state"]) == ("pi-1", "absent")
        assert found["seen"]


async def test_query_accounts_for_everyone(fleet: Cli, hub: Broker) -> None:
    await left(hub.url, "pi-4")
    async with (
        FakeDevice(hub.url, "pi-1", answer=rows(["one", 81.5])),
        FakeDevice(hub.url, "pi-2", answer=lambda query: {"matched": False}),
        FakeDevice(hub.url, "pi-3", answer=lambda query: {"matched": None, "error": "no such column: oss.name"}),
    ):
        ended = await fleet("query", "mem.percent > 80", "--select", "host.name, mem.percent")
    assert ended.code is Exit.FAILED
    assert ended.lines[0].split() == ["DEVICE", "HOST.NAME", "MEM.PERCENT"]
    assert ended.lines[1].split() == ["pi-1", "one", "81.5"]
    assert len(ended.lines) == 2
    assert "pi-3: no such column: oss.name" in ended.err
    assert ended.last.startswith("1 matched, 1 unmatched, 1 errored, 1 absent (pi-4, stopped ")


async def test_query_with_one_absent_device_is_incomplete(fleet: Cli, hub: Broker) -> None:
    await left(hub.url, "pi-2")
    async with FakeDevice(hub.url, "pi-1", answer=rows(["one", 1])) as device:
        ended = await fleet("query", "mem.percent > 80", "--rows", "7", "--timeout", "3")
        assert ended.code is Exit.INCOMPLETE
        assert ended.last.startswith("1 matched, 0 unmatched, 0 errored, 1 absent (pi-2, stopped ")
        [query] = device.queries
        assert query["where"] == "mem.percent > 80"
        assert (query["limit"], query["deadline_ms"], query["quiet"], query["v"]) == (7, 3000, False, 1)


async def test_query_ends_as_soon_as_everyone_has_answered(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1"), FakeDevice(hub.url, "pi-2"):
        async with asyncio.timeout(DEADLINE_SECONDS):
            ended = await fleet("query", "x", "--timeout", "1h")
        assert ended.code is Exit.OK
        assert ended.last == "2 matched, 0 unmatched, 0 errored, 0 absent"


async def test_a_silent_device_is_said_to_be_silent(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1", answer=lambda query: None):
        ended = await fleet("query", "x", "--timeout", "0.5")
    assert ended.code is Exit.INCOMPLETE
    assert ended.last == "0 matched, 0 unmatched, 0 errored, 1 absent (pi-1, up but silent for 0.5 s)"


async def test_query_of_some_wakes_nobody_else(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1", groups=("lab",)) as one, FakeDevice(hub.url, "pi-2") as two:
        group = await fleet("query", "x", "--group", "lab", "--json")
        assert group.objects == [{"device": "pi-1", "host.name": "pi-1"}]
        assert group.last == "1 matched, 0 unmatched, 0 errored, 0 absent"
        some = await fleet("query", "x", "--on", "pi-2,pi-9", "--csv")
        assert some.lines == ["device,host.name", "pi-2,pi-2"]
        assert some.last == "1 matched, 0 unmatched, 0 errored, 1 absent (pi-9, never seen)"
        assert (len(one.queries), len(two.queries)) == (1, 1)


async def test_sql_brings_many_rows_and_says_when_cut(fleet: Cli, hub: Broker) -> None:
    def answer(query: dict[str, Any]) -> dict[str, Any]:
        assert query["sql"] == "SELECT name FROM net"
        return {"matched": True, "columns": ["name"], "rows": [["eth0"], ["wlan0"]], "truncated": True}

    async with FakeDevice(hub.url, "pi-1", answer=answer):
        ended = await fleet("query", "--sql", "SELECT name FROM net", "--json")
    assert ended.objects == [{"device": "pi-1", "name": "eth0"}, {"device": "pi-1", "name": "wlan0"}]
    assert "pi-1 has more rows than it sent: raise --rows" in ended.err


async def test_a_query_of_nothing_or_of_too_much_is_a_usage_error(fleet: Cli) -> None:
    nothing = await fleet("query")
    assert nothing.code is Exit.USAGE
    assert "ask something" in nothing.err
    both = await fleet("query", "x", "--sql", "SELECT 1")
    assert both.code is Exit.USAGE
    assert "--sql is a whole statement" in both.err


async def test_ctrl_c_prints_what_came(fleet: Cli, hub: Broker) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(FakeDevice(hub.url, "pi-1"))
        await stack.enter_async_context(FakeDevice(hub.url, "pi-2", answer=lambda query: None))
        async with fleet.started("query", "x", "--timeout", "1h") as process, asyncio.timeout(DEADLINE_SECONDS):
            assert process.stdout is not None
            await process.stdout.readline()
            row = await process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
    assert row.split() == [b"pi-1", b"pi-1"]
    assert process.returncode == Exit.INTERRUPTED
    assert b"interrupted: this is what had come" in err
    assert b"1 matched, 0 unmatched, 0 errored, 1 absent (pi-2, up but silent" in err


async def test_info_is_live_or_from_the_inventory(fleet: Cli, hub: Broker) -> None:
    info = {"os": {"name": "Linux"}, "mem": {"percent": 12.5}}
    async with FakeDevice(hub.url, "pi-1", info=info, groups=("lab",)):
        shown = await fleet("info", "pi-1")
        assert shown.code is Exit.OK
        assert ["mem.percent", "12.5"] in [line.split() for line in shown.lines]
        [document] = (await fleet("info", "pi-1", "--json")).objects
        assert document["live"] is True
        assert document["info"]["mem"] == {"percent": 12.5}
    gone = await fleet("info", "pi-1", "--json")
    assert gone.code is Exit.INCOMPLETE
    assert gone.objects[0]["live"] is False
    assert "pi-1 does not answer" in gone.err
    unknown = await fleet("info", "pi-11")
    assert unknown.code is Exit.USAGE
    assert "did you mean 'pi-1'" in unknown.err


async def test_top_once_shows_the_newest_readings(fleet: Cli, hub: Broker) -> None:
    await left(hub.url, "pi-2")
    async with FakeDevice(hub.url, "pi-1") as device:
        await device.telemetry("cpu", {"percent": 99.0})
        await device.telemetry("cpu", {"percent": 12.5})
        await device.telemetry("load", {"m1": 0.5, "m5": 9.0})
        await device.telemetry("temperature", {"cpu": 40.0, "gpu": 51.5})
        shown = await fleet("top", "--once")
        assert shown.code is Exit.OK
        assert shown.lines[0].split()[:4] == ["DEVICE", "STATE", "SEEN", "CPU"]
        one, two = (await fleet("top", "--once", "--json")).objects
        assert (one["device"], one["cpu"], one["load"], one["mem"]) == ("pi-1", 12.5, 0.5, None)
        assert one["temperature"] == 51.5
        assert (two["device"], two["state"], two["cpu"]) == ("pi-2", "stopped", None)


async def test_top_goes_on_until_ctrl_c(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1"):
        async with fleet.started("top", "--json", "--interval", "0.1") as process, asyncio.timeout(DEADLINE_SECONDS):
            assert process.stdout is not None
            for _ in range(3):
                assert b'"device": "pi-1"' in await process.stdout.readline()
            process.send_signal(signal.SIGINT)
            await process.communicate()
        assert process.returncode == Exit.OK


# After the rows


def versions(*values: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda query: {"matched": True, "columns": ["version"], "rows": [[value] for value in values]}


async def test_answers_are_reduced_to_one_table(fleet: Cli, hub: Broker) -> None:
    async with (
        FakeDevice(hub.url, "pi-1", answer=versions("12")),
        FakeDevice(hub.url, "pi-2", answer=versions("12")),
        FakeDevice(hub.url, "pi-3", answer=versions("13", None)),
    ):
        asked = ("query", "--select", "os.version", "--json")
        ended = await fleet(*asked, "--reduce", "SELECT version, count(*) AS n FROM r GROUP BY 1 ORDER BY 2 DESC, 1")
        assert ended.objects == [{"version": "12", "n": 2}, {"version": None, "n": 1}, {"version": "13", "n": 1}]
        assert ended.last == "3 matched, 0 unmatched, 0 errored, 0 absent"
        wrong = await fleet(*asked, "--reduce", "SELECT versoin FROM r")
        assert wrong.code is Exit.USAGE
        assert "no such column: versoin (table r has device, version)" in wrong.err
        bars = await fleet("query", "--select", "os.version", "--histogram", "os.version")
        assert [line.split() for line in bars.lines] == [
            ["12", "2", "█" * 40],
            ["13", "1", "█" * 20],
            ["(none)", "1", "█" * 20],
        ]


async def test_one_query_chooses_the_devices_of_the_next(fleet: Cli, hub: Broker, tmp_path: Path) -> None:
    def full(query: dict[str, Any]) -> dict[str, Any]:
        return {"matched": True, "columns": ["p"], "rows": [[95]]}

    async with (
        FakeDevice(hub.url, "pi-1", answer=full),
        FakeDevice(hub.url, "pi-2", answer=lambda query: {"matched": False}) as unmatched,
        FakeDevice(hub.url, "pi-3", answer=full) as matched,
    ):
        chosen = await fleet("query", "disk.percent > 90", "--ids")
        assert sorted(chosen.lines) == ["pi-1", "pi-3"]
        (tmp_path / "full").write_text("# devices\n" + chosen.out)
        again = await fleet("query", "x", "--on", f"@{tmp_path / 'full'}", "--json")
        assert {row["device"] for row in again.objects} == {"pi-1", "pi-3"}
        assert (len(unmatched.queries), len(matched.queries)) == (1, 2)


async def test_a_tag_or_a_share_leaves_the_others_alone(fleet: Cli, hub: Broker) -> None:
    async with (
        FakeDevice(hub.url, "pi-1", tags={"site": "roof"}) as one,
        FakeDevice(hub.url, "pi-2", tags={"site": "attic"}) as two,
        FakeDevice(hub.url, "pi-3", tags={"site": "roof"}) as three,
    ):
        tagged = await fleet("query", "x", "--tag", "site=roof")
        assert tagged.last == "2 matched, 0 unmatched, 0 errored, 0 absent"
        assert not two.queries
        first = await fleet("query", "x", "--limit", "34%", "--seed", "monday", "--ids")
        second = await fleet("query", "x", "--limit", "1", "--seed", "monday", "--ids")
        assert first.lines == second.lines
        assert len(first.lines) == 1
        assert sum(len(device.queries) for device in (one, two, three)) == 4
        nobody = await fleet("query", "x", "--tag", "site=cellar")
        assert nobody.code is Exit.USAGE


async def test_a_slip_of_the_pen_reaches_no_device(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1") as device:
        ended = await fleet("query", "os.name = 'x' ADN mem.percent > 80")
        assert ended.code is Exit.USAGE
        assert ended.err.splitlines() == [
            "fleet: syntax error at 'ADN'; did you mean 'AND'?",
            "  os.name = 'x' ADN mem.percent > 80",
            "                ^",
        ]
        assert not device.queries
