"""The shell over the core: real file, real threads, restarts, a disk that refuses."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from leafnode.errors import StoreError
from leafnode.net.storage import Storage
from leafnode.route.account import Account
from leafnode.route.message import Message, Subscription

PATIENCE_SECONDS = 10.0


class Client:
    """Requests with an inbox, awaited."""

    is_remote = False

    def __init__(self, account: Account) -> None:
        self.account = account
        self.answers: asyncio.Queue[Message] = asyncio.Queue()
        self.subscribe(b"_INBOX.>")

    def subscribe(self, subject: bytes) -> None:
        self.account.subscribe(Subscription(subject, self))

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        self.answers.put_nowait(message)
        return True

    def send(self, subject: str, body: bytes = b"", headers: bytes = b"") -> None:
        self.account.publish(Message(subject.encode(), b"_INBOX.1", headers, body))

    async def next(self) -> Message:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.answers.get()

    async def request(self, subject: str, body: bytes = b"", headers: bytes = b"") -> dict[str, Any]:
        self.send(subject, body, headers)
        decoded: dict[str, Any] = json.loads((await self.next()).payload)
        return decoded

    async def api(self, verb: str, **fields: Any) -> dict[str, Any]:
        return await self.request(f"$JS.API.{verb}", json.dumps(fields).encode() if fields else b"")

    async def consumer(self, stream: str, **config: Any) -> dict[str, Any]:
        return await self.api(f"CONSUMER.CREATE.{stream}.{config['durable_name']}", stream_name=stream, config=config)


@contextlib.asynccontextmanager
async def broker(folder: Path, *, min_free: int = 0) -> AsyncIterator[tuple[Client, Storage]]:
    storage = await Storage.open(folder, min_free=min_free)
    account = Account("$G", lambda n: 0)
    await storage.attach(account, server_name="site-7")
    running = asyncio.create_task(storage.run())
    try:
        yield Client(account), storage
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await storage.close()


async def test_streams_messages_and_consumers_survive_a_restart(tmp_path: Path) -> None:
    async with broker(tmp_path) as (client, _):
        await client.api("STREAM.CREATE.S", name="S", subjects=["s.>"])
        await client.consumer("S", durable_name="c", ack_policy="explicit")
        for number in range(5):
            await client.request(f"s.{number}", b"x", b"NATS/1.0\r\nNats-Msg-Id: %d\r\n\r\n" % number)
        client.send("$JS.API.CONSUMER.MSG.NEXT.S.c", b"3")
        replies = [(await client.next()).reply for _ in range(3)]
        client.send(replies[0].decode())
        assert (await client.next()).payload == b""
    async with broker(tmp_path) as (client, _):
        info = await client.api("CONSUMER.INFO.S.c")
        assert info["num_ack_pending"] == 2
        assert info["num_pending"] == 2
        assert info["delivered"]["stream_seq"] == 3
        assert info["ack_floor"]["stream_seq"] == 1
        again = await client.request("s.1", b"x", b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n")
        assert again == {"stream": "S", "seq": 2, "duplicate": True}
        assert await client.request("s.9") == {"stream": "S", "seq": 6}


async def test_numbers_of_an_emptied_stream_are_not_given_again(tmp_path: Path) -> None:
    async with broker(tmp_path) as (client, _):
        await client.api("STREAM.CREATE.S", name="S", subjects=["s"])
        await client.request("s")
        await client.api("STREAM.PURGE.S")
    async with broker(tmp_path) as (client, _):
        assert await client.request("s") == {"stream": "S", "seq": 2}


async def test_memory_streams_are_forgotten(tmp_path: Path) -> None:
    async with broker(tmp_path) as (client, _):
        await client.api("STREAM.CREATE.M", name="M", subjects=["m"], storage="memory")
        assert await client.request("m") == {"stream": "M", "seq": 1}
        await client.consumer("M", durable_name="c", ack_policy="explicit")
        client.send("$JS.API.CONSUMER.MSG.NEXT.M.c", b"1")
        assert (await client.next()).subject == b"m"
    async with broker(tmp_path) as (client, _):
        assert (await client.api("STREAM.NAMES"))["streams"] is None


async def test_a_backlog_longer_than_memory_is_delivered_in_order(tmp_path: Path) -> None:
    async with broker(tmp_path) as (client, _):
        await client.api("STREAM.CREATE.S", name="S", subjects=["s.>"])
        for number in range(1500):
            client.send(f"s.{number % 4}", b"%d" % number)
        for _ in range(1500):
            await client.next()
    async with broker(tmp_path) as (client, _):
        await client.consumer("S", durable_name="c", ack_policy="none", filter_subject="s.2")
        client.send("$JS.API.CONSUMER.MSG.NEXT.S.c", b"375")
        got = [int((await client.next()).payload) for _ in range(375)]
        assert got == list(range(2, 1500, 4))


async def test_messages_expire_by_the_clock(tmp_path: Path) -> None:
    async with broker(tmp_path) as (client, _):
        await client.api("STREAM.CREATE.S", name="S", subjects=["s"], max_age=200_000_000)
        await client.request("s")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await client.api("STREAM.INFO.S"))["state"]["messages"]:
                await asyncio.sleep(0.01)


async def test_a_full_disk_refuses_messages_and_recovers(tmp_path: Path) -> None:
    """Reads and removals go on; nothing is acknowledged that is not kept."""
    async with broker(tmp_path) as (client, storage):
        await client.api("STREAM.CREATE.S", name="S", subjects=["s.>"])
        for _ in range(4):
            assert "error" not in await client.request("s.1", bytes(100_000))
        limit = "PRAGMA max_page_count = 140"
        await storage._disk._writer.run(lambda raw: raw.execute(limit).fetchall())
        refused = 0
        kept = 4
        for _ in range(4):
            answer = await client.request("s.2", bytes(100_000))
            if "error" in answer:
                refused += 1
                assert (answer["error"]["code"], answer["error"]["err_code"]) == (503, 10077)
            else:
                kept += 1
                assert answer["seq"] == kept
        assert refused
        assert (await client.api("STREAM.MSG.GET.S", seq=1))["message"]["subject"] == "s.1"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (await client.api("STREAM.PURGE.S", filter="s.1")).get("success"):
                await asyncio.sleep(0.05)
            while "error" in (answer := await client.request("s.3", b"x")):
                await asyncio.sleep(0.05)
        assert answer["seq"] == kept + 1


async def publish_until_refused(client: Client) -> dict[str, Any]:
    """The refusal."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            answer = await client.request("s", bytes(1 << 19))
            if "error" in answer:
                error: dict[str, Any] = answer["error"]
                return error


