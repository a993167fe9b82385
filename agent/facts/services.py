"""What runs by itself: systemd units and timers, containers.

systemd and the container engines are asked through their own programs and socket, for a moment each; where they are
missing the tables are empty.
"""

import contextlib
import http.client
import json
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

AGE_SECONDS: Final = 10.0  # a process or a socket for each question of a whole fleet would be a load of its own
ASK_SECONDS: Final = 3.0  # systemctl answers in some 20 ms; a hung bus must not hold a worker
MAX_ANSWER: Final = 4 * 1024 * 1024  # bytes of an answer; a Pi has some 300 units, 300 bytes each

UNIT: Final = {
    "name": "`ssh.service`",
    "load": "`loaded`, `not-found`, `masked`",
    "active": "`active`, `inactive`, `failed`, `activating`",
    "sub": "finer: `running`, `exited`, `dead`",
    "description": "its own words",
}
TIMER: Final = {"name": "`apt-daily.timer`", "unit": "what it starts", "next": "when it will", "last": "when it did"}
CONTAINER: Final = {
    "engine": "`docker` or `podman`",
    "id": "twelve hexadecimal digits",
    "name": "of the container",
    "image": "what it was made of",
    "state": "`running`, `exited`, `paused`, `restarting`",
    "status": "the engine's words: `Up 3 hours (healthy)`",
}
SOCKETS: Final = {"docker": Path("/run/docker.sock"), "podman": Path("/run/podman/podman.sock")}


def units() -> Iterator[dict[str, Any]]:
    """Services, sockets, mounts and timers that systemd has loaded."""
    kinds = "service,socket,mount,timer,path"
    for unit in _systemctl("list-units", "--all", f"--type={kinds}"):
        yield {"name": unit.get("unit"), **{key: unit.get(key) for key in ("load", "active", "sub", "description")}}


def timers() -> Iterator[dict[str, Any]]:
    for timer in _systemctl("list-timers", "--all"):
        yield {
            "name": timer.get("unit"),
            "unit": timer.get("activates"),
            "next": _moment(timer.get("next")),
            "last": _moment(timer.get("last")),
        }


def _systemctl(*words: str) -> Sequence[dict[str, Any]]:
    command = ["systemctl", *words, "--output=json", "--no-pager"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ASK_SECONDS, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.SubprocessError):
        return []
    if done.returncode or len(done.stdout) > MAX_ANSWER:
        return []
    found = json.loads(done.stdout or b"[]")
    return found if isinstance(found, list) else []


def _moment(microseconds: Any) -> str | None:
    """systemd's microseconds since 1970; 0 and the largest number mean never."""
    if not isinstance(microseconds, int) or not 0 < microseconds < 2**62:
        return None
    from datetime import UTC, datetime

    return datetime.fromtimestamp(microseconds / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def containers(sockets: dict[str, Path] = SOCKETS) -> Iterator[dict[str, Any]]:
    """From the engines' HTTP sockets (Docker Engine API, "list containers"), which podman speaks as well.

    The agent needs to be in the group `docker` for it; without that there are no rows.
    """
    for engine, path in sockets.items():
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            for each in _engine(path, f"/containers/json?all={quote('true')}"):
                yield {
                    "engine": engine,
                    "id": str(each.get("Id", ""))[:12],
                    "name": next(iter(each.get("Names") or [""])).lstrip("/"),
                    "image": each.get("Image"),
                    "state": each.get("State"),
                    "status": each.get("Status"),
                }


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ASK_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ASK_SECONDS)
        self.sock.connect(str(self._path))


def _engine(path: Path, what: str) -> list[dict[str, Any]]:
    connection = _UnixConnection(path)
    try:
        connection.request("GET", what)
        answer = connection.getresponse()
        body = answer.read(MAX_ANSWER)
    finally:
        connection.close()
    found = json.loads(body) if answer.status == http.HTTPStatus.OK else []
    return found if isinstance(found, list) else []
