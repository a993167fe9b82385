"""What the process does with memory once everything is loaded."""

import platform
import subprocess
import sys

ASKED = """
import gc, resource
from leafnode.net.process import settle_memory

def faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        blocks = [b"x" * (200 << 10) for _ in range(8)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

settle_memory()
print(faults(), gc.get_freeze_count(), gc.get_threshold()[0])
"""
FAULTS_EACH = 400  # pages of 1.6 MB that come anew from the kernel


def test_large_blocks_are_used_again_and_what_is_loaded_is_not_looked_at_again() -> None:
    ran = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, timeout=60, check=True)
    faults, frozen, threshold = map(int, ran.stdout.split())
    assert frozen > 10_000
    assert threshold > 10_000
    if platform.libc_ver()[0] == "glibc":
        assert faults < 100 * FAULTS_EACH / 4
