"""Damaged files: always opened, never a message that differs from what was published, losses said."""

import asyncio
import json
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from leafnode.store import health, salvage
from leafnode.store.scrub import scrub
from leafnode.store.sqlite import SqliteStore
from tests.support import damage
from tests.support.damage import Base, World

TRIALS = 30  # of random damage; `python -m tests.support.damage 3000` for more


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return asyncio.run(damage.make_base(tmp_path_factory.mktemp("base")))


def copy(base: Base, folder: Path) -> Path:
    for file in damage.NAMES:
        (folder / file).write_bytes((base.folder / file).read_bytes())
    return folder / "leafnode.db"


def change(path: Path, act: Callable[[sqlite3.Connection], object]) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    act(connection)
    connection.close()


async def opened(path: Path) -> tuple[SqliteStore, World]:
    store = await SqliteStore.open(path)
    world = World(store)
    await world.settle()
    return store, world


async def test_any_damage_is_survived(base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    faults = [fault for seed in range(TRIALS) for fault in await damage.trial(base, tmp_path / str(seed), seed)]
    assert faults == []


async def test_a_sound_file_is_left_alone(base: Base, tmp_path: Path) -> None:
    path = copy(base, tmp_path)
    assert health.why_damaged(path) == ""
    store, world = await opened(path)
    assert store.salvaged is None
    for name in damage.STREAMS:
        messages, damaged = await world.read(name)
        assert damaged == 0
        assert {(name, stored.seq) for stored in messages} == {place for place in base.published if place[0] == name}
    await store.close()
    assert list(scrub(path)) == []


async def test_without_its_header_nothing_is_lost(base: Base, tmp_path: Path) -> None:
    path = copy(base, tmp_path)
    change(path, lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    with path.open("r+b") as file:
        file.write(bytes(100))
    store, world = await opened(path)
    assert store.salvaged is not None
    assert sum([len((await world.read(name))[0]) for name in damage.STREAMS]) == len(base.published)
    assert [len(stream.consumers) for stream in world.js.streams.values()] == [1, 1, 1]
    await store.close()


async def test_without_its_first_page_messages_prove_where_they_belong(base: Base, tmp_path: Path) -> None:
    """No tree can be found any more."""
    path = copy(base, tmp_path)
    change(path, lambda connection: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    with path.open("r+b") as file:
        file.write(bytes(4096))
    store, world = await opened(path)
    found = {
        (name, stored.seq): stored
        for name in damage.STREAMS
        for stored in (await world.read(name))[0]
        if (name, stored.seq) in base.published
    }
    assert found == base.published
    await store.close()


async def test_a_wrong_checksum_is_left_out_and_told(base: Base, tmp_path: Path) -> None:
    path = copy(base, tmp_path)
    change(path, lambda connection: connection.execute("UPDATE m1 SET body = body || 'x' WHERE seq = 7"))
    [finding] = [finding for finding in scrub(path) if finding.sequence]
    assert (finding.account, finding.stream, finding.sequence, finding.text) == ("$G", "A", 7, "wrong checksum")
    store, world = await opened(path)
    messages, damaged = await world.read("A")
    assert damaged == 1
    assert 7 not in {stored.seq for stored in messages}
    assert {6, 8} <= {stored.seq for stored in messages}
    await store.close()


async def test_the_damaged_file_is_kept_with_a_report(base: Base, tmp_path: Path) -> None:
    path = copy(base, tmp_path)
    health.mark(path, "somebody met damage")
    before = path.read_bytes()
    store, _ = await opened(path)
    await store.close()
    [kept] = tmp_path.glob("leafnode.db.damaged-*Z")
    assert kept.read_bytes() == before
    report = json.loads(kept.with_name(kept.name + ".json").read_text())
    assert report["reason"] == "somebody met damage"
    assert {stream["name"]: stream["lost_at_least"] for stream in report["streams"]} == {"A": 0, "B": 0, "C": 0}
    store, _ = await opened(path)
    assert store.salvaged is None
    await store.close()


async def test_a_configuration_that_is_lost_leaves_a_sealed_stream(base: Base, tmp_path: Path) -> None:
    path = copy(base, tmp_path)
    change(path, lambda connection: connection.execute("UPDATE streams SET config = x'00' WHERE id = 1"))
    store, world = await opened(path)
    assert set(world.js.streams) == {"SALVAGED-1", "B", "C"}
    stream = world.js.streams["SALVAGED-1"]
    assert stream.config.sealed
    assert len((await world.read("SALVAGED-1"))[0]) == sum(name == "A" for name, _ in base.published)
    await store.close()


async def test_a_salvage_that_was_cut_off_is_finished(base: Base, tmp_path: Path) -> None:
    """Between its two renames: the log that is there belongs to the damaged file."""
    path = copy(base, tmp_path)
    made = salvage.aside(path, ".salvaged")
    made.write_bytes(b"")
    change(made, salvage.new_schema)
    path.rename(salvage.aside(path, ".damaged-20260101T000000Z"))
    store, world = await opened(path)
    assert world.js.streams == {}
    assert store.salvaged is None
    await store.close()


async def test_only_the_newest_damaged_files_are_kept(base: Base, tmp_path: Path) -> None:
    path = copy(base, tmp_path)
    for year in range(2001, 2006):
        salvage.aside(path, f".damaged-{year}0101T000000Z").write_bytes(b"")
    health.mark(path, "again")
    store, _ = await opened(path)
    await store.close()
    kept = sorted(file.name for file in tmp_path.glob("leafnode.db.damaged-*Z"))
    assert len(kept) == salvage.KEPT_MAX
    assert kept[0].startswith("leafnode.db.damaged-2004")
