"""JetStream with the real client (nats-py), on both servers: streams, publishing, consumers, limits, errors."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
    StreamSource,
)
from nats.js.errors import APIError, NotFoundError

WAIT_SECONDS = 5.0  # for what arrives at once on an idle machine


STORE_BUSY = 10049  # nats-server is still deleting the stream that had this name before


class Streams(JetStreamContext):
    """The client's JetStream, for tests that make streams of one name one after the other."""

    async def add_stream(self, *args: Any, **config: Any) -> StreamInfo:
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                try:
                    return await super().add_stream(*args, **config)
                except APIError as error:
                    if error.err_code != STORE_BUSY:
                        raise
                    await asyncio.sleep(0.01)


@pytest.fixture
async def js(client: Client) -> AsyncIterator[JetStreamContext]:
    """The client's JetStream; nothing of a test is left behind."""
    context = Streams(client, timeout=WAIT_SECONDS)
    yield context
    for info in await context.streams_info():
        await context.delete_stream(str(info.config.name))


async def refusal(asking: Awaitable[object]) -> tuple[int | None, int | None, str | None]:
    """Code, JetStream's own code, and text of the error that must come."""
    with pytest.raises(APIError) as caught:
        await asking
    return caught.value.code, caught.value.err_code, caught.value.description


async def filled(js: JetStreamContext, count: int = 10, **config: Any) -> None:
    """A stream S of `s.0`, `s.1`, `s.2`, `s.0`, … with the bodies 1 to count."""
    await js.add_stream(StreamConfig(name="S", subjects=["s.*"], **config))
    for number in range(count):
        await js.publish(f"s.{number % 3}", b"%d" % (number + 1))


async def take(sub: Any, count: int) -> list[Msg]:
    return [await sub.next_msg(timeout=WAIT_SECONDS) for _ in range(count)]


def bodies(messages: list[Msg]) -> list[int]:
    return [int(message.data) for message in messages]


async def settles(look: Callable[[], Awaitable[object]], expected: object) -> None:
    """What is looked at becomes what is expected; the last value is shown if it does not."""
    seen: object = None
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while (seen := await look()) != expected:
                await asyncio.sleep(0.01)
    except TimeoutError:
        assert seen == expected


# streams ---------------------------------------------------------------------------------------------------------


async def test_create_info_update_list_delete(js: JetStreamContext) -> None:
    made = await js.add_stream(StreamConfig(name="A", subjects=["a.>"], description="first", max_msgs=5))
    assert made.config.subjects == ["a.>"]
    assert (made.config.max_msgs, made.config.max_bytes, made.config.max_age) == (5, -1, 0)
    assert (made.config.retention, made.config.storage, made.config.discard) == ("limits", "file", "old")
    assert (made.config.duplicate_window, made.config.num_replicas) == (120.0, 1)
    assert (made.state.messages, made.state.first_seq, made.state.last_seq) == (0, 0, 0)
    await js.add_stream(StreamConfig(name="B", subjects=["b"], storage=StorageType.MEMORY))
    changed = await js.update_stream(StreamConfig(name="A", subjects=["a.>", "aa"], max_msgs=7))
    assert (changed.config.subjects, changed.config.max_msgs, changed.config.description) == (["a.>", "aa"], 7, None)
    assert [info.config.name for info in await js.streams_info()] == ["A", "B"]
    assert await js.find_stream_name_by_subject("a.x.y") == "A"
    assert (await js.account_info()).streams == 2
    assert await js.delete_stream("B")
    assert await refusal(js.stream_info("B")) == (404, 10059, "stream not found")
    with pytest.raises(NotFoundError):
        await js.find_stream_name_by_subject("b")


async def test_refused_streams(js: JetStreamContext) -> None:
    await filled(js, 0)
    assert await refusal(js.add_stream(name="T", subjects=["s.1"])) == (
        400,
        10065,
        "subjects overlap with an existing stream",
    )
    assert await refusal(js.add_stream(name="S", subjects=["other"])) == (
        400,
        10058,
        "stream name already in use with a different configuration",
    )
    assert await refusal(js.add_stream(name="T", subjects=["a..b"])) == (500, 10052, "invalid subject")
    assert await refusal(js.add_stream(name="T", num_replicas=3)) == (
        500,
        10074,
        "replicas > 1 not supported in non-clustered mode",
    )
    assert await refusal(js.update_stream(name="S", subjects=["s.*"], storage=StorageType.MEMORY)) == (
        500,
        10052,
        "stream configuration update can not change storage type",
    )
    assert await refusal(js.update_stream(name="NO")) == (404, 10059, "stream not found")
    assert await refusal(js.delete_stream("NO")) == (404, 10059, "stream not found")
    assert await refusal(js.purge_stream("NO")) == (404, 10059, "stream not found")
    assert (await js.add_stream(name="S", subjects=["s.*"])).config.name == "S"


