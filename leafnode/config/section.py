"""Tables of keys, and the readers of single values: how a block of pairs becomes the fields of an option class. Pure.

A `Table` lists the keys of one block: each with its aliases, the field it fills and the reader of its value. What is
not in the table is an error that names the nearest key; what nats-server knows and leafnode does not is an error that
says so. Keys are compared without regard to case.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from leafnode.base.nearest import hint
from leafnode.config.grammar import Value
from leafnode.errors import ConfigError
from leafnode.route.subject import is_valid

SYSLOG_PORT = 514


class Notes:
    """What reading a configuration brings to light besides its options."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, value: Value, text: str) -> None:
        self.warnings.append(f"{value.where}: {text}")


Reader = Callable[[Value, Notes], Any]
Fields = dict[str, Any]

_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (str, "text"),
    (int, "a whole number"),
    (float, "a number with a fraction"),
    (datetime, "a date"),
    (list, "an array"),
    (dict, "a block"),
)


def wrong(value: Value, what: str) -> ConfigError:
    return ConfigError(f"{value.where}: {what}")


def kind_of(value: Value) -> str:
    """What a value is, in words; never the value, which may be a secret."""
    return next((word for kind, word in _KINDS if isinstance(value.data, kind)), "something else")


class Table:
    """The keys of one block. `path` is how documentation calls the block: `leafnodes.remotes[]`."""

    def __init__(
        self,
        path: str,
        keys: Mapping[str, tuple[str, Reader]],
        *,
        unsupported: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`unsupported`: names that nats-server knows and we do not act on, `a|b` for several, with the reason."""
        self.path = path
        self.names: dict[str, tuple[str, str, Reader]] = {}
        for names, (field, reader) in keys.items():
            canonical = names.split("|")[0]
            for name in names.split("|"):
                self.names[name] = (canonical, field, reader)
        self.unsupported = {name: why for names, why in unsupported.items() for name in names.split("|")}

    def full(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def pairs(self, value: Value) -> dict[str, Value]:
        if not isinstance(value.data, dict):
            raise wrong(value, f"{self.path!r} must be a block {{ … }}, not {kind_of(value)}")
        return value.data

    def read(self, value: Value, notes: Notes) -> Fields:
        """The fields that the block's keys fill."""
        return self.read_pairs(self.pairs(value), notes)

    def read_pairs(self, pairs: Mapping[str, Value], notes: Notes) -> Fields:
        fields: Fields = {}
        for key, value in pairs.items():
            known = self.names.get(key.lower())
            if known is None:
                self._refuse(key, value)
                continue
            _, field, reader = known
            try:
                fields[field] = reader(value, notes)
            except _Unfit as unfit:
                raise wrong(value, f"{self.full(key)!r} {unfit}") from None
        return fields

    def _refuse(self, key: str, value: Value) -> None:
        """Raise, unless the key only defines a variable."""
        name = key.lower()
        if name in self.unsupported:
            what = "block" if isinstance(value.data, dict) else "key"
            raise ConfigError(
                f"{value.file or 'configuration'}: leafnode does not support {self.full(name)!r} "
                f"(line {value.line}): {self.unsupported[name]}; remove the {what}"
            )
        if not value.used:
            raise wrong(value, f"unknown field {self.full(key)!r}{hint(name, self.names)}")

    def spellings(self) -> Iterator[str]:
        """Every name that the block accepts."""
        yield from self.names


class _Unfit(Exception):  # noqa: N818 (a sentence that waits for its subject)
    """What a value must be; the table adds the key and the place."""


def _must(value: Value, what: str) -> _Unfit:
    return _Unfit(f"must be {what}, not {kind_of(value)}")


# --- readers of plain values


def text(value: Value, _: Notes) -> str:
    if not isinstance(value.data, str):
        quote = "; put it in quotes" if isinstance(value.data, bool | int | float) else ""
        raise _must(value, f"text{quote}")
    return value.data


def flag(value: Value, _: Notes) -> bool:
    if not isinstance(value.data, bool):
        raise _must(value, "true or false, without quotes")
    return value.data


def number(value: Value, _: Notes) -> int:
    if not isinstance(value.data, int) or isinstance(value.data, bool):
        raise _must(value, "a whole number without quotes, such as 4222 or 64MB")
    return value.data


def port(value: Value, notes: Notes) -> int:
    found = number(value, notes)
    if not -1 <= found <= 65535:
        raise _Unfit("must be a port from 1 to 65535, or -1 for any free one")
    return found


def positive(value: Value, notes: Notes) -> int:
    found = number(value, notes)
    if found <= 0:
        raise _Unfit("must be greater than zero")
    return found


def no_negative(value: Value, notes: Notes) -> int:
    found = number(value, notes)
    if found < 0:
        raise _Unfit("must not be negative")
    return found


_LETTERS = {"K": 10, "M": 20, "G": 30, "T": 40}  # powers of two


def store_size(value: Value, notes: Notes) -> int:
    """A size of the jetstream block: a number, or text that ends in K, M, G or T (powers of 1024)."""
    if isinstance(value.data, str):
        match = re.fullmatch(r"(-?[0-9]{1,9})([KMGT])", value.data)
        if not match:
            raise _Unfit('must be a size: 10GB without quotes, or "10G" with K, M, G or T in quotes')
        return int(match[1]) << _LETTERS[match[2]]
    return number(value, notes)


def buffered(value: Value, notes: Notes) -> int:
    """A bound of what waits in memory; the word `disabled` lifts it."""
    return -1 if value.data == "disabled" else number(value, notes)


_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")


def parse_duration_s(words: str) -> float | None:
    """Seconds of Go's notation (`1m30s`, `500ms`, `1.5h`), or None if it is not that."""
    if words == "0":
        return 0.0
    if not _DURATION.fullmatch(words):
        return None
    return sum(float(amount) * _UNITS_S[unit] for amount, unit in _PART.findall(words))


def duration(value: Value, notes: Notes) -> float:
    """Text such as "10s"; a bare number is seconds, with nats-server's warning."""
    if isinstance(value.data, int) and not isinstance(value.data, bool):
        if value.data < 0:
            raise _Unfit("must not be negative")
        notes.warn(value, f'a duration should say its unit: "{value.data}s" instead of {value.data}')
        return float(value.data)
    found = parse_duration_s(value.data) if isinstance(value.data, str) else None
    if found is None:
        raise _Unfit('must be a duration such as "10s", "1m30s" or "500ms"')
    return found


def seconds(value: Value, notes: Notes) -> float:
    """A number of seconds, or a duration; neither deserves a warning."""
    if isinstance(value.data, int | float) and not isinstance(value.data, bool) and value.data >= 0:
        return float(value.data)
    if isinstance(value.data, str):
        return duration(value, notes)
    raise _Unfit('must be a number of seconds or a duration such as "2s"')


# --- readers of several values


def texts(value: Value, notes: Notes) -> tuple[str, ...]:
    """An array of texts, or one text."""
    if isinstance(value.data, str):
        return (value.data,)
    if not isinstance(value.data, list):
        raise _must(value, "text or an array of texts")
    return tuple(text(item, notes) for item in value.data)


def text_map(value: Value, notes: Notes) -> dict[str, str]:
    """A block of names of one's own choice with texts."""
    if not isinstance(value.data, dict):
        raise _must(value, "a block")
    return {key: text(item, notes) for key, item in value.data.items()}


def subject(value: Value, notes: Notes) -> str:
    found = text(value, notes)
    if not is_valid(found.encode("utf-8", "surrogatepass")):
        raise _Unfit(f"has {found!r}, which is not a valid subject")
    return found


def subjects(value: Value, notes: Notes) -> tuple[str, ...]:
    if isinstance(value.data, list):
        return tuple(subject(item, notes) for item in value.data)
    return (subject(value, notes),)


def subject_or_queue(value: Value, notes: Notes) -> str:
    """A subject, or `subject queue` as subscribe rules have it."""
    found = text(value, notes)
    parts = found.split()
    if not 1 <= len(parts) <= 2 or not all(is_valid(part.encode("utf-8", "surrogatepass")) for part in parts):
        raise _Unfit(f"has {found!r}, which is not a valid subject, nor a subject and a queue")
    return " ".join(parts)


def subjects_or_queues(value: Value, notes: Notes) -> tuple[str, ...]:
    if isinstance(value.data, list):
        return tuple(subject_or_queue(item, notes) for item in value.data)
    return (subject_or_queue(value, notes),)


def choice(*words: str) -> Reader:
    """One of the words, without regard to case."""

    def read(value: Value, notes: Notes) -> str:
        found = text(value, notes).lower()
        if found not in words:
            raise _Unfit(f"must be one of {', '.join(words)}{hint(found, words)}")
        return found

    return read


def each(reader: Reader) -> Reader:
    """An array of what `reader` reads."""

    def read(value: Value, notes: Notes) -> tuple[Any, ...]:
        if not isinstance(value.data, list):
            raise _must(value, "an array [ … ]")
        return tuple(reader(item, notes) for item in value.data)

    return read


_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%\w]*)\]|(?P<host>[^:\[\]\s]*)):(?P<port>-?[0-9]{1,5})")


