"""Deleting so that the bytes are gone from the files, not only from the tables.

What a deletion leaves behind in a page is overwritten with zeros in any case, which costs nothing. For an erasure the
pages that became free are overwritten as well, older free pages are given back to the file system, and the log, which
has what was written lately, is emptied.
"""

import sqlite3

from leafnode.store import space

FREE_PAGES = 1024  # given back in one transaction; the log holds as many while it happens
TRIES = 5  # to empty the log while somebody reads from it; each waits for the busy timeout


def prepare(connection: sqlite3.Connection) -> None:
    """Zeros over what is deleted, as far as its page is written anyway."""
    connection.execute("PRAGMA secure_delete = FAST").fetchall()


def begin(connection: sqlite3.Connection) -> None:
    """Zeros over everything that is deleted from here on."""
    connection.execute("PRAGMA secure_delete = ON").fetchall()


def finish(connection: sqlite3.Connection) -> None:
    """What was deleted is committed: no copy of it stays."""
    prepare(connection)
    while space.measure(connection).free:
        space.give_back(connection, FREE_PAGES)
    for _ in range(TRIES):
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not busy:
            break
