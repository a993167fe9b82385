"""The play: each step does something to the fleet, shows it, checks it, and returns what it proved in a sentence.

A step is a function of the Stage. It raises Untrue (or lets any error pass) when something did not come true. Steps
depend on those before them: after a failure the rest is not reached.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from tests.demo import places, streams
from tests.demo.stage import Stage, Untrue, begin, shown_python

ROOF: Final = ("pi-roof-1", "pi-roof-2")
CELLAR: Final = "pi-cellar"
AGENTS: Final = (*ROOF, CELLAR)
PICO: Final = "pico-roof"
READINGS: Final = "tele.>"
GATE: Final = "tele.gate.opened"  # of a device at the hub itself
OUTAGE_SECONDS: Final = 5.0  # long enough for presence to expire and for readings to pile up, short for a spectator
DRAIN_SECONDS: Final = 60.0  # the hub looks for a source that fell silent every ten seconds; a stock site after 40


@dataclass(frozen=True, slots=True)
class Step:
    title: str
    story: str
    act: Callable[[Stage], str]


def hub(stage: Stage) -> str:
    stage.start_hub()
    stage.tell.say(f"It listens on {stage.hub.url}. From here on, everything behind a $ can be typed like that, after:")
    stage.tell.command(f"export FLEET_SERVER={stage.hub.url}")
    said = stage.fleet("init")
    made = said.text.count("created")
    stage.check(made == 8, f"`fleet init` created 3 streams and 5 buckets, not {made} things", stage.hub.log)
    return "a stock nats-server holds the fleet's 3 streams and 5 buckets"


def sites(stage: Stage) -> str:
    for name in ("roof", "cellar"):
        stage.start_site(name)
    stage.tell.say(f"The whole configuration of the roof ({stage.site_broker} -c server.conf):")
    for line in (stage.folder / "roof" / "server.conf").read_text().strip().splitlines():
        stage.tell.printed(line)
    log = stage.sites["roof"].log
    stage.until("the hub has leaf links from both sites", lambda: stage.linked() == {"roof", "cellar"}, log=log)
    return "the hub lists both sites among its leaf connections"


def devices(stage: Stage) -> str:
    for name in ROOF:
        stage.start_device(name, "roof")
    stage.start_device(CELLAR, "cellar")
    log = stage.devices[AGENTS[0]].log
    stage.until("all three devices are up", lambda: stage.up() == set(AGENTS), log=log)
    stage.fleet("ls")
    for site in ("roof", "cellar"):
        stage.until(f"{site} keeps readings", partial(_keeps_readings, stage, site), log=log)
        stage.fleet("site", "add", site)
    return "3 devices announced themselves; nobody entered them anywhere"


def pico(stage: Stage) -> str:
    name = stage.start_pico(PICO, "roof")
    if name:
        stage.tell.say(f"It runs the firmware under {name}.")
    else:
        stage.tell.say(
            f"No MicroPython on this machine: the same firmware runs under {shown_python()}. "
            "`.venv/bin/python -m tests.support.micropython --fetch` gets the real one where apt can."
        )
    log = stage.devices[PICO].log
    at_roof, at_hub = stage.sites["roof"].url, stage.hub.url
    stage.until("the roof stores its readings", lambda: _count(at_roof, PICO) > 0, log=log)
    stage.until("the hub has them too", lambda: _count(at_hub, PICO) > 0, seconds=DRAIN_SECONDS, log=stage.hub.log)
    sample = [kept for kept in streams.look(streams.read(at_hub, "TELEMETRY")) if PICO in kept.subject][-1]
    stage.tell.say("One of its readings, as the hub stores it:")
    stage.tell.printed(f"{sample.subject}  {sample.body.decode()}")
    body = json.loads(sample.body)
    stage.check(body["device"] == PICO and "value" in body, "the hub's copy is the reading")
    return f"readings go {name.split(',')[0] or shown_python()} → roof → hub"


def ask(stage: Stage) -> str:
    said = stage.fleet("query", "tag.site = 'roof'", "--select", "os.name, cpu.count, mem.percent")
    stage.check("2 matched, 1 unmatched, 0 errored, 0 absent" in said.text, "everyone is accounted for")
    for name in ROOF:
        stage.check(name in said.text, f"{name} is among the answers")
    said = stage.fleet("query", "os.nmae = 'Linux'", expect=1)
    stage.check("3 errored" in said.text, "a mistyped filter is an error on every device, not silence")
    stage.tell.say(
        "It is plain NATS: any client may ask. This is what the `nats` tool gets when it sends the filter alone:"
    )
    _ask_with_any_client(stage)
    return "2 matched, 1 unmatched; a mistyped filter is reported by all 3, not answered by silence"


def configure(stage: Stage) -> str:
    log = stage.devices[AGENTS[0]].log
    stage.tell.say("Desired values are set once; every device takes them up and reports:")
    good = _revision(stage.fleet("config", "set", "thermostat", "target=21", "--all").text)
    stage.check(_targets(stage) == [21, 21, 21], f"all three files say 21, not {_targets(stage)}", log)
    stage.tell.say("A value that the thermostat itself calls invalid is refused; no file is touched:")
    said = stage.fleet("config", "set", "thermostat", "target=99", "--all", expect=1)
    stage.check(said.text.count("refused") >= 3, "all three devices refused it", log)
    stage.check(_targets(stage) == [21, 21, 21], f"all three files still say 21, not {_targets(stage)}", log)
    stage.tell.say("A value that looks good but breaks the heating is undone by the device itself:")
    said = stage.fleet("config", "set", "thermostat", "target=28", "--all", expect=1)
    stage.check(said.text.count("reverted") >= 3, "all three devices undid it", log)
    stage.check(_targets(stage) == [21, 21, 21], f"all three files say 21 again, not {_targets(stage)}", log)
    stage.tell.say("And the operator goes back to the revision that was good:")
    stage.fleet("config", "revert", "thermostat", "--all", "--to", str(good))
    stage.fleet("config", "history", "thermostat", "--all")
    return "21 °C converged on 3 devices, 99 was refused, 28 undone, and the revert converged"


def command(stage: Stage) -> str:
    ledger = stage.home(CELLAR) / "done.txt"
    stage.tell.say(f"{CELLAR} is switched off:")
    stage.devices[CELLAR].stop()
    stage.fleet("ls", "--tag", "site=cellar")
    said = stage.fleet("run", "--on", CELLAR, "--detach", "--", "sh", "-c", f"echo cleaned the filter >> {ledger}")
    stage.notes["command"] = name = _command_id(said.text)
    stage.fleet("commands")
    stage.check(not ledger.exists(), "nothing ran while the device was off")
    stage.tell.say(f"{CELLAR} is switched on again:")
    stage.start_device(CELLAR, "cellar")
    log = stage.devices[CELLAR].log
    stage.until("the command has an outcome", lambda: _state(stage, name) not in ("", "queued", "running"), log=log)
    said = stage.fleet("result", name, "--json")
    stage.check('"succeeded"' in said.text, "the outcome is succeeded", log)
    _check_once(stage)
    return "it waited at the hub, ran once at start (exactly one line in its file), and reported succeeded"


def outage(stage: Stage) -> str:
    at_roof, at_hub = stage.sites["roof"], stage.hub
    stage.links["roof"].refuse()
    stage.links["roof"].reset()
    stage.until("the hub has lost the roof", lambda: "roof" not in stage.linked(), log=at_hub.log)
    stage.tell.say("The link is cut. On the roof's own network devices still answer, without the hub:")
    _ask_locally(stage)
    before = _waiting(stage)
    number = streams.look(streams.publish(at_roof.url, "tele.door.opened", b'{"v":1,"device":"door","value":1}'))
    stage.tell.say(f"A reading published there is acknowledged, which means on disk: number {number} of the stream.")
    streams.look(streams.publish(at_hub.url, GATE, b'{"v":1,"device":"gate","value":1}'))
    _watch_backlog(stage, time.monotonic() + OUTAGE_SECONDS)
    stage.until("presence of the roof has expired", lambda: stage.up() == {CELLAR}, log=at_hub.log)
    stage.tell.say("The operator at the hub sees who is missing, and configures them all the same:")
    stage.fleet("ls")
    stage.fleet("config", "set", "thermostat", "target=19", "--all", "--timeout", "2", expect=4)
    waiting = _waiting(stage)
    stage.check(waiting > before, f"readings pile up at the roof ({before} before, {waiting} now)", at_roof.log)
    stage.notes["waiting"] = waiting
    return f"the roof went on alone: queries answered, readings acknowledged, {waiting} of them waiting for the hub"


def _ask_locally(stage: Stage) -> None:
    """The operator on the site's own network, with the hub out of reach."""
    at_roof = ("--server", stage.sites["roof"].url, "--domain", places.HUB_DOMAIN)
    said = stage.fleet("query", *at_roof, "tag.site = 'roof'", "--select", "host.name, mem.percent", expect=4)
    stage.check("2 matched, 0 unmatched, 0 errored" in said.text, "both devices of the roof answered")


