"""Counters, atomic and fast batches on both servers: the same messages, answers, and streams afterwards."""

import asyncio
from typing import Any

import nats
from nats.aio.client import Client

from tests.conformance.side_by_side import Step, differences
from tests.support.servers import Broker

WAIT_SECONDS = 5.0  # for what arrives at once on an idle machine


def get(stream: str, **what: Any) -> Step:
    return (f"STREAM.MSG.GET.{stream}", what)


def of_batch(subject: str, batch: str, sequence: int, commit: str = "", body: str = "x", **headers: str) -> Step:
    """One message of an atomic batch."""
    given = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(sequence)}
    if commit:
        given["Nats-Batch-Commit"] = commit
    return (f"PUB {subject}", body, {**given, **{name.replace("_", "-"): value for name, value in headers.items()}})


def add(subject: str, amount: str, body: str = "", **headers: str) -> Step:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return (f"PUB {subject}", body, {"Nats-Incr": amount, **named})


async def test_counters(pair: list[Broker]) -> None:
    config = {"name": "C", "subjects": ["c.>"], "allow_msg_counter": True, "allow_atomic": True}
    huge = "+99999999999999999999999999999999"
    steps: list[Step] = [
        ("STREAM.CREATE.C", config),
        *[add("c.1", amount) for amount in ("+1", "5", "-10", "0", "1.5", "abc", "", "1_0", " 7")],
        ("PUB c.1", ""),
        add("c.1", "1", "x"),
        add("c.1", "1", Nats_Rollup="sub"),
        add("c.1", "1", Nats_Expected_Stream="C"),
        add("c.1", "1", Nats_Expected_Last_Sequence="4"),
        add("c.1", "1", Nats_Expected_Last_Subject_Sequence="4"),
        add("c.1", "1", Nats_Expected_Last_Msg_Id="4"),
        add("c.1", "1", Nats_Msg_Id="a"),
        add("c.1", "1", Nats_Msg_Id="a"),
        add("c.2", huge),
        add("c.2", huge),
        get("C", last_by_subj="c.2"),
        ("STREAM.MSG.DELETE.C", {"seq": 6}),
        add("c.1", "100"),
        ("STREAM.PURGE.C", {"filter": "c.2"}),
        add("c.2", "7"),
        of_batch("c.1", "b", 1, body="", Nats_Incr="1"),
        of_batch("c.1", "b", 2, body="", Nats_Incr="2"),
        of_batch("c.3", "b", 3, "1", body="", Nats_Incr="2"),
        ("STREAM.UPDATE.C", {**config, "max_msgs_per_subject": 1}),
        add("c.1", "1"),
        ("STREAM.INFO.C", {"subjects_filter": ">"}),
        get("C", last_by_subj="c.1"),
        ("STREAM.DELETE.C", None),
    ]
    await differences(pair, steps)


