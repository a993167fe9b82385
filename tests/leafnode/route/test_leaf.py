"""A leaf link as a conversation with a hub, without sockets (spec leafnode-protocol)."""

import dataclasses
import json

import pytest

from leafnode.route.account import Account
from leafnode.route.leaf import Leaf, unglue
from leafnode.route.leaf_options import LeafOptions
from leafnode.route.mapping import Mapping
from leafnode.route.message import Message
from tests.leafnode.route.host import FakeHost, said

INFO = (
    b'INFO {"client_id":5,"leafnode_urls":["h:1"],"headers":true,"nonce":"n","info_on_connect":true,"cluster":"C"}\r\n'
)
ADMITTED = b'INFO {"client_id":5,"connect_info":true,"remote_account":"$G"}\r\n'
OPTIONS = LeafOptions(server_id="N1", server_name="leaf", version="2.15.1", domain="d", loop_id=b"L" * 22)


def text(leaf: Leaf) -> bytes:
    leaf.settle()
    written = b"".join(leaf.out)
    leaf.out.clear()
    return written


def link(account: Account, options: LeafOptions = OPTIONS, admitted: bytes = ADMITTED) -> Leaf:
    leaf = Leaf(account, options, lambda nonce: {"user": "u", "pass": nonce.decode()}, lambda leaf: None)
    leaf.receive(INFO)
    leaf.receive(admitted)
    return leaf


def test_the_handshake_says_who_we_are_and_then_tells_our_interest() -> None:
    host = FakeHost()
    host.client().receive(b"SUB a.* 1\r\nSUB w q 2\r\n")
    leaf = Leaf(host.account, OPTIONS, lambda nonce: {"user": "u", "pass": nonce.decode()}, lambda leaf: None)
    leaf.receive(INFO)
    connect = text(leaf)
    fields = json.loads(connect.removeprefix(b"CONNECT "))
    assert (fields["user"], fields["pass"], fields["domain"], fields["cluster"]) == ("u", "n", "d", "leaf")
    assert "lang" not in fields
    leaf.receive(ADMITTED)
    told = text(leaf).splitlines()
    assert told[0] == b"LS+ $LDS." + b"L" * 22
    assert set(told[1:]) == {b"LS+ a.*", b"LS+ w q 1"}


def test_interest_is_counted_and_queues_send_totals() -> None:
    host = FakeHost()
    leaf = link(host.account)
    text(leaf)
    one, two = host.client(), host.client()
    one.receive(b"SUB a 1\r\nSUB w q 2\r\n")
    two.receive(b"SUB a 1\r\nSUB w q 2\r\n")
    assert text(leaf) == b"LS+ a\r\nLS+ w q 2\r\n"
    one.receive(b"UNSUB 1\r\nUNSUB 2\r\n")
    assert text(leaf) == b"LS+ w q 1\r\n"
    two.end()
    assert text(leaf) == b"LS- a\r\nLS- w q\r\n"


def test_interest_is_told_before_the_message_that_needs_it() -> None:
    host = FakeHost()
    leaf = link(host.account)
    leaf.receive(b"LS+ ask\r\n")
    text(leaf)
    host.client().receive(b"SUB _INBOX.1 1\r\nPUB ask _INBOX.1 0\r\n\r\n")
    assert text(leaf) == b"LS+ _INBOX.1\r\nLMSG ask _INBOX.1 0\r\n\r\n"


def test_who_dials_may_be_the_hub() -> None:
    """It asks for isolation, may be asked for more than it gives, and ends the link over a broken permission."""
    options = dataclasses.replace(OPTIONS, hub=True, request_isolation=True)
    leaf = Leaf(FakeHost().account, options, lambda nonce: {}, lambda leaf: None)
    leaf.receive(INFO)
    fields = json.loads(text(leaf).split(b"\r\n")[0].removeprefix(b"CONNECT "))
    assert (fields["is_hub"], fields["isolate"], leaf.is_hub) == (True, True, True)
    leaf.receive(b'INFO {"connect_info":true,"export":{"allow":["out.>"]}}\r\n')
    leaf.receive(b"LS+ other\r\n")
    assert b"Permissions Violation for Subscription" in text(leaf)
    assert leaf.closing


