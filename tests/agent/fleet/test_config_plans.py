"""Many values at once, a person's editor, and schemas that hold both to what devices take."""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.errors import UsageError
from agent.fleet.client import Fleet
from agent.fleet.exits import Exit
from agent.fleet.judging import judged
from agent.fleet.plans import read_folder
from agent.fleet.presence import Device
from tests.agent.fleet.conftest import Cli
from tests.agent.fleet.fake_device import FakeDevice
from tests.support.servers import Broker

PORT = {"required": ["port"], "properties": {"port": {"type": "integer"}}}


def folder(root: Path, files: dict[str, Any]) -> str:
    for name, value in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(root)


async def held(url: str) -> dict[str, Any]:
    async with Fleet.open(server=url) as library:
        return {entry.key: entry.value for entry in await library.config()}


async def test_a_folder_is_planned_applied_once_and_pruned(fleet: Cli, hub: Broker, tmp_path: Path) -> None:
    await fleet("config", "set", "old", "a=1", "--all", "--detach")
    files = {"all/m.json": {"port": 1}, "group/lab/m.toml": "[tls]\non = true\n", "device/pi-1/motd.txt": "hi\n"}
    source = folder(tmp_path / "config", {**files, ".git/HEAD": "x", "schema/m.json": PORT})
    plan = await fleet("config", "apply", "-f", source, "--plan", "--prune")
    assert plan.code is Exit.OK
    assert [line for line in plan.lines if line[0] != " "] == [
        "create all.m",
        "delete all.old",
        "create device.pi-1.motd",
        "create group.lab.m",
        "create schema.m",
    ]
    assert await held(hub.url) == {"all.old": {"a": 1}}
    assert (await fleet("config", "apply", "-f", source, "--detach")).code is Exit.OK
    wanted = {
        "all.m": {"port": 1},
        "group.lab.m": {"tls": {"on": True}},
        "device.pi-1.motd": {"text": "hi\n"},
        "schema.m": PORT,
    }
    assert await held(hub.url) == {**wanted, "all.old": {"a": 1}}
    assert "nothing to change" in (await fleet("config", "apply", "-f", source)).err
    await fleet("config", "apply", "-f", source, "--prune", "--detach")
    assert await held(hub.url) == wanted


async def test_everything_goes_back_to_a_moment(fleet: Cli, hub: Broker) -> None:
    await fleet("config", "set", "m", "a=1", "--all", "--detach")
    await fleet("config", "set", "gone", "a=1", "--group", "lab", "--detach")
    async with Fleet.open(server=hub.url) as library:
        moment = max(entry.at for entry in await library.config()).isoformat()
    before = await held(hub.url)
    await fleet("config", "set", "m", "a=2", "b=3", "--all", "--detach")
    await fleet("config", "rm", "gone", "--group", "lab", "--detach")
    await fleet("config", "set", "new", "a=1", "--device", "pi-1", "--detach")
    plan = await fleet("config", "revert", "--to-time", moment, "--plan", "--json")
    assert {each["key"]: each["action"] for each in plan.objects} == {
        "all.m": "change",
        "group.lab.gone": "create",
        "device.pi-1.new": "delete",
    }
    assert (await fleet("config", "revert", "--to-time", moment, "--detach")).code is Exit.OK
    assert await held(hub.url) == before
    for words in (("m",), ("m", "--all", "--to-time", moment), ("--all",)):
        assert (await fleet("config", "revert", *words)).code is Exit.USAGE


async def test_a_moment_before_what_is_kept_is_an_error(hub: Broker) -> None:
    async with Fleet.open(server=hub.url) as library:
        await library.set_config("m", {"n": 0})
        [first] = await library.config()
        for number in range(1, 21):
            await library.set_config("m", {"n": number})
        with pytest.raises(UsageError, match=r"all\.m had 20 revisions since then"):
            await library.plan_moment(first.at)


