"""What a leaf meets at our door, and links that we accepted, without sockets (spec leafnode-protocol 1, 3 and 5)."""

import json
from typing import Any

import pytest

from leafnode.route.account import Account
from leafnode.route.gate import Gate, Guest, permission_fields
from leafnode.route.leaf import Leaf
from leafnode.route.leaf_options import LeafOptions
from leafnode.route.permissions import Permissions
from tests.leafnode.route.host import FakeHost, said

OPTIONS = LeafOptions(server_id="N1", server_name="hub", version="2.15.1", domain="hub", loop_id=b"H" * 22)


class FakeDoor:
    """A server that accepts leaves with the password `p`."""

    def __init__(self, account: Account, permissions: Permissions | None = None, *, isolate: bool = False) -> None:
        self.cluster = "C"
        self.min_version = "2.8.0"
        self.account = account
        self.permissions = permissions
        self.isolate = isolate
        self.leaves: list[Leaf] = []

    def admit(self, gate: Gate, options: dict[str, Any]) -> Guest | None:
        return Guest(self.account, self.permissions) if options.get("pass") == "p" else None

    def leaf_info(self, gate: Gate, *, guest: Guest | None) -> bytes:
        fields = {"connect_info": guest is not None, **(permission_fields(guest.permissions) if guest else {})}
        return b"INFO " + json.dumps(fields).encode() + b" \r\n"

    def leaf_options(self) -> LeafOptions:
        return LeafOptions(
            server_id="N1", server_name="hub", version="2", domain="hub", loop_id=b"H" * 22, isolate=self.isolate
        )

    def on_leaf(self, leaf: Leaf) -> None:
        self.leaves.append(leaf)

    def link(self, **options: object) -> Leaf:
        """A leaf that got in."""
        gate = Gate(self, 1, b"nonce")
        gate.receive(connect(**options))
        assert not gate.closing
        leaf = self.leaves[-1]
        leaf.out.clear()
        return leaf


def connect(**options: object) -> bytes:
    fields = {"pass": "p", "version": "2.15.1", "name": "leaf", "cluster": "leaf", "headers": True, **options}
    return b"CONNECT " + json.dumps(fields).encode() + b"\r\n"


def text(core: Gate | Leaf) -> bytes:
    if isinstance(core, Leaf):
        core.settle()
    written = b"".join(core.out)
    core.out.clear()
    return written


@pytest.mark.parametrize(
    ("first", "answer"),
    [
        (b"LS+ a\r\n", "Authorization Violation"),
        (connect(**{"pass": "x"}), "Authorization Violation"),
        (connect(lang="go"), "attempted to connect to leaf node port"),
        (connect(cluster="C"), "remote leafnode has same cluster name"),
        (connect(cluster="a b"), "cluster name cannot contain spaces"),
        (connect(version="2.7.4"), 'connection rejected since minimum version required is "2.8.0"'),
        (connect(gateway="g"), 'Rejecting connection from gateway "g" on the leafnode port'),
        (b"NONSENSE\r\n", "Unknown Protocol Operation"),
    ],
)
def test_who_is_turned_away_is_told_why(first: bytes, answer: str) -> None:
    gate = Gate(FakeDoor(FakeHost().account), 1, b"nonce")
    gate.receive(first)
    assert gate.closing
    assert text(gate) == f"-ERR '{answer}'\r\n".encode()


def test_a_good_leaf_is_told_its_permissions_and_our_interest() -> None:
    host = FakeHost()
    host.client().receive(b"SUB local 1\r\n")
    door = FakeDoor(host.account, Permissions(publish_allow=(b"up.>",), subscribe_deny=(b"secret.>",)))
    gate = Gate(door, 1, b"nonce")
    gate.receive(connect() + b"LS+ wanted\r\n")
    info, *rest = text(gate).splitlines()
    assert json.loads(info.removeprefix(b"INFO ")) == {
        "connect_info": True,
        "import": {"deny": ["secret.>"]},
        "export": {"allow": ["up.>"]},
    }
    assert rest[0] == b"LS+ $LDS." + b"H" * 22
    assert host.account.has_interest(b"wanted")


