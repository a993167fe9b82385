"""Tables for people and for programs; results apart from everything else."""

import io
import json

from agent.fleet.cli_devices import document
from agent.fleet.cli_query import labels
from agent.fleet.output import Output, cell, plain


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def make(shape: str) -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Output(shape, out, err), out, err


ROWS = [("pi-1", 3, ["lab", "x"], None), ("pi-10", True, {"a": 1}, "two\nlines")]
COLUMNS = ("device", "n", "groups", "note")


def test_aligned_text_for_people() -> None:
    output, out, _ = make("table")
    output.table(COLUMNS, ROWS)
    assert out.getvalue().splitlines() == [
        "DEVICE  N     GROUPS    NOTE",
        "pi-1    3     lab,x",
        'pi-10   true  {"a": 1}  two lines',
    ]


def test_json_keeps_values_as_they_are() -> None:
    output, out, _ = make("json")
    output.table(COLUMNS, ROWS)
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [
        {"device": "pi-1", "n": 3, "groups": ["lab", "x"], "note": None},
        {"device": "pi-10", "n": True, "groups": {"a": 1}, "note": "two\nlines"},
    ]


def test_csv_quotes_and_has_a_heading_even_without_rows() -> None:
    output, out, _ = make("csv")
    output.table(COLUMNS, ROWS)
    assert out.getvalue() == 'device,n,groups,note\npi-1,3,"lab,x",\npi-10,true,"{""a"": 1}","two\nlines"\n'
    output, out, _ = make("csv")
    output.table(COLUMNS, [], empty="nobody")
    assert out.getvalue() == "device,n,groups,note\n"


def test_an_empty_table_says_so_on_stderr() -> None:
    output, out, err = make("table")
    output.table(COLUMNS, [], empty="no devices")
    assert (out.getvalue(), err.getvalue()) == ("", "no devices\n")


def test_rows_are_printed_as_they_come() -> None:
    output, out, _ = make("table")
    table = output.stream(["device", "n"], widths=[6, 4])
    table.row(["pi-1", 1])
    assert out.getvalue() == "DEVICE  N\npi-1    1\n"
    table.row(["a-long-name", 2])
    assert out.getvalue().splitlines()[-1] == "a-long-name  2"


def test_progress_rewrites_itself_on_a_terminal_and_is_lines_in_a_file() -> None:
    err = Terminal()
    output = Output("table", io.StringIO(), err)
    output.progress("1 of 2")
    output.progress("1 of 2")
    output.progress("2 of 2")
    output.note("done")
    assert err.getvalue() == "1 of 2\r\033[K2 of 2\r\033[Kdone\n"
    output, _, plain_err = make("table")
    output.progress("1 of 2")
    output.progress("2 of 2")
    output.note("2 of 2")
    assert plain_err.getvalue() == "1 of 2\n2 of 2\n"


def test_rich_tables_on_a_terminal_do_not_take_values_for_markup() -> None:
    out = Terminal()
    Output("table", out, io.StringIO()).table(["device", "note"], [["pi-1", "[red]x[/red]"]])
    assert "[red]x[/red]" in out.getvalue()


def test_a_device_cannot_send_control_sequences_to_the_terminal() -> None:
    assert cell("a\x1b[31mb") == "a·[31mb"
    assert cell("x" * 100).endswith("…")
    assert cell(0.81787109375) == "0.818"


def test_columns_are_called_what_was_asked_for_and_never_the_same() -> None:
    assert labels(["name", "name"], "host.name, os.name") == ["host.name", "os.name"]
    assert labels(["name", "n"], "host.name, count(*) AS n") == ["host.name", "n"]
    assert labels(["a", "a", "b"], None) == ["a", "a_2", "b"]
    assert labels(["host.name"], None) == ["host.name"]


def test_a_device_in_lines() -> None:
    facts = {"os": {"name": "Linux", "id": None}, "net": [{"name": "lo", "mac": None}, {"name": "eth0"}], "none": []}
    assert document(facts) == [("os.name", "Linux"), ("net", "name=lo"), ("net", "name=eth0")]


def test_values_as_text() -> None:
    assert [plain(value) for value in (None, True, 1.5, [], ["a"], [1], {"a": 1})] == [
        "",
        "true",
        "1.5",
        "",
        "a",
        "[1]",
        '{"a": 1}',
    ]