async def test_a_schema_is_enforced_before_anything_is_published(fleet: Cli, hub: Broker, tmp_path: Path) -> None:
    async with FakeDevice(hub.url, "pi-1", groups=("lab",)):
        source = folder(tmp_path / "config", {"schema/m.json": PORT})
        await fleet("config", "apply", "-f", source)
        refused = await fleet("config", "set", "m", "port=x", "--all", "--detach")
        assert (refused.code, "schema.m" in refused.last) == (Exit.USAGE, True)
        assert "pi-1: port: must be of type integer" in refused.last
        assert "port: is required" in (await fleet("config", "set", "m", "a=1", "--group", "lab", "--detach")).err
        assert set(await held(hub.url)) == {"schema.m"}
        assert (await fleet("config", "set", "m", "a=1", "--group", "lab", "--detach", "--force")).code is Exit.OK
        assert (await fleet("config", "set", "m", "port=1", "--all", "--detach")).code is Exit.OK
        bad = folder(tmp_path / "bad", {"all/m.json": {"port": 2}, "all/x.json": {}, "schema/m.json": {"oneOf": []}})
        ended = await fleet("config", "apply", "-f", bad)
        assert (ended.code, "'oneOf' is not supported" in ended.err) == (Exit.USAGE, True)
        assert "all.x" not in await held(hub.url)


def test_what_counts_is_what_a_value_comes_to_on_each_device() -> None:
    devices = [Device(id="pi-1", state="up", groups=("lab",)), Device(id="pi-2", state="up")]
    current = {"group.lab.m": {"port": 1}}
    assert judged(PORT, "m", devices, current, {"all.m": {"a": 1}}) == "pi-2: port: is required"
    assert judged(PORT, "m", devices, current, {"device.pi-1.m": {"a": 1}}) == ""
    assert judged(PORT, "m", devices, current, {"device.pi-1.m": {"port": None}}) == "pi-1: port: is required"
    assert judged(PORT, "m", devices, current, {"group.lab.m": None}) == ""  # nothing is desired any more
    assert judged(PORT, "m", [], {}, {"all.m": {"a": 1}}) == ""
    assert judged(PORT, "m", [], {}, {"all.m": {"port": "x"}}) == "all.m: port: must be of type integer"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("all/n.yaml", "a: 1", "write values as .json or .toml"),
        ("all/n.json", "[1]", "not an object"),
        ("all/n.toml", "a = ", "is not TOML"),
        ("all/n.toml", "a = 2026-11-20", "write it in quotes"),
        ("groups/lab/m.json", "{}", "is in no layer"),
        ("group/la b/m.json", "{}", "group 'la b' is not valid"),
        ("all/m.txt", "x", "are both all.m"),
    ],
)
def test_a_file_that_is_no_value_is_named(tmp_path: Path, name: str, content: str, words: str) -> None:
    folder(tmp_path, {"all/m.json": {"a": 1}, name: content})
    with pytest.raises(UsageError, match=words):
        read_folder(tmp_path, [])


def editor(tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "editor"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("EDITOR", str(program))
    monkeypatch.delenv("VISUAL", raising=False)


async def test_a_value_is_edited(hub: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor(tmp_path, 'sed -i s/1883/1884/ "$1"', monkeypatch)
    fleet = Cli(hub.url, tmp_path / "home")
    await fleet("config", "set", "m", "port=1883", "--all", "--detach")
    ended = await fleet("config", "edit", "m", "--all", "--detach")
    assert (ended.code, ended.out) == (Exit.OK, "all.m revision 2\n")
    assert "unchanged" in (await fleet("config", "edit", "m", "--all")).err
    assert await held(hub.url) == {"all.m": {"port": 1884}}


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo '{' > \"$1\"", "is not JSON"),
        ("exit 3", "ended with 3"),
        (
            '{python} -m agent.fleet config set m a=2 --all; echo \'{{"a": 3}}\' > "$1"',
            "meanwhile",
        ),
    ],
)
async def test_an_edit_that_cannot_be_written_is_kept(
    hub: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    if "{python}" in script:
        script = script.format(python=sys.executable)
    editor(tmp_path, script, monkeypatch)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    fleet = Cli(hub.url, tmp_path / "home")
    await fleet("config", "set", "m", "a=1", "--all", "--detach")
    ended = await fleet("config", "edit", "m", "--all", "--detach")
    assert ended.code in (Exit.USAGE, Exit.FAILED)
    assert words in ended.err
    [kept] = tmp_path.glob("fleet-edit-*/all.m.json")
    assert str(kept) in ended.err
    assert (await held(hub.url))["all.m"] in ({"a": 1}, {"a": 2})
    assert os.stat(kept.parent).st_mode & 0o077 == 0
