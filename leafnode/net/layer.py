"""Something between a socket and an endpoint that changes the bytes: TLS, websocket frames.

A layer is the protocol of what is below it and the transport of what is above it, so that neither knows of the other,
layers can be stacked, and connections without one pay nothing. What a layer does not change it passes on.
"""

import asyncio
from typing import Any, cast

from leafnode.net.endpoint import Endpoint
from leafnode.net.listening import peer_address


class Layer(asyncio.Protocol, asyncio.Transport):
    """Passes everything on. `added` counts the bytes that went down beyond those that came from above."""

    below: asyncio.Transport
    above: asyncio.Protocol | None = None

    def __init__(self) -> None:
        self.added = 0
        self.opened = False  # what is above knows of the connection

    def open_above(self, above: asyncio.Protocol) -> None:
        self.above = above
        self.opened = True
        above.connection_made(self)

    # towards the endpoint ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.below = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.opened and self.above is not None:
            self.above.connection_lost(exc)

    def eof_received(self) -> bool | None:
        return self.above.eof_received() if self.opened and self.above is not None else False

    def pause_writing(self) -> None:
        if self.opened and self.above is not None:
            self.above.pause_writing()

    def resume_writing(self) -> None:
        if self.opened and self.above is not None:
            self.above.resume_writing()

    # towards the socket ------------------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.below.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self.below.is_closing()

    def close(self) -> None:
        self.below.close()

    def abort(self) -> None:
        self.below.abort()

    def pause_reading(self) -> None:
        self.below.pause_reading()

    def resume_reading(self) -> None:
        self.below.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.below.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self.below.get_write_buffer_size()

    def added_bytes(self) -> int:
        """Of this layer and those below it."""
        return self.added + (self.below.added_bytes() if isinstance(self.below, Layer) else 0)


def peer_of(transport: asyncio.BaseTransport) -> str:
    host, port = peer_address(transport)
    return f"{host or '?'}:{port}"


def close_with(endpoint: asyncio.Protocol | None, below: asyncio.Transport, reason: str) -> None:
    """End a connection for a reason of the layer's; the endpoint, where there is one, is told it."""
    if isinstance(endpoint, Endpoint) and not endpoint.core.closing:
        endpoint.core.fail("", reason)
    below.close()
