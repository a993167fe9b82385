"""Strict JSON for the API: objects with known keys and types, errors in Go's words.

nats-server refuses unknown keys since 2.12 (spec jetstream-api section 1); so do we, everywhere it does. A shape maps
each key to a kind: a function that checks and converts one value. `null` means absent, as in Go. Writing goes the other
way: `to_json` follows the order of the shape and omits zero values except for the keys that are always shown.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from leafnode.stream import faults, times

Kind = Callable[[Any], Any]
INT64_MAX = (1 << 63) - 1


class Mismatch(ValueError):  # noqa: N818 -- a reason, turned into an ApiError before it leaves this module
    """A value is not of its kind; the text is what Go's decoder would say."""


def parse(body: bytes, shape: Mapping[str, Kind]) -> dict[str, Any]:
    """The object in a request's body, checked against its shape.

    Raises:
        ApiError: 10025 with the reason.
    """
    return _checked(body, lambda value: read(value, shape))


def parse_object(body: bytes) -> dict[str, Any]:
    """The object in a request's body, whatever its keys.

    Raises:
        ApiError: 10025, it is none.
    """
    return _checked(body, _any_object)


def _any_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Mismatch(f"json: cannot unmarshal {_name(value)} into Go value of type object")
    return value


def _checked(body: bytes, check: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    try:
        return check(json.loads(body))
    except Mismatch as error:
        raise faults.fault(faults.INVALID_JSON, str(error)) from None
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(error.doc.rstrip())
        reason = "unexpected EOF" if at_end else f"invalid character at offset {error.pos}"
        raise faults.fault(faults.INVALID_JSON, reason) from None
    except (ValueError, RecursionError) as error:
        raise faults.fault(faults.INVALID_JSON, str(error)) from None


def read(value: Any, shape: Mapping[str, Kind]) -> dict[str, Any]:
    """Check one decoded object; keys that are null are left out."""
    value = _any_object(value)
    found: dict[str, Any] = {}
    for key, item in value.items():
        kind = shape.get(key)
        if kind is None:
            raise Mismatch(f'json: unknown field "{key}"')
        if item is None and not isinstance(kind, _Choice):
            continue
        try:
            found[key] = kind(item)
        except Mismatch as error:
            text = str(error)
            raise Mismatch(
                text
                if text.startswith(("json:", "can not"))
                else f"json: cannot unmarshal {text} into Go struct field {key}"
            ) from None
    return found


def _name(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    names: dict[type, str] = {str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise Mismatch(_name(value))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Mismatch("json: invalid Unicode in string") from None
    return value


def integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -INT64_MAX - 1 <= value <= INT64_MAX:
        raise Mismatch(_name(value))
    return value


def unsigned(value: Any) -> int:
    number = integer(value)
    if number < 0:
        raise Mismatch(f"number {number}")
    return number


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Mismatch(_name(value))
    return value


def moment(value: Any) -> int:
    """A time as nanoseconds."""
    try:
        return times.from_text(text(value))
    except ValueError as error:
        raise Mismatch(f"json: {error}") from None


class _Choice:
    """One of some words. `null` is none of them: Go hands it to the word's own decoder."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self._allowed = allowed

    def __call__(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self._allowed:
            raise Mismatch("can not unmarshal " + json.dumps(json.dumps(value)))
        return value


def choice(*allowed: str) -> Kind:
    return _Choice(allowed)


def list_of(kind: Kind) -> Kind:
    def check(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise Mismatch(_name(value))
        return [kind(item) for item in value]

    return check


def strings_by_name(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise Mismatch(_name(value))
    return {key: text(item) for key, item in value.items()}


def object_of(shape: Mapping[str, Kind]) -> Kind:
    def check(value: Any) -> dict[str, Any]:
        return read(value, shape)

    return check


def ordered(
    value: Mapping[str, Any], order: Sequence[str], always: frozenset[str], convert: Mapping[str, Kind]
) -> dict[str, Any]:
    """The keys of `order` that are set or always shown, converted for the wire."""
    shown: dict[str, Any] = {}
    for key in order:
        item = value.get(key)
        if item or key in always:
            change = convert.get(key)
            shown[key] = change(item) if change else item
    return shown


def encode(value: Any) -> bytes:
    """Compact JSON as bytes."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
