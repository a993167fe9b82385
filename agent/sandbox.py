"""An in-memory SQLite in which a stranger's SELECT can do no harm.

What keeps it harmless, in the order in which it takes effect:

1. length of the statement, and SQLite's own limits (strings and rows, depth, columns, parts of a compound);
2. no WITH: a chain of common table expressions doubles at each step while SQLite prepares it, before any limit counts;
3. an authorizer that allows reading the tables given, and functions of a list: no pragma, attach, write or recursion;
4. a progress handler that ends the statement after a time, after a number of steps, and when memory grows;
5. our own LIKE in linear time: SQLite's backtracks, inside one step, where the handler does not look;
6. limits on rows and bytes of the answer.

The limits are for one evaluation; whoever calls runs it off the event loop, a few at a time.
"""

import math
import os
import re
import resource
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from agent.errors import QueryError

Row = Sequence[Any]

MAX_SQL_LENGTH: Final = 4096  # characters; a page of SQL
STRING_LENGTH: Final = 8192  # bytes of a string or row: what one built-in function can spend time on within a step
CHECK_STEPS: Final = 100  # virtual machine steps between looks at the clock; a look costs about as much
MAX_STEPS: Final = 20_000_000  # far beyond any sensible query; ends what the clock does not, were it to stand still
MAX_GROWTH_BYTES: Final = 48 * 1024 * 1024  # of memory while a statement runs; sorting a cross join takes it at once
PATTERN_LENGTH: Final = 200  # characters of a LIKE pattern

_LIMITS: Final = {
    sqlite3.SQLITE_LIMIT_LENGTH: STRING_LENGTH,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: MAX_SQL_LENGTH * 8,  # the statement grows by the tables that we name in it
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 8,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 25_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 16,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: PATTERN_LENGTH,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}

FUNCTIONS: Final = frozenset(
    """abs avg coalesce count date datetime group_concat ifnull iif instr julianday length like lower ltrim max min
    nullif replace round rtrim sign strftime substr substring sum time total trim typeof unixepoch upper""".split()  # noqa: SIM905
)
"""What an expression may call, besides `ago`. Not here: what makes large strings (printf, hex), reads or loads."""

_PAGE: Final = resource.getpagesize()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    time_ms: int = 100
    rows: int = 1000
    bytes: int = 262_144


@dataclass(frozen=True, slots=True)
class Answer:
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool


_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))"""
    r"""|(?P<text>'(?:[^']|'')*')"""
    r"""|(?P<name>[^\W\d][\w$]*|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\])"""
    r"""|(?P<number>\d[\w.]*|\.\d\w*)"""
    r"""|(?P<other>.)""",
    re.S,
)


@dataclass(frozen=True, slots=True)
class Word:
    """A name in a statement, without its quotes; `text` as written."""

    name: str
    text: str
    start: int


@lru_cache(maxsize=64)
def tokens(sql: str) -> tuple[Word | str, ...]:
    """Names as Words, anything else that counts as its text: SQLite's tokens, without space, comments and literals."""
    found: list[Word | str] = []
    for match in _TOKEN.finditer(sql):
        text = match.group()
        if match.lastgroup == "name":
            name = text[1:-1] if text[0] in '"`[' else text
            found.append(Word(name, text, match.start()))
        elif match.lastgroup == "other":
            found.append(text)
        elif match.lastgroup != "space":
            found.append("")
    return tuple(found)


def words(sql: str) -> set[str]:
    """Every name in the statement, in lower case."""
    return {token.name.lower() for token in tokens(sql) if isinstance(token, Word)}


@dataclass(frozen=True, slots=True)
class Source:
    """A table as the statement sees it."""

    name: str
    columns: Sequence[str]
    rows: Iterable[Row]


@dataclass(frozen=True, slots=True)
class FileSource:
    """Tables that a SQLite file holds; opened for reading only."""

    path: Path
    names: frozenset[str]


