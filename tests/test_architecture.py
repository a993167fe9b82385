"""The structure holds: imports point one way, the core is pure, each outside library has one door."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# package -> packages of ours that it may import (besides itself)
MAY_IMPORT: dict[str, set[str]] = {
    "leafnode": {
        "leafnode.base", "leafnode.config", "leafnode.forward", "leafnode.net", "leafnode.route", "leafnode.store",
        "leafnode.stream",
    },
    "leafnode.base": set(),
    "leafnode.config": {"leafnode", "leafnode.base", "leafnode.forward", "leafnode.route", "leafnode.wire"},
    "leafnode.wire": {"leafnode"},
    "leafnode.route": {"leafnode", "leafnode.wire"},
    "leafnode.stream": {"leafnode", "leafnode.wire", "leafnode.route"},
    "leafnode.forward": {"leafnode", "leafnode.wire", "leafnode.route", "leafnode.stream"},
    "leafnode.store": {"leafnode", "leafnode.base", "leafnode.route", "leafnode.stream", "leafnode.wire"},
    "leafnode.net": {
        "leafnode", "leafnode.base", "leafnode.config", "leafnode.forward", "leafnode.wire", "leafnode.route",
        "leafnode.stream", "leafnode.store",
    },
    "agent": {"leafnode.base", "agent.facts", "leafnode"},
    "agent.facts": {"agent"},
    "agent.simulator": {"agent", "agent.facts", "leafnode"},
    "agent.fleet": {"agent", "agent.simulator", "leafnode.base", "leafnode"},
}  # fmt: skip
PURE = ("leafnode.wire", "leafnode.route", "leafnode.stream", "leafnode.forward")
EFFECTS = {
    "asyncio",
    "socket",
    "ssl",
    "time",
    "random",
    "sqlite3",
    "aiosqlite",
    "logging",
    "os",
    "secrets",
    "threading",
}
ONLY_DOOR = {  # library -> where it may be imported
    "nats": {"agent.bus"},
    "psutil": {"agent.facts"},
    "aiosqlite": {"leafnode.base.sqlite", "leafnode.store", "agent.ledger"},
    "cryptography": {"leafnode.net.secrets", "leafnode.net.tls", "agent.identity"},
    "rich": {"agent.fleet"},
}
FILES = sorted(p for top in ("leafnode", "agent") for p in (ROOT / top).rglob("*.py"))


def module(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def package(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parent.parts)


def package_of(name: str) -> str:
    """`leafnode.route.account.Account` -> `leafnode.route`; `leafnode.errors` -> `leafnode`."""
    parts = name.split(".")
    two = ".".join(parts[:2])
    return two if (ROOT / Path(*parts[:2])).is_dir() else parts[0]


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=module)
def test_imports_point_one_way(path: Path) -> None:
    here = package(path)
    ours = {package_of(name) for name in imports(path) if name.split(".")[0] in ("leafnode", "agent")}
    assert ours - {here} <= MAY_IMPORT[here]


@pytest.mark.parametrize("path", [p for p in FILES if package(p) in PURE], ids=module)
def test_the_core_is_pure(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & EFFECTS
    waits = (ast.AsyncFunctionDef, ast.Await)
    assert not [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, waits)]


@pytest.mark.parametrize("path", FILES, ids=module)
def test_each_library_has_one_door(path: Path) -> None:
    for library, doors in ONLY_DOOR.items():
        if library in {name.split(".")[0] for name in imports(path)}:
            assert any(module(path) == door or module(path).startswith(door + ".") for door in doors), library


def test_the_tools_of_the_operator_stay_out_of_the_agent() -> None:
    for path in FILES:
        if package(path) in ("agent", "agent.facts"):
            assert not any(name.startswith("agent.fleet") for name in imports(path)), path


def test_only_base_of_the_broker_is_shared() -> None:
    for path in FILES:
        if path.is_relative_to(ROOT / "agent"):
            broker = {n for n in imports(path) if n.split(".")[0] == "leafnode"}
            assert all(n.startswith(("leafnode.base", "leafnode.__version__")) for n in broker), (path, broker)
