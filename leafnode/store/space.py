"""What removed messages leave in the file: free pages, used again by the next messages or given back to the disk.

The file gets shorter with the checkpoint after that. Files from before files learned to shrink keep theirs.
"""

import sqlite3
from typing import NamedTuple

PAGE_BYTES = 4096


class Space(NamedTuple):
    """In pages."""

    free: int  # that can be given back
    pages: int  # all of the file


def measure(connection: sqlite3.Connection) -> Space:
    free, pages, shrinks = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("freelist_count", "page_count", "auto_vacuum")
    )
    return Space(free if shrinks else 0, pages)


def give_back(connection: sqlite3.Connection, pages: int) -> None:
    """In one transaction; outside of any other.

    As a script: of a statement that is executed Python takes the first row, which is one page, and leaves the rest.
    """
    connection.executescript(f"PRAGMA incremental_vacuum({pages})")
