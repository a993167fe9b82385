"""Queries answer what was asked; a hostile one costs a bounded amount, reads nothing else and changes nothing."""

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.errors import QueryError
from agent.facts.table import Facts, Table, many, single
from agent.payloads import QueryReply, QueryRequest
from agent.query import answer, filter_statement
from agent.sandbox import MAX_SQL_LENGTH, Limits, Source, evaluate, like

PROCESSES = [{"name": f"p{number}", "pid": number, "command": "x" * 500} for number in range(200)]


def facts(collected: list[str] | None = None) -> Facts:
    seen = collected if collected is not None else []

    def note(name: str, values: object) -> object:
        seen.append(name)
        return values

    return Facts(
        [
            single("os", lambda: note("os", {"name": "Android", "version": None}), ("name", "version")),
            single("mem", lambda: note("mem", {"total": 2**63, "percent": 81.5}), ("total", "percent")),
            single("agent", lambda: {"device": "pi-7"}, ("device",)),
            single("pi", lambda: note("pi", {}), ("model",)),
            many("process", lambda: note("process", PROCESSES), ("name", "pid", "command")),
            Table("tag", ("name", "value"), False, lambda: [("site", "roof"), ("Rack-1", "b")]),
            Table("groups", ("name",), False, lambda: [("pumps",)]),
        ]
    )


def ask(limits: Limits = Limits(), **fields: object) -> QueryReply:  # noqa: B008  (frozen)
    reply = answer(QueryRequest(id="q", **fields), facts(), "pi-7", limits)
    assert QueryReply.from_bytes(reply.to_bytes()) == reply
    return reply


def rows(**fields: object) -> object:
    reply = ask(**fields)
    assert reply.error is None
    return reply.rows


def error(**fields: object) -> str:
    reply = ask(**fields)
    assert reply.matched is None
    assert reply.error
    return reply.error


def test_a_filter_works_as_it_stands() -> None:
    reply = ask(where="os.name = 'Android' AND mem.percent > 80")
    assert (reply.matched, reply.columns, reply.rows) == (True, ("os.name", "mem.percent"), (("Android", 81.5),))
    reply = ask(where="os.name = 'Android' AND mem.percent > 90")
    assert (reply.matched, reply.columns, reply.rows) == (False, None, None)


@pytest.mark.parametrize(
    "where",
    [
        "OS.NAME = 'Android'",
        '"os"."name" = \'Android\'',
        "[os].[name] = 'Android'",
        "os . name /* words */ = 'Android' -- and more",
        "os.name LIKE 'andr%'",
        "os.name IN ('iOS', 'Android')",
        "tag.site = 'roof' AND tag.absent IS NULL",
        "tag.\"Rack-1\" = 'b' AND tag.SITE = 'roof'",
        "EXISTS (SELECT 1 FROM tag WHERE name = 'site' AND value = 'roof')",
        "EXISTS (SELECT 1 FROM process WHERE name = 'p7') AND os.version IS NULL",
        "'pumps' IN (SELECT name FROM groups)",
        "(SELECT count(*) FROM process) = 200",
        "pi.model IS NULL",
        "'a);b' <> os.name",
        "1",
    ],
)
def test_these_match(where: str) -> None:
    assert ask(where=where).matched is True


def test_select_lists_and_statements_give_rows() -> None:
    assert rows(select="mem.percent * 2 AS double, tag.site") == ((163.0, "roof"),)
    assert rows(where="os.name <> ''", select="count(*)") == ((1,),)
    assert rows(sql="SELECT name FROM process WHERE pid < 2 ORDER BY pid") == (("p0",), ("p1",))
    assert rows(sql="SELECT os.name, groups.name FROM os, groups") == (("Android", "pumps"),)
    assert rows(sql="SELECT max(pid), group_concat(pid, '-') FROM process WHERE pid < 3") == ((2, "0-1-2"),)
    assert rows(sql="SELECT 9e999, x'00ff', NULL") == ((None, "00ff", None),)


def test_only_the_tables_that_are_named_are_collected() -> None:
    collected: list[str] = []
    answer(QueryRequest(where="os.name = 'mem.percent'"), facts(collected), "pi-7", Limits())
    assert collected == ["os"]


