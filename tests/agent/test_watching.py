"""Which watches a device asks, under which limits, and what it says of those that it cannot ask."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent import watching
from agent.bucket import Entry
from agent.facts.table import Facts, Table
from agent.payloads import Watch, WatchReport
from agent.policy import Policy, Roles
from agent.sandbox import Limits
from agent.watching import MAX_WATCHES, Watching

PATIENCE_S = 20.0


class Outlet:
    """Keeps what is told; says that it has it at once, as a broker that is there."""

    def __init__(self) -> None:
        self.told: list[WatchReport] = []
        self.dropped = 0

    def tell_watch(self, report: WatchReport, sent: Callable[[], None]) -> None:
        self.told.append(report)
        sent()

    def words(self) -> list[tuple[str, str]]:
        return [(each.watch, each.full or each.error or "difference") for each in self.told]


class Device:
    """A device with a table `pump`, a bucket and a clock in the hands of the test."""

    def __init__(self, folder: Path, hidden: tuple[str, ...] = (), max_payload: int = 1 << 20, **limits: int) -> None:
        self.pumps: list[tuple[Any, ...]] = [("a", "on")]
        self.outlet = Outlet()
        self.seconds = 0.0
        self.revision = 0
        table = Table("pump", ("name", "state"), False, lambda: self.pumps)
        self.watching = Watching(
            SimpleNamespace(max_payload=max_payload),  # type: ignore[arg-type]  # nothing else is asked of it here
            "pi-7",
            ("north",),
            Limits(**limits),
            Roles(Facts([table], None, lambda: self.seconds), Policy.of((), hidden), {}),
            None,
            self.outlet,
            folder,
            clock=lambda: self.seconds,
            uniform=lambda low, high: low,
        )

    def puts(self, name: str, sql: str = "SELECT name, state FROM pump", **watch: Any) -> None:
        self.learns(name, Watch(sql=sql, **watch).to_bytes(), "put")

    def removes(self, name: str) -> None:
        self.learns(name, b"", "delete")

    def learns(self, name: str, value: bytes, operation: Any) -> None:
        self.revision += 1
        self.watching.learn(
            Entry(key=name, value=value, revision=self.revision, operation=operation, created=datetime.now(UTC))
        )

    async def tells(self, count: int) -> list[tuple[str, str]]:
        """What was told, once it is so much."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.outlet.told) < count:
                await asyncio.sleep(0.001)
        assert len(self.outlet.told) == count, self.outlet.words()
        return self.outlet.words()

    def later(self) -> None:
        """The next evaluation of all is due."""
        self.seconds += 3600.0
        self.watching.learn(None)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.watching.learn(None)
        task = asyncio.create_task(self.watching.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.watching.stop()


async def test_only_whom_it_concerns_asks_and_says_when_it_no_longer_does(tmp_path: Path) -> None:
    device = Device(tmp_path)
    async with device.running():
        device.puts("theirs", on=("pi-8",))
        device.puts("southern", group="south")
        device.puts("ours", group="north", on=("pi-7",))
        assert await device.tells(1) == [("ours", "registered")]
        device.puts("ours", group="south")
        assert (await device.tells(2))[1] == ("ours", "ended")


async def test_a_watch_that_was_removed_while_the_agent_was_off_ends(tmp_path: Path) -> None:
    before = Device(tmp_path)
    async with before.running():
        before.puts("pumps")
        await before.tells(1)
        await asyncio.to_thread(_until_there, tmp_path / "watches" / "pumps.json")
    device = Device(tmp_path)
    async with device.running():
        assert await device.tells(1) == [("pumps", "ended")]
    assert list((tmp_path / "watches").iterdir()) == []


def _until_there(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)


async def test_what_is_hidden_is_hidden_from_watches(tmp_path: Path) -> None:
    device = Device(tmp_path, hidden=("pump.state",))
    async with device.running():
        device.puts("pumps")
        await device.tells(1)
    assert device.outlet.told[0].rows == (("a", None),)


async def test_one_too_many_is_refused_once_and_asked_when_there_is_room(tmp_path: Path) -> None:
    device = Device(tmp_path)
    async with device.running():
        for number in range(MAX_WATCHES):
            device.puts(f"w{number:02}")
        await device.tells(MAX_WATCHES)
        device.puts("x")
        assert (await device.tells(MAX_WATCHES + 1))[-1] == (
            "x", f"not asked: this device has {MAX_WATCHES} watches already; remove one",
        )  # fmt: skip
        device.removes("w00")
        assert (await device.tells(MAX_WATCHES + 3))[-2:] == [("w00", "ended"), ("x", "registered")]


async def test_too_many_rows_are_an_error_told_once(tmp_path: Path) -> None:
    device = Device(tmp_path, rows=3)
    device.pumps = [(f"p{number}", "on") for number in range(4)]
    async with device.running():
        device.puts("pumps")
        [(_, error)] = await device.tells(1)
        assert error.startswith("more than 3 rows")
        device.later()
        device.pumps = device.pumps[:3]
        device.later()
        assert (await device.tells(2))[1] == ("pumps", "registered")


async def test_rows_that_the_broker_would_refuse_are_an_error(tmp_path: Path) -> None:
    device = Device(tmp_path, max_payload=10_000)
    device.pumps = [("a", "x" * 1000)]
    async with device.running():
        device.puts("pumps")
        [(_, error)] = await device.tells(1)
    assert "too large for the broker" in error


async def test_after_messages_were_dropped_the_state_is_told_again(tmp_path: Path) -> None:
    device = Device(tmp_path)
    async with device.running():
        device.puts("pumps")
        await device.tells(1)
        device.outlet.dropped += 1
        device.later()
        assert (await device.tells(2))[1] == ("pumps", "lost")


async def test_a_definition_that_cannot_be_read_harms_no_other(tmp_path: Path) -> None:
    device = Device(tmp_path)
    async with device.running():
        device.learns("broken", b"{", "put")
        device.learns("empty", b'{"v":1}', "put")
        device.puts("pumps")
        assert sorted(await device.tells(2)) == [
            ("empty", "a watch needs a filter, columns or a statement"),
            ("pumps", "registered"),
        ]


async def test_all_end_when_a_hub_with_a_new_store_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "RENEWED_SECONDS", 0.01)
    device = Device(tmp_path)
    async with device.running():
        device.puts("pumps")
        await device.tells(1)
        device.watching.renewed()
        assert (await device.tells(2))[1] == ("pumps", "ended")


async def test_of_what_a_hub_with_a_new_store_still_has_the_state_is_told_again(tmp_path: Path) -> None:
    device = Device(tmp_path)
    async with device.running():
        device.puts("pumps")
        await device.tells(1)
        device.watching.renewed()
        device.revision = 0
        device.puts("pumps")  # as it was, under its old revision
        device.later()
        assert (await device.tells(2))[1] == ("pumps", "lost")