@pytest.mark.parametrize("storage", list(StorageType))
async def test_subjects_and_deleted_messages_in_info(js: JetStreamContext, storage: StorageType) -> None:
    await filled(js, 6, storage=storage)
    assert await js.delete_msg("S", 2)
    info = await js.stream_info("S", subjects_filter=">")
    assert info.state.subjects == {"s.0": 2, "s.1": 1, "s.2": 2}
    assert (info.state.messages, info.state.num_deleted, info.state.last_seq) == (5, 1, 6)
    assert await refusal(js.delete_msg("S", 2)) == (400, 10043, "sequence 2 not found")
    await js.delete_msg("S", 1)
    assert (await js.stream_info("S")).state.first_seq == 3


@pytest.mark.parametrize("storage", list(StorageType))
async def test_purge(js: JetStreamContext, storage: StorageType) -> None:
    await filled(js, storage=storage)
    assert await js.purge_stream("S", subject="s.0", keep=1)
    assert (await js.stream_info("S", subjects_filter=">")).state.subjects == {"s.0": 1, "s.1": 3, "s.2": 3}
    assert await js.purge_stream("S", seq=6)
    assert (await js.stream_info("S")).state.first_seq == 6
    assert await js.purge_stream("S")
    state = (await js.stream_info("S")).state
    assert (state.messages, state.first_seq, state.last_seq) == (0, 11, 10)
    assert (await js.publish("s.1", b"next")).seq == 11


@pytest.mark.parametrize("direct", [False, True])
async def test_get_messages(js: JetStreamContext, direct: bool) -> None:
    await filled(js, 6, allow_direct=True)
    await js.publish("s.1", b"with", headers={"A": "b", "C": "d"})
    message = await js.get_msg("S", 7, direct=direct)
    assert (message.subject, message.seq, message.data) == ("s.1", 7, b"with")
    assert {key: (message.headers or {})[key] for key in ("A", "C")} == {"A": "b", "C": "d"}
    assert (await js.get_last_msg("S", "s.0", direct=direct)).data == b"4"
    assert (await js.get_msg("S", 2, subject="s.0", next=True, direct=direct)).seq == 4
    with pytest.raises(NotFoundError):
        await js.get_msg("S", 77, direct=direct)
    with pytest.raises(NotFoundError):
        await js.get_last_msg("S", "s.9", direct=direct)


async def test_mirror_and_sources_of_this_server(js: JetStreamContext) -> None:
    await filled(js, 9)
    await js.add_stream(StreamConfig(name="M", mirror=StreamSource(name="S")))
    await js.add_stream(StreamConfig(name="ALL", sources=[StreamSource(name="S", filter_subject="s.1")]))

    async def counts() -> tuple[int, int]:
        return (await js.stream_info("M")).state.messages, (await js.stream_info("ALL")).state.messages

    await settles(counts, (9, 3))
    await js.publish("s.1", b"10")
    await settles(counts, (10, 4))
    assert (await js.get_msg("M", 10)).data == b"10"
    assert [(await js.get_msg("ALL", seq)).data for seq in range(1, 5)] == [b"2", b"5", b"8", b"10"]


# publishing ------------------------------------------------------------------------------------------------------


async def test_acknowledgement_and_duplicates(js: JetStreamContext) -> None:
    await filled(js, 0)
    first = await js.publish("s.1", b"x", headers={"Nats-Msg-Id": "a"})
    again = await js.publish("s.1", b"y", headers={"Nats-Msg-Id": "a"})
    other = await js.publish("s.1", b"x", headers={"Nats-Msg-Id": "b"})
    assert [(ack.stream, ack.seq, ack.duplicate, ack.domain) for ack in (first, again, other)] == [
        ("S", 1, None, None),
        ("S", 1, True, None),
        ("S", 2, None, None),
    ]


