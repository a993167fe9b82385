"""The command line against real agents and real hubs: what operators see."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.fleet.client import Fleet
from agent.fleet.exits import Exit
from tests.agent.fleet.conftest import DEADLINE_SECONDS, Cli, eventually, has_succeeded
from tests.support.servers import Broker, Process, jetstream, leafnode, stock_hub

AGENTS = ("pi-1", "pi-2")


def settings(folder: Path, device: str, url: str) -> Path:
    """An agent's settings file with two managed files of its own."""
    file = folder / f"{device}.toml"
    file.write_text(
        f"""
state_dir = "{folder / device}"

[device]
id = "{device}"
groups = ["lab"]
tags = {{ site = "roof" }}

[nats]
urls = ["{url}"]

[presence]
interval_s = 2

[telemetry]
interval_s = 1

[config.app]
path = "{folder / device}.json"
validate = ["sh", "-c", "! grep -q bad {{file}}"]

[config.motd]
path = "{folder / device}.motd"
format = "text"
"""
    )
    return file


class Site:
    """A hub, two agents, and `fleet`."""

    def __init__(self, folder: Path, stack: ExitStack, broker: Callable[..., Broker]) -> None:
        self.folder = folder
        self.hub = stack.enter_context(broker(folder / "hub", config=jetstream(folder / "hub", "hub")))
        self.fleet = Cli(self.hub.url, folder)
        asyncio.run(self._init())
        self.agents = {device: stack.enter_context(self._agent(device)) for device in AGENTS}
        asyncio.run(self.all_up())

    async def _init(self) -> None:
        async with Fleet.open(server=self.hub.url) as fleet:
            await fleet.init()

    def _agent(self, device: str) -> Process:
        argv = [sys.executable, "-m", "agent", "-c", str(settings(self.folder, device, self.hub.url))]
        return Process(argv, self.folder / f"{device}.log", ready="agent serving")

    async def all_up(self) -> None:
        """Return when every agent is in the inventory and present."""
        async with Fleet.open(server=self.hub.url) as fleet, asyncio.timeout(DEADLINE_SECONDS):
            while [each.id for each in await fleet.devices(group="lab", state="up")] != list(AGENTS):
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module", params=[stock_hub, leafnode], ids=["nats-server", "leafnode"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The hub is a stock nats-server or our own broker: nobody may notice the difference."""
    with ExitStack() as stack:
        yield Site(tmp_path_factory.mktemp("site"), stack, request.param)


async def test_queries_reach_everyone(site: Site) -> None:
    matched = await site.fleet(
        "query", "mem.percent > 0 AND tag.site = 'roof'", "--select", "host.name, os.name", "--json"
    )
    assert matched.code is Exit.OK
    assert sorted(each["device"] for each in matched.objects) == list(AGENTS)
    assert {"device", "host.name", "os.name"} == set(matched.objects[0])
    assert matched.last == "2 matched, 0 unmatched, 0 errored, 0 absent"
    nobody = await site.fleet("query", "os.name = 'Android'", "--group", "lab")
    assert (nobody.code, nobody.out) == (Exit.OK, "")
    assert nobody.last == "0 matched, 2 unmatched, 0 errored, 0 absent"
    wrong = await site.fleet("query", "oss.name = 'Android'")
    assert wrong.code is Exit.FAILED
    assert "did you mean 'os.name'" in wrong.err
    assert wrong.last == "0 matched, 0 unmatched, 2 errored, 0 absent"
    many = await site.fleet("query", "--sql", "SELECT name, state FROM config ORDER BY name", "--on", "pi-1", "--csv")
    assert [line.split(",")[:2] for line in many.lines] == [["device", "name"], ["pi-1", "app"], ["pi-1", "motd"]]


async def measured(library: Fleet) -> bool:
    return "mem" in (await library.telemetry()).get("pi-1", {})


async def vanished(library: Fleet) -> bool:
    return bool(await library.devices(state="absent"))


