"""Values that somebody at the device wants for a time: laid on the fleet's, told, gone by themselves."""

import json
from pathlib import Path

import pytest

from agent import override, record
from agent.__main__ import main
from agent.errors import UsageError
from tests.agent import fleet_world as world
from tests.agent.applying import item


async def test_an_override_is_laid_on_told_and_ends_by_itself(tmp_path: Path) -> None:
    path, file = tmp_path / "app.json", tmp_path / "mine.json"
    file.write_text('{"log": {"level": "debug"}}')
    async with world.hub(tmp_path / "hub") as (broker, bus):
        revision = await world.desire(bus, "all.app", {"log": {"level": "info", "file": "x"}})
        with world.agent(tmp_path / "pi-7", broker.url, config__app=f'path = "{path}"'):
            await world.status(bus, "app", "applied", revision)

            async def level(wanted: str) -> None:
                async def look() -> bool:
                    return bool(json.loads(path.read_text())["log"] == {"level": wanted, "file": "x"})

                await world.eventually(look, f"level {wanted}")

            settings = ["-c", str(tmp_path / "pi-7" / "agent.toml"), "override", "app"]
            assert main([*settings, "--file", str(file), "--for", "4s"]) == 0
            await level("debug")
            await level("info")
            status = await world.status(bus, "app", "applied", revision)
            assert main([*settings, "--file", str(file), "--for", "2h"]) == 0

            async def told() -> bool:
                return bool((await world.status(bus, "app", "applied", revision)).overridden_until)

            await world.eventually(told, "the status has its end")
            assert main([*settings, "--clear"]) == 0
            await level("info")
            assert status.state == "applied"


def test_it_has_the_rest_of_its_time_after_a_reboot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    override.write(tmp_path, "app", {"a": 1}, 60)
    now = record.moment()
    for passed, left in ((59, True), (61, False)):
        monkeypatch.setattr(override, "moment", lambda passed=passed: ("another boot", 1.0, now[2] + passed))
        assert (override.read(tmp_path, "app") is not None) == left


def test_mistakes_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(f'state_dir = "{tmp_path}/state"\n[config.motd]\npath = "/etc/motd"\n')
    assert main(["-c", str(file), "override", "mtd", "--file", "x"]) == 2
    assert "did you mean 'motd'" in capsys.readouterr().err
    assert main(["-c", str(file), "override", "motd", "--file", str(tmp_path / "none")]) == 2
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(UsageError, match="no JSON object"):
        override.values_of(str(tmp_path / "list.json"), item(path="/etc/motd"))
    for text in ("2", "0h", "31d", "forever"):
        with pytest.raises(UsageError, match="write for example"):
            override.seconds(text)
    (tmp_path / "overrides").mkdir()
    override.path_of(tmp_path, "motd").write_text("{")
    assert override.read(tmp_path, "motd") is None
