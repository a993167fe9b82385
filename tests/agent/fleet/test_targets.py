"""Devices by list, file and lot; tables made of answers."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import UsageError
from agent.fleet.reduce import Bar, Reducer, drawn
from agent.fleet.targets import Share, names, share
from agent.fleet.targets import drawn as lot

IDS = [f"pi-{number}" for number in range(200)]


def test_names_from_what_other_commands_print() -> None:
    text = io.StringIO('DEVICE  STATE\npi-1  up\n\n# a note\n{"device": "pi-2", "n": 1}\npi-3,roof\npi-1\n')
    assert names("-", text) == ("pi-1", "pi-2", "pi-3")


def test_a_list_that_is_none_says_where(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text('{"name": 1}\n')
    with pytest.raises(UsageError, match="line 1 is JSON without a device"):
        names(f"@{file}")
    with pytest.raises(UsageError, match="standard input' names no device"):
        names("-", io.StringIO(""))


@given(st.integers(1, 100), st.integers(1, 100), st.text(max_size=5))
def test_a_larger_share_has_all_of_the_smaller(one: int, two: int, seed: str) -> None:
    small, large = sorted((one, two))
    first, second = (set(lot(IDS, Share(percent=each), seed)) for each in (small, large))
    assert first <= second
    assert len(first) == max(1, int(len(IDS) * small / 100 + 0.5))


def test_the_seed_decides() -> None:
    assert lot(IDS, share("5"), "a") == lot(reversed(IDS), share("5"), "a")
    assert lot(IDS, share("5"), "a") != lot(IDS, share("5"), "b")
    assert lot([], share("5%"), "a") == []


@pytest.fixture
def reducer():
    made = Reducer()
    yield made
    made.close()


def test_columns_are_added_as_they_come(reducer: Reducer) -> None:
    reducer.add("pi-1", ["a"], [[1], [2**70]])
    reducer.add("pi-2", ["A", "b"], [[3, ["x"]]])
    columns, rows = reducer.ask("SELECT device, a, b FROM r ORDER BY a")
    assert columns == ["device", "a", "b"]
    assert list(rows) == [("pi-1", 1, None), ("pi-2", 3, "['x']"), ("pi-1", float(2**70), None)]


@pytest.mark.parametrize("statement", ["SELECT x FROM r", "SELEC", "SELECT 1; SELECT 2", "DROP TABLE r"])
def test_what_cannot_be_asked(reducer: Reducer, statement: str) -> None:
    with pytest.raises(UsageError, match="--reduce"):
        reducer.ask(statement)


def test_numbers_fall_into_ranges(reducer: Reducer) -> None:
    reducer.add("pi-1", ["v"], [[float(value)] for value in range(100)] + [[None]])
    bars = reducer.histogram("V")
    assert [bar.count for bar in bars] == [10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 1]
    assert bars[0].label == "0 – 9.9"
    assert bars[-1].label == "(none)"
    with pytest.raises(UsageError, match="no column 'w'"):
        reducer.histogram("w")


def test_bars_are_as_long_as_their_share() -> None:
    assert drawn([Bar("a", 10), Bar("bb", 5), Bar("c", 0)]) == [f" a  10  {'█' * 40}", f"bb   5  {'█' * 20}", " c   0"]
