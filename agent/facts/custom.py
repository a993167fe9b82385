"""Facts of one's own: files and executables in a folder, and functions of installed Python packages.

`NAME.json` and `NAME.toml` are tables as they stand. Anything executable prints a table as JSON. A package announces a
function under the entry point group `fleetleaf.facts`. An object is a table of one row, a list of objects one of many;
the columns are the keys. A list that may be empty is better written `{"columns": […], "rows": [[…], …]}`: an empty list
has no columns to ask for. Nothing is read or run before a question names the table, and nothing again within `age_s`.

Who may write into the folder decides what runs: an executable that others than root and the agent's user can change is
refused.
"""

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final

from agent.errors import QueryError
from agent.facts.table import Row, Table

ENTRY_POINTS: Final = "fleetleaf.facts"
MAX_BYTES: Final = 262_144  # of a file, or of what an executable prints; an answer holds no more either
MAX_COLUMNS: Final = 100
READERS: Final[dict[str, Callable[[str], Any]]] = {".json": json.loads, ".toml": tomllib.loads}
ERROR_TEXT: Final = 200  # characters of what a failing executable said

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class _Kept:
    at: float
    table: Table


class CustomFacts:
    """The tables that a folder and the installed packages add; asked from the query workers."""

    def __init__(
        self, folder: Path, *, timeout_s: float, age_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`folder` need not exist; `timeout_s` is for one executable."""
        self._folder = folder
        self._timeout_s = timeout_s
        self._age_s = age_s
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._announced: dict[str, EntryPoint] | None = None

    def names(self) -> list[str]:
        """What may be asked for, in order; nothing is run for it."""
        return sorted({*self._files(), *self._functions()})

    def table(self, name: str) -> Table | None:
        """The table, collected now or less than `age_s` ago; None if there is none of this name.

        Raises:
            QueryError: it cannot be read, failed, or is no table; the text says which file and why.
        """
        now = self._clock()
        kept = self._kept.get(name)
        if kept and now - kept.at < self._age_s:
            return kept.table
        source = self._files().get(name)
        if source is not None:
            value = self._read(source)
            origin = source.name
        elif name in self._functions():
            value = self._call(self._functions()[name])
            origin = f"entry point {name}"
        else:
            return None
        table = as_table(name, value, origin)
        self._kept[name] = _Kept(now, table)
        return table

    def _files(self) -> dict[str, Path]:
        with contextlib.suppress(OSError):
            paths = sorted(path for path in self._folder.iterdir() if _NAME.fullmatch(path.name.partition(".")[0]))
            return {path.name.partition(".")[0]: path for path in paths if path.is_file() and _is_source(path)}
        return {}

    def _functions(self) -> dict[str, EntryPoint]:
        if self._announced is None:
            self._announced = {
                each.name: each for each in entry_points(group=ENTRY_POINTS) if _NAME.fullmatch(each.name)
            }
        return self._announced

    def _read(self, path: Path) -> Any:
        try:
            if reader := READERS.get(path.suffix):
                with path.open("rb") as file:
                    return reader(_whole(file.read(MAX_BYTES + 1), path.name))
            return json.loads(_whole(run(path, self._timeout_s), path.name))
        except OSError as error:
            raise QueryError(f"custom fact {path.name}: {error.strerror or error}") from error
        except ValueError as error:
            raise QueryError(f"custom fact {path.name}: not {(path.suffix or '.json')[1:].upper()}: {error}") from error

    def _call(self, announced: EntryPoint) -> Any:
        try:
            return announced.load()()
        except Exception as error:  # somebody else's code: whatever it raises is its answer
            raise QueryError(f"custom fact {announced.name} ({announced.value}): {error!r}") from error


def _is_source(path: Path) -> bool:
    return path.suffix in READERS or os.access(path, os.X_OK)


def _whole(data: bytes, name: str) -> str:
    if len(data) > MAX_BYTES:
        raise QueryError(f"custom fact {name}: more than {MAX_BYTES} bytes")
    return data.decode()


def run(path: Path, timeout_s: float) -> bytes:
    """What the executable prints.

    Raises:
        QueryError: it may be changed by others, took too long, or failed.
    """
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise QueryError(f"custom fact {path.name}: not run, as others can change it: chown root, chmod go-w")
    process = subprocess.Popen(
        [str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    )
    with process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise QueryError(f"custom fact {path.name}: took longer than {timeout_s:g} s") from error
        finally:
            with contextlib.suppress(ProcessLookupError):  # with whatever it started
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        said = err.decode(errors="replace").strip()[-ERROR_TEXT:]
        raise QueryError(f"custom fact {path.name}: exit code {process.returncode}{': ' if said else ''}{said}")
    return out


def as_table(name: str, value: Any, origin: str) -> Table:
    """A table of what was read: an object is one row, a list of objects many, or columns and rows by themselves.

    Raises:
        QueryError: anything else.
    """
    if isinstance(value, dict) and set(value) == {"columns", "rows"}:
        return _plain(name, value["columns"], value["rows"], origin)
    records = [value] if isinstance(value, dict) else value
    if not isinstance(records, list) or not all(isinstance(each, dict) for each in records):
        raise QueryError(f"custom fact {origin}: must be an object or a list of objects")
    columns = tuple(dict.fromkeys(str(key) for record in records for key in record))[:MAX_COLUMNS]
    rows: list[Row] = [tuple(_value(record.get(column)) for column in columns) for record in records]
    return Table(name, columns, isinstance(value, dict), lambda: rows, f"custom: {origin}")


def _plain(name: str, columns: Any, rows: Any, origin: str) -> Table:
    if not isinstance(columns, list) or not columns or not all(isinstance(each, str) for each in columns):
        raise QueryError(f"custom fact {origin}: columns must be a list of names")
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == len(columns) for row in rows):
        raise QueryError(f"custom fact {origin}: rows must be lists of {len(columns)} values")
    found: list[Row] = [tuple(map(_value, row)) for row in rows]
    return Table(name, tuple(columns), False, lambda: found, f"custom: {origin}")


def _value(value: Any) -> Any:
    """Nested values are JSON text."""
    return json.dumps(value, default=str) if isinstance(value, dict | list) else value
