"""A connection to a hub, as far as its leaf link: through a proxy if there is one, with TLS or without, and as a
websocket where the URL says so.

    socket -> (tunnel: CONNECT) -> (TLS first) -> (WebsocketDialLayer: upgrade, frames) -> LeafEndpoint
"""

import asyncio
import base64
import os
import socket
import ssl

from leafnode.config.options import LeafRemote, ProxyConfig, ServerUrl
from leafnode.errors import LeafnodeError, ProtocolError
from leafnode.net.frames import FrameLayer
from leafnode.net.link_endpoint import LinkEndpoint
from leafnode.wire import dialling
from leafnode.wire.upgrade import KEY_BYTES
from leafnode.wire.websocket import Decoder, Encoder

MASK_BYTES = 4
MESSAGE_MAX = 8 * 1024 * 1024  # bytes that one compressed message of a hub may inflate to
TUNNEL_READ = 4096  # bytes read at once of a proxy's answer


async def connect(
    endpoint: LinkEndpoint,
    url: ServerUrl,
    remote: LeafRemote,
    tls: ssl.SSLContext | None,
    *,
    tls_name: str,
    timeout_s: float,
) -> None:
    """Give `endpoint` its transport. `tls`: a context if the remote is configured with one; `tls_name`: whose
    certificate the hub must have.

    Raises:
        OSError, TimeoutError, ssl.SSLError: there is no connection.
        LeafnodeError: a proxy does not want to.
    """
    loop = asyncio.get_running_loop()
    rules = remote.tls
    at_once = tls if rules is not None and rules.handshake_first else None
    above: asyncio.Protocol = endpoint
    if url.is_websocket:
        above = WebsocketDialLayer(endpoint, url, remote)
        at_once = (tls or ssl.create_default_context()) if url.is_tls or tls else None
    name = tls_name if at_once is not None else None
    if remote.proxy is None:
        async with asyncio.timeout(timeout_s):
            await loop.create_connection(lambda: above, url.host, url.port, ssl=at_once, server_hostname=name)
        return
    async with asyncio.timeout(remote.proxy.timeout_s or timeout_s):
        tunnel = await open_tunnel(remote.proxy, authority(url))
    try:
        async with asyncio.timeout(timeout_s):
            await loop.create_connection(lambda: above, sock=tunnel, ssl=at_once, server_hostname=name)
    except BaseException:
        tunnel.close()
        raise


def authority(url: ServerUrl) -> str:
    """`host:port`, as HTTP writes it."""
    return f"[{url.host}]:{url.port}" if ":" in url.host else f"{url.host}:{url.port}"


async def open_tunnel(proxy: ProxyConfig, target: str) -> socket.socket:
    """A socket at whose other end is `target`. Raises OSError, LeafnodeError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = found[0]
    tunnel = socket.socket(family, kind, protocol)
    try:
        tunnel.setblocking(False)
        await loop.sock_connect(tunnel, address)
        await loop.sock_sendall(tunnel, dialling.connect_request(target, user=proxy.user, password=proxy.password))
        answer = b""
        while dialling.END not in answer:  # nobody behind the proxy speaks before we do: there is nothing after it
            data = await loop.sock_recv(tunnel, TUNNEL_READ)
            answer += data
            if not data or len(answer) > dialling.HEAD_MAX:
                raise LeafnodeError(f"proxy {proxy}: no answer to CONNECT")
        response = dialling.parse_response(answer.partition(dialling.END)[0])
    except ProtocolError as error:
        tunnel.close()
        raise LeafnodeError(f"proxy {proxy}: {error.reason}") from error
    except BaseException:
        tunnel.close()
        raise
    if response.status != 200:
        tunnel.close()
        raise LeafnodeError(f"proxy {proxy}: CONNECT {target} refused: {response}")
    return tunnel


class WebsocketDialLayer(FrameLayer):
    """Asks the hub for a websocket, then carries frames."""

    def __init__(self, endpoint: LinkEndpoint, url: ServerUrl, remote: LeafRemote) -> None:
        super().__init__()
        self._url = url
        self._remote = remote
        self._above = endpoint
        self._key = base64.b64encode(os.urandom(KEY_BYTES)).decode()
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._above.transport = self
        self.below.write(
            dialling.upgrade_request(
                authority(self._url),
                self._url.path,
                self._key,
                compresses=self._remote.ws_compression,
                no_masking=self._remote.ws_no_masking,
            )
        )

    def _handshake(self, data: bytes) -> None:
        self._head += data
        head, end, rest = self._head.partition(dialling.END)
        try:
            if not end:
                if len(head) > dialling.HEAD_MAX:
                    raise ProtocolError("", "the answer to the websocket request is too long")
                return
            remote = self._remote
            agreed = dialling.agreement(
                dialling.parse_response(head),
                self._key,
                compresses=remote.ws_compression,
                no_masking=remote.ws_no_masking,
            )
        except ProtocolError as error:
            self._ended = True
            self._above.core.fail("", error.reason)
            self.below.abort()
            return
        self._head = b""
        self.begin(
            Decoder(masked=False, inflates=agreed.compresses, message_max=MESSAGE_MAX),
            Encoder(deflates=agreed.compresses, make_mask=_new_mask if agreed.masks else None),
            self._above,
        )
        if rest:
            self.data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.opened:
            self._above.connection_lost(exc)  # it waits for an end, though it never had a beginning


def _new_mask() -> bytes:
    return os.urandom(MASK_BYTES)
