"""A managed file is the old one or the new one, whatever happens between two steps; hooks, templates, owners."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from agent import apply, record
from agent.apply import FileApplier
from agent.errors import ConfigError
from agent.hook import HookApplier
from agent.settings import load
from tests.agent.applying import desired, die_at, item

STEPS = ("prepare", "validate", "keep", "rename", "reload", "verify", "record")
OLD = "the operator's own\n"
IN_PLACE = STEPS[STEPS.index("rename") + 1 :]


def content(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, sort_keys=True) + "\n"


@pytest.mark.parametrize("good", [True, False], ids=["good", "bad"])
@pytest.mark.parametrize("step", STEPS)
async def test_sigkill_at_each_step_ends_with_the_old_bytes_or_the_new(tmp_path: Path, step: str, good: bool) -> None:
    path, state = tmp_path / "app.json", tmp_path / "state"
    keys = {
        "path": str(path),
        "mode": "0640",
        "reload": ["true"],
        "verify": ["sh", "-c", f"! grep -q broken {path}"],
    }
    path.write_text(OLD)
    path.chmod(0o600)
    values = {"v": "new" if good else "broken"}
    die_at(step, state, keys, values, 1)
    assert path.read_text() == (content(values) if step in IN_PLACE and (good or step != "record") else OLD)
    applier = FileApplier("app", item(**keys), state)
    applied = await applier.apply(desired(values, 1))
    assert applied
    if good:
        assert (applied.state, path.read_text(), path.stat().st_mode & 0o7777) == ("applied", content(values), 0o640)
    else:
        assert (applied.state, path.read_text(), path.stat().st_mode & 0o7777) == ("reverted", OLD, 0o600)
        assert "verify" in applied.error
    assert await applier.apply(desired(values, 1)) is None
    assert await FileApplier("app", item(**keys), state).apply(desired(values, 1)) is None  # and it is remembered


async def test_what_a_crash_left_unverified_is_undone_when_the_next_revision_is_refused(tmp_path: Path) -> None:
    path, state = tmp_path / "app.json", tmp_path / "state"
    keys = {"path": str(path), "reload": ["true"], "validate": ["sh", "-c", "! grep -q invalid $0", "{file}"]}
    path.write_text(OLD)
    die_at("verify", state, keys, {"v": "unverified"}, 1)
    assert "unverified" in path.read_text()
    applied = await FileApplier("app", item(**keys), state).apply(desired({"v": "invalid"}, 2))
    assert applied
    assert (applied.state, path.read_text()) == ("reverted", OLD)
    assert "validate" in applied.error


async def test_a_hook_gets_the_values_once_and_its_exit_code_decides(tmp_path: Path) -> None:
    got = tmp_path / "got"
    script = f"cat >> {got}; echo >> {got}; ! tail -1 {got} | grep -q bad || {{ echo it is bad >&2; exit 3; }}"
    hook = item(hook=["sh", "-c", script])
    applier = HookApplier("net", hook, tmp_path / "state")
    applied = await applier.apply(desired({"b": 1, "a": "é"}, 1))
    assert applied
    assert applied.state == "applied"
    assert await applier.apply(desired({"b": 1, "a": "é"}, 1)) is None
    again = await HookApplier("net", hook, tmp_path / "state").apply(desired({"b": 1, "a": "é"}, 2))
    assert again
    assert (again.state, again.revision) == ("applied", 2)  # the same values: it is not run again
    assert got.read_text() == '{"a": "é", "b": 1}\n'
    refused = await applier.apply(desired({"v": "bad"}, 3))
    assert refused
    assert (refused.state, "ended with 3: it is bad" in refused.error) == ("refused", True)
    assert await applier.apply(desired({"v": "bad"}, 3)) is None


async def test_a_template_on_the_device_is_filled_in_or_nothing_is_touched(tmp_path: Path) -> None:
    path, template = tmp_path / "app.conf", tmp_path / "app.in"
    keys = {"path": str(path), "format": "template", "template": str(template)}
    applier = FileApplier("app", item(**keys), tmp_path / "state")
    missing = await applier.apply(desired({"port": 1}, 1))
    assert missing
    assert (missing.state, str(template) in missing.error) == ("refused", True)
    template.write_text("listener $port\n")
    done = await applier.apply(desired({"port": 1}, 2))
    assert done
    assert (done.state, path.read_text()) == ("applied", "listener 1\n")
    gap = await applier.apply(desired({"prt": 1}, 3))
    assert gap
    assert (gap.state, path.read_text()) == ("refused", "listener 1\n")
    assert "${port}" in gap.error


async def test_the_owner_is_set_or_the_file_refused(tmp_path: Path) -> None:
    path = tmp_path / "app.json"
    mine = FileApplier("a", item(path=str(path), owner=f"{os.geteuid()}:{os.getegid()}"), tmp_path / "state")
    applied = await mine.apply(desired({"v": 1}, 1))
    assert applied
    assert applied.state == "applied"
    stranger = FileApplier("b", item(path=str(path), owner="nobody-of-that-name"), tmp_path / "state")
    refused = await stranger.apply(desired({"v": 2}, 1))
    assert refused
    assert (refused.state, "no such user" in refused.error, json.loads(path.read_text())) == ("refused", True, {"v": 1})
    other = FileApplier("c", item(path=str(path), owner="12345:12345"), tmp_path / "state")
    given = await other.apply(desired({"v": 3}, 1))
    assert given
    if os.geteuid() == 0:
        assert (given.state, path.stat().st_uid, path.stat().st_gid) == ("applied", 12345, 12345)
    else:
        assert (given.state, "only root" in given.error) == ("refused", True)


async def test_a_secret_is_not_in_the_reason(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"path": str(tmp_path / "key"), "format": "text", "secret": True}
    keys |= {"validate": ["sh", "-c", "cat $0; false", "{file}"]}
    applied = await FileApplier("key", item(**keys), tmp_path / "state").apply(desired({"text": "hunter2"}, 1))
    assert applied
    assert applied.state == "refused"
    assert "hunter2" not in applied.error


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("", "either key 'path' or key 'hook'"),
        ('path = "/a"\nhook = ["b"]', "either key 'path' or key 'hook'"),
        ('hook = ["b"]\nmode = "0600"', "key 'mode' is for files"),
        ('path = "/a"\nformat = "template"', "belong together"),
        ('path = "/a"\nformat = "template"\ntemplate = "b"', "key 'template' must be absolute"),
        ('path = "/a"\nowner = "a:b:c"', "USER or USER:GROUP"),
    ],
)
def test_settings_that_contradict_themselves_are_errors(tmp_path: Path, keys: str, words: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(f"[config.x]\n{keys}\n")
    with pytest.raises(ConfigError, match=words):
        load(file)


# Changes that can cut the link


def cutting(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "net.json").write_text(OLD)
    reload = ["sh", "-c", f"echo r >> {tmp_path}/reloads"]
    return {"path": str(tmp_path / "net.json"), "reload": reload, "confirm_s": 60.0}


async def test_a_change_that_is_confirmed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = cutting(tmp_path)
    applier = FileApplier("app", item(**keys), tmp_path / "state")
    pending = await applier.apply(desired({"v": 1}, 1))
    assert pending
    assert (pending.state, applier.unconfirmed, applier.may_confirm) == ("pending", True, False)
    assert await applier.confirm("it is too early to tell") is None
    pass_time(monkeypatch, 4)
    assert applier.may_confirm
    confirmed = await applier.confirm("")
    assert confirmed
    assert (confirmed.state, applier.unconfirmed) == ("applied", False)
    assert Path(keys["path"]).read_text() == content({"v": 1})


async def test_a_change_after_which_the_hub_is_out_of_reach_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = cutting(tmp_path)
    applier = FileApplier("app", item(**keys), tmp_path / "state")
    await applier.apply(desired({"v": 1}, 1))
    pass_time(monkeypatch, 40)
    assert await applier.confirm("no answer") is None
    pass_time(monkeypatch, 61)
    undone = await applier.confirm("no answer")
    assert undone
    assert (undone.state, undone.error) == ("reverted", "the hub was not reached within 60 s: no answer")
    assert Path(keys["path"]).read_text() == OLD
    assert (tmp_path / "reloads").read_text() == "r\nr\n"
    assert await applier.apply(desired({"v": 1}, 1)) is None  # not again, until a newer revision


def pass_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The next looks at the clock find it `seconds` further on than the change, in the same boot."""
    boot, since_boot, unix = record.moment()
    monkeypatch.setattr(apply, "moment", lambda: (boot, since_boot + seconds, unix + seconds))


