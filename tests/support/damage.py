"""Damages a store file in a way that a seed decides, opens it, and says what does not hold.

base = await make_base(folder)            # a store as a SIGKILL leaves it, and what was published
faults = await trial(base, folder, seed)  # empty: nothing wrong

python -m tests.support.damage 3000       # so many trials, for a longer look
"""

import asyncio
import logging
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from leafnode.errors import DamagedError
from leafnode.route.account import Account
from leafnode.route.message import Message
from leafnode.store import scrub
from leafnode.store.sqlite import SqliteStore
from leafnode.stream import reads
from leafnode.stream.consumer_config import ConsumerConfig
from leafnode.stream.jetstream import JetStream
from leafnode.stream.journal import Journal
from leafnode.stream.stored import Stored
from leafnode.stream.stream_config import StreamConfig
from leafnode.stream.surroundings import Surroundings

PAGE = 4096
NAMES = ("leafnode.db", "leafnode.db-wal", "leafnode.db-shm")
STREAMS = {"A": {}, "B": {"max_msgs_per_subject": 3}, "C": {}}
BATCHES = 40
AMBIGUOUS = 2  # commits at the end of a log
OPENINGS = 4  # of one trial: a start may meet damage while it reads, and starts again


class Base(NamedTuple):
    """A folder to copy, and every message that is in it."""

    folder: Path
    ever: dict[tuple[str, int], Stored]  # removed ones too
    published: dict[tuple[str, int], Stored]
    before: list[set[tuple[str, int]]]  # what was there before the newest commits: a log that is damaged in them cannot
    # be told from one that a power cut tore


