"""Letting a person change a text in the editor of his choice."""

import asyncio
import os
import shlex
import tempfile
from pathlib import Path
from typing import Final

from agent.errors import UsageError

DEFAULT_EDITOR: Final = "vi"  # POSIX has it


async def edit(text: str, name: str) -> Path:
    """Open `text` in $VISUAL or $EDITOR; returns the file, readable by us only, that holds the result. It is the
    caller's to remove.

    Raises:
        UsageError: the editor cannot be started, or ended with a failure: the person wants nothing of it.
    """
    path = Path(tempfile.mkdtemp(prefix="fleet-edit-")) / name
    path.write_text(text, encoding="utf-8")
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or DEFAULT_EDITOR
    try:
        process = await asyncio.create_subprocess_exec(*shlex.split(command), str(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"editor {command!r} cannot be started: {error}; set EDITOR") from error
    if code := await process.wait():
        raise UsageError(f"editor {command!r} ended with {code}: nothing was written, your text is in {path}")
    return path


def discard(path: Path) -> None:
    """Remove what `edit` returned."""
    path.unlink(missing_ok=True)
    path.parent.rmdir()
