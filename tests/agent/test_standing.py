"""Only differences are told, only those that hold; from them a reader has what the device has."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import QueryError
from agent.fleet.watches import Picture
from agent.payloads import Watch, WatchReport
from agent.standing import REPEAT_SECONDS, UNSENT_BYTES, UNSENT_REPORTS, Memory, Standing, keyed

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
COLUMNS = ("name", "state")


class Device:
    """A watch on a device, evaluated by hand; `told` is what it sent."""

    def __init__(self, **watch: object) -> None:
        self.watch = Watch(**watch)
        self.standing = Standing("pi-7", "units", 5, self.watch)
        self.clock = 1000.0
        self.told: list[WatchReport] = []

    @property
    def at(self) -> datetime:
        return NOON + timedelta(seconds=self.clock)

    def sees(self, *rows: tuple, after: float = 10.0, columns: tuple[str, ...] = COLUMNS) -> list[WatchReport]:
        self.clock += after
        reports = self.standing.rows(columns, rows, self.at, self.clock)
        self.told += reports
        return reports

    def fails(self, error: str, after: float = 10.0) -> list[WatchReport]:
        self.clock += after
        reports = self.standing.failed(error, self.at, self.clock)
        self.told += reports
        return reports

    def restarts(self, revision: int = 5, **watch: object) -> None:
        self.watch = Watch(**watch) if watch else self.watch
        memory = Memory.from_bytes(self.standing.remember().to_bytes())
        self.standing = Standing("pi-7", "units", revision, self.watch, memory)
        self.clock = 0.0  # a machine's clock begins anew


def test_the_first_state_is_whole_and_then_only_differences_are_told() -> None:
    device = Device()
    [first] = device.sees(("a", "up"), ("b", "up"))
    assert (first.full, first.rows, first.n) == ("registered", (("a", "up"), ("b", "up")), 1)
    assert device.sees(("b", "up"), ("a", "up")) == []
    [second] = device.sees(("b", "down"), ("a", "up"))
    assert (second.full, second.rows, second.n) == ("", None, 2)
    assert (second.added, second.removed) == ((("b", "down"),), (("b", "up"),))


def test_a_key_tells_rows_apart() -> None:
    assert keyed(COLUMNS, [("a", 1), ("b", 1)], "unit.NAME") == {"a": ("a", 1), "b": ("b", 1)}
    with pytest.raises(QueryError, match="no key: two rows have 'a'"):
        keyed(COLUMNS, [("a", 1), ("a", 2)], "name")
    with pytest.raises(QueryError, match="did you mean 'name'"):
        keyed(COLUMNS, [("a", 1)], "nam")


def test_a_change_is_told_when_it_held_with_the_time_at_which_it_began() -> None:
    device = Device(hold_s=30.0)
    device.sees(("a", "up"))
    assert device.sees(("a", "down")) == []
    began = device.at
    assert device.sees(("a", "down")) == []
    assert device.sees(("a", "down")) == []
    [told] = device.sees(("a", "down"))
    assert (told.since, told.at) == (began, device.at)
    assert device.sees(("a", "down")) == []


def test_what_flaps_is_counted_and_not_told() -> None:
    device = Device(hold_s=30.0, key="name")
    device.sees(("a", "up"))
    for state in ("down", "up", "down", "lost", "up"):
        assert device.sees(("a", state)) == []
    for _ in range(4):
        device.sees(("a", "up"), ("b", "up"))
    assert [(each.added, each.damped) for each in device.told[1:]] == [((("b", "up"),), 3)]


def test_changes_that_began_at_different_times_are_told_in_order() -> None:
    device = Device(hold_s=15.0)
    device.sees()
    device.sees(("a", "up"))
    device.sees(("a", "up"), ("b", "up"), after=1)
    reports = device.sees(("a", "up"), ("b", "up"), after=60)
    assert [each.added for each in reports] == [(("a", "up"),), (("b", "up"),)]
    assert [each.n for each in reports] == [2, 3]


def test_after_a_restart_the_state_is_sent_again_and_flapping_is_still_damped() -> None:
    device = Device(hold_s=30.0)
    device.sees(("a", "up"))
    device.restarts()
    [again] = device.sees(("a", "down"))
    assert (again.full, again.n, again.rows) == ("restarted", 2, (("a", "up"),))
    assert device.sees(("a", "up")) == []


def test_another_revision_begins_anew_and_goes_on_counting() -> None:
    device = Device()
    device.sees(("a", "up"))
    device.restarts(revision=9)
    [changed] = device.sees(("b", "up"))
    assert (changed.full, changed.n, changed.revision, changed.rows) == ("changed", 2, 9, (("b", "up"),))


def test_another_question_under_the_same_revision_begins_anew() -> None:
    device = Device(where="a")
    device.sees(("a", "up"))
    device.restarts(where="b", hold_s=30.0)
    [changed] = device.sees(("b", "up"))
    assert (changed.full, changed.rows) == ("changed", (("b", "up"),))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"revision":1,"watch":{"v":1},"n":1,"columns":[],"rows":[[[]]],"unsent":[]}',
        b'{"n":1}',
        b'{"revision":1,"watch":{},"n":1,"columns":[],"rows":[],"unsent":[]}',
        b'{"revision":1,"watch":{"v":1},"n":1,"columns":[],"rows":[],"unsent":[{}]}',
    ],
)
def test_a_damaged_memory_is_none(data: bytes) -> None:
    assert Memory.from_bytes(data) is None


def test_an_error_and_its_end_are_told_once() -> None:
    device = Device()
    device.sees(("a", "up"))
    [error] = device.fails("time limit")
    assert (error.error, error.rows, error.n) == ("time limit", None, 2)
    assert device.fails("another") == []
    [well] = device.sees(("a", "up"))
    assert (well.full, well.rows) == ("recovered", (("a", "up"),))
    assert device.sees(("a", "up")) == []


def test_an_error_that_does_not_hold_is_not_told() -> None:
    device = Device(hold_s=30.0)
    device.sees(("a", "up"))
    assert device.fails("slow") == []
    assert device.sees(("a", "up")) == []
    assert [device.fails("slow") != [] for _ in range(5)] == [False, False, False, True, False]


def test_the_state_is_repeated_after_losses_and_now_and_then() -> None:
    device = Device()
    device.sees(("a", "up"))
    device.standing.again("lost")
    assert [each.full for each in device.sees(("b", "up"))] == ["lost"]
    assert device.sees(("b", "up"), after=REPEAT_SECONDS - 1) == []
    assert [each.full for each in device.sees(("b", "up"), after=1)] == ["repeated"]


def test_other_columns_are_another_state() -> None:
    device = Device()
    device.sees(("a", "up"))
    [told] = device.sees(("a",), columns=("name",))
    assert (told.full, told.columns) == ("changed", ("name",))


# The reader's side


def shown(picture: Picture) -> set[tuple]:
    return set(picture.devices["pi-7"].rows)


def test_what_no_stream_had_is_told_again_after_a_restart_and_counts_once() -> None:
    device = Device()
    device.sees(("a", "up"))
    device.standing.sent(1)
    device.sees(("b", "up"))
    device.sees(("c", "up"))
    device.restarts()
    assert [(each.n, each.at) for each in device.standing.unsent()] == [
        (each.n, each.at.replace(microsecond=0)) for each in device.told[1:]
    ]
    picture = Picture(5)
    events = [
        (each.event, each.row["name"])
        for report in [*device.told, *device.standing.unsent(), *device.sees(("c", "up"))]
        for each in picture.take(report)
    ]
    assert events == [("added", "a"), ("removed", "a"), ("added", "b"), ("removed", "b"), ("added", "c")]


def test_a_repeated_first_state_is_no_news_and_that_of_a_new_card_is() -> None:
    device = Device()
    device.sees(("a", "up"))
    device.sees(("b", "up"))
    picture = Picture(5)
    for report in device.told:
        picture.take(report)
    assert picture.take(device.told[0]) == []
    other = Device()
    other.clock = 5000.0
    assert [each.event for each in picture.take(other.sees(("c", "up"))[0])] == ["removed", "added"]
    assert shown(picture) == {("c", "up")}


def test_unsent_reports_are_bounded_and_the_newest_kept() -> None:
    device = Device()
    for number in range(3 * UNSENT_REPORTS):
        device.sees((number, "up"))
    kept = [each.n for each in device.standing.remember().unsent]
    assert kept == list(range(2 * UNSENT_REPORTS + 1, 3 * UNSENT_REPORTS + 1))
    for number in range(4):
        device.sees((number, "x" * (UNSENT_BYTES // 4)))
    assert [each.n for each in device.standing.remember().unsent] == [3 * UNSENT_REPORTS + 4]


def test_a_lost_report_makes_a_picture_incomplete_until_the_next_full_state() -> None:
    device = Device()
    for rows in ([("a", "up")], [], [("b", "up")]):
        device.sees(*rows)
    picture = Picture(5)
    picture.take(device.told[0])
    assert picture.devices["pi-7"].complete
    picture.take(device.told[2])
    assert not picture.devices["pi-7"].complete
    device.standing.again("lost")
    [full] = device.sees(("b", "up"))
    assert [(each.event, each.row["name"]) for each in picture.take(full)] == [("removed", "a")]
    assert picture.devices["pi-7"].complete
    assert shown(picture) == {("b", "up")}


def test_repeated_reports_and_those_of_another_revision_are_no_news() -> None:
    device = Device()
    device.sees(("a", "up"))
    device.sees(("b", "up"))
    picture = Picture(5)
    for report in device.told:
        assert picture.take(report)
    assert picture.take(device.told[1]) == []
    assert Picture(6).take(device.told[0]) == []


def test_errors_recoveries_and_ends_are_differences() -> None:
    device = Device()
    device.sees(("a", "up"))
    device.fails("broken")
    device.sees(("a", "up"))
    device.told.append(device.standing.ended(device.at))
    picture = Picture(5)
    events = [each.event for report in device.told for each in picture.take(report)]
    assert events == ["added", "error", "recovered", "ended"]
    assert picture.devices == {}


STEPS = st.lists(
    st.one_of(st.sets(st.integers(0, 4)), st.sampled_from(["restart", "fail", "lose"])), min_size=1, max_size=25
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, hold=st.sampled_from([0.0, 15.0]), keyed_=st.booleans())
def test_who_read_everything_sees_what_the_device_told(steps: list, hold: float, keyed_: bool) -> None:
    device = Device(hold_s=hold, key="name" if keyed_ else "")
    picture = Picture(5)
    taken = 0
    for step in steps:
        if step == "restart":
            device.restarts()
            for report in device.standing.unsent():
                assert picture.take(report) == []
        elif step == "fail":
            device.fails("broken")
        elif step == "lose":
            device.standing.again("lost")
        else:
            device.sees(*((f"unit-{number % 3}" if not keyed_ else number, number) for number in sorted(step)))
        for report in device.told[taken:]:
            picture.take(WatchReport.from_bytes(report.to_bytes()))
        taken = len(device.told)
    for _ in range(3):  # whatever it was, it holds now
        device.sees(("end", 0))
    for report in device.told[taken:]:
        picture.take(WatchReport.from_bytes(report.to_bytes()))
    assert shown(picture) == {("end", 0)}
    assert picture.devices["pi-7"].complete
    assert [each.n for each in device.told] == list(range(1, len(device.told) + 1))
