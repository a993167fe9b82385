"""Whether a file can be trusted enough to be opened; if not, it is salvaged first.

What is looked at costs little: the mark that somebody left who met damage, the header, the log, the length. Damage
elsewhere is met when it is read: in a message by its checksum, in a tree by SQLite.
"""

import contextlib
import json
import sqlite3
import struct
from pathlib import Path

from leafnode.base import files
from leafnode.store import pages, untrusted
from leafnode.store.salvage import MARK, Report, aside, finish, salvage
from leafnode.store.schema import MIGRATIONS, new_schema

INDEX_FRAMES_AT = 16  # where the log's index (-shm) says how many frames are valid


def make_sound(path: Path) -> Report | None:
    """Salvage the file if it is damaged. Nobody has it open.

    Raises:
        StoreError: it is damaged and cannot be salvaged.
    """
    finish(path)
    if not path.is_file() or path.stat().st_size == 0:
        return None
    reason = why_damaged(path)
    return salvage(path, reason) if reason else None


def mark(path: Path, reason: str) -> None:
    """Have it salvaged at the next start."""
    with contextlib.suppress(OSError):
        files.write_atomic(aside(path, MARK), reason.encode())


def why_damaged(path: Path) -> str:
    """Empty: nothing was found."""
    marked = aside(path, MARK)
    if marked.exists():
        return marked.read_text(errors="replace") or "marked as damaged"
    connection = sqlite3.connect(path)
    try:
        return _wrong_version(connection) or _wrong_log(connection, path) or _wrong_length(connection, path)
    except sqlite3.Error as error:
        return "" if untrusted.is_trouble_of_the_disk(error) else f"SQLite says: {error}"
    finally:
        with contextlib.suppress(sqlite3.Error):
            connection.close()


def _wrong_version(connection: sqlite3.Connection) -> str:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    tables = _tables(connection)
    if version == 0 and tables:
        return "it has tables and no version"
    if version > len(MIGRATIONS) and tables == _our_tables():
        return f"it says version {version} and has the tables of version {len(MIGRATIONS)}"
    return ""


def _tables(connection: sqlite3.Connection) -> set[str]:
    found = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetchall()
    return {sql for name, sql in found if not name[1:].isdigit()}


def _our_tables() -> set[str]:
    ours = sqlite3.connect(":memory:")
    try:
        new_schema(ours)
        return _tables(ours)
    finally:
        ours.close()


def _sound_frames(path: Path) -> int:
    """Frames of the log that SQLite took when it opened the file."""
    try:
        with open(aside(path, "-shm"), "rb") as index:
            index.seek(INDEX_FRAMES_AT)
            return int(struct.unpack("=I", index.read(4))[0])
    except (OSError, struct.error):
        return 0


def _wrong_log(connection: sqlite3.Connection, path: Path) -> str:
    wal = aside(path, "-wal")
    if not wal.exists():
        return ""
    with open(wal, "rb") as log:
        beyond = pages.commits_beyond(log, _sound_frames(path))
    return f"{beyond} commits of the log come after a damaged place" if beyond > 1 else ""


def _wrong_length(connection: sqlite3.Connection, path: Path) -> str:
    """Pages beyond the end of the file must be in the log."""
    should, has = int(connection.execute("PRAGMA page_count").fetchone()[0]), path.stat().st_size // pages.PAGE_BYTES
    if should <= has:
        return ""
    logged: set[int] = set()
    with contextlib.suppress(FileNotFoundError), open(aside(path, "-wal"), "rb") as log:
        logged = {frame.number for frame in pages.frames(log)[: _sound_frames(path)]}
    missing = sum(number not in logged for number in range(has + 1, should + 1))
    return f"{missing} of {should} pages are missing at its end" if missing else ""


def stream_name(config: bytes) -> str:
    """The name in a stream's configuration, for people."""
    try:
        return str(json.loads(config).get("name", "?"))
    except ValueError:
        return "?"
