"""A small, strict part of JSON Schema: what configuration needs, and nothing that is silently ignored. Pure.

    type, properties, required, additionalProperties, items, enum, minimum, maximum, pattern

with the meaning of JSON Schema 2020-12, and the annotations $schema, $id, $comment, title, description, default,
examples. A schema with any other keyword is refused: one that is not enforced protects nobody.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_ANNOTATIONS: Final = frozenset(("$schema", "$id", "$comment", "title", "description", "default", "examples"))
_TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
_KEYWORDS: Final = frozenset(
    ("type", "properties", "required", "additionalProperties", "items", "enum", "minimum", "maximum", "pattern")
)
SHOWN_MAX: Final = 5  # violations named in one error


class SchemaError(ValueError):
    """What is in the place of a schema is none of ours; the text names the keyword."""


def read(body: bytes) -> Mapping[str, Any]:
    """The schema in a message's body.

    Raises:
        SchemaError: it is no JSON object, or uses a keyword that is not enforced.
    """
    try:
        schema: Mapping[str, Any] = json.loads(body)
        check(schema)
    except RecursionError as error:
        raise SchemaError("it is nested too deeply") from error
    except SchemaError:
        raise
    except ValueError as error:
        raise SchemaError(f"it is not JSON: {error}") from error
    return schema


def check(schema: Any, where: str = "") -> None:
    """Raise SchemaError unless every keyword is known and well formed."""
    place = f" at {where}" if where else ""
    if not isinstance(schema, Mapping):
        raise SchemaError(f"it is not an object{place}")
    for keyword, value in schema.items():
        if keyword in _ANNOTATIONS:
            continue
        if keyword not in _KEYWORDS:
            raise SchemaError(
                f"keyword {keyword!r}{place} is not supported (supported: {', '.join(sorted(_KEYWORDS))})"
            )
        if not _is_well_formed(keyword, value):
            raise SchemaError(f"keyword {keyword!r}{place} has a value of the wrong form")
    for name, below in schema.get("properties", {}).items():
        check(below, f"{where}.{name}" if where else name)
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), Mapping):
            check(schema[keyword], f"{where}[{keyword}]")


def _is_well_formed(keyword: str, value: Any) -> bool:
    match keyword:
        case "type":
            names = value if isinstance(value, list) else [value]
            return bool(names) and all(name in _TYPES for name in names)
        case "properties" | "items":
            return isinstance(value, Mapping)
        case "additionalProperties":
            return isinstance(value, bool | Mapping)
        case "required":
            return isinstance(value, list) and all(isinstance(name, str) for name in value)
        case "enum":
            return isinstance(value, list)
        case "pattern":
            return isinstance(value, str) and _compiles(value)
        case _:
            return _is_number(value)


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def violations(schema: Mapping[str, Any], value: Any, *, partial: bool = False) -> list[str]:
    """Where `value` is not as the (checked) schema says, as `path: reason`. `partial`: other layers may add what is
    required."""
    try:
        return list(_violations(schema, value, "", partial))
    except RecursionError:
        return ["the values are nested too deeply"]


def summary(found: list[str]) -> str:
    """Violations in one line."""
    more = f"; and {len(found) - SHOWN_MAX} more" if len(found) > SHOWN_MAX else ""
    return "; ".join(found[:SHOWN_MAX]) + more


def _violations(schema: Mapping[str, Any], value: Any, path: str, partial: bool) -> Iterator[str]:
    at = f"{path}: " if path else ""
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(_is_a(name, value) for name in names):
            yield f"{at}must be of type {' or '.join(names)}"
            return
    if "enum" in schema and not any(_same(each, value) for each in schema["enum"]):
        yield f"{at}must be one of {', '.join(json.dumps(each) for each in schema['enum'])}"
    if _is_number(value):
        if value < schema.get("minimum", value):
            yield f"{at}must be at least {schema['minimum']}"
        if value > schema.get("maximum", value):
            yield f"{at}must be at most {schema['maximum']}"
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{at}must match {schema['pattern']}"
    if isinstance(value, list) and "items" in schema:
        for number, each in enumerate(value):
            yield from _violations(schema["items"], each, f"{path}[{number}]", partial)
    if isinstance(value, Mapping):
        yield from _of_object(schema, value, path, partial)


def _of_object(schema: Mapping[str, Any], value: Mapping[str, Any], path: str, partial: bool) -> Iterator[str]:
    known = schema.get("properties", {})
    other = schema.get("additionalProperties", True)
    for name in () if partial else schema.get("required", ()):
        if name not in value:
            yield f"{_below(path, name)}: is required"
    for name, each in value.items():
        if each is None and partial:
            continue  # a null in a layer removes
        if name in known:
            yield from _violations(known[name], each, _below(path, name), partial)
        elif other is False:
            yield f"{_below(path, name)}: is not allowed"
        elif isinstance(other, Mapping):
            yield from _violations(other, each, _below(path, name), partial)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_a(name: str, value: Any) -> bool:
    match name:
        case "object":
            return isinstance(value, Mapping)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "integer":
            return _is_number(value) and (isinstance(value, int) or value.is_integer())
        case _:
            return _is_number(value)


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 is 1.0, and true is neither."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)
