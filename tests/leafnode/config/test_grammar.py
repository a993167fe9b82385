"""The grammar: every spelling, every mistake with its line, and no text that does worse than ConfigError."""

import string
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafnode.config.grammar import DEPTH_MAX, parse
from leafnode.errors import ConfigError


def plain(text: str, **more: object) -> dict[str, object]:
    return {key: value.plain() for key, value in parse(text, **more).items()}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    ["a = 1", "a: 1", "a 1", "a:1", "a=1", "a\n1", "a\n\n 1", '"a": 1', "'a' = 1", "{a: 1}", '{\n "a": 1\n}', "a: 1;",
     "a: 1,", "a: 1 # c", "a: 1 // c", "# c\na: 1", "a: 1\r\n", "\ufeffa: 1", "a: 0; a: 1", "\ta:\t1\t"],
)  # fmt: skip
def test_spellings_of_a_pair(text: str) -> None:
    assert plain(text) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("word", "word"), ("127.0.0.1:4222", "127.0.0.1:4222"), ("nats://h:1", "nats://h:1"), ("a.>", "a.>"),
        ("a#b", "a#b"), ("30s", "30s"), ("1e3", "1e3"), ("+1", "+1"), ("5kx", "5kx"), ("1.5MB", "1.5MB"),
        ("null", "null"), ("yesx", "yesx"), ("$2a$11$abc", "$2a$11$abc"), ("a$b", "a$b"), ("x§y", "x§y"),
        (r"a\x41b", "aAb"),
        ('"two words"', "two words"), ("'raw \\n'", "raw \\n"), (r'"\t\n\r\"\\\x41"', '\t\n\r"\\A'),
        (r'"\xc3\xa9"', "é"), ('"a\nb"', "a\nb"), ('"$x"', "$x"), ('""', ""), ("''", ""), ('"#"', "#"),
        ("(\n a\n b )\n)", "\n a\n b )\n"),
        ("12", 12), ("-1", -1), ("1k", 1000), ("1KB", 1024), ("1kib", 1024), ("64MB", 64 << 20), ("1G", 10**9),
        ("1Gb", 1 << 30), ("2Ti", 2 << 40), ("0", 0), ("1.5", 1.5), ("-0.5", -0.5),
        ("true", True), ("YES", True), ("on", True), ("false", False), ("No", False), ("off", False),
        ("[]", []), ("[a, b]", ["a", "b"]), ("[a\nb]", ["a", "b"]), ("[ a , # c\n b, ]", ["a", "b"]), ("[1]", [1]),
        ("[[1], {a: 2}]", [[1], {"a": 2}]), ("{}", {}), ("{a: 1, b: 2}", {"a": 1, "b": 2}),
        ("{a 1; b 2}", {"a": 1, "b": 2}), ("{ a {b: 1}\n c [d] }", {"a": {"b": 1}, "c": ["d"]}),
    ],
)  # fmt: skip
def test_values(text: str, value: object) -> None:
    found = plain(f"k: {text}")["k"]
    assert found == value
    assert type(found) is type(value)


def test_a_date() -> None:
    assert parse("k: 2026-01-02T15:04:05Z")["k"].data == datetime(2026, 1, 2, 15, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["b {x: 1}", "b: {x: 1}", "b\n{\nx: 1\n}", "b{x: 1}".replace("{", " {"), "b = {\n  x = 1\n}"]
)
def test_spellings_of_a_block(text: str) -> None:
    assert plain(text) == {"b": {"x": 1}}


def test_lines_are_known() -> None:
    found = parse('a: 1\nb {\n  # c\n  c: "x\ny"\n  d: [\n 1\n 2 ]\n}', file="f")
    block = found["b"].data
    assert isinstance(block, dict)
    assert [found["a"].line, found["b"].line, block["c"].line, block["d"].line] == [1, 2, 4, 6]
    assert block["d"].data[1].where == "f:8"  # type: ignore[index, union-attr]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a 1 b 2", 1), ("x: {a: 1 b: 2}", 1), ("x: [a b]", 1), ("x: [a,,b]", 1), ("x: [,]", 1), ("x: [a;b]", 1),
        ("a:\n1", 1), ("a:", 1), ("a", 1), ("a: # c", 1), (": 1", 1), ("= 1", 1), ("a = = 1", 1), ("\n\na: 1,,", 3),
        ('a: "x', 1), ("a: 'x", 1), ("a: (\nx", 1), ("a: (x)", 1), ("x: [1", 1), ("ok: 1\nx: {a: 1", 2), ("{a: 1", 1),
        ("a: 1\n}", 2), ("{a: 1}\nb: 2", 2), ('a: "\\q"', 1), ('a: "\\xff"', 1), ("a: 99999999999999999999", 1),
        ("a: 99999P", 1), ("a: 2026-13-40T00:00:00Z", 1), ('"a: 1', 1), ("a: 1\nb: $c", 2), ("a: $a", 1),
        ("include", 1),
        ("include\nx", 1), ("include x", 1), ("jetstream{\n store_dir: \"/x\"\n}", 2),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_line(text: str, line: int) -> None:
    with pytest.raises(ConfigError, match=f"Parse error on line {line}: "):
        parse(text, file="f.conf")