class World:
    """A JetStream on a store, without a broker."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.journal = Journal()
        self._now = 1_700_000_000_000_000_000
        self.js = JetStream(
            Surroundings(
                account=Account("$G", lambda n: 0), journal=self.journal, now_ns=self._tick, new_id=lambda: "0" * 22
            )
        )
        self.js.open(store.loaded)

    def _tick(self) -> int:
        self._now += 1000
        return self._now

    async def settle(self) -> None:
        while True:
            if (batch := self.journal.take()) is not None:
                await self.store.commit(batch)
                self.journal.confirm(batch)
            elif questions := self.js.around.reads.take():
                for answered in await self.store.answer(questions):
                    answered.done(answered.answer)
            else:
                return

    def publish(self, subject: str, payload: bytes, headers: bytes = b"") -> None:
        self.js.around.account.publish(Message(subject.encode(), b"", headers, payload))

    async def read(self, name: str) -> tuple[list[Stored], int]:
        """All messages of a stream, and how many were left out as damaged."""
        stream = self.js.streams[name]
        found: list[Stored] = []
        damaged = after = 0
        while after < stream.committed:
            answers: list[reads.Rows] = []
            question = reads.Messages(stream.id, after, stream.committed, None, answers.append)
            [(done, answer)] = await self.store.answer([question])
            done(answer)
            found += answers[0].messages
            damaged += len(self.store.take_damaged())
            after = answers[0].scanned_to
        return found, damaged


async def make_base(folder: Path) -> Base:
    """Two streams with a log that is not in the file yet, one stream that is."""
    chance = random.Random(0)
    (folder / "live").mkdir()
    store = await SqliteStore.open(folder / "live" / "leafnode.db")
    world = World(store)
    before: list[set[tuple[str, int]]] = []
    ever: dict[tuple[str, int], Stored] = {}
    for name, more in STREAMS.items():
        stream = world.js.create_stream(StreamConfig(name=name, subjects=[f"{name}.>"], **more))  # type: ignore[arg-type]
        world.js.create_consumer(stream, "c", ConsumerConfig(durable_name="c", ack_policy="explicit"), lambda _: None)
    await world.settle()
    for batch in range(BATCHES):
        if batch == BATCHES // 2:
            await store.shorten()
        for _ in range(chance.randrange(1, 30)):
            name = chance.choice(list(STREAMS))
            size = chance.choice((10, 100, 300, 300, 9000))
            headers = b"NATS/1.0\r\nA: b\r\n\r\n" if chance.random() < 0.3 else b""
            world.publish(f"{name}.{chance.randrange(8)}", chance.randbytes(size), headers)
        await world.settle()
        now = {(name, stored.seq): stored for name in STREAMS for stored in (await world.read(name))[0]}
        ever |= now
        before = [*before[-AMBIGUOUS:], set(now)]
    published = {(name, stored.seq): stored for name in STREAMS for stored in (await world.read(name))[0]}
    (folder / "base").mkdir()
    for file in NAMES:
        shutil.copyfile(folder / "live" / file, folder / "base" / file)
    await store.close()
    return Base(folder / "base", ever, published, before)


def flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 3, 20))):
        place = chance.randrange(len(data))
        data[place] ^= 1 << chance.randrange(8)


def flip_in_first_page(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(min(PAGE, len(data)))
    data[place] ^= 1 << chance.randrange(8)


def zero_page(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data) // PAGE + 1) * PAGE
    data[place : place + PAGE] = bytes(len(data[place : place + PAGE]))


def garbage(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data))
    length = len(data[place : place + chance.choice((16, 512, PAGE, 3 * PAGE))])
    data[place : place + length] = chance.randbytes(length)


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def swap_pages(data: bytearray, chance: random.Random) -> None:
    one, two = (chance.randrange(max(len(data) // PAGE, 1)) * PAGE for _ in range(2))
    data[one : one + PAGE], data[two : two + PAGE] = data[two : two + PAGE], data[one : one + PAGE]


def lose_header(data: bytearray, chance: random.Random) -> None:
    length = len(data[:100])
    data[:length] = chance.choice((bytes(length), chance.randbytes(length)))


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits,
    flip_in_first_page,
    zero_page,
    garbage,
    cut,
    swap_pages,
    lose_header,
)


def harm(folder: Path, chance: random.Random) -> str:
    """Damage one file; what was done."""
    name = chance.choices(NAMES, (6, 3, 1))[0]
    way = chance.choice(DAMAGES)
    file = folder / name
    data = bytearray(file.read_bytes())
    used = data.rstrip(b"\0")  # a log is longer than what is in it
    size = max(len(used), PAGE)
    part = data[:size]
    way(part, chance)
    file.write_bytes(bytes(part) + (bytes(data[size:]) if len(part) == size else b""))
    return f"{way.__name__} of {name}"


async def trial(base: Base, folder: Path, seed: int) -> list[str]:
    """Damage a copy and open it; everything that does not hold."""
    chance = random.Random(seed)
    shutil.copytree(base.folder, folder)
    done = harm(folder, chance)
    path = folder / "leafnode.db"
    said = False
    found: dict[tuple[str, int], Stored] = {}
    for _ in range(OPENINGS):
        store = await SqliteStore.open(path)
        said = said or store.salvaged is not None
        try:
            world = World(store)
            await world.settle()
            found = {}
            for name in world.js.streams:
                messages, damaged = await world.read(name)
                said = said or damaged > 0
                found |= {(name, stored.seq): stored for stored in messages}
            for name in [name for name in STREAMS if name in world.js.streams]:
                world.publish(f"{name}.new", b"new")
            await world.settle()
            break
        except DamagedError:
            said = True
        finally:
            await store.close()
    else:
        return [f"{done}: still damaged after {OPENINGS} openings"]
    said = said or bool(list(scrub.scrub(path)))
    said = said or done == "cut of leafnode.db-wal"  # as if the power had failed before: nobody can tell
    return [f"seed {seed}: {done}: {fault}" for fault in _faults(base, found, said)]


def _faults(base: Base, found: dict[tuple[str, int], Stored], said: bool) -> list[str]:
    by_subject = {(stored.seq, stored.subject): stored for stored in base.ever.values()}
    there = {(_stream_of(stored), stored.seq) for stored in found.values()}
    faults = [
        f"{place} is not what was published"
        for place, stored in found.items()
        if by_subject.get((stored.seq, stored.subject)) != stored
    ]
    if not said and there not in base.before:
        faults += [f"{place} is lost and nobody says so" for place in base.published.keys() - there]
        faults += [f"{place} was removed and is back, and nobody says so" for place in there - base.published.keys()]
    return faults


def _stream_of(stored: Stored) -> str:
    return stored.subject.split(b".")[0].decode()


async def sweep(trials: int, first: int = 0) -> int:
    with tempfile.TemporaryDirectory() as name:
        base = await make_base(Path(name))
        wrong = 0
        for seed in range(first, first + trials):
            folder = Path(name) / "trial"
            try:
                faults = await trial(base, folder, seed)
            except Exception as error:
                faults = [f"seed {seed}: {error!r}"]
            wrong += bool(faults)
            for fault in faults[:3]:
                print(fault)
            shutil.rmtree(folder)
        print(f"{trials} trials, {wrong} with faults")
        return wrong


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    raise SystemExit(1 if asyncio.run(sweep(*map(int, sys.argv[1:]))) else 0)
