"""Values become the bytes of a file: json, toml, yaml, ini, env, text, or a template filled in.

Pure, and the same values always give the same bytes.
"""

import json
import math
import re
import string
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agent import render_yaml
from agent.settings import Format

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENV_ESCAPES: Final = re.compile(r'[\\"$`]')


class RenderError(ValueError):
    """The values do not fit the format; the text names the key."""


def render(values: Mapping[str, Any], form: Format, template: str = "") -> bytes:
    """The content of the file; `template` is the text to fill in for format `template`.

    Raises:
        RenderError: the format cannot express the values, or the template wants others.
    """
    try:
        return _render(values, form, template).encode(errors="replace")
    except RecursionError as error:
        raise RenderError(f"the values are nested too deeply for format {form}") from error


def _render(values: Mapping[str, Any], form: Format, template: str) -> str:
    text = ""
    match form:
        case "json":
            text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        case "toml":
            text = "".join(_table(values, ()))
        case "env":
            text = "".join(f"{_env_name(key)}={_env_value(key, values[key])}\n" for key in sorted(values))
        case "text":
            text = _text(values)
        case "yaml":
            try:
                text = render_yaml.document(values)
            except render_yaml.KeyTooLongError as error:
                raise RenderError(str(error)) from error
        case "ini":
            text = "".join(_ini(values))
        case "template":
            text = _filled(template, values)
    return text


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


# INI: what configparser, systemd and GLib's key files read alike. There is no quoting that all of them know.


_INI_KEY: Final = re.compile(r"[^\s=:#;\[\]][^\n\r=:\[\]]*(?<!\s)|[^\s=:#;\[\]]")
_INI_SECTION: Final = re.compile(r"[^\n\r\[\]]+")


def _ini(values: Mapping[str, Any]) -> Iterator[str]:
    """Plain values first, then a section for each object; a list is the key repeated, as systemd takes it."""
    sections = sorted(key for key, value in values.items() if isinstance(value, Mapping))
    yield from _ini_lines(values, [key for key in sorted(values) if key not in sections], "")
    for number, name in enumerate(sections):
        if not _INI_SECTION.fullmatch(name):
            raise RenderError(
                f"key {name!r} cannot be the name of a section: it is empty, or has a bracket or line break"
            )
        yield f"{chr(10) if number or len(sections) < len(values) else ''}[{name}]\n"
        yield from _ini_lines(values[name], sorted(values[name]), f"{name}.")


def _ini_lines(values: Mapping[str, Any], keys: list[str], prefix: str) -> Iterator[str]:
    for key in keys:
        if not _INI_KEY.fullmatch(key):
            raise RenderError(f"key {prefix + key!r} cannot be a key of an INI file")
        value = values[key]
        for each in value if isinstance(value, list) else [value]:
            yield f"{key}={_ini_value(prefix + key, each)}\n"


def _ini_value(where: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise RenderError(f"key {where!r}: a section of an INI file holds text, numbers and lists of them")
    if value.splitlines() not in ([], [value]) or value != value.strip():
        raise RenderError(f"key {where!r}: the value has a line break, or spaces at its ends, which INI files lose")
    return value


# Templates: $name and ${dotted.name}, as string.Template of Python has them; $$ is a dollar sign.


class _Template(string.Template):
    idpattern = r"(?a:[A-Za-z_][A-Za-z0-9_]*)"
    braceidpattern = r"(?a:[A-Za-z0-9_][A-Za-z0-9_.-]*)"
    flags = re.RegexFlag(0)


class _ByPath(dict[str, Any]):
    """Values by dotted path, as texts of a template."""

    def __missing__(self, path: str) -> str:
        value: Any = self
        for key in path.split("."):
            if not isinstance(value, Mapping) or key not in value:
                raise KeyError(path)
            value = dict.__getitem__(value, key) if isinstance(value, _ByPath) else value[key]
        return _template_value(value)

    def __getitem__(self, path: str) -> str:
        return _template_value(dict.__getitem__(self, path)) if path in self else self.__missing__(path)


def _filled(template: str, values: Mapping[str, Any]) -> str:
    """Every place of the template has a value, or there is no file: a gap in a configuration is worse than none."""
    try:
        return _Template(template).substitute(_ByPath(values))
    except KeyError as error:
        raise RenderError(f"the template wants ${{{error.args[0]}}}, and the values have no such key") from error
    except ValueError as error:
        raise RenderError(f"the template has a $ that names nothing ({error}): write $$ for a dollar sign") from error


def _template_value(value: Any) -> str:
    """Text as it is; anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
