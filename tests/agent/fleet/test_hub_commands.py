"""`fleet init`, `fleet site`, and hubs that are missing, empty or strange; with a real nats-server."""

import asyncio
import json
from pathlib import Path

import nats
import pytest

from agent.fleet.client import Fleet
from agent.fleet.exits import Exit
from agent.fleet.hub import ChangedMeanwhileError
from agent.fleet.jobs import results
from tests.agent.fleet.conftest import Cli
from tests.agent.fleet.fake_device import FakeDevice
from tests.support.ports import free_port
from tests.support.servers import Broker, jetstream, stock_hub


async def test_init_creates_then_keeps(bare_hub: Broker, tmp_path: Path) -> None:
    fleet = Cli(bare_hub.url, tmp_path)
    first = await fleet("init", "--json")
    assert first.code is Exit.OK
    assert {each["what"]: each["done"] for each in first.objects} == dict.fromkeys(
        (
            "stream FLEET_COMMANDS",
            "stream FLEET_RESULTS",
            "stream TELEMETRY",
            "bucket fleet_config",
            "bucket fleet_config_status",
            "bucket fleet_watches",
            "bucket fleet_devices",
            "bucket fleet_presence",
        ),
        "created",
    )
    assert first.err == ""
    second = await fleet("init", "--json")
    assert {each["done"] for each in second.objects} == {"kept"}


async def test_init_makes_what_the_protocol_says(hub: Broker) -> None:
    client = await nats.connect(hub.url)
    try:
        manager = client.jsm()
        commands = (await manager.stream_info("FLEET_COMMANDS")).config
        assert (commands.retention, commands.subjects) == ("workqueue", ["fleet.cmd.>"])
        bucket = await client.jetstream().key_value("fleet_config")
        assert (await bucket.status()).history == 20
        presence = (await manager.stream_info("KV_fleet_presence")).config
        assert presence.allow_msg_ttl
        assert presence.subject_delete_marker_ttl
    finally:
        await client.close()


async def test_init_keeps_an_operators_limits_and_says_what_cannot_be_used(bare_hub: Broker, tmp_path: Path) -> None:
    client = await nats.connect(bare_hub.url)
    try:
        await client.jetstream().add_stream(name="TELEMETRY", subjects=["tele.>"], max_msgs=17)
        await client.jetstream().add_stream(name="FLEET_COMMANDS", subjects=["fleet.cmd.>"])
        ended = await Cli(bare_hub.url, tmp_path)("init")
        assert ended.code is Exit.FAILED
        assert "retention is limits, not workqueue" in ended.out
        assert "1 of 8 cannot be used as they are" in ended.last
        assert (await client.jsm().stream_info("TELEMETRY")).config.max_msgs == 17
    finally:
        await client.close()


async def test_init_warns_of_a_hub_without_the_usual_domain(tmp_path: Path) -> None:
    with stock_hub(tmp_path / "hub", config=jetstream(tmp_path / "hub")) as hub:
        ended = await Cli(hub.url, tmp_path)("init")
        assert ended.code is Exit.OK
        assert "JetStream domain is not set" in ended.err


async def test_sites_become_sources_and_keep_each_other(fleet: Cli, hub: Broker) -> None:
    assert (await fleet("init", "--site", "site-1")).code is Exit.OK
    added = await fleet("site", "add", "site-2", "--json")
    assert [each["done"] for each in added.objects] == ["added", "added"]
    again = await fleet("site", "add", "site-2", "--json")
    assert [each["done"] for each in again.objects] == ["kept", "kept"]
    listed = await fleet("site", "ls", "--json")
    assert [(each["site"], each["stream"]) for each in listed.objects] == [
        ("site-1", "FLEET_RESULTS"),
        ("site-1", "TELEMETRY"),
        ("site-2", "FLEET_RESULTS"),
        ("site-2", "TELEMETRY"),
    ]
    removed = await fleet("site", "rm", "site-1", "--json")
    assert [each["done"] for each in removed.objects] == ["removed", "removed"]
    assert {each["site"] for each in (await fleet("site", "ls", "--json")).objects} == {"site-2"}


async def test_a_site_that_is_no_domain_is_a_usage_error(fleet: Cli) -> None:
    ended = await fleet("site", "add", "a.b")
    assert ended.code is Exit.USAGE
    assert "is not a JetStream domain" in ended.err


async def test_a_hub_that_is_not_there(tmp_path: Path) -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    ended = await Cli(url, tmp_path)("ls")
    assert ended.code is Exit.UNREACHABLE
    assert ended.out == ""
    assert f"cannot connect to {url}: connection refused" in ended.err
    assert "--server" in ended.err


@pytest.mark.parametrize(
    "words",
    [
        ("ls",),
        ("query", "x"),
        ("config", "get"),
        ("commands",),
        ("run", "--all", "x"),
        ("site", "add", "s"),
        ("top", "--once"),
    ],
    ids=" ".join,
)
async def test_a_hub_without_streams_says_what_to_run(words: tuple[str, ...], bare_hub: Broker, tmp_path: Path) -> None:
    ended = await Cli(bare_hub.url, tmp_path)(*words)
    assert ended.code is Exit.UNREACHABLE
    assert "run: fleet init" in ended.err
    assert ended.out == ""


