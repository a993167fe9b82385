"""What connections and subscriptions cost in memory and time, and whether it is given back.

The number of connections is bounded by the files that a process may have open.
"""

import resource
import time
from collections.abc import Iterator

import psutil

from tests.bench import load
from tests.support.servers import Broker

CONNECTIONS = 10_000
SUBSCRIPTIONS = 100_000
SETTLE_S = 2.0  # for the server to notice who is gone
SPARE_FILES = 200


def resident(broker: Broker) -> int:
    return int(psutil.Process(broker.pid).memory_info().rss)


def connections(broker: Broker) -> Iterator[tuple[str, float, str]]:
    """Idle ones, past CONNECT."""
    count = min(CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES)
    before, began = resident(broker), time.perf_counter()
    clients = [load.Client(broker.port) for _ in range(count)]
    took = time.perf_counter() - began
    yield f"{count:,} connections, memory of each", (resident(broker) - before) / count / 1024, "KiB"
    yield f"{count:,} connections, time of each", took / count * 1e6, "us"
    for client in clients:
        client.close()
    time.sleep(SETTLE_S)
    yield f"kept of {count:,} connections that are gone", (resident(broker) - before) / 1e6, "MB"


def subscriptions(broker: Broker, clients: int) -> Iterator[tuple[str, float, str]]:
    """Of one client or many; half of them wildcards."""
    name = f"{SUBSCRIPTIONS:,} subscriptions of {clients:,}"
    each = SUBSCRIPTIONS // clients
    some = [load.Client(broker.port) for _ in range(clients)]
    before, began = resident(broker), time.perf_counter()
    for number, client in enumerate(some):
        patterns = (b"dev.%d.%d.%b" % (number, n, b"*" if n % 2 else b"state") for n in range(each))
        client.send(b"".join(b"SUB %b %d\r\n" % (pattern, sid) for sid, pattern in enumerate(patterns, 1)))
        client.flush()
    took = time.perf_counter() - began
    yield f"{name}, memory of each", (resident(broker) - before) / SUBSCRIPTIONS, "B"
    yield f"{name}, time of each", took / SUBSCRIPTIONS * 1e6, "us"
    for client in some:
        client.close()
    time.sleep(SETTLE_S)
    yield f"kept of {name}", (resident(broker) - before) / 1e6, "MB"


def run(brokers: list[Broker]) -> Iterator[tuple[str, str, list[float]]]:
    """Each figure of all brokers."""
    for rows in (connections, lambda one: subscriptions(one, 1), lambda one: subscriptions(one, 1000)):
        for same in zip(*(list(rows(broker)) for broker in brokers), strict=True):
            yield same[0][0], same[0][2], [value for _, value, _ in same]
