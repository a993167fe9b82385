"""Power cuts inside flash operations, on littlefs (see powercut.py). Only MicroPython has it."""

import subprocess
from pathlib import Path

import pytest

from tests.firmware import rig
from tests.support import micropython

STEP = 19  # of 640 cases; all of them pass and take 14 s


@pytest.mark.parametrize("interpreter", micropython.find()[:1], ids=lambda one: one.name)
def test_a_power_cut_costs_nothing_that_was_stored(interpreter):
    script = str(Path(__file__).with_name("powercut.py"))
    argv = interpreter.command(script, str(rig.FIRMWARE), "cuts", str(STEP), heap="1M")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-800:] + done.stderr[-800:]
    assert done.stdout.split("\n")[-2].startswith("ok ")