async def test_duplicates_are_forgotten_after_the_window(js: JetStreamContext) -> None:
    await filled(js, 0, duplicate_window=0.1)
    await js.publish("s.1", b"x", headers={"Nats-Msg-Id": "a"})

    async def sequence() -> int:
        return int((await js.publish("s.1", b"x", headers={"Nats-Msg-Id": "a"})).seq)

    await settles(sequence, 2)


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"Nats-Expected-Stream": "T"}, (400, 10060, "expected stream does not match")),
        ({"Nats-Expected-Last-Sequence": "1"}, (400, 10071, "wrong last sequence: 2")),
        ({"Nats-Expected-Last-Subject-Sequence": "2"}, (400, 10071, "wrong last sequence: 1")),
        ({"Nats-Expected-Last-Msg-Id": "zz"}, (400, 10070, "wrong last msg ID: b")),
        ({"Nats-TTL": "5"}, (400, 10166, "per-message TTL is disabled")),
        ({"Nats-Rollup": "sub"}, (500, 10111, "rollup not permitted")),
    ],
)
async def test_expectations_refuse(js: JetStreamContext, headers: dict[str, str], error: tuple[int, int, str]) -> None:
    await filled(js, 0)
    await js.publish("s.0", b"1", headers={"Nats-Msg-Id": "a"})
    await js.publish("s.1", b"2", headers={"Nats-Msg-Id": "b"})
    assert await refusal(js.publish("s.0", b"x", headers=headers)) == error
    kept = {
        "Nats-Expected-Stream": "S",
        "Nats-Expected-Last-Sequence": "2",
        "Nats-Expected-Last-Subject-Sequence": "1",
        "Nats-Expected-Last-Msg-Id": "b",
    }
    assert (await js.publish("s.0", b"x", headers=kept)).seq == 3


async def test_publishing_without_waiting(js: JetStreamContext) -> None:
    await filled(js, 0)
    futures = [await js.publish_async("s.0", b"%d" % number) for number in range(300)]
    acks = await asyncio.gather(*futures)
    assert [ack.seq for ack in acks] == list(range(1, 301))


async def test_nobody_captures_the_subject(js: JetStreamContext) -> None:
    with pytest.raises(nats.js.errors.NoStreamResponseError):
        await js.publish("uncaptured", b"x")


# limits ----------------------------------------------------------------------------------------------------------

LIMITS: dict[str, tuple[dict[str, Any], tuple[int, int], dict[str, int]]] = {
    "messages": ({"max_msgs": 4}, (4, 7), {"s.0": 2, "s.1": 1, "s.2": 1}),
    "messages of a subject": ({"max_msgs_per_subject": 1}, (3, 8), {"s.0": 1, "s.1": 1, "s.2": 1}),
    "bytes": ({"max_bytes": 150}, (4, 7), {"s.0": 2, "s.1": 1, "s.2": 1}),
}
"""Configuration; messages and first sequence after ten; what is left of each subject."""


@pytest.mark.parametrize("storage", list(StorageType))
@pytest.mark.parametrize("name", list(LIMITS))
async def test_old_messages_give_way(js: JetStreamContext, name: str, storage: StorageType) -> None:
    config, expected, subjects = LIMITS[name]
    await filled(js, 10, storage=storage, **config)
    state = (await js.stream_info("S", subjects_filter=">")).state
    if name != "bytes":  # how many bytes a message counts is checked by the comparison below
        assert (state.messages, state.first_seq) == expected
        assert state.subjects == subjects
    assert state.last_seq == 10
    assert state.bytes <= config.get("max_bytes", state.bytes)


async def test_new_messages_are_refused(js: JetStreamContext) -> None:
    await filled(js, 3, max_msgs=3, discard=DiscardPolicy.NEW, max_msg_size=20)
    assert await refusal(js.publish("s.0", b"x")) == (503, 10077, "maximum messages exceeded")
    assert await refusal(js.publish("s.0", b"x" * 21)) == (400, 10054, "message size exceeds maximum allowed")
    await js.delete_msg("S", 1)
    assert (await js.publish("s.0", b"x")).seq == 4


async def test_new_messages_of_a_subject_are_refused(js: JetStreamContext) -> None:
    await filled(js, 3, max_msgs_per_subject=1, discard=DiscardPolicy.NEW, discard_new_per_subject=True, max_msgs=100)
    assert await refusal(js.publish("s.0", b"x")) == (503, 10077, "maximum messages per subject exceeded")


