"""Layers of configuration: merging, origins, differences, and what may be typed on a command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import UsageError
from agent.fleet.layers import (
    ABSENT,
    Layer,
    at_path,
    difference,
    effective,
    flat,
    layers_of,
    merge,
    parse_assignments,
    parse_document,
    set_paths,
    split_key,
    without,
)
from agent.fleet.presence import Device


def test_nearest_wins_objects_merge_and_null_removes() -> None:
    under = {"a": {"x": 1, "y": 2}, "b": 1, "c": [1, 2]}
    over = {"a": {"y": 3, "z": 4}, "b": None, "c": [3]}
    assert merge(under, over) == {"a": {"x": 1, "y": 3, "z": 4}, "c": [3]}


def test_null_inside_a_new_object_leaves_no_trace() -> None:
    assert merge({}, {"a": {"x": None, "y": 1}}) == {"a": {"y": 1}}


def test_effective_value_knows_which_layer_decided_each_key() -> None:
    value, origins = effective(
        [
            ("all.m", {"port": 1, "tls": {"on": False}}),
            ("group.lab.m", {"tls": {"on": True}}),
            ("device.pi.m", {"port": 2}),
        ]
    )
    assert value == {"port": 2, "tls": {"on": True}}
    assert origins == {"port": "device.pi.m", "tls.on": "group.lab.m"}


def test_layers_of_a_device_in_its_own_order() -> None:
    assert [layer.key("m") for layer in layers_of("pi", ["b", "a"])] == [
        "all.m",
        "group.b.m",
        "group.a.m",
        "device.pi.m",
    ]


def test_keys_are_taken_apart_and_strangers_left_alone() -> None:
    assert split_key("group.lab.m") == (Layer("group", "lab"), "m")
    assert split_key("all.m") == (Layer("all"), "m")
    assert split_key("site.m") is None


def test_whom_a_layer_concerns() -> None:
    device = Device(id="pi", state="up", groups=("lab",))
    assert Layer("all").concerns(device)
    assert Layer("group", "lab").concerns(device)
    assert not Layer("group", "roof").concerns(device)
    assert Layer("device", "pi").concerns(device)
    assert not Layer("device", "pi-2").concerns(device)


def test_a_name_that_is_no_key_is_refused_before_anything_is_written() -> None:
    with pytest.raises(UsageError, match="config name"):
        Layer("all").key("a.b")


def test_assignments_are_json_or_text() -> None:
    given_ = ["port=1883", "tls.on=true", 'name="8"', "text=hello world", "gone=null", "list=[1,2]", "url=a=b"]
    assert parse_assignments(given_) == {
        "port": 1883,
        "tls": {"on": True},
        "name": "8",
        "text": "hello world",
        "gone": None,
        "list": [1, 2],
        "url": "a=b",
    }


@pytest.mark.parametrize("pair", ["port", "=1", "a..b=1", ".a=1"])
def test_what_is_no_assignment_is_refused_with_an_example(pair: str) -> None:
    with pytest.raises(UsageError, match=r"mqtt\.port=1883"):
        parse_assignments([pair])


def test_a_key_cannot_be_value_and_table() -> None:
    with pytest.raises(UsageError, match="plain value"):
        parse_assignments(["a=1", "a.b=2"])


def test_documents_are_objects() -> None:
    assert parse_document('{"a": 1}', "x.json") == {"a": 1}
    with pytest.raises(UsageError, match=r"x\.json is not JSON"):
        parse_document("a: 1", "x.json")
    with pytest.raises(UsageError, match="not an object"):
        parse_document("[1]", "x.json")


def test_a_patch_keeps_null_because_it_means_remove() -> None:
    assert set_paths({"a": {"x": 1, "y": 2}}, {"a": {"x": None}}) == {"a": {"x": None, "y": 2}}


def test_removing_keys_takes_emptied_parents_along() -> None:
    value = {"a": {"x": {"y": 1}}, "b": 2}
    assert without(value, ["a.x.y"]) == {"b": 2}
    assert value == {"a": {"x": {"y": 1}}, "b": 2}
    with pytest.raises(UsageError, match=r"'a\.z'"):
        without(value, ["a.z"])


def test_difference_by_path() -> None:
    old = {"a": {"x": 1, "y": 2}, "b": 1}
    new = {"a": {"x": 1, "y": 3}, "c": True}
    assert difference(old, new) == [("-", "a.y", 2), ("+", "a.y", 3), ("-", "b", 1), ("+", "c", True)]


values = st.recursive(
    st.integers() | st.booleans(),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=8,
)
tables = st.dictionaries(st.text("abc", min_size=1, max_size=2), values, max_size=4)


@given(tables, tables)
def test_a_difference_is_empty_only_between_equals(old: dict[str, object], new: dict[str, object]) -> None:
    assert (difference(old, new) == []) == (flat(old) == flat(new))


@given(tables)
def test_merging_nothing_changes_nothing(value: dict[str, object]) -> None:
    assert merge(value, {}) == value
    assert merge(value, value) == value


def test_an_object_that_lost_its_last_key_is_the_doing_of_the_layer_that_removed_it() -> None:
    value, origins = effective([("all.m", {"tls": {"on": True}}), ("group.lab.m", {"tls": {"on": None}})])
    assert value == {"tls": {}}
    assert origins == {"tls": "group.lab.m"}


def test_a_leaf_is_found_by_its_path_also_where_keys_have_dots() -> None:
    value = {"a": {"b.c": 1, "n": None}, "x.y": {"z": []}}
    assert {path: at_path(value, path) for path in flat(value)} == flat(value)
    assert at_path(value, "a.b") is ABSENT
