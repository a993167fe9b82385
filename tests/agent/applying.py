"""One item of configuration without an agent around it, and a way to die at a chosen step of its application."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from agent.desired import Desired
from agent.settings import Item
from leafnode.base import toml

_PROGRAM = """
import asyncio, json, os, signal, sys
from pathlib import Path
from agent.apply import FileApplier
from tests.agent.applying import desired, item

def step(name):
    if name == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)

settings = item(**json.loads(sys.argv[3]))
applier = FileApplier("app", settings, Path(sys.argv[2]), step)
asyncio.run(applier.apply(desired(json.loads(sys.argv[4]), int(sys.argv[5]))))
"""


def item(**keys: Any) -> Item:
    """An item as the settings file would give it."""
    return toml.load(Item, keys, "test")


def desired(values: dict[str, Any], revision: int) -> Desired:
    return Desired(values, {"all.app": revision})


def die_at(step: str, state_dir: Path, keys: dict[str, Any], values: dict[str, Any], revision: int) -> None:
    """Apply `values` in a process of its own that is killed (SIGKILL) just before `step`."""
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM, step, str(state_dir), json.dumps(keys), json.dumps(values), str(revision)],
        cwd=Path(__file__).resolve().parents[2],
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, f"step {step} was not reached"
