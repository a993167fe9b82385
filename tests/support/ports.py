"""Free TCP ports for servers that tests start."""

import socket


def free_port(host: str = "127.0.0.1") -> int:
    """A port that was free a moment ago. The system hands ephemeral ports out in turn, so a clash is unlikely."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