def _ask_with_any_client(stage: Stage) -> None:
    """The same question as a plain NATS request."""
    question = "tag.site = 'roof'"
    stage.tell.command(f'nats request device.info "{question}" --replies 0')
    found = streams.look(streams.answers(stage.hub.url, "device.info", question.encode(), count=len(ROOF)))
    for body in found:
        stage.tell.printed(body.decode())
    names = sorted(json.loads(body)["device"] for body in found)
    stage.check(names == sorted(ROOF), f"both devices of the roof answered, not {names}", stage.devices[ROOF[0]].log)


def _watch_backlog(stage: Stage, deadline: float) -> None:
    """A line a second: what the roof keeps and what the hub has of it."""
    while time.monotonic() < deadline:
        stage.check_alive()
        stage.tell.printed(_backlog(stage))
        time.sleep(1)


def power_cut(stage: Stage) -> str:
    roof = stage.sites["roof"]
    number = streams.look(streams.publish(roof.url, "tele.door.closed", b'{"v":1,"device":"door","value":0}'))
    published = _newest_of_pico(stage)
    stage.tell.command(f"kill -9 {roof.pid}")
    roof.kill()
    stage.tell.say(f"Number {number} was just acknowledged. The broker starts again:")
    begin("the broker of the roof", roof)
    after = streams.look(streams.read(roof.url, "TELEMETRY"))
    stage.check(len(after) >= number, f"the {number} acknowledged readings are there, not {len(after)}", roof.log)
    last = after[number - 1]
    stage.check(
        (last.seq, last.subject) == (number, "tele.door.closed"), f"number {number} is the one acknowledged", roof.log
    )
    stage.tell.say(f"{len(after)} readings are there, the one that was just acknowledged among them.")
    stage.until(
        "the Pico goes on where it was", lambda: _newest_of_pico(stage) > published, log=stage.devices[PICO].log
    )
    return f"all {number} acknowledged readings survived kill -9, and the Pico found back by itself"


