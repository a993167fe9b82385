"""README.md stays true: links lead somewhere, copyable commands exist, configuration is accepted.

Blocks marked `sh` are for copying. Their `make`, `fleet`, `leafnode`, `fleet-agent` and `install` lines are checked
against the real thing; `toml` is loaded as the agent's settings; hub and first site are started.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from agent.fleet import arguments
from agent.settings import load
from leafnode.config import flags
from tests.demo.steps import STEPS
from tests.support.ports import free_port
from tests.support.servers import Process, stock_hub

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language; "" for those without one."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return [body for name, body in found if name == language]


def command_lines() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    parts = [part for line in lines for part in line.split(" && ")]
    return [[word for word in shlex.split(part, comments=True) if word != "sudo"] for part in parts]


def of(program: str) -> list[list[str]]:
    """The arguments of every line that runs this program."""
    return [words[1:] for words in command_lines() if Path(words[0]).name == program]


def test_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert targets
    assert [each for each in targets if "://" not in each and not (ROOT / each).exists()] == []


def test_make_targets_exist():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"`make ([a-z]+)", TEXT) + [words[0] for words in of("make")]
    assert {"demo", "test"} <= set(named)
    assert [each for each in named if each not in targets] == []


def test_the_demo_has_as_many_steps_as_it_says():
    shown = re.findall(r"^── (\d+) of (\d+) · (.+?) ─", TEXT, re.MULTILINE)
    assert shown
    for number, total, title in shown:
        assert int(total) == len(STEPS)
        assert STEPS[int(number) - 1].title == title


@pytest.mark.parametrize("words", of("fleet"), ids=" ".join)
def test_fleet_takes_the_command(words):
    parsed = arguments.parse(words)
    assert parsed.command


@pytest.mark.parametrize("words", of("leafnode"), ids=" ".join)
def test_leafnode_takes_the_flags(words):
    assert flags.parse_args(words).action in ("run", "test")


@pytest.mark.parametrize("words", of("fleet-agent"), ids=" ".join)
def test_fleet_agent_takes_the_flags(words, tmp_path):
    (settings := tmp_path / "agent.toml").write_text(blocks("toml")[0])
    words = [str(settings) if word.endswith("agent.toml") else word for word in words]
    done = subprocess.run([sys.executable, "-m", "agent", *words], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr


def test_files_to_install_exist():
    sources = [word for words in of("install") for word in words if Path(word).suffix and not word.startswith("/")]
    assert sources
    assert [each for each in sources if not (ROOT / "systemd" / each).exists()] == []


def test_programs_are_known():
    """Nothing is copyable that no other test here looks at, but for the tools of every system."""
    ours = {"make", "fleet", "leafnode", "fleet-agent", "install"}
    systems = {"python3", "pip", "export", "cd", "systemctl", "systemd-sysusers"}
    assert {Path(words[0]).name for words in command_lines()} <= ours | systems


def test_agent_settings_are_accepted(tmp_path):
    for number, block in enumerate(blocks("toml")):
        (file := tmp_path / f"{number}.toml").write_text(block)
        assert load(file).nats.hub_domain == "hub"


def test_hub_and_first_site_find_each_other(tmp_path):
    """The hub as README.md configures it and the broker as systemd/leafnode.conf does, but for places and ports."""
    (config,) = [block for block in blocks("") if block.startswith("jetstream")]
    port = free_port()
    hub = config.replace("/var/lib/nats", str(tmp_path / "nats")).replace("0.0.0.0:7422", f"127.0.0.1:{port}")
    site = (ROOT / "systemd" / "leafnode.conf").read_text()
    for ours, theirs in {
        "tls://site:change-me@hub.example.net:7422": f"nats-leaf://roof:change-me@127.0.0.1:{port}",
        "/var/lib/leafnode": str(tmp_path / "leafnode"),
        "0.0.0.0:4222": f"127.0.0.1:{free_port()}",
        "127.0.0.1:8222": f"127.0.0.1:{free_port()}",
    }.items():
        assert ours in site
        site = site.replace(ours, theirs)
    (file := tmp_path / "leafnode.conf").write_text(site)
    argv = [sys.executable, "-m", "leafnode", "-c", str(file)]
    with stock_hub(tmp_path / "hub", config=hub), Process(argv, tmp_path / "leafnode.log", ready="leaf link up: hub="):
        pass
