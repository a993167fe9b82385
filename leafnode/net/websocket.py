"""The websocket listener: for browsers, and wherever only HTTP gets through.

    socket -> (TlsLayer) -> WebsocketLayer: HTTP upgrade, then frames -> ClientConnection, as on the plain listener

What it means to be a client is decided above; here are only the upgrade, the frames and the end of them.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from leafnode import identity
from leafnode.config.options import Config, TlsConfig
from leafnode.errors import LeafnodeError
from leafnode.net.layer import Layer, peer_of
from leafnode.net.server import ClientConnection, ClientHost, Entrance
from leafnode.net.tls import ServerTls, TlsLayer
from leafnode.route.auth import Authenticator
from leafnode.wire import upgrade, websocket
from leafnode.wire.upgrade import Agreed, RequestError, Rules
from leafnode.wire.websocket import Close, Data, Decoder, Encoder, Ping, WebsocketError

BACKLOG = 1024  # connections that wait to be accepted
PONGS_MAX = 64 * 1024  # bytes waiting for a peer beyond which its pings are not answered
MESSAGE_SPARE = 64 * 1024  # bytes that a compressed message may hold beyond one largest payload: the lines around it

log = logging.getLogger("leafnode.client")


class WebsocketListener:
    """Everything that websocket clients share beyond what all clients do."""

    def __init__(self, host: ClientHost, config: Config, authenticator: Authenticator | None) -> None:
        """`authenticator`: this listener's own; None = that of all clients. Raises ConfigError for unusable TLS."""
        rules = config.websocket
        self.host = host
        self.config = rules
        self.port = 0
        self.entrance = self.prepare(config, authenticator)
        self.rules = Rules(
            compression=rules.compression,
            same_origin=rules.same_origin,
            origins=rules.allowed_origins,
            headers=rules.headers,
            is_tls=self.entrance.tls is not None,
        )
        self._server: asyncio.Server | None = None

    def prepare(self, config: Config, authenticator: Authenticator | None) -> Entrance:
        """What `take_over` takes after a reload. Raises ConfigError for unusable TLS."""
        rules = config.websocket
        return Entrance(
            type="websocket",
            tls=ServerTls(_at_once(rules.tls)) if rules.tls is not None and not rules.no_tls else None,
            authenticator=authenticator,
            auth_timeout_s=rules.auth_timeout_s(config),
            ping_interval_s=rules.ping_interval_s or config.ping_interval_s,
        )

    def take_over(self, fresh: Entrance) -> None:
        """New certificates and users, for the connections to come; those that are there have the same entrance."""
        for name in ("tls", "authenticator", "auth_timeout_s", "ping_interval_s"):
            setattr(self.entrance, name, getattr(fresh, name))

    async def start(self) -> None:
        """Raises LeafnodeError when the address cannot be had."""
        rules = self.config
        port = max(rules.port or 0, 0)
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self.accept, rules.host, port, backlog=BACKLOG, reuse_address=True
            )
        except OSError as error:
            raise LeafnodeError(
                f'Unable to listen for websocket connections: {rules.host}:{port}, "{error.strerror or error}"'
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]
        fields: dict[str, Any] = {"host": rules.host, "port": self.port}
        if self.entrance.tls is not None:
            fields["tls_available"] = True
        self.entrance.info_fields = fields
        if rules.advertise:
            self.host.info_fields["ws_connect_urls"] = [rules.advertise]
        log.info("Listening for websocket clients on %s", self.url(rules.host))
        if self.entrance.tls is None:
            log.warning("websocket without TLS: keep it on localhost or behind a TLS proxy")

    def url(self, host: str) -> str:
        scheme = "ws" if self.entrance.tls is None else "wss"
        return f"{scheme}://{identity.shown_address(host, self.port)}"

    def close(self) -> None:
        """Take no more connections."""
        if self._server is not None:
            self._server.close()

    def accept(self) -> asyncio.Protocol:
        tls = self.entrance.tls
        return WebsocketLayer(self) if tls is None else TlsLayer(tls, lambda: WebsocketLayer(self))

    def credentials(self, cookies: Mapping[str, str]) -> dict[str, str]:
        """What cookies say in the place of CONNECT."""
        rules = self.config
        names = {"user": rules.user_cookie, "pass": rules.pass_cookie, "auth_token": rules.token_cookie}
        names["jwt"] = rules.jwt_cookie
        return {key: cookies[name] for key, name in names.items() if name and cookies.get(name)}


