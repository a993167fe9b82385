"""Key-value buckets with the real client (nats-py), on both servers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import (
    APIError,
    BadBucketError,
    BucketNotFoundError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    NoKeysError,
    NotFoundError,
)
from nats.js.kv import KeyValue

WAIT_SECONDS = 5.0
TTL_SECONDS = 1.0  # the least that a marker may live


@pytest.fixture
async def js(client: Client) -> AsyncIterator[JetStreamContext]:
    context = client.jetstream(timeout=WAIT_SECONDS)
    yield context
    for info in await context.streams_info():
        await context.delete_stream(str(info.config.name))


@pytest.fixture
async def bucket(js: JetStreamContext) -> KeyValue:
    return await js.create_key_value(bucket="B", history=5)


async def settles(look: Callable[[], Awaitable[object]], expected: object) -> None:
    seen: object = None
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while (seen := await look()) != expected:
                await asyncio.sleep(0.01)
    except TimeoutError:
        assert seen == expected


async def test_put_get_and_revisions(bucket: KeyValue) -> None:
    assert await bucket.put("a", b"1") == 1
    assert await bucket.put("b.c", b"2") == 2
    assert await bucket.put("a", b"3") == 3
    entry = await bucket.get("a")
    assert (entry.bucket, entry.key, entry.value, entry.revision) == ("B", "a", b"3", 3)
    assert (await bucket.get("a", revision=1)).value == b"1"
    assert (await bucket.get("b.c")).value == b"2"
    with pytest.raises(KeyNotFoundError):
        await bucket.get("nope")
    with pytest.raises(KeyNotFoundError):
        await bucket.get("a", revision=2)


async def test_create_and_update(bucket: KeyValue) -> None:
    assert await bucket.create("a", b"1") == 1
    with pytest.raises(KeyWrongLastSequenceError) as caught:
        await bucket.create("a", b"2")
    assert caught.value.description == "wrong last sequence: 1"
    assert await bucket.update("a", b"2", last=1) == 2
    with pytest.raises(KeyWrongLastSequenceError) as caught:
        await bucket.update("a", b"3", last=1)
    assert caught.value.description == "wrong last sequence: 2"
    await bucket.delete("a")
    assert await bucket.create("a", b"again") == 4


async def test_delete_purge_and_history(bucket: KeyValue) -> None:
    for number in range(7):
        await bucket.put("a", b"%d" % number)
    assert [entry.value for entry in await bucket.history("a")] == [b"2", b"3", b"4", b"5", b"6"]
    await bucket.delete("a")
    with pytest.raises(KeyNotFoundError) as caught:
        await bucket.get("a")
    assert (caught.value.op, caught.value.entry.revision) == ("DEL", 8)
    assert [entry.operation for entry in await bucket.history("a")] == [None] * 4 + ["DEL"]
    with pytest.raises(APIError, match="wrong last sequence: 8"):
        await bucket.delete("a", last=3)
    await bucket.purge("a")
    [only] = await bucket.history("a")
    assert (only.operation, only.revision) == ("PURGE", 9)
    await bucket.put("b", b"x")

    async def markers() -> int:  # asked repeatedly: nats-py may take an empty look for the end (see `seen`)
        await bucket.purge_deletes(olderthan=0)
        return (await bucket.status()).values

    await settles(markers, 1)
    with pytest.raises(KeyNotFoundError):
        await bucket.get("a")


async def test_keys(bucket: KeyValue) -> None:
    with pytest.raises(NoKeysError):
        await bucket.keys()
    for key in ("x.1", "x.2", "y.1", "z"):
        await bucket.put(key, b"")
    await bucket.delete("z")
    assert sorted(await bucket.keys()) == ["x.1", "x.2", "y.1"]
    assert sorted(await bucket.keys(filters=["x."])) == ["x.1", "x.2"]
    assert sorted(await bucket.keys(filters=["x.1", "y."])) == ["x.1", "y.1"]


async def seen(watcher: Any, count: int) -> list[tuple[str, bytes, str | None]]:
    """The next updates as (key, value, operation).

    The None that ends the old values is left out: nats-py puts it first when the values arrive while it is still asking
    how many there are.
    """
    found: list[tuple[str, bytes, str | None]] = []
    while len(found) < count:
        entry = await watcher.updates(timeout=WAIT_SECONDS)
        if entry is not None:
            found.append((entry.key, entry.value or b"", entry.operation))
    return found


async def test_watch(bucket: KeyValue) -> None:
    await bucket.put("a", b"1")
    await bucket.put("a", b"2")
    await bucket.put("b", b"1")
    everything = await bucket.watchall()
    assert await seen(everything, 2) == [("a", b"2", None), ("b", b"1", None)]
    history = await bucket.watch("a", include_history=True)
    assert await seen(history, 2) == [("a", b"1", None), ("a", b"2", None)]
    names = await bucket.watch("b", meta_only=True)
    assert await seen(names, 1) == [("b", b"", None)]
    await bucket.put("c.d", b"3")
    await bucket.delete("a")
    await bucket.purge("b")
    assert await seen(everything, 3) == [("c.d", b"3", None), ("a", b"", "DEL"), ("b", b"", "PURGE")]
    assert await seen(history, 1) == [("a", b"", "DEL")]
    assert await seen(names, 1) == [("b", b"", "PURGE")]
    undeleted = await bucket.watchall(ignore_deletes=True)
    assert await seen(undeleted, 1) == [("c.d", b"3", None)]
    for watcher in (everything, history, names, undeleted):
        await watcher.stop()


async def test_watching_an_empty_bucket(bucket: KeyValue) -> None:
    watcher = await bucket.watchall()
    assert await watcher.updates(timeout=WAIT_SECONDS) is None
    await bucket.put("a", b"1")
    assert await seen(watcher, 1) == [("a", b"1", None)]
    await watcher.stop()


async def test_status_and_life_of_a_bucket(js: JetStreamContext, bucket: KeyValue) -> None:
    await bucket.put("a", b"1")
    await bucket.put("a", b"2")
    status = await bucket.status()
    assert (status.bucket, status.values, status.history, status.ttl) == ("B", 2, 5, 0)
    config = status.stream_info.config
    assert (config.allow_direct, config.allow_rollup_hdrs, config.deny_delete) == (False, True, True)
    assert config.subjects == ["$KV.B.>"]
    again = await js.key_value("B")
    assert (await again.get("a")).value == b"2"
    assert await js.delete_key_value("B")
    with pytest.raises(BucketNotFoundError):
        await js.key_value("B")
    with pytest.raises(NotFoundError):
        await js.delete_key_value("B")
    await js.add_stream(name="KV_plain", subjects=["plain"])
    with pytest.raises(BadBucketError):
        await js.key_value("plain")


async def test_limits_of_a_bucket(js: JetStreamContext) -> None:
    bucket = await js.create_key_value(bucket="L", max_bytes=400, max_value_size=100, ttl=30)
    with pytest.raises(APIError, match="message size exceeds maximum allowed"):
        await bucket.put("a", b"x" * 200)
    for number in range(3):
        await bucket.put("a", b"%d" % number)
    for number in range(2):
        await bucket.put(f"b{number}", b"x" * 90)
    with pytest.raises(APIError, match="maximum bytes exceeded"):
        await bucket.put("c", b"x" * 90)
    assert (await bucket.status()).ttl == 30


async def test_values_expire_with_the_bucket(js: JetStreamContext) -> None:
    bucket = await js.create_key_value(bucket="T", ttl=0.3)
    await bucket.put("a", b"1")

    async def there() -> bool:
        try:
            await bucket.get("a")
        except KeyNotFoundError:
            return False
        return True

    await settles(there, False)


async def test_a_key_with_a_life_of_its_own_leaves_a_marker(js: JetStreamContext) -> None:
    """Presence: the value goes after its TTL, watchers hear of it, and the marker goes too."""
    bucket = await js.create_key_value(bucket="P", limit_marker_ttl=TTL_SECONDS)
    await bucket.put("stays", b"1")
    await bucket.create("goes", b"here", msg_ttl=TTL_SECONDS)
    watcher = await bucket.watch("goes")
    assert await seen(watcher, 2) == [("goes", b"here", None), ("goes", b"", "PURGE")]
    marker = await js.get_msg("KV_P", 3)
    assert marker.headers == {"Nats-Marker-Reason": "MaxAge", "Nats-Rollup": "sub", "Nats-TTL": "1s"}
    assert (await bucket.get("goes")).value is None  # nats-py does not know a marker for what it is

    async def messages() -> int:
        return int((await js.stream_info("KV_P")).state.messages)

    await settles(messages, 1)
    assert (await bucket.get("stays")).value == b"1"
    await bucket.create("goes", b"back", msg_ttl=TTL_SECONDS)
    assert (await bucket.get("goes")).value == b"back"
    await watcher.stop()


async def test_a_purge_with_a_life_of_its_own(js: JetStreamContext) -> None:
    bucket = await js.create_key_value(bucket="P", limit_marker_ttl=TTL_SECONDS)
    await bucket.put("a", b"1")
    await bucket.purge("a", msg_ttl=TTL_SECONDS)

    async def messages() -> int:
        return int((await js.stream_info("KV_P")).state.messages)

    await settles(messages, 0)
    assert (await js.stream_info("KV_P")).state.last_seq == 2  # the expired purge leaves no marker of its own


async def test_an_object_store_on_top(js: JetStreamContext) -> None:
    store = await js.create_object_store("O")
    body = bytes(range(256)) * 1500
    await store.put("picture", body)
    await store.put("note", b"hello")
    assert (await store.get("picture")).data == body
    assert sorted(str(info.name) for info in await store.list()) == ["note", "picture"]
    await store.delete("note")
    assert [info.name for info in await store.list() if not info.deleted] == ["picture"]
