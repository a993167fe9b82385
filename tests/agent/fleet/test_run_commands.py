"""`fleet run`, `commands` and `result` with a real hub: now, later, never, and what became of it."""

import asyncio
import re
import signal
from typing import Any

from agent.fleet.exits import Exit
from tests.agent.fleet.conftest import DEADLINE_SECONDS, Cli, eventually, has_succeeded
from tests.agent.fleet.fake_device import FakeDevice
from tests.support.servers import Broker


def says(text: str) -> Any:
    return lambda command: {"stdout": text}


async def gone(url: str, device: str, **about: Any) -> None:
    async with FakeDevice(url, device, **about) as leaving:
        await leaving.present("down")


async def test_output_of_one_device_is_stdout(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1", run=says("up 3 days\n")) as device:
        ended = await fleet("run", "--on", "pi-1", "--timeout", "7", "--env", "A=b=c", "--", "uptime", "--pretty")
        assert (ended.code, ended.out) == (Exit.OK, "up 3 days\n")
        assert ended.last == "1 succeeded"
        [command] = device.commands
        assert command["argv"] == ["uptime", "--pretty"]
        assert (command["v"], command["kind"], command["timeout_s"], command["env"]) == (1, "argv", 7, {"A": "b=c"})
        assert len(command["id"]) == 22
        assert command["not_after"] is None
        assert "@" in command["issued_by"]


async def test_a_group_with_a_failure_and_an_absent_device(fleet: Cli, hub: Broker) -> None:
    await gone(hub.url, "pi-3", groups=("lab",))

    def fails(command: dict[str, Any]) -> dict[str, Any]:
        return {"outcome": "failed", "exit_code": 3, "stderr": "no such unit\n"}

    async with (
        FakeDevice(hub.url, "pi-1", groups=("lab",), run=says("done\n")),
        FakeDevice(hub.url, "pi-2", groups=("lab",), run=fails),
        FakeDevice(hub.url, "pi-9", run=says("not asked")) as other,
    ):
        ended = await fleet("run", "--group", "lab", "--", "restart")
        assert ended.code is Exit.FAILED
        assert re.search(r"^pi-1: succeeded in .* s\n  done$", ended.out, re.MULTILINE)
        assert re.search(r"^pi-2: failed, exit code 3 in ", ended.out, re.MULTILINE)
        assert "  pi-2: no such unit" in ended.err
        assert "1 succeeded, 1 failed, 1 queued (pi-3, queued, stopped " in ended.err
        assert other.commands == []


async def test_an_offline_device_gets_its_command_when_it_is_back(fleet: Cli, hub: Broker) -> None:
    await gone(hub.url, "pi-1")
    queued = await fleet("run", "--on", "pi-1", "--json", "--", "restart")
    assert queued.code is Exit.INCOMPLETE
    [state] = queued.objects
    assert (state["device"], state["state"]) == ("pi-1", "queued")
    assert f"later: fleet result {state['command']}" in queued.err

    listed = await fleet("commands", "--json")
    assert [(each["states"], each["argv"]) for each in listed.objects] == [({"queued": 1}, "restart")]
    before = await fleet("result", state["command"])
    assert (before.code, before.out) == (Exit.INCOMPLETE, "pi-1: queued\n")

    async with FakeDevice(hub.url, "pi-1", run=says("back\n")):
        await eventually(hub.url, lambda library: has_succeeded(library, state["command"]))
    after = await fleet("result", state["command"])
    assert (after.code, after.lines[1]) == (Exit.OK, "  back")
    assert (await fleet("commands", "--json")).objects[0]["states"] == {"succeeded": 1}


async def test_a_filter_chooses_the_devices(fleet: Cli, hub: Broker) -> None:
    matches: Any = lambda query: {"matched": query["where"] == "os.name = 'Linux'"}  # noqa: E731
    never: Any = lambda query: {"matched": False}  # noqa: E731
    async with (
        FakeDevice(hub.url, "pi-1", answer=matches, run=says("yes\n")),
        FakeDevice(hub.url, "pi-2", answer=never, run=says("no\n")) as other,
    ):
        ended = await fleet("run", "--where", "os.name = 'Linux'", "--", "x")
        assert (ended.code, ended.out) == (Exit.OK, "yes\n")
        assert "chosen by filter: 1 matched, 1 unmatched, 0 errored, 0 absent" in ended.err
        nobody = await fleet("run", "--where", "os.name = 'BeOS'", "--", "x")
        assert nobody.code is Exit.USAGE
        assert "nothing was sent" in nobody.err
        assert other.commands == []


async def test_a_filter_that_does_not_work_sends_nothing(fleet: Cli, hub: Broker) -> None:
    broken: Any = lambda query: {"matched": None, "error": "no such column: oss.name"}  # noqa: E731
    async with FakeDevice(hub.url, "pi-1", answer=broken, run=says("x")) as device:
        ended = await fleet("run", "--where", "oss.name = 1", "--", "x")
        assert ended.code is Exit.FAILED
        assert "no such column: oss.name. Nothing was sent" in ended.err
        assert device.commands == []
    assert (await fleet("commands")).err == "no commands in this time: --since 7d\n"


async def test_detached_run_prints_the_id(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1"):
        ended = await fleet("run", "--all", "--detach", "--expires", "2h", "--", "x")
    assert ended.code is Exit.OK
    assert re.fullmatch(r"[0-9A-Za-z]{22}\n", ended.out)


async def test_a_device_that_does_not_get_to_it_in_time_is_queued(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1"):
        ended = await fleet("run", "--on", "pi-1", "--wait", "0.5", "--", "x")
    assert ended.code is Exit.INCOMPLETE
    assert "1 queued (pi-1, queued, up)" in ended.err


async def test_ctrl_c_does_not_take_the_command_back(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1") as device:
        async with fleet.started("run", "--on", "pi-1", "--wait", "1h", "--", "x") as process:
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert process.stderr is not None
                command = (await process.stderr.readline()).split()[1].decode()
                await device.result(command, {"step": "started"})
                while b"1 running" not in await process.stderr.readline():
                    pass
                process.send_signal(signal.SIGINT)
                _, err = await process.communicate()
        assert process.returncode == Exit.INTERRUPTED
        assert b"interrupted: the command was not taken back" in err
        assert (await fleet("result", command)).out == "pi-1: running\n"


async def test_stdin_goes_along(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1", run=lambda command: {"stdout": command["stdin"].upper()}):
        ended = await fleet("run", "--on", "pi-1", "--stdin", "-", "--", "cat", stdin="hello\n")
    assert ended.out == "HELLO\n"


async def test_mistakes_are_found_before_anything_is_sent(fleet: Cli) -> None:
    nothing = await fleet("run", "--on", "pi-1")
    assert nothing.code is Exit.USAGE
    assert "write it after `--`" in nothing.err
    nobody = await fleet("run", "--group", "lab", "--", "x")
    assert nobody.code is Exit.USAGE
    assert "no device to send the command to" in nobody.err
    unknown = await fleet("result", "nonsense")
    assert unknown.code is Exit.USAGE
    assert "no command nonsense is known" in unknown.err


async def test_result_for_programs(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1", run=says("a,b\n")):
        ran = await fleet("run", "--on", "pi-1", "--json", "--", "x")
        [outcome] = ran.objects
        assert (outcome["state"], outcome["stdout"], outcome["exit_code"]) == ("succeeded", "a,b\n", 0)
        table = await fleet("result", outcome["command"], "--csv", "--device", "pi-1")
        assert table.lines[0].startswith("command,device,state,exit_code,stdout")
