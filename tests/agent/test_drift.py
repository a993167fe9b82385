"""Changes by hand are noticed, shown, and put back or left as the item says."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from agent.apply import PUT_BACK_MAX, FileApplier
from agent.drift import difference, signature
from agent.items import Items
from agent.record import Applied
from tests.agent.applying import desired, item


async def applied(tmp_path: Path, **keys: Any) -> FileApplier:
    applier = FileApplier("app", item(path=str(tmp_path / "app.json"), **keys), tmp_path / "state")
    done = await applier.apply(desired({"port": 1883, "host": "hub"}, 1))
    assert done
    assert done.state == "applied"
    assert await applier.look() is None
    return applier


async def test_a_drifted_file_is_left_and_shown_once(tmp_path: Path) -> None:
    applier = await applied(tmp_path, on_drift="report")
    path = tmp_path / "app.json"
    wanted = path.read_bytes()
    path.write_bytes(wanted.replace(b"1883", b"1884"))
    told = await applier.look()
    assert told
    assert (told.state, told.revision, b"1884" in path.read_bytes()) == ("drifted", 1, True)
    assert '-  "port": 1883\n+  "port": 1884' in told.diff
    assert await applier.look() is None
    again = FileApplier("app", applier.item, tmp_path / "state")  # as after a restart
    assert await again.look() is None
    assert await again.apply(desired({"port": 1883, "host": "hub"}, 1)) is None
    path.write_bytes(wanted)
    back = await again.look()
    assert back
    assert (back.state, back.diff) == ("applied", "")
    path.write_text("x")
    newer = await again.apply(desired({"port": 1, "host": "hub"}, 2))
    assert newer
    assert newer.state == "applied"


async def test_a_drifted_file_is_put_back_with_all_steps(tmp_path: Path) -> None:
    reloads = tmp_path / "reloads"
    applier = await applied(tmp_path, reload=["sh", "-c", f"echo r >> {reloads}"])
    path = tmp_path / "app.json"
    wanted = path.read_bytes()
    for change in (lambda: path.write_text("mine\n"), path.unlink, lambda: path.chmod(0o600)):
        before = reloads.read_text()
        change()
        told = await applier.look()
        assert told
        assert (told.state, told.error) == ("applied", "it was changed by hand, and put back")
        assert told.diff
        assert (path.read_bytes(), path.stat().st_mode & 0o7777) == (wanted, 0o644)
        assert reloads.read_text() == f"{before}r\n"
        assert await applier.look() is None


async def test_who_changes_it_again_and_again_is_not_fought_for_ever(tmp_path: Path) -> None:
    applier = await applied(tmp_path)
    path = tmp_path / "app.json"
    states = []
    for number in range(PUT_BACK_MAX + 1):
        path.write_text(f"{number}\n")
        told = await applier.look()
        assert told
        states.append(told.state)
    assert states == ["applied"] * PUT_BACK_MAX + ["drifted"]
    assert "something else writes it" in told.error


async def test_a_secret_is_not_shown(tmp_path: Path) -> None:
    applier = await applied(tmp_path, on_drift="report", secret=True)
    (tmp_path / "app.json").write_text("hunter2")
    told = await applier.look()
    assert told
    assert (told.state, told.diff) == ("drifted", "the content differs, and is secret")


async def test_a_change_that_keeps_size_and_time_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("abc")
    before, about = signature(path), path.stat()
    path.write_text("abd")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert signature(path) != before


@pytest.mark.parametrize(
    ("wanted", "found", "words"),
    [
        (b"a\n" * 9, b"b\n" * 200, "… and"),
        (b"a", b"\xff", "not text"),
        (b"a", b"a" * 300_000, "too large to compare"),
        (b"a\n", b"a\r\n", "only line ends differ"),
        (b"a\n", b"b" * 1000, "…"),
    ],
)
def test_a_diff_is_short_whatever_was_done(wanted: bytes, found: bytes, words: str) -> None:
    shown = difference(wanted, found)
    assert words in shown
    assert len(shown) < 8000


async def test_drift_is_looked_for_without_a_broker_and_told_once_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "app.json"
    items = Items({"app": item(path=str(path), on_drift="report")}, tmp_path / "state", drift_s=0.01)
    told: asyncio.Queue[Applied] = asyncio.Queue()

    async def reach(name: str, status: Applied) -> None:
        raise AssertionError("nothing is to be confirmed")

    async with asyncio.timeout(30):
        running = asyncio.create_task(items.run())
        items.attach(lambda name, status: told.put_nowait(status), reach)
        items.want("app", desired({"v": 1}, 1))
        assert (await told.get()).state == "applied"
        items.detach()
        path.write_text("by hand")
        while (last := items.appliers["app"].last) is None or last.state != "drifted":
            await asyncio.sleep(0.01)
        items.attach(lambda name, status: told.put_nowait(status), reach)
        path.write_text("by another hand")
        assert "by another hand" in (await told.get()).diff
        running.cancel()
        await asyncio.wait([running])


async def test_without_the_content_that_was_applied_the_fleets_values_put_it_back(tmp_path: Path) -> None:
    applier = await applied(tmp_path)
    (kept,) = (tmp_path / "state").rglob("*.applied")
    content = kept.read_bytes()
    kept.unlink()
    (tmp_path / "app.json").write_text("mine")
    again = FileApplier("app", applier.item, tmp_path / "state")
    assert await again.look() is None
    done = await again.apply(desired({"port": 1883, "host": "hub"}, 1))
    assert done
    assert (done.state, (tmp_path / "app.json").read_bytes()) == ("applied", content)
    kept.unlink()
    assert await FileApplier("app", applier.item, tmp_path / "state").look() is None
    assert kept.read_bytes() == content