def test_variables_come_from_the_nearest_block_above() -> None:
    assert plain("x: 1\nb { y: $x\n x: 2\n c { z: $x } }")["b"] == {"y": 1, "x": 2, "c": {"z": 2}}
    assert plain("x: [1, 2]\ny: $x")["y"] == [1, 2]


def test_a_referred_key_is_marked() -> None:
    found = parse("x: 1\ny: $x\nz: 2")
    assert [key for key, value in found.items() if value.used] == ["x"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("4444", 4444), ("30s", "30s"), ('"30s"', "30s"), ("true", True), ("[a, b]", ["a", "b"]),
     ("p@ss, word", "p@ss, word"), ("", ""), ('un"closed', 'un"closed'), ("$OTHER", 7), ("{a: 1", "{a: 1")],
)  # fmt: skip
def test_the_environment_is_read_like_a_value_or_else_is_text(text: str, value: object) -> None:
    assert plain("a: $V\nb: 1", environ={"V": text, "OTHER": "7"}) == {"a": value, "b": 1}


def test_a_circular_environment_is_an_error() -> None:
    with pytest.raises(ConfigError, match="refers to itself"):
        parse("a: $A", environ={"A": "[$B, $B]", "B": "$A"})


def test_keys_win_over_the_environment() -> None:
    assert plain("x: 1\na: $x", environ={"x": "2"})["a"] == 1


def include(files: dict[str, str]) -> dict[str, object]:
    def read(target: str, including: str) -> tuple[str, str]:
        if target not in files:
            raise ConfigError(f"open {target}: no such file")
        return files[target], target

    return plain(files["main"], file="main", read=read)


def test_included_pairs_stand_in_place() -> None:
    files = {
        "main": "a: 1\ninclude 'x.conf'\nb { include y.conf }\nc: $v",
        "x.conf": "v: 5 # c\n",
        "y.conf": "{ d: $a }",
    }
    assert include(files) == {"a": 1, "v": 5, "b": {"d": 1}, "c": 5}


def test_errors_in_included_files_name_both() -> None:
    with pytest.raises(ConfigError, match=r"line 2.*cannot include 'x'.*no such file.*in main"):
        include({"main": "a: 1\ninclude x"})
    with pytest.raises(ConfigError, match=r"line 1.*in x"):
        include({"main": "include x", "x": "a:"})


def test_a_file_that_includes_itself_is_an_error() -> None:
    with pytest.raises(ConfigError, match="nested deeper"):
        include({"main": "include main"})


def test_depth_is_bounded() -> None:
    deep = DEPTH_MAX + 1
    for text in ("a: " + "[" * deep + "]" * deep, "a " + "{a " * 10_000, "a: " + "[" * 100_000):
        with pytest.raises(ConfigError, match="nested deeper"):
            parse(text)
    parse("a: " + "[" * DEPTH_MAX + "]" * DEPTH_MAX)


ALPHABET = st.sampled_from([*"ab1-.$#'\"\\{}[]()=:,; \n\t/kM", "include ", "true", "\\x4", "$a", "//", "é"])


def outcome(text: str, **more: object) -> str:
    """The error's text, or nothing: any other exception fails the test."""
    try:
        parse(text, **more)  # type: ignore[arg-type]
    except ConfigError as error:
        return str(error)
    return ""


@given(st.lists(ALPHABET, max_size=60).map("".join))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    said = outcome(text, environ={"a": text}, read=lambda target, _: (text, target))
    assert not said or "Parse error" in said


@given(st.text(max_size=80))
def test_any_unicode_is_parsed_or_refused(text: str) -> None:
    said = outcome(text)
    assert not said or "Parse error" in said


SCALARS = st.one_of(
    st.booleans(), st.integers(-(2**62), 2**62), st.text(string.ascii_letters + ' \n\t"\\#{}[],;:$é', max_size=12)
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(string.ascii_letters, min_size=1), inner, max_size=4)
    ),
    max_leaves=12,
)


def written(value: object) -> str:
    """One of the grammar's spellings of a value."""
    if isinstance(value, dict):
        return "{" + "".join(f'"{key}": {written(inner)}\n' for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + "\n".join(written(inner) for inner in value) + "]"
    if isinstance(value, str):
        body = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
        return f'"{body}"'
    return str(value).lower() if isinstance(value, bool) else str(value)


@given(TREES)
def test_what_is_written_is_read_back(tree: object) -> None:
    assert plain(f"k: {written(tree)}") == {"k": tree}


@pytest.mark.parametrize(
    "text", ['a: "' + "\\\\" * 200_000, "a: " + "x" * 400_000, "a [" + "b\n" * 100_000, "#" * 400_000,
             " " * 400_000 + "=", "a: (" + ")x\n" * 100_000, "1" * 400_000, "a: " + "1" * 400_000,
             "a: " + "'" * 200_001]
)  # fmt: skip
def test_long_texts_take_linear_time(text: str) -> None:
    """Quadratic work on these would run into the suite's time limit rather than end in a moment."""
    assert len(outcome(text)) < 1000
