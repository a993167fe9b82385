"""A TCP proxy that misbehaves on request: the link that stalls, loses, resets, refuses and crawls.

It stands between a client and a server on loopback. Used from a test it runs a loop of its own in a thread
(`with Proxy(port) as link:`), inside an event loop it runs on that loop (`async with Proxy(port) as link:`). Every
command takes effect before it returns and may be called from any thread:

    link.stall()            nothing moves; both ends keep their connection (half-open). Also "up" or "down" only
    link.blackhole()        bytes are taken and vanish; a connection that lost some is only good for resetting
    link.restore()          end of stall, blackhole, delay and rate
    link.reset()            RST on both sides of every connection, now
    link.fin()              orderly end of every connection, now
    link.refuse()           new connections are refused by the system; link.accept() listens on the same port again
    link.cut_after(n)       RST once exactly n more bytes went up (inside a frame, if one likes)
    link.delay(seconds)     one-way latency, without limiting what is in flight
    link.rate(bytes_per_s)  a slow link
    link.corrupt()          one bit of the next bytes is wrong. Also "up" or "down" only

`up` is from the client to the server. Counters: `accepted`, `up_bytes`, `down_bytes`; `open` is how many
connections stand now.
"""

import asyncio
import contextlib
import math
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Literal, Self

Direction = Literal["up", "down", "both"]

CHUNK_BYTES = 16 * 1024  # read at once: small enough that a stall holds back soon
HELD_BYTES = 1024 * 1024  # in flight per direction while delayed; beyond it the sender waits, as on a real link
RATE_SLICES_PER_S = 50  # a slow link hands over this often: smooth enough that no keep-alive is fooled
START_SECONDS = 10.0  # for the thread's loop to come up
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close() sends RST