async def test_a_hub_without_jetstream_says_so(tmp_path: Path) -> None:
    with stock_hub(tmp_path / "hub") as hub:
        ended = await Cli(hub.url, tmp_path)("ls")
        assert ended.code is Exit.UNREACHABLE
        assert "has no JetStream" in ended.err
        wrong = await Cli(hub.url, tmp_path)("ls", "--domain", "hub")
        assert "reaches no JetStream domain 'hub'" in wrong.err


async def test_credentials_that_the_hub_refuses(tmp_path: Path) -> None:
    config = jetstream(tmp_path / "hub", "hub") + '\nauthorization { user: "op", password: "right" }'
    with stock_hub(tmp_path / "hub", config=config) as hub:
        fleet = Cli(hub.url, tmp_path)
        refused = await fleet("ls", "--user", "op", "--password", "wrong")
        assert refused.code is Exit.UNREACHABLE
        assert "check --creds, or --user and --password" in refused.err  # also if the refusal was overtaken by a reset
        assert "FLEET_PASSWORD" in refused.err
        assert (await fleet("init", "--user", "op", "--password", "right")).code is Exit.OK


async def test_settings_come_from_a_context_of_the_file(hub: Broker, tmp_path: Path) -> None:
    file = tmp_path / "xdg" / "fleet" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f'[contexts.lab]\nserver = "{hub.url}"\n')
    cli = Cli("", tmp_path / "xdg")
    assert (await cli("ls", "--context", "lab")).code is Exit.OK


async def test_through_a_leaf_node_with_the_hubs_domain(tmp_path: Path) -> None:
    """All of it across a site's own server: API, buckets, commands, results sourced from the site."""
    port = free_port()
    hub_config = jetstream(tmp_path / "hub", "hub") + f'\nleafnodes {{ listen: "127.0.0.1:{port}" }}'
    remote = f'{{ url: "nats-leaf://127.0.0.1:{port}", deny_exports: ["tele.>", "fleet.result.>"] }}'
    site_config = jetstream(tmp_path / "site", "site-1") + f"\nleafnodes {{ remotes [ {remote} ] }}"
    with (
        stock_hub(tmp_path / "hub", config=hub_config) as hub,
        stock_hub(tmp_path / "site", config=site_config) as site,
    ):
        at_hub, at_site = Cli(hub.url, tmp_path), Cli(site.url, tmp_path)
        assert (await at_hub("init")).code is Exit.OK
        await _linked(site.url)
        client = await nats.connect(site.url)
        try:
            stream = client.jetstream()
            await stream.add_stream(name="FLEET_RESULTS", subjects=["fleet.result.>"])
            await stream.add_stream(name="TELEMETRY", subjects=["tele.>"])
        finally:
            await client.close()
        added = await at_site("site", "add", "site-1", "--domain", "hub")
        assert added.code is Exit.OK
        async with FakeDevice(hub.url, "pi-1"):
            listed = await at_site("ls", "--domain", "hub", "--json")
            assert [(each["device"], each["state"]) for each in listed.objects] == [("pi-1", "up")]
            asked = await at_site("query", "--select", "host.name", "--domain", "hub")
            assert asked.last == "1 matched, 0 unmatched, 0 errored, 0 absent"
            changed = await at_site("config", "set", "motd", "text=hi", "--all", "--detach", "--domain", "hub")
            assert changed.code is Exit.OK
            sent = await at_site("run", "--on", "pi-1", "--detach", "--domain", "hub", "--", "x")
            command = sent.out.strip()
        await _publish_result(site.url, command)
        async with Fleet.open(server=hub.url) as there, asyncio.timeout(20):
            while (await results(there.hub, command))[0].state != "succeeded":
                await asyncio.sleep(0.05)
        got = await at_site("config", "get", "motd", "--domain", "hub", "--json")
        assert got.objects[0]["value"] == {"text": "hi"}


async def _linked(url: str) -> None:
    """Return when the hub's JetStream answers at the site."""
    client = await nats.connect(url)
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    await client.request("$JS.hub.API.INFO", b"", timeout=1)
                except nats.errors.Error:
                    await asyncio.sleep(0.05)
                else:
                    return
    finally:
        await client.close()


async def _publish_result(url: str, command: str) -> None:
    body = {"v": 1, "id": command, "device": "pi-1", "step": "outcome", "outcome": "succeeded", "exit_code": 0}
    client = await nats.connect(url)
    try:
        await client.jetstream().publish(f"fleet.result.pi-1.{command}", json.dumps(body).encode())
    finally:
        await client.close()


async def test_the_library_refuses_a_lost_race(hub: Broker) -> None:
    async with Fleet.open(server=hub.url) as one, Fleet.open(server=hub.url) as two:
        change = await one.set_config("m", {"a": 1})
        await two.set_config("m", {"a": 2})
        with pytest.raises(ChangedMeanwhileError, match="look at it and try again"):
            await one.hub.put("fleet_config", "all.m", b"{}", last=change.revision)