def drain(stage: Stage) -> str:
    at_roof, at_hub = stage.sites["roof"], stage.hub
    stage.links["roof"].accept()
    stage.until("the hub has the roof back", lambda: "roof" in stage.linked(), log=at_roof.log)
    upto = _last(stage, "roof")
    stage.tell.say(f"The link is back. The hub must now get everything up to the roof's number {upto}:")
    told = [0.0]

    def drained() -> bool:
        if time.monotonic() - told[0] >= 1:
            stage.tell.printed(_backlog(stage))
            told[0] = time.monotonic()
        return max(_origins(stage), default=0) >= upto

    stage.until("the hub has caught up", drained, seconds=DRAIN_SECONDS, log=at_hub.log)
    stage.tell.printed(_backlog(stage))
    _check_exactly_once(stage, upto)
    log = stage.devices[ROOF[0]].log
    stage.until(
        "the roof took up what was configured meanwhile",
        lambda: _targets(stage) == [19] * 3,
        seconds=DRAIN_SECONDS,
        log=log,
    )
    stage.until("the roof's devices are up", lambda: stage.up() == set(AGENTS), log=log)
    stage.fleet("config", "status", "thermostat")
    stage.fleet("site", "ls")
    stage.fleet("ls")
    _check_once(stage)
    return f"all {upto} messages of the roof are at the hub, each exactly once, in order, byte for byte"


