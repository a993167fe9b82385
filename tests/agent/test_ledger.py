"""The ledger remembers each step, across a reopening, and never goes back."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.ledger import Ledger, LedgerError, command_of
from agent.payloads import Command, CommandResult

AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
BODY = Command(id="c1", argv=("true",), issued=AT).to_bytes()


def result(command_id: str = "c1", code: int = 0) -> CommandResult:
    return CommandResult(id=command_id, device="pi-7", step="outcome", outcome="succeeded", exit_code=code)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    opened = await Ledger.open(tmp_path / "commands.db")
    yield opened
    await opened.close()


async def test_each_step_is_remembered_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "commands.db"
    seen = []

    async def state(*steps: str) -> None:
        ledger = await Ledger.open(path)
        for step in steps:
            if step == "received":
                await ledger.received("c1", BODY)
            elif step == "started":
                assert await ledger.started("c1", "boot", AT) == 1
            elif step == "finished":
                await ledger.finished(result())
            else:
                await ledger.reported("c1")
        record = await ledger.find("c1")
        assert record
        seen.append((record.state, record.attempt, record.started, record.result))
        assert command_of(record).argv == ("true",)
        assert [each.id for each in await ledger.interrupted()] == (["c1"] if record.state == "started" else [])
        assert [each.id for each in await ledger.unreported(9)] == (["c1"] if record.state == "finished" else [])
        await ledger.close()

    for step in ("received", "started", "finished", "reported"):
        await state(step)
    assert seen == [
        ("received", 0, None, None),
        ("started", 1, AT, None),
        ("finished", 1, AT, result()),
        ("reported", 1, AT, result()),
    ]


async def test_an_outcome_does_not_change(ledger: Ledger) -> None:
    await ledger.received("c1", BODY)
    await ledger.finished(result(code=1))
    await ledger.received("c1", BODY)
    await ledger.finished(result(code=2))
    record = await ledger.find("c1")
    assert record
    assert record.result == result(code=1)


async def test_only_old_reported_commands_are_forgotten(ledger: Ledger) -> None:
    for number in range(5):
        await ledger.received(f"c{number}", BODY)
        if number != 1:
            await ledger.finished(result(f"c{number}"))
            await ledger.reported(f"c{number}")
    await ledger.forget(2)
    assert [each.id for each in await ledger.recent(9)] == ["c4", "c3", "c1"]
    assert await ledger.find("c0") is None


async def test_a_file_that_is_no_ledger_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("not a database, and long enough to be looked at as one" * 30)
    with pytest.raises(LedgerError, match="is not a SQLite database"):
        await Ledger.open(tmp_path / "x")
