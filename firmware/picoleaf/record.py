"""How a reading lies in flash: framed and checksummed, so that a torn write is seen and costs only itself.

    0xB5 | u16 length of the body | u32 crc32 of the body | body
    body: u32 boot, u32 seq, i64 ms, u8 flags, u8 length of the name, name, value as JSON members

`ms` is Unix time when TIMED is set, otherwise milliseconds since that boot. All numbers are little-endian. A file is a
plain sequence of records. Pure: bytes in, bytes out.
"""

import binascii
import struct

MAGIC = 0xB5
TIMED = 1
FRAME = "<BHI"
BODY = "<IIqBB"
FRAME_BYTES = 7  # struct.calcsize(FRAME)
BODY_BYTES = 18  # struct.calcsize(BODY)
MAX_BODY_BYTES = 900  # one record fits the read chunk, and its message the transmit buffer, with room for the frame


def pack(boot, seq, ms, timed, name, value):
    """One record. `name` and `value` are bytes; together they must leave room within MAX_BODY_BYTES."""
    body = struct.pack(BODY, boot, seq, ms, TIMED if timed else 0, len(name)) + name + value
    return struct.pack(FRAME, MAGIC, len(body), binascii.crc32(body)) + body


def scan(data, final):
    """Reads what is whole in `data`: a list of (boot, seq, ms, timed, name, value), bytes used, bytes that are damaged.

    Stops before a record that continues beyond `data`, unless `final` says that nothing follows: then it is damage.
    After damage it goes on at the next byte that starts a valid record.
    """
    records = []
    at = bad = 0
    while at < len(data):
        size = _size(data, at)
        if size == 0 and not final:
            break
        if size <= 0:
            nearest = data.find(b"\xb5", at + 1)
            step = (nearest if nearest >= 0 else len(data)) - at
            bad += step
            at += step
            continue
        records.append(_unpack(data, at + FRAME_BYTES, at + size))
        at += size
    return records, at, bad


def _size(data, at):
    """Bytes of the record at `at`; 0 when it is cut off by the end of `data`, -1 when there is none."""
    if data[at] != MAGIC:
        return -1
    if at + FRAME_BYTES > len(data):
        return 0
    _, length, crc = struct.unpack_from(FRAME, data, at)
    if not BODY_BYTES <= length <= MAX_BODY_BYTES:
        return -1
    end = at + FRAME_BYTES + length
    if end > len(data):
        return 0
    return FRAME_BYTES + length if binascii.crc32(data[at + FRAME_BYTES : end]) == crc else -1


def _unpack(data, start, end):
    boot, seq, ms, flags, length = struct.unpack_from(BODY, data, start)
    name = start + BODY_BYTES
    return boot, seq, ms, bool(flags & TIMED), bytes(data[name : name + length]), bytes(data[name + length : end])