def evaluate(
    sql: str,
    sources: Iterable[Source],
    limits: Limits,
    clock: Callable[[], float] = time.monotonic,
    file: FileSource | None = None,
) -> Answer:
    """The rows that the single SELECT `sql` finds in `sources` and in `file`.

    Raises:
        QueryError: SQLite's words on what is wrong, or the limit that was reached.
    """
    if len(sql) > MAX_SQL_LENGTH:
        raise QueryError(f"the expression is longer than {MAX_SQL_LENGTH} characters")
    if "with" in words(sql):
        raise QueryError("WITH is not available: use a subquery")
    memory = _Memory()
    connection = sqlite3.connect("file::memory:", isolation_level=None, cached_statements=0, uri=True)
    try:
        names = _fill(connection, sources)
        if file is not None:
            connection.execute("ATTACH ? AS past", (f"{file.path.absolute().as_uri()}?mode=ro",))
            names |= file.names
        guard = _Guard(names, limits, clock, memory)
        guard.attach(connection)
        return _run(connection, sql, limits, guard)
    finally:
        connection.close()
        memory.close()


def _fill(connection: sqlite3.Connection, sources: Iterable[Source]) -> frozenset[str]:
    names = set()
    for source in sources:
        columns = ", ".join(map(quoted, source.columns)) or "nothing"
        connection.execute(f"CREATE TABLE {quoted(source.name)} ({columns})")
        marks = ", ".join("?" * len(source.columns)) or "NULL"
        rows = ([storable(value) for value in row] for row in source.rows)
        connection.executemany(f"INSERT INTO {quoted(source.name)} VALUES ({marks})", rows)
        names.add(source.name)
    return frozenset(names)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def storable(value: Any) -> Any:
    """A value that SQLite takes: text is cut, whole numbers beyond 64 bits become floats."""
    if isinstance(value, str):
        return value.encode(errors="replace")[: STRING_LENGTH // 8].decode(errors="ignore")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value)
    return value if isinstance(value, int | float) or value is None else str(value)[: STRING_LENGTH // 8]


def _run(connection: sqlite3.Connection, sql: str, limits: Limits, guard: "_Guard") -> Answer:
    try:
        cursor = connection.execute(sql)
        if cursor.description is None:
            raise QueryError("only a SELECT can be asked")
        columns = tuple(each[0] for each in cursor.description)
        rows: list[tuple[Any, ...]] = []
        size = 0
        for row in cursor:
            clean = tuple(map(_presentable, row))
            size += sum(len(value) if isinstance(value, str) else 8 for value in clean)
            if len(rows) >= limits.rows or size > limits.bytes:
                return Answer(columns, tuple(rows), True)
            rows.append(clean)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
        raise QueryError(guard.reason or _words(error)) from error
    return Answer(columns, tuple(rows), False)


def _presentable(value: Any) -> Any:
    """A value that JSON takes."""
    if isinstance(value, bytes):
        return value.hex()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _words(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return "only one statement can be asked" if "one statement" in text else text


class _Guard:
    """Authorizer, progress handler and functions of one evaluation; `reason` says which limit ended it."""

    def __init__(self, names: frozenset[str], limits: Limits, clock: Callable[[], float], memory: "_Memory") -> None:
        self.reason = ""
        self._memory = memory
        self._names = names
        self._clock = clock
        self._limits = limits
        self._deadline = clock() + limits.time_ms / 1000
        self._steps_left = MAX_STEPS
        self._memory_limit = 0

    def attach(self, connection: sqlite3.Connection) -> None:
        for limit, value in _LIMITS.items():
            connection.setlimit(limit, value)
        connection.create_function("like", 2, self._like, deterministic=True)
        connection.create_function("ago", 1, self._ago, deterministic=True)
        for name in ("trim", "ltrim", "rtrim"):  # with two arguments these take length times length
            connection.create_function(name, 2, self._not_available)
        connection.set_authorizer(self._authorize)
        self._memory_limit = self._memory.resident_bytes() + MAX_GROWTH_BYTES
        connection.set_progress_handler(self._is_over, CHECK_STEPS)

    def _is_over(self) -> int:
        """Called every CHECK_STEPS steps; anything but zero ends the statement."""
        self._steps_left -= CHECK_STEPS
        if self._clock() > self._deadline or self._steps_left < 0:
            self.reason = f"the expression took longer than {self._limits.time_ms} ms"
        elif self._memory.resident_bytes() > self._memory_limit:
            self.reason = f"the expression needed more than {MAX_GROWTH_BYTES // 1024 // 1024} MiB"
        return bool(self.reason)

    def _authorize(self, action: int, one: str | None, two: str | None, *where: str | None) -> int:
        if self._clock() > self._deadline:
            self.reason = f"the expression took longer than {self._limits.time_ms} ms"
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_SELECT:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ and one in self._names:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION:
            if two and two.lower() in FUNCTIONS | {"ago"}:
                return sqlite3.SQLITE_OK
            self.reason = f"function {two} is not available"
        else:
            self.reason = self.reason or f"only the fact tables can be read{f', not {one}' if one else ''}"
        return sqlite3.SQLITE_DENY

    def _like(self, pattern: Any, text: Any) -> int | None:
        if pattern is None or text is None:
            return None
        if self._is_over():
            raise ValueError(self.reason)
        if len(str(pattern)) > PATTERN_LENGTH:
            self.reason = f"a LIKE pattern has at most {PATTERN_LENGTH} characters"
            raise ValueError(self.reason)
        return int(like(str(pattern), str(text)))

    def _ago(self, text: Any) -> str:
        try:
            return ago(str(text), datetime.now(UTC))
        except ValueError as error:
            self.reason = str(error)
            raise

    def _not_available(self, text: Any, characters: Any) -> None:
        self.reason = "trim with a list of characters is not available"
        raise ValueError(self.reason)


_AGO: Final = re.compile(r"\s*(\d{1,9})\s*(s|m|min|h|d|w)\s*")
_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def ago(text: str, now: datetime) -> str:
    """The moment before `now` by `90s`, `5m`, `1h`, `7d` or `2w`, as facts write moments.

    Raises:
        ValueError: not such a span, or further back than there were years.
    """
    match = _AGO.fullmatch(text)
    if not match:
        raise ValueError(f"ago({text[:20]!r}): write a span such as '90s', '5m', '1h', '7d' or '2w'")
    try:
        moment = now - timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
    except OverflowError:
        raise ValueError(f"ago({text[:20]!r}): too far back") from None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class _Part:
    """What stands between two `%`."""

    width: int
    found: re.Pattern[str]


@lru_cache(maxsize=64)
def _parts(pattern: str) -> tuple[_Part, ...]:
    return tuple(
        _Part(len(piece), re.compile("".join("." if c == "_" else re.escape(c) for c in piece), re.S | re.I | re.A))
        for piece in pattern.split("%")
    )


def like(pattern: str, text: str) -> bool:
    """SQL's LIKE without regard to the case of A-Z: `%` any run, `_` one character. Linear in text times pattern.

    The parts between `%` are looked for from left to right, each at its first place: that leaves the most text for
    the rest, so nothing is ever tried twice.
    """
    first, *rest = _parts(pattern)
    if not first.found.match(text):
        return False
    if not rest:
        return len(text) == first.width
    at = first.width
    for part in rest[:-1]:
        match = part.found.search(text, at)
        if not match:
            return False
        at = match.end()
    start = len(text) - rest[-1].width
    return start >= at and rest[-1].found.match(text, start) is not None


class _Memory:
    """Resident memory of this process, asked cheaply; 0 where the system does not tell."""

    def __init__(self) -> None:
        try:
            self._file = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = -1

    def resident_bytes(self) -> int:
        if self._file < 0:
            return 0
        return int(os.pread(self._file, 128, 0).split()[1]) * _PAGE

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
