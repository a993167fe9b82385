"""Log lines: one line per event, written at once, in one of two shapes.

The agent's shape is for a journal: `<6>agent.bus: hub connected url=nats://hub attempt=3`, the number being the
priority that journald understands (sd-daemon(3)). On a terminal a time and a level stand there instead.

The broker's shape is nats-server's, because tools look for it: `[pid] 2026/11/20 10:50:46.865779 [INF] text`.

Line breaks inside a message are escaped: what a client sends cannot forge a line.
"""

import logging
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal

TRACE = 5
"""Below DEBUG: the protocol itself, line by line."""

PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7, TRACE: 7}
"""syslog's numbers, as in sd-daemon(3)."""

LABELS = {
    logging.CRITICAL: "FTL",
    logging.ERROR: "ERR",
    logging.WARNING: "WRN",
    logging.INFO: "INF",
    logging.DEBUG: "DBG",
    TRACE: "TRC",
}
"""nats-server's names of the levels."""

LineFormat = Literal["fields", "nats"]


def setup_agent(level: int = logging.INFO, environ: Mapping[str, str] = os.environ) -> logging.Handler:
    """Send every logger's lines to stderr in the agent's shape; returns the handler in use."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FieldsFormatter(journal=is_journal(environ)))
    return _install(handler, level)


def setup_broker(
    level: int = logging.INFO,
    *,
    file: str | Path | None = None,
    timestamps: bool = True,
    utc: bool = False,
    size_limit: int = 0,
    environ: Mapping[str, str] = os.environ,
) -> logging.Handler:
    """Send every logger's lines to `file` or stderr in nats-server's shape; returns the handler in use.

    Raises:
        OSError: the file cannot be written.
    """
    handler: logging.Handler
    if file:
        handler = ReopenableFile(Path(file), size_limit)
        journal = False
    else:
        handler = logging.StreamHandler(sys.stderr)
        journal = is_journal(environ)
    handler.setFormatter(NatsFormatter(timestamps=timestamps, utc=utc, journal=journal))
    return _install(handler, level)


def reopen() -> None:
    """Close and open again every log file, after a tool such as logrotate moved it away (SIGUSR1)."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, ReopenableFile):
            handler.reopen()


def is_journal(environ: Mapping[str, str], descriptor: int = 2) -> bool:
    """Whether `descriptor` leads to the journal: JOURNAL_STREAM names its device and inode."""
    wanted = environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return wanted == f"{status.st_dev}:{status.st_ino}"


class FieldsFormatter(logging.Formatter):
    """`<priority>logger: text key=value` for the journal, with time and level otherwise."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        text = f"{record.name}: {_one_line(record.getMessage())}"
        if self._journal:
            return _prefixed(_with_traceback(self, record, text), record.levelno)
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        return _with_traceback(self, record, f"{moment}Z {record.levelname} {text}")


class NatsFormatter(logging.Formatter):
    """nats-server's line; `timestamps` and `utc` are its options `logtime` and `logtime_utc`."""

    def __init__(self, *, timestamps: bool = True, utc: bool = False, journal: bool = False) -> None:
        super().__init__()
        self._timestamps = timestamps
        self._split = time.gmtime if utc else time.localtime
        self._journal = journal
        self._pid = os.getpid()
        self._second = -1
        self._second_text = ""

    def format(self, record: logging.LogRecord) -> str:
        moment = f"{self._moment(record.created)} " if self._timestamps else ""
        label = LABELS.get(record.levelno, "INF")
        text = _with_traceback(self, record, f"[{self._pid}] {moment}[{label}] {_one_line(record.getMessage())}")
        return _prefixed(text, record.levelno) if self._journal else text

    def _moment(self, created: float) -> str:
        """The date of a second is the same for all its lines: worth keeping when the protocol is traced."""
        second = int(created)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y/%m/%d %H:%M:%S", self._split(second))
        return f"{self._second_text}.{int((created - second) * 1_000_000):06d}"


class ReopenableFile(logging.Handler):
    """Appends lines to a file; moves it aside when it outgrows `size_limit` bytes (0 = never)."""

    def __init__(self, path: Path, size_limit: int = 0) -> None:
        super().__init__()
        self.path = path
        self._size_limit = size_limit
        self._file = self._open()

    def _open(self) -> IO[str]:
        return self.path.open("a", encoding="utf-8", errors="backslashreplace")

    def reopen(self) -> None:
        """Write to whatever `path` names now. On failure the old file stays in use."""
        self.acquire()
        try:
            fresh = self._open()
            self._file.close()
            self._file = fresh
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._file.write(self.format(record) + "\n")
            self._file.flush()
            if self._size_limit and self._file.tell() > self._size_limit:
                self._rotate()
        except (OSError, ValueError):
            self.handleError(record)

    def _rotate(self) -> None:
        """One old file is kept: twice the limit bounds what the log takes on the disk."""
        os.replace(self.path, self.path.with_name(f"{self.path.name}.old"))
        self.reopen()

    def close(self) -> None:
        self._file.close()
        super().close()


def _install(handler: logging.Handler, level: int) -> logging.Handler:
    """Put `handler` in the place of the one an earlier call installed; others' handlers stay."""
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, FieldsFormatter | NatsFormatter):
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    root.setLevel(level)
    return handler


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _with_traceback(formatter: logging.Formatter, record: logging.LogRecord, text: str) -> str:
    if record.exc_info:
        text += "\n" + formatter.formatException(record.exc_info)
    return text


def _prefixed(text: str, level: int) -> str:
    """journald takes each line for an entry of its own: each needs the priority."""
    priority = PRIORITIES.get(level, 6)
    return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))
