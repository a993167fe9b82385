"""After a reconnect the stream is asked what it has, also when refusals left a hole and their answers were lost.

The stream here is a small one of our own, because no real one can be made to refuse one message of a burst and to lose
exactly that answer.
"""

import asyncio
import base64
import json
from contextlib import asynccontextmanager

from picoleaf import Publisher

from tests.firmware import rig

INFO = b'INFO {"server_id":"X","headers":true,"max_payload":1048576} \r\n'


class Stream:
    """A NATS server with one stream. `refuse` holds the seqs to refuse once; `mute` loses every acknowledgement."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []  # subject, id; the stream sequence is the index + 1
        self.refuse: set[int] = set()
        self.mute = False
        self.seen: list[str] = []
        self.asked: list[dict] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        writer.write(INFO)
        try:
            while line := await reader.readline():
                await self.handle(line.split(), reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def handle(self, words: list[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if words[0] == b"PING":
            writer.write(b"PONG\r\n")
        elif words[0] in (b"HPUB", b"PUB"):
            data = await reader.readexactly(int(words[-1]) + 2)
            header = data[: int(words[3])] if words[0] == b"HPUB" else b""
            answer = self.answer(words[1].decode(), header, data[len(header) : -2])
            if answer:
                body = json.dumps(answer).encode()
                writer.write(b"MSG %s 1 %d\r\n%s\r\n" % (words[2], len(body), body))

    def answer(self, subject: str, header: bytes, body: bytes) -> dict | None:
        if subject.startswith("$JS.API.STREAM.MSG.GET.TELEMETRY"):
            return self.get(json.loads(body))
        identity = header.split(b"Nats-Msg-Id: ")[1].split(b"\r\n")[0].decode()
        self.seen.append(identity)
        seq = rig.key(identity)[1]
        if seq in self.refuse:
            self.refuse.discard(seq)
            return None if self.mute else {"error": {"code": 503, "description": "maximum bytes exceeded"}, "seq": 0}
        self.messages.append((subject, identity))
        return None if self.mute else {"stream": "TELEMETRY", "seq": len(self.messages)}

    def get(self, question: dict) -> dict:
        self.asked.append(question)
        subject = question.get("last_by_subj") or question["next_by_subj"]
        found = [n for n, (name, _) in enumerate(self.messages) if name == subject and n + 1 >= question.get("seq", 1)]
        if not found:
            return {"error": {"code": 404, "err_code": 10037, "description": "no message found"}}
        at = found[-1] if "last_by_subj" in question else found[0]
        header = f"NATS/1.0\r\nNats-Msg-Id: {self.messages[at][1]}\r\n\r\n".encode()
        return {"message": {"subject": subject, "seq": at + 1, "hdrs": base64.b64encode(header).decode()}}

    def break_off(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    def stored(self) -> list[int]:
        return [rig.key(identity)[1] for _, identity in self.messages]


@asynccontextmanager
async def running(tmp_path, **settings):
    """A stream and a publisher connected to it."""
    stream = Stream()
    server = await asyncio.start_server(stream.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    publisher = Publisher(
        {"device": "pico-1", "servers": [f"127.0.0.1:{port}"], "store": str(tmp_path / "q"), **rig.QUICK, **settings}
    )
    task = asyncio.create_task(publisher.main())
    try:
        await rig.until(lambda: publisher.link.up, "the connection")
        yield stream, publisher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        stream.break_off()
        server.close()
        await server.wait_closed()


async def test_a_hole_left_by_a_refusal_that_was_not_heard_is_filled(tmp_path):
    async with running(tmp_path) as (stream, publisher):
        before = [publisher.publish("temp", n) for n in range(1, 4)]
        await rig.until(lambda: before[-1].state == "acked", "the first three")
        stream.mute = True
        stream.refuse = {5, 6}
        burst = [publisher.publish("temp", n) for n in range(4, 10)]
        await rig.until(lambda: len(stream.seen) == 9, "the burst")
        assert stream.stored() == [1, 2, 3, 4, 7, 8, 9]
        stream.mute = False
        stream.break_off()
        await rig.until(lambda: all(one.state == "acked" for one in burst), "the end of the burst")
        assert stream.stored() == [1, 2, 3, 4, 7, 8, 9, 5, 6]
        assert len(stream.seen) == 11, "only what was missing is sent again"


async def test_a_refusal_that_was_heard_is_repeated_alone_until_accepted(tmp_path):
    async with running(tmp_path) as (stream, publisher):
        stream.refuse = {1, 2, 3}
        tickets = [publisher.publish("temp", n) for n in range(1, 4)]
        await rig.until(lambda: all(one.state == "acked" for one in tickets), "acceptance")
        assert stream.stored() == [1, 2, 3]


async def test_each_subject_is_asked_for_itself(tmp_path):
    """What is in doubt on one subject is not settled by what is in the stream on another."""
    async with running(tmp_path) as (stream, publisher):
        stream.mute = True
        tickets = [publisher.publish("ab"[n % 2], n) for n in range(8)]
        await rig.until(lambda: len(stream.seen) == 8, "all")
        del stream.messages[6:]
        stream.messages = [one for one in stream.messages if not (one[0].endswith(".a") and rig.key(one[1])[1] > 1)]
        assert stream.stored() == [1, 2, 4, 6]  # subject a got as far as 1, b as far as 6
        stream.mute = False
        stream.break_off()
        await rig.until(lambda: all(one.state == "acked" for one in tickets), "the rest")
        assert sorted(stream.stored()) == list(range(1, 9))
        assert {question["last_by_subj"] for question in stream.asked} == {"tele.pico-1.a", "tele.pico-1.b"}


async def test_a_stream_that_was_made_anew_gets_what_is_in_doubt(tmp_path):
    async with running(tmp_path) as (stream, publisher):
        before = [publisher.publish("temp", n) for n in range(20)]
        await rig.until(lambda: before[-1].state == "acked", "the first twenty")
        stream.mute = True
        tickets = [publisher.publish("temp", n) for n in range(3)]
        await rig.until(lambda: len(stream.seen) == 23, "three more")
        stream.messages.clear()
        stream.mute = False
        stream.break_off()
        await rig.until(lambda: all(one.state == "acked" for one in tickets), "the three")
        assert stream.stored() == [21, 22, 23]


async def test_an_earlier_life_of_the_device_is_not_taken_for_this_one(tmp_path):
    """A board that was wiped counts its boots from elsewhere; what it sent before says nothing now."""
    async with running(tmp_path) as (stream, publisher):
        stream.messages.append(("tele.pico-1.temp", "pico-1-20000-50"))
        stream.mute = True
        stream.refuse = {1, 2, 3}
        tickets = [publisher.publish("temp", n) for n in range(1, 4)]
        await rig.until(lambda: len(stream.seen) == 3, "the burst")
        stream.mute = False
        stream.break_off()
        await rig.until(lambda: all(one.state == "acked" for one in tickets), "the three")
        assert stream.stored() == [50, 1, 2, 3]


async def test_nothing_is_asked_when_nothing_is_in_doubt(tmp_path):
    async with running(tmp_path) as (stream, publisher):
        tickets = [publisher.publish("temp", n) for n in range(5)]
        await rig.until(lambda: tickets[-1].state == "acked", "five")
        stream.break_off()
        await rig.until(lambda: publisher.link.connects >= 2, "the reconnect")
        more = publisher.publish("temp", 5)
        await rig.until(lambda: more.state == "acked", "the sixth")
        assert stream.asked == []