STEPS: Final = (
    Step("A hub", "The hub is a stock nats-server. `fleet init` makes the streams and buckets of a fleet.", hub),
    Step("Two sites", "Each site has a broker of its own: our leafnode, linked to the hub from inside.", sites),
    Step("Devices appear", "fleet-agent starts on three devices: two on the roof, one in the cellar.", devices),
    Step("A Pico publishes", "A sensor that does nothing but publish joins the roof, ten readings a second.", pico),
    Step("Ask the fleet", "A filter is SQL over what devices know about themselves; each answers for itself.", ask),
    Step("Change configuration", "A small heating service on each device has one managed file.", configure),
    Step("A command for later", "A command for a device that is off waits for it, and runs once.", command),
    Step("Cut a link", "The roof loses its way to the hub.", outage),
    Step("Pull the plug", "As if that was not enough, the roof's broker dies without a warning.", power_cut),
    Step("Restore the link", "What piled up drains to the hub, which must end up with everything, once.", drain),
)


# What the steps look at.


def _last(stage: Stage, site: str) -> int:
    return streams.look(streams.last_seq(stage.sites[site].url, "TELEMETRY"))


def _newest_of_pico(stage: Stage) -> int:
    """The Pico's own number of its newest reading at the roof."""
    body = streams.look(streams.newest(stage.sites["roof"].url, "TELEMETRY", f"tele.{PICO}.temp"))
    return int(json.loads(body)["seq"])


def _keeps_readings(stage: Stage, site: str) -> bool:
    return _last(stage, site) > 0


def _count(url: str, device: str) -> int:
    return sum(streams.look(streams.counts(url, "TELEMETRY", f"tele.{device}.>")).values())


def _is_of_roof(subject: str) -> bool:
    return not subject.startswith(f"tele.{CELLAR}.") and subject != GATE


def _of_roof(counts: Mapping[str, int]) -> int:
    return sum(count for subject, count in counts.items() if _is_of_roof(subject))


def _amounts(stage: Stage) -> tuple[int, int]:
    """Messages of the roof: at the roof, at the hub. The hub is asked first: it must never seem to be ahead."""
    there = _of_roof(streams.look(streams.counts(stage.hub.url, "TELEMETRY", READINGS)))
    here = _of_roof(streams.look(streams.counts(stage.sites["roof"].url, "TELEMETRY", READINGS)))
    return here, there


def _waiting(stage: Stage) -> int:
    here, there = _amounts(stage)
    return here - there


def _backlog(stage: Stage) -> str:
    here, there = _amounts(stage)
    return f"roof keeps {here:4d} readings · hub has {there:4d} of them · {here - there:4d} wait"


def _origins(stage: Stage) -> Counter[int]:
    """How often each number of the roof's stream is at the hub."""
    kept = streams.look(streams.read(stage.hub.url, "TELEMETRY"))
    return Counter(each.origin for each in kept if _is_of_roof(each.subject))


