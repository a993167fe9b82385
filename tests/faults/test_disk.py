"""The disk: no acknowledgement before its fsync, a full disk is an error and not the end, a damaged file is said so."""

import asyncio
import contextlib
import functools
import json
import os
import re
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig
from nats.js.errors import APIError, ServiceUnavailableError

from tests.conformance.raw import Wire
from tests.faults.load import connect
from tests.support.ports import free_port
from tests.support.servers import READY_SECONDS, Broker, jetstream, leafnode
from tests.support.syscalls import Gate

QUIET_SECONDS = 0.3  # so long no acknowledgement may come while the fsync is held
BODY = b"b" * 4000


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as made:
        yield made


@pytest.fixture
def broker(tmp_path: Path, gate: Gate) -> Iterator[Broker]:
    made = leafnode(tmp_path, config=jetstream(tmp_path))
    made.argv = gate.wrap(made.argv)
    with made.start():
        yield made
        gate.release_syncs()
        gate.disk_is_full(False)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


async def succeeds(ask: Callable[[], Awaitable[object]]) -> None:
    """Sooner or later, without anybody doing anything."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            try:
                await ask()
                return
            except nats.errors.Error:
                await asyncio.sleep(0.05)


def check(folder: Path) -> str:
    database = sqlite3.connect(folder / "js" / "leafnode.db")
    try:
        return str(database.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        database.close()


# fsync -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["publish", "ack", "create", "put", "purge"])
async def test_nothing_is_acknowledged_before_its_fsync(broker: Broker, gate: Gate, kind: str) -> None:
    """The kernel holds the fsync: no answer. It lets go: the answer."""
    client = await nats.connect(broker.url, allow_reconnect=False)
    context = client.jetstream(timeout=READY_SECONDS)
    await context.add_stream(StreamConfig(name="S", subjects=["s"]))
    await context.add_consumer("S", ConsumerConfig(durable_name="c", ack_policy=AckPolicy.EXPLICIT))
    bucket = await context.create_key_value(bucket="B")
    await context.publish("s", b"first")
    sub = await context.pull_subscribe_bind(consumer="c", stream="S")
    [message] = await sub.fetch(1)
    acts: dict[str, Callable[[], Awaitable[object]]] = {
        "publish": lambda: context.publish("s", b"x"),
        "ack": lambda: message.ack_sync(timeout=READY_SECONDS),
        "create": lambda: context.add_stream(StreamConfig(name="T", subjects=["t"])),
        "put": lambda: bucket.put("k", b"v"),
        "purge": lambda: context.purge_stream("S"),
    }
    await until(lambda: gate.waiting == 0)
    gate.hold_syncs()
    answer = asyncio.ensure_future(acts[kind]())
    await until(lambda: gate.waiting > 0)
    done, _ = await asyncio.wait([answer], timeout=QUIET_SECONDS)
    assert not done, "answered while the fsync had not returned"
    gate.release_syncs()
    await asyncio.wait_for(answer, READY_SECONDS)
    await client.close()


async def test_many_publishers_share_one_fsync(broker: Broker, gate: Gate) -> None:
    client = await nats.connect(broker.url, allow_reconnect=False)
    context = client.jetstream(timeout=READY_SECONDS)
    await context.add_stream(StreamConfig(name="S", subjects=["s"]))
    before = gate.syncs
    await asyncio.gather(*(context.publish("s", b"x") for _ in range(500)))
    assert 0 < gate.syncs - before < 100
    await client.close()


async def test_killed_while_the_fsync_was_held(broker: Broker, gate: Gate) -> None:
    """Unanswered messages may be there or not; the file is whole and the next start serves."""
    client = await connect(broker.url)
    context = client.jetstream(timeout=READY_SECONDS)
    await context.add_stream(StreamConfig(name="S", subjects=["s"]))
    told = [(await context.publish("s", b"%d" % n)).seq for n in range(20)]
    gate.hold_syncs()
    asking = [asyncio.ensure_future(client.request("s", b"late")) for _ in range(20)]
    await until(lambda: gate.waiting > 0)
    await asyncio.to_thread(broker.kill)
    await asyncio.gather(*asking, return_exceptions=True)
    gate.release_syncs()
    assert check(broker.folder) == "ok"
    await asyncio.to_thread(broker.start)
    state: list[int] = []

    async def look() -> None:
        state.append((await context.stream_info("S")).state.messages)

    await succeeds(look)
    assert len(told) <= state[0] <= len(told) + len(asking)
    await client.close()


# full ------------------------------------------------------------------------------------------------------------


async def fill(context: nats.js.JetStreamContext, told: dict[int, int]) -> APIError | ServiceUnavailableError:
    """Publish until it is refused; `told` gets what was acknowledged."""
    while True:
        number = len(told)
        try:
            told[number] = (await context.publish("s", b"%d " % number + BODY)).seq
        except (APIError, ServiceUnavailableError) as error:
            return error


async def holds(context: nats.js.JetStreamContext, told: dict[int, int]) -> None:
    """Everything acknowledged can be read."""
    for number, seq in told.items():
        assert (await context.get_msg("S", seq)).data == b"%d " % number + BODY


async def test_a_full_disk_refuses_and_recovers(broker: Broker, gate: Gate) -> None:
    """ENOSPC for every write to the database: publishers hear it, readers read, and room is enough to go on."""
    client = await nats.connect(broker.url, allow_reconnect=False)
    context = client.jetstream(timeout=READY_SECONDS)
    await context.add_stream(StreamConfig(name="S", subjects=["s"]))
    told: dict[int, int] = {}
    for number in range(20):
        told[number] = (await context.publish("s", b"%d " % number + BODY)).seq
    gate.disk_is_full(True)
    error = await fill(context, told)
    assert (error.code, error.err_code) == (503, 10077)
    assert "full" in str(error.description)
    await holds(context, told)
    heard = await client.subscribe("live")
    await client.publish("live", b"core goes on")
    assert (await heard.next_msg()).data == b"core goes on"
    assert broker.alive()
    gate.disk_is_full(False)
    await succeeds(lambda: context.delete_msg("S", told.pop(0)))

    async def publish() -> None:
        told[len(told) + 1] = (await context.publish("s", b"%d " % (len(told) + 1) + BODY)).seq

    await succeeds(publish)
    await holds(context, told)
    info = await context.stream_info("S")
    assert info.state.messages == len(told)
    assert len(set(told.values())) == len(told)
    await client.close()
    assert broker.stop() == 0
    assert check(broker.folder) == "ok"
    assert "Traceback" not in broker.output()


async def test_a_limit_on_the_size_of_files_refuses_and_recovers(tmp_path: Path) -> None:
    """The kernel's own limit (RLIMIT_FSIZE), set and lifted while the broker runs; then a SIGKILL in the full state."""
    with leafnode(tmp_path, config=jetstream(tmp_path)) as broker:
        client = await connect(broker.url)
        context = client.jetstream(timeout=READY_SECONDS)
        await context.add_stream(StreamConfig(name="S", subjects=["s"]))
        told: dict[int, int] = {}
        for limit in (1 << 20, 3 << 20):
            resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            error = await fill(context, told)
            assert error.err_code == 10077
            await holds(context, told)
            resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

            async def publish() -> None:
                number = len(told)
                told[number] = (await context.publish("s", b"%d " % number + BODY)).seq

            await succeeds(publish)
        resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        await fill(context, told)
        await asyncio.to_thread(broker.kill)
        assert check(tmp_path) == "ok"
        await asyncio.to_thread(broker.start)
        await succeeds(lambda: context.stream_info("S"))
        await holds(context, told)
        await client.close()


