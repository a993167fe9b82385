"""A file that holds some space of the disk, so that a full disk can still be cleaned.

Deleting needs room too: removals go through the log like everything, and the log must fit into the file before it can
be used again. When the disk refuses, the reserve is given up; what it frees is for that (the streams refuse messages
meanwhile). It is taken again only when that leaves some space for messages.
"""

import os
from pathlib import Path

RESERVE_BYTES = 20 << 20  # the longest log: what starts a checkpoint, plus the largest commit
ROOM_BYTES = 4 << 20  # that must be free beside the reserve before messages are taken again


class Reserve:
    """One file next to the database."""

    def __init__(self, path: Path, size: int = RESERVE_BYTES, *, min_free: int = 0) -> None:
        """`min_free`: bytes of the file system that are to be left for others."""
        self._min_free = min_free
        self._path = path
        self._size = size

    def take(self) -> bool:
        """Hold the space; False if the disk has not got it."""
        try:
            if self._path.exists() and self._path.stat().st_size >= self._size:
                return self._free() >= self._min_free + (ROOM_BYTES if self._min_free else 0)
            if self._free() < self._size + ROOM_BYTES + self._min_free:
                return False
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
            finally:
                os.close(descriptor)
        except OSError:
            self.release()
            return False
        return True

    def is_short(self) -> bool:
        """Whether less is free than is to be left."""
        try:
            return self._min_free > 0 and self._free() < self._min_free
        except OSError:
            return False

    def _free(self) -> int:
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize

    def release(self) -> None:
        """Give the space to whoever needs it."""
        self._path.unlink(missing_ok=True)
