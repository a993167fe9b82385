"""The websocket listener: for browsers, and wherever only HTTP gets through.

    socket -> (TlsLayer) -> WebsocketLayer: HTTP upgrade, then frames -> ClientConnection, as on the plain listener
                                                                      -> LeafConnection, at paths that end in /leafnode

What it means to be a client is decided above; here is only the upgrade, the frames are in `net.frames`.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from leafnode import identity
from leafnode.config.options import Config, TlsConfig
from leafnode.errors import LeafnodeError
from leafnode.net.endpoint import Endpoint
from leafnode.net.frames import FrameLayer
from leafnode.net.layer import peer_of
from leafnode.net.listening import BACKLOG, Sockets, port_of
from leafnode.net.server import ClientHost, Entrance
from leafnode.net.tls import ServerTls, TlsLayer
from leafnode.route.auth import Authenticator
from leafnode.wire import upgrade, websocket
from leafnode.wire.upgrade import Agreed, RequestError, Rules
from leafnode.wire.websocket import Decoder, Encoder

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
        self.accept_leaf: Callable[[], Endpoint] | None = None
        """Makes the connection of who asks at /leafnode; None: nobody is served there."""
        self._server: asyncio.Server | None = None

    def rules(self) -> Rules:
        rules = self.config
        return Rules(
            compression=rules.compression,
            same_origin=rules.same_origin,
            origins=rules.allowed_origins,
            headers=rules.headers,
            is_tls=self.entrance.tls is not None,
            takes_leaves=self.accept_leaf is not None,
        )

    def enter(self, agreed: Agreed) -> Endpoint:
        """A connection for who was upgraded."""
        if agreed.is_leaf and self.accept_leaf is not None:
            return self.accept_leaf()
        connection = self.host.enter(self.entrance)
        connection.credentials = self.credentials(agreed.cookies)
        return connection

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

    async def start(self, sockets: Sockets) -> None:
        """Raises LeafnodeError when the address cannot be had."""
        rules = self.config
        port = max(rules.port or 0, 0)
        try:
            listening = sockets.listen("websocket", rules.host, port)
            self._server = await asyncio.get_running_loop().create_server(self.accept, sock=listening, backlog=BACKLOG)
        except OSError as error:
            raise LeafnodeError(
                f'Unable to listen for websocket connections: {rules.host}:{port}, "{error.strerror or error}"'
            ) from error
        self.port = port_of(listening)
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


class WebsocketLayer(FrameLayer):
    """One connection: HTTP until the upgrade, then frames."""

    def __init__(self, listener: WebsocketListener) -> None:
        super().__init__()
        self._listener = listener
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.limit_handshake(self._listener.config.handshake_timeout_s, self.below.abort)

    def _handshake(self, data: bytes) -> None:
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        try:
            if len(head) > upgrade.HEAD_MAX:
                raise RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too long")
            if not end:
                return
            response, agreed = upgrade.answer(upgrade.parse_request(head), self._listener.rules())
        except RequestError as error:
            log.error("%s - websocket: %s", peer_of(self.below), error.why)
            self._ended = True
            self.below.write(upgrade.refusal(error))
            self.below.close()
            return
        self._head = b""
        self.below.write(response)
        self._open(agreed)
        if rest:
            self.data_received(rest)

    def _open(self, agreed: Agreed) -> None:
        max_payload = self._listener.host.max_payload
        frame_max = websocket.BROWSER_FRAME if agreed.is_browser else 0
        self.begin(
            Decoder(masked=agreed.masks, inflates=agreed.compresses, message_max=max_payload + MESSAGE_SPARE),
            Encoder(deflates=agreed.compresses, frame_max=frame_max),
            self._listener.enter(agreed),
        )
