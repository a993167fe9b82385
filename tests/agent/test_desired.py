"""Layers merge into values, values into bytes: laws of both."""

import configparser
import importlib
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
    assert patterns("pi-7", ["pumps", "pumps"]) == ["all.*", "schema.*", "group.pumps.*", "device.pi-7.*"]
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


yaml: Any = importlib.import_module("yaml")
TRICKY = [
    *("no", "On", "~", "null", "012", "1e3", "12:30", "2026-11-20", "- a", "a: b", "a #b", "", " a ", "\x85", "\u2028"),
    *("\x7f", "=", "<<", "---", "0x1f", ".5", "é", "\U0001f600", "*a", "&a", "!t", "%d", "@", "`", "a\tb", "a\nb\n"),
]


@given(OBJECTS)
def test_yaml_says_what_was_meant(values: dict[str, Any]) -> None:
    assert yaml.safe_load(render(values, "yaml")) == values
    assert render(dict(reversed(values.items())), "yaml") == render(values, "yaml")


@pytest.mark.parametrize("text", TRICKY)
def test_a_word_that_yaml_would_take_for_something_else_stays_text(text: str) -> None:
    values = {text or "empty": text, "list": [text, [text, {text or "empty": text}]]}
    assert yaml.safe_load(render(values, "yaml")) == values


def test_yaml_reads_like_yaml() -> None:
    values = {"mqtt": {"host": "hub.lan", "port": 1883, "on": False}, "peers": [{"a": 1, "b": [1, 2]}, "x y"], "e": {}}
    assert render(values, "yaml").decode() == (
        'e: {}\nmqtt:\n  host: hub.lan\n  "on": false\n  port: 1883\npeers:\n  - a: 1\n    b:\n      - 1\n      - 2\n'
        '  - "x y"\n'
    )


def test_yaml_knows_large_floats_and_what_json_smuggles() -> None:
    values = {"big": 1e16, "tiny": 5e-324, "inf": float("inf"), "deep": [None, True]}
    assert yaml.safe_load(render(values, "yaml")) == values


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, PLAIN | st.lists(PLAIN, max_size=2), max_size=3), max_size=3))
def test_ini_is_read_back_or_refused(values: dict[str, Any]) -> None:
    try:
        text = render(values, "ini").decode()
    except RenderError:
        return
    parser = configparser.RawConfigParser(strict=False, default_section="\0")
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    assert parser.sections() == sorted(values)
    for section, keys_ in values.items():
        for key, value in keys_.items():
            last = (value[-1:] or [None])[0] if isinstance(value, list) else value
            if last is not None:
                assert parser[section][key] == (str(last).lower() if isinstance(last, bool) else str(last))


def test_ini_reads_like_a_unit_file() -> None:
    values = {"debug": True, "Service": {"ExecStart": ["", "/bin/app -v"], "Nice": 5}, "Install": {"WantedBy": "x"}}
    assert render(values, "ini").decode() == (
        "debug=true\n\n[Install]\nWantedBy=x\n\n[Service]\nExecStart=\nExecStart=/bin/app -v\nNice=5\n"
    )


def test_a_template_is_filled_in() -> None:
    template = "listener $port\nhost ${mqtt.host} # $$5\nkeys ${keys}\nopt ${mqtt.a-b}\n"
    values = {"port": 1883, "mqtt": {"host": "hub", "a-b": True}, "keys": ["a"], "unused": 1}
    assert render(values, "template", template).decode() == 'listener 1883\nhost hub # $5\nkeys ["a"]\nopt true\n'


@pytest.mark.parametrize(
    ("values", "form", "template", "words"),
    [
        ({"s": {"a=b": 1}}, "ini", "", "key 's.a=b' cannot be"),
        ({"a\nb": {}}, "ini", "", "name of a section"),
        ({"s": {"a": "x\n[other]"}}, "ini", "", "key 's.a': the value has a line break"),
        ({"s": {"a": " x"}}, "ini", "", "spaces at its ends"),
        ({"s": {"a": {"b": 1}}}, "ini", "", "key 's.a': a section"),
        ({"k" * 2000: 1}, "yaml", "", "longer than YAML's 1024"),
        ({"a": {}}, "template", "${a.b}", "wants ${a.b}"),
        ({}, "template", "$a", "wants ${a}"),
        ({"a": 1}, "template", "cost 5$\n", "write $$ for a dollar sign"),
    ],
)
def test_what_cannot_be_written_is_refused(values: dict[str, Any], form: Any, template: str, words: str) -> None:
    with pytest.raises(RenderError) as caught:
        render(values, form, template)
    assert words in str(caught.value)
