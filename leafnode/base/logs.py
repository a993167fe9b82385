"""Log lines: one line per event, written at once, in one of two shapes.

The agent's shape is for a journal: `<6>agent.bus: hub connected url=nats://hub attempt=3`, the number being the
priority that journald understands (sd-daemon(3)). On a terminal a time and a level stand there instead.

The broker's shape is nats-server's, because tools look for it: `[pid] 2026/11/20 10:50:46.865779 [INF] text`.

Line breaks inside a message are escaped: what a client sends cannot forge a line.
"""

import glob
import logging
import os
import re
import socket
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

SyslogAddress = str | tuple[str, int]
"""Path of a local syslog's socket, or host and UDP port of another one."""
LOCAL_SYSLOG = "/dev/log"
DAEMON = 3 << 3
"""syslog's facility of system daemons."""
SYSLOG_LINE_MAX = 8192  # bytes; what rsyslog and journald take in one datagram
FILES = 2  # the log and one archive: twice the limit bounds what it takes of a card
NS_PER_S = 1_000_000_000
_STAMP = re.compile(r"\.\d{4}(\.\d\d){5}\.\d{9}")


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
    max_files: int | None = None,
    syslog: SyslogAddress | None = None,
    environ: Mapping[str, str] = os.environ,
) -> logging.Handler:
    """Send every logger's lines to `file`, a syslog or stderr in nats-server's shape; returns the handler in use.

    `size_limit`, `max_files`: of `ReopenableFile`.

    Raises:
        OSError: the file cannot be written.
    """
    handler: logging.Handler
    if file:
        handler = ReopenableFile(Path(file), size_limit, FILES if max_files is None else max_files)
        journal = False
    elif syslog:
        handler = Syslog(syslog)
        journal = timestamps = False
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
    """Appends lines to a file; makes an archive of it when it outgrows `size_limit` bytes (0 = never).

    An archive has the time in its name, as nats-server's: `NAME.2026.11.20.10.50.46.865779000`. The oldest are removed,
    so that there are at most `max_files` with the log itself (0 = no limit).
    """

    def __init__(self, path: Path, size_limit: int = 0, max_files: int = FILES) -> None:
        super().__init__()
        self.path = path
        self._size_limit = size_limit
        self._max_files = max_files
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
        now_ns = time.time_ns()
        stamp = time.strftime("%Y.%m.%d.%H.%M.%S", time.localtime(now_ns // NS_PER_S))
        archive = self.path.with_name(f"{self.path.name}.{stamp}.{now_ns % NS_PER_S:09d}")
        os.replace(self.path, archive)
        self.reopen()
        self._note(f'Rotated log, backup saved as "{archive}"')
        if self._max_files:
            for old in self._archives()[: -self._max_files + 1 or None]:
                old.unlink(missing_ok=True)
                self._note(f'Purged log file "{old.name}"')

    def _archives(self) -> list[Path]:
        """Oldest first."""
        beside = self.path.parent.glob(f"{glob.escape(self.path.name)}.*")
        return sorted(path for path in beside if _STAMP.fullmatch(path.name[len(self.path.name) :]))

    def _note(self, text: str) -> None:
        line = logging.LogRecord("leafnode", logging.INFO, "", 0, text, (), None)
        self._file.write(self.format(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        super().close()


class Syslog(logging.Handler):
    """One datagram a line to a syslog daemon (RFC 3164). Never waits: a daemon that is slow or away costs lines.

    What was lost is said with the next line that gets through.
    """

    def __init__(self, address: SyslogAddress, program: str = "") -> None:
        super().__init__()
        self._address = address
        self._program = program or Path(sys.argv[0]).name
        self._socket: socket.socket | None = None
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        note = f" ({self._lost} lines before were lost)" if self._lost else ""
        if self._send(record.levelno, _one_line(record.getMessage()) + note):
            self._lost = 0
        else:
            self._lost += 1

    def _send(self, level: int, text: str) -> bool:
        priority = DAEMON | PRIORITIES.get(level, 6)
        moment = time.strftime("%b %e %H:%M:%S")
        line = f"<{priority}>{moment} {self._program}[{os.getpid()}]: {text}".encode(errors="replace")
        try:
            self._socket = self._socket or _datagrams_to(self._address)
            self._socket.send(line[:SYSLOG_LINE_MAX])
        except OSError:
            self._drop()
            return False
        return True

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        self._drop()
        super().close()


def _datagrams_to(address: SyslogAddress) -> socket.socket:
    if isinstance(address, str):
        family, target = socket.AF_UNIX, address
        made = socket.socket(family, socket.SOCK_DGRAM)
    else:
        family, _, _, _, found = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
        made, target = socket.socket(family, socket.SOCK_DGRAM), found  # type: ignore[assignment]
    made.setblocking(False)
    try:
        made.connect(target)
    except OSError:
        made.close()
        raise
    return made


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