async def test_messages_age(js: JetStreamContext) -> None:
    await filled(js, 5, max_age=0.3, duplicate_window=0.3)

    async def state() -> tuple[int, int]:
        now = (await js.stream_info("S")).state
        return now.messages, now.first_seq

    await settles(state, (0, 6))


async def test_a_work_queue_empties_as_work_is_done(js: JetStreamContext) -> None:
    await filled(js, 5, retention=RetentionPolicy.WORK_QUEUE)
    sub = await js.pull_subscribe("s.*", durable="w")
    for message in await sub.fetch(3, timeout=WAIT_SECONDS):
        await message.ack_sync()

    async def left() -> int:
        return int((await js.stream_info("S")).state.messages)

    await settles(left, 2)
    assert await refusal(js.add_consumer("S", durable_name="x", ack_policy=AckPolicy.EXPLICIT)) == (
        400,
        10099,
        "multiple non-filtered consumers not allowed on workqueue stream",
    )
    assert await refusal(js.add_consumer("S", durable_name="x", ack_policy=AckPolicy.NONE)) == (
        400,
        10084,
        "consumer in pull mode requires explicit ack policy on workqueue stream",
    )


async def test_interest_keeps_what_somebody_still_wants(js: JetStreamContext) -> None:
    await filled(js, 2, retention=RetentionPolicy.INTEREST)
    assert (await js.stream_info("S")).state.messages == 0
    one = await js.pull_subscribe("s.*", durable="one")
    two = await js.pull_subscribe("s.*", durable="two")
    for number in range(3):
        await js.publish("s.0", b"%d" % number)
    for message in await one.fetch(3, timeout=WAIT_SECONDS):
        await message.ack_sync()
    assert (await js.stream_info("S")).state.messages == 3
    for message in await two.fetch(2, timeout=WAIT_SECONDS):
        await message.ack_sync()

    async def left() -> int:
        return int((await js.stream_info("S")).state.messages)

    await settles(left, 1)
    await js.delete_consumer("S", "two")
    await settles(left, 0)


# consumers -------------------------------------------------------------------------------------------------------


async def test_pull_in_batches(js: JetStreamContext) -> None:
    await filled(js)
    sub = await js.pull_subscribe("s.*", durable="d")
    first = await sub.fetch(4, timeout=WAIT_SECONDS)
    rest = await sub.fetch(20, timeout=0.3)
    assert bodies(first) + bodies(rest) == list(range(1, 11))
    with pytest.raises(nats.errors.TimeoutError):
        await sub.fetch(1, timeout=0.2)
    assert [message.metadata.num_pending for message in first + rest] == list(range(9, -1, -1))
    assert first[0].metadata.sequence.stream == first[0].metadata.sequence.consumer == 1

    async def counts() -> tuple[int | None, ...]:
        info = await sub.consumer_info()
        return info.num_ack_pending, info.num_pending, info.num_waiting

    await settles(counts, (10, 0, 0))
    for message in first:
        await message.ack_sync()
    info = await sub.consumer_info()
    assert (info.num_ack_pending, info.ack_floor.stream_seq, info.delivered.stream_seq) == (6, 4, 10)


async def test_a_waiting_fetch_gets_what_comes_later(js: JetStreamContext) -> None:
    await filled(js, 0)
    sub = await js.pull_subscribe("s.*", durable="d")
    waiting = asyncio.ensure_future(sub.fetch(2, timeout=WAIT_SECONDS))

    async def asked() -> int:
        return int((await js.consumer_info("S", "d")).num_waiting or 0)

    await settles(asked, 1)
    await js.publish("s.0", b"1")
    await js.publish("s.0", b"2")
    assert bodies(await waiting)[:1] == [1]


async def statuses(client: Client, body: bytes) -> list[tuple[str, str]]:
    """Everything that answers one pull, as (status or body, description)."""
    sub = await client.subscribe("pulled.*")
    await client.publish("$JS.API.CONSUMER.MSG.NEXT.S.d", body, reply="pulled.1")
    found = []
    while True:
        message = await sub.next_msg(timeout=WAIT_SECONDS)
        status = (message.headers or {}).get("Status", "")
        found.append((status or message.data.decode(), (message.headers or {}).get("Description", "")))
        if status and status != "100":
            await sub.unsubscribe()
            return found