def _at_once(tls: TlsConfig) -> TlsConfig:
    """Below HTTP the handshake always comes first."""
    return dataclasses.replace(tls, handshake_first=True, handshake_first_fallback_s=None)


class WebsocketLayer(Layer):
    """One connection: HTTP until the upgrade, then frames."""

    def __init__(self, listener: WebsocketListener) -> None:
        super().__init__()
        self._listener = listener
        self._head = b""
        self._decoder: Decoder | None = None
        self._encoder = Encoder()
        self._connection: ClientConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._close_frame = b""  # what to say last; empty: a reason is found in the session
        self._ended = False  # no more frames, in or out

    # towards the endpoint ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._listener.config.handshake_timeout_s, self._too_late)

    def _too_late(self) -> None:
        if self._decoder is None:
            self.below.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if self._decoder is None:
            self._upgrade(data)
        else:
            self._frames(self._decoder, data)

    def _upgrade(self, data: bytes) -> None:
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        try:
            if len(head) > upgrade.HEAD_MAX:
                raise RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too long")
            if not end:
                return
            response, agreed = upgrade.answer(upgrade.parse_request(head), self._listener.rules)
        except RequestError as error:
            log.error("%s - websocket: %s", peer_of(self.below), error.why)
            self._ended = True
            self.below.write(upgrade.refusal(error))
            self.below.close()
            return
        self._head = b""
        self._stop_timer()
        self.below.write(response)
        self._open(agreed)
        if rest:
            self.data_received(rest)

    def _open(self, agreed: Agreed) -> None:
        listener = self._listener
        host = listener.host
        self._decoder = Decoder(inflates=agreed.compresses, message_max=host.max_payload + MESSAGE_SPARE)
        self._encoder = Encoder(
            deflates=agreed.compresses, frame_max=websocket.BROWSER_FRAME if agreed.is_browser else 0
        )
        connection = self._connection = host.enter(listener.entrance)
        connection.credentials = listener.credentials(agreed.cookies)
        self.open_above(connection)

    def _frames(self, decoder: Decoder, data: bytes) -> None:
        connection = self._connection
        assert connection is not None
        chunks: list[bytes] = []
        broken: WebsocketError | None = None
        try:
            for event in decoder.feed(data):
                match event:
                    case Data(payload):
                        chunks.append(payload)
                    case Ping(body):
                        connection.session.heard = True
                        if self.below.get_write_buffer_size() < PONGS_MAX:
                            self._write(websocket.pong(body))
                    case Close(body):
                        self._close_frame = websocket.close_echo(body)
                        break
        except WebsocketError as error:
            broken = error
            self._close_frame = websocket.close(error.code, error.said)
        if chunks:
            connection.data_received(b"".join(chunks) if len(chunks) > 1 else chunks[0])
        if self._close_frame:
            self._ended = True
            connection.session.fail("", broken.reason if broken else "Client Closed")

    # towards the socket ------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.added -= len(data)
        self._write(self._encoder.message(bytes(data)))

    def _write(self, frame: bytes) -> None:
        self.added += len(frame)
        self.below.write(frame)

    def close(self) -> None:
        """Say why, then end: the peer's close frame is not waited for."""
        if self._connection is not None and not self.below.is_closing():
            reason = self._connection.session.close_reason
            self._write(self._close_frame or websocket.close(close_code(reason), reason))
        self._ended = True
        super().close()


POLICY = ("Authentication", "Authorization", "Slow Consumer", "Maximum Connections", "Maximum Account", "Stale")
CODES = {  # beginnings of the reasons of sessions, and the code of the close frame (nats-server)
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
