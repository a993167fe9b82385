"""Whatever happens during a query, the account sums to the known fleet."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from agent.fleet.accounting import Outcome, Tally
from agent.fleet.exits import Exit
from agent.fleet.presence import Device

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def device(name: str, state: str = "up", **ago: float) -> Device:
    return Device(id=name, state=state, seen=NOW - timedelta(**ago) if ago else NOW)


def test_counts_answers_and_names_who_is_absent() -> None:
    tally = Tally([device("pi-1"), device("pi-2"), device("pi-3"), device("pi-17", "absent", hours=3)])
    tally.answer("pi-1", True)
    tally.answer("pi-2", False)
    tally.answer("pi-3", None)
    outcome = tally.outcome(NOW, 5)
    assert outcome.summary() == "1 matched, 1 unmatched, 1 errored, 1 absent (pi-17, last seen 3 h ago)"
    assert outcome.exit_code() is Exit.FAILED


def test_waits_for_nobody_when_all_that_are_up_have_answered() -> None:
    tally = Tally([device("pi-1"), device("pi-2"), device("pi-17", "absent"), device("pi-18", "stopped")])
    assert tally.waiting() == {"pi-1", "pi-2"}
    tally.answer("pi-1", True)
    tally.answer("pi-2", False)
    assert tally.waiting() == set()


def test_a_second_answer_of_a_device_does_not_count() -> None:
    tally = Tally([device("pi-1")])
    assert tally.answer("pi-1", True)
    assert not tally.answer("pi-1", None)
    assert tally.outcome(NOW, 5).summary() == "1 matched, 0 unmatched, 0 errored, 0 absent"


def test_a_device_that_nobody_knew_joins_the_fleet() -> None:
    tally = Tally([])
    tally.answer("pi-new", True)
    assert tally.outcome(NOW, 5).total == 1


def test_reasons_tell_stopped_silent_unreachable_and_never_seen_apart() -> None:
    never = Device(id="d", state="absent")
    tally = Tally([device("a", "stopped", days=2), device("b"), device("c"), never])
    tally.unreachable("c")
    assert tally.outcome(NOW, 2.5).absent == {
        "a": "stopped 2 d ago",
        "b": "up but silent for 2.5 s",
        "c": "up but not reachable",
        "d": "never seen",
    }


def test_an_answer_after_being_called_unreachable_counts() -> None:
    tally = Tally([device("pi-1")])
    tally.unreachable("pi-1")
    assert tally.waiting() == set()
    assert tally.answer("pi-1", True)
    assert tally.outcome(NOW, 5).exit_code() is Exit.OK


def test_a_long_list_of_absent_devices_is_cut_but_counted() -> None:
    tally = Tally([device(f"pi-{number}", "absent", hours=3) for number in range(1, 9)])
    assert (
        tally.outcome(NOW, 5)
        .summary()
        .endswith(
            "8 absent (pi-1, last seen 3 h ago; pi-2, last seen 3 h ago; "
            "pi-3, last seen 3 h ago; pi-4, last seen 3 h ago; pi-5, last seen 3 h ago; and 3 more)"
        )
    )


def test_exit_code_of_an_interrupted_query_says_so() -> None:
    assert Outcome(1, 0, 1, {"pi-2": "up"}, interrupted=True).exit_code() is Exit.INTERRUPTED


def test_exit_code_of_a_query_with_someone_absent_is_incomplete() -> None:
    assert Outcome(1, 0, 0, {"pi-2": "up"}).exit_code() is Exit.INCOMPLETE


names = st.sampled_from([f"pi-{number}" for number in range(8)])


@given(
    known=st.dictionaries(names, st.sampled_from(["up", "stopped", "absent"])),
    events=st.lists(st.tuples(names, st.sampled_from([True, False, None, "unreachable"]))),
)
def test_the_account_always_sums_to_the_fleet(
    known: dict[str, str], events: list[tuple[str, bool | str | None]]
) -> None:
    tally = Tally([device(name, state) for name, state in known.items()])
    answered = set()
    for name, what in events:
        if isinstance(what, str):
            tally.unreachable(name)
        else:
            tally.answer(name, what)
            answered.add(name)
    outcome = tally.outcome(NOW, 5)
    assert outcome.total == len({*known, *answered})
    assert set(outcome.absent) == set(known) - answered
