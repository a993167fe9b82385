"""A table of settings becomes a frozen dataclass; what does not fit is an error that says how to mend it.

The dataclass is the schema: field names are the keys, annotations the types, defaults make keys optional. Understood
are str, int, float, bool, Path, Literal, `T | None`, list[T], tuple[T, ...], dict[str, T] and other dataclasses. An
int is accepted for a float; nothing else is converted.
"""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from leafnode.base.nearest import hint

T = TypeVar("T")

_WORDS: dict[type, str] = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path in quotes",
}


class SettingsError(ValueError):
    """Names the file, the key, what is allowed, and the nearest known key."""


def read(path: str | Path) -> dict[str, Any]:
    """The table in a TOML file.

    Raises:
        SettingsError: the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: is not TOML: {error}") from error


def load(cls: type[T], mapping: Mapping[str, Any], where: str | Path) -> T:
    """An instance of the dataclass `cls` from `mapping`; `where` (the file) begins every error.

    A ValueError raised by `__post_init__` is passed on as a SettingsError that names the table.

    Raises:
        SettingsError: a key is unknown, missing or of the wrong type, or a value is refused.
    """
    loaded: T = _table(cls, mapping, str(where), "")
    return loaded


def _table(cls: Any, mapping: Mapping[str, Any], where: str, prefix: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for key in mapping:
        if key not in fields:
            known = ", ".join(fields)
            raise SettingsError(f"{where}: unknown key {prefix + key!r}{hint(key, fields)} (known here: {known})")
    hints = typing.get_type_hints(cls)
    values = {}
    for name, field in fields.items():
        if name in mapping:
            values[name] = _value(hints[name], mapping[name], where, prefix + name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SettingsError(f"{where}: key {prefix + name!r} is missing: give it {_allowed(hints[name])}")
    try:
        return cls(**values)
    except SettingsError:
        raise
    except ValueError as error:
        at = f" [{prefix.rstrip('.')}]" if prefix else ""
        raise SettingsError(f"{where}:{at} {error}") from error


def _value(kind: Any, value: Any, where: str, key: str) -> Any:
    """`value` as `kind`, or SettingsError."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return _one_of(kind, value, where, key)
    if origin is typing.Literal:
        if any(type(value) is type(choice) and value == choice for choice in typing.get_args(kind)):
            return value
    elif origin in (list, tuple) and isinstance(value, list | tuple):
        item = typing.get_args(kind)[0]
        return origin(_value(item, each, where, f"{key}[{index}]") for index, each in enumerate(value))
    elif origin in (dict, Mapping) and isinstance(value, Mapping):
        item = typing.get_args(kind)[1]
        return {str(name): _value(item, each, where, f"{key}.{name}") for name, each in value.items()}
    elif dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return _table(kind, value, where, f"{key}.")
    elif kind is Any:
        return value
    elif isinstance(kind, type) and _is_plain(kind, value):
        return kind(value)
    raise SettingsError(f"{where}: key {key!r} must be {_allowed(kind)}, not {_shown(value)}")


def _one_of(kind: Any, value: Any, where: str, key: str) -> Any:
    choices = [choice for choice in typing.get_args(kind) if choice is not type(None)]
    for choice in choices:
        try:
            return _value(choice, value, where, key)
        except SettingsError:
            if len(choices) == 1:
                raise
    raise SettingsError(f"{where}: key {key!r} must be {_allowed(kind)}, not {_shown(value)}")


def _is_plain(kind: type, value: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is Path:
        return isinstance(value, str | Path)
    return type(value) is kind and kind in _WORDS


def _allowed(kind: Any) -> str:
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_allowed(choice) for choice in arguments if choice is not type(None))
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(choice) for choice in arguments)
    if origin in (list, tuple):
        return f"a list, each {_allowed(arguments[0])}"
    if origin in (dict, Mapping):
        return f"a table, each value {_allowed(arguments[1])}"
    if dataclasses.is_dataclass(kind):
        return "a table with " + ", ".join(field.name for field in dataclasses.fields(kind) if field.init)
    return _WORDS.get(kind, str(kind))


def _shown(value: Any) -> str:
    """The kind of a wrong value; not the value itself, which may be a secret put in the wrong place."""
    if isinstance(value, bool):
        return "true or false"
    for kind, word in ((str, "a string"), (int, "a whole number"), (float, "a number with a fraction")):
        if isinstance(value, kind):
            return word
    if isinstance(value, Mapping):
        return "a table"
    return "a list" if isinstance(value, list | tuple) else type(value).__name__
