"""What a stored message costs: rate, latency, bytes written to the disk, CPU.

Beside a nats-server as it comes, which acknowledges before it syncs, and one with `sync_interval: always`. Bytes are
what the kernel counts for the process (`/proc/PID/io`: whole pages, once they are dirty); CPU is the process's own.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.bench import load
from tests.support.servers import Broker

KEYS = 100  # of the bucket
LATENCIES = 1500  # publishes whose round trip is measured one by one


class Case(NamedTuple):
    messages: int
    window: int  # in flight
    goal: float  # of the rate, to that of the safe nats-server
    keys: int = 0  # put into a bucket of so many keys, instead of published to a stream


CASES = {
    "durable publish, 256 B, one at a time": Case(1_500, 1, 1.5),
    "durable publish, 256 B, 16 in flight": Case(10_000, 16, 10),
    "durable publish, 256 B, 256 in flight": Case(40_000, 256, 30),
    "put into a bucket, 256 B, 64 in flight": Case(10_000, 64, 20, KEYS),
}


class Cost(NamedTuple):
    """Of one message."""

    rate: float  # messages a second
    written: float  # bytes
    cpu: float  # microseconds


def measure(broker: Broker, case: Case) -> Cost:
    process = psutil.Process(broker.pid)
    cpu, written = _cpu(process), _written(broker.pid)
    rate = load.durable_publish(broker.port, 256, case.messages, case.window, keys=case.keys)
    return Cost(
        rate,
        (_written(broker.pid) - written) / case.messages,
        (_cpu(process) - cpu) / case.messages * 1e6,
    )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _written(pid: int) -> int:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def run(brokers: Sequence[Broker], rounds: int) -> Iterator[tuple[str, str, list[float], float | None]]:
    """Rows: name, unit, the figure of each broker, the goal of the first one's to the last one's."""
    for name, case in CASES.items():
        costs: list[list[Cost]] = [[] for _ in brokers]
        for _ in range(rounds):
            for broker, kept in zip(brokers, costs, strict=True):
                kept.append(measure(broker, case))
        yield name, "msg/s", _medians(costs, lambda cost: cost.rate), case.goal
        yield "  written to the disk, each", "B", _medians(costs, lambda cost: cost.written), None
        yield "  CPU of the server, each", "us", _medians(costs, lambda cost: cost.cpu), None
    times = [load.durable_latencies(broker.port, 256, LATENCIES) for broker in brokers]
    yield "publish to acknowledgement, median", "us", [statistics.median(each) * 1e6 for each in times], None
    yield "publish to acknowledgement, p99", "us", [sorted(each)[len(each) * 99 // 100] * 1e6 for each in times], None


def _medians(costs: list[list[Cost]], of: Callable[[Cost], float]) -> list[float]:
    return [statistics.median(of(cost) for cost in kept) for kept in costs]
