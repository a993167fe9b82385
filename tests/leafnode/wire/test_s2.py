"""S2 streams and archives: what we write is read, what another writer may send is read, damage is noticed."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leafnode.errors import ProtocolError
from leafnode.wire import archive, s2
from leafnode.wire.crc32c import crc32c


def chunk(kind: int, plain: bytes, data: bytes) -> bytes:
    size = len(data) + 4
    value = crc32c(plain)
    masked = ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return bytes([kind]) + size.to_bytes(3, "little") + masked.to_bytes(4, "little") + data


def unpacked(data: bytes, step: int = 7) -> bytes:
    unpacker = s2.Unpacker()
    parts = [part for at in range(0, len(data), step) for part in unpacker.feed(data[at : at + step])]
    unpacker.finish()
    return b"".join(parts)


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"") == 0


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200_000), st.integers(1, 70_000))
def test_what_is_packed_is_read(data: bytes, step: int) -> None:
    assert unpacked(s2.IDENTIFIER + s2.pack(data), step) == data


@pytest.mark.parametrize(
    ("block", "plain"),
    [
        (b"\x03\x08abc", b"abc"),
        (b"\x0a\x00a\x15\x01", b"a" * 10),
        (b"\x08\x08abc\x12\x03\x00", b"abcabcab"),
        (b"\x08\x08abc\x13\x03\x00\x00\x00", b"abcabcab"),
        (b"\x46\xf0\x41" + b"x" * 66 + b"\x01\x01", b"x" * 70),
        (b"\x0b\x08abc\x01\x03\x01\x00", b"abcabcaabca"[:3] + b"abca" + b"bcab"),
    ],
    ids=["literal", "run", "two bytes of offset", "four bytes of offset", "long literal", "repeated offset"],
)
def test_blocks_of_other_writers(block: bytes, plain: bytes) -> None:
    assert s2.unpack_block(block) == plain


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\x03\x08ab",
        b"\x03\x08abcd",
        b"\x05\x08abc",
        b"\x04\x00a\x12\x02\x00",
        b"\x04\x01\x00",
        b"\xff\xff\xff\xff\xff\xff",
        b"\x08\xf4\x01",
        b"\x80\x80\x80\x80\x01",
        b"\x08\x00a\x1d\x00",
    ],
)
def test_damaged_blocks(block: bytes) -> None:
    with pytest.raises(ProtocolError, match="corrupt"):
        s2.unpack_block(block)


def test_streams_of_other_writers() -> None:
    padding = b"\xfe\x03\x00\x00abc"
    packed = chunk(0, b"abc", b"\x03\x08abc")
    assert unpacked(s2.IDENTIFIER + padding + packed + s2.IDENTIFIER + chunk(1, b"def", b"def")) == b"abcdef"
    assert unpacked(b"\xff\x06\x00\x00sNaPpY" + packed) == b"abc"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage garbage",
        chunk(1, b"abc", b"abc"),
        s2.IDENTIFIER[:-1] + b"x",
        s2.IDENTIFIER + chunk(1, b"abc", b"abd"),
        s2.IDENTIFIER + chunk(2, b"abc", b"abc"),
        s2.IDENTIFIER + chunk(1, b"abc", b"abc")[:-1],
        s2.IDENTIFIER + b"\x00\xff\xff\xff",
        s2.IDENTIFIER + b"\x01\x01\x00\x00a",
    ],
)
def test_damaged_streams(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="corrupt"):
        unpacked(data)


ENTRIES = st.builds(
    archive.Entry,
    st.binary(min_size=1, max_size=20),
    st.integers(-(1 << 62), 1 << 62),
    st.integers(0, 1 << 62),
    st.binary(max_size=50),
    st.binary(max_size=300),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(ENTRIES, max_size=6), st.integers(1, 500))
def test_archives_are_read_as_written(entries: list[archive.Entry], step: int) -> None:
    data = archive.MAGIC + b"".join(map(archive.write, [*entries, archive.END]))
    reader = archive.Reader()
    found = [entry for at in range(0, len(data), step) for entry in reader.feed(data[at : at + step])]
    assert found == [*entries, archive.END]
    assert reader.is_between
    assert found[-1].is_end


@pytest.mark.parametrize(
    "data", [b"NATSARC2xxxx", archive.MAGIC + b"\xff" * 20, archive.MAGIC + b"\xff\xff\xff\x7f" * 5]
)
def test_no_archives(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="archive"):
        list(archive.Reader().feed(data))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_hostile_streams_end_in_an_error_or_in_data(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        unpacked(s2.IDENTIFIER + b"\x00" + (len(data) + 4).to_bytes(3, "little") + bytes(4) + data, 50)