class Proxy:
    """Forwards connections from `port` to `target` and harms them on request (see the module's docstring)."""

    def __init__(self, target: int | tuple[str, int], *, port: int = 0) -> None:
        self.target = ("127.0.0.1", target) if isinstance(target, int) else target
        self.port = port
        self.accepted = 0
        self.up_bytes = 0
        self.down_bytes = 0
        self._latency_s = 0.0
        self._bytes_per_s = math.inf
        self._cut: tuple[Direction, int] | None = None
        self._lost: set[str] = set()
        self._corrupt: set[str] = set()
        self._held: set[str] = set()
        self._gates: dict[str, asyncio.Event] = {}
        self._links: set[_Link] = set()
        self._ended = 0  # resets and fins so far: what was being connected meanwhile belongs to them
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    # Life: one loop, either the caller's or one in a thread of its own.

    async def __aenter__(self) -> Self:
        self._open(asyncio.get_running_loop())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Serves from a thread until `stop`."""
        up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._in_thread(up)), name=f"proxy-{self.target}")
        self._thread.start()
        if not up.wait(START_SECONDS) or self._loop is None:
            raise RuntimeError(f"the proxy for {self.target} could not listen on port {self.port}")
        return self

    def stop(self) -> None:
        if self._thread and self._loop:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join()
            self._thread = None

    async def _in_thread(self, up: threading.Event) -> None:
        self._over = asyncio.Event()
        try:
            self._open(asyncio.get_running_loop())
        finally:
            up.set()
        try:
            await self._over.wait()
        finally:
            await self._close()

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._gates = {side: asyncio.Event() for side in ("up", "down")}
        for gate in self._gates.values():
            gate.set()
        self._listen(loop)
        self._loop = loop

    async def _close(self) -> None:
        self._deafen()
        for link in list(self._links):
            link.end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Commands.

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        return len(self._links)

    def stall(self, direction: Direction = "both") -> None:
        self._now(lambda: self._hold(direction))

    def blackhole(self, direction: Direction = "both") -> None:
        self._now(lambda: self._lost.update(_sides(direction)))

    def restore(self) -> None:
        self._now(self._restore)

    def reset(self) -> None:
        self._now(self._reset)

    def fin(self) -> None:
        self._now(self._fin)

    def refuse(self) -> None:
        self._now(self._deafen)

    def accept(self) -> None:
        self._now(self._listen_again)

    def cut_after(self, count: int, direction: Direction = "up") -> None:
        self._now(lambda: setattr(self, "_cut", (direction, count)))

    def delay(self, seconds: float) -> None:
        self._now(lambda: setattr(self, "_latency_s", seconds))

    def rate(self, bytes_per_s: float) -> None:
        self._now(lambda: setattr(self, "_bytes_per_s", bytes_per_s))

    def corrupt(self, direction: Direction = "both") -> None:
        self._now(lambda: self._corrupt.update(_sides(direction)))

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("the proxy is not started: use it in a with block or call start()")
        return self._loop

    def _now(self, act: Callable[[], object]) -> None:
        """Runs `act` in the loop and returns when it is done."""
        if self._thread is None or threading.current_thread() is self._thread:
            act()
            return
        done = threading.Event()

        def there() -> None:
            try:
                act()
            finally:
                done.set()

        self._running().call_soon_threadsafe(there)
        done.wait(START_SECONDS)

    def _hold(self, direction: Direction) -> None:
        for side in _sides(direction):
            self._gates[side].clear()

    def _restore(self) -> None:
        self._lost.clear()
        self._corrupt.clear()
        self._latency_s, self._bytes_per_s, self._cut = 0.0, math.inf, None
        for gate in self._gates.values():
            gate.set()

    def _reset(self) -> None:
        self._ended += 1
        for link in list(self._links):
            link.reset()

    def _fin(self) -> None:
        self._ended += 1
        for link in list(self._links):
            link.end()

    # Accepting.

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        loop.add_reader(self._listener.fileno(), self._on_connection)

    def _listen_again(self) -> None:
        if self._listener is None:
            self._listen(self._running())

    def _deafen(self) -> None:
        if self._listener is not None:
            self._running().remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def _on_connection(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            self.accepted += 1
            task = self._running().create_task(self._serve(client, self._ended))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: socket.socket, ended: int) -> None:
        try:
            down = await asyncio.open_connection(sock=client, limit=CHUNK_BYTES)
        except OSError:  # the client went away in the same moment
            client.close()
            return
        try:
            up = await asyncio.open_connection(*self.target, limit=CHUNK_BYTES)
        except OSError:  # nobody there: the client must see that
            _abort(down[1])
            return
        link = _Link(down[1], up[1])
        if self._ended != ended:
            link.reset()
            return
        self._links.add(link)
        try:
            await asyncio.gather(self._pump("up", down[0], up[1]), self._pump("down", up[0], down[1]))
        except OSError:
            link.reset()
        finally:
            self._links.discard(link)
            link.end()

    # Moving bytes: a reader and a writer per direction, with what is in flight between them.

    async def _pump(self, side: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        flight = _Flight()
        reading = asyncio.create_task(self._read(side, source, flight))
        try:
            while (item := await flight.take()) is not None:
                due, data = item
                if (early := due - time.monotonic()) > 0:
                    await asyncio.sleep(early)
                await self._gates[side].wait()
                await self._write(side, sink, data)
            await reading
            if sink.can_write_eof() and not sink.is_closing():
                sink.write_eof()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, side: str, source: asyncio.StreamReader, flight: "_Flight") -> None:
        try:
            while data := await source.read(CHUNK_BYTES):
                await flight.put(time.monotonic() + self._latency_s, data)
                await self._gates[side].wait()
        finally:
            flight.finish()

    async def _write(self, side: str, sink: asyncio.StreamWriter, data: bytes) -> None:
        data, cut = self._shorten(side, data)
        if data and side in self._corrupt:
            self._corrupt.discard(side)
            data = _flipped(data)
        while data and side not in self._lost:
            piece = data
            if self._bytes_per_s < math.inf:
                piece = data[: max(1, int(self._bytes_per_s / RATE_SLICES_PER_S))]
                await asyncio.sleep(len(piece) / self._bytes_per_s)
                await self._gates[side].wait()
            sink.write(piece)
            await sink.drain()
            self._count(side, len(piece))
            data = data[len(piece) :]
        if cut:
            self._cut = None
            self._reset()

    def _shorten(self, side: str, data: bytes) -> tuple[bytes, bool]:
        """What may still pass before the promised cut, and whether the cut is due."""
        if self._cut is None or side not in _sides(self._cut[0]):
            return data, False
        direction, left = self._cut
        self._cut = (direction, max(0, left - len(data)))
        return data[:left], left <= len(data)

    def _count(self, side: str, size: int) -> None:
        if side == "up":
            self.up_bytes += size
        else:
            self.down_bytes += size


class _Link:
    """The two ends of one forwarded connection."""

    def __init__(self, *ends: asyncio.StreamWriter) -> None:
        self.ends = ends
        for end in ends:
            with contextlib.suppress(OSError):
                _socket(end).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def reset(self) -> None:
        for end in self.ends:
            _abort(end)

    def end(self) -> None:
        for end in self.ends:
            end.close()


class _Flight:
    """Chunks on their way with the time at which they are due; holds back beyond HELD_BYTES."""

    def __init__(self) -> None:
        self._items: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._ended = False
        self._change = asyncio.Event()

    async def put(self, due: float, data: bytes) -> None:
        self._items.append((due, data))
        self._bytes += len(data)
        self._change.set()
        while self._bytes > HELD_BYTES:
            self._change.clear()
            await self._change.wait()

    async def take(self) -> tuple[float, bytes] | None:
        """The oldest chunk, or None after the last one."""
        while not self._items:
            if self._ended:
                return None
            self._change.clear()
            await self._change.wait()
        item = self._items.popleft()
        self._bytes -= len(item[1])
        self._change.set()
        return item

    def finish(self) -> None:
        self._ended = True
        self._change.set()


def _flipped(data: bytes) -> bytes:
    """With one bit in the middle changed."""
    middle = len(data) // 2
    return data[:middle] + bytes((data[middle] ^ 1,)) + data[middle + 1 :]


def _sides(direction: Direction) -> set[str]:
    return {"up", "down"} if direction == "both" else {direction}


def _socket(end: asyncio.StreamWriter) -> socket.socket:
    found: socket.socket = end.get_extra_info("socket")
    return found


def _abort(end: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        _socket(end).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    end.transport.abort()