def test_an_empty_request_is_the_info_document() -> None:
    reply = answer(QueryRequest(), facts(), "pi-7", Limits())
    assert reply.info
    assert reply.info["tags"] == {"site": "roof", "Rack-1": "b"}
    assert reply.info["os"] == {"name": "Android", "version": None}
    assert "process" not in reply.info


def test_rows_and_bytes_are_limited_and_it_says_so() -> None:
    reply = ask(sql="SELECT pid FROM process", limit=3)
    assert (len(reply.rows or ()), reply.truncated) == (3, True)
    reply = ask(Limits(bytes=2000), sql="SELECT command FROM process", limit=1000)
    assert (len(reply.rows or ()), reply.truncated) == (4, True)
    assert len(ask(Limits(rows=5), sql="SELECT pid FROM process").rows or ()) == 5


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("oss.name = 1", "no such column: oss.name; did you mean 'os.name'?"),
        ("os.nam = 1", "no such column: os.nam; did you mean 'os.name'?"),
        ("os.xyzzy = 1", "no such column: os.xyzzy (os has name,version)"),
        ("process.name = 'x'", "process has many rows: ask EXISTS (SELECT 1 FROM process WHERE …)"),
        ("EXISTS (SELECT 1 FROM proces)", "no such table: proces; did you mean 'process'?"),
        ("os.name = ", "syntax error"),
        ("1) OR (1", "unexpected ')'"),
        ("1; DROP TABLE os", "unexpected ';'"),
        ("((1)", "a parenthesis is not closed"),
        ("os.name = 'x", "a ' is not closed"),
        ("\0", "null character"),
    ],
)
def test_an_error_is_in_sqlites_words_with_the_nearest_name(where: str, words: str) -> None:
    assert words in error(where=where)


BIG = ", ".join(f"process AS p{number}" for number in range(6))
LONG = "replace(replace(replace(replace('aaaaaaaa','a','aaaaaaaa'),'a','aaaaaaaa'),'a','aaaaaaaa'),'a','a')"
HOSTILE = [
    "PRAGMA user_version",
    "ATTACH DATABASE '{file}' AS x",
    "VACUUM INTO '{file}'",
    "CREATE TABLE x (a)",
    "CREATE TEMP VIEW x AS SELECT 1",
    "INSERT INTO os VALUES ('a', 'b')",
    "UPDATE os SET name = 'x'",
    "DELETE FROM os",
    "DROP TABLE os",
    "BEGIN",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM pragma_table_info('os')",
    "SELECT * FROM json_each('[1]')",
    "SELECT * FROM generate_series(1, 1000000000)",
    "SELECT load_extension('{file}')",
    "SELECT readfile('{file}')",
    "SELECT writefile('{file}', 'x')",
    "SELECT edit('x', 'touch {file}')",
    "SELECT fts3_tokenizer('x')",
    "SELECT zeroblob(1000000000)",
    "SELECT randomblob(1000000000)",
    "SELECT printf('%1000000000d', 1)",
    "SELECT format('%.*f', 1000000000, 1)",
    "SELECT hex(zeroblob(10))",
    "SELECT glob('*', 'x')",
    "SELECT trim('aaa', 'a')",
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT sum(x) FROM n",
    "WITH a AS (SELECT 1), b AS (SELECT * FROM a, a) SELECT * FROM b",
    "SELECT 1; SELECT 2",
    "SELECT " + "(" * 500 + "1" + ")" * 500,
    "SELECT " + "+".join("1" * 1500),
    "SELECT " + ",".join("1" * 500),
    " UNION ".join(["SELECT 1"] * 100),
    "SELECT ?",
    "SELECT '" + "a" * MAX_SQL_LENGTH + "'",
    "SELECT 'x' LIKE '" + "%a" * 200 + "'",
    "",
    ";",
]
"""None of these may give rows."""


