"""A damaged file is put aside, and what can be read of it goes into a new one.

    1  a copy of the file, with the log's pages put into it (`pages.overlay`)
    2  a new file with everything that can be read of the copy: through SQLite's trees where they stand, and where they
       do not, from every page that looks like a leaf (`pages.leaf_rows`). A message comes along when its checksum is
       right; that also tells which stream it is of.
    3  counters are counted again
    4  damaged file aside, new file in its place, a report beside them

At any moment before 4 the damaged file is where it was, and a start begins again at 1; in the midst of 4 the next start
finishes it. Leaves that no tree leads to may hold messages that were removed: better back again than lost.
"""

import contextlib
import json
import logging
import os
import shutil
import sqlite3
import time
from binascii import crc32
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leafnode.base import files
from leafnode.errors import StoreError
from leafnode.store import pages, untrusted
from leafnode.store.schema import CREATE_MESSAGES, CREATE_SUBJECTS, new_schema
from leafnode.store.untrusted import Unreadable
from leafnode.stream.stored import file_size

log = logging.getLogger(__name__)

MARK = ".damaged"  # behind the file's name: salvage it at the next start; holds the reason
KEPT_MAX = 3  # damaged files that are kept; beyond, the oldest go, or a dying card would fill itself
BEYOND = 1 << 20  # sequences that may exist above the newest that the counters know
GLOBAL_ACCOUNT = "$G"  # of streams whose row is lost
STREAM = ("id", "account", "config", "created", "first_seq", "last_seq", "messages", "bytes", "last_time", "crc")
CONSUMER = (
    *("id", "stream", "name", "config", "created"),
    *("delivered", "delivered_stream", "floor", "floor_stream", "crc"),
)
OTHERS = {
    "pending": ("consumer", "seq", "consumer_seq", "first_seq", "deliveries"),
    "expiries": ("stream", "seq", "at"),
    "schedules": ("stream", "subject", "seq", "at"),
    "origins": ("stream", "source", "seq"),
    "notes": ("owner", "key", "value"),
}

Report = dict[str, Any]


def aside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def finish(path: Path) -> None:
    """A salvage that was cut off between its two renames."""
    made = aside(path, ".salvaged")
    if made.exists() and not path.exists():
        for suffix in ("-wal", "-shm"):  # of the damaged file: the new one must not take it for its own
            aside(path, suffix).unlink(missing_ok=True)
        os.replace(made, path)
        files.sync_folder(path.parent)


def salvage(path: Path, reason: str) -> Report:
    """Make a good file of a damaged one. Nobody has it open.

    Raises:
        StoreError: there is no room for the copies, or the disk fails.
    """
    work, made = aside(path, ".work"), aside(path, ".salvaged")
    kept = aside(path, ".damaged-" + time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
    report: Report = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "reason": reason, "kept": str(kept)}
    log.error("store is damaged and is being salvaged file=%s reason=%s", path, reason)
    try:
        _copy(path, work)
        report |= _rebuild(work, made)
        _swap(path, made, kept)
        aside(path, MARK).unlink(missing_ok=True)
        files.write_atomic(aside(kept, ".json"), json.dumps(report, indent=2).encode())
    except OSError as error:
        raise StoreError(f"{path} is damaged ({reason}) and cannot be salvaged: {error}") from error
    finally:
        for left in (work, aside(work, "-journal"), made, aside(made, "-journal")):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)
    _say(report)
    _forget_old(path)
    return report


