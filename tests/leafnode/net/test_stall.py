"""How long a publisher waits for a receiver that takes less than it publishes."""

import asyncio
import time
from collections.abc import Callable

import pytest

from leafnode.broker import Broker
from leafnode.config.options import Config
from leafnode.net.server import ClientConnection

NOTICE_SECONDS = 5.0
MAX_PENDING = 1000
CONNECT = b'CONNECT {"verbose":false}\r\n'


class HeldTransport(asyncio.Transport):
    """A socket of which the test says how much waits for it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.waiting = 0
        self.is_read = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def is_closing(self) -> bool:
        return False


def connect(broker: Broker, first: bytes) -> tuple[ClientConnection, HeldTransport]:
    connection = broker.clients.accept()
    assert isinstance(connection, ClientConnection)
    transport = HeldTransport()
    connection.connection_made(transport)
    connection.data_received(CONNECT + first)
    return connection, transport


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + NOTICE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("pedantic", [b"true", b"false"], ids=["complete way", "fast way"])
@pytest.mark.parametrize("ends_by", ["room", "silence", "patience"])
async def test_a_publisher_waits_for_a_receiver_that_reads_until_it_has_half_its_room(
    ends_by: str, pedantic: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leafnode.net.server.STALL_SECONDS", 0.001)
    monkeypatch.setattr("leafnode.net.server.READING_SECONDS", 0.01 if ends_by == "silence" else 60.0)
    monkeypatch.setattr("leafnode.net.server.STALLS_MAX", 20 if ends_by == "patience" else 1_000_000)
    broker = Broker(Config(host="127.0.0.1", port=0, max_pending=MAX_PENDING))
    reader, slow = connect(broker, b"SUB a 1\r\n")
    publisher, paced = connect(broker, b'CONNECT {"pedantic":%b}\r\n' % pedantic)
    reader.pause_writing()
    slow.waiting = MAX_PENDING - 100
    publisher.data_received(b"PUB a 1\r\nx\r\n")
    assert not paced.is_read
    looks = 0
    is_half_drowned = reader.is_half_drowned

    def look() -> bool:
        nonlocal looks
        looks += 1
        return is_half_drowned()

    monkeypatch.setattr(reader, "is_half_drowned", look)
    if ends_by == "room":
        await until(lambda: looks > 30)
        assert not paced.is_read
        slow.waiting = MAX_PENDING // 2
    await until(lambda: paced.is_read)
    assert (looks == 20) == (ends_by == "patience")
    for connection in (reader, publisher):
        connection.connection_lost(None)
