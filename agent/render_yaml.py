"""JSON-like values as YAML that every reader takes the same way. Pure.

Readers differ in what a plain word means: `no` and `on` are booleans to YAML 1.1, `012` is ten, `12:30` is 750 to some.
So a string stands plain only when it is a word that means nothing else to anybody; any other one is quoted with JSON's
escapes, which are YAML's too (YAML 1.2.2, sections 5.7 and 7.3.1).
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_RESERVED: Final = frozenset(("true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"))
_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")  # YAML 1.2.2, section 5.1
KEY_MAX: Final = 1024  # characters of a key with its quotes: beyond it a reader need not see one (section 7.4)


class KeyTooLongError(ValueError):
    """A key is longer than readers of YAML accept."""


def document(values: Mapping[str, Any]) -> str:
    """The mapping in block style, keys sorted, with a line break at the end."""
    return "".join(f"{line}\n" for line in _lines(values))


def _lines(value: Any) -> Iterator[str]:
    """The value's lines, without the indentation of where it stands."""
    if isinstance(value, Mapping) and value:
        for key in sorted(value):
            yield from _entry(_key(key), value[key])
    elif isinstance(value, list) and value:
        for each in value:
            first, *rest = _lines(each)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    else:
        yield _scalar(value)


def _entry(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping | list) and value:
        yield f"{key}:"
        yield from (f"  {line}" for line in _lines(value))
    else:
        yield f"{key}: {_scalar(value)}"


def _key(key: str) -> str:
    text = _string(key)
    if len(text) > KEY_MAX:
        raise KeyTooLongError(f"key {key[:20]!r}… is longer than YAML's {KEY_MAX} characters")
    return text


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        return _string(value)
    return json.dumps(value)  # whole numbers, {} and []


def _float(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    mantissa, exponent, power = repr(value).partition("e")
    return f"{mantissa}{'' if '.' in mantissa else '.0'}{exponent}{power}"  # YAML 1.1 takes 1e+16 for a word


def _string(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _RESERVED:
        return text
    clean = text.encode(errors="replace").decode()  # a lone surrogate is no character
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(clean, ensure_ascii=False))
