"""Tables of `leafnode.db`.

    streams         one row a stream: configuration and counters
    consumers       one row a consumer: configuration and position
    pending         one row a delivery that waits for its acknowledgement
    expiries        one row a message with a TTL of its own
    schedules       one row a scheduled message: when it is due
    origins         one row a source of a stream: how far it is copied
    notes           one row of what other parts of the broker keep: owner, key, value
    damaged         rows of messages whose checksum did not fit, set aside when that was found
    m<id>           messages of stream <id>: rowid = sequence, subject as a number, headers and payload as one blob,
                    checksum (none: of a message from before there were checksums)
    s<id>           subjects in use of stream <id>, with count and newest sequence

Counters of a stream and its subjects lag behind its messages: those after `last_seq` are counted when the file is
opened (`stream.tail` says why).

One table a stream keeps appends at the end of a b-tree and makes dropping a stream cheap; the subject table replaces
an index over all messages, which would triple what is written (measured; docs/decisions).
"""

import sqlite3

from leafnode.base.sqlite import Migration


def _add_checksums(tables: list[str]) -> str:
    messages = [name for name in tables if name[0] == "m" and name[1:].isdigit()]
    return ";".join(
        [
            *(f"ALTER TABLE {name} ADD COLUMN crc INTEGER" for name in messages),
            "CREATE TABLE damaged (stream INTEGER NOT NULL, seq INTEGER NOT NULL, subject INTEGER, time INTEGER, "
            "headers INTEGER, body BLOB, crc INTEGER)",
            "ALTER TABLE streams ADD COLUMN crc INTEGER",  # of the configuration, like that of consumers
            "ALTER TABLE consumers ADD COLUMN crc INTEGER",
        ]
    )


MIGRATIONS: tuple[Migration, ...] = (
    """
    CREATE TABLE streams (
        id INTEGER PRIMARY KEY, account TEXT NOT NULL, config BLOB NOT NULL, created INTEGER NOT NULL,
        first_seq INTEGER NOT NULL DEFAULT 0, last_seq INTEGER NOT NULL DEFAULT 0,
        messages INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, last_time INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE consumers (
        id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, name TEXT NOT NULL, config BLOB NOT NULL,
        created INTEGER NOT NULL, delivered INTEGER NOT NULL DEFAULT 0, delivered_stream INTEGER NOT NULL DEFAULT 0,
        floor INTEGER NOT NULL DEFAULT 0, floor_stream INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE pending (
        consumer INTEGER NOT NULL, seq INTEGER NOT NULL, consumer_seq INTEGER NOT NULL, first_seq INTEGER NOT NULL,
        deliveries INTEGER NOT NULL, PRIMARY KEY (consumer, seq)
    ) WITHOUT ROWID;
    CREATE TABLE expiries (
        stream INTEGER NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (stream, seq)
    ) WITHOUT ROWID;
    CREATE TABLE origins (
        stream INTEGER NOT NULL, source TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (stream, source)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE notes (
        owner TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (owner, key)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE schedules (
        stream INTEGER NOT NULL, subject BLOB NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (stream, subject)
    ) WITHOUT ROWID;
    """,
    _add_checksums,
)

CREATE_MESSAGES = (
    "CREATE TABLE m{0} (seq INTEGER PRIMARY KEY, subject INTEGER NOT NULL, time INTEGER NOT NULL, "
    "headers INTEGER NOT NULL, body BLOB NOT NULL, crc INTEGER)"
)
CREATE_SUBJECTS = (
    "CREATE TABLE s{0} (id INTEGER PRIMARY KEY, name BLOB NOT NULL, last_seq INTEGER NOT NULL, "
    "last_size INTEGER NOT NULL, count INTEGER NOT NULL)"
)


def new_schema(connection: sqlite3.Connection) -> None:
    """All tables of an empty file, at the newest version."""
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    for migration in MIGRATIONS:
        tables = [str(row[0]) for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        connection.executescript(migration if isinstance(migration, str) else migration(tables))
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
