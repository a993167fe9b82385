"""The system account on both servers: requests, who may ask what, events, and orders."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import MAKERS
from tests.conformance.raw import Wire
from tests.support.ports import free_port
from tests.support.servers import Broker, leafnode

DEADLINE_S = 10.0


class Hand:
    """A client that asks one thing at a time."""

    def __init__(self, port: int, user: str, **options: object) -> None:
        self.wire = Wire(port)
        given = {"verbose": False, "user": user, "pass": user, "headers": True, "no_responders": True, **options}
        self.inbox = b"in.%b" % user.encode()
        self.wire.send(b"CONNECT %b\r\nSUB %b r\r\nPING\r\n" % (json.dumps(given).encode(), self.inbox))
        self.wire.until(b"PONG\r\n")

    def publish(self, subject: str, body: str) -> None:
        data = body.encode()
        self.wire.send(b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), self.inbox, len(data), data))

    def ask(self, subject: str, body: str = "") -> Any:
        """The answer; None: nobody answers to that."""
        self.publish(subject, body)
        _, data = self.next()
        return json.loads(data) if data else None

    def next(self) -> tuple[str, bytes]:
        """Subject and payload of the next message."""
        words = self.wire.until(b"\r\n").split()
        while words[0] not in (b"MSG", b"HMSG"):
            words = self.wire.until(b"\r\n").split()
        data = b""
        while len(data) < int(words[-1]) + 2:
            data += self.wire.socket.recv(int(words[-1]) + 2 - len(data))
        return words[1].decode(), data[int(words[-2]) if words[0] == b"HMSG" else 0 : -2]


CONFIG = """
server_name: same
server_tags: ["site:one"]
system_account: SYS
jetstream {{ store_dir: "{store}" }}
accounts {{
  SYS {{ users: [ {{ user: sys, password: sys }} ] }}
  A {{ jetstream: enabled, users: [
    {{ user: a, password: a }}
    {{ user: few, password: few, permissions: {{ publish: ["x", "$SYS.REQ.USER.INFO"], subscribe: {{ deny: "q" }} }} }}
  ] }}
  B {{ users: [ {{ user: b, password: b }} ] }}
}}
"""


@pytest.fixture(params=list(MAKERS))
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    with MAKERS[request.param](tmp_path, config=CONFIG.format(store=tmp_path / "js")) as running:
        yield running


def test_requests_to_servers(broker: Broker) -> None:
    boss = Hand(broker.port, "sys")
    who = boss.ask("$SYS.REQ.SERVER.PING.IDZ")
    assert (who["name"], len(who["id"])) == ("same", 56)
    stats = boss.ask("$SYS.REQ.SERVER.PING")
    assert stats["server"]["id"] == who["id"]
    assert stats["server"]["jetstream"] is True
    assert stats["server"]["tags"] == ["site:one"]
    assert stats["statsz"]["connections"] == 1
    for where in ("PING", who["id"]):
        for word, key in {
            "VARZ": "max_payload",
            "CONNZ": "connections",
            "SUBSZ": "num_subscriptions",
            "ROUTEZ": "num_routes",
            "GATEWAYZ": "outbound_gateways",
            "LEAFZ": "leafnodes",
            "ACCOUNTZ": "accounts",
            "JSZ": "streams",
        }.items():
            answer = boss.ask(f"$SYS.REQ.SERVER.{where}.{word}")
            assert key in answer["data"], word
            assert answer["server"]["name"] == "same"
    assert boss.ask("$SYS.REQ.SERVER.PING.HEALTHZ")["data"] == {"status": "ok", "status_code": 200}
    sick = boss.ask("$SYS.REQ.SERVER.PING.HEALTHZ", '{"account": "A", "stream": "NO"}')["data"]
    assert (sick["status"], sick["status_code"]) == ("unavailable", 404)
    assert (
        boss.ask("$SYS.REQ.SERVER.PING.CONNZ", '{"limit": 0, "auth": true}')["data"]["connections"][0]["account"]
        == "SYS"
    )
    assert boss.ask("$SYS.REQ.SERVER.PING.SUBSZ", "xx")["error"]["code"] == 400
    refused = boss.ask("$SYS.REQ.SERVER.PING.CONNZ", '{"sort": "bad"}')
    assert refused["error"] == {"code": 500, "description": "invalid sorting option: bad"}
    assert refused["data"] is None
    assert "store_dir" not in boss.ask("$SYS.REQ.SERVER.PING")["statsz"]["jetstream"]["config"]
    assert boss.ask("$SYS.REQ.SERVER.PING.NOPE") is None
    boss.wire.close()


def test_a_filter_for_others_is_not_answered(broker: Broker) -> None:
    boss = Hand(broker.port, "sys")
    for body in ('{"server_name": "other"}', '{"tags": ["site:two"]}', '{"server_name": "sam", "exact_match": true}'):
        boss.publish("$SYS.REQ.SERVER.PING", body)
    boss.publish("$SYS.REQ.SERVER.PING.VARZ", '{"server_name": "sam", "tags": ["site:one"]}')
    assert "data" in json.loads(boss.next()[1])  # the first answer is to the last request
    boss.wire.close()


def test_requests_about_accounts(broker: Broker) -> None:
    boss, app = Hand(broker.port, "sys"), Hand(broker.port, "a")
    assert boss.ask("$SYS.REQ.ACCOUNT.A.CONNZ")["data"]["num_connections"] == 1
    assert boss.ask("$SYS.REQ.ACCOUNT.A.INFO")["data"]["account_name"] == "A"
    assert boss.ask("$SYS.REQ.ACCOUNT.A.SUBSZ")["data"]["num_subscriptions"] > 0
    assert boss.ask("$SYS.REQ.ACCOUNT.A.STATZ")["data"]["account_statz"][0]["conns"] == 1
    assert boss.ask("$SYS.REQ.ACCOUNT.A.LEAFZ")["data"]["leafs"] == []
    assert boss.ask("$SYS.REQ.ACCOUNT.A.JSZ")["data"]["name"] == "A"
    assert boss.ask("$SYS.REQ.ACCOUNT.A.CONNS")["conns"] == 1
    none = boss.ask("$SYS.REQ.ACCOUNT.B.JSZ")
    assert (none["data"], none["error"]["code"]) == (None, 500)
    assert boss.ask("$SYS.REQ.ACCOUNT.NO.INFO")["error"]["description"] == "Account NO does not exist"
    seen = {entry["acc"] for entry in boss.ask("$SYS.REQ.ACCOUNT.PING.STATZ")["data"]["account_statz"]}
    assert seen == {"SYS", "A"}
    app.wire.close()
    boss.wire.close()


def test_other_accounts_see_themselves_only(broker: Broker) -> None:
    other, app = Hand(broker.port, "b"), Hand(broker.port, "a", name="app")
    for subject in ("$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.ACCOUNT.PING.CONNZ"):
        connections = app.ask(subject, '{"acc": "B", "auth": true}')["data"]["connections"]
        assert [(row["name"], row["account"]) for row in connections] == [("app", "A")]
    stats = app.ask("$SYS.REQ.ACCOUNT.PING.STATZ", '{"accounts": ["B"]}')["data"]["account_statz"]
    assert [entry["acc"] for entry in stats] == ["A"]
    for subject in ("$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.VARZ", "$SYS.REQ.ACCOUNT.A.INFO"):
        assert app.ask(subject) is None
    app.wire.close()
    other.wire.close()


def test_user_info(broker: Broker) -> None:
    app, few = Hand(broker.port, "a"), Hand(broker.port, "few")
    assert app.ask("$SYS.REQ.USER.INFO")["data"] == {"user": "a", "account": "A", "account_name": "A"}
    told = few.ask("$SYS.REQ.USER.INFO")["data"]
    assert told["user"] == "few"
    assert sorted(told["permissions"]["publish"]["allow"]) == ["$SYS.REQ.USER.INFO", "x"]
    assert told["permissions"]["subscribe"] == {"deny": ["q"]}
    app.wire.close()
    few.wire.close()


def collect(boss: Hand, *wanted: str) -> dict[str, Any]:
    """The first event of each kind of subject (its last words), when all have been there."""
    found: dict[str, Any] = {}
    deadline = time.monotonic() + DEADLINE_S
    while not set(wanted) <= set(found):
        assert time.monotonic() < deadline, found.keys()
        subject, data = boss.next()
        found.setdefault(".".join(subject.split(".")[-2:]), json.loads(data))
    return found


def test_events(broker: Broker) -> None:
    boss = Hand(broker.port, "sys")
    boss.wire.send(
        b"SUB $SYS.ACCOUNT.B.> 1\r\nSUB $SYS.SERVER.*.CLIENT.> 2\r\nSUB $SYS.SERVER.*.SHUTDOWN 3\r\n"
        b"SUB $SYS.ACCOUNT.$G.DISCONNECT 4\r\nPING\r\n"
    )
    boss.wire.until(b"PONG\r\n")
    with Wire(broker.port) as refused:
        refused.send(b'CONNECT {"verbose":false,"user":"b","pass":"wrong"}\r\n')
        refused.rest()
    client = Hand(broker.port, "b", name="guest", lang="hand", version="9")
    client.wire.send(b"PUB x 3\r\nabc\r\nPING\r\n")
    client.wire.until(b"PONG\r\n")
    client.wire.close()
    events = collect(boss, "AUTH.ERR", "$G.DISCONNECT", "B.CONNECT", "B.DISCONNECT", "SERVER.CONNS")
    came, went = events["B.CONNECT"], events["B.DISCONNECT"]
    assert came["type"] == "io.nats.server.advisory.v1.client_connect"
    assert {"id", "timestamp", "server"} <= came.keys()
    shown = {key: came["client"][key] for key in ("acc", "user", "name", "lang", "ver", "kind", "client_type")}
    assert shown == {
        "acc": "B", "user": "b", "name": "guest", "lang": "hand", "ver": "9", "kind": "Client", "client_type": "nats",
    }  # fmt: skip
    assert went["type"] == "io.nats.server.advisory.v1.client_disconnect"
    assert (went["sent"], went["received"]) == ({"msgs": 1, "bytes": 3}, {"msgs": 0, "bytes": 0})
    assert went["reason"] == "Client Closed"
    assert events["AUTH.ERR"]["reason"] == events["$G.DISCONNECT"]["reason"] == "Authentication Failure"
    conns = events["SERVER.CONNS"]
    assert conns["type"] == "io.nats.server.advisory.v1.account_connections"
    assert conns["acc"] == "B"
    broker.signal(signal.SIGTERM)
    assert collect(boss, *[f"{conns['server']['id']}.SHUTDOWN"])
    boss.wire.close()


def test_statistics_are_told_to_who_listens(broker: Broker) -> None:
    boss = Hand(broker.port, "sys")
    boss.wire.send(b"SUB $SYS.SERVER.*.STATSZ 1\r\n")
    subject, data = boss.next()
    told = json.loads(data)
    assert subject == f"$SYS.SERVER.{told['server']['id']}.STATSZ"
    assert told["statsz"]["connections"] >= 1
    boss.wire.close()


def test_orders(broker: Broker) -> None:
    boss, app = Hand(broker.port, "sys"), Hand(broker.port, "a", name="app", protocol=1)
    us = f"$SYS.REQ.SERVER.{boss.ask('$SYS.REQ.SERVER.PING.IDZ')['id']}"
    cid = boss.ask("$SYS.REQ.ACCOUNT.A.CONNZ")["data"]["connections"][0]["cid"]
    assert boss.ask(f"{us}.KICK", '{"cid": 99999}')["error"] == {
        "code": 500,
        "description": "no such client or leafnode id",
    }
    assert boss.ask(f"{us}.LDM", '{"cid": 99999}')["error"]["description"] == "no such client id"
    assert boss.ask(f"{us}.LDM", json.dumps({"cid": cid})).keys() == {"server"}
    told = b""
    while b'"ldm":true' not in told:
        told = app.wire.until(b"\r\n")
    with Wire(broker.port) as other:
        assert b'"ldm"' not in other.info
    assert boss.ask(f"{us}.KICK", json.dumps({"cid": cid})).keys() == {"server"}
    assert b"-ERR" not in app.wire.rest()
    app.wire.close()
    boss.wire.close()


def test_reload_by_request(broker: Broker) -> None:
    boss = Hand(broker.port, "sys")
    us = f"$SYS.REQ.SERVER.{boss.ask('$SYS.REQ.SERVER.PING.IDZ')['id']}"
    file = broker.folder / "server.conf"
    file.write_text(file.read_text() + "\nmax_payload: 1234\n")
    assert boss.ask(f"{us}.RELOAD").keys() == {"server"}
    assert boss.ask("$SYS.REQ.SERVER.PING.VARZ")["data"]["max_payload"] == 1234
    file.write_text(file.read_text() + "\nunknown_key: 1\n")
    assert "unknown_key" in boss.ask(f"{us}.RELOAD")["error"]["description"]
    boss.wire.close()


def test_links_that_come_and_go_are_told(broker: Broker, tmp_path: Path) -> None:
    """At the hub, whichever server it is; the spoke is ours."""
    broker.stop()
    port = free_port()
    file = broker.folder / "server.conf"
    file.write_text(file.read_text() + f'\nleafnodes {{ listen: "127.0.0.1:{port}" }}\n')
    broker.start()
    boss = Hand(broker.port, "sys")
    boss.wire.send(b"SUB $SYS.ACCOUNT.B.> 1\r\nPING\r\n")
    boss.wire.until(b"PONG\r\n")
    dials = f'remotes: [ {{ url: "nats-leaf://b:b@127.0.0.1:{port}" }} ]'
    with leafnode(tmp_path / "spoke", config=f"server_name: spoke\nleafnodes {{ {dials} }}"):
        came = collect(boss, "B.CONNECT")["B.CONNECT"]["client"]
        assert (came["acc"], came["kind"]) == ("B", "Leafnode")
        assert "client_type" not in came
    assert collect(boss, "B.DISCONNECT")["B.DISCONNECT"]["client"]["kind"] == "Leafnode"
    boss.wire.close()