def _copy(path: Path, work: Path) -> None:
    shutil.copyfile(path, work)
    wal = aside(path, "-wal")
    with open(work, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size % pages.PAGE_BYTES:  # torn: the rest of the page reads as zeros
            file.truncate(size + pages.PAGE_BYTES - size % pages.PAGE_BYTES)
        if wal.exists():
            with open(wal, "rb") as log_file:
                pages.overlay(file, log_file)
        _mend_header(file)


def _mend_header(file: Any) -> None:
    """The first 100 bytes are known but for a few, and those matter only to a writer."""
    size = file.seek(0, os.SEEK_END) // pages.PAGE_BYTES
    file.seek(0)
    header = bytearray(file.read(pages.HEADER_BYTES))
    if size == 0:
        return
    header[:16] = b"SQLite format 3\0"
    header[16:24] = bytes((pages.PAGE_BYTES >> 8, pages.PAGE_BYTES & 255, 1, 1, 0, 64, 32, 32))  # no log any more
    header[24:28] = header[92:96] = (1).to_bytes(4, "big")  # change counter: the size below is valid
    header[28:32] = size.to_bytes(4, "big")
    header[32:40] = bytes(8)  # nothing is free: nobody writes here
    header[44:48] = (4).to_bytes(4, "big")
    header[56:60] = (1).to_bytes(4, "big")
    header[72:92] = bytes(20)
    file.seek(0)
    file.write(header)


def _swap(path: Path, made: Path, kept: Path) -> None:
    descriptor = os.open(made, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(path, kept)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.replace(aside(path, suffix), aside(kept, suffix))
    os.replace(made, path)
    files.sync_folder(path.parent)


def _forget_old(path: Path) -> None:
    found = sorted(path.parent.glob(f"{path.name}.damaged-*Z"))
    for old in found[:-KEPT_MAX]:
        for suffix in ("", "-wal", "-shm", ".json"):
            with contextlib.suppress(OSError):
                aside(old, suffix).unlink(missing_ok=True)


def _say(report: Report) -> None:
    for stream in report["streams"]:
        log.error(
            "store salvaged stream=%s account=%s kept=%d lost_at_least=%d%s",
            *(stream["name"], stream["account"], stream["kept"], stream["lost_at_least"]),
            "".join(f" {note}" for note in stream["notes"]),
        )
    for note in report["notes"]:
        log.error("store salvaged: %s", note)
    log.error("store salvaged; the damaged file is kept as %s", report["kept"])


# the new file --------------------------------------------------------------------------------------------------------


def _rebuild(work: Path, made: Path) -> Report:
    made.unlink(missing_ok=True)
    source, target = sqlite3.connect(work), sqlite3.connect(made, isolation_level=None)
    source.text_factory = lambda data: data.decode(errors="replace")
    try:
        new_schema(target)
        target.execute("PRAGMA synchronous = OFF")  # synced as a whole, before it gets its name
        target.execute("BEGIN")
        with open(work, "rb") as raw:
            report = _Rebuilding(source, target, raw).run()
        target.execute("COMMIT")
        return report
    finally:
        source.close()
        target.close()


class _Rebuilding:
    """Everything that can be read of `source`, into `target`."""

    def __init__(self, source: sqlite3.Connection, target: sqlite3.Connection, raw: Any) -> None:
        self._source = source
        self._target = target
        self._raw = raw
        self._notes: list[str] = []
        self._streams: dict[int, dict[str, Any]] = {}
        self._consumers: dict[int, dict[str, Any]] = {}
        self._loose_names: dict[int, list[bytes]] = {}  # subjects of all streams, by number, when trees are broken
        self._loose = False  # trees are broken: leaves are looked at one by one

    def run(self) -> Report:
        self._read_catalog()
        streams = [self._rebuild_stream(number) for number in sorted(self._streams)]
        self._copy_consumers()
        for table, columns in OTHERS.items():
            self._copy_table(table, columns)
        return {"streams": streams, "notes": self._notes}

    # what there is -----------------------------------------------------------------------------------------------

    def _read_catalog(self) -> None:
        tables, whole = untrusted.plain_rows(self._source, "sqlite_schema", ("name",))
        streams, whole_streams = self._known("streams", STREAM)
        consumers, whole_consumers = self._known("consumers", CONSUMER)
        self._loose = not (whole and whole_streams and whole_consumers)
        if self._loose:
            self._notes.append("the catalog is damaged: streams and consumers were looked for page by page")
            loose_streams, loose_consumers = self._loose_catalog()
            streams += [row for row in loose_streams if row["id"] not in {known["id"] for known in streams}]
            consumers += [row for row in loose_consumers if row["id"] not in {known["id"] for known in consumers}]
        self._streams = {row["id"]: row for row in streams if isinstance(row["id"], int)}
        self._consumers = {row["id"]: row for row in consumers if isinstance(row["id"], int)}
        for (name,) in tables:
            if isinstance(name, str) and name[:1] == "m" and name[1:].isdigit() and int(name[1:]) not in self._streams:
                self._streams[int(name[1:])] = _lost_stream(int(name[1:]))

    def _known(self, table: str, columns: tuple[str, ...]) -> tuple[list[dict[str, Any]], bool]:
        rows, whole = untrusted.plain_rows(self._source, table, columns)
        if not whole and not rows:
            rows, whole = untrusted.plain_rows(self._source, table, columns[:-1])  # from before checksums
        return [dict(zip(columns, row, strict=False)) for row in rows], whole

    def _loose_catalog(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        streams: dict[int, dict[str, Any]] = {}
        consumers: dict[int, dict[str, Any]] = {}
        for rowid, values in pages.leaf_rows(self._raw):
            match values:
                case [None, str(), bytes() as config, int(), *_] if 9 <= len(values) <= 10 and _is_json(config):
                    streams[rowid] = dict(zip(STREAM, [rowid, *values[1:]], strict=False))
                case [None, int(), str(), bytes() as config, *_] if 9 <= len(values) <= 10 and _is_json(config):
                    consumers[rowid] = dict(zip(CONSUMER, [rowid, *values[1:]], strict=False))
        return list(streams.values()), list(consumers.values())

    # streams -----------------------------------------------------------------------------------------------------

    def _rebuild_stream(self, number: int) -> dict[str, Any]:
        row = self._streams[number]
        notes: list[str] = []
        _mend_config(row, notes)
        self._target.execute(CREATE_MESSAGES.format(number))
        self._target.execute(CREATE_SUBJECTS.format(number))
        names = self._subject_names(number)
        last_known = max(_number(row.get("last_seq")), 0)
        bad: list[int] = []
        unreadable: list[Unreadable] = []
        for found in untrusted.messages(self._source, number, names, last_known + BEYOND):
            if isinstance(found, Unreadable):
                unreadable.append(found)
            elif found.is_good:
                self._keep(number, found.row)
            else:
                bad.append(found.seq)
        if unreadable or bad:
            for message in self._loose_messages(number, names, _number(row.get("first_seq"))):
                self._keep(number, message)
        kept, upto = self._settle(row, names)
        expected = _number(row.get("messages"))
        lost = max(expected - upto, sum(not self._has(number, seq) for seq in bad), 0)
        if unreadable:
            shown = ", ".join(f"{part.first}-{part.last}" for part in _joined(unreadable)[:20])
            notes.append(f"could not be read in sequences {shown}")
        if bad:
            notes.append(f"wrong checksums at sequences {', '.join(map(str, bad[:100]))}")
        name = json.loads(row["config"]).get("name", "")
        return {"name": name, "account": row["account"], "kept": kept, "lost_at_least": lost, "notes": notes}

    def _subject_names(self, number: int) -> dict[int, bytes]:
        rows = untrusted.table_rows(self._source, f"s{number}", "id", ("id", "name"), 1 << 40)
        names: dict[int, bytes] = {}
        whole = True
        for row in rows:
            if isinstance(row, Unreadable):
                whole = False
            elif isinstance(row[1], bytes):
                names[row[0]] = row[1]
        if not whole and not self._loose_names:
            for rowid, values in pages.leaf_rows(self._raw):
                match values:
                    case [None, bytes() as name, int(), int(), int()]:
                        self._loose_names.setdefault(rowid, []).append(name)
        return names

    def _loose_messages(self, number: int, names: dict[int, bytes], first: int) -> Iterator[Any]:
        """Messages of this stream on any leaf, with a checksum that says so."""
        for rowid, values in pages.leaf_rows(self._raw):
            match values:
                case [None, int() as subject, int(), int(), bytes(), int()] if rowid >= first:
                    row = (rowid, *values[1:])
                    for name in [names[subject]] if subject in names else self._loose_names.get(subject, []):
                        if untrusted.is_good(number, row, {subject: name}):
                            names[subject] = name
                            yield row

    def _keep(self, number: int, row: Any) -> None:
        self._target.execute(f"INSERT OR IGNORE INTO m{number} VALUES (?,?,?,?,?,?)", row)

    def _has(self, number: int, seq: int) -> bool:
        return self._target.execute(f"SELECT 1 FROM m{number} WHERE seq = ?", (seq,)).fetchone() is not None

    def _settle(self, row: dict[str, Any], names: dict[int, bytes]) -> tuple[int, int]:
        """Count again. Returns messages, and those of them that the old counters should have counted."""
        number, last_known = row["id"], _number(row.get("last_seq"))
        first, last, count, size, last_time, upto = 0, last_known, 0, 0, _number(row.get("last_time")), 0
        subjects: dict[int, list[int]] = {}
        query = f"SELECT seq, subject, time, headers, length(body) FROM m{number} ORDER BY seq"
        for seq, subject, when, headers, length in self._target.execute(query):
            weight = file_size(len(names[subject]), headers, length - headers)
            first, last = first or seq, max(last, seq)
            count, size, last_time = count + 1, size + weight, when
            upto += seq <= last_known
            uses = subjects.setdefault(subject, [0, 0, 0])
            uses[:] = seq, weight, uses[2] + 1
        self._target.executemany(
            f"INSERT INTO s{number} VALUES (?,?,?,?,?)",
            ((subject, names[subject], *uses) for subject, uses in subjects.items()),
        )
        config = row["config"]
        self._target.execute(
            f"INSERT INTO streams ({','.join(STREAM)}) VALUES ({','.join('?' * len(STREAM))})",
            (
                *(number, row["account"], config, _number(row.get("created"))),
                *(first or last + 1, last, count, size, last_time, crc32(config)),
            ),
        )
        return count, upto

    # the rest ----------------------------------------------------------------------------------------------------

    def _copy_consumers(self) -> None:
        for row in self._consumers.values():
            config = row["config"]
            if row["stream"] not in self._streams or not isinstance(config, bytes) or not _is_json(config):
                self._notes.append(f"consumer {row['name']!r} could not be salvaged")
                continue
            if _is_changed(row):
                self._notes.append(f"the configuration of consumer {row['name']!r} was damaged: look at it")
            row["crc"] = crc32(config)
            self._target.execute(
                f"INSERT OR IGNORE INTO consumers ({','.join(CONSUMER)}) VALUES ({','.join('?' * len(CONSUMER))})",
                [row.get(column, 0) for column in CONSUMER],
            )

    def _copy_table(self, table: str, columns: tuple[str, ...]) -> None:
        rows, whole = untrusted.plain_rows(self._source, table, columns)
        marks = ",".join("?" * len(columns))
        for row in rows:
            with contextlib.suppress(sqlite3.Error):
                self._target.execute(f"INSERT OR IGNORE INTO {table} ({','.join(columns)}) VALUES ({marks})", row)
        if not whole and not self._is_missing(table):
            self._notes.append(f"of table {table} {len(rows)} rows could be read")

    def _is_missing(self, table: str) -> bool:
        """From before there was such a table."""
        known, whole = untrusted.plain_rows(self._source, "sqlite_schema", ("name",))
        return whole and (table,) not in known


def _joined(parts: list[Unreadable]) -> list[Unreadable]:
    """Neighbours as one."""
    joined: list[Unreadable] = []
    for part in parts:
        if joined and part.first <= joined[-1].last + 1:
            joined[-1] = Unreadable(joined[-1].first, part.last)
        else:
            joined.append(part)
    return joined


def _lost_stream(number: int) -> dict[str, Any]:
    return {"id": number, "account": GLOBAL_ACCOUNT, "config": b"", "created": time.time_ns()}


def _mend_config(row: dict[str, Any], notes: list[str]) -> None:
    """A configuration that cannot be read is replaced by one that takes no messages, so that those there are can be."""
    if not isinstance(row.get("account"), str):
        row["account"] = GLOBAL_ACCOUNT
    if not isinstance(row["config"], bytes) or not _is_json(row["config"]):
        name = f"SALVAGED-{row['id']}"
        notes.append("its configuration is lost: it is sealed, read it and delete it")
        row["config"] = json.dumps(
            {"name": name, "subjects": [name], "retention": "limits", "storage": "file", "sealed": True}
        ).encode()
    elif _is_changed(row):
        notes.append("its configuration was damaged: look at it")


def _is_changed(row: dict[str, Any]) -> bool:
    return isinstance(row.get("crc"), int) and row["crc"] != crc32(row["config"])


def _is_json(config: bytes) -> bool:
    try:
        return isinstance(json.loads(config), dict)
    except ValueError:
        return False


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