def _check_exactly_once(stage: Stage, upto: int) -> None:
    """The roof's messages 1 to `upto` are at the hub: each, once, in order, unchanged."""
    here = {each.seq: each for each in streams.look(streams.read(stage.sites["roof"].url, "TELEMETRY"))}
    kept = streams.look(streams.read(stage.hub.url, "TELEMETRY"))
    there = [each for each in kept if _is_of_roof(each.subject) and each.origin <= upto]
    wanted = list(range(1, upto + 1))
    stage.check([seq for seq in here if seq <= upto] == wanted, f"the roof keeps every number from 1 to {upto}")
    got = [each.origin for each in there]
    doubled = [seq for seq, times in Counter(got).items() if times > 1]
    stage.check(not doubled, f"nothing is at the hub twice (twice: {doubled[:5]})", stage.hub.log)
    missing = sorted(set(wanted) - set(got))
    stage.check(not missing, f"nothing is missing at the hub (missing: {missing[:5]})", stage.hub.log)
    stage.check(got == wanted, "the hub has the roof's order", stage.hub.log)
    changed = [each.origin for each in there if (each.subject, each.body) != _content(here[each.origin])]
    stage.check(not changed, f"the hub has the same bytes (others: {changed[:5]})", stage.hub.log)
    stage.tell.say(f"Counted: numbers 1 to {upto} of the roof, {len(there)} messages at the hub, 0 missing, 0 twice.")
    gate = sum(each.subject == GATE for each in kept)
    stage.check(gate == 1, f"what was published at the hub itself is there once, not {gate} times", stage.hub.log)
    numbers = [json.loads(each.body)["seq"] for each in there if each.subject == f"tele.{PICO}.temp"]
    stage.check(numbers == list(range(1, len(numbers) + 1)), "the Pico's readings are all there, once, in its order")
    stage.tell.say(f"The Pico numbers its readings itself: 1 to {len(numbers)} are at the hub, 0 missing, 0 twice.")


def _content(kept: streams.Kept) -> tuple[str, bytes]:
    return kept.subject, kept.body


def _targets(stage: Stage) -> list[int | None]:
    """What the thermostat's file says on each device."""
    files = [stage.home(name) / "thermostat.json" for name in AGENTS]
    return [json.loads(file.read_text()).get("target") if file.exists() else None for file in files]


def _revision(text: str) -> int:
    if found := re.search(r"^all\.thermostat revision (\d+)$", text, re.MULTILINE):
        return int(found[1])
    raise Untrue(f"`fleet config set` did not say which revision it wrote: {text}")


def _command_id(text: str) -> str:
    if found := re.search(r"^[A-Za-z0-9_-]{22}$", text, re.MULTILINE):
        return found[0]
    raise Untrue(f"`fleet run --detach` did not print the command's id: {text}")


def _state(stage: Stage, name: str) -> str:
    said = stage.fleet("result", name, "--json", expect=None, quiet=True)
    rows = [json.loads(line) for line in said.text.splitlines() if line.startswith("{")]
    return str(rows[0].get("state", "")) if rows else ""


def _check_once(stage: Stage) -> None:
    """The command of step 7 left exactly one line."""
    file = stage.home(CELLAR) / "done.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    log = stage.devices[CELLAR].log
    stage.check(lines == ["cleaned the filter"], f"the command ran exactly once, not {len(lines)} times", log)


def next_things(stage: Stage) -> list[str]:
    """Commands to try while everything is left running."""
    roof = stage.sites["roof"].url
    return [
        f"export FLEET_SERVER={stage.hub.url}",
        "fleet ls",
        "fleet top --once",
        "fleet info pi-roof-1",
        'fleet query "mem.percent > 1" --select "host.name, mem.percent"',
        "fleet config set thermostat target=20 --group heating",
        "fleet run --all -- uptime",
        f"fleet query --server {roof} --domain {places.HUB_DOMAIN} \"tag.site = 'roof'\"",
        f"nats --server {stage.hub.url} request device.info '' --replies 0",
        f"nats --server {roof} sub 'tele.>'",
    ]