# damaged files and configurations --------------------------------------------------------------------------------


def run(folder: Path, config: str) -> subprocess.CompletedProcess[str]:
    """Start a broker that is expected to refuse."""
    file = folder / "broken.conf"
    file.write_bytes(config.encode() if isinstance(config, str) else config)
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.run(
        [sys.executable, "-m", "leafnode", "-c", str(file)],
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
        env={**os.environ, "PYTHONPATH": root},
    )


def stored_database(folder: Path) -> Path:
    """A database with a stream of some hundred messages, checkpointed into one file."""
    file = folder / "js" / "leafnode.db"
    file.parent.mkdir()
    file.write_bytes(database_bytes())
    return file


@functools.cache
def database_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        return make_database(Path(name)).read_bytes()


def make_database(folder: Path) -> Path:
    with leafnode(folder, config=jetstream(folder)) as broker, Wire(broker.port) as wire:
        wire.send(b'CONNECT {"verbose":false}\r\nSUB in.* 1\r\n')
        create = json.dumps({"name": "S", "subjects": ["s.>"]}).encode()
        wire.send(b"PUB $JS.API.STREAM.CREATE.S in.1 %d\r\n%b\r\n" % (len(create), create))
        wire.send(b"".join(b"PUB s.%d 4000\r\n%b\r\n" % (n, BODY) for n in range(300)))
        wire.send(b"PUB s.last in.2 1\r\nx\r\n")
        wire.until(b'"seq":301}\r\n')
    return folder / "js" / "leafnode.db"


