"""Websocket frames between a socket and an endpoint, once the upgrade is done: the part that both sides share."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from leafnode.net.endpoint import Endpoint
from leafnode.net.layer import Layer
from leafnode.wire import websocket
from leafnode.wire.websocket import Close, Data, Decoder, Encoder, Ping, WebsocketError

PONGS_MAX = 64 * 1024  # bytes waiting for a peer beyond which its pings are not answered


class FrameLayer(Layer, ABC):
    """HTTP first (`_handshake`, until `begin`), then frames."""

    def __init__(self) -> None:
        super().__init__()
        self._decoder: Decoder | None = None
        self._encoder = Encoder()
        self._endpoint: Endpoint | None = None
        self._close_frame = b""  # what to say last; empty: a reason is found in the endpoint
        self._ended = False  # no more frames, in or out
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, decoder: Decoder, encoder: Encoder, endpoint: Endpoint) -> None:
        """The upgrade is done."""
        self._stop_timer()
        self._decoder, self._encoder, self._endpoint = decoder, encoder, endpoint
        self.open_above(endpoint)

    @abstractmethod
    def _handshake(self, data: bytes) -> None:
        """Bytes before the upgrade is done."""

    def limit_handshake(self, seconds: float, too_late: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, too_late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    # towards the endpoint ----------------------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if self._decoder is None or self._endpoint is None:
            self._handshake(data)
        else:
            self._frames(self._decoder, self._endpoint, data)

    def _frames(self, decoder: Decoder, endpoint: Endpoint, data: bytes) -> None:
        chunks: list[bytes] = []
        broken: WebsocketError | None = None
        try:
            for event in decoder.feed(data):
                match event:
                    case Data(payload):
                        chunks.append(payload)
                    case Ping(body):
                        endpoint.core.heard = True
                        if self.below.get_write_buffer_size() < PONGS_MAX:
                            self._write(self._encoder.control(websocket.pong(body)))
                    case Close(body):
                        self._close_frame = websocket.close_echo(body)
                        break
        except WebsocketError as error:
            broken = error
            self._close_frame = websocket.close(error.code, error.said)
        if chunks:
            endpoint.data_received(b"".join(chunks) if len(chunks) > 1 else chunks[0])
        if self._close_frame:
            self._ended = True
            endpoint.core.fail("", broken.reason if broken else endpoint.core.close_reason or endpoint.lost_reason)

    # towards the socket ------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.added -= len(data)
        self._write(self._encoder.message(bytes(data)))

    def _write(self, frame: bytes) -> None:
        self.added += len(frame)
        self.below.write(frame)

    def close(self) -> None:
        """Say why, then end: the peer's close frame is not waited for."""
        if self._endpoint is not None and not self.below.is_closing():
            reason = self._endpoint.core.close_reason
            self._write(self._encoder.control(self._close_frame or websocket.close(close_code(reason), reason)))
        self._ended = True
        super().close()


POLICY = ("Authentication", "Authorization", "Slow Consumer", "Maximum Connections", "Maximum Account", "Stale")
CODES = {  # beginnings of the reasons of endpoints, and the code of the close frame (nats-server)
    "Client Closed": websocket.NORMAL,
    "Server Shutdown": websocket.GOING_AWAY,
    "Maximum Message Payload": websocket.TOO_BIG,
    "Maximum Control Line": websocket.TOO_BIG,
    "Protocol Violation": websocket.BROKEN,
    "Parse Error": websocket.BROKEN,
    "Bad Client Protocol": websocket.BROKEN,
    **dict.fromkeys(POLICY, websocket.POLICY),
}


def close_code(reason: str) -> int:
    return next((code for start, code in CODES.items() if reason.startswith(start)), websocket.UNEXPECTED)
