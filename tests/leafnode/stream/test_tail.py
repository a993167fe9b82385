"""Counters that lag behind give the same stream when they are counted up."""

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from leafnode.store.memory import MemoryStore
from leafnode.store.sqlite import SqliteStore
from leafnode.stream import tail
from tests.leafnode.store.test_contract import World

STEPS = st.lists(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["send", "remove", "skip"])), max_size=4))


async def agrees(world: World) -> None:
    """What the store would load is what the stream has."""
    loaded = await world.store.load_contents(world.stream.id)
    contents = world.stream.contents
    now = (contents.first_seq, contents.last_seq, contents.messages, contents.bytes, contents.last_time)
    assert loaded.state == now or not (now[1] or loaded.state.last_seq)
    assert sorted(loaded.subjects) == sorted(
        (each.id, each.name, each.last_seq, each.last_size, each.count) for each in contents.subjects.values()
    )


def act(world: World, number: int, what: str) -> None:
    stream = world.stream
    if what == "send":
        world.send(f"s.{number}", b"x" * number)
    elif what == "skip":
        stream.contents.skip(stream.contents.last_seq + 1)
        stream.changes()
    elif stream.contents.head:
        seq = list(stream.contents.head)[number % len(stream.contents.head)]
        weight = stream.recall.weight(seq)
        assert weight is not None
        if weight.subject.last_seq != seq or weight.subject.count == 1:  # an older one in its place is looked up later
            stream.remove(seq, weight.subject, weight.size)


@given(STEPS)
@settings(deadline=None)
async def test_counting_the_tail_gives_the_counters(steps: list[Any]) -> None:
    world = World(MemoryStore(everything=True), max_msgs_per_subject=50)
    for batch in steps:
        for number, what in batch:
            act(world, number, what)
        await world.commit()
        await agrees(world)


async def test_appending_writes_counters_now_and_then(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "leafnode.db")
    world = World(store)
    for count in (1, tail.SETTLE_MESSAGES - 2, 1, 1):
        for _ in range(count):
            world.send("s.1", b"x")
        batch = world.journal.take()
        assert batch is not None
        settles = batch.streams[world.stream.id].settles
        assert settles == (world.stream.contents.last_seq == tail.SETTLE_MESSAGES)
        await store.commit(batch)
        world.journal.confirm(batch)
        await agrees(world)
    await store.close()
    world.store = store = await SqliteStore.open(tmp_path / "leafnode.db")
    await agrees(world)
    await store.close()


async def test_a_stream_goes_on_from_counters_that_lag(tmp_path: Path) -> None:
    """Restored with a tail, the next removal writes all of it."""
    store = await SqliteStore.open(tmp_path / "leafnode.db")
    world = World(store)
    for number in range(6):
        world.send(f"s.{number % 2}", b"x")
    await world.commit()
    world.js.restore(world.stream, await store.load_contents(world.stream.id))
    world.send("s.2")
    stream = world.stream
    subject = stream.contents.subjects[b"s.0"]
    stream.remove(1, subject, stream.size_of(3, 0, 1))
    await world.commit()
    await agrees(world)
    assert (await store.load_contents(stream.id)).tail == ()
    await store.close()
