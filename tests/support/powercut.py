"""What a power cut would leave of a process's files, at any moment of a real run.

The kernel hands us every write and every fsync of the process before it is carried out (`syscalls`). From that record
`state(moment, chance)` makes the files as they could be found after a power cut at that moment: what was written before
the newest fsync of a file is there; of what was written after it, each write is there, or is not, or is torn at a
multiple of 512 bytes, as chance has it. Names of files count as durable at once, in everybody's favour.

    recorder = Recorder(folder, lossy=("leafnode.db", "leafnode.db-wal"))
    broker.argv = recorder.wrap(broker.argv)
    ...                                      # recorder.moment: how many events there were
    recorder.state(moment, random.Random(1), elsewhere)
"""

import fnmatch
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support import syscalls

PATH_MAX = 4096  # bytes of a path, as the kernel has it
SECTOR_BYTES = 512  # what a disk writes whole or not at all
O_DSYNC, O_APPEND = 0o10000, 0o2000


class Event(NamedTuple):
    file: str  # below the folder
    call: str  # write, truncate, sync or remove
    place: int = 0
    data: bytes = b""


class Recorder(syscalls.Gate):
    """Records what one process writes below a folder, and lets everything happen."""

    calls = ("fsync", "fdatasync", "pwrite64", "write", "ftruncate", "unlink", "unlinkat")

    def __init__(self, folder: Path, *, lossy: Sequence[str]) -> None:
        """`lossy`: patterns of the files' names that a power cut is to threaten; all others count as synced at once."""
        super().__init__()
        self._folder = f"{folder}/"
        self._lossy = lossy
        self._lengths: dict[str, int] = {}
        self.events: list[Event] = []

    @property
    def moment(self) -> int:
        return len(self.events)

    def decide(self, listener: int, ticket: int, call: str, thread: int, values: Sequence[int]) -> None:
        try:
            self._record(call, thread, values)
        finally:
            syscalls.answer(listener, ticket, 0)

    def _record(self, call: str, thread: int, values: Sequence[int]) -> None:
        if call in ("unlink", "unlinkat"):
            self._record_removal(thread, values[0] if call == "unlink" else values[1])
            return
        try:
            path = os.readlink(f"/proc/{thread}/fd/{values[0]}")
        except OSError:
            return
        if not path.startswith(self._folder):
            return
        file = path.removeprefix(self._folder)
        if call in ("fsync", "fdatasync"):
            self.syncs += 1
            self.events.append(Event(file, "sync"))
        elif call == "ftruncate":
            self._lengths[file] = values[1]
            self.events.append(Event(file, "truncate", values[1]))
        else:
            self._record_write(file, call, thread, values)

    def _record_removal(self, thread: int, place: int) -> None:
        path = os.fsdecode(_memory(thread, place, PATH_MAX).split(b"\0")[0])
        if path.startswith(self._folder):
            self._lengths.pop(path.removeprefix(self._folder), None)
            self.events.append(Event(path.removeprefix(self._folder), "remove"))

    def _record_write(self, file: str, call: str, thread: int, values: Sequence[int]) -> None:
        about = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{thread}/fdinfo/{values[0]}").read_text().splitlines()
            if ":" in line
        )
        flags = int(about["flags"], 8)
        place = values[3] if call == "pwrite64" else int(about["pos"])
        if flags & O_APPEND:
            place = self._lengths.get(file, 0)
        data = _memory(thread, values[1], values[2])
        self._lengths[file] = max(self._lengths.get(file, 0), place + len(data))
        self.events.append(Event(file, "write", place, data))
        if flags & O_DSYNC:
            self.events.append(Event(file, "sync"))

    def state(self, moment: int, chance: random.Random, folder: Path) -> None:
        """The files, as a power cut at `moment` could leave them."""
        synced = {event.file: number for number, event in enumerate(self.events[:moment]) if event.call == "sync"}
        likelihood = chance.choice((0.0, 0.5, 0.9, 1.0))  # of an unsynced write to be there
        files: dict[str, bytearray] = {}
        for number, event in enumerate(self.events[:moment]):
            if event.call == "sync":
                continue
            if event.call == "remove":
                files.pop(event.file, None)
                continue
            content = files.setdefault(event.file, bytearray())
            is_safe = number < synced.get(event.file, -1) or not self._is_lossy(event.file)
            if event.call == "truncate" and (is_safe or chance.random() < likelihood):
                del content[event.place :]
                content.extend(bytes(event.place - len(content)))
            elif event.call == "write":
                data = event.data if is_safe else _left_of(event.data, likelihood, chance)
                if len(content) < event.place + len(data):
                    content.extend(bytes(event.place + len(data) - len(content)))
                content[event.place : event.place + len(data)] = data
        for file, content in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)

    def _is_lossy(self, file: str) -> bool:
        return any(fnmatch.fnmatch(os.path.basename(file), pattern) for pattern in self._lossy)


def _memory(thread: int, place: int, length: int) -> bytes:
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        return os.pread(memory.fileno(), length, place)


def _left_of(data: bytes, likelihood: float, chance: random.Random) -> bytes:
    """All, nothing, or the first sectors of an unsynced write."""
    if chance.random() >= likelihood:
        return b""
    if chance.random() < 0.8:
        return data
    return data[: chance.randrange(len(data) // SECTOR_BYTES + 1) * SECTOR_BYTES]
