"""Garbage, floods and peers that do not read: a clear error or silence, and the broker serves on."""

import asyncio
import contextlib
import json
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import psutil
import pytest
from nats.aio.msg import Msg
from nats.js.api import StreamConfig

from tests.conformance.raw import Wire
from tests.support.servers import Broker, jetstream, leafnode

CONNECT = b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n'
SILENT = 2000  # connections that say nothing; the process needs as many files
PENDING = 4 << 20  # max_pending of the broker: what one peer that does not read may cost
NOTICE_SECONDS = 15.0  # for what a loaded machine does in one


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("hostile")
    config = f'{jetstream(folder)}\nmax_pending: {PENDING}\nmax_payload: 65536\nwrite_deadline: "30s"'
    with leafnode(folder, config=config) as running:
        yield running


@pytest.fixture(autouse=True)
async def is_served_afterwards(broker: Broker) -> object:
    """After every test: alive, no traceback in the log, PING answered, messages stored and handed out."""
    mark = len(broker.output())
    yield
    assert broker.alive(), broker.output()[-2000:]
    assert "Traceback" not in broker.output()[mark:]
    client = await nats.connect(broker.url, allow_reconnect=False)
    context = client.jetstream()
    await context.add_stream(StreamConfig(name="ALIVE", subjects=["alive"]))
    ack = await context.publish("alive", b"yes")
    assert (await context.get_msg("ALIVE", ack.seq)).data == b"yes"
    await context.delete_stream("ALIVE")
    await client.close()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + NOTICE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def answer_to(broker: Broker, data: bytes) -> bytes:
    """Everything the broker says to some bytes that end the conversation or are followed by a PING."""
    with Wire(broker.port) as wire:
        try:
            wire.send(data)
            wire.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return b""
        return wire.rest()


# bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_random_bytes(broker: Broker, seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(chance.randrange(1, 20_000))
    answer_to(broker, data)
    answer_to(broker, CONNECT + data)


WORDS = [
    b"PUB",
    b"HPUB",
    b"SUB",
    b"UNSUB",
    b"CONNECT",
    b"PING",
    b"PONG",
    b"MSG",
    b"HMSG",
    b"LS+",
    b"LMSG",
    b"INFO",
    b"-ERR",
]
PIECES = [
    b" ",
    b"\t",
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"a",
    b".",
    b">",
    b"*",
    b"$JS.API.INFO",
    b"0",
    b"-1",
    b"99999999999999999999",
]
PIECES += [b"5", b"{", b"}", b'"', b"\xff\xfe", b"NATS/1.0\r\n", b"_INBOX.x", b"q" * 300]


@pytest.mark.parametrize("seed", range(40))
def test_random_words_of_the_protocol(broker: Broker, seed: int) -> None:
    """Nearer to real lines than random bytes: these get deeper into the parser."""
    chance = random.Random(seed)
    lines = []
    for _ in range(60):
        parts = chance.choices(PIECES, k=chance.randrange(0, 9))
        lines.append(chance.choice(WORDS) + chance.choice([b" ", b"", b"\t"]) + b"".join(parts) + b"\r\n")
        with Wire(broker.port) as wire:
            wire.send(CONNECT + lines[-1])
    answer_to(broker, CONNECT + b"".join(lines))


def test_a_conversation_cut_at_every_byte(broker: Broker) -> None:
    """Half of it arrives and the peer is gone; or it arrives in two pieces and is understood."""
    head = b"NATS/1.0\r\nA: b\r\n\r\n"
    talk = CONNECT + b"SUB cut 1\r\nHPUB cut %d %d\r\n%bhi\r\nPUB cut 2\r\nho\r\nPING\r\n" % (
        len(head),
        len(head) + 2,
        head,
    )
    expected = b"HMSG cut 1 %d %d\r\n%bhi\r\nMSG cut 1 2\r\nho\r\nPONG\r\n" % (len(head), len(head) + 2, head)
    for place in range(1, len(talk)):
        with Wire(broker.port) as wire:
            wire.send(talk[:place])
        with Wire(broker.port) as wire:
            wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire.send(talk[:place])
            wire.send(talk[place:])
            assert wire.until(b"PONG\r\n") == expected, place