def test_what_a_sourcing_hub_asks_for_is_told_with_connect() -> None:
    host = FakeHost()
    host.account.map(
        [Mapping(f"$JS.d.API.{name}", [(f"$JS.API.{name}", 100)]) for name in ("INFO", "CONSUMER.>", "STREAM.>")]
    )
    leaf = Leaf(host.account, OPTIONS, lambda nonce: {}, lambda leaf: None)
    leaf.receive(INFO)
    assert text(leaf).splitlines()[1:] == [b"LS+ $JS.d.API.CONSUMER.>"]
    leaf.receive(ADMITTED)
    assert text(leaf).splitlines()[1:] == [b"LS+ $JS.d.API.STREAM.>", b"LS+ $JS.d.API.INFO"]


def test_messages_cross_only_where_the_other_side_is_interested() -> None:
    host = FakeHost()
    leaf = link(host.account)
    text(leaf)
    alice = host.client()
    leaf.receive(b"LS+ up.>\r\nLS+ work g 2\r\n")
    alice.receive(b"PUB elsewhere 1\r\nx\r\nPUB up.1 r 1\r\nx\r\nPUB work r 1\r\ny\r\n")
    assert text(leaf) == b"LMSG up.1 r 1\r\nx\r\nLMSG work + r g 1\r\ny\r\n"
    alice.receive(b"HPUB up.2 12 13\r\nNATS/1.0\r\n\r\nz\r\n")
    assert text(leaf) == b"HMSG up.2 12 13\r\nNATS/1.0\r\n\r\nz\r\n"
    leaf.receive(b"LS- up.>\r\nLS- work g\r\n")
    alice.receive(b"PUB up.1 1\r\nx\r\nPUB work 1\r\ny\r\n")
    assert text(leaf) == b""


def test_what_comes_reaches_plain_subscribers_and_only_the_queues_it_names() -> None:
    host = FakeHost()
    leaf = link(host.account)
    alice = host.client()
    alice.receive(b"SUB a 1\r\nSUB a q 2\r\n")
    leaf.receive(b"LMSG a 1\r\nx\r\n")
    assert said(alice) == b"MSG a 1 1\r\nx\r\n"
    leaf.receive(b"LMSG a + r q 1\r\ny\r\n")
    assert said(alice) == b"MSG a 1 r 1\r\ny\r\nMSG a 2 r 1\r\ny\r\n"


def test_local_queue_members_win_over_the_hub() -> None:
    host = FakeHost()
    leaf = link(host.account)
    text(leaf)
    leaf.receive(b"LS+ work g 50\r\n")
    alice = host.client()
    alice.receive(b"SUB work g 1\r\nPUB work 1\r\nx\r\n")
    assert said(alice) == b"MSG work 1 1\r\nx\r\n"
    assert b"LMSG" not in text(leaf)


def test_a_message_never_goes_back_to_the_link_it_came_from() -> None:
    host = FakeHost()
    leaf = link(host.account)
    leaf.receive(b"LS+ a\r\n")
    text(leaf)
    leaf.receive(b"LMSG a 1\r\nx\r\n")
    assert text(leaf) == b""


def test_jetstream_of_one_side_never_leaks_to_the_other() -> None:
    host = FakeHost()
    leaf = link(host.account)
    leaf.receive(b"LS+ $JS.API.>\r\nLS+ $KV.>\r\nLS+ >\r\n")
    text(leaf)
    alice = host.client()
    alice.receive(b"SUB in 1\r\nPUB $JS.API.INFO in 0\r\n\r\nPUB $KV.B.k 1\r\nx\r\nPUB $JS.d.API.INFO 0\r\n\r\n")
    assert b"LMSG" not in text(leaf)
    assert b"503" in said(alice)
    alice.receive(b"SUB $JS.API.INFO 2\r\n")
    assert text(leaf) == b""
    leaf.receive(b"LMSG $JS.API.INFO r 0\r\n\r\n")
    assert said(alice) == b""


def test_our_domain_is_offered_and_mapped_to_our_api() -> None:
    host = FakeHost()
    host.account.map([Mapping("$JS.d.API.STREAM.>", [("$JS.API.STREAM.>", 100)])])
    leaf = link(host.account)
    assert b"LS+ $JS.d.API.STREAM.>\r\n" in text(leaf)
    alice = host.client()
    alice.receive(b"SUB $JS.API.STREAM.INFO.* 1\r\n")
    leaf.receive(b"LMSG $JS.d.API.STREAM.INFO.S r 0\r\n\r\n")
    assert said(alice) == b"MSG $JS.API.STREAM.INFO.S 1 r 0\r\n\r\n"


