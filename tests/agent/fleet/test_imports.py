"""The operator's side shares the wire with the agent and nothing else, and `fleet --help` loads next to nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.fleet.conftest import ROOT

FOLDER = ROOT / "agent" / "fleet"
SHARED = {"agent.bus", "agent.errors", "agent.payloads", "agent.schema", "agent.subjects", "agent"}
HEAVY = ("asyncio", "nats", "rich", "ssl", "sqlite3", "psutil", "cryptography")


def imported(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_imports_point_one_way(path: Path) -> None:
    ours = {name for name in imported(path) if name.split(".")[0] in ("agent", "leafnode")}
    strangers = {
        name
        for name in ours
        if not (name in SHARED or name == "agent.fleet" or name.startswith(("agent.fleet.", "leafnode.base")))
    }
    if path.name == "cli_simulate.py":  # plays devices, so it is made of them
        strangers -= {"agent.simulator"}
    assert strangers - {"leafnode"} == set()  # `leafnode` itself: the version


def test_help_loads_nothing_heavy() -> None:
    program = f"""
import sys
from agent.fleet.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stderr.strip() == "[]"
    assert "fleet" in ended.stdout
