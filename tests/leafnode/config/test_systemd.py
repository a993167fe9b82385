"""The units and the example configuration that users copy."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from leafnode.config.flags import configure

FOLDER = Path(__file__).parents[3] / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
SECONDS = 60


def directives(unit: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(unit)
    return dict(parser["Service"])


def test_the_example_is_accepted_and_says_what_it_should() -> None:
    config = configure(["-c", str(FOLDER / "leafnode.conf")], {})
    assert config.warnings == ()
    assert config.jetstream.enabled
    assert config.jetstream.domain == config.server_name == "roof"
    assert config.http_host == "127.0.0.1"
    (remote,) = config.leafnodes.remotes
    assert remote.deny_exports == remote.deny_imports == ("tele.>", "fleet.result.>")
    assert remote.urls[0].is_tls


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_hardened(unit: Path) -> None:
    found = directives(unit)
    assert found["Type"] == "notify"
    assert found["ProtectSystem"] == "strict"
    assert {"WatchdogSec", "StateDirectory", "MemoryMax", "CapabilityBoundingSet", "TasksMax"} <= found.keys()
    assert found["NoNewPrivileges"] == "yes"
    assert found["Restart"] == "always"


def test_the_sockets_are_those_of_the_example() -> None:
    config = configure(["-c", str(FOLDER / "leafnode.conf")], {})
    text = (FOLDER / "leafnode.socket").read_text()
    wanted = {f"{config.host}:{config.port}", f"{config.http_host}:{config.http_port}"}
    assert set(re.findall(r"^ListenStream=(.+)$", text, re.MULTILINE)) == wanted


def test_the_brokers_store_is_the_units_state_directory() -> None:
    config = configure(["-c", str(FOLDER / "leafnode.conf")], {})
    assert config.jetstream.store_dir == f"/var/lib/{directives(FOLDER / 'leafnode.service')['StateDirectory']}"


@pytest.mark.parametrize("unit", [*UNITS, FOLDER / "leafnode.socket"], ids=lambda unit: unit.name)
def test_systemd_understands_the_unit(unit: Path, tmp_path: Path) -> None:
    """Checked by systemd itself where there is one; its programs need not be installed here."""
    program = shutil.which("systemd-analyze")
    if program is None:
        print("systemd-analyze is not installed: the unit was read, but not verified")
        return
    together = [unit, FOLDER / "leafnode.service"] if unit.suffix == ".socket" else [unit]
    copies = [tmp_path / each.name for each in together]
    for each, copy in zip(together, copies, strict=True):
        text = re.sub(r"^(ExecStart=)/opt/\S+", rf"\g<1>{shutil.which('true')}", each.read_text(), flags=re.MULTILINE)
        copy.write_text(re.sub(r"file:///\S+", "", text))
    done = subprocess.run(
        [program, "verify", "--recursive-errors=no", "--man=no", *map(str, copies)],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert complaints == []
