"""What the file has, as rows for the core: at start, and after a failed commit. Runs in the reader's thread."""

import json
import sqlite3
from binascii import crc32

from leafnode.stream.journal import ConsumerState, StreamState
from leafnode.stream.loaded import LoadedConsumer, LoadedContents, LoadedStream
from leafnode.stream.tail import count


def load(connection: sqlite3.Connection) -> list[LoadedStream]:
    """Everything but the messages.

    Raises:
        sqlite3.Error, LookupError, ValueError, TypeError: the file is damaged.
    """
    rows = connection.execute("SELECT id, account, config, created, crc FROM streams ORDER BY id").fetchall()
    return [
        LoadedStream(
            id=number,
            account=account,
            config=_intact(config, crc),
            created=created,
            contents=load_contents(connection, number),
            consumers=_load_consumers(connection, number),
        )
        for number, account, config, created, crc in rows
    ]


def _intact(config: bytes, crc: int | None) -> bytes:
    """A configuration; ValueError when it is not as it was written."""
    if not isinstance(config, bytes):
        raise ValueError("a configuration is not bytes")
    if crc is not None and crc != crc32(config):
        raise ValueError("a configuration has the wrong checksum")
    json.loads(config)
    return config


def load_contents(connection: sqlite3.Connection, number: int) -> LoadedContents:
    connection.execute("BEGIN")  # one view of all three tables
    try:
        state = connection.execute(
            "SELECT first_seq, last_seq, messages, bytes, last_time FROM streams WHERE id = ?", (number,)
        ).fetchone()
        if state is None:
            return LoadedContents(state=StreamState(0, 0, 0, 0, 0), subjects=[], expiries=[], schedules=[], origins=[])
        subjects = connection.execute(f"SELECT id, name, last_seq, last_size, count FROM s{number}").fetchall()
        expiries = connection.execute("SELECT seq, at FROM expiries WHERE stream = ?", (number,)).fetchall()
        schedules = connection.execute("SELECT subject, seq, at FROM schedules WHERE stream = ?", (number,)).fetchall()
        origins = connection.execute("SELECT source, seq FROM origins WHERE stream = ?", (number,)).fetchall()
        tail = connection.execute(
            f"SELECT seq, subject, time, headers, length(body) FROM m{number} WHERE seq > ? ORDER BY seq", (state[1],)
        ).fetchall()
    finally:
        connection.execute("COMMIT")
    counted, subjects = count(StreamState(*state), subjects, tail)
    return LoadedContents(
        state=counted,
        subjects=subjects,
        expiries=expiries,
        schedules=schedules,
        origins=origins,
        tail=tuple(row[1] for row in tail),
    )


def _load_consumers(connection: sqlite3.Connection, stream: int) -> list[LoadedConsumer]:
    rows = connection.execute(
        "SELECT id, name, config, created, crc, delivered, delivered_stream, floor, floor_stream FROM consumers "
        "WHERE stream = ? ORDER BY id",
        (stream,),
    ).fetchall()
    return [
        LoadedConsumer(
            id=number,
            name=name,
            config=_intact(config, crc),
            created=created,
            state=ConsumerState(*state),
            pending=connection.execute(
                "SELECT seq, consumer_seq, first_seq, deliveries FROM pending WHERE consumer = ? ORDER BY seq",
                (number,),
            ).fetchall(),
        )
        for number, name, config, created, crc, *state in rows
    ]
