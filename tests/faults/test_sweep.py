"""A short sweep over everything that can happen to links and servers; `tests.faults.sweep` runs long ones."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.sweep import sweep

SECONDS = 8.0  # of harm; side by side, since most of the time is waiting
CASES = [("nats-server", 2), ("leafnode", 2), ("nats-server", 3)]


@pytest.mark.parametrize("by", ["sourcing", "push"])
async def test_every_acknowledged_message_is_at_the_top_once_and_in_order(by: str, tmp_path: Path) -> None:
    async def one(number: int, hub: str, levels: int) -> None:
        said, done = await sweep(tmp_path / str(number), hub=hub, levels=levels, seconds=SECONDS, seed=number, by=by)
        assert not said, f"{hub}, {levels} levels: {said}\n{done}"

    await asyncio.gather(*(one(number, hub, levels) for number, (hub, levels) in enumerate(CASES)))