def parse_address(words: str) -> tuple[str, int] | None:
    """`host:port`, `[::1]:port` or `:port`; an empty host means the default. None if it is not an address."""
    match = _ADDRESS.fullmatch(words)
    if not match or not -1 <= int(match["port"]) <= 65535:
        return None
    return match["six"] or match["host"] or "", int(match["port"])


def address(value: Value, notes: Notes) -> tuple[str, int]:
    """A port, or text `host:port`."""
    if isinstance(value.data, str):
        found = parse_address(value.data)
        if found is None:
            raise _Unfit(f'has {value.data!r}, which is not an address: write "host:port" or a port')
        return found
    return "", port(value, notes)


def write_timeout(value: Value, notes: Notes) -> None:
    """What happens to a peer that takes nothing until the write deadline: here it is always closed."""
    if choice("default", "close", "retry")(value, notes) == "retry":
        raise _Unfit("must be default or close: a peer that takes nothing is given up")


def syslog_address(words: str) -> tuple[str, int] | str | None:
    """Host and port of `udp://HOST:PORT`, the path of `unix:///PATH`; None if it is neither."""
    scheme, _, rest = words.partition("://")
    if scheme == "udp":
        found = parse_address(rest if ":" in rest else f"{rest}:{SYSLOG_PORT}")
        return found if found and found[0] else None
    return rest if scheme == "unix" and rest.startswith("/") else None


def ignored(_: Value, __: Notes) -> None:
    """A key whose every value leafnode fulfils anyway; the documentation says why."""
