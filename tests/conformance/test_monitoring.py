"""The monitor's answers beside those of nats-server: the same keys with the same types, for the same state of things.

What differs on purpose is in `EXTRA` (said by us only) and in `MISSING` (said by nats-server only), with the reason.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import MAKERS
from tests.conformance.raw import Wire
from tests.support.ports import free_port
from tests.support.servers import Broker, leafnode

EXTRA = {
    "jetstream.config.sync_always",  # nats-server says it only where it is so
    "config.sync_always",
    "account_details[].stream_detail[].config.metadata._nats.level",  # there: in answers of the API only
    "account_details[].stream_detail[].config.metadata._nats.ver",
    "account_details[].stream_detail[].consumer_detail[].config.metadata._nats.level",
    "account_details[].stream_detail[].consumer_detail[].config.metadata._nats.ver",
}
MISSING = {
    "jetstream.limits.default_max_consumers",  # there is no such default here
    "limits.default_max_consumers",
    "account_detail.imports",  # there the requests to $SYS and $JS.API are imports
    "connections[].authorized_user",  # of a client that was turned away: a name that proved nothing
}
BY_CONTENTS = ("http_req_stats", "feature_flags")  # what is in them is data

PAGES = [
    "/varz",
    "/connz",
    "/connz?subs=1&auth=1",
    "/connz?subs=detail",
    "/connz?state=closed&auth=1",
    "/connz?state=any&sort=start",
    "/connz?state=closed&sort=stop",
    "/connz?cid=1000000",
    "/connz?user=a&limit=1&offset=0",
    "/connz?acc=B",
    "/subsz",
    "/subsz?subs=1&acc=A",
    "/subsz?test=foo.1",
    "/routez",
    "/gatewayz",
    "/leafz",
    "/leafz?subs=1",
    "/accountz",
    "/accountz?acc=A",
    "/accstatz",
    "/accstatz?unused=1",
    "/jsz",
    "/jsz?accounts=1",
    "/jsz?acc=A&streams=1&consumers=1&config=1",
    "/jsz?acc=NOBODY&streams=1",
    "/jsz?accounts=1&offset=1",
    "/healthz",
    "/healthz?details=1",
    "/healthz?js-enabled-only=1",
    "/healthz?js-server-only=true",
    "/healthz?account=A&stream=S&consumer=C",
    "/ipqueuesz",
]
SAME_WORDS = [  # status and body are the same to the letter
    "/connz?sort=bad",
    "/connz?sort=stop",
    "/connz?state=bad",
    "/connz?subs=bad",
    "/connz?limit=x",
    "/subsz?test=foo.*",
    "/accountz?acc=NOBODY",
    "/healthz",
    "/healthz?account=A&stream=NONE",
    "/healthz?account=A&stream=NONE&details=1",
    "/healthz?account=A&stream=S&consumer=NONE",
    "/healthz?account=NOBODY&stream=S",
    "/healthz?stream=S",
    "/raftz",
    "/ipqueuesz?all=x",
    "/ipqueuesz?queues=none",
]


class Site:
    """A broker with something to show."""

    def __init__(self, broker: Broker, http: int) -> None:
        self.broker = broker
        self.http = http

    def get(self, page: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{page}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def json(self, page: str) -> Any:
        status, text = self.get(page)
        assert status == 200, text
        return json.loads(text)


def config(folder: Path, http: int) -> str:
    return f"""
    http: "127.0.0.1:{http}"
    server_name: same
    jetstream {{ store_dir: "{folder / "js"}" }}
    system_account: SYS
    accounts {{
      SYS {{ users: [ {{ user: sys, password: s }} ] }}
      A {{ jetstream: enabled, users: [ {{ user: a, password: a }} ] }}
      B {{ users: [ {{ user: b, password: b }} ] }}
    }}"""


class Hand:
    """A client by hand."""

    def __init__(self, port: int, **options: object) -> None:
        self.wire = Wire(port)
        self.wire.send(b"CONNECT " + json.dumps({"verbose": False, "pedantic": False, **options}).encode() + b"\r\n")

    def flush(self) -> bytes:
        self.wire.send(b"PING\r\n")
        return self.wire.until(b"\r\n")

    def ask(self, subject: str, body: object) -> None:
        """A request; returns when its answer is there."""
        data = json.dumps(body).encode()
        self.wire.send(b"SUB reply r\r\nUNSUB r 1\r\nPUB %b reply %d\r\n%b\r\n" % (subject.encode(), len(data), data))
        head = self.wire.until(b"\r\n")
        while not head.startswith(b"MSG reply"):
            head = self.wire.until(b"\r\n")
        answer = json.loads(self.wire.until(b"\r\n"))
        assert "error" not in answer, answer


def furnish(site: Site) -> Hand:
    """Streams, subscriptions, a client that left, a client that was turned away."""
    port = site.broker.port
    app = Hand(port, user="a", **{"pass": "a"}, name="app", lang="hand", version="1", protocol=0, echo=False)
    assert app.flush() == b"PONG\r\n"
    app.wire.send(b"SUB foo.* 1\r\nSUB bar q 2\r\n")
    app.ask("$JS.API.STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "storage": "file"})
    app.ask("s.1", "payload")
    consumer = {"durable_name": "C", "ack_policy": "explicit"}
    app.ask("$JS.API.CONSUMER.DURABLE.CREATE.S.C", {"stream_name": "S", "config": consumer})
    with Wire(port) as other:
        other.send(b'CONNECT {"verbose":false,"user":"b","pass":"b"}\r\nPUB foo.1 1\r\nx\r\nPING\r\n')
        other.until(b"PONG\r\n")
    with Wire(port) as refused:
        refused.send(b'CONNECT {"verbose":false,"user":"b","pass":"wrong"}\r\n')
        assert b"Authorization Violation" in refused.rest()
    with Wire(port) as teller:
        teller.send(b'CONNECT {"verbose":false,"user":"a","pass":"a"}\r\nPUB foo.1 1\r\nx\r\nPING\r\n')
        teller.until(b"PONG\r\n")
    while len(site.json("/connz?state=closed")["connections"]) < 3:
        assert site.broker.alive()
    app.wire.until(b"x\r\n")
    return app


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    found: dict[str, Site] = {}
    clients: list[Hand] = []
    try:
        for name, make in MAKERS.items():
            folder, http = tmp_path_factory.mktemp(name), free_port()
            found[name] = Site(make(folder, config=config(folder, http)), http)
            found[name].broker.start()
            clients.append(furnish(found[name]))
        yield found
    finally:
        for client in clients:
            client.wire.close()
        for site in found.values():
            site.broker.stop()


def shape(value: object, path: str = "") -> dict[str, str]:
    """Each key with the type of its value; of a list all members together."""
    found: dict[str, str] = {}
    if isinstance(value, dict):
        for key, inner in value.items():
            where = f"{path}.{key}" if path else key
            found[where] = kind(inner)
            if key not in BY_CONTENTS:
                found |= shape(inner, where)
    elif isinstance(value, list):
        for inner in value:
            found |= shape(inner, f"{path}[]")
    return found


def kind(value: object) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


@pytest.mark.parametrize("page", PAGES)
def test_same_keys_and_types(sites: dict[str, Site], page: str) -> None:
    theirs, ours = (shape(sites[name].json(page)) for name in ("nats-server", "leafnode"))
    ours = {key: value for key, value in ours.items() if key not in EXTRA}
    theirs = {key: value for key, value in theirs.items() if not any(key.startswith(path) for path in MISSING)}
    ours = {key: value for key, value in ours.items() if key not in MISSING}
    assert ours == theirs


@pytest.mark.parametrize("page", SAME_WORDS)
def test_same_words(sites: dict[str, Site], page: str) -> None:
    theirs, ours = (sites[name].get(page) for name in ("nats-server", "leafnode"))
    assert (ours[0], ours[1].strip()) == (theirs[0], theirs[1].strip())


@pytest.mark.parametrize("name", list(MAKERS))
def test_figures_are_of_what_is_there(sites: dict[str, Site], name: str) -> None:
    site = sites[name]
    [app] = site.json("/connz?acc=A&auth=1&subs=1")["connections"]
    assert (app["name"], app["authorized_user"], app["account"], app["kind"], app["type"]) == (
        "app",
        "a",
        "A",
        "Client",
        "nats",
    )
    assert {"foo.*", "bar"} <= set(app["subscriptions_list"])
    assert app["rtt"].endswith("s")
    closed = {row["reason"] for row in site.json("/connz?state=closed")["connections"]}
    assert closed == {"Client Closed", "Authentication Failure"}
    [found] = site.json("/subsz?test=foo.1&subs=1")["subscriptions_list"]
    assert (found["subject"], found["account"], found["msgs"]) == ("foo.*", "A", 1)
    streams = site.json("/jsz?acc=A&streams=1&consumers=1")["account_details"][0]["stream_detail"]
    assert [(stream["name"], stream["state"]["messages"]) for stream in streams] == [("S", 1)]
    assert streams[0]["consumer_detail"][0]["num_pending"] == 1
    stats = {entry["acc"]: entry for entry in site.json("/accstatz?unused=1")["account_statz"]}
    assert stats["A"]["conns"] == 1
    assert stats["B"]["conns"] == 0
    assert stats["A"]["received"]["msgs"] >= app["in_msgs"]
    assert set(site.json("/accountz")["accounts"]) == {"$G", "A", "B", "SYS"}


def test_our_own_metrics(sites: dict[str, Site]) -> None:
    status, text = sites["leafnode"].get("/metrics")
    assert status == 200
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert samples["leafnode_connections"] == "1"
    assert samples["leafnode_healthy"] == "1"
    assert samples["leafnode_store_refuses"] == "0"
    assert samples['leafnode_stream_messages{account="A",stream="S"}'] == "1"
    assert samples['leafnode_consumer_pending{account="A",stream="S",consumer="C"}'] == "1"
    assert float(samples["leafnode_process_resident_memory_bytes"]) > 1e6


def test_what_waits_and_what_runs_is_shown(sites: dict[str, Site]) -> None:
    site = sites["leafnode"]
    assert site.json("/ipqueuesz?all=1") == {"JetStream journal": {"pending": 0}}
    status, text = site.get("/stacksz")
    assert status == 200
    assert "thread MainThread:" in text
    assert "task storage:" in text


def test_links_are_listed(tmp_path: Path) -> None:
    """Seen from both ends of a link between two of ours; the hub's end also counts it as a connection."""
    hub_http, leaf_http, port = free_port(), free_port(), free_port()
    hub = leafnode(tmp_path / "hub", config=f'http: {hub_http}\nleafnodes {{ listen: "127.0.0.1:{port}" }}')
    dials = f'remotes: [ {{ url: "nats-leaf://127.0.0.1:{port}" }} ]'
    remote = f"http: {leaf_http}\nserver_name: spoke\nleafnodes {{ {dials} }}"
    with hub, leafnode(tmp_path / "leaf", config=remote) as spoke:
        watched = Site(hub, hub_http)
        while watched.json("/leafz")["leafnodes"] == 0:
            assert spoke.alive()
        client = Hand(spoke.port)
        client.wire.send(b"SUB only.here 1\r\n")
        assert client.flush() == b"PONG\r\n"
        while "only.here" not in watched.json("/leafz?subs=1")["leafs"][0]["subscriptions_list"]:
            assert spoke.alive()
        [link] = watched.json("/leafz")["leafs"]
        assert (link["name"], link["account"], link["is_spoke"]) == ("spoke", "$G", False)
        kinds = [row["kind"] for row in watched.json("/connz")["connections"]]
        assert kinds == ["Leafnode"]
        assert watched.json("/accstatz")["account_statz"][0]["leafnodes"] == 1
        _, text = Site(spoke, leaf_http).get("/metrics")
        labels = f'{{remote="nats-leaf://127.0.0.1:{port}",account="$G"}}'
        assert f"leafnode_leaf_link_up{labels} 1" in text
        assert f"leafnode_leaf_link_outages_total{labels} 0" in text
        client.wire.close()
