"""sd_notify against a socket that stands in for systemd."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from leafnode.base.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


def notifier(manager: socket.socket) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.getsockname()})


def test_messages_reach_the_manager(manager: socket.socket) -> None:
    speaker = notifier(manager)
    speaker.ready("3 streams,\n1 link")
    assert manager.recv(1000) == b"READY=1\nSTATUS=3 streams, 1 link"
    speaker.watchdog()
    assert manager.recv(1000) == b"WATCHDOG=1"
    speaker.reloading()
    assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    speaker.stopping()
    assert manager.recv(1000) == b"STOPPING=1"


def test_an_abstract_socket_is_reached() -> None:
    name = f"leafnode-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.setblocking(False)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert listener.recv(1000) == b"READY=1"


def test_nobody_listening_is_no_error(tmp_path: Path) -> None:
    assert not Notifier({}).send("READY=1")
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).send("READY=1")


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
    ],
)
def test_watchdog_interval_is_half_of_the_deadline(environ: dict[str, str], interval: float | None) -> None:
    assert Notifier(environ).watchdog_interval_s == interval
