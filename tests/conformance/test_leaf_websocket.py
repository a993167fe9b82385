"""Leaf links over websocket: plain, with TLS, compressed, without masks, through an HTTP proxy; ours and stock ones."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.conformance.test_leaf_tls import carries
from tests.support.certificates import Authority, Pair
from tests.support.ports import free_port
from tests.support.servers import Broker, leafnode, stock_hub

Maker = Callable[..., Broker]
PAIRS: dict[str, tuple[Maker, Maker]] = {
    "nats-server <- leafnode": (stock_hub, leafnode),
    "leafnode <- leafnode": (leafnode, leafnode),
    "leafnode <- nats-server": (leafnode, stock_hub),
}
BOTH_WAYS = pytest.mark.parametrize(("make_hub", "make_leaf"), PAIRS.values(), ids=PAIRS)
OURS = pytest.mark.parametrize("make_hub", [stock_hub, leafnode], ids=["nats-server", "leafnode"])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def hub_pair(authority: Authority) -> Pair:
    return authority.server("hub")


def hub(make: Maker, folder: Path, port: int, websocket: str) -> Broker:
    return make(
        folder / "hub",
        config=f"""leafnodes {{ listen: "127.0.0.1:{free_port()}", authorization {{ user: site, password: secret }} }}
websocket {{ listen: "127.0.0.1:{port}", {websocket} }}""",
    )


def leaf(make: Maker, folder: Path, url: str, more: str = "") -> Broker:
    return make(folder / "leaf", config=f'leafnodes {{ reconnect: 50ms, remotes: [ {{ url: "{url}"\n{more} }} ] }}')


@BOTH_WAYS
@pytest.mark.parametrize("more", ["", "ws_compression: true", "ws_no_masking: true"], ids=["plain", "deflate", "bare"])
async def test_a_link_over_websocket(tmp_path: Path, make_hub: Maker, make_leaf: Maker, more: str) -> None:
    port = free_port()
    with (
        hub(make_hub, tmp_path, port, "no_tls: true, compression: true") as there,
        leaf(make_leaf, tmp_path, f"ws://site:secret@127.0.0.1:{port}/some/path", more) as here,
    ):
        await carries(there, here)
        await carries(here, there)


@BOTH_WAYS
async def test_a_link_over_websocket_and_tls(
    tmp_path: Path, authority: Authority, hub_pair: Pair, make_hub: Maker, make_leaf: Maker
) -> None:
    port = free_port()
    tls = f'tls {{ cert_file: "{hub_pair.cert}", key_file: "{hub_pair.key}" }}'
    with (
        hub(make_hub, tmp_path, port, tls) as there,
        leaf(
            make_leaf, tmp_path, f"wss://site:secret@localhost:{port}", f'tls {{ ca_file: "{authority.ca}" }}'
        ) as here,
    ):
        await carries(there, here)


class ForwardProxy:
    """An HTTP proxy that knows CONNECT, and whoever it wants to know."""

    def __init__(self, user: str = "") -> None:
        self.user = user
        self.asked: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            target = head.split(" ")[1]
            self.asked.append(target)
            wanted = f"Proxy-Authorization: Basic {base64.b64encode(self.user.encode()).decode()}\r\n"
            if self.user and wanted not in head:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            host, _, port = target.rpartition(":")
            there_reader, there_writer = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
            try:
                await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))
            finally:
                there_writer.close()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    sink.close()


@asynccontextmanager
async def forward_proxy(port: int, user: str = "") -> AsyncIterator[ForwardProxy]:
    proxy = ForwardProxy(user)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", port)
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()


@OURS
@pytest.mark.parametrize("scheme", ["ws", "wss", "nats-leaf"])
async def test_through_a_proxy(
    tmp_path: Path, authority: Authority, hub_pair: Pair, make_hub: Maker, scheme: str
) -> None:
    port, through = free_port(), free_port()
    listener = (
        "no_tls: true" if scheme == "ws" else f'tls {{ cert_file: "{hub_pair.cert}", key_file: "{hub_pair.key}" }}'
    )
    proxy = f'proxy {{ url: "http://127.0.0.1:{through}", username: me, password: pw }}'
    tls = f'tls {{ ca_file: "{authority.ca}" }}' if scheme == "wss" else ""
    there = hub(make_hub, tmp_path, port if scheme != "nats-leaf" else free_port(), listener)
    if scheme == "nats-leaf":
        port = int(
            (tmp_path / "hub" / "server.conf").read_text().split('leafnodes { listen: "127.0.0.1:')[1].split('"')[0]
        )
    async with forward_proxy(through, "me:pw") as asked:
        with there, leaf(leafnode, tmp_path, f"{scheme}://site:secret@localhost:{port}", f"{proxy}\n{tls}") as here:
            await carries(there, here)
        assert set(asked.asked) == {f"localhost:{port}"}


async def logged(broker: Broker, text: str) -> None:
    async with asyncio.timeout(20):
        while text not in broker.output():
            assert broker.alive()
            await asyncio.sleep(0.02)


async def test_what_goes_wrong_on_the_way_is_said(tmp_path: Path) -> None:
    """A proxy that refuses, a proxy that is not there, a hub that takes clients only, a web server."""
    port, through, web = free_port(), free_port(), free_port()

    async def website(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        writer.close()

    def remote(name: str, url: str, proxy: int = 0) -> str:
        through = f'proxy {{ url: "http://127.0.0.1:{proxy}", username: a, password: b }}' if proxy else ""
        return f'{{ url: "{url}", account: {name}\n{through} }}'

    remotes = [
        remote("A", f"ws://127.0.0.1:{port}", through),
        remote("B", f"ws://127.0.0.1:{port}", free_port()),
        remote("C", f"ws://127.0.0.1:{port}"),
        remote("D", f"ws://127.0.0.1:{web}"),
    ]
    config = (
        "accounts { A {}, B {}, C {}, D {} }\nleafnodes { reconnect: 50ms, remotes: [\n" + "\n".join(remotes) + "\n] }"
    )
    no_leaves = leafnode(tmp_path / "hub", config=f'websocket {{ listen: "127.0.0.1:{port}", no_tls: true }}')
    server = await asyncio.start_server(website, "127.0.0.1", web)
    async with forward_proxy(through, "me:pw"):
        with no_leaves, leafnode(tmp_path / "site", config=config) as site:
            await logged(site, f"CONNECT 127.0.0.1:{port} refused: 407 Proxy Authentication Required")
            await logged(site, "failed: connection refused")
            await logged(site, "no websocket for leaf nodes is there: HTTP 404 Not Found")
            await logged(site, "no websocket for leaf nodes is there: HTTP 200 OK")
    server.close()
