"""What a supervisor sees of the agent: READY and WATCHDOG, exit codes, one line for each edge."""

import logging
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.edges import Edge
from agent.errors import NotAnswered, NotConnected
from tests.agent import fleet_world as world
from tests.support.ports import free_port

NOWHERE = "nats://127.0.0.1:{port}"


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The service manager's end of sd_notify."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(world.PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield listener


def test_systemd_hears_ready_without_a_broker_then_beats_then_stopping(tmp_path: Path, systemd: socket.socket) -> None:
    device = world.agent(tmp_path / "pi-7", NOWHERE.format(port=free_port()))
    device.ready = ""
    with device:
        assert b"READY=1" in systemd.recv(1000)
        assert [systemd.recv(1000) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    said = [systemd.recv(1000)]
    while said[-1] == b"WATCHDOG=1":
        said.append(systemd.recv(1000))
    assert b"STOPPING=1" in said[-1]
    assert device.child
    assert device.child.returncode == 0


def test_a_ledger_that_cannot_be_used_ends_the_agent_with_a_reason(tmp_path: Path) -> None:
    device = world.agent(tmp_path / "pi-7", NOWHERE.format(port=free_port()))
    state = tmp_path / "pi-7" / "state"
    state.mkdir()
    connection = sqlite3.connect(state / "commands.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    device.ready = ""
    with device:
        assert device.child
        assert device.child.wait(world.PATIENCE_S) == 1
    assert "has version 99, this program knows 1: run the newer program again" in device.output()
    assert "Traceback" not in device.output()


def test_a_state_directory_that_cannot_be_made_is_a_matter_of_settings(tmp_path: Path) -> None:
    device = world.agent(tmp_path / "pi-7", NOWHERE.format(port=free_port()))
    (tmp_path / "pi-7" / "state").write_text("in the way")
    device.ready = ""
    with device:
        assert device.child
        assert device.child.wait(world.PATIENCE_S) == 2
    assert "cannot be made" in device.output()


def test_a_trouble_is_said_once_and_its_end_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    edge = Edge(logging.getLogger("x"), "telemetry")
    edge.works()
    edge.failed(NotConnected("not said: the bus says it"))
    edge.works()
    for _ in range(3):
        edge.failed(NotAnswered("no stream"))
    edge.works()
    edge.works()
    assert caplog.messages == ["telemetry waiting reason='no stream'", "telemetry resumed"]