@pytest.mark.parametrize("step", ["reload", "verify", "confirm"])
async def test_a_crash_within_the_window_leaves_the_rest_of_it(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = cutting(tmp_path)
    die_at(step, tmp_path / "state", keys, {"v": 1}, 1)
    applier = FileApplier("app", item(**keys), tmp_path / "state")
    assert (applier.unconfirmed, applier.may_confirm) == (True, False)
    again = await applier.confirm("it is too early to tell")  # goes on: reload, verify, and a window from there
    assert again
    assert (again.state, again.verified) == ("pending", True)
    pass_time(monkeypatch, 4)
    confirmed = await applier.confirm("")
    assert confirmed
    assert (confirmed.state, Path(keys["path"]).read_text()) == ("applied", content({"v": 1}))


@pytest.mark.parametrize("boot", ["this boot", "another boot"])
@pytest.mark.parametrize("step", ["reload", "verify", "confirm", "record"])
async def test_a_crash_after_which_the_window_is_over_is_undone(
    tmp_path: Path, step: str, boot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = cutting(tmp_path)
    if step == "record":  # confirmed, and not recorded
        first = FileApplier("app", item(**keys), tmp_path / "state", lambda name: die(name == "record"))
        await first.apply(desired({"v": 1}, 1))
        with pytest.raises(DiedError):
            await first.confirm("")
    else:
        die_at(step, tmp_path / "state", keys, {"v": 1}, 1)
    applier = FileApplier("app", item(**keys), tmp_path / "state")
    assert applier.unconfirmed
    if boot == "this boot":
        pass_time(monkeypatch, 70)
    else:
        monkeypatch.setattr(apply, "moment", lambda: ("another", 1.0, record.moment()[2] + 70))
    undone = await applier.confirm("there is no broker to ask")
    assert undone
    assert (undone.state, Path(keys["path"]).read_text()) == ("reverted", OLD)
    assert "not reached within 60 s" in undone.error


@pytest.mark.parametrize("step", ["validate", "keep", "rename"])
async def test_a_crash_before_the_change_leaves_nothing_to_confirm(tmp_path: Path, step: str) -> None:
    keys = cutting(tmp_path)
    die_at(step, tmp_path / "state", keys, {"v": 1}, 1)
    applier = FileApplier("app", item(**keys), tmp_path / "state")
    assert not applier.unconfirmed
    assert Path(keys["path"]).read_text() == OLD


def test_a_clock_that_stood_still_or_jumped_gives_no_more_than_the_window() -> None:
    attempt = record.Applied(state="pending", confirm_s=60, began=("a", 100.0, 1_000_000.0))
    assert record.left_s(attempt, ("a", 130.0, 0.0)) == 30
    assert record.left_s(attempt, ("b", 1.0, 1_000_020.0)) == 40
    assert record.left_s(attempt, ("b", 1.0, 5.0)) == 60
    assert record.left_s(attempt, ("b", 1.0, 9_000_000.0)) == 0


class DiedError(Exception):
    """Stands for the end of the process."""


def die(now: bool) -> None:
    if now:
        raise DiedError
