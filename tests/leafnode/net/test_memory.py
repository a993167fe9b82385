"""What the process does with memory once everything is loaded."""

import gc
import platform
import subprocess
import sys
import weakref

from leafnode.route.session import Session
from tests.leafnode.route.host import FakeHost

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


TRIMMED = """
import asyncio
from leafnode.net import process

async def main() -> None:
    process.TRIM_SECONDS = 0.01
    task = asyncio.create_task(process.give_back_memory())
    await asyncio.sleep(0)
    blocks = [b"x" * (1000 + n % 7) for n in range(60_000)]
    full = process.resident_bytes()
    del blocks[:-1]
    async with asyncio.timeout(30):
        while not task.done() and process.resident_bytes() > full - (40 << 20):
            await asyncio.sleep(0.01)
    print(full - process.resident_bytes())
    task.cancel()

asyncio.run(main())
"""


def test_memory_below_what_is_in_use_is_given_back() -> None:
    if platform.libc_ver()[0] == "glibc":
        subprocess.run([sys.executable, "-c", TRIMMED], timeout=60, check=True)


class End:
    """Refers to its session, which refers to it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        session.wake = session.on_pong = self.flush

    def flush(self) -> None:
        self.session.take_output().clear()


def ended(host: FakeHost) -> "weakref.ref[Session]":
    """A session that heard and said something, and is over."""
    other, session = host.client(), host.client()
    End(session)
    session.receive(b"SUB a.* 1\r\nPUB a.b 1\r\nx\r\n")
    other.receive(b"PUB a.b 1\r\nx\r\n" * 20)
    session.end()
    session.release()
    return weakref.ref(session)


def test_a_connection_that_is_over_is_freed_without_the_collector() -> None:
    host = FakeHost()
    gc.disable()
    try:
        assert ended(host)() is None
    finally:
        gc.enable()
