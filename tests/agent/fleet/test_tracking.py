"""What became of a command: steps are folded to one state a device, and outcomes are final."""

import json

from agent.fleet.exits import Exit
from agent.fleet.tracking import Result, Tracker, exit_code, fold, parse_result


def step(device: str, state: str, command: str = "C") -> Result:
    return Result(command=command, device=device, state=state)


def test_a_device_goes_from_queued_to_running_to_an_outcome() -> None:
    tracker = Tracker("C", ["a", "b"], up=["a", "b"])
    assert tracker.progress() == "0 succeeded, 2 queued"
    assert tracker.report(step("a", "running"))
    assert tracker.progress() == "0 succeeded, 1 running, 1 queued"
    assert tracker.report(step("a", "succeeded"))
    assert tracker.pending() == ["b"]
    assert tracker.exit_code() is Exit.INCOMPLETE


def test_an_outcome_is_final() -> None:
    tracker = Tracker("C", ["a"], up=["a"])
    tracker.report(step("a", "failed"))
    assert not tracker.report(step("a", "running"))
    assert not tracker.report(step("a", "succeeded"))
    assert tracker.exit_code() is Exit.FAILED


def test_absent_devices_are_not_waited_for_until_they_say_something() -> None:
    tracker = Tracker("C", ["a", "b"], up=["a"])
    assert tracker.pending() == ["a"]
    tracker.report(step("b", "running"))
    assert tracker.pending() == ["a", "b"]


def test_exit_codes() -> None:
    assert exit_code(["succeeded", "succeeded"]) is Exit.OK
    assert exit_code(["succeeded", "queued"]) is Exit.INCOMPLETE
    assert exit_code(["running"]) is Exit.INCOMPLETE
    for bad in ("failed", "timed_out", "unknown", "refused", "expired"):
        assert exit_code(["succeeded", "queued", bad]) is Exit.FAILED


def test_results_are_read_from_the_wire() -> None:
    body = {"v": 1, "id": "C", "device": "pi", "step": "outcome", "outcome": "failed", "exit_code": 3, "stderr": "no"}
    result = parse_result("C", "pi", json.dumps(body).encode())
    assert (result.state, result.exit_code, result.stderr) == ("failed", 3, "no")
    started = parse_result("C", "pi", json.dumps({**body, "step": "started", "outcome": None}).encode())
    assert (started.state, started.exit_code) == ("running", None)


def test_a_result_that_cannot_be_read_is_unknown_and_says_why() -> None:
    result = parse_result("C", "pi", b"[]")
    assert result.state == "unknown"
    assert "not a JSON object" in result.error


def test_fold_keeps_the_latest_step_and_no_step_after_an_outcome() -> None:
    steps = [step("a", "running"), step("b", "running"), step("a", "succeeded"), step("a", "running")]
    assert [(each.device, each.state) for each in fold(steps)] == [("a", "succeeded"), ("b", "running")]