async def test_atomic_batches(pair: list[Broker]) -> None:
    steps: list[Step] = [
        (
            "STREAM.CREATE.A",
            {
                "name": "A",
                "subjects": ["a.>"],
                "allow_atomic": True,
                "allow_rollup_hdrs": True,
                "allow_msg_ttl": True,
                "duplicate_window": 60_000_000_000,
            },
        ),
        ("STREAM.CREATE.N", {"name": "N", "subjects": ["n.>"]}),
        of_batch("n.1", "b", 1),
        ("PUB n.1", "x", {"Nats-Batch-Sequence": "1"}),
        ("PUB a.1", "x", {"Nats-Batch-Id": ""}),
        ("PUB a.1", "x", {"Nats-Batch-Id": "q"}),
        ("PUB a.1", "x", {"Nats-Batch-Id": "q", "Nats-Batch-Sequence": "zz"}),
        of_batch("a.1", "x" * 65, 1),
        of_batch("a.1", "one", 1),
        of_batch("a.2", "one", 2),
        ("STREAM.INFO.A", None),
        of_batch("a.3", "one", 3, "1"),
        get("A", seq=4),
        of_batch("a.1", "end", 1),
        of_batch("a.1", "end", 2),
        of_batch("a.1", "end", 3, "eob"),
        get("A", seq=6),
        of_batch("a.1", "gap", 2),
        of_batch("a.1", "gap", 1),
        of_batch("a.1", "gap", 3),
        of_batch("a.1", "gap", 1, "1"),
        of_batch("a.1", "odd", 1, "yes"),
        of_batch("a.1", "odd", 1, "eob"),
        of_batch("a.1", "odd", 1, "1", Nats_Expected_Last_Msg_Id="x"),
        of_batch("a.1", "odd", 1, "1", Nats_Expected_Last_Sequence="7"),
        of_batch("a.1", "odd", 1, "1", Nats_Expected_Last_Sequence="2"),
        of_batch("a.1", "late", 1),
        of_batch("a.1", "late", 2, "1", Nats_Expected_Last_Sequence="9"),
        of_batch("a.1", "twice", 1),
        of_batch("a.1", "twice", 2, "1", Nats_Expected_Last_Subject_Sequence="8"),
        of_batch("a.1", "other", 1),
        of_batch("a.2", "other", 2, "1", Nats_Expected_Last_Subject_Sequence="3"),
        of_batch("a.1", "ids", 1, Nats_Msg_Id="i1"),
        of_batch("a.2", "ids", 2, "1", Nats_Msg_Id="i1"),
        of_batch("a.1", "ids", 1, Nats_Msg_Id="i1"),
        of_batch("a.2", "ids", 2, "1", Nats_Msg_Id="i2"),
        of_batch("a.1", "ids", 1, Nats_Msg_Id="i1"),
        of_batch("a.2", "ids", 2, "1", Nats_Msg_Id="i3"),
        of_batch("a.1", "roll", 1),
        of_batch("a.1", "roll", 2, "1", Nats_Rollup="sub"),
        of_batch("a.1", "roll", 1),
        of_batch("a.2", "roll", 2, "1", Nats_Rollup="all"),
        of_batch("a.1", "roll", 1, Nats_Rollup="sub"),
        of_batch("a.2", "roll", 2, "1"),
        ("STREAM.INFO.A", {"subjects_filter": ">", "deleted_details": True}),
        of_batch("a.1", "none", 1, "1", Nats_Incr="1"),
        of_batch("a.1", "none", 1, "1", Nats_TTL="bad"),
        of_batch("a.1", "none", 1, "1", Nats_TTL="5s"),
        of_batch("a.1", "none", 1, "1", Nats_Expected_Stream="9"),
        of_batch("a.1", "none", 1, "1", Nats_Schedule="@at x"),
        of_batch("a.1", "level", 1, "1", Nats_Required_Api_Level="9"),
        of_batch("a.1", "level", 1, "1", Nats_Required_Api_Level="2"),
        of_batch("a.1", "big", 1001),
        of_batch("a.1", "big", 1001, "eob"),
        of_batch("a.1", "big", 1002, "eob"),
        ("STREAM.CREATE.D", {"name": "D", "subjects": ["d.>"], "allow_atomic": True, "discard": "new", "max_msgs": 2}),
        *[of_batch(f"d.{place}", "full", place) for place in (1, 2)],
        of_batch("d.3", "full", 3, "1"),
        of_batch("d.1", "fits", 1),
        of_batch("d.2", "fits", 2, "1"),
        ("STREAM.INFO.D", None),
        *[(f"STREAM.DELETE.{name}", None) for name in "AND"],
    ]
    await differences(pair, steps)


async def test_too_many_open_batches(pair: list[Broker]) -> None:
    steps: list[Step] = [("STREAM.CREATE.A", {"name": "A", "subjects": ["a.>"], "allow_atomic": True})]
    steps += [of_batch("a.1", f"b{number}", 1) for number in range(51)]
    steps += [of_batch("a.1", "b7", 2, "1"), of_batch("a.1", "b50", 1), ("STREAM.DELETE.A", None)]
    await differences(pair, steps)


