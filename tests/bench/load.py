"""A small load generator: raw sockets, prepared bytes, threads that wait in the kernel.

Python is fast enough for this because nothing is made or parsed per message: chunks are prepared once, answers are
counted by their length. Each function returns what it measured; nothing is asserted about speed.
"""

import json
import math
import socket
import statistics
import threading
import time
from collections.abc import Callable, Sequence

CHUNK_BYTES = 256 * 1024  # written at once by a publisher
CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"protocol":0}\r\nPING\r\n'
TIMEOUT_S = 60.0


class Client:
    """One connection, past CONNECT."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(CONNECT)
        self.until(b"PONG\r\n")

    def until(self, mark: bytes) -> bytes:
        seen = b""
        while mark not in seen:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError(f"closed by the server: {seen[-200:]!r}")
            seen += data
        return seen

    def send(self, data: bytes | memoryview) -> None:
        self.socket.sendall(data)

    def flush(self) -> None:
        self.send(b"PING\r\n")
        self.until(b"PONG\r\n")

    def take(self, count: int) -> None:
        """Read exactly so many bytes."""
        buffer = memoryview(bytearray(1 << 20))
        left = count
        while left > 0:
            got = self.socket.recv_into(buffer[: min(left, len(buffer))])
            if not got:
                raise ConnectionError(f"closed by the server with {left} bytes missing")
            left -= got

    def echo(self, size: int, say: bytes, count: int, *, first: int = 0) -> None:
        """Say something for each message of so many bytes, `count` times in all; `first` times it was said before."""
        heard, said, left = 0, first, 0
        while heard < count:
            data = self.socket.recv(262144)
            if not data:
                raise ConnectionError("closed by the server")
            messages, left = divmod(left + len(data), size)
            heard += messages
            times = min(messages, count - said)
            if times:
                self.send(say * times)
                said += times

    def close(self) -> None:
        self.socket.close()


def frames(subject: str, size: int, count: int) -> bytes:
    return (f"PUB {subject} {size}\r\n".encode() + b"x" * size + b"\r\n") * count


def parts(data: bytes) -> list[memoryview]:
    """What a publisher hands to its socket at once."""
    view = memoryview(data)
    return [view[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]


def timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def publish(port: int, size: int, count: int) -> float:
    """Messages a second, nobody listening, up to the PONG after the last."""
    client = Client(port)
    per_chunk = max(CHUNK_BYTES // (size + 20), 1)
    chunk = frames("bench.nobody", size, per_chunk)

    def work() -> None:
        for _ in range(count // per_chunk):
            client.send(chunk)
        client.flush()

    rate = count // per_chunk * per_chunk / timed(work)
    client.close()
    return rate


def fan_out(
    port: int,
    sizes: Sequence[int],
    count: int,
    receivers: int = 1,
    *,
    publishers: int = 1,
    subjects: int = 1,
    header: bytes = b"",
) -> float:
    """Deliveries a second from all publishers to so many subscribers, up to the last byte at the last of them.

    Subjects and sizes rotate, one step a message each. `header`: a header line of every message.
    """
    subscribers = [Client(port) for _ in range(receivers)]
    for subscriber in subscribers:
        subscriber.send(b"SUB bench.out.* 1\r\n")
        subscriber.flush()
    clients = [Client(port) for _ in range(publishers)]
    period = math.lcm(subjects, len(sizes))
    period *= max(CHUNK_BYTES // (period * (sum(sizes) // len(sizes) + 24)), 1)
    data, delivered = _rotation(period, subjects, sizes, header)
    rounds = max(count // (period * publishers), 1)
    chunks = parts(data)

    def publish(client: Client) -> None:
        for _ in range(rounds):
            for chunk in chunks:
                client.send(chunk)

    threads = [threading.Thread(target=each.take, args=(delivered * rounds * publishers,)) for each in subscribers]
    threads += [threading.Thread(target=publish, args=(client,)) for client in clients]

    def work() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    rate = rounds * period * publishers * receivers / timed(work)
    for client in (*clients, *subscribers):
        client.close()
    return rate


def _rotation(count: int, subjects: int, sizes: Sequence[int], header: bytes) -> tuple[bytes, int]:
    """So many frames, and how many bytes one subscriber gets of them."""
    block = b"NATS/1.0\r\n%b\r\n\r\n" % header if header else b""
    verb, before = (b"HPUB", b"%d " % len(block)) if header else (b"PUB", b"")
    made, delivered = [], 0
    for number in range(count):
        subject, size = b"bench.out.%d" % (number % subjects), sizes[number % len(sizes)]
        rest = b"%b%d\r\n%b%b\r\n" % (before, len(block) + size, block, b"x" * size)
        made.append(b"%b %b %b" % (verb, subject, rest))
        delivered += len(made[-1]) + len(b"1 ")  # HMSG and MSG are as long as HPUB and PUB
    return b"".join(made), delivered


def request_window(port: int, count: int, window: int) -> float:
    """Requests a second with so many under way: each answer makes room for the next request."""
    server, client = Client(port), Client(port)
    server.send(b"SUB bench.echo 1\r\n")
    server.flush()
    client.send(b"SUB bench.inbox 1\r\n")
    client.flush()
    ask, asked = (
        b"PUB bench.echo bench.inbox 16\r\n" + b"x" * 16 + b"\r\n",
        len(b"MSG bench.echo 1 bench.inbox 16\r\n") + 18,
    )
    answer, answered = b"PUB bench.inbox 16\r\n" + b"y" * 16 + b"\r\n", len(b"MSG bench.inbox 1 16\r\n") + 18

    def work() -> None:
        thread = threading.Thread(target=server.echo, args=(asked, answer, count))
        thread.start()
        client.send(ask * window)
        client.echo(answered, ask, count, first=window)
        thread.join()

    rate = count / timed(work)
    server.close()
    client.close()
    return rate


def request(port: int, count: int) -> float:
    """Median round trip in microseconds, one request at a time."""
    server, client = Client(port), Client(port)
    server.send(b"SUB bench.echo 1\r\n")
    server.flush()
    client.send(b"SUB bench.inbox 1\r\n")
    client.flush()
    wanted = len(b"MSG bench.echo 1 bench.inbox 16\r\n") + 18

    def serve() -> None:
        answer = b"PUB bench.inbox 16\r\n" + b"y" * 16 + b"\r\n"
        for _ in range(count):
            server.take(wanted)
            server.send(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    ask = b"PUB bench.echo bench.inbox 16\r\n" + b"x" * 16 + b"\r\n"
    expected = len(b"MSG bench.inbox 1 16\r\n") + 18
    times = []
    for _ in range(count):
        began = time.perf_counter()
        client.send(ask)
        client.take(expected)
        times.append(time.perf_counter() - began)
    thread.join()
    server.close()
    client.close()
    return statistics.median(times) * 1e6


def api(client: Client, subject: str, body: object) -> dict[str, object]:
    """One JetStream API request; its answer, or RuntimeError with the server's words."""
    payload = json.dumps(body).encode() if body is not None else b""
    inbox = f"bench.api.{client.socket.getsockname()[1]}"  # of this client alone
    client.send(f"SUB {inbox} 9\r\nUNSUB 9 1\r\n".encode())
    client.send(f"PUB {subject} {inbox} {len(payload)}\r\n".encode() + payload + b"\r\n")
    head = client.until(b"\r\n")
    line, _, rest = head.partition(b"\r\n")
    while not line.startswith((b"MSG", b"HMSG")):  # a PING of the server's
        while b"\r\n" not in rest:
            rest += client.socket.recv(65536)
        line, _, rest = rest.partition(b"\r\n")
    size = int(line.split()[-1])
    while len(rest) < size + 2:
        rest += client.socket.recv(65536)
    header = int(line.split()[-2]) if line.startswith(b"HMSG") else 0
    answer: dict[str, object] = json.loads(rest[header:size])
    if "error" in answer:
        raise RuntimeError(f"{subject}: {answer['error']}")
    return answer