REFUSED: dict[str, tuple[bytes, bytes]] = {
    "a payload beyond the limit": (CONNECT + b"PUB a 65537\r\n", b"-ERR 'Maximum Payload Violation'"),
    "headers beyond the limit": (CONNECT + b"HPUB a 99999 99999\r\n", b"-ERR 'Maximum Payload Violation'"),
    "a size of 26 digits": (CONNECT + b"PUB a 99999999999999999999999999\r\n", b""),
    "a negative size": (CONNECT + b"PUB a -1\r\n", b""),
    "a payload longer than said": (CONNECT + b"PUB a 2\r\nhello\r\n", b"-ERR 'Unknown Protocol Operation'"),
    "more headers than message": (CONNECT + b"HPUB a 9 2\r\nNATS/1.0\r\n", b""),
    "a long subject": (CONNECT + b"SUB " + b"a" * 10_000 + b" 1\r\n", b"-ERR 'maximum control line exceeded'"),
    "a line without end": (b"CONNECT {" + b" " * 200_000, b"-ERR 'maximum control line exceeded'"),
    "deep JSON": (b"CONNECT " + b"[" * 3000 + b"\r\n", b""),
    "deep objects": (b"CONNECT " + b'{"a":' * 700 + b"1" + b"}" * 700 + b"\r\nCONNECT 7\r\n", b""),
    "no object": (b"CONNECT 7\r\n", b""),
    "HTTP": (CONNECT + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"-ERR 'Unknown Protocol Operation'"),
    "TLS": (CONNECT + b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 600 + b"\r\n", b""),
    "a leaf's verb": (CONNECT + b"LS+ a\r\n", b"-ERR 'Unknown Protocol Operation'"),
}
"""What is sent, and what is said before the connection is closed; nothing where nats-server says nothing either."""


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_cannot_be_obeyed_is_refused_and_ends_the_connection(broker: Broker, case: str) -> None:
    data, error = REFUSED[case]
    with Wire(broker.port) as wire:
        with contextlib.suppress(OSError):  # closed while it was still being sent
            wire.send(data)
        assert error in wire.rest()


# many, and slow --------------------------------------------------------------------------------------------------


async def test_two_thousand_connections_that_say_nothing(broker: Broker) -> None:
    idle = [socket.create_connection(("127.0.0.1", broker.port)) for _ in range(200)]
    try:
        while len(idle) < SILENT:
            idle += [socket.create_connection(("127.0.0.1", broker.port)) for _ in range(200)]
        client = await nats.connect(broker.url, allow_reconnect=False, connect_timeout=10)

        async def echo(message: Msg) -> None:
            await message.respond(message.data)

        await client.subscribe("echo", cb=echo)
        assert (await client.request("echo", b"still here", timeout=10)).data == b"still here"
        await client.close()
    finally:
        for one in idle:
            one.close()


def test_half_open_connections_are_closed(tmp_path: Path) -> None:
    """Peers that vanished without a word: a PING without answer ends them."""
    with leafnode(tmp_path, config='ping_interval: "200ms"\nping_max: 1') as short:
        peers = [Wire(short.port) for _ in range(20)]
        for peer in peers[:10]:
            peer.send(CONNECT + b"SUB a 1\r\n")
        assert all(b"Stale Connection" in peer.rest() for peer in peers)
        for peer in peers:
            peer.close()


