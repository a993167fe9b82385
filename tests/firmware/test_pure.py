"""The parts that need no network, under each interpreter (see pure.py)."""

import subprocess
from pathlib import Path

from tests.firmware import rig


def test_pure_parts(host, tmp_path):
    argv = host.command(str(Path(__file__).with_name("pure.py")), str(rig.FIRMWARE), str(tmp_path))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    assert done.stdout.split("\n")[-2].startswith("ok ")
