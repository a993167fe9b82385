"""leafnode as a service: sockets that outlive it, what it tells the service manager, lame duck by signal."""

import json
import signal
import socket
import urllib.request
from pathlib import Path

import pytest

from tests.conformance.raw import Wire
from tests.support.service_manager import ServiceManager

LISTENERS = """
listen: "127.0.0.1:{client}"
http: "127.0.0.1:{monitor}"
leafnodes {{ listen: "127.0.0.1:{leaf}" }}
websocket {{ listen: "127.0.0.1:{websocket}", no_tls: true }}
lame_duck_grace_period: "0s"
"""
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize("names", [("client", "leaf", "websocket", "monitor"), ("leafnode.socket",) * 4])
def test_who_connects_during_a_restart_is_served(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Sockets are known by their names, or by their ports where all have the name of their unit."""
    with ServiceManager(tmp_path) as manager:
        ports = {
            key: manager.hold(name) for key, name in zip(("client", "leaf", "websocket", "monitor"), names, strict=True)
        }
        config = tmp_path / "leafnode.conf"
        config.write_text(LISTENERS.format(**ports))
        with manager.service(["-c", str(config)]) as first:
            with Wire(ports["client"]) as wire:
                wire.send(b"PING\r\n")
                wire.until(b"PONG\r\n")
            assert first.stop() == 0
        early = [socket.create_connection(("127.0.0.1", port), timeout=20) for port in ports.values()]
        with manager.service(["-c", str(config)]):
            client, leaf, websocket, monitor = early
            assert client.recv(4) == b"INFO"
            assert leaf.recv(4) == b"INFO"
            websocket.sendall(UPGRADE)
            assert websocket.recv(12) == b"HTTP/1.1 101"
            monitor.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert monitor.recv(12) == b"HTTP/1.1 200"
            for each in early:
                each.close()


def test_a_socket_that_nobody_takes_is_closed_and_named(tmp_path: Path) -> None:
    with ServiceManager(tmp_path) as manager:
        port = manager.hold("web")
        with manager.service(["-a", "127.0.0.1", "-p", "-1"]) as service:
            assert f"the service manager's socket 'web' at port {port} is closed" in service.output()


def test_the_service_manager_hears_of_its_state(tmp_path: Path) -> None:
    with ServiceManager(tmp_path) as manager:
        port = manager.hold("client")
        with manager.service(["-a", "127.0.0.1", "-p", str(port)], watchdog_s=0.2) as service:
            assert "STATUS=serving clients" in manager.wait_for("READY=1")
            for _ in range(3):
                manager.wait_for("WATCHDOG=1")
            service.signal(signal.SIGTERM)
            manager.wait_for("STOPPING=1")


def test_a_hung_service_feeds_no_watchdog(tmp_path: Path) -> None:
    with ServiceManager(tmp_path) as manager:
        port = manager.hold("client")
        with manager.service(["-a", "127.0.0.1", "-p", str(port)], watchdog_s=0.2) as service:
            manager.wait_for("WATCHDOG=1")
            service.signal(signal.SIGSTOP)
            try:
                with pytest.raises(TimeoutError):
                    manager.hear_out("WATCHDOG=1", within_s=1.0)
            finally:
                service.signal(signal.SIGCONT)


def test_a_lame_duck_leaves_its_sockets_to_the_next(tmp_path: Path) -> None:
    """Clients are told and closed, the process ends by itself, and newcomers wait for the next one."""
    with ServiceManager(tmp_path) as manager:
        port = manager.hold("client")
        config = tmp_path / "leafnode.conf"
        config.write_text('lame_duck_grace_period: "0s"\nlame_duck_duration: "30s"\n')
        arguments = ["-a", "127.0.0.1", "-p", str(port), "-c", str(config)]
        with manager.service(arguments) as service, Wire(port) as wire:
            wire.send(b'CONNECT {"verbose":false,"protocol":1}\r\nPING\r\n')
            wire.until(b"PONG\r\n")
            wire.until(b"\r\n")
            service.signal(signal.SIGUSR2)
            assert json.loads(wire.until(b"\r\n").removeprefix(b"INFO "))["ldm"] is True
            newcomer = socket.create_connection(("127.0.0.1", port), timeout=20)
            assert wire.rest() == b""
        with manager.service(arguments):
            assert newcomer.recv(4) == b"INFO"
            newcomer.close()


def addresses_of_this_machine() -> list[str]:
    """Loopback addresses that a wildcard stands for; a machine may be without IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return ["127.0.0.1"]
    return ["127.0.0.1", "::1"]


def test_both_address_families_reach_a_wildcard(tmp_path: Path) -> None:
    arguments = ["-p", "-1", "-m", "-1", "--ports_file_dir", str(tmp_path)]
    addresses = addresses_of_this_machine()
    with ServiceManager(tmp_path) as manager, manager.service(arguments):
        [ports] = [json.loads(path.read_text()) for path in tmp_path.glob("*.ports")]
        port = int(ports["nats"][0].rsplit(":", 1)[1])
        for address in addresses:
            with Wire(port, host=address) as wire:
                assert json.loads(wire.info.removeprefix(b"INFO "))["client_ip"] == address
        with urllib.request.urlopen(f"{ports['monitoring'][0]}/connz?state=any") as answer:
            shown = [row["ip"] for row in json.load(answer)["connections"]]
        assert sorted(shown) == addresses
