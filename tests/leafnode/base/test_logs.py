"""The two shapes of a log line, and files that can be moved away."""

import logging
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from leafnode.base import logs

ARCHIVE = re.compile(r"log(\.\d\d\d\d)(\.\d\d){5}\.\d{9}")
NATS_LINE = re.compile(r"^\[\d+\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} \[(INF|WRN|ERR|DBG|TRC|FTL)\] (.*)$")


@pytest.fixture(autouse=True)
def put_root_logger_back() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    root.setLevel(level)


def record(text: str, level: int = logging.INFO, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("agent.bus", level, "", 0, text, (), None)
    made.__dict__.update(more)
    return made


def test_nats_line(tmp_path: Path) -> None:
    logs.setup_broker(logs.TRACE, file=tmp_path / "log")
    for level in logs.LABELS:
        logging.getLogger("x").log(level, "text %d", level)
    lines = (tmp_path / "log").read_text().splitlines()
    found = [match.groups() for line in lines if (match := NATS_LINE.match(line))]
    assert found == [(label, f"text {level}") for level, label in logs.LABELS.items()]
    assert lines[0].startswith(f"[{os.getpid()}] ")


def test_nats_line_without_time() -> None:
    line = logs.NatsFormatter(timestamps=False).format(record("a"))
    assert line == f"[{os.getpid()}] [INF] a"


def test_nats_time_is_of_the_record() -> None:
    shape = logs.NatsFormatter(utc=True)
    assert "2026/11/20 10:50:46.250000" in shape.format(record("a", created=1795171846.25))
    assert "2026/11/20 10:50:46.500000" in shape.format(record("a", created=1795171846.5))
    assert "2026/11/20 10:50:47.000000" in shape.format(record("a", created=1795171847.0))


def test_a_message_cannot_forge_a_line() -> None:
    line = logs.NatsFormatter().format(record("a\n[1] [INF] Server is ready"))
    assert "\n" not in line
    assert "a\\n[1]" in line


def test_fields_line_for_the_journal_has_the_priority_on_every_line() -> None:
    shape = logs.FieldsFormatter(journal=True)
    assert shape.format(record("hub connected attempt=3")) == "<6>agent.bus: hub connected attempt=3"
    assert shape.format(record("bad", logging.ERROR)) == "<3>agent.bus: bad"
    try:
        raise RuntimeError("why")
    except RuntimeError as error:
        text = shape.format(record("bad", logging.ERROR, exc_info=(RuntimeError, error, error.__traceback__)))
    assert len(text.splitlines()) > 1
    assert all(line.startswith("<3>") for line in text.splitlines())


def test_fields_line_for_a_person_has_time_and_level() -> None:
    line = logs.FieldsFormatter(journal=False).format(record("up seq=1", created=1795171846.25))
    assert line == "2026-11-20T10:50:46.250Z INFO agent.bus: up seq=1"


def test_the_journal_is_recognised_by_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w") as file:
        status = os.fstat(file.fileno())
        assert logs.is_journal({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}, file.fileno())
        assert not logs.is_journal({"JOURNAL_STREAM": "1:2"}, file.fileno())
        assert not logs.is_journal({}, file.fileno())


def test_reopen_follows_a_moved_file(tmp_path: Path) -> None:
    logs.setup_broker(file=tmp_path / "log", timestamps=False)
    logging.getLogger("x").info("one")
    (tmp_path / "log").rename(tmp_path / "log.1")
    logging.getLogger("x").info("two")
    logs.reopen()
    logging.getLogger("x").info("three")
    assert [line.split()[-1] for line in (tmp_path / "log.1").read_text().splitlines()] == ["one", "two"]
    assert [line.split()[-1] for line in (tmp_path / "log").read_text().splitlines()] == ["three"]


def test_a_limited_log_takes_a_bounded_amount_of_disk(tmp_path: Path) -> None:
    logs.setup_broker(file=tmp_path / "log", size_limit=1000)
    for number in range(200):
        logging.getLogger("x").info("line %d", number)
    [log, archive] = sorted(tmp_path.iterdir())
    assert log.name == "log"
    assert ARCHIVE.fullmatch(archive.name)
    assert log.stat().st_size + archive.stat().st_size < 2800
    assert "line 199" in log.read_text() + archive.read_text()
    assert f'Rotated log, backup saved as "{archive}"' in log.read_text()
    assert "Purged log file" in log.read_text()


@pytest.mark.parametrize(("most", "found"), [(1, 1), (4, 4), (0, 12)])
def test_as_many_archives_as_wanted(tmp_path: Path, most: int, found: int) -> None:
    (tmp_path / "log.other").touch()  # somebody else's
    handler = logs.setup_broker(file=tmp_path / "log", size_limit=1, max_files=most, timestamps=False)
    for _ in range(11):
        logging.getLogger("x").info("line")
    assert len(list(tmp_path.iterdir())) == found + 1
    assert (tmp_path / "log.other").exists()
    handler.close()


def test_lines_for_a_syslog(tmp_path: Path) -> None:
    """What cannot be sent is counted, and nobody waits."""
    address = str(tmp_path / "syslog")
    logs.setup_broker(syslog=address)
    log = logging.getLogger("x")
    log.warning("nobody is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(address)
        log.error("two\nlines")
        log.info("three")
        found = [daemon.recv(4096).decode() for _ in range(2)]
    shape = re.compile(r"<(\d+)>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+\[\d+\]: (.*)")
    assert [match.groups() for line in found if (match := shape.fullmatch(line))] == [
        ("27", r"two\nlines (1 lines before were lost)"),
        ("30", "three"),
    ]


def test_a_syslog_over_the_network() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        logs.setup_broker(syslog=daemon.getsockname())
        logging.getLogger("x").info("one")
        assert daemon.recv(4096).endswith(b": one")


def test_setup_twice_writes_each_line_once(tmp_path: Path) -> None:
    logs.setup_broker(file=tmp_path / "log")
    logs.setup_broker(file=tmp_path / "log")
    logging.getLogger("x").info("one")
    assert len((tmp_path / "log").read_text().splitlines()) == 1