def overwrite(file: Path, place: int, data: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(place)
        opened.write(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "garbage": lambda file: file.write_bytes(os.urandom(100_000)),
    "another header": lambda file: overwrite(file, 0, b"This is not SQLite"),
    "cut off": lambda file: os.truncate(file, 5000),
    "catalog overwritten": lambda file: overwrite(file, 100, b"\xff" * 3900),
    "text": lambda file: file.write_text("hello"),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_database_is_salvaged_and_kept(tmp_path: Path, damage: str) -> None:
    """The broker starts, says what was lost, takes messages, and does not do it again."""
    file = stored_database(tmp_path)
    DAMAGES[damage](file)
    before = file.read_bytes()
    with leafnode(tmp_path / "next", config=jetstream(tmp_path)) as broker:
        assert "store salvaged" in broker.output()
        assert "Traceback" not in broker.output()
        broker.kill()
        mark = len(broker.output())
        broker.start()
        assert "salvaged" not in broker.output(mark)
    [kept] = file.parent.glob("leafnode.db.damaged-*Z")
    assert kept.read_bytes() == before


def test_a_folder_in_the_databases_place_is_refused_in_words(tmp_path: Path) -> None:
    file = stored_database(tmp_path)
    file.unlink()
    file.mkdir()
    done = run(tmp_path, f'listen: "127.0.0.1:{free_port()}"\n{jetstream(tmp_path)}')
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(file) in done.stderr


def seqs(broker: Broker, last: int) -> list[int]:
    """Of stream S, by asking for each."""
    asks = [json.dumps({"seq": seq}).encode() for seq in range(1, last + 1)]
    with Wire(broker.port) as wire:
        wire.send(b'CONNECT {"verbose":false}\r\nSUB in.* 1\r\n')
        wire.send(
            b"".join(
                b"PUB $JS.API.STREAM.MSG.GET.S in.%d %d\r\n%b\r\n" % (seq, len(body), body)
                for seq, body in enumerate(asks, start=1)
            )
        )
        seen = b""
        while seen.count(b"MSG in.") < last or not seen.endswith(b"}\r\n"):
            seen += wire.socket.recv(1 << 16)
    answers = re.split(rb"MSG in\.(\d+) 1 \d+\r\n", seen)
    return sorted(int(seq) for seq, body in zip(answers[1::2], answers[2::2], strict=True) if b'"message"' in body)


def test_damage_that_is_met_while_running_is_salvaged_without_a_restart(tmp_path: Path) -> None:
    """Leaves of messages are gone; the rest is served, by the same process."""
    file = stored_database(tmp_path)
    size = file.stat().st_size // 4096
    overwrite(file, size // 2 * 4096, bytes(8 * 4096))
    with leafnode(tmp_path / "next", config=jetstream(tmp_path)) as broker:
        process = broker.pid
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and "store salvaged" not in broker.output():
            with contextlib.suppress(OSError, TimeoutError, AssertionError):
                seqs(broker, 301)
        found = seqs(broker, 301)
        assert broker.pid == process
        assert broker.alive()
        assert 250 < len(found) < 301
        assert "Traceback" not in broker.output()


def test_check_finds_a_flipped_bit_and_the_broker_serves_the_rest(tmp_path: Path) -> None:
    file = stored_database(tmp_path)
    flip(file)
    done = check_command(file.parent, "--json")
    assert done.returncode == 1
    [finding] = [each for each in json.loads(done.stdout)["findings"] if each["sequence"]]
    assert (finding["account"], finding["stream"], finding["text"]) == ("$G", "S", "wrong checksum")
    monitor = free_port()
    with leafnode(tmp_path / "next", config=f'http: "127.0.0.1:{monitor}"\n{jetstream(tmp_path)}') as broker:
        assert seqs(broker, 301) == [seq for seq in range(1, 302) if seq != finding["sequence"]]
        assert f"sequence={finding['sequence']}" in broker.output()
        with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/jsz") as answer:
            shown = json.load(answer)
        assert shown["store"] == {"damaged_messages": 1}
        assert shown["messages"] == 300
    done = check_command(file.parent)
    assert "is set aside" in done.stdout


def test_check_repairs(tmp_path: Path) -> None:
    file = stored_database(tmp_path)
    assert check_command(file.parent).stdout == f"{file}: good\n"
    flip(file)
    with leafnode(tmp_path / "next", config=jetstream(tmp_path)):
        assert check_command(file.parent, "--repair").returncode == 2
    assert check_command(file.parent, "--repair").returncode == 0
    assert check_command(file.parent).returncode == 0


def flip(file: Path) -> None:
    """One byte of a message's payload."""
    overwrite(file, file.read_bytes().find(BODY[:1000], 400_000) + 77, b"?")


def check_command(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.run(
        [sys.executable, "-m", "leafnode", "check", "--store", str(folder), *more],
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
        env={**os.environ, "PYTHONPATH": root},
    )


def test_less_safety_is_said(tmp_path: Path) -> None:
    monitor = free_port()
    config = f'http: "127.0.0.1:{monitor}"\n{jetstream(tmp_path)[:-1]}, sync: normal }}'
    with leafnode(tmp_path, config=config) as broker:
        assert "power cut" in broker.output()
        with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/jsz") as answer:
            shown = json.load(answer)
        assert (shown["store"], shown["config"]["sync_always"]) == ({"sync": "normal"}, False)


BAD_CONFIGS: dict[str, tuple[str, str]] = {
    "a typing error": ("port: 4222\nmax_paylod: 5\n", ":2:"),
    "no number": ("port: 4222\n\nmax_payload: much\n", ":3:"),
    "no end": ("jetstream {\n", "broken.conf"),
    "two values": ("port: 4222 4223\n", "broken.conf"),
    "port out of range": ("port: 99999\n", "broken.conf"),
    "NUL": ("port: 4222\n\0\0\0", "broken.conf"),
    "store_dir is a file": ('port: -1\njetstream { store_dir: "/dev/null" }\n', "/dev/null"),
    "missing include": ("include ./nothing.conf\n", "nothing.conf"),
    "bad remote": ('leafnodes { remotes: [ { url: "::::" } ] }\n', "broken.conf"),
}


@pytest.mark.parametrize("name", list(BAD_CONFIGS))
def test_a_bad_configuration_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    config, place = BAD_CONFIGS[name]
    done = run(tmp_path, config)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert place in done.stderr


def test_a_configuration_of_random_bytes(tmp_path: Path) -> None:
    done = run(tmp_path, bytes(range(255, 0, -1)).decode("latin-1"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with leafnode(tmp_path) as broker:
        done = run(tmp_path, f'listen: "127.0.0.1:{broker.port}"')
    assert done.returncode == 1
    assert str(broker.port) in done.stderr
    assert "Traceback" not in done.stderr
