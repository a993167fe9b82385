"""What only the file can do: survive, fail, grow and shrink its log."""

import sqlite3
from pathlib import Path

import pytest

from leafnode.errors import StoreError
from leafnode.store.sqlite import SqliteStore
from leafnode.stream.journal import Journal, UpdateStream
from tests.leafnode.store.test_contract import World


async def test_everything_is_there_after_opening_again(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "leafnode.db")
    world = World(store)
    for number in range(300):
        world.send(f"s.{number}", b"x")
    await world.commit()
    await store.close()
    store = await SqliteStore.open(tmp_path / "leafnode.db")
    (loaded,) = await store.load()
    assert loaded.account == "$G"
    assert loaded.contents.state.last_seq == 300
    assert len(loaded.contents.subjects) == 300
    await store.close()


async def test_a_refused_batch_leaves_nothing_behind(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "leafnode.db")
    world = World(store)
    world.send("s.1", b"kept")
    await world.commit()
    await store._writer.run(lambda raw: raw.execute("PRAGMA max_page_count = 20").fetchall())
    world.send("s.2", bytes(1 << 20))
    batch = world.journal.take()
    assert batch is not None
    with pytest.raises(StoreError, match="full"):
        await store.commit(batch)
    world.journal.fail(batch, "full")
    loaded = await store.load_contents(world.stream.id)
    assert (loaded.state.last_seq, len(loaded.subjects)) == (1, 1)
    world.js.restore(world.stream, loaded)
    world.send("s.3", b"small")
    await world.commit()
    assert (await store.load_contents(world.stream.id)).state.last_seq == 2
    await store.close()


async def test_the_log_is_moved_into_the_file_when_it_has_grown(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "leafnode.db")
    world = World(store)
    assert not store.wants_checkpoint()
    for _ in range(6):
        world.send("s.1", bytes(1 << 20))
        await world.commit()
    assert store.wants_checkpoint()
    await store.checkpoint()
    assert not store.wants_checkpoint()
    assert (tmp_path / "leafnode.db").stat().st_size > 6 << 20
    await store.close()


async def test_a_writer_without_rest_keeps_its_log_short(tmp_path: Path) -> None:
    """Otherwise a full disk could not be cleaned: the log must fit into the file."""
    store = await SqliteStore.open(tmp_path / "leafnode.db")
    world = World(store)
    for _ in range(30):
        world.send("s.1", bytes(1 << 20))
        await world.commit()
    assert (tmp_path / "leafnode.db-wal").stat().st_size < 12 << 20
    await store.shorten()
    assert (tmp_path / "leafnode.db-wal").stat().st_size == 0
    await store.close()


async def filled_and_purged(path: Path) -> tuple[SqliteStore, World]:
    """24 MiB were stored and 2 MiB are left."""
    store = await SqliteStore.open(path)
    world = World(store)
    for _ in range(24):
        for _ in range(8):
            world.send("s.1", bytes(1 << 17))
        await world.commit()
    while (seq := world.stream.contents.first_seq) <= 22 * 8:
        world.stream.retention.settled(seq)
    await world.commit()
    await store.checkpoint()
    return store, world


async def shrink(store: SqliteStore, world: World) -> int:
    """While messages come; how many steps that took."""
    steps = 0
    while await store.shrink():
        steps += 1
        world.send("s.2", b"x")
        await world.commit()
    await store.shorten()
    return steps


async def test_space_of_removed_messages_is_given_back_while_others_come(tmp_path: Path) -> None:
    path = tmp_path / "leafnode.db"
    store, world = await filled_and_purged(path)
    assert path.stat().st_size > 24 << 20
    steps = await shrink(store, world)
    assert 100 < steps < 200
    assert path.stat().st_size < 7 << 20
    assert not await store.shrink()
    await store.close()
    store = await SqliteStore.open(path)
    assert store.salvaged is None
    (loaded,) = await store.load()
    assert loaded.contents.state.messages == 2 * 8 + steps
    await store.close()


async def test_little_free_space_stays_in_the_file(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "leafnode.db")
    world = World(store)
    for _ in range(3):
        world.send("s.1", bytes(1 << 20))
    await world.commit()
    world.stream.clear()
    await world.commit()
    assert not await store.shrink()
    await store.close()


async def test_a_file_that_never_learned_to_shrink_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "leafnode.db"
    with sqlite3.connect(path) as old:
        old.execute("PRAGMA journal_mode = WAL").fetchall()
        old.execute("CREATE TABLE x (y)")
        old.execute("DROP TABLE x")
    old.close()
    store, world = await filled_and_purged(path)
    assert await shrink(store, world) == 0
    assert path.stat().st_size > 24 << 20
    await store.close()


async def test_a_file_that_is_no_database_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "leafnode.db").write_bytes(b"no database" * 100)
    store = await SqliteStore.open(tmp_path / "leafnode.db")
    assert store.salvaged is not None
    assert Path(store.salvaged["kept"]).read_bytes() == b"no database" * 100
    await store.close()


async def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "leafnode.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="99"):
        await SqliteStore.open(tmp_path / "leafnode.db")


async def test_notes_are_kept_in_the_commit_of_what_they_are_about(tmp_path: Path) -> None:
    journal = Journal()
    store = await SqliteStore.open(tmp_path / "leafnode.db")
    for notes in ({"a": b"1", "b": b"2"}, {"a": b"3", "b": None}):
        journal.note("me", notes)
        batch = journal.take()
        assert batch is not None
        await store.commit(batch)
        journal.confirm(batch)
    journal.note("another", {"a": b"x"})
    lost = journal.take()
    assert lost is not None
    assert journal.fail(lost, "the disk is full") == []  # a note goes with its commit
    assert journal.take() is None
    await store.close()
    again = await SqliteStore.open(tmp_path / "leafnode.db")
    assert await again.notes("me") == {"a": b"3"}
    assert await again.notes("another") == {}
    await again.close()


def test_a_batch_is_asked_about_before_it_leaves() -> None:
    journal = Journal()
    journal.before_take.append(lambda: journal.note("me", {"a": b"1"}))
    journal.catalog(UpdateStream(1, b"{}"))
    batch = journal.take()
    assert batch is not None
    assert batch.notes == {("me", "a"): b"1"}