def test_leaves_hear_of_each_other_unless_they_are_one_cluster_or_isolated() -> None:
    for isolate, cluster, hears in ((False, "other", True), (False, "leaf", False), (True, "other", False)):
        host = FakeHost()
        door = FakeDoor(host.account, isolate=isolate)
        one, two = door.link(), door.link(name="two", cluster=cluster)
        text(two)
        one.receive(b"LS+ east\r\nLS+ q g 3\r\n")
        assert (b"LS+ east\r\nLS+ q g 3\r\n" in text(two)) is hears
        one.receive(b"LS- east\r\n")
        assert (text(two) == b"LS- east\r\n") is hears


def test_a_new_total_of_a_queue_replaces_the_old_one_for_others() -> None:
    door = FakeDoor(FakeHost().account)
    one, two = door.link(), door.link(name="two", cluster="two")
    text(two)
    one.receive(b"LS+ q g 3\r\nLS+ q g 2\r\n")
    assert text(two).splitlines()[-1] == b"LS+ q g 2"


def test_messages_travel_from_leaf_to_leaf_through_the_hub() -> None:
    host = FakeHost()
    door = FakeDoor(host.account)
    one, two = door.link(), door.link(name="two", cluster="two")
    two.receive(b"LS+ east\r\n")
    text(two)
    one.receive(b"LMSG east r 2\r\nhi\r\n")
    assert text(two) == b"LMSG east r 2\r\nhi\r\n"
    ack = b"$JS.ACK.S.c.1.1.1.17.0"
    one.receive(b"LMSG east " + ack + b"@orders.7 1\r\nx\r\n")
    assert text(two) == b"LMSG east " + ack + b"@orders.7 1\r\nx\r\n"


def test_a_gateway_tells_its_hub_of_its_leaves_but_not_a_hub_of_another_hub() -> None:
    host = FakeHost()
    leaf = FakeDoor(host.account).link()
    hubs = []
    for name in ("one", "two"):
        hub = Leaf(host.account, OPTIONS, lambda nonce: {}, lambda link: None)
        hub.receive(b'INFO {"client_id":1,"leafnode_urls":[],"headers":true,"cluster":"%b"}\r\n' % name.encode())
        hubs.append(hub)
    for hub in hubs:
        text(hub)
    leaf.receive(b"LS+ below\r\n")
    assert [text(hub) for hub in hubs] == [b"LS+ below\r\n"] * 2
    hubs[0].receive(b"LS+ above\r\n")
    assert text(hubs[1]) == b""
    hubs[0].receive(b"LS+ $LDS.above\r\n")
    assert text(hubs[1]) == b"LS+ $LDS.above\r\n", "by which a ring of hubs is found"
    hubs[1].receive(b"LMSG above 1\r\nx\r\n")
    assert text(hubs[0]) == b""


def test_broken_permissions_end_the_link() -> None:
    rules = Permissions(publish_allow=(b"up.>",), subscribe_allow=(b"down.>",))
    door = FakeDoor(FakeHost().account, rules)
    sender = door.link()
    sender.receive(b"LMSG up.1 1\r\nx\r\nLMSG other 1\r\nx\r\n")
    assert text(sender).endswith(b"-ERR 'Permissions Violation for Publish to \"other\"'\r\n")
    assert sender.closing
    listener = door.link()
    listener.receive(b"LS+ down.1\r\nLS+ *\r\nLS+ $LDS.abc\r\nLS+ other\r\n")
    assert text(listener).endswith(b"-ERR 'Permissions Violation for Subscription to \"other\"'\r\n")
    assert listener.closing


def test_what_a_leaf_refuses_is_not_sent_to_it() -> None:
    host = FakeHost()
    leaf = FakeDoor(host.account).link(deny_pub=["noise.>"])
    leaf.receive(b"LS+ >\r\n")
    text(leaf)
    client = host.client()
    client.receive(b"PUB noise.1 1\r\nx\r\nPUB news 1\r\ny\r\n")
    assert text(leaf) == b"LMSG news 1\r\ny\r\n"
    assert said(client) == b""


def test_an_accepted_leaf_does_not_say_what_it_may_do() -> None:
    host = FakeHost()
    leaf = FakeDoor(host.account, Permissions(publish_allow=(b"up.>",))).link()
    client = host.client()
    client.receive(b"SUB > 1\r\n")
    leaf.receive(b'INFO {"connect_info":true,"name":"other","export":{},"import":{}}\r\nLMSG secret 1\r\nx\r\n')
    assert said(client) == b""
    assert leaf.closing
    assert leaf.remote["name"] == "leaf"