def test_deliveries_carry_their_subject_behind_an_at_sign() -> None:
    host = FakeHost()
    leaf = link(host.account)
    leaf.receive(b"LS+ inbox\r\n")
    text(leaf)
    ack = b"$JS.ACK.S.c.1.1.1.17.0"
    host.account.publish(Message(b"orders.7", ack, b"", b"x"), to=b"inbox")
    assert text(leaf) == b"LMSG inbox " + ack + b"@orders.7 1\r\nx\r\n"
    alice = host.client()
    alice.receive(b"SUB inbox 1\r\n")
    leaf.receive(b"LMSG inbox " + ack + b"@orders@7 1\r\nx\r\n")
    assert said(alice) == b"MSG orders@7 1 " + ack + b" 1\r\nx\r\n"
    assert unglue(b"$JS.ACK.S@x.c.1.1.1.17.0@a.b") == (b"$JS.ACK.S@x.c.1.1.1.17.0", b"a.b")


def test_what_the_configuration_denies_does_not_cross() -> None:
    options = LeafOptions(
        server_id="N", server_name="l", version="2", deny_exports=(b"tele.>",), deny_imports=(b"noise.>",), loop_id=b"x"
    )
    host = FakeHost()
    leaf = link(host.account, options)
    text(leaf)
    alice = host.client()
    leaf.receive(b"LS+ tele.>\r\nLS+ >\r\n")
    alice.receive(b"SUB noise.1 1\r\nPUB tele.1 1\r\nx\r\n")
    assert text(leaf) == b""
    leaf.receive(b"LMSG noise.1 1\r\nx\r\n")
    assert said(alice) == b""


def test_limits_that_the_hub_announces_are_kept() -> None:
    admitted = (
        b'INFO {"connect_info":true,"import":{"allow":["in.>"]},"export":{"allow":["out.>"],"deny":["out.x"]}}\r\n'
    )
    host = FakeHost()
    leaf = link(host.account, admitted=admitted)
    leaf.receive(b"LS+ >\r\n")
    text(leaf)
    alice = host.client()
    alice.receive(b"SUB in.1 1\r\nSUB other 2\r\nPUB out.1 1\r\na\r\nPUB out.x 1\r\nb\r\nPUB no 1\r\nc\r\n")
    assert text(leaf) == b"LS+ in.1\r\nLMSG out.1 1\r\na\r\n"


def test_our_own_loop_mark_coming_back_ends_the_link() -> None:
    leaf = link(FakeHost().account)
    leaf.receive(b"LS+ $LDS." + b"L" * 22 + b"\r\n")
    assert leaf.closing
    assert leaf.must_wait
    assert b"Loop detected" in text(leaf)


@pytest.mark.parametrize(
    ("said", "lasts"),
    [
        ('Permissions Violation for Publish to "a"', True),
        ("Duplicate Remote LeafNode Connection", True),
        ("remote leafnode has same cluster name", True),
        ("Authorization Violation", False),
        ("Stale Connection", False),
    ],
)
def test_what_does_not_pass_by_itself_is_not_tried_again_at_once(said: str, lasts: bool) -> None:
    leaf = link(FakeHost().account)
    leaf.receive(f"-ERR '{said}'\r\n".encode())
    assert (leaf.must_wait, leaf.close_reason) == (lasts, said)


def test_the_end_of_a_link_takes_its_interest_away() -> None:
    host = FakeHost()
    leaf = link(host.account)
    leaf.receive(b"LS+ a\r\nLS+ b q 1\r\n")
    leaf.end()
    assert host.account.subscriptions.count == 0
    assert host.account.interest_listeners == []


def test_a_client_port_is_recognised() -> None:
    leaf = Leaf(FakeHost().account, OPTIONS, lambda nonce: {}, lambda leaf: None)
    leaf.receive(b'INFO {"client_id":5}\r\n')
    assert leaf.closing
    assert "wrong port" in leaf.close_reason


def test_a_hub_that_does_not_advertise_itself_is_one_all_the_same() -> None:
    leaf = Leaf(FakeHost().account, OPTIONS, lambda nonce: {}, lambda leaf: None)
    leaf.receive(b'INFO {"client_id":5,"headers":true,"info_on_connect":true}\r\n')
    assert not leaf.closing
    assert text(leaf).startswith(b"CONNECT ")