async def publish_until_taken(client: Client) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "error" in (answer := await client.request("s", b"again")):
            await asyncio.sleep(0.02)
        return answer


async def test_what_is_to_be_left_to_others_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`min_free_store`: below it messages are refused, reads and deletions go on; above it they are taken again."""
    min_free, free = 1 << 30, [2 << 30]
    monkeypatch.setattr("leafnode.store.reserve.Reserve._free", lambda reserve: free[0])
    async with broker(tmp_path, min_free=min_free) as (client, storage):
        await client.api("STREAM.CREATE.S", name="S", subjects=["s"])
        assert (await client.request("s", b"first"))["seq"] == 1
        free[0] = min_free - 1
        error = await publish_until_refused(client)
        assert (error["err_code"], "the disk is full" in error["description"]) == (10077, True)
        assert storage.trouble
        assert (await client.api("STREAM.MSG.GET.S", seq=1))["message"]["seq"] == 1
        assert (await client.api("STREAM.MSG.DELETE.S", seq=1, no_erase=True))["success"]
        free[0] = min_free + 1  # not enough to begin again: else it would be over at once
        assert "error" in await client.request("s", b"no")
        free[0] = 2 * min_free
        assert (await publish_until_taken(client))["seq"] > 1
        assert not storage.trouble


async def test_a_start_below_what_is_to_be_left_refuses_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [1 << 20]
    monkeypatch.setattr("leafnode.store.reserve.Reserve._free", lambda reserve: free[0])
    async with broker(tmp_path, min_free=1 << 30) as (client, _):
        await client.api("STREAM.CREATE.S", name="S", subjects=["s"])
        assert (await client.request("s", b"no"))["error"]["err_code"] == 10077
        free[0] = 4 << 30
        assert (await publish_until_taken(client))["seq"] == 1


async def test_the_file_gets_shorter_after_a_purge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leafnode.net.commits.LOOK_SECONDS", 0.01)
    async with broker(tmp_path) as (client, _):
        for name in "ST":
            await client.api(f"STREAM.CREATE.{name}", name=name, subjects=[name.lower()])
        for _ in range(24):
            await client.request("s", bytes(1 << 20))
        await client.api("STREAM.PURGE.S")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (tmp_path / "leafnode.db").stat().st_size > 8 << 20:
                assert "seq" in await client.request("t", b"meanwhile")


async def test_accounts_have_streams_of_their_own(tmp_path: Path) -> None:
    storage = await Storage.open(tmp_path)
    accounts = [Account(name, lambda n: 0) for name in ("A", "B")]
    for account in accounts:
        await storage.attach(account)
    running = asyncio.create_task(storage.run())
    for account in accounts:
        assert "error" not in await Client(account).api("STREAM.CREATE.S", name="S", subjects=["s"])
    assert await Client(accounts[0]).request("s") == {"stream": "S", "seq": 1}
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await storage.close()
    storage = await Storage.open(tmp_path)
    second = Account("B", lambda n: 0)
    await storage.attach(second)
    running = asyncio.create_task(storage.run())
    assert (await Client(second).api("STREAM.INFO.S"))["state"]["messages"] == 0
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await storage.close()


async def test_a_store_is_for_one_broker_at_a_time(tmp_path: Path) -> None:
    first = await Storage.open(tmp_path)
    with pytest.raises(StoreError, match="in use by another leafnode"):
        await Storage.open(tmp_path)
    await first.close()
    second = await Storage.open(tmp_path)
    await second.close()
