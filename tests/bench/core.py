"""Core NATS: what is measured, and what leafnode is to reach of nats-server's figure.

The goals are for pure Python. Rates are to be high, the round trip low.
"""

from collections.abc import Callable
from typing import NamedTuple

from tests.bench import load

EVERY_SIZE = [16 + n * 7919 % 509 for n in range(509)]  # each message another, in no order
MIXED_SIZES = [16, 64, 256, 1024]


class Case(NamedTuple):
    measure: Callable[[int], float]
    """Of the server at this port."""
    goal: float = 0.0
    """Ratio to nats-server; 0: none was set."""
    unit: str = "msg/s"


CASES: dict[str, Case] = {
    "publish, nobody listening, 16 B": Case(lambda port: load.publish(port, 16, 2_000_000), 1.0),
    "publish, nobody listening, 256 B": Case(lambda port: load.publish(port, 256, 800_000), 1.0),
    "publish to subscriber, 16 B": Case(lambda port: load.fan_out(port, [16], 1_200_000), 1.3),
    "publish to subscriber, 256 B": Case(lambda port: load.fan_out(port, [256], 600_000), 1.5),
    "publish to subscriber, 1 KiB": Case(lambda port: load.fan_out(port, [1024], 200_000), 1.1),
    "fan-out to 10, 16 B": Case(lambda port: load.fan_out(port, [16], 200_000, 10), 1.8),
    "fan-out to 10, 256 B": Case(lambda port: load.fan_out(port, [256], 80_000, 10), 1.8),
    "1,000 subjects, mixed sizes": Case(lambda port: load.fan_out(port, MIXED_SIZES, 400_000, subjects=1000), 1.5),
    "1,000 subjects, every size different": Case(
        lambda port: load.fan_out(port, EVERY_SIZE, 509_000, subjects=1000), 1.2
    ),
    "100,000 rotating subjects, 128 B": Case(lambda port: load.fan_out(port, [128], 400_000, subjects=100_000), 0.9),
    "50 publishers, 128 B": Case(lambda port: load.fan_out(port, [128], 600_000, publishers=50)),
    "with a header, 256 B": Case(lambda port: load.fan_out(port, [256], 400_000, header=b"Trace: abcdef")),
    "request, 256 under way": Case(lambda port: load.request_window(port, 200_000, 256)),
    "request, median round trip": Case(lambda port: load.request(port, 4_000), 0.7, "us"),
}
