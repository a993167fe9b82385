"""nats-server's configuration grammar: text in, nested values with their lines out. Pure.

A file is a sequence of pairs, or one `{ … }` of them (JSON is a special case). A pair is a key, optionally `=` or `:`,
and a value; it ends at a line's end, `,` or `;`. Without a separator the value may begin on a later line, with one it
may not. Values:

    "text" with \\t \\n \\r \\" \\\\ \\xXX     'raw text'     bare-text     ( text up to a line with only ")" )
    12  -1  64k  64MB  1.5  true  off     2026-01-02T15:04:05Z
    [ array, with commas or line ends between ]     { pairs }
    $NAME  a key defined above in this or an enclosing block, else a variable of the environment

`include file` puts another file's pairs in its place. Comments begin with `#` or `//` where a key or value could.
Source: spec monitoring-and-ops section 5, checked against nats-server 2.15.1. Stricter than nats-server on purpose: an
unclosed block, a stray `}`, or anything after the outermost `}` is an error, not ignored.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from leafnode.errors import ConfigError

DEPTH_MAX = 64  # nested blocks, files and variables; real files have five, and a stack is finite
SHOWN_MAX = 60  # characters of a word in a message
INT64_MAX = (1 << 63) - 1  # what nats-server holds an integer in

Read = Callable[[str, str], tuple[str, str]]
"""`read(path, including_file)` gives the text of an included file and the name to report it by."""


@dataclass(slots=True)
class Value:
    """What stands behind a key, and where."""

    data: "str | bool | int | float | datetime | list[Value] | dict[str, Value]"
    line: int
    file: str
    used: bool = False
    """Some `$NAME` below referred to it: then an unknown key is a definition and no mistake."""

    @property
    def where(self) -> str:
        """`FILE:LINE`, or `line LINE` of a text without a name."""
        return f"{self.file}:{self.line}" if self.file else f"line {self.line}"

    def plain(self) -> object:
        """The same without lines, as JSON would have it."""
        if isinstance(self.data, dict):
            return {key: value.plain() for key, value in self.data.items()}
        if isinstance(self.data, list):
            return [value.plain() for value in self.data]
        return self.data.isoformat() if isinstance(self.data, datetime) else self.data


_SPACE = re.compile(r"[ \t]*+")
_BLANK = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+|//[^\n]*+)*+")
_COMMENT = re.compile(r"(?:#|//)[^\n]*+")
_BARE_KEY = re.compile(r"[^\s=:]++")
_BARE = re.compile(r"[^ \t\r\n,;\]}']++")
_DOUBLE = re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_SINGLE = re.compile(r"'([^']*+)'")
_BLOCK_END = re.compile(r"^[ \t]*+\)[ \t]*+\r?$", re.MULTILINE)
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.?)", re.DOTALL)
_INTEGER = re.compile(r"(-?[0-9]++)(?:([kmgtpe])(i?b?))?", re.IGNORECASE)
_FLOAT = re.compile(r"-?[0-9]{1,300}\.[0-9]{1,300}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_BCRYPT = re.compile(r"\$2[abxy]\$")

_PLAIN_ESCAPES = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b'"': b'"', b"\\": b"\\"}
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}


def parse(
    text: str, *, file: str = "", environ: Mapping[str, str] | None = None, read: Read | None = None
) -> dict[str, Value]:
    """The pairs of `text`. A key given twice has its last value.

    `environ` answers `$NAME` that no key defines; `read` fetches included files. Without them there are none.

    Raises:
        ConfigError: the text does not follow the grammar; `Parse error on line N: …`.
    """
    context = _Context(environ or {}, read)
    pairs: dict[str, Value] = {}
    _Parser(text.removeprefix("\ufeff"), file, context, depth=0).file_into(pairs)
    return pairs


def _short(word: str) -> str:
    """For messages: a mistake can make a word of a whole file."""
    return word if len(word) <= SHOWN_MAX else f"{word[:SHOWN_MAX]}…"


class _Context:
    """What the parsers of one file and of those it includes share."""

    def __init__(self, environ: Mapping[str, str], read: Read | None) -> None:
        self.environ = environ
        self.read = read
        self.scopes: list[dict[str, Value]] = []
        """The blocks around the current place, outermost first."""
        self.resolving: list[str] = []
        """Variables of the environment whose text is being read just now."""


class _CircularError(ConfigError):
    """A variable of the environment refers to itself."""


class _Parser:
    """One text, and how far it is read."""

    def __init__(self, text: str, file: str, context: _Context, depth: int) -> None:
        self._text = text
        self._file = file
        self._context = context
        self._depth = depth
        self._at = 0
        self._line_ends = [match.start() for match in re.finditer("\n", text)]

    # --- places and errors

    def _line(self, at: int) -> int:
        return bisect_right(self._line_ends, at - 1) + 1

    def _error(self, what: str, at: int | None = None) -> ConfigError:
        line = self._line(self._at if at is None else at)
        return ConfigError(f"Parse error on line {line}: {what}" + (f" (in {self._file})" if self._file else ""))

    def _value(self, data: "str | bool | int | float | datetime | list[Value] | dict[str, Value]", at: int) -> Value:
        return Value(data, self._line(at), self._file)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self, what: re.Pattern[str]) -> None:
        match = what.match(self._text, self._at)
        if match:
            self._at = match.end()

    def _deeper(self, at: int) -> None:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._error(f"nested deeper than {DEPTH_MAX} levels", at)

    # --- pairs

    def file_into(self, pairs: dict[str, Value]) -> None:
        """Read all of the text; its pairs join `pairs`."""
        self._skip(_BLANK)
        if self._peek() == "{":
            self._at += 1
            self._pairs_into(pairs, end="}")
            self._skip(_BLANK)
            if self._at < len(self._text):
                raise self._error("nothing may follow the '}' that closes the whole file")
        else:
            self._pairs_into(pairs, end="")

    def lone_value(self) -> Value | None:
        """The value that the whole text is, or None if it is not exactly one."""
        self._skip(_SPACE)
        value = self._any()
        self._skip(_SPACE)
        return value if self._at == len(self._text) else None

    def _pairs_into(self, pairs: dict[str, Value], end: str) -> None:
        """Pairs up to `end`, which is taken too; an empty `end` is the end of the text."""
        opened = self._at
        self._context.scopes.append(pairs)
        while True:
            self._skip(_BLANK)
            at = self._at
            char = self._peek()
            if char == end:
                self._at += len(end)
                break
            if not char:
                raise self._error(f"the block opened here is not closed: {end!r} is missing", opened)
            if char in ",;}])=:":
                raise self._error(f"a key is expected, not {char!r}")
            key, is_bare = self._key()
            if is_bare and key.lower() == "include":
                self._include(pairs)
            else:
                pairs[key] = self._after_key(key, at)
            self._end_of_pair(end)
        self._context.scopes.pop()

    def _key(self) -> tuple[str, bool]:
        """A key, and whether it stood without quotes."""
        for pattern in (_DOUBLE, _SINGLE):
            if match := pattern.match(self._text, self._at):
                self._at = match.end()
                return match[1], False
        if self._peek() in "\"'":
            raise self._error("the quoted key is not closed")
        match = _BARE_KEY.match(self._text, self._at)
        if not match:
            raise self._error(f"a key is expected, not {self._peek()!r}")
        self._at = match.end()
        return match[0], True

    def _after_key(self, key: str, at: int) -> Value:
        self._skip(_SPACE)
        if self._peek() and self._peek() in "=:":
            self._at += 1
            self._skip(_SPACE)
            if self._peek() in ("", "\n", "\r", "#") or self._text.startswith("//", self._at):
                raise self._error(f"a value is expected after {_short(key)!r} on the same line")
        else:
            self._skip(_BLANK)
            if not self._peek():
                raise self._error(f"a value is expected after {_short(key)!r}", at)
        return self._any()

    def _end_of_pair(self, end: str) -> None:
        """After a value: a line's end, `,`, `;`, a comment, or the end of the block."""
        self._skip(_SPACE)
        self._skip(_COMMENT)
        char = self._peek()
        if char and char in ",;":
            self._at += 1
        elif char and char not in "\r\n" and char != end:
            raise self._error(f"after a value a new line, ',' or ';' is expected, not {char!r}")

    def _include(self, pairs: dict[str, Value]) -> None:
        at = self._at
        self._skip(_SPACE)
        target = self._any().data if self._peek() not in ("", "\n", "\r") else None
        if not isinstance(target, str):
            raise self._error("a file name is expected after 'include'", at)
        if self._context.read is None:
            raise self._error("'include' is not possible here", at)
        self._deeper(at)
        try:
            text, name = self._context.read(target, self._file)
        except ConfigError as error:
            raise self._error(f"cannot include {_short(target)!r}: {error}", at) from error
        _Parser(text.removeprefix("\ufeff"), name, self._context, self._depth).file_into(pairs)
        self._depth -= 1

    # --- values

    def _any(self) -> Value:
        at = self._at
        char = self._peek()
        if char == "{":
            return self._map()
        if char == "[":
            return self._array()
        if char == "(":
            return self._block()
        if char == '"':
            if not (match := _DOUBLE.match(self._text, at)):
                raise self._error('the text in "…" is not closed')
            self._at = match.end()
            return self._value(self._unescape(match[1], at), at)
        if char == "'":
            if not (match := _SINGLE.match(self._text, at)):
                raise self._error("the text in '…' is not closed")
            self._at = match.end()
            return self._value(match[1], at)
        match = _BARE.match(self._text, at)
        if not match:
            raise self._error(f"a value is expected, not {char!r}" if char else "a value is expected")
        self._at = match.end()
        if self._peek() == "'":
            self._at += 1  # nats-server takes a closing quote for the end of a bare word, too
        return self._bare(match[0], at)

    def _map(self) -> Value:
        at = self._at
        self._at += 1
        pairs: dict[str, Value] = {}
        self._deeper(at)
        self._pairs_into(pairs, end="}")
        self._depth -= 1
        return self._value(pairs, at)

    def _array(self) -> Value:
        at = self._at
        self._at += 1
        self._deeper(at)
        items: list[Value] = []
        while True:
            self._skip(_BLANK)
            char = self._peek()
            if char == "]":
                self._at += 1
                break
            if not char:
                raise self._error("the array opened here is not closed: ']' is missing", at)
            items.append(self._any())
            self._end_of_item()
        self._depth -= 1
        return self._value(items, at)

    def _end_of_item(self) -> None:
        before = self._at
        self._skip(_BLANK)
        char = self._peek()
        if char == ",":
            self._at += 1
        elif char and char != "]" and "\n" not in self._text[before : self._at]:
            raise self._error(f"between the items of an array ',' or a new line is expected, not {char!r}")

    def _block(self) -> Value:
        """`(` … `)`, the closing one alone on its line."""
        at = self._at
        match = _BLOCK_END.search(self._text, at + 1)
        if not match:
            raise self._error("the text opened with '(' is not closed: a line with only ')' is missing")
        self._at = match.end()
        return self._value(self._text[at + 1 : match.start()], at)

    def _bare(self, word: str, at: int) -> Value:
        """A word without quotes: a variable, boolean, number, date, or just text."""
        if word[0] == "$" and not _BCRYPT.match(word):
            return self._variable(word[1:], at)
        if (boolean := _BOOLEANS.get(word.lower())) is not None:
            return self._value(boolean, at)
        if word[0] in "-0123456789":
            return self._value(self._number(word, at), at)
        return self._value(self._unescape(word, at), at)

    def _number(self, word: str, at: int) -> str | int | float | datetime:
        """What starts like a number; an address or a duration stays text."""
        if match := _INTEGER.fullmatch(word):
            digits, unit, binary = match.groups()
            number = int(digits) if len(digits) <= 20 else INT64_MAX + 1
            if unit:
                number *= (1024 if binary else 1000) ** _POWERS[unit.lower()]
            if abs(number) > INT64_MAX:
                raise self._error("the number is too large", at)
            return number
        if _FLOAT.fullmatch(word):
            return float(word)
        if _DATE.fullmatch(word):
            try:
                return datetime.strptime(word, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
            except ValueError:
                raise self._error(f"{word!r} is no date", at) from None
        return word

    def _unescape(self, text: str, at: int) -> str:
        if "\\" not in text:
            return text

        def replace(match: re.Match[bytes]) -> bytes:
            escape = match[1]
            if len(escape) == 3:
                return bytes.fromhex(escape[1:].decode("ascii"))
            if escape not in _PLAIN_ESCAPES:
                raise self._error(r"only the escapes \xXX, \t, \n, \r, \" and \\ are known", at)
            return _PLAIN_ESCAPES[escape]

        try:
            return _ESCAPE.sub(replace, text.encode("utf-8", "surrogatepass")).decode("utf-8")
        except UnicodeDecodeError:
            raise self._error(r"the \xXX escapes are not UTF-8 text", at) from None

    def _variable(self, name: str, at: int) -> Value:
        """The value a key above has, innermost block first, else the environment's."""
        for scope in reversed(self._context.scopes):
            if (value := scope.get(name)) is not None:
                value.used = True
                return Value(value.data, self._line(at), self._file)
        text = self._context.environ.get(name)
        if text is None:
            raise self._error(
                f"variable reference for {_short(name)!r} can not be found: define it above or export it", at
            )
        value = self._from_environment(name, text)
        return Value(value.data if value else text, self._line(at), self._file)

    def _from_environment(self, name: str, text: str) -> Value | None:
        """The environment's text read like a value; None when it is not one, and so just text, such as a password."""
        if name in self._context.resolving:
            raise _CircularError(f"Parse error: the environment's variable {name} refers to itself")
        if not text.strip():
            return None
        scopes = len(self._context.scopes)
        self._context.resolving.append(name)
        try:
            return _Parser(text, f"environment variable {name}", self._context, self._depth).lone_value()
        except _CircularError:
            raise
        except ConfigError:
            del self._context.scopes[scopes:]
            return None
        finally:
            self._context.resolving.pop()
