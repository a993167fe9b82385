"""How fast a reader gets what a stream keeps: by pull requests and by push, with acknowledgements and without.

The reader is raw: it looks for the end of each frame and, where it acknowledges, for the reply subject.
"""

import itertools
import json
import time

from tests.bench import load

REQUEST = 500  # messages asked for at once; the next request follows when half of it has come
FILL_CHUNK = 500  # messages published before the server is asked how far it is
_names = itertools.count(1)


def drain(port: int, size: int, count: int, *, push: bool = False, acks: bool = False) -> float:
    """Messages a second, up to the last acknowledgement's effect."""
    api = load.Client(port)
    stream = f"DRAIN{next(_names)}"
    load.api(api, f"$JS.API.STREAM.CREATE.{stream}", {"name": stream, "subjects": [f"{stream}.m"]})
    _fill(api, stream, size, count)
    reader = Reader(port, stream, size)
    config: dict[str, object] = {"durable_name": "c", "ack_policy": "explicit" if acks else "none"}
    if acks:
        config["max_ack_pending"] = -1
    if push:
        config["deliver_subject"] = f"to.{stream}"
    load.api(api, f"$JS.API.CONSUMER.CREATE.{stream}.c", {"stream_name": stream, "config": config})
    began = time.perf_counter()
    reader.read(count, pull=not push, acks=acks)
    deadline = began + load.TIMEOUT_S
    while acks and load.api(api, f"$JS.API.CONSUMER.INFO.{stream}.c", None)["num_ack_pending"]:
        if time.perf_counter() > deadline:
            raise TimeoutError(f"{stream}: acknowledgements have no effect")
    rate = count / (time.perf_counter() - began)
    load.api(api, f"$JS.API.STREAM.DELETE.{stream}", None)
    reader.client.close()
    api.close()
    return rate


def _fill(client: load.Client, stream: str, size: int, count: int) -> None:
    for _ in range(count // FILL_CHUNK):
        client.send(load.frames(f"{stream}.m", size, FILL_CHUNK))
        client.flush()
    info = f"$JS.API.STREAM.INFO.{stream}"
    while load.api(client, info, None)["state"]["messages"] < count:  # type: ignore[index]
        time.sleep(0.02)


class Reader:
    """A client that takes deliveries."""

    def __init__(self, port: int, stream: str, size: int) -> None:
        self.client = load.Client(port)
        self._stream = stream
        self._size = size
        self.client.send(f"SUB to.{stream} 1\r\n".encode())
        self.client.flush()

    def read(self, count: int, *, pull: bool, acks: bool) -> None:
        got = asked = 0
        data = b""
        while got < count:
            if pull and asked < count and asked - got <= REQUEST // 2:
                self._ask()
                asked += REQUEST
            data += self.client.socket.recv(1 << 18)
            replies, data = self._frames(data)
            got += len(replies)
            if acks and replies:
                self.client.send(b"".join(b"PUB %b 0\r\n\r\n" % reply for reply in replies))

    def _ask(self) -> None:
        body = json.dumps({"batch": REQUEST, "expires": int(load.TIMEOUT_S * 1e9)})
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.c"
        self.client.send(f"PUB {subject} to.{self._stream} {len(body)}\r\n{body}\r\n".encode())

    def _frames(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Reply subjects of the whole deliveries, and what is left."""
        replies: list[bytes] = []
        position = 0
        while (end := data.find(b"\r\n", position)) >= 0:
            words = data[position:end].split(b" ")
            if words[0] != b"MSG":
                if words[0] != b"PING":
                    raise RuntimeError(f"the server says {data[position:end]!r}")
                self.client.send(b"PONG\r\n")
                position = end + 2
                continue
            after = end + 2 + self._size + 2
            if after > len(data):
                break
            replies.append(words[3])
            position = after
        return replies, data[position:]