def durable_latencies(port: int, size: int, count: int) -> list[float]:
    """Seconds from publishing into a file stream to the acknowledgement, one at a time."""
    client = Client(port)
    name = f"BENCH{time.time_ns()}"
    api(client, f"$JS.API.STREAM.CREATE.{name}", {"name": name, "subjects": [f"{name}.>"], "storage": "file"})
    client.send(b"SUB bench.acks 1\r\n")
    client.flush()
    frame = f"PUB {name}.a bench.acks {size}\r\n".encode() + b"x" * size + b"\r\n"
    times = []
    for _ in range(count):
        began = time.perf_counter()
        client.send(frame)
        client.until(b"}\r\n")
        times.append(time.perf_counter() - began)
    api(client, f"$JS.API.STREAM.DELETE.{name}", None)
    client.close()
    return times


def durable_publish(
    port: int, size: int, count: int, window: int, *, keys: int = 0, kept: int = 0, acks: str = "bench.acks"
) -> float:
    """Acknowledged messages a second into a file stream, `window` of them without their acknowledgement at a time.

    `keys`: into a stream like that of a bucket, which keeps the newest of each of so many subjects. `kept`: into one
    that removes the oldest beyond so many. `acks`: where acknowledgements go.
    """
    client = Client(port)
    name = f"BENCH{time.time_ns()}"
    config: dict[str, object] = {"name": name, "subjects": [f"{name}.>"], "storage": "file"}
    if keys:
        config |= {"max_msgs_per_subject": 1, "allow_rollup_hdrs": True, "deny_delete": True, "discard": "new"}
    api(client, f"$JS.API.STREAM.CREATE.{name}", config)
    if kept:
        config["max_msgs"] = kept
    client.send(f"SUB {acks} 1\r\n".encode())
    client.flush()
    used = max(keys, 1)
    frames = [f"PUB {name}.{key} {acks} {size}\r\n".encode() + b"x" * size + b"\r\n" for key in range(used)]

    def work() -> None:
        sent = acked = 0
        tail = b""
        while acked < count:
            room = min(window - (sent - acked), count - sent)
            if room > 0:
                client.send(b"".join(frames[n % used] for n in range(sent, sent + room)))
                sent += room
            data = tail + client.socket.recv(262144)
            acked += data.count(b'"seq":')
            if b'"error"' in data:
                raise RuntimeError(data[:300].decode(errors="replace"))
            cut = data.rfind(b"\r\n") + 2
            tail = data[cut:] if cut > 1 else data
            if tail.count(b'"seq":'):
                acked -= tail.count(b'"seq":')

    rate = count / timed(work)
    api(client, f"$JS.API.STREAM.DELETE.{name}", None)
    client.close()
    return rate
