"""A change is followed until everyone who can take it up has."""

import json
from datetime import UTC, datetime

import pytest

from agent.fleet.cli_config import is_behind
from agent.fleet.convergence import Convergence, Status, parse_status
from agent.fleet.exits import Exit
from agent.fleet.presence import Device


def up(*names: str) -> list[Device]:
    return [Device(id=name, state="up") for name in names]


def status(device: str, state: str = "applied", sequence: int = 9, error: str = "", **revisions: int) -> Status:
    dotted = {key.replace("_", "."): revision for key, revision in revisions.items()}
    return Status(device=device, name="m", state=state, revisions=dotted, error=error, sequence=sequence)


def test_waits_for_devices_that_have_the_item() -> None:
    change = Convergence(up("a", "b"), "all.m", 7, managed=["a", "b"])
    assert change.progress() == "0 applied, 2 waiting"
    assert change.report(status("a", all_m=7))
    assert not change.settled(patient=False)
    assert change.report(status("b", all_m=8))
    assert change.settled(patient=False)
    assert change.exit_code() is Exit.OK


def test_a_report_about_an_older_revision_does_not_count() -> None:
    change = Convergence(up("a"), "all.m", 7, managed=["a"])
    assert not change.report(status("a", all_m=6))
    assert change.state("a") == "waiting"


def test_refused_and_reverted_are_final_and_a_failure() -> None:
    change = Convergence(up("a", "b"), "all.m", 7, managed=["a", "b"])
    change.report(status("a", "refused", error="too long", all_m=7))
    change.report(status("b", "reverted", all_m=7))
    assert change.settled(patient=True)
    assert change.exit_code() is Exit.FAILED
    assert change.error("a") == "too long"
    assert change.progress() == "0 applied, 1 refused, 1 reverted"


def test_an_absent_device_is_not_waited_for_but_makes_it_incomplete() -> None:
    change = Convergence([*up("a"), Device(id="b", state="absent")], "all.m", 7, managed=["a", "b"])
    change.report(status("a", all_m=7))
    assert change.settled(patient=True)
    assert change.states() == {"a": "applied", "b": "absent"}
    assert change.exit_code() is Exit.INCOMPLETE


def test_an_absent_device_that_comes_back_counts() -> None:
    change = Convergence([Device(id="b", state="absent")], "all.m", 7, managed=["b"])
    change.report(status("b", all_m=7))
    assert change.exit_code() is Exit.OK


def test_a_device_that_never_had_the_item_is_waited_for_patiently_only() -> None:
    change = Convergence(up("a", "b"), "all.m", 7, managed=["a"])
    change.report(status("a", all_m=7))
    assert not change.settled(patient=True)
    assert change.settled(patient=False)
    assert change.progress() == "1 applied, 1 silent"
    assert change.exit_code() is Exit.OK


def test_devices_that_have_no_such_item_are_not_waited_for() -> None:
    change = Convergence(up("a", "b"), "all.m", 7, managed=["a"], itemless=["b"])
    change.report(status("a", all_m=7))
    assert change.settled(patient=True)
    assert change.progress() == "1 applied, 1 no item"
    assert change.exit_code() is Exit.OK


def test_a_change_of_an_item_that_nobody_has_is_no_success() -> None:
    assert Convergence(up("a"), "all.m", 7, itemless=["a"]).exit_code() is Exit.INCOMPLETE


def test_a_device_without_any_layer_left_is_released() -> None:
    change = Convergence(up("a"), "all.m", 7, managed=["a"], released=["a"], deleted=True)
    assert change.settled(patient=True)
    assert change.progress() == "0 applied, 1 released"
    assert change.exit_code() is Exit.OK


def test_nobody_applying_is_not_success() -> None:
    assert Convergence(up("a"), "all.m", 7).exit_code() is Exit.INCOMPLETE
    assert Convergence([], "all.m", 7).exit_code() is Exit.OK


def test_a_device_that_says_pending_is_waited_for() -> None:
    change = Convergence(up("a"), "all.m", 7, mark=5)
    assert not change.report(status("a", "pending", sequence=5))
    assert change.state("a") == "silent"
    assert change.report(status("a", "pending", sequence=6))
    assert change.state("a") == "waiting"


def test_after_a_deletion_newer_reports_without_the_key_count() -> None:
    change = Convergence(up("a", "b"), "all.m", 7, managed=["a", "b"], mark=20, deleted=True)
    assert not change.report(status("a", sequence=20))
    assert not change.report(status("a", sequence=21, all_m=6))
    assert change.report(status("a", sequence=22))
    assert change.report(status("b", sequence=23, all_m=7))
    assert change.settled(patient=True)


def test_strangers_are_ignored() -> None:
    change = Convergence(up("a"), "device.a.m", 7)
    assert not change.report(status("b", device_a_m=7))


def test_a_status_entry_is_read_and_a_broken_one_says_so() -> None:
    body = {"v": 1, "device": "pi", "name": "m", "state": "applied", "revision": 3, "revisions": {"all.m": 3}}
    good = parse_status("pi.m", json.dumps({**body, "at": "2026-11-20T12:00:00Z"}).encode(), 9)
    assert good is not None
    assert (good.state, good.revisions, good.at) == ("applied", {"all.m": 3}, datetime(2026, 11, 20, 12, tzinfo=UTC))
    bad = parse_status("pi.m", b"{}", 9)
    assert bad is not None
    assert bad.state == "unreadable"
    assert parse_status("nonsense", b"{}", 9) is None


@pytest.mark.parametrize(
    ("report", "behind"),
    [
        ({"all.m": 3, "group.lab.m": 5}, False),
        ({"all.m": 3}, True),
        ({"all.m": 2, "group.lab.m": 5}, True),
        ({"all.m": 3, "group.lab.m": 6}, False),
        ({"all.m": 3, "group.lab.m": 5, "device.pi.m": 4}, True),  # that layer is gone meanwhile
    ],
)
def test_behind_is_who_lacks_a_layer_at_its_newest(report: dict[str, int], behind: bool) -> None:
    said = Status(device="pi", name="m", state="applied", revisions=report)
    assert is_behind(said, ("lab",), {"all.m": 3, "group.lab.m": 5, "group.roof.m": 9}) is behind
    assert not is_behind(said, ("lab",), {})