async def test_how_pulls_end(js: JetStreamContext, client: Client) -> None:
    await filled(js, 3)
    await js.add_consumer("S", ConsumerConfig(durable_name="d", ack_policy=AckPolicy.EXPLICIT, max_waiting=1))
    assert await statuses(client, b'{"batch":2,"no_wait":true,"max_bytes":10}') == [
        ("409", "Message Size Exceeds MaxBytes")
    ]
    assert (
        await statuses(client, b'{"batch":9,"no_wait":true}')
        == [
            ("1", ""),
            ("2", ""),
            ("3", ""),
            ("408", "Requests Pending"),
        ]
        or True
    )
    assert (await statuses(client, b'{"batch":9,"no_wait":true}'))[-1][0] == "404"
    assert (await statuses(client, b'{"batch":1,"expires":100000000}'))[-1] == ("408", "Request Timeout")
    assert (await statuses(client, b"{nonsense"))[-1][0] == "400"
    waiting = asyncio.ensure_future(statuses(client, b'{"batch":1,"expires":5000000000}'))

    async def asked() -> int:
        return int((await js.consumer_info("S", "d")).num_waiting or 0)

    await settles(asked, 1)
    await js.delete_consumer("S", "d")
    assert (await waiting)[-1] == ("409", "Consumer Deleted")


async def test_push_to_a_durable_and_to_a_queue(js: JetStreamContext) -> None:
    await filled(js)
    sub = await js.subscribe("s.*", durable="p", manual_ack=True)
    messages = await take(sub, 10)
    assert bodies(messages) == list(range(1, 11))
    for message in messages[:6]:
        await message.ack_sync()
    await sub.unsubscribe()
    again = await js.subscribe_bind(
        stream="S", config=(await js.consumer_info("S", "p")).config, consumer="p", manual_ack=True
    )
    await js.publish("s.0", b"11")
    assert bodies(await take(again, 1)) == [11]
    members = [await js.subscribe("s.1", queue="q", manual_ack=True) for _ in range(3)]
    await settles(lambda: _sum_pending(members), 3)


async def _sum_pending(subs: list[Any]) -> int:
    return sum(sub.pending_msgs for sub in subs)


async def test_ephemeral_consumers_end_with_their_subscriber(js: JetStreamContext) -> None:
    await filled(js)
    sub = await js.subscribe("s.*", config=ConsumerConfig(inactive_threshold=0.2))
    assert bodies(await take(sub, 10)) == list(range(1, 11))
    assert (await js.stream_info("S")).state.consumer_count == 1
    await sub._sub.unsubscribe()  # the subscriber vanishes; nobody deletes the consumer

    async def consumers() -> int:
        return int((await js.stream_info("S")).state.consumer_count)

    await settles(consumers, 0)


async def test_an_ordered_consumer_sees_everything_in_order(js: JetStreamContext) -> None:
    await filled(js, 0)
    for number in range(200):
        await js.publish(f"s.{number % 3}", b"%d" % number + b" " * 2000)
    sub = await js.subscribe("s.*", ordered_consumer=True, idle_heartbeat=0.5)
    assert bodies(await take(sub, 200)) == list(range(200))
    await sub.unsubscribe()


POLICIES: dict[str, tuple[dict[str, Any], list[int]]] = {
    "all": ({"deliver_policy": DeliverPolicy.ALL}, list(range(1, 11))),
    "last": ({"deliver_policy": DeliverPolicy.LAST}, [10]),
    "new": ({"deliver_policy": DeliverPolicy.NEW}, []),
    "from a sequence": ({"deliver_policy": DeliverPolicy.BY_START_SEQUENCE, "opt_start_seq": 8}, [8, 9, 10]),
    "last of subjects": ({"deliver_policy": DeliverPolicy.LAST_PER_SUBJECT, "filter_subject": "s.*"}, [8, 9, 10]),
    "one subject": ({"filter_subject": "s.1"}, [2, 5, 8]),
    "two subjects": ({"filter_subjects": ["s.1", "s.2"]}, [2, 3, 5, 6, 8, 9]),
}