async def test_a_subscriber_that_never_reads_is_closed_and_costs_others_nothing(broker: Broker) -> None:
    process = psutil.Process(broker.pid)
    client = await nats.connect(broker.url, allow_reconnect=False)
    heard = await client.subscribe("flood.seen", pending_msgs_limit=-1, pending_bytes_limit=-1)
    await client.flush()
    before = process.memory_info().rss
    deaf = [Wire(broker.port) for _ in range(3)]
    for wire in deaf:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.send(CONNECT + b"SUB flood.> 1\r\nPING\r\n")
    for wire in deaf:
        wire.until(b"PONG\r\n")
    body = b"f" * 32_768
    sent = 0
    log = len(broker.output())
    async with asyncio.timeout(30):
        while broker.output()[log:].count("Slow Consumer") < len(deaf):
            for _ in range(50):
                await client.publish("flood.bulk", body)
            sent += 1
            await client.publish("flood.seen", b"%d" % sent)
            await client.flush(timeout=20)
    assert [int((await heard.next_msg(timeout=5)).data) for _ in range(sent)] == list(range(1, sent + 1))
    for wire in deaf:
        wire.close()
    await client.close()
    ceiling = before + len(deaf) * 3 * PENDING
    wait_until(lambda: process.memory_info().rss < ceiling, "memory of peers that are gone is not given back")


# JetStream's API -------------------------------------------------------------------------------------------------

VERBS = [
    "INFO", "STREAM.CREATE.S", "STREAM.UPDATE.S", "STREAM.INFO.S", "STREAM.NAMES", "STREAM.LIST", "STREAM.PURGE.S",
    "STREAM.MSG.GET.S", "STREAM.MSG.DELETE.S", "DIRECT.GET.S", "DIRECT.GET.S.a", "CONSUMER.CREATE.S",
    "CONSUMER.CREATE.S.c", "CONSUMER.CREATE.S.c.a", "CONSUMER.DURABLE.CREATE.S.c", "CONSUMER.NAMES.S",
    "CONSUMER.LIST.S", "CONSUMER.INFO.S.c", "CONSUMER.PAUSE.S.c", "CONSUMER.RESET.S.c", "CONSUMER.UNPIN.S.c",
    "CONSUMER.MSG.NEXT.S.c", "STREAM.SNAPSHOT.S", "STREAM.RESTORE.S", "STREAM.PEER.REMOVE.S",
    "STREAM.LEADER.STEPDOWN.S", "CONSUMER.LEADER.STEPDOWN.S.c", "META.LEADER.STEPDOWN", "SERVER.REMOVE",
    "ACCOUNT.PURGE.A", "NOPE", "STREAM", "CONSUMER.CREATE", "STREAM.CREATE", "CONSUMER.INFO.S", "STREAM.INFO.S.x.y",
]  # fmt: skip

BODIES: dict[str, bytes] = {
    "not JSON": b"\x00\xff{",
    "cut off": b'{"name":"S","subj',
    "deep lists": b"[" * 30_000,
    "deep objects": b'{"config":' * 5_000 + b"1" + b"}" * 5_000,
    "a number": b"1e999",
    "a list": b"[1,2,3]",
    "null": b"null",
    "wrong types": json.dumps(
        {"name": 1, "subjects": "x", "config": [], "max_msgs": "5", "seq": "1", "batch": [], "offset": "x"}
    ).encode(),
    "negative": json.dumps(
        {"name": "S", "seq": -1, "batch": -5, "offset": -3, "keep": -1, "max_msgs": -9, "expires": -1, "config": {}}
    ).encode(),
    "beyond 64 bits": json.dumps(
        {"name": "S", "seq": 2**70, "batch": 2**65, "offset": 2**70, "keep": 2**70, "max_msgs": 2**70, "max_age": 2**80}
    ).encode(),
    "nulls": b'{"name":null,"subjects":null,"config":null,"seq":null,"batch":null,"expires":null}',
    "lone surrogates": b'{"name":"\\ud800","subject":"\\udfff","config":{"durable_name":"\\ud800"}}',
    "NaN": b'{"seq":NaN,"batch":Infinity,"offset":-Infinity}',
    "config of nonsense": json.dumps(
        {
            "stream_name": "S",
            "config": {"durable_name": ["c"], "backoff": "x", "opt_start_time": "yesterday", "ack_wait": 2**70},
        }
    ).encode(),
    "twice the same key": b'{"seq":1,"seq":2,"name":"S","name":"T"}',
    "many keys": json.dumps({f"k{n}": n for n in range(3000)}).encode(),
}


