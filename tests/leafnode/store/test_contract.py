"""What every store promises, for each of them."""

from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from leafnode.route.account import Account
from leafnode.route.message import Message
from leafnode.store.base import Store
from leafnode.store.memory import MemoryStore
from leafnode.store.sqlite import SqliteStore
from leafnode.stream import reads
from leafnode.stream.jetstream import JetStream
from leafnode.stream.journal import Journal
from leafnode.stream.stream import Stream
from leafnode.stream.stream_config import StreamConfig
from leafnode.stream.surroundings import Surroundings

Ask = Callable[[Callable[[Callable[[Any], None]], reads.Question]], Coroutine[Any, Any, Any]]


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store
    made = (
        MemoryStore(everything=True) if request.param == "memory" else await SqliteStore.open(tmp_path / "leafnode.db")
    )
    yield made
    await made.close()


class World:
    """A stream whose batches go to a store."""

    def __init__(self, store: Store, **config: Any) -> None:
        self.store = store
        self.journal = Journal()
        self.now = 1000
        around = Surroundings(
            account=Account("$G", lambda n: 0), journal=self.journal, now_ns=self.tick, new_id=lambda: "0" * 22
        )
        self.js = JetStream(around)
        self.stream: Stream = self.js.create_stream(StreamConfig(name="S", subjects=["s.>"], **config))

    def tick(self) -> int:
        self.now += 10
        return self.now

    def send(self, subject: str, payload: bytes = b"", headers: bytes = b"") -> None:
        self.js.around.account.publish(Message(subject.encode(), b"", headers, payload))

    async def commit(self) -> None:
        while (batch := self.journal.take()) is not None:
            await self.store.commit(batch)
            self.journal.confirm(batch)

    async def ask(self, make: Callable[[Callable[[Any], None]], reads.Question]) -> Any:
        found: list[Any] = []
        for done, answer in await self.store.answer([make(found.append)]):
            done(answer)
        return found[0]

    def ids(self, *subjects: bytes) -> tuple[int, ...]:
        return tuple(self.stream.contents.subjects[subject].id for subject in subjects)


async def filled(store: Store, count: int = 10, **config: Any) -> World:
    world = World(store, **config)
    for number in range(count):
        world.send(f"s.{number % 3}", b"m%d" % number, b"NATS/1.0\r\nA: b\r\n\r\n" if number % 2 else b"")
    await world.commit()
    return world


async def test_messages_come_back_as_they_went(store: Store) -> None:
    world = await filled(store, 4)
    rows = await world.ask(lambda done: reads.Messages(world.stream.id, 1, 3, None, done))
    assert rows.scanned_to == 3
    assert [(stored.seq, stored.subject, stored.headers, stored.payload) for stored in rows.messages] == [
        (2, b"s.1", b"NATS/1.0\r\nA: b\r\n\r\n", b"m1"),
        (3, b"s.2", b"", b"m2"),
    ]


async def test_answers_are_bounded_in_rows_and_bytes(store: Store) -> None:
    world = await filled(store)
    rows = await world.ask(lambda done: reads.Messages(world.stream.id, 0, 10, None, done, limit=4))
    assert (len(rows.messages), rows.scanned_to) == (4, 4)
    rows = await world.ask(lambda done: reads.Messages(world.stream.id, 0, 10, None, done, max_bytes=1))
    assert (len(rows.messages), rows.scanned_to) == (1, 1)


async def test_subjects_filter_every_question(store: Store) -> None:
    world = await filled(store)
    one, two = world.ids(b"s.1"), world.ids(b"s.0", b"s.2")
    rows = await world.ask(lambda done: reads.Messages(world.stream.id, 0, 10, one, done))
    assert [stored.seq for stored in rows.messages] == [2, 5, 8]
    assert rows.scanned_to == 10
    assert await world.ask(lambda done: reads.Count(world.stream.id, 3, 10, two, done)) == 5
    metas = await world.ask(lambda done: reads.Weights(world.stream.id, 0, 10, two, done, limit=3))
    assert [meta.seq for meta in metas.metas] == [1, 3, 4]
    assert metas.scanned_to == 4
    last = await world.ask(lambda done: reads.LastOf(world.stream.id, one[0], 7, done))
    assert last.seq == 5


async def test_weights_are_lengths(store: Store) -> None:
    world = await filled(store, 2)
    metas = await world.ask(lambda done: reads.WeightsOf(world.stream.id, [2, 9], done))
    assert [(meta.seq, meta.subject, meta.headers, meta.payload) for meta in metas.metas] == [(2, b"s.1", 18, 2)]


async def test_times_are_found_by_halving(store: Store) -> None:
    world = await filled(store)
    third = (await world.ask(lambda done: reads.BySequence(world.stream.id, [3], done))).messages[0].time
    assert await world.ask(lambda done: reads.FirstAt(world.stream.id, third, done)) == 3
    assert await world.ask(lambda done: reads.FirstAt(world.stream.id, third + 1, done)) == 4
    assert await world.ask(lambda done: reads.FirstAt(world.stream.id, third + 9999, done)) == 0


async def test_removed_messages_are_gone_and_their_sequences_are_gaps(store: Store) -> None:
    world = await filled(store)
    stream = world.stream
    for seq in (2, 3, 7):
        weight = stream.recall.weight(seq)
        assert weight is not None
        stream.remove(seq, weight.subject, weight.size)
    world.send("s.9")
    await world.commit()
    rows = await world.ask(lambda done: reads.BySequence(stream.id, [1, 2, 3, 11], done))
    assert [stored.seq for stored in rows.messages] == [1, 11]
    assert await world.ask(lambda done: reads.Gaps(stream.id, 1, 11, 100, done)) == [2, 3, 7]


async def test_counters_and_subjects_are_kept_with_the_messages(store: Store) -> None:
    world = await filled(store, max_msgs_per_subject=2)
    loaded = await store.load_contents(world.stream.id)
    contents = world.stream.contents
    assert loaded.state == (contents.first_seq, 10, 6, contents.bytes, contents.last_time)
    assert sorted(loaded.subjects) == sorted(
        (subject.id, subject.name, subject.last_seq, subject.last_size, subject.count)
        for subject in contents.subjects.values()
    )


async def test_what_came_and_went_in_one_batch_leaves_only_its_number(store: Store) -> None:
    world = World(store, max_msgs=1)
    for _ in range(5):
        world.send("s.1")
    await world.commit()
    rows = await world.ask(lambda done: reads.Messages(world.stream.id, 0, 5, None, done))
    assert [stored.seq for stored in rows.messages] == [5]
    assert (await store.load_contents(world.stream.id)).state.last_seq == 5


async def test_a_cleared_stream_keeps_its_numbers(store: Store) -> None:
    world = await filled(store)
    world.stream.clear()
    world.send("s.5")
    await world.commit()
    loaded = await store.load_contents(world.stream.id)
    assert (loaded.state.first_seq, loaded.state.last_seq, loaded.state.messages) == (11, 11, 1)
    assert [row[1] for row in loaded.subjects] == [b"s.5"]


async def test_a_dropped_stream_answers_nothing(store: Store) -> None:
    world = await filled(store)
    world.js.delete_stream(world.stream)
    await world.commit()
    rows = await world.ask(lambda done: reads.Messages(world.stream.id, 0, 10, None, done))
    assert rows.messages == []
    assert await world.ask(lambda done: reads.Count(world.stream.id, 0, 10, None, done)) == 0
    assert await world.ask(lambda done: reads.Gaps(world.stream.id, 1, 3, 9, done)) in ([], [1, 2, 3])
