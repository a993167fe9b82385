"""Managed files follow the bucket; a bad one is refused or undone; nothing is lost while the device is away."""

import tomllib
from pathlib import Path

from tests.agent import fleet_world as world


def item(path: Path, form: str = "json", **argv: str) -> str:
    steps = "\n".join(f'{step} = ["sh", "-c", {script!r}]' for step, script in argv.items())
    return f'path = "{path}"\nformat = "{form}"\nmode = "0640"\n{steps}'


async def test_layers_converge_into_one_file_and_follow_each_change(tmp_path: Path) -> None:
    path = tmp_path / "app.toml"
    async with world.hub(tmp_path / "hub") as (broker, bus):
        await world.desire(bus, "all.app", {"log": {"level": "info", "file": "x"}, "n": 1})
        await world.desire(bus, "group.pumps.app", {"n": 2, "pump": True})
        await world.desire(bus, "group.other.app", {"n": 99})
        with world.agent(tmp_path / "pi-7", broker.url, config__app=item(path, "toml")):
            await world.status(bus, "app", "applied")
            assert tomllib.loads(path.read_text()) == {"log": {"level": "info", "file": "x"}, "n": 2, "pump": True}
            assert path.stat().st_mode & 0o7777 == 0o640
            revision = await world.desire(bus, "device.pi-7.app", {"n": 3, "log": {"file": None}})
            status = await world.status(bus, "app", "applied", revision)
            assert tomllib.loads(path.read_text()) == {"log": {"level": "info"}, "n": 3, "pump": True}
            assert status.revisions == {"all.app": 1, "group.pumps.app": 2, "device.pi-7.app": revision}


async def test_an_invalid_value_is_refused_and_touches_nothing(tmp_path: Path) -> None:
    path, reloads = tmp_path / "app.json", tmp_path / "reloads"
    steps = {"validate": "! grep -q bad {file} || { echo it is bad >&2; exit 1; }", "reload": f"echo r >> {reloads}"}
    async with world.hub(tmp_path / "hub") as (broker, bus):
        await world.desire(bus, "all.app", {"v": "good"})
        with world.agent(tmp_path / "pi-7", broker.url, config__app=item(path, **steps)):
            await world.status(bus, "app", "applied")
            before = path.read_bytes()
            status = await world.status(bus, "app", "refused", await world.desire(bus, "all.app", {"v": "bad"}))
            assert "it is bad" in status.error
            assert (path.read_bytes(), reloads.read_text()) == (before, "r\n")
            await world.Bucket(bus.local, "fleet_config").put("all.app", b"[not an object]")
            status = await world.status(bus, "app", "refused", 3)
            assert "all.app (revision 3) is not JSON" in status.error
            await world.status(bus, "app", "applied", await world.desire(bus, "all.app", {"v": "fine"}))
        assert sorted(each.name for each in tmp_path.iterdir()) == ["app.json", "hub", "pi-7", "reloads"]


async def test_what_the_schema_forbids_is_refused_until_values_or_schema_change(tmp_path: Path) -> None:
    path = tmp_path / "app.json"
    async with world.hub(tmp_path / "hub") as (broker, bus):
        await world.desire(bus, "schema.app", {"required": ["v"], "properties": {"v": {"type": "integer"}}})
        bad = await world.desire(bus, "all.app", {"v": "one"})
        with world.agent(tmp_path / "pi-7", broker.url, config__app=item(path)):
            status = await world.status(bus, "app", "refused", bad)
            assert status.error == "schema.app (revision 1): v: must be of type integer"
            assert not path.exists()
            await world.desire(bus, "schema.app", {"properties": {"v": {"type": "string"}}})
            await world.status(bus, "app", "applied", bad)
            assert "one" in path.read_text()
            await world.desire(bus, "schema.app", {"maxProperties": 1})
            status = await world.status(bus, "app", "refused", bad)
            assert "'maxProperties' is not supported" in status.error
            assert "one" in path.read_text()


async def test_a_value_that_breaks_the_service_is_undone(tmp_path: Path) -> None:
    path, reloads = tmp_path / "app.json", tmp_path / "reloads"
    steps = {"reload": f"cat {path} >> {reloads}", "verify": f"! grep -q broken {path}"}
    async with world.hub(tmp_path / "hub") as (broker, bus):
        path.write_text("the operator's own\n")
        path.chmod(0o600)
        await world.desire(bus, "all.app", {"v": "broken"})
        with world.agent(tmp_path / "pi-7", broker.url, config__app=item(path, **steps)):
            status = await world.status(bus, "app", "reverted")
            assert "verify" in status.error
            assert path.read_text() == "the operator's own\n"
            assert path.stat().st_mode & 0o7777 == 0o600
            assert reloads.read_text().endswith("the operator's own\n")
            await world.status(bus, "app", "applied", await world.desire(bus, "all.app", {"v": "works"}))
            assert path.stat().st_mode & 0o7777 == 0o640


async def test_what_changed_while_the_device_was_away_is_applied_at_start_and_once(tmp_path: Path) -> None:
    path, reloads = tmp_path / "app.json", tmp_path / "reloads"
    async with world.hub(tmp_path / "hub") as (broker, bus):
        device = world.agent(tmp_path / "pi-7", broker.url, config__app=item(path, reload=f"echo r >> {reloads}"))
        await world.desire(bus, "all.app", {"v": 1})
        with device:
            await world.status(bus, "app", "applied")
            device.kill()
        revision = await world.desire(bus, "all.app", {"v": 2})
        with device.start():
            await world.status(bus, "app", "applied", revision)
            assert '"v": 2' in path.read_text()
        assert reloads.read_text() == "r\nr\n"
        path.write_text("changed by hand")
        with device.start():

            async def restored() -> bool:
                return '"v": 2' in path.read_text() and reloads.read_text() == "r\nr\nr\n"

            await world.eventually(restored, "the file is as desired again, and reloaded")
        with device.start():  # nothing to do, until there is
            await world.status(bus, "app", "applied", await world.desire(bus, "all.app", {"v": 3}))
        assert reloads.read_text() == "r\nr\nr\nr\n"


async def test_sigkill_between_replacing_and_verifying_ends_with_the_old_file(tmp_path: Path) -> None:
    """The old version is the one from before the first attempt, not the unverified one that the crash left."""
    path, entered = tmp_path / "app.json", tmp_path / "entered"
    verify = f"! grep -q broken {path} || {{ test -e {entered} && exit 1; touch {entered}; exec sleep 60; }}"
    async with world.hub(tmp_path / "hub") as (broker, bus):
        device = world.agent(tmp_path / "pi-7", broker.url, config__app=item(path, verify=verify))
        await world.desire(bus, "all.app", {"v": "old"})
        with device:
            await world.status(bus, "app", "applied")
            old = path.read_bytes()
            revision = await world.desire(bus, "all.app", {"v": "broken"})

            async def in_verify() -> bool:
                return entered.exists()

            await world.eventually(in_verify, "verify runs")
            device.kill()
        assert b"broken" in path.read_bytes()
        with device.start():
            await world.status(bus, "app", "reverted", revision)
        assert path.read_bytes() == old


async def test_without_its_broker_a_site_keeps_the_last_good_version(tmp_path: Path) -> None:
    path = tmp_path / "app.json"
    async with world.hub(tmp_path / "hub") as (broker, bus):
        device = world.agent(tmp_path / "pi-7", broker.url, config__app=item(path))
        await world.desire(bus, "all.app", {"v": 1})
        with device:
            await world.status(bus, "app", "applied")
            before = path.read_bytes()
    device.ready = "broker not reachable"
    with device.start():
        assert path.read_bytes() == before
