"""What a store is asked besides taking messages: gets, watches, limits that delete, a quiet publisher beside a loud
one, and how long a large one takes to open.
"""

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from tests.bench import load
from tests.bench.scale import resident
from tests.support.servers import Broker

KEYS = 1000
GETS = 20_000
GETS_IN_FLIGHT = 64
PUTS = 1000  # whose way to a watcher is measured
LIMITED = 40_000  # messages into a stream that keeps fewer
KEPT = 10_000
LOUD_MESSAGES = 60_000  # of the loud publisher: some checkpoints
LARGE_MESSAGES = 1_000_000
LARGE_SUBJECTS = 100_000
VALUE = b"v" * 256
_names = itertools.count(1)


class Bucket:
    """As clients lay one out; the values are `VALUE`."""

    def __init__(self, port: int) -> None:
        self.name = f"b{next(_names)}"
        self.client = load.Client(port)
        config = {
            "name": f"KV_{self.name}",
            "subjects": [f"$KV.{self.name}.>"],
            "max_msgs_per_subject": 1,
            "allow_direct": True,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "discard": "new",
        }
        load.api(self.client, f"$JS.API.STREAM.CREATE.KV_{self.name}", config)
        self.client.send(b"SUB answers 1\r\n")
        self.client.flush()

    def put(self, key: str) -> None:
        self.client.send(b"PUB $KV.%b.%b answers %d\r\n%b\r\n" % (self.name.encode(), key.encode(), len(VALUE), VALUE))

    def close(self) -> None:
        load.api(self.client, f"$JS.API.STREAM.DELETE.KV_{self.name}", None)
        self.client.close()


def gets(port: int) -> float:
    """Direct gets of the newest value, a second."""
    bucket = Bucket(port)
    for number in range(KEYS):
        bucket.put(f"k{number}")
        bucket.client.until(b"}\r\n")
    ask = b"PUB $JS.API.DIRECT.GET.KV_%b.$KV.%b.k%d answers 0\r\n\r\n"
    name = bucket.name.encode()
    requests = [ask % (name, name, number) for number in range(KEYS)]

    def work() -> None:
        sent = got = 0
        tail = b""
        while got < GETS:
            room = min(GETS_IN_FLIGHT - (sent - got), GETS - sent)
            if room > 0:
                bucket.client.send(b"".join(requests[n % KEYS] for n in range(sent, sent + room)))
                sent += room
            data = tail + bucket.client.socket.recv(262144)
            got += data.count(VALUE)
            tail = data[data.rfind(VALUE) + len(VALUE) :] if VALUE in data else data

    rate = GETS / load.timed(work)
    bucket.close()
    return rate


def watch(port: int) -> float:
    """Microseconds from a put to the watcher that gets it, median."""
    bucket = Bucket(port)
    watcher = load.Client(port)
    watcher.send(b"SUB watched 1\r\n")
    watcher.flush()
    stream = f"KV_{bucket.name}"
    config = {"deliver_subject": "watched", "deliver_policy": "new", "ack_policy": "none", "name": "w"}
    body = {"stream_name": stream, "config": config}
    load.api(bucket.client, f"$JS.API.CONSUMER.CREATE.{stream}.w", body)
    times = []
    for number in range(PUTS):
        began = time.perf_counter()
        bucket.put(f"k{number % KEYS}")
        watcher.until(VALUE)
        times.append(time.perf_counter() - began)
        bucket.client.until(b"}\r\n")
    watcher.close()
    bucket.close()
    return statistics.median(times) * 1e6


def limited(port: int) -> float:
    """Messages a second into a stream that removes as many."""
    return load.durable_publish(port, 256, LIMITED, 256, kept=KEPT)


def beside(port: int) -> float:
    """Microseconds of the slowest hundredth of a quiet publisher's acknowledgements, while a loud one fills the log."""
    loud = threading.Thread(target=lambda: load.durable_publish(port, 256, LOUD_MESSAGES, 256, acks="loud"))
    loud.start()
    times: list[float] = []
    while loud.is_alive():
        times += load.durable_latencies(port, 256, 50)
    loud.join()
    return sorted(times)[len(times) * 99 // 100] * 1e6


def fill(broker: Broker) -> None:
    """A stream of many messages and a bucket of many keys."""
    client = load.Client(broker.port)
    load.api(client, "$JS.API.STREAM.CREATE.LARGE", {"name": "LARGE", "subjects": ["large.>"]})
    stored, chunk = 0, 500
    while stored < LARGE_MESSAGES:
        client.send(b"".join(b"PUB large.%d 64\r\n%b\r\n" % (n % 100, VALUE[:64]) for n in range(chunk)))
        client.flush()
        stored += chunk
    load.api(client, "$JS.API.STREAM.CREATE.KEYS", {"name": "KEYS", "subjects": ["k.>"], "max_msgs_per_subject": 1})
    for begin in range(0, LARGE_SUBJECTS, chunk):
        client.send(b"".join(b"PUB k.dev.%d.state 8\r\nabcdefgh\r\n" % n for n in range(begin, begin + chunk)))
        client.flush()
    for name, count in (("LARGE", LARGE_MESSAGES), ("KEYS", LARGE_SUBJECTS)):
        while load.api(client, f"$JS.API.STREAM.INFO.{name}", None)["state"]["messages"] < count:  # type: ignore[index]
            time.sleep(0.05)
    client.close()


def opening(make: Callable[[], Broker]) -> tuple[float, float]:
    """Milliseconds until a restarted server tells of its large streams, and its megabytes then."""
    with make() as broker:
        fill(broker)
        broker.stop()
        broker.ready = ""
        began = time.perf_counter()
        broker.start()
        while True:
            try:
                client = load.Client(broker.port)
                if load.api(client, "$JS.API.STREAM.INFO.KEYS", None)["state"]["messages"] == LARGE_SUBJECTS:  # type: ignore[index]
                    break
            except (OSError, RuntimeError, KeyError):
                time.sleep(0.005)
        took = (time.perf_counter() - began) * 1000
        client.close()
        return took, resident(broker) / 1e6


CASES: dict[str, tuple[str, Callable[[int], float]]] = {
    f"get from a bucket, 256 B, {GETS_IN_FLIGHT} in flight": ("get/s", gets),
    "put to its watcher, median": ("us", watch),
    f"durable publish, 256 in flight, {KEPT:,} kept": ("msg/s", limited),
    "publish to acknowledgement beside 256 in flight, p99": ("us", beside),
}


def run(brokers: Sequence[Broker], rounds: int) -> Iterator[tuple[str, str, list[float]]]:
    """Rows: name, unit, the figure of each broker."""
    for name, (unit, ask) in CASES.items():
        yield name, unit, [statistics.median(ask(broker.port) for _ in range(rounds)) for broker in brokers]