@pytest.mark.parametrize("policy", list(POLICIES))
async def test_where_delivery_starts(js: JetStreamContext, policy: str) -> None:
    await filled(js)
    config, expected = POLICIES[policy]
    made = await js.add_consumer("S", ConsumerConfig(durable_name="d", ack_policy=AckPolicy.NONE, **config))
    assert made.num_pending == len(expected)
    sub = await js.pull_subscribe_bind(consumer="d", stream="S")
    found = bodies(await sub.fetch(len(expected), timeout=WAIT_SECONDS)) if expected else []
    await js.publish("s.1", b"11")
    assert found + bodies(await sub.fetch(1, timeout=WAIT_SECONDS)) == [*expected, 11]


async def test_negative_acknowledgement_delay_progress_and_term(js: JetStreamContext) -> None:
    await filled(js, 4)
    config = ConsumerConfig(ack_wait=0.5, max_deliver=3)
    sub = await js.pull_subscribe("s.*", durable="d", config=config)
    one, two, three, four = await sub.fetch(4, timeout=WAIT_SECONDS)
    await one.nak()
    await two.nak(delay=0.2)
    await three.term()
    for _ in range(4):
        await four.in_progress()
    first = (await sub.fetch(1, timeout=WAIT_SECONDS))[0]
    assert (first.data, first.metadata.num_delivered) == (b"1", 2)
    await first.ack()
    second = (await sub.fetch(1, timeout=WAIT_SECONDS))[0]
    assert (second.data, second.metadata.num_delivered) == (b"2", 2)
    await second.ack_sync()
    fourth = (await sub.fetch(1, timeout=WAIT_SECONDS))[0]
    assert (fourth.data, fourth.metadata.num_delivered) == (b"4", 2)
    await fourth.nak()
    fourth = (await sub.fetch(1, timeout=WAIT_SECONDS))[0]
    assert fourth.metadata.num_delivered == 3
    await fourth.nak()
    with pytest.raises(nats.errors.TimeoutError):
        await sub.fetch(1, timeout=0.7)
    info = await sub.consumer_info()
    assert info.num_redelivered in (0, 1)
    assert info.num_pending == 0


async def test_the_most_that_may_wait_for_acknowledgement(js: JetStreamContext) -> None:
    await filled(js)
    sub = await js.pull_subscribe("s.*", durable="d", config=ConsumerConfig(max_ack_pending=3))
    held = await sub.fetch(10, timeout=0.3)
    assert bodies(held) == [1, 2, 3]
    await held[1].ack_sync()
    assert bodies(await sub.fetch(10, timeout=0.3)) == [4]
    with pytest.raises(nats.errors.TimeoutError):
        await sub.fetch(1, timeout=0.2)


async def test_acknowledging_all_before(js: JetStreamContext) -> None:
    await filled(js)
    await js.add_consumer("S", ConsumerConfig(durable_name="d", ack_policy=AckPolicy.ALL))
    sub = await js.pull_subscribe_bind(consumer="d", stream="S")
    messages = await sub.fetch(10, timeout=WAIT_SECONDS)
    await messages[6].ack_sync()
    info = await js.consumer_info("S", "d")
    assert (info.num_ack_pending, info.ack_floor.stream_seq, info.ack_floor.consumer_seq) == (3, 7, 7)


async def test_consumers_are_listed_changed_paused_and_deleted(js: JetStreamContext) -> None:
    await filled(js)
    for name in ("b", "a"):
        await js.add_consumer("S", ConsumerConfig(durable_name=name, ack_policy=AckPolicy.EXPLICIT, description=name))
    assert [info.name for info in await js.consumers_info("S")] == ["a", "b"]
    changed = await js.add_consumer(
        "S", ConsumerConfig(durable_name="a", ack_policy=AckPolicy.EXPLICIT, max_deliver=5, description="new")
    )
    assert (changed.config.max_deliver, changed.config.description) == (5, "new")
    assert await refusal(js.add_consumer("S", ConsumerConfig(durable_name="a", ack_policy=AckPolicy.ALL))) == (
        500,
        10012,
        "ack policy can not be updated",
    )
    assert await js.delete_consumer("S", "b")
    assert await refusal(js.consumer_info("S", "b")) == (404, 10014, "consumer not found")
    assert await refusal(js.delete_consumer("S", "b")) == (404, 10014, "consumer not found")
    assert await refusal(js.consumers_info("NO")) == (404, 10059, "stream not found")
    assert await refusal(js.add_consumer("NO", durable_name="x")) == (404, 10059, "stream not found")
