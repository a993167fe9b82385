"""Values become the bytes of a file: json, toml, env or text. Pure, and the same values always give the same bytes."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agent.settings import Format

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENV_ESCAPES: Final = re.compile(r'[\\"$`]')


class RenderError(ValueError):
    """The values do not fit the format; the text names the key."""


def render(values: Mapping[str, Any], form: Format) -> bytes:
    """The content of the file.

    Raises:
        RenderError: the format cannot express the values.
    """
    match form:
        case "json":
            text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        case "toml":
            text = "".join(_table(values, ()))
        case "env":
            text = "".join(f"{_env_name(key)}={_env_value(key, values[key])}\n" for key in sorted(values))
        case "text":
            text = _text(values)
        case _:  # pragma: no cover  (settings allow the four)
            raise RenderError(f"format {form!r} is not known")
    return text.encode(errors="replace")


def _text(values: Mapping[str, Any]) -> str:
    text = values.get("text")
    if not isinstance(text, str):
        raise RenderError('format text needs an object such as {"text": "…"}')
    extra = sorted(set(values) - {"text"})
    if extra:
        raise RenderError(f"format text takes the key 'text' only, not {extra[0]!r}")
    return text


# TOML (toml.io, version 1.0): plain values of a table first, then its tables.


def _table(values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    plain = sorted(key for key, value in values.items() if not _is_table(value) and not _is_tables(value))
    if path and (plain or not values):
        yield f"[{_path(path)}]\n"
    for key in plain:
        yield f"{_key(key)} = {_toml((*path, key), values[key])}\n"
    for key in sorted(set(values) - set(plain)):
        value = values[key]
        if _is_table(value):
            yield from _gap(_table(value, (*path, key)))
        else:
            for each in value:
                yield f"\n[[{_path((*path, key))}]]\n"
                yield from (f"{_key(name)} = {_toml((*path, key, name), each[name])}\n" for name in sorted(each))


def _gap(lines: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"\n{line}" if number == 0 and not line.startswith("\n") else line


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)


def _path(path: tuple[str, ...]) -> str:
    return ".".join(map(_key, path))


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _toml_string(key)


def _toml(path: tuple[str, ...], value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise RenderError(f"{'.'.join(path)}: the number does not fit TOML's 64 bits")
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value).replace("infinity", "inf")
    if isinstance(value, str):
        return _toml_string(value)
    if isinstance(value, list):
        return f"[{', '.join(_toml(path, each) for each in value)}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_toml((*path, key), value[key])}" for key in sorted(value)) + "}"
    raise RenderError(f"{'.'.join(path)}: TOML has no null")


def _toml_string(text: str) -> str:
    """JSON's escapes are TOML's too, except that TOML also wants DEL escaped and takes no lone surrogates."""
    return json.dumps(text.encode(errors="replace").decode(), ensure_ascii=False).replace("\x7f", "\\u007f")


# environment files, as `EnvironmentFile=` of systemd.exec(5) and a shell's `.` both read them.


def _env_name(key: str) -> str:
    if not _ENV_NAME.fullmatch(key):
        raise RenderError(f"key {key!r} is no name of a variable (letters, digits, _)")
    return key


def _env_value(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise RenderError(f"key {key!r}: an environment file holds text and numbers only")
    if "\n" in value or "\0" in value:
        raise RenderError(f"key {key!r}: the value has a line break, which an environment file cannot hold")
    return '"' + _ENV_ESCAPES.sub(r"\\\g<0>", value) + '"'