async def test_devices_are_shown(site: Site) -> None:
    listed = await site.fleet("ls", "--tag", "site=roof", "--json")
    assert [(each["device"], each["state"], each["groups"]) for each in listed.objects] == [
        ("pi-1", "up", ["lab"]),
        ("pi-2", "up", ["lab"]),
    ]
    assert listed.objects[0]["os"]
    shown = await site.fleet("info", "pi-1")
    assert ["tags.site", "roof"] in [line.split() for line in shown.lines]
    await eventually(site.hub.url, measured)
    assert (await site.fleet("top", "--once", "--json")).objects[0]["mem"] > 0


async def test_configuration_converges_is_refused_and_goes_back(site: Site) -> None:
    first = await site.fleet("config", "set", "app", "port=1883", "--all")
    assert (first.code, first.last) == (Exit.OK, "2 devices: 2 applied")
    assert '"port": 1883' in (site.folder / "pi-2.json").read_text()
    bad = await site.fleet("config", "set", "app", "name=bad", "--group", "lab")
    assert bad.code is Exit.FAILED
    assert "0 applied, 2 refused" in bad.last
    assert "bad" not in (site.folder / "pi-2.json").read_text()
    undone = await site.fleet("config", "rm", "app", "--group", "lab")
    assert (undone.code, undone.last) == (Exit.OK, "2 devices: 2 applied")
    text = await site.fleet("config", "set", "motd", "--text", "-", "--device", "pi-1", stdin="hello\n")
    assert (text.code, text.last) == (Exit.OK, "1 device: 1 applied")
    assert (site.folder / "pi-1.motd").read_text() == "hello\n"
    removed = await site.fleet("config", "rm", "motd", "--device", "pi-1")
    assert (removed.code, removed.last) == (Exit.OK, "1 device: 0 applied, 1 released")
    unknown = await site.fleet("config", "set", "nothing", "a=1", "--all")
    assert unknown.code is Exit.INCOMPLETE
    assert "2 no item" in unknown.err
    assert (await site.fleet("config", "status")).code is Exit.OK


async def test_commands_run_and_their_failures_show(site: Site) -> None:
    ran = await site.fleet("run", "--group", "lab", "--", "sh", "-c", "echo hello $0", "world")
    assert ran.code is Exit.OK
    assert ran.out.count("  hello world\n") == 2
    assert ran.last == "2 succeeded"
    failed = await site.fleet(
        "run", "--where", "agent.device = 'pi-2'", "--json", "--", "sh", "-c", "echo no >&2; exit 3"
    )
    assert failed.code is Exit.FAILED
    [result] = failed.objects
    assert (result["device"], result["state"], result["exit_code"], result["stderr"]) == ("pi-2", "failed", 3, "no\n")
    late = await site.fleet("run", "--on", "pi-1", "--timeout", "0.3", "--", "sleep", "60")
    assert late.code is Exit.FAILED
    assert "pi-1: timed_out" in late.out
    listed = (await site.fleet("commands", "--json")).objects
    assert [each["states"] for each in listed] == [{"succeeded": 2}, {"failed": 1}, {"timed_out": 1}]
    assert listed[2]["argv"] == "sleep 60"


async def test_a_stopped_agent_is_accounted_for_and_gets_its_command_later(site: Site) -> None:
    site.agents["pi-2"].stop()
    asked = await site.fleet("query", "mem.percent > 0")
    assert asked.code is Exit.INCOMPLETE
    assert asked.last.startswith("1 matched, 0 unmatched, 0 errored, 1 absent (pi-2, stopped ")
    sent = await site.fleet("run", "--all", "--", "echo", "late")
    assert sent.code is Exit.INCOMPLETE
    assert "1 succeeded, 1 queued (pi-2, queued, stopped " in sent.err
    command = sent.err.split()[1]
    site.agents["pi-2"].start()
    await eventually(site.hub.url, lambda library: has_succeeded(library, command))
    assert (await site.fleet("result", command)).out.count("  late\n") == 2
    await site.all_up()


async def test_a_killed_agent_becomes_absent(site: Site) -> None:
    site.agents["pi-2"].kill()
    await eventually(site.hub.url, vanished)
    found = await site.fleet("ls", "--state", "absent", "--json")
    assert [each["device"] for each in found.objects] == ["pi-2"]
    asked = await site.fleet("query", "mem.percent > 0")
    assert asked.last.startswith("1 matched, 0 unmatched, 0 errored, 1 absent (pi-2, last seen ")
    site.agents["pi-2"].start()
    await site.all_up()
