"""Files that are either the old ones or the new ones, also after a power cut.

The order of events: write a temporary file beside the target, fsync it, rename it over the target, fsync the folder.
Without the first fsync a file system may rename before it writes and leave an empty file; without the second the
rename itself may be forgotten.
"""

import contextlib
import fcntl
import os
from pathlib import Path

from leafnode.base import nuid


def write_atomic(path: str | os.PathLike[str], data: bytes, mode: int = 0o600) -> None:
    """Replace the content of `path` by `data` with permission bits `mode`, whole or not at all.

    When this returns, the new content survives a power cut. When it raises OSError, the old file is untouched and
    nothing is left behind. A symbolic link at `path` is replaced, not followed.
    """
    target = Path(path)
    temporary = target.parent / f".{target.name}.{nuid.new()}.tmp"
    try:
        _write_synced(temporary, data, mode)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(target.parent)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make the names in `folder` durable: creations, renames and removals."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_synced(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # not through open(): the umask would take bits away
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def hold(path: Path) -> int:
    """Keep others from holding `path` (made when missing) until the descriptor is closed, or the process ends.

    Raises:
        BlockingIOError: another holds it.
        OSError: it cannot be made.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
