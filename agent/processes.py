"""Running other programs: with a time limit for the whole process group, and a bounded memory of what they printed."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

GRACE_SECONDS: Final = 3.0  # between SIGTERM and SIGKILL
DRAIN_SECONDS: Final = 1.0  # for output after the end: a grandchild may hold the pipe open for ever
READ_BYTES: Final = 16_384
_OURS: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "JOURNAL_STREAM")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended. `exit_code` is negative for a signal, None if it never started."""

    exit_code: int | None
    stdout: str = ""
    stderr: str = ""
    truncated: bool = False
    timed_out: bool = False
    error: str = ""

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0 and not self.timed_out

    def summary(self) -> str:
        """Why it did not succeed, in one line."""
        if self.error:
            return self.error
        said = (self.stderr.strip() or self.stdout.strip()).splitlines()
        reason = "took too long" if self.timed_out else f"ended with {self.exit_code}"
        return f"{reason}: {said[-1]}" if said else reason


async def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    output_bytes: int,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> Ended:
    """Run `argv` in a process group of its own, without a shell, to its end or the end of its time.

    The end of its time, or cancelling, kills the group; what a program leaves running when it ends well stays.
    Never raises for what the program does, or for a program that is not there.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in _OURS}
    loop = asyncio.get_running_loop()
    try:
        transport, protocol = await loop.subprocess_exec(
            lambda: _Protocol(READ_BYTES, loop),
            *argv,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**inherited, **(env or {})},
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if cwd is not None and getattr(error, "filename", None) == str(cwd):
            return Ended(None, error=f"{argv[0]} cannot be started in {cwd}: {reason}")
        return Ended(None, error=f"{argv[0]} cannot be started: {reason}")
    child = _Child(asyncio.subprocess.Process(transport, protocol, loop), protocol.exited)
    try:
        return await _follow(child, timeout_s, output_bytes, stdin)
    except asyncio.CancelledError:
        child.signal(signal.SIGKILL)
        await child.exited.wait()
        raise
    finally:
        transport.close()


class _Protocol(asyncio.subprocess.SubprocessStreamProtocol):
    """Tells when the program itself ended. The library's `wait` also waits for its pipes, which a grandchild may hold
    open for ever."""

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit, loop)
        self.exited = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()


@dataclass(frozen=True, slots=True)
class _Child:
    process: asyncio.subprocess.Process
    exited: asyncio.Event

    def signal(self, number: int) -> None:
        """To the whole group: its id is the child's."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


async def _follow(child: _Child, timeout_s: float, limit: int, stdin: bytes | None) -> Ended:
    out, err = _Kept(limit), _Kept(limit)
    assert child.process.stdout
    assert child.process.stderr
    readers = [
        asyncio.create_task(out.read(child.process.stdout), name="stdout"),
        asyncio.create_task(err.read(child.process.stderr), name="stderr"),
        asyncio.create_task(_feed(child.process, stdin), name="stdin"),
    ]
    timed_out = False
    try:
        try:
            async with asyncio.timeout(timeout_s):
                await child.exited.wait()
        except TimeoutError:
            timed_out = True
            await _end(child)
        await asyncio.wait(readers, timeout=DRAIN_SECONDS)
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    truncated = out.truncated or err.truncated
    return Ended(child.process.returncode, out.text(), err.text(), truncated, timed_out)


async def _feed(child: asyncio.subprocess.Process, stdin: bytes | None) -> None:
    if stdin is None or not child.stdin:
        return
    with contextlib.suppress(OSError):
        child.stdin.write(stdin)
        await child.stdin.drain()
        child.stdin.close()


async def _end(child: _Child) -> None:
    """Ask, then insist: the whole group, also when its leader ended by itself."""
    child.signal(signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRACE_SECONDS):
            await child.exited.wait()
    child.signal(signal.SIGKILL)
    await child.exited.wait()


class _Kept:
    """The first bytes of a pipe; the rest is read, so that the writer goes on, and forgotten."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = bytearray()
        self.truncated = False

    async def read(self, pipe: asyncio.StreamReader) -> None:
        while chunk := await pipe.read(READ_BYTES):
            room = self._limit - len(self._bytes)
            self._bytes += chunk[:room]
            self.truncated = self.truncated or len(chunk) > room

    def text(self) -> str:
        return self._bytes.decode(errors="replace")
