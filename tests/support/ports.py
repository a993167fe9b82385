"""Free TCP ports for servers that tests start, also when several test processes look for some at the same time.

Ports come from below the range that the system hands out to connections, and each is claimed by a name that only one
process can have (an abstract socket, unix(7): no file is left behind), so that no other test process takes it between
our look and the server's bind. A claim ends with this process, or when so many others were made that its server has
long been bound, or is gone.
"""

import contextlib
import itertools
import os
import socket
from collections import deque

FIRST, LAST = 10_000, 32_000  # below Linux's ephemeral ports, which begin at 32,768
CLAIMS_HELD = 256  # each is an open socket
_STRIDE = 7  # so that the ports of one test do not lie side by side with those of another process

_claims: deque[socket.socket] = deque()
_candidates = itertools.cycle(
    FIRST + (os.getpid() * 131 + step * _STRIDE) % (LAST - FIRST) for step in range(LAST - FIRST)
)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on, and that no other test gets meanwhile."""
    for port in itertools.islice(_candidates, LAST - FIRST):
        if _claim(port):
            if _is_free(host, port):
                return port
            _claims.pop().close()
    raise RuntimeError(f"no free port from {FIRST} to {LAST}")


def _claim(port: int) -> bool:
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0fleetleaf-port-{port}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    if len(_claims) > CLAIMS_HELD:
        _claims.popleft().close()
    return True


def _is_free(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what has just been closed may still linger
        probe.bind((host, port))
        return True
    return False
