"""A site's backlog drains over its leaf link into the hub: rate, bytes on the wire, memory, time to the first message.

Four pairs, hub and site each ours or stock, the same backlog in each: published while the link is cut, then the link is
given back. The wire is counted by the proxy, which is the same for all pairs and limits none of them.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.bench import load
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.servers import Broker, jetstream, leafnode, stock_hub

PAIRS: dict[str, tuple[Callable[..., Broker], Callable[..., Broker]]] = {
    "nats-server <- nats-server": (stock_hub, stock_hub),
    "nats-server <- leafnode": (stock_hub, leafnode),
    "leafnode <- leafnode": (leafnode, leafnode),
}
MESSAGES = 20_000
SIZE = 256  # bytes
AWAY_SECONDS = 12.0  # longer than the ten seconds after which a hub thinks that its origin is gone
LIMIT_SECONDS = 120.0
SUBSCRIPTIONS = 10_000


class Drain(NamedTuple):
    first_s: float
    rate: float
    wire_bytes: float  # per message, up to the hub
    site_mb: float  # peak of resident memory
    hub_mb: float


def drain(folder: Path, make_hub: Callable[..., Broker], make_site: Callable[..., Broker]) -> Drain:
    port = free_port()
    hub = make_hub(
        folder / "hub", config=f'{jetstream(folder / "hub", "hub")}\nleafnodes {{ listen: "127.0.0.1:{port}" }}'
    )
    with hub, Proxy(port) as link:
        remote = f'{{ url: "nats-leaf://127.0.0.1:{link.port}", ignore_discovered_servers: true }}'
        config = f"{jetstream(folder / 'site', 'site')}\nleafnodes {{ remotes: [ {remote} ] }}"
        with make_site(folder / "site", config=config) as site:
            at_hub, at_site = load.Client(hub.port), load.Client(site.port)
            load.api(at_site, "$JS.API.STREAM.CREATE.T", {"name": "T", "subjects": ["t.>"]})
            _source(at_hub)
            publish(at_site, 1)
            _until(lambda: _count(at_hub) == 1)
            link.refuse()
            link.reset()
            publish(at_site, MESSAGES)
            time.sleep(AWAY_SECONDS)
            before = link.up_bytes
            link.accept()
            return _measure(link, hub, site, at_hub, before)


def _measure(link: Proxy, hub: Broker, site: Broker, at_hub: load.Client, before: int) -> Drain:
    began, first_s, memory = time.perf_counter(), 0.0, [0.0, 0.0]
    while True:
        count = _count(at_hub)
        now = time.perf_counter() - began
        memory = [max(old, _resident_mb(broker)) for old, broker in zip(memory, (site, hub), strict=True)]
        if count > 1 and not first_s:
            first_s = now
        if count > MESSAGES:
            spent = max(now - first_s, 1e-3)
            return Drain(first_s, MESSAGES / spent, (link.up_bytes - before) / MESSAGES, memory[0], memory[1])
        if now > LIMIT_SECONDS:
            raise TimeoutError(f"{count} of {MESSAGES} after {LIMIT_SECONDS:.0f} s")
        time.sleep(0.005)


def _source(at_hub: load.Client) -> None:
    source = {"name": "T", "external": {"api": "$JS.site.API", "deliver": ""}}
    load.api(at_hub, "$JS.API.STREAM.CREATE.T", {"name": "T", "sources": [source]})


def publish(client: load.Client, count: int) -> None:
    """Durably, 256 in flight."""
    client.send(b"SUB acks 1\r\n")
    client.flush()
    frame = b"PUB t.a acks %d\r\n" % SIZE + b"x" * SIZE + b"\r\n"
    sent = 0
    while sent < count:
        part = min(256, count - sent)
        client.send(frame * part)
        sent += part
        seen, tail = 0, b""
        while seen < part:
            data = tail + client.socket.recv(262144)
            seen += data.count(b'"seq":')
            tail = data[-6:] if not data.endswith(b'"seq":') else b""
    client.send(b"UNSUB 1\r\n")
    client.flush()


def _count(client: load.Client) -> int:
    state = load.api(client, "$JS.API.STREAM.INFO.T", None)["state"]
    return int(state["messages"]) if isinstance(state, dict) else 0


def _until(question: Callable[[], bool]) -> None:
    end = time.perf_counter() + LIMIT_SECONDS
    while not question():
        if time.perf_counter() > end:
            raise TimeoutError
        time.sleep(0.01)


def _resident_mb(broker: Broker) -> float:
    return float(psutil.Process(broker.pid).memory_info().rss) / 1e6


class Burst(NamedTuple):
    told_bytes: int  # by the first subscriptions
    again_bytes: int  # by a new link


def subscriptions(folder: Path, make_site: Callable[..., Broker], *, covered: bool) -> Burst:
    """What so many subscriptions at a site cost on the link, when made and when the link is made anew."""
    port = free_port()
    with stock_hub(folder / "hub", config=f'leafnodes {{ listen: "127.0.0.1:{port}" }}') as hub, Proxy(port) as link:
        remote = f'{{ url: "nats-leaf://127.0.0.1:{link.port}", ignore_discovered_servers: true }}'
        with make_site(folder / "site", config=f"leafnodes {{ remotes: [ {remote} ] }}") as site:
            at_hub, at_site = load.Client(hub.port), load.Client(site.port)
            _reaches(at_hub, at_site, b"probe")
            before = link.up_bytes
            wildcard = b"SUB dev.> 999999\r\n" if covered else b""
            at_site.send(wildcard + b"".join(b"SUB dev.%d.cmd %d\r\n" % (n, n + 1) for n in range(SUBSCRIPTIONS)))
            at_site.flush()
            _reaches(at_hub, at_site, b"probe2")
            told = link.up_bytes - before
            accepted, before = link.accepted, link.up_bytes
            link.reset()
            _until(lambda: link.accepted > accepted)
            _reaches(at_hub, at_site, b"probe3")
            return Burst(told, link.up_bytes - before)


def _reaches(here: load.Client, there: load.Client, subject: bytes) -> None:
    """Until what is published here is heard there: interest made before it has arrived, too."""
    there.send(b"SUB %b p%b\r\n" % (subject, subject))
    there.flush()
    there.socket.settimeout(0.05)
    end = time.perf_counter() + LIMIT_SECONDS
    try:
        while time.perf_counter() < end:
            here.send(b"PUB %b 0\r\n\r\n" % subject)
            try:
                if there.socket.recv(65536):
                    return
            except TimeoutError:
                continue
        raise TimeoutError
    finally:
        there.socket.settimeout(load.TIMEOUT_S)


def run(folder: Path) -> Iterator[str]:
    """Lines of a table."""
    heads = ("first, s", "msg/s", "B/msg", "site MB", "hub MB")
    yield f"{f'a backlog of {MESSAGES:,} messages of {SIZE} B':<40} " + " ".join(f"{head:>9}" for head in heads)
    for name, (make_hub, make_site) in PAIRS.items():
        got = drain(folder / name.replace(" ", "-"), make_hub, make_site)
        shown = (f"{got.first_s:.2f}", *(f"{value:,.0f}" for value in got[1:]))
        yield f"{name:<40} " + " ".join(f"{text:>9}" for text in shown)
    yield f"\n{f'{SUBSCRIPTIONS:,} subscriptions at a site':<40} {'when made, B':>14} {'new link, B':>14}"
    for name, make in (("nats-server", stock_hub), ("leafnode", leafnode)):
        for covered in (False, True):
            kind = f"{name}, {'with' if covered else 'without'} a wildcard over them"
            burst = subscriptions(folder / f"{name}-{covered}", make, covered=covered)
            yield f"{kind:<40} {burst.told_bytes:>14,} {burst.again_bytes:>14,}"