@pytest.mark.parametrize("body", list(BODIES))
async def test_bad_requests_get_an_error_or_silence(broker: Broker, body: str) -> None:
    """Whatever is asked: JSON that says an error, a status, an answer to what could be understood, or nothing."""
    client = await nats.connect(broker.url, allow_reconnect=False)
    context = client.jetstream()
    await context.add_stream(StreamConfig(name="S", subjects=["a"], allow_direct=True))
    await context.publish("a", b"1")
    await context.add_consumer("S", durable_name="c", ack_policy="explicit")
    answers = await client.subscribe("answers.*")
    for number, verb in enumerate(VERBS):
        await client.publish(f"$JS.API.{verb}", BODIES[body], reply=f"answers.{number}")
    await client.flush()
    assert (await client.request("$JS.API.INFO", b"", timeout=5)).data
    while answers.pending_msgs:
        message = await answers.next_msg()
        if message.data and not message.headers:
            answer = json.loads(message.data)
            assert not isinstance(answer, dict) or "error" not in answer or answer["error"]["description"]
    for name in ("S", "T"):
        await client.request(f"$JS.API.STREAM.DELETE.{name}", b"")
    await client.close()


# streams ---------------------------------------------------------------------------------------------------------


async def test_odd_subjects_and_headers_are_kept_as_they_are_or_refused(broker: Broker) -> None:
    client = await nats.connect(broker.url, allow_reconnect=False)
    context = client.jetstream()
    await context.add_stream(StreamConfig(name="ODD", subjects=["odd.>"]))
    subjects = [b"odd.\x00x", b"odd.\xff\xfe", "odd.naïve.日本".encode(), b"odd.*", b"odd.>", b"odd." + b"y" * 3000]
    with Wire(broker.port) as wire:
        wire.send(CONNECT)
        for subject in subjects:
            wire.send(b"PUB %b 1\r\nx\r\n" % subject)
        many = b"NATS/1.0\r\n" + b"".join(b"H%d: %b\r\n" % (n, b"v" * 40) for n in range(1000)) + b"\r\n"
        for head in (many, b"NATS/1.0\r\n\r\n", b"NATS/1.0 503 x\r\nA:\r\n\r\n", b"rubbish\x00\xff\r\n\r\n"):
            wire.send(b"HPUB odd.h %d %d\r\n%bx\r\n" % (len(head), len(head) + 1, head))
        wire.send(b"PING\r\n")
        assert wire.until(b"PONG\r\n").endswith(b"PONG\r\n")
    info = await context.stream_info("ODD")
    assert info.state.messages >= 5
    for seq in range(1, info.state.last_seq + 1):
        answer = await client.request("$JS.API.STREAM.MSG.GET.ODD", json.dumps({"seq": seq}).encode())
        assert "message" in json.loads(answer.data)
    listed = await client.request("$JS.API.STREAM.INFO.ODD", b'{"subjects_filter":">"}')
    assert len(json.loads(listed.data)["state"]["subjects"]) >= 4
    await context.delete_stream("ODD")
    await client.close()


async def test_a_flood_without_reading_the_acknowledgements(broker: Broker) -> None:
    """A publisher that never reads its PubAcks is closed like any slow reader; what came before is stored whole."""
    client = await nats.connect(broker.url, allow_reconnect=False)
    context = client.jetstream()
    await context.add_stream(StreamConfig(name="FLOOD", subjects=["flood.in"], max_msgs=1000))
    with Wire(broker.port, timeout=20) as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.send(CONNECT + b"SUB acks.> 1\r\n")
        some = b"".join(b"PUB flood.in acks.%d 3\r\nabc\r\n" % number for number in range(1000))
        try:
            for _ in range(120):
                await asyncio.to_thread(wire.send, some)
        except OSError:
            pass  # closed, or held back until we read: both are right
    info = await context.stream_info("FLOOD")
    assert info.state.messages == 1000
    await context.delete_stream("FLOOD")
    await client.close()
