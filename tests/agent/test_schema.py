"""The part of JSON Schema that configuration is held to."""

import json
from typing import Any

import pytest

from agent.schema import SchemaError, read, violations

PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
MQTT: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["port"],
    "additionalProperties": False,
    "properties": {
        "port": PORT,
        "host": {"type": "string", "pattern": "^[a-z.]+$"},
        "level": {"enum": ["info", 1, None]},
        "peers": {"type": "array", "items": {"type": "object", "required": ["name"]}},
        "extra": {"additionalProperties": {"type": ["number", "null"]}},
    },
}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"port": 1883, "host": "a.b", "level": 1.0, "peers": [{"name": 1}], "extra": {"a": 1.5, "b": None}}, []),
        ({"port": 1.0}, []),
        ({}, ["port: is required"]),
        ([], ["must be of type object"]),
        ({"port": "x"}, ["port: must be of type integer"]),
        ({"port": True}, ["port: must be of type integer"]),
        ({"port": 1.5}, ["port: must be of type integer"]),
        ({"port": 0}, ["port: must be at least 1"]),
        ({"port": 70000}, ["port: must be at most 65535"]),
        ({"port": 1, "host": "A"}, ["host: must match ^[a-z.]+$"]),
        ({"port": 1, "level": True}, ['level: must be one of "info", 1, null']),
        ({"port": 1, "prot": 2}, ["prot: is not allowed"]),
        ({"port": 1, "peers": [{"name": 1}, {}]}, ["peers[1].name: is required"]),
        ({"port": 1, "extra": {"a": "x"}}, ["extra.a: must be of type number or null"]),
    ],
)
def test_violations_name_the_place(value: Any, found: list[str]) -> None:
    assert violations(read(json.dumps(MQTT).encode()), value) == found


def test_of_a_part_nothing_is_required_and_null_removes() -> None:
    assert violations(MQTT, {"host": "a", "level": None, "port": None}, partial=True) == []
    assert violations(MQTT, {"port": "x"}, partial=True) == ["port: must be of type integer"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[]", "not an object"),
        (b"{", "not JSON"),
        (b'{"anyOf": []}', "'anyOf' is not supported"),
        (b'{"properties": {"a": {"minLength": 1}}}', "'minLength' at a is not supported"),
        (b'{"items": {"type": "int"}}', "'type' at \\[items\\] has a value of the wrong form"),
        (b'{"pattern": "("}', "'pattern' has a value of the wrong form"),
        (b'{"minimum": true}', "wrong form"),
    ],
)
def test_what_would_not_be_enforced_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(SchemaError, match=words):
        read(body)
