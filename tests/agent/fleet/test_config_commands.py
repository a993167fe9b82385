"""`fleet config` with a real hub: set, watch, look back, undo."""

import asyncio
import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.errors import UsageError
from agent.fleet.arguments import parse
from agent.fleet.cli_config import desired
from agent.fleet.client import Fleet
from agent.fleet.exits import Exit
from tests.agent.fleet.conftest import DEADLINE_SECONDS, Cli
from tests.agent.fleet.fake_device import FakeDevice
from tests.support.servers import Broker


def refuse(name: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"state": "refused", "error": "port must be a number"} if value.get("port") == "x" else {"state": "applied"}


async def test_set_is_watched_until_it_is_applied(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1", items=("mqtt",)), FakeDevice(hub.url, "pi-2", items=("mqtt",)):
        ended = await fleet("config", "set", "mqtt", "port=1883", "tls.on=true", "--all")
        assert ended.code is Exit.OK
        assert ended.out == "all.mqtt revision 1\n"
        assert "+ port = 1883" in ended.err
        assert ended.last == "2 devices: 2 applied"
        status = await fleet("config", "status", "mqtt", "--json")
        assert status.code is Exit.OK
        assert [(each["device"], each["state"], each["newest"]) for each in status.objects] == [
            ("pi-1", "applied", True),
            ("pi-2", "applied", True),
        ]


async def test_a_refused_value_is_a_failure_with_the_devices_words(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1", items=("mqtt",), config=refuse):
        ended = await fleet("config", "set", "mqtt", "port=x", "--device", "pi-1", "--json")
        assert ended.code is Exit.FAILED
        assert ended.objects == [
            {"key": "device.pi-1.mqtt", "revision": 1, "changed": True, "devices": {"pi-1": "refused"}}
        ]
        assert "pi-1 refused: port must be a number" in ended.err
        status = await fleet("config", "status")
        assert status.code is Exit.FAILED
        assert "port must be a number" in status.out


async def test_an_absent_device_takes_it_up_later(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-2", groups=("lab",)) as gone:
        await gone.present("down")
    async with FakeDevice(hub.url, "pi-1", groups=("lab",), items=("m",)):
        ended = await fleet("config", "set", "m", "a=1", "--group", "lab")
    assert ended.code is Exit.INCOMPLETE
    assert ended.last == "2 devices: 1 applied, 1 absent (pi-2 absent)"


async def test_a_device_that_does_not_report_is_waited_for_until_the_timeout(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1") as device:
        await device.report("m", {})
        ended = await fleet("config", "set", "m", "a=1", "--all", "--timeout", "0.5")
    assert ended.code is Exit.INCOMPLETE
    assert ended.last == "1 device: 0 applied, 1 waiting (pi-1 waiting)"


async def test_a_name_that_no_device_knows_is_said(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1", items=("mqtt",)):
        ended = await fleet("config", "set", "mqqt", "a=1", "--all")
    assert ended.code is Exit.INCOMPLETE
    assert "1 device: 0 applied, 1 no item" in ended.err
    assert "no device in this layer has an item 'mqqt'" in ended.last


async def test_detached_set_waits_for_nobody(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1"):
        ended = await fleet("config", "set", "m", "a=1", "--all", "--detach")
    assert ended.code is Exit.OK
    assert "not waiting: see `fleet config status m`" in ended.err


async def test_ctrl_c_leaves_the_change_and_says_where_it_stands(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1") as device:
        await device.report("m", {})
        words = ("config", "set", "m", "a=1", "--all", "--timeout", "1h")
        async with fleet.started(*words) as process, asyncio.timeout(DEADLINE_SECONDS):
            assert process.stderr is not None
            while b"waiting" not in await process.stderr.readline():
                pass
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
    assert process.returncode == Exit.INTERRUPTED
    assert out == b"all.m revision 1\n"
    assert b"interrupted: the change stays" in err


async def test_values_are_laid_on_or_replace(fleet: Cli) -> None:
    layer = ("--all", "--detach")

    async def value() -> Any:
        return (await fleet("config", "get", "m", "--json")).objects[0]["value"]

    await fleet("config", "set", "m", "-", *layer, stdin='{"a": 1, "b": {"c": 2}}')
    assert await value() == {"a": 1, "b": {"c": 2}}
    await fleet("config", "set", "m", "b.d=3", *layer)
    assert await value() == {"a": 1, "b": {"c": 2, "d": 3}}
    await fleet("config", "set", "m", "b.d=4", "--replace", *layer)
    assert await value() == {"b": {"d": 4}}


def given_values(*words: str) -> tuple[dict[str, Any], bool]:
    return desired(parse(["config", "set", "m", "--all", *words]))


def test_values_from_words_files_and_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m.json"
    file.write_text('{"a": 1}')
    assert given_values("a.b=1", "c=x") == ({"a": {"b": 1}, "c": "x"}, True)
    assert given_values("a=1", "--replace") == ({"a": 1}, False)
    assert given_values('{"x": [1]}') == ({"x": [1]}, False)
    assert given_values("--file", str(file)) == ({"a": 1}, False)
    assert given_values("--text", str(file)) == ({"text": '{"a": 1}'}, False)
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n"))
    assert given_values("--text", "-") == ({"text": "hello\n"}, False)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ((), "give the values once"),
        (("a=1", "--file", "x"), "give the values once"),
        (("--file", "/nonexistent/m.json"), "/nonexistent/m.json cannot be read: No such file"),
        (("-",), "stdin is not JSON"),
        (("{a}",), "the value is not JSON"),
    ],
)
def test_values_that_cannot_be_used(words: tuple[str, ...], answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello"))
    with pytest.raises(UsageError, match=answer):
        given_values(*words)


async def test_history_diff_and_revert(fleet: Cli, hub: Broker) -> None:
    async with Fleet.open(server=hub.url) as library:
        for value in ({"port": 1}, {"port": 2}, {"host": "x"}):
            await library.set_config("m", value, patch=True)
    history = await fleet("config", "history", "m", "--all", "--json")
    assert [(each["revision"], each["value"]) for each in history.objects] == [
        (1, {"port": 1}),
        (2, {"port": 2}),
        (3, {"port": 2, "host": "x"}),
    ]
    last = await fleet("config", "diff", "m", "--all")
    assert (last.lines, last.last) == (['+ host = "x"'], "all.m: revision 2 to 3")
    wide = await fleet("config", "diff", "m", "--all", "--from", "1", "--to", "3")
    assert wide.lines == ['+ host = "x"', "- port = 1", "+ port = 2"]

    reverted = await fleet("config", "revert", "m", "--all", "--to", "1", "--detach")
    assert reverted.out == "all.m revision 4\n"
    back = await fleet("config", "revert", "m", "--all", "--detach", "--json")
    assert back.objects[0]["revision"] == 5
    assert (await fleet("config", "get", "m", "--json")).objects[0]["value"] == {"port": 2, "host": "x"}
    wrong = await fleet("config", "revert", "m", "--all", "--to", "99")
    assert wrong.code is Exit.USAGE
    assert "all.m has no revision 99 (kept: 1, 2, 3, 4, 5)" in wrong.err


async def test_a_layer_without_devices_is_said_to_be_empty(fleet: Cli) -> None:
    ended = await fleet("config", "set", "m", "a=1", "--group", "lab")
    assert ended.code is Exit.OK
    assert "no known device is in this layer yet" in ended.last


async def test_an_unchanged_value_is_not_written_again(fleet: Cli) -> None:
    await fleet("config", "set", "m", "a=1", "--all", "--detach")
    again = await fleet("config", "set", "m", "a=1", "--all", "--detach", "--json")
    assert again.objects == [{"key": "all.m", "revision": 1, "changed": False, "devices": {}}]
    assert "unchanged, still revision 1" in again.err


async def test_rm_takes_keys_or_the_whole_value_and_devices_follow(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1", items=("m",)):
        await fleet("config", "set", "m", "a.x=1", "b=2", "--all")
        some = await fleet("config", "rm", "m", "a.x", "--all")
        assert (some.code, some.last) == (Exit.OK, "1 device: 1 applied")
        assert (await fleet("config", "get", "m", "--json")).objects[0]["value"] == {"b": 2}
        whole = await fleet("config", "rm", "m", "--all")
        assert whole.code is Exit.OK
        assert (await fleet("config", "get")).err == "no configuration yet: fleet config set NAME KEY=VALUE --all\n"
        nothing = await fleet("config", "rm", "m", "--all")
        assert nothing.code is Exit.USAGE
        assert "all.m has no value" in nothing.err
        last = (await fleet("config", "history", "m", "--all", "--json")).objects[-1]
        assert last["value"] is None
        restored = await fleet("config", "revert", "m", "--all")
        assert restored.code is Exit.OK
        assert (await fleet("config", "get", "m", "--json")).objects[0]["value"] == {"b": 2}


async def test_get_explains_what_layers_come_to(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1", groups=("lab",)):
        async with Fleet.open(server=hub.url) as library:
            await library.set_config("m", {"port": 1, "tls": {"on": False}})
            await library.set_config("m", {"tls": {"on": True}}, group="lab")
            await library.set_config("m", {"port": 2}, device="pi-1")
        [merged] = (await fleet("config", "get", "m", "--for", "pi-1", "--json")).objects
        assert merged["value"] == {"port": 2, "tls": {"on": True}}
        assert merged["revisions"] == {"all.m": 1, "group.lab.m": 2, "device.pi-1.m": 3}
        shown = await fleet("config", "get", "m", "--for", "pi-1")
        assert [line.split() for line in shown.lines[1:]] == [
            ["port", "2", "device.pi-1.m"],
            ["tls.on", "true", "group.lab.m"],
        ]
        layer = await fleet("config", "get", "m", "--group", "lab", "--json")
        assert [each["key"] for each in layer.objects] == ["group.lab.m"]


async def test_status_shows_who_is_behind(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1") as device:
        await device.report("m", {"all.m": (0, {})})
        await fleet("config", "set", "m", "a=1", "--all", "--detach")
        ended = await fleet("config", "status", "m", "--device", "pi-1")
    assert ended.code is Exit.INCOMPLETE
    assert "behind" in ended.out


async def test_explain_names_layer_revision_author_and_time_of_each_value(fleet: Cli, hub: Broker) -> None:
    async with FakeDevice(hub.url, "pi-1", groups=("lab",)), Fleet.open(server=hub.url) as library:
        await fleet("config", "set", "m", "port=1", "tls.on=false", "--all", "--detach", "--author", "ann@desk")
        await fleet("config", "set", "m", "tls.on=true", "--group", "lab", "--detach", "--author", "bob@desk")
        await fleet("config", "set", "m", "host=h", "--all", "--detach", "--author", "eve\n@desk")
        await library.hub.put("fleet_config", "device.pi-1.m", b'{"own": [1]}')
        ended = await fleet("config", "explain", "pi-1", "m", "--json")
        assert ended.code is Exit.OK
        found = {each["key"]: each for each in ended.objects}
        assert {
            key: (each["value"], each["layer"], each["revision"], each["author"]) for key, each in found.items()
        } == {
            "port": (1, "all.m", 1, "ann@desk"),  # revision 3 of the layer left it as it was
            "tls.on": (True, "group.lab.m", 2, "bob@desk"),
            "host": ("h", "all.m", 3, "eve?@desk"),
            "own": ([1], "device.pi-1.m", 4, "unknown"),
        }
        assert all(each["changed"].endswith("Z") for each in found.values())
        history = await fleet("config", "history", "m", "--all", "--json")
        assert [each["author"] for each in history.objects] == ["ann@desk", "eve?@desk"]
        assert "no layer that concerns pi-1" in (await fleet("config", "explain", "pi-1", "other")).err


async def test_who_changes_is_named_as_user_at_host_and_a_deletion_too(fleet: Cli) -> None:
    await fleet("config", "set", "m", "a=1", "--all", "--detach")
    await fleet("config", "rm", "m", "--all", "--detach", "--author", "bob")
    history = await fleet("config", "history", "m", "--all", "--json")
    first, second = [each["author"] for each in history.objects]
    assert first.partition("@")[0]
    assert first.endswith(os.uname().nodename)
    assert second == "bob"


async def test_a_file_changed_by_hand_is_shown_with_its_diff(fleet: Cli, hub: Broker) -> None:
    diff = '-"port": 1883\n+"port": 1884'

    def drifted(name: str, value: dict[str, Any]) -> dict[str, Any]:
        return {"state": "drifted", "error": "it was changed by hand", "diff": diff}

    async with FakeDevice(hub.url, "pi-1", items=("m",), config=drifted):
        ended = await fleet("config", "set", "m", "port=1883", "--all")
        assert (ended.code, "1 drifted" in ended.last) == (Exit.FAILED, True)
        status = await fleet("config", "status")
        assert (status.code, diff in status.err, "drifted" in status.out) == (Exit.FAILED, True, True)
        assert (await fleet("config", "status", "--json")).objects[0]["diff"] == diff
        assert len((await fleet("config", "status", "--csv")).lines) == 2
