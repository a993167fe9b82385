"""A filter is taken apart where it binds, and an explanation says the same as the filter."""

import json
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.explaining import columns_of, parts, stumble
from agent.facts.table import Facts, Table, many, single
from agent.payloads import QueryReply, QueryRequest
from agent.query import answer
from agent.sandbox import Limits

FACTS = Facts(
    [
        single("os", lambda: {"name": "Linux", "version": None}, ("name", "version")),
        single("mem", lambda: {"percent": 40}, ("percent",)),
        many("process", lambda: [{"name": "sshd"}], ("name",)),
        Table("tag", ("name", "value"), False, lambda: [("site", "roof")]),
    ]
)


def ask(where: str, explain: bool = True) -> QueryReply:
    return answer(QueryRequest(where=where, explain=explain), FACTS, "pi-7", Limits(time_ms=5000))


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("a.b = 1", [(0, "a.b = 1")]),
        ("(a.b = 1)", [(0, "a.b = 1")]),
        ("a.b AND c.d OR e.f", [(0, "a.b AND c.d OR e.f"), (1, "a.b AND c.d"), (2, "a.b"), (2, "c.d"), (1, "e.f")]),
        ("a.b BETWEEN 1 AND 2 AND c", [(0, "a.b BETWEEN 1 AND 2 AND c"), (1, "a.b BETWEEN 1 AND 2"), (1, "c")]),
        ("NOT (x OR y)", [(0, "NOT (x OR y)"), (1, "x OR y"), (2, "x"), (2, "y")]),
        ("EXISTS (SELECT 1 WHERE a AND b)", [(0, "EXISTS (SELECT 1 WHERE a AND b)")]),
        ("CASE WHEN a AND b THEN c END", [(0, "CASE WHEN a AND b THEN c END")]),
        ("x = 'a AND b' -- AND c", [(0, "x = 'a AND b'")]),
        ('"and" AND /* OR */ b', [(0, '"and" AND /* OR */ b'), (1, '"and"'), (1, "b")]),
        ("", []),
    ],
)
def test_parts(where: str, found: list[tuple[int, str]]) -> None:
    assert [(part.depth, part.text) for part in parts(where)] == found


def test_every_part_says_what_it_came_to_and_what_it_saw() -> None:
    reply = ask("mem.percent > 80 AND (tag.site = 'roof' OR os.version IS NULL)")
    assert reply.matched is False
    assert reply.columns == ("depth", "part", "result", "values")
    assert [(row[0], row[1], row[2], json.loads(row[3])) for row in reply.rows or ()] == [
        (0, "mem.percent > 80 AND (tag.site = 'roof' OR os.version IS NULL)", 0,
         {"mem.percent": 40, "tag.site": "roof", "os.version": None}),
        (1, "mem.percent > 80", 0, {"mem.percent": 40}),
        (1, "tag.site = 'roof' OR os.version IS NULL", 1, {"tag.site": "roof", "os.version": None}),
        (2, "tag.site = 'roof'", 1, {"tag.site": "roof"}),
        (2, "os.version IS NULL", 1, {"os.version": None}),
    ]  # fmt: skip


ATOMS = st.sampled_from(
    [
        "mem.percent > 80", "os.name = 'Linux'", "os.version = '12'", "tag.site IN ('roof', 'x')", "tag.none = 'x'",
        "mem.percent BETWEEN 1 AND 50", "EXISTS (SELECT 1 FROM process WHERE name = 'sshd' AND 1)", "os.version",
        "CASE WHEN mem.percent > 1 AND 1 THEN 0 ELSE 1 END", "'3 AND 4'", "0", "NULL",
    ]
)  # fmt: skip
FILTERS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["AND", "or", " And "]), inner).map(lambda three: " ".join(three)),
        inner.map(lambda one: f"({one})"),
        inner.map(lambda one: f"NOT ({one})"),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(FILTERS)
def test_an_explanation_says_the_same_as_the_filter_and_its_parts_add_up(where: str) -> None:
    plain, explained = ask(where, explain=False), ask(where)
    assert explained.error is None
    assert plain.matched == explained.matched
    rows = list(explained.rows or ())
    found = parts(where)
    for place, part in enumerate(found):
        if not part.binds:
            continue
        own = [rows[i][2] for i in _own(found, place)]
        words = f" {part.binds} ".join("NULL" if each is None else str(each) for each in own)
        whole = f"NOT {words}" if part.binds == "NOT" else words
        [[expected]] = sqlite3.connect(":memory:").execute(f"SELECT {whole}").fetchall()
        assert rows[place][2] == expected, (part, own)


def _own(found: list, place: int) -> list[int]:
    """The parts directly below one."""
    own = []
    for index in range(place + 1, len(found)):
        if found[index].depth <= found[place].depth:
            break
        if found[index].depth == found[place].depth + 1:
            own.append(index)
    return own


@pytest.mark.parametrize(
    ("where", "words", "column"),
    [
        ("os.name = 'x' ADN mem.percent > 1", "syntax error at 'ADN'; did you mean 'AND'?", 14),
        ("os.name lik 'a%'", "did you mean 'LIKE'?", 8),
        ("os.name = = 3", "syntax error at '='", 10),
        ("os.name = 'x' && mem.percent", "write AND", 15),
        ("os.name = 'x' AND", "the expression ends too early", 17),
    ],
)
def test_a_slip_is_marked(where: str, words: str, column: int) -> None:
    first, text, caret = str(ask(where).error).splitlines()
    assert words in first
    assert text == f"  {where}"
    assert caret == f"  {' ' * column}^"


def test_other_errors_stay_as_they_are() -> None:
    assert stumble("no such column: x.y", "x.y = 1") == "no such column: x.y"
    assert stumble('near "zzz": syntax error', "a = 1") == 'near "zzz": syntax error'


def test_a_text_without_quotes_is_explained() -> None:
    assert "a text stands in single quotes: 'Zorin'" in str(ask("os.name = Zorin").error)


def test_columns_are_named_once() -> None:
    assert columns_of("os.name = 'a.b' OR OS.Name = mem.percent") == ["OS.Name", "mem.percent"]