@pytest.mark.parametrize("sql", [each for each in HOSTILE if each.strip()])
def test_hostile_statements_are_refused(sql: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert error(sql=sql.replace("{file}", str(file)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT count(*) FROM {BIG}",
        f"SELECT p0.command || p1.command || p2.pid FROM {BIG} ORDER BY 1",
        f"SELECT DISTINCT {LONG} || p0.pid || p1.pid || p2.pid FROM {BIG}",
        f"SELECT count(*) FROM {BIG} WHERE {LONG} LIKE '%a_a%b%' || p0.pid || p1.pid || p2.pid || p3.pid",
        f"SELECT sum(length({LONG} || {LONG})) FROM {BIG}",
        f"SELECT count(*) FROM {BIG} WHERE instr({LONG}, p0.pid || p1.pid || p2.pid || p3.pid || {LONG})",
    ],
)
def test_what_would_take_for_ever_ends(sql: str) -> None:
    assert error(sql=sql) in (
        "the expression took longer than 100 ms",
        "the expression needed more than 48 MiB",
        "string or blob too big",
    )


def test_the_time_limit_counts_also_while_a_statement_is_prepared_and_in_our_like() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.001
        return now[0]

    source = Source("t", ("a",), [("x",)] * 1000)
    with pytest.raises(QueryError, match="longer than 50 ms"):
        evaluate("SELECT " + ", ".join(["a"] * 150) + " FROM t", [source], Limits(time_ms=50), clock)
    with pytest.raises(QueryError, match="longer than 50 ms"):
        evaluate("SELECT count(*) FROM t WHERE a LIKE '%x%'", [source], Limits(time_ms=50), clock)


WORDS = st.sampled_from(
    """SELECT FROM WHERE os mem process tag . name percent pid , ( ) * = < > || + - / 'x' 1 0.5 NULL AND OR NOT IN
    LIKE IS EXISTS UNION ALL ORDER BY LIMIT JOIN AS CASE WHEN THEN END count max replace printf zeroblob WITH
    RECURSIVE PRAGMA ATTACH INSERT INTO DELETE VALUES "os" [mem] `tag` -- /* */ ; '' " ' x'00' 9e999 CAST TEXT
    OVER PARTITION group_concat instr substr sqlite_master BETWEEN ESCAPE GLOB MATCH COLLATE NOCASE EXPLAIN""".split()  # noqa: SIM905  (a page of words)
)


@pytest.fixture(autouse=True)
def untouched(tmp_path: Path) -> Iterator[None]:
    """No test of this file leaves a file behind in the working folder."""
    before = set(os.listdir("."))
    yield
    assert {name for name in set(os.listdir(".")) - before if not name.startswith(".")} == set()


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, max_size=14).map(" ".join) | st.text(max_size=40))
@example("os.name = 'x' /*")
@example("'")
@example("[")
@example("\ud800")
def test_no_expression_hurts(text: str) -> None:
    """Whatever is asked, the answer is an answer that JSON can carry; the tables are the same afterwards."""
    for request in (QueryRequest(where=text), QueryRequest(select=text), QueryRequest(sql=text)):
        reply = answer(request, facts(), "pi-7", Limits(time_ms=20))
        assert reply.device == "pi-7"
        json.loads(reply.to_bytes().decode(errors="replace"))


@settings(max_examples=200)
@given(st.text("aAb%_é", max_size=8), st.text("aAbBé\n.", max_size=12))
def test_our_like_is_sqlites(pattern: str, text: str) -> None:
    connection = sqlite3.connect(":memory:")
    try:
        expected = connection.execute("SELECT ? LIKE ?", (text, pattern)).fetchone()[0]
    finally:
        connection.close()
    assert like(pattern, text) == bool(expected)


def test_a_broken_source_costs_its_own_row_only() -> None:
    def fails() -> dict[str, object]:
        raise OSError("sensor gone")

    some = Facts([single("os", lambda: {"name": "x"}, ("name",)), single("pi", fails, ("model",)),
                  Table("tag", ("name", "value"), False, list)])  # fmt: skip
    reply = answer(QueryRequest(where="os.name = 'x' AND pi.model IS NULL"), some, "d", Limits())
    assert reply.matched is True


def test_the_statement_of_a_filter_names_its_tables_once() -> None:
    statement, tags = filter_statement("os.name = 'a' OR OS.version = 'b' OR tag.x = 1", None, facts())
    assert statement.count('"os",') == 1
    assert tags == ["x"]