def test_any_chunking_of_a_link_has_the_same_effect() -> None:
    stream = b"LS+ a\r\nLMSG in 3\r\nabc\r\nHMSG in 12 15\r\nNATS/1.0\r\n\r\nxyz\r\nLS- a\r\n"
    heard = []
    for size in (1, 2, 7, len(stream)):
        host = FakeHost()
        leaf = link(host.account)
        alice = host.client()
        alice.receive(b"SUB in 1\r\n")
        for start in range(0, len(stream), size):
            leaf.receive(stream[start : start + size])
        heard.append(said(alice))
    assert len(set(heard)) == 1
    assert heard[0] == b"MSG in 1 3\r\nabc\r\nHMSG in 1 12 15\r\nNATS/1.0\r\n\r\nxyz\r\n"


def with_jetstream(info: bytes = INFO) -> Leaf:
    options = dataclasses.replace(OPTIONS, jetstream=True)
    leaf = Leaf(FakeHost().account, options, lambda nonce: {}, lambda leaf: None)
    leaf.receive(info)
    leaf.receive(ADMITTED)
    return leaf


def test_a_hub_that_waits_for_an_answer_from_before_is_made_to_ask_again() -> None:
    """Those requests whose inboxes are in the hub's first burst, but not what it asks us now, and nothing later."""
    leaf = with_jetstream()
    assert text(leaf).endswith(b"PING\r\n")
    leaf.receive(b"LS+ $JSC.R.lost\r\nLS+ $JSC.R.over\r\nLS- $JSC.R.over\r\nLS+ $JSC.R.now\r\n")
    leaf.receive(b"LMSG $JS.d.API.CONSUMER.CREATE.S $JSC.R.now 2\r\n{}\r\n")
    leaf.receive(b"PONG\r\n")
    said = text(leaf)
    assert said.count(b'INFO {"server_id":"N1"') == 2
    assert [line.split()[1] for line in said.splitlines() if line.startswith(b"LMSG")] == [b"$JSC.R.lost"]
    assert json.loads(said.splitlines()[-1])["error"]["err_code"] == 10185
    leaf.receive(b"LS+ $JSC.R.later\r\nPONG\r\n")
    assert text(leaf) == b""


def test_a_leafnode_hub_is_not_told_what_it_sees() -> None:
    leaf = with_jetstream(INFO.replace(b'"cluster"', b'"git_commit":"leafnode","cluster"'))
    text(leaf)
    leaf.receive(b"LS+ $JSC.R.lost\r\nPONG\r\n")
    assert text(leaf) == b""


def test_later_permissions_replace_earlier_ones() -> None:
    host = FakeHost()
    leaf = link(host.account, admitted=b'INFO {"connect_info":true,"export":{"deny":["a"]}}\r\n')
    leaf.receive(b"LS+ >\r\n")
    text(leaf)
    client = host.client()
    client.receive(b"PUB a 0\r\n\r\n")
    assert text(leaf) == b""
    leaf.receive(b'INFO {"connect_info":true,"export":{"deny":["b"]}}\r\n')
    client.receive(b"PUB a 0\r\n\r\nPUB b 0\r\n\r\n")
    assert text(leaf) == b"LMSG a 0\r\n\r\n"


def test_the_broker_itself_sends_past_deny_exports_but_not_past_the_hubs_rules() -> None:
    options = dataclasses.replace(OPTIONS, deny_exports=(b"tele.>",))
    admitted = ADMITTED.replace(b'"remote_account"', b'"export":{"deny":["secret.>"]},"remote_account"')
    leaf = link(Account("$G", lambda n: 0), options, admitted)
    text(leaf)
    assert leaf.send(Message(b"tele.pi", b"r", b"NATS/1.0\r\nA: b\r\n\r\n", b"x"))
    assert text(leaf) == b"HMSG tele.pi r 18 19\r\nNATS/1.0\r\nA: b\r\n\r\nx\r\n"
    assert not leaf.send(Message(b"secret.pi"))
    assert not leaf.send(Message(b"$JS.API.INFO"))
    assert leaf.send(Message(b"$JS.hub.API.INFO", b"r"))
    assert leaf.max_payload == 1024 * 1024
    leaf.end()
    assert not leaf.send(Message(b"tele.pi"))
