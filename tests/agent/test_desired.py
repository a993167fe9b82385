"""Layers merge into values, values into bytes: laws of both."""

import json
import shlex
import subprocess
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.desired import Layer, item_of, keys, merge, patterns, resolve
from agent.render import RenderError, render

NAMES = st.text('ab-_ é"\\.\n', min_size=0, max_size=4)
PLAIN = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=12)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=12
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)


def layer(key: str, revision: int, values: Any) -> Layer:
    return Layer(key, revision, json.dumps(values).encode())


def test_the_nearest_layer_wins_and_objects_merge_deeply() -> None:
    order = keys("app", "pi-7", ["pumps", "north"])
    assert order == ["all.app", "group.pumps.app", "group.north.app", "device.pi-7.app"]
    layers = [
        layer("all.app", 5, {"a": 1, "deep": {"x": 1, "y": 1}, "list": [1, 2]}),
        layer("group.pumps.app", 9, {"a": 2, "deep": {"y": 2}}),
        layer("group.north.app", 3, {"a": 3, "list": [3]}),
        layer("device.pi-7.app", 7, {"deep": {"x": None}, "own": True}),
    ]
    desired = resolve({each.key: each for each in layers}, order)
    assert desired.values == {"a": 3, "deep": {"y": 2}, "list": [3], "own": True}
    assert (desired.revision, desired.revisions["all.app"]) == (9, 5)


def test_layers_of_nobody_are_nothing() -> None:
    desired = resolve({"all.other": layer("all.other", 1, {})}, keys("app", "pi-7", []))
    assert (desired.values, desired.revisions, desired.revision) == ({}, {}, 0)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"5", b"\xff", b"[" * 100_000])
def test_a_layer_that_is_no_object_names_itself(body: bytes) -> None:
    desired = resolve({"all.app": Layer("all.app", 4, body)}, keys("app", "pi-7", []))
    assert desired.error.startswith("all.app (revision 4) is not")
    assert desired.revision == 4


def test_what_is_watched_covers_every_layer() -> None:
    assert patterns("pi-7", ["pumps", "pumps"]) == ["all.*", "group.pumps.*", "device.pi-7.*"]
    assert [item_of(key) for key in keys("app", "pi-7", ["pumps"])] == ["app", "app", "app"]


@given(OBJECTS, OBJECTS)
def test_merging_again_changes_nothing_and_the_nearer_value_wins(below: Any, above: Any) -> None:
    merged = merge(below, above)
    assert merge(merged, above) == merged
    assert merge(below, {}) == merge({}, below) == below
    assert set(merged) == set(below) | set(above)
    assert all(merged[key] == value for key, value in above.items() if not isinstance(value, dict))
    assert all(merged[key] == value for key, value in below.items() if key not in above)


@given(OBJECTS)
def test_json_and_toml_say_what_was_meant(values: dict[str, Any]) -> None:
    assert json.loads(render(values, "json")) == values
    assert tomllib.loads(render(values, "toml").decode()) == values
    assert render(dict(reversed(values.items())), "toml") == render(values, "toml")


def test_toml_reads_like_toml() -> None:
    values = {"b": 1, "a": "x", "log": {"level": "info"}, "peers": [{"name": "n1"}, {"name": "n2"}]}
    assert render(values, "toml").decode() == (
        'a = "x"\nb = 1\n\n[log]\nlevel = "info"\n\n[[peers]]\nname = "n1"\n\n[[peers]]\nname = "n2"\n'
    )


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,5}", fullmatch=True), st.text(max_size=12) | st.integers(), max_size=3))
def test_env_lines_are_read_back_by_a_shell(values: dict[str, Any]) -> None:
    if any(isinstance(value, str) and set(value) & set("\n\0\r") for value in values.values()):
        return
    for line in render(values, "env").decode().split("\n")[:-1]:
        name, _, quoted = line.partition("=")
        assert shlex.split(quoted.replace("\\$", "$").replace("\\`", "`"), posix=True) == [str(values[name])]


def test_a_real_shell_reads_the_env_format() -> None:
    wanted = "a \"b\" $HOME `id` \\ 'c' é"
    script = render({"X": wanted, "N": 5, "T": True}, "env").decode() + 'printf "%s|%s|%s" "$X" "$N" "$T"'
    assert subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout.decode() == f"{wanted}|5|true"


@pytest.mark.parametrize(
    ("values", "form", "words"),
    [
        ({"text": 5}, "text", "format text needs"),
        ({"text": "x", "y": 1}, "text", "not 'y'"),
        ({"a b": "x"}, "env", "'a b' is no name"),
        ({"A": {"b": 1}}, "env", "text and numbers only"),
        ({"A": "x\ny"}, "env", "line break"),
        ({"a": {"n": 2**63}}, "toml", "a.n: the number"),
        ({"a": [None]}, "toml", "a: TOML has no null"),
    ],
)
def test_what_does_not_fit_names_the_key(values: dict[str, Any], form: Any, words: str) -> None:
    with pytest.raises(RenderError) as caught:
        render(values, form)
    assert words in str(caught.value)


def test_text_is_the_text() -> None:
    assert render({"text": "héllo\n"}, "text") == "héllo\n".encode()