async def test_why_a_batch_is_abandoned(client: Client) -> None:
    advisories = await client.subscribe("$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.A")
    js = client.jetstream()
    await client.request("$JS.API.STREAM.CREATE.A", b'{"name":"A","subjects":["a"],"allow_atomic":true}')
    for sequence in ("1", "3"):
        await client.request("a", headers={"Nats-Batch-Id": "gap", "Nats-Batch-Sequence": sequence})
    told = await advisories.next_msg(WAIT_SECONDS)
    assert b'"type":"io.nats.jetstream.advisory.v1.stream_batch_abandoned"' in told.data
    assert told.data.endswith(b'"stream":"A","batch":"gap","reason":"incomplete"}')
    await js.delete_stream("A")


class Fast:
    """A publisher of one fast batch that keeps what it hears."""

    def __init__(self, client: Client, batch: str, gap: str = "ok", flow: int = 10) -> None:
        self._client = client
        self._start = f"{client.new_inbox()}.{batch}.{flow}.{gap}"
        self._heard: list[bytes] = []

    async def listen(self) -> "Fast":
        async def keep(message: nats.aio.msg.Msg) -> None:
            self._heard.append(message.data)

        await self._client.subscribe(f"{self._start.rsplit('.', 3)[0]}.>", cb=keep)
        return self

    async def publish(self, subject: str, sequence: int, operation: int, headers: dict[str, str] | None = None) -> None:
        reply = f"{self._start}.{sequence}.{operation}.$FI"
        await self._client.publish(subject, b"x", reply=reply, headers=headers)

    async def hears(self, count: int) -> list[bytes]:
        """So many answers, then none for as long as the server takes to answer something else."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self._heard) < count:
                await asyncio.sleep(0.005)
        await self._client.request("$JS.API.INFO")
        heard, self._heard = self._heard, []
        return heard


async def fast_stream(client: Client, **config: Any) -> None:
    await client.jetstream().add_stream(name="F", subjects=["f.>"])
    extra = b"".join(b',"%b":%b' % (name.encode(), value) for name, value in config.items())
    await client.request("$JS.API.STREAM.UPDATE.F", b'{"name":"F","subjects":["f.>"],"allow_batched":true%b}' % extra)


async def test_a_fast_batch(client: Client) -> None:
    await fast_stream(client)
    fast = await Fast(client, "u1").listen()
    await fast.publish("f.1", 1, 0)
    assert (await fast.hears(1))[0] == b'{"type":"ack","seq":0,"msgs":10}'
    for sequence in range(2, 11):
        await fast.publish("f.1", sequence, 1)
    assert await fast.hears(1) == [b'{"type":"ack","seq":10,"msgs":10}']
    await fast.publish("f.1", 10, 4)
    assert await fast.hears(1) == [b'{"type":"ack","seq":10,"msgs":10}']
    await fast.publish("f.1", 11, 2)
    assert await fast.hears(1) == [b'{"stream":"F","seq":11,"batch":"u1","count":11}']
    await client.jetstream().delete_stream("F")


async def test_the_end_of_a_fast_batch_is_not_stored(client: Client) -> None:
    await fast_stream(client)
    fast = await Fast(client, "u2").listen()
    await fast.publish("f.1", 1, 0)
    await fast.publish("f.1", 2, 1)
    await fast.publish("f.1", 3, 3)
    assert await fast.hears(2) == [
        b'{"type":"ack","seq":0,"msgs":10}',
        b'{"stream":"F","seq":2,"batch":"u2","count":2}',
    ]
    assert (await client.jetstream().stream_info("F")).state.messages == 2
    await client.jetstream().delete_stream("F")


async def test_gaps_of_a_fast_batch(client: Client) -> None:
    await fast_stream(client)
    tolerant = await Fast(client, "ok1").listen()
    await tolerant.publish("f.1", 1, 0)
    await tolerant.publish("f.1", 5, 1)
    await tolerant.publish("f.1", 6, 2)
    assert await tolerant.hears(3) == [
        b'{"type":"ack","seq":0,"msgs":10}',
        b'{"type":"gap","last_seq":2,"seq":5}',
        b'{"stream":"F","seq":3,"batch":"ok1","count":6}',
    ]
    strict = await Fast(client, "no1", "fail").listen()
    await strict.publish("f.1", 1, 0)
    assert len(await strict.hears(1)) == 1
    await strict.publish("f.1", 3, 1)
    assert await strict.hears(2) == [
        b'{"type":"gap","last_seq":2,"seq":3}',
        b'{"stream":"F","seq":4,"batch":"no1","count":1}',
    ]
    await client.jetstream().delete_stream("F")


async def test_errors_of_fast_batches(client: Client) -> None:
    await fast_stream(client)
    stale = {"Nats-Expected-Last-Sequence": "99"}
    tolerant = await Fast(client, "e1").listen()
    await tolerant.publish("f.1", 1, 0)
    assert len(await tolerant.hears(1)) == 1
    await tolerant.publish("f.1", 2, 1, stale)
    wrong = b'"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 1"}'
    assert await tolerant.hears(1) == [b'{"type":"err","seq":2,%b}' % wrong]
    await tolerant.publish("f.1", 3, 2)
    assert await tolerant.hears(1) == [b'{"stream":"F","seq":2,"batch":"e1","count":3}']
    strict = await Fast(client, "e2", "fail").listen()
    await strict.publish("f.1", 1, 0)
    assert len(await strict.hears(1)) == 1
    await strict.publish("f.1", 2, 1, stale)
    heard = await strict.hears(2)
    assert heard[0].startswith(b'{"type":"err","seq":2,')
    assert heard[1] == b'{"stream":"F","seq":3,"batch":"e2","count":1}'
    only = await Fast(client, "e3", "fail").listen()
    await only.publish("f.1", 1, 2, stale)
    assert (await only.hears(1))[0].startswith(b'{"error":{"code":400,"err_code":10071')
    await client.jetstream().delete_stream("F")


async def test_refused_fast_batches(client: Client) -> None:
    js = client.jetstream()
    await js.add_stream(name="P", subjects=["p"])
    fast = await Fast(client, "r1").listen()
    await fast.publish("p", 1, 0)
    assert b'"err_code":10205' in (await fast.hears(1))[0]
    await fast_stream(client)
    for sequence, operation, code in (
        (2, 1, 10208),
        (1, 1, 10206),
        (2, 0, 10206),
        (1, 3, 10206),
        (1, 9, 10206),
        (0, 0, 10206),
    ):
        await fast.publish("f.1", sequence, operation)
        assert b'"err_code":%d,' % code in (await fast.hears(1))[0]
    long = await Fast(client, "x" * 65).listen()
    await long.publish("f.1", 1, 0)
    assert b'"err_code":10207' in (await long.hears(1))[0]
    other = await Fast(client, "r2", "maybe").listen()
    await other.publish("f.1", 1, 0)
    assert b'"err_code":10206' in (await other.hears(1))[0]
    for name in "PF":
        await js.delete_stream(name)


async def test_duplicates_in_a_fast_batch(client: Client) -> None:
    await fast_stream(client)
    fast = await Fast(client, "d1", flow=2).listen()
    await fast.publish("f.1", 1, 0, {"Nats-Msg-Id": "a"})
    assert len(await fast.hears(1)) == 1
    await fast.publish("f.1", 2, 1, {"Nats-Msg-Id": "a"})
    assert await fast.hears(1) == [b'{"type":"ack","seq":2,"msgs":2}']
    await fast.publish("f.1", 3, 2, {"Nats-Msg-Id": "b"})
    assert await fast.hears(1) == [b'{"stream":"F","seq":2,"batch":"d1","count":3}']
    await client.jetstream().delete_stream("F")
