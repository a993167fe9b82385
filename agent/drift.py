"""Telling whether a managed file is still as it was applied, cheaply, and showing how it is not.

Looking costs one stat. The content is read only when that shows a change; programs that keep the times of a file
(rsync, `touch -r`) still change its inode or the time of its last status change, which nobody can set.
"""

import difflib
from pathlib import Path
from typing import Final

CONTENT_BYTES: Final = 262_144  # compared line by line: the time for it grows faster than the file
DIFF_LINES: Final = 40  # of a diff: enough to see what somebody did, small enough for a status
LINE_MAX: Final = 160  # characters of one of these lines

Signature = tuple[int, ...] | None


def signature(path: Path) -> Signature:
    """What changes when a file does; None without one."""
    try:
        about = path.lstat()
    except OSError:
        return None
    return (
        *(about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns),
        *(about.st_mode, about.st_uid, about.st_gid),
    )


def difference(wanted: bytes, found: bytes) -> str:
    """A short unified diff from what was applied to what is there; words where there is no such diff."""
    if wanted == found:
        return ""
    if max(len(wanted), len(found)) > CONTENT_BYTES:
        return f"too large to compare: {len(wanted)} bytes were applied, {len(found)} are there"
    try:
        before, after = wanted.decode().splitlines(), found.decode().splitlines()
    except UnicodeDecodeError:
        return f"not text: {len(wanted)} bytes were applied, {len(found)} are there"
    lines = list(difflib.unified_diff(before, after, "applied", "found", n=1, lineterm=""))
    shown = [line if len(line) <= LINE_MAX else f"{line[:LINE_MAX]}…" for line in lines[:DIFF_LINES]]
    if len(lines) > DIFF_LINES:
        shown.append(f"… and {len(lines) - DIFF_LINES} more lines")
    return "\n".join(shown) or "only line ends differ"
