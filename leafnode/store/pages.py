"""SQLite's file format, as far as rows can be found in it without its trees. Source: sqlite.org/fileformat2.html.

    leaf_rows(file)      rows of every page that looks like a leaf of a table, whatever table that was
    overlay(file, log)   the write-ahead log's pages put where they belong

Both are for files that SQLite itself refuses. They believe nothing: a length that leads outside ends the row.
"""

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

HEADER_BYTES = 100  # of the file, before the first page's own header
LEAF = 0x0D  # first byte of a leaf page of a table
LOG_HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
FRAMES_ASKED = 9  # that are looked at when one is damaged: whether others say what it, or the header, should say
LOG_MAGIC = (0x377F0682, 0x377F0683)
PAGE_BYTES = 4096
VALUE_MAX_BYTES = 80 << 20  # nothing longer was ever stored: max_payload may be 64 MB

Value = None | int | float | bytes | str
Row = tuple[int, list[Value]]  # rowid and columns


class _NoRowError(ValueError):
    """What is there is not a row."""


def leaf_rows(file: IO[bytes]) -> Iterator[Row]:
    """Rows of all pages that look like leaves, in the order of the file. Freed pages may still hold removed rows."""
    size = file.seek(0, 2)
    for number in range(1, size // PAGE_BYTES + 1):
        page = _page(file, number)
        start = HEADER_BYTES if number == 1 else 0
        if page[start] != LEAF:
            continue
        cells = int.from_bytes(page[start + 3 : start + 5], "big")
        pointers = page[start + 8 : start + 8 + 2 * cells]
        for (place,) in struct.iter_unpack(">H", pointers[: len(pointers) // 2 * 2]):
            try:
                yield _cell(file, page, place)
            except (_NoRowError, IndexError, struct.error, UnicodeDecodeError):
                continue


def _page(file: IO[bytes], number: int) -> bytes:
    file.seek((number - 1) * PAGE_BYTES)
    return file.read(PAGE_BYTES)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """The number, and where it ends."""
    value = 0
    for index in range(9):
        byte = data[place + index]
        if index == 8:
            return value << 8 | byte, place + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + index + 1
    raise _NoRowError


def _cell(file: IO[bytes], page: bytes, place: int) -> Row:
    length, place = _varint(page, place)
    rowid, place = _varint(page, place)
    if not 0 < length <= VALUE_MAX_BYTES:
        raise _NoRowError
    most, least = PAGE_BYTES - 35, (PAGE_BYTES - 12) * 32 // 255 - 23
    local = length
    if length > most:
        local = least + (length - least) % (PAGE_BYTES - 4)
        local = local if local <= most else least
    payload = page[place : place + local]
    if len(payload) < local:
        raise _NoRowError
    if local < length:
        (following,) = struct.unpack_from(">I", page, place + local)
        payload += _overflow(file, following, length - local)
    return rowid, _record(payload)


def _overflow(file: IO[bytes], number: int, length: int) -> bytes:
    parts: list[bytes] = []
    while length > 0:
        page = _page(file, number) if number else b""
        if len(page) < PAGE_BYTES:
            raise _NoRowError
        (number,) = struct.unpack_from(">I", page)
        parts.append(page[4 : 4 + length])
        length -= len(parts[-1])
    return b"".join(parts)


def _record(payload: bytes) -> list[Value]:
    end, place = _varint(payload, 0)
    values: list[Value] = []
    at = end
    while place < end:
        kind, place = _varint(payload, place)
        value, at = _value(payload, kind, at)
        values.append(value)
    return values


def _value(payload: bytes, kind: int, at: int) -> tuple[Value, int]:
    sizes = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
    size = sizes[kind] if kind < len(sizes) else (kind - 12) // 2
    if kind in (10, 11) or at + size > len(payload):
        raise _NoRowError
    data = payload[at : at + size]
    at += size
    if kind == 0:
        return None, at
    if kind == 7:
        return float(struct.unpack(">d", data)[0]), at
    if kind in (8, 9):
        return kind - 8, at
    if kind < 7:
        return int.from_bytes(data, "big", signed=True), at
    return (data.decode() if kind % 2 else data), at


# the write-ahead log -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frame:
    number: int  # of the page
    commits: bool  # the last of a transaction
    place: int  # of the page in the log


def frames(log: IO[bytes]) -> list[Frame]:
    """The frames of the newest generation, whole or not: all that share the salts of the first."""
    found: list[Frame] = []
    header = _read(log, 0, LOG_HEADER_BYTES)
    salts = header[16:24] if _is_log_header(header) else _common_salts(log)
    for place in itertools.count(LOG_HEADER_BYTES, FRAME_HEADER_BYTES + PAGE_BYTES):
        head = _read(log, place, FRAME_HEADER_BYTES)
        if len(head) < FRAME_HEADER_BYTES or log.seek(0, 2) < place + FRAME_HEADER_BYTES + PAGE_BYTES:
            return found
        number, size = struct.unpack_from(">II", head)
        if head[8:16] != salts or not any(salts):
            if not _goes_on(log, place, salts):
                return found  # the end, or begun anew and nothing written yet
            continue  # this frame's own header is damaged
        found.append(Frame(number, size > 0, place + FRAME_HEADER_BYTES))
    return found


def _common_salts(log: IO[bytes]) -> bytes:
    """What the first frames agree on, when the log's own header is damaged."""
    step = FRAME_HEADER_BYTES + PAGE_BYTES
    seen = [_read(log, LOG_HEADER_BYTES + number * step + 8, 8) for number in range(FRAMES_ASKED)]
    return max(seen, key=lambda salts: (any(salts), seen.count(salts)))


def _goes_on(log: IO[bytes], place: int, salts: bytes) -> bool:
    """Whether one of the next frames is of this generation again."""
    step = FRAME_HEADER_BYTES + PAGE_BYTES
    return any(_read(log, place + number * step + 8, 8) == salts for number in range(1, FRAMES_ASKED))


def _is_log_header(header: bytes) -> bool:
    if len(header) < LOG_HEADER_BYTES or int.from_bytes(header[:4], "big") not in LOG_MAGIC:
        return False
    order = ">" if header[3] & 1 else "<"
    return checksum(header[:24], order, (0, 0)) == struct.unpack(">II", header[24:32])


def checksum(data: bytes, order: str, before: tuple[int, int]) -> tuple[int, int]:
    """The log's running checksum over `data`, from `before` on."""
    one, two = before
    for first, second in struct.iter_unpack(f"{order}II", data):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two


def _read(file: IO[bytes], place: int, length: int) -> bytes:
    file.seek(place)
    return file.read(length)


def commits_beyond(log: IO[bytes], sound: int) -> int:
    """Transactions in the log after its first `sound` frames, which are those that SQLite accepts.

    A power cut leaves one at most, the one whose fsync had not returned. More means that the log was damaged later.
    """
    end = LOG_HEADER_BYTES + sound * (FRAME_HEADER_BYTES + PAGE_BYTES)
    return sum(frame.commits for frame in frames(log) if frame.place > end)


def overlay(file: IO[bytes], log: IO[bytes]) -> None:
    """Put the log's pages into the file, up to its last commit, the damaged ones too: their rows have checksums."""
    found = frames(log)
    while found and not found[-1].commits:
        found.pop()
    last = max((frame.number for frame in found), default=0)
    size = file.seek(0, 2) // PAGE_BYTES
    for frame in found:
        if 0 < frame.number <= max(size, last) and frame.number <= size + len(found):
            page = _read(log, frame.place, PAGE_BYTES)
            file.seek((frame.number - 1) * PAGE_BYTES)
            file.write(page)
