"""Reads a whole store file and says what is not as it was written: `leafnode check`.

A broker may be running: SQLite lets us read beside it. Nothing is changed.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from leafnode.base.sqlite import BUSY_TIMEOUT_MS
from leafnode.store import health, loading, untrusted
from leafnode.store.untrusted import Unreadable

FAULTS_MAX = 100  # of SQLite's own findings


class Finding(NamedTuple):
    """One thing that is wrong; `stream` and `sequence` where it is in one."""

    text: str
    account: str = ""
    stream: str = ""
    sequence: int = 0


def scrub(path: Path) -> Iterator[Finding]:
    """Everything that is wrong with the file."""
    connection = sqlite3.connect(f"file:{path}?mode=rw", uri=True)
    connection.text_factory = lambda data: data.decode(errors="replace")
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA query_only = ON")
        yield from _structure(connection)
        yield from _streams(connection)
    except sqlite3.Error as error:
        yield Finding(f"cannot be read: {error}")
    finally:
        with contextlib.suppress(sqlite3.Error):
            connection.close()


def _structure(connection: sqlite3.Connection) -> Iterator[Finding]:
    with contextlib.suppress(sqlite3.DatabaseError):  # then the streams show where
        for (text,) in connection.execute(f"PRAGMA integrity_check({FAULTS_MAX})"):
            if text != "ok":
                yield from (Finding(line) for line in str(text).splitlines() if not line.startswith("***"))


def _streams(connection: sqlite3.Connection) -> Iterator[Finding]:
    try:
        loaded = loading.load(connection)
    except (sqlite3.Error, LookupError, ValueError, TypeError) as error:
        yield Finding(f"the catalog cannot be read: {error}")
        return
    for stream in loaded:
        name = health.stream_name(stream.config)
        names = {row[0]: row[1] for row in stream.contents.subjects}
        count = 0
        for found in untrusted.messages(connection, stream.id, names, stream.contents.state.last_seq):
            if isinstance(found, Unreadable):
                text = f"cannot be read up to sequence {found.last}"
                yield Finding(text, stream.account, name, found.first)
            elif found.is_good:
                count += 1
            else:
                yield Finding("wrong checksum", stream.account, name, found.seq)
        if count != stream.contents.state.messages:
            text = f"has {count} good messages and counts {stream.contents.state.messages}"
            yield Finding(text, stream.account, name)
    for number, seq in connection.execute("SELECT stream, seq FROM damaged ORDER BY stream, seq"):
        of = {stream.id: stream for stream in loaded}.get(number)
        name = health.stream_name(of.config) if of else str(number)
        yield Finding("was damaged and is set aside", of.account if of else "", name, seq)
