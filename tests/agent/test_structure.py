"""Each library has one door, and the parts that decide have no effects."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "agent"
FILES = sorted(path for path in ROOT.rglob("*.py") if "fleet" not in path.relative_to(ROOT).parts)
DOORS = {
    "nats": {"bus.py"},
    "psutil": {"facts/system.py"},
    "cryptography": {"identity.py"},
    "sqlite3": {"sandbox.py", "facts/history.py"},
}
PURE = {"desired.py", "render.py", "subjects.py", "payloads.py", "errors.py", "query.py", "facts/table.py"}
EFFECTS = {"asyncio", "socket", "subprocess", "time", "random", "logging", "os", "sqlite3", "aiosqlite", "threading"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    names = imported(path)
    tops = {each.split(".")[0] for each in names}
    for library, doors in DOORS.items():
        assert library not in tops or name in doors, f"{library} is imported in {', '.join(doors)} only"
    assert not [each for each in names if each.startswith("agent.fleet")], "the device knows nothing of the operator"
    ours = {each for each in names if each.split(".")[0] == "leafnode"}
    assert all(each == "leafnode" or each.startswith("leafnode.base") for each in ours)
    assert name not in PURE or not tops & EFFECTS
