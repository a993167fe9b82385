"""Imports between accounts, without sockets (spec auth section 2)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafnode.route.account import Account
from leafnode.route.auth import User
from leafnode.route.bridge import Replies, ServiceImport, StreamImport
from leafnode.route.mapping import Mapping
from leafnode.route.passage import Passage
from leafnode.route.session import Session
from leafnode.route.subject import intersection, is_valid, matches
from leafnode.route.transform import TransformError
from tests.leafnode.route.host import FakeHost, said
from tests.leafnode.route.test_leaf import link, text

SECOND_NS = 1_000_000_000
PATTERNS = st.lists(st.sampled_from([b"a", b"b", b"*", b">"]), min_size=1, max_size=4).map(b".".join).filter(is_valid)
SUBJECTS = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=5).map(b".".join)


class Two(FakeHost):
    """A host with accounts A, the exporter, and B, the importer; the next client joins `account`."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = self.account, Account("B", lambda n: n - 1)
        self.a.name = "A"
        self.ids = (b"%06d" % number for number in range(1000))
        self.replies = {account: Replies(account, self.ids.__next__, self.now_ns) for account in (self.a, self.b)}
        self.replies[self.a].back[self.b] = self.replies[self.b]
        self.replies[self.b].back[self.a] = self.replies[self.a]

    def account_of(self, user: User) -> Account:
        return self.account

    def of(self, account: Account) -> Session:
        self.account = account
        return self.client()

    def stream(self, exported: str, local: str) -> StreamImport:
        return StreamImport(self.a, self.b, Passage(exported, local))

    def service(self, exported: str, local: str, *, is_single: bool = True, share: bool = False) -> ServiceImport:
        passage = Passage(exported, local)
        return ServiceImport(
            self.a, self.b, passage, self.replies[self.a], is_single=is_single, ttl_ns=SECOND_NS, share=share
        )


def reply_in(text: bytes) -> bytes:
    found = re.search(rb"_R_\.\S+", text)
    assert found
    return found[0]


# names


@pytest.mark.parametrize(
    ("exported", "local", "theirs", "ours"),
    [
        ("a", "b", b"a", b"b"),
        ("pub.>", "b.pub.>", b"pub.x.y", b"b.pub.x.y"),
        ("w.*.*", "l.$2.$1", b"w.x.y", b"l.y.x"),
        ("w.*.*", "l.*.*.end", b"w.x.y", b"l.x.y.end"),
        ("w.*.>", "l.{{wildcard(1)}}.m.>", b"w.x.y.z", b"l.x.m.y.z"),
    ],
)
def test_names_lead_both_ways(exported: str, local: str, theirs: bytes, ours: bytes) -> None:
    passage = Passage(exported, local)
    assert passage.to_local(theirs) == ours
    assert passage.to_exported(ours) == theirs


@pytest.mark.parametrize(
    ("exported", "local"),
    [
        ("a.*", "b"),
        ("a.*", "b.$2"),
        ("a.*.*", "b.$1"),
        ("a.*", "b.$1.$1"),
        ("a.>", "b"),
        ("a", "b.>"),
        ("a.*", "b.{{partition(3,1)}}"),
        ("a", "b..c"),
    ],
)
def test_names_that_say_too_little_or_too_much_are_refused(exported: str, local: str) -> None:
    with pytest.raises(TransformError):
        Passage(exported, local)


@given(PATTERNS, PATTERNS, SUBJECTS)
def test_an_intersection_matches_what_both_match(left: bytes, right: bytes, subject: bytes) -> None:
    both = intersection(left, right)
    assert (both is not None and matches(both, subject)) == (matches(left, subject) and matches(right, subject))


# streams


@pytest.mark.parametrize(
    ("subscribed", "asked"),
    [(b"b.pub.x", b"pub.x"), (b"b.>", b"pub.>"), (b"*.*.*", b"pub.*"), (b">", b"pub.>"), (b"b.pub", b""), (b"c", b"")],
)
def test_interest_reaches_the_exporter_in_its_own_words_and_goes_again(subscribed: bytes, asked: bytes) -> None:
    host = Two()
    host.stream("pub.>", "b.pub.>")
    bob = host.of(host.b)
    bob.receive(b"SUB %b 1\r\nSUB %b 2\r\n" % (subscribed, subscribed))
    assert [sub.subject for sub in host.a.subscriptions.all()] == ([asked] if asked else [])
    bob.receive(b"UNSUB 1\r\n")
    assert host.a.subscriptions.count == bool(asked)
    bob.receive(b"UNSUB 2\r\n")
    assert host.a.subscriptions.count == 0


def test_a_stream_comes_once_to_each_subscription() -> None:
    host = Two()
    bob = host.of(host.b)
    bob.receive(b"SUB b.pub.x 1\r\n")
    host.stream("pub.>", "b.pub.>")
    bob.receive(b"SUB b.> 2\r\nSUB > 3\r\n")
    alice = host.of(host.a)
    alice.receive(b"PUB pub.x re 1\r\nx\r\n" * 2)
    heard = said(bob)
    for sid in (b"1", b"2", b"3"):
        assert heard.count(b"MSG b.pub.x %b re 1\r\nx\r\n" % sid) == 2
    bob.receive(b"PUB b.pub.x 1\r\ny\r\n")
    assert said(bob).count(b"MSG") == 3
    assert said(alice) == b""


def test_a_queue_group_is_one_over_both_accounts() -> None:
    host = Two()
    host.stream("pub.>", "b.pub.>")
    alice, bob, carol = host.of(host.a), host.of(host.b), host.of(host.b)
    bob.receive(b"SUB b.pub.x q 1\r\n")
    carol.receive(b"SUB b.pub.x q 1\r\nSUB b.pub.x 2\r\n")
    alice.receive(b"SUB pub.x q 1\r\n")
    for _ in range(10):
        host.of(host.a).receive(b"PUB pub.x 1\r\nx\r\n")
    heard = said(alice) + said(bob) + said(carol)
    assert heard.count(b" 2 1\r\n") == 10
    assert heard.count(b" 1 1\r\n") == 10


def test_streams_do_not_go_on_to_a_third_account() -> None:
    host = Two()
    third = Account("C", lambda n: n - 1)
    host.stream("pub.>", "b.pub.>")
    StreamImport(host.b, third, Passage("b.pub.>", "c.>"))
    carol, bob = host.of(third), host.of(host.b)
    carol.receive(b"SUB c.> 1\r\n")
    bob.receive(b"SUB b.pub.> 1\r\n")
    host.of(host.a).receive(b"PUB pub.x 1\r\nx\r\n")
    assert said(bob) == b"MSG b.pub.x 1 1\r\nx\r\n"
    assert said(carol) == b""
    host.of(host.b).receive(b"PUB b.pub.x 1\r\ny\r\n")
    assert said(carol) == b"MSG c.x 1 1\r\ny\r\n"


def test_a_closed_import_leaves_nothing() -> None:
    host = Two()
    bob = host.of(host.b)
    bob.receive(b"SUB > 1\r\n")
    stream, service = host.stream("pub.>", "b.pub.>"), host.service("s", "s")
    stream.close()
    service.close()
    assert host.a.subscriptions.count == 0
    assert host.b.subscriptions.count == 1
    bob.receive(b"SUB b.pub.x 2\r\n")
    assert host.a.subscriptions.count == 0


# services


def test_a_request_is_answered_once() -> None:
    host = Two()
    host.service("svc", "my.req")
    alice, bob = host.of(host.a), host.of(host.b)
    alice.receive(b"SUB svc 1\r\n")
    bob.receive(b"SUB in.* 1\r\nPUB my.req in.1 1\r\nx\r\n")
    asked = said(alice)
    assert asked.endswith(b'NATS/1.0\r\nNats-Request-Info: {"acc":"B"}\r\n\r\nx\r\n')
    reply = reply_in(asked)
    alice.receive(b"PUB %b 2\r\nok\r\nPUB %b 2\r\nno\r\n" % (reply, reply))
    assert said(bob) == b"MSG in.1 1 2\r\nok\r\n"


def test_a_stream_of_answers_ends_with_an_empty_one() -> None:
    host = Two()
    host.service("svc", "svc", is_single=False)
    alice, bob = host.of(host.a), host.of(host.b)
    alice.receive(b"SUB svc 1\r\n")
    bob.receive(b"SUB in.* 1\r\nPUB svc in.1 1\r\nx\r\n")
    reply = reply_in(said(alice))
    for payload in (b"1", b"2", b"", b"3"):
        alice.receive(b"PUB %b %d\r\n%b\r\n" % (reply, len(payload), payload))
    assert said(bob) == b"MSG in.1 1 1\r\n1\r\nMSG in.1 1 1\r\n2\r\nMSG in.1 1 0\r\n\r\n"


def test_an_answer_that_comes_too_late_is_dropped() -> None:
    host = Two()
    host.service("svc", "svc")
    alice, bob = host.of(host.a), host.of(host.b)
    alice.receive(b"SUB svc 1\r\n")
    bob.receive(b"SUB in.* 1\r\nPUB svc in.1 1\r\nx\r\n")
    host.clock_ns = SECOND_NS + 1
    alice.receive(b"PUB %b 2\r\nok\r\n" % reply_in(said(alice)))
    assert said(bob) == b""


def test_an_answer_can_be_answered() -> None:
    host = Two()
    host.service("svc", "svc")
    alice, bob = host.of(host.a), host.of(host.b)
    alice.receive(b"SUB svc 1\r\nSUB more 2\r\n")
    bob.receive(b"SUB in.* 1\r\nPUB svc in.1 1\r\nx\r\n")
    alice.receive(b"PUB %b more 2\r\nok\r\n" % reply_in(said(alice)))
    bob.receive(b"PUB %b 3\r\nyes\r\n" % reply_in(said(bob)))
    assert said(alice) == b"MSG more 2 3\r\nyes\r\n"


def test_nobody_there_is_said_in_the_requesters_words() -> None:
    host = Two()
    host.service("svc", "my.req")
    bob = host.of(host.b)
    bob.receive(b"SUB in.* 1\r\nPUB my.req in.1 1\r\nx\r\n")
    assert said(bob) == b"HMSG in.1 1 38 38\r\nNATS/1.0 503\r\nNats-Subject: my.req\r\n\r\n\r\n"


def test_who_asks_cannot_be_forged_and_is_told_in_full_if_shared() -> None:
    host = Two()
    host.service("svc", "svc", share=True)
    alice, bob = host.of(host.a), host.of(host.b)
    alice.receive(b"SUB svc 1\r\n")
    block = b'NATS/1.0\r\nNats-Request-Info: {"acc":"boss"}\r\nA: b\r\n\r\n'
    bob.receive(b"HPUB svc %d %d\r\n%bx\r\n" % (len(block), len(block) + 1, block))
    told = b'NATS/1.0\r\nA: b\r\nNats-Request-Info: {"acc":"B","id":%d}\r\n\r\nx' % bob.client_id
    assert said(alice) == b"HMSG svc 1 %d %d\r\n%b\r\n" % (len(told) - 1, len(told), told)


def test_a_service_passed_on_names_the_first_who_asked_and_the_account_between() -> None:
    host = Two()
    third = Account("C", lambda n: n - 1)
    host.service("svc", "my.req")
    ServiceImport(host.b, third, Passage("my.req", "c.req"), host.replies[host.b], ttl_ns=SECOND_NS)
    alice, carol = host.of(host.a), host.of(third)
    alice.receive(b"SUB svc 1\r\n")
    carol.receive(b"SUB in.* 1\r\nPUB c.req in.1 1\r\nx\r\n")
    asked = said(alice)
    assert b'{"acc":"C","svc":"B"}' in asked
    alice.receive(b"PUB %b 2\r\nok\r\n" % reply_in(asked))
    assert said(carol) == b"MSG in.1 1 2\r\nok\r\n"


def test_the_exporters_mappings_hold_for_requests() -> None:
    host = Two()
    host.service("svc.*", "svc.*")
    host.a.map([Mapping("svc.old", [("svc.new", 100)]), Mapping("svc.not", [("svc.not", 0)])])
    alice, bob = host.of(host.a), host.of(host.b)
    alice.receive(b"SUB svc.> 1\r\n")
    bob.receive(b"PUB svc.old 1\r\nx\r\nPUB svc.not 1\r\nx\r\n")
    assert said(alice).count(b"HMSG svc.new 1") == 1


def test_imports_that_feed_each_other_come_to_an_end() -> None:
    host = Two()
    host.stream("x.>", "x.>")
    host.service("x.>", "x.>")
    alice, bob = host.of(host.a), host.of(host.b)
    alice.receive(b"SUB x.> 1\r\n")
    bob.receive(b"SUB x.> 1\r\nPUB x.1 1\r\ny\r\n")
    assert said(alice).count(b"HMSG") == 1
    assert said(bob).count(b"MSG x.1 1") == 2


def test_waiting_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leafnode.route.bridge.OPEN_MAX", 2)
    host = Two()
    host.service("svc", "svc")
    alice, bob = host.of(host.a), host.of(host.b)
    alice.receive(b"SUB svc 1\r\n")
    bob.receive(b"SUB in.* 1\r\n" + b"".join(b"PUB svc in.%d 1\r\nx\r\n" % number for number in range(3)))
    for reply in re.findall(rb"_R_\.\S+", said(alice)):
        alice.receive(b"PUB %b 2\r\nok\r\n" % reply)
    assert said(bob) == b"MSG in.1 1 2\r\nok\r\nMSG in.2 1 2\r\nok\r\n"


# over leaf links


def test_a_service_behind_a_link_is_asked_and_answers_over_it() -> None:
    host = Two()
    host.service("svc", "my.req")
    leaf = link(host.a)
    leaf.receive(b"LS+ svc\r\n")
    text(leaf)
    bob = host.of(host.b)
    bob.receive(b"SUB in.* 1\r\nPUB my.req in.1 1\r\nx\r\n")
    told, asked = text(leaf).split(b"\r\n", 1)
    reply = reply_in(asked)
    assert told == b"LS+ %b.>" % reply.rpartition(b".")[0]
    assert asked.startswith(b"HMSG svc %b " % reply)
    leaf.receive(b"LMSG %b 2\r\nok\r\n" % reply)
    assert said(bob) == b"MSG in.1 1 2\r\nok\r\n"


def test_who_is_behind_a_link_asks_and_hears_what_its_account_imports() -> None:
    host = Two()
    host.service("svc", "my.req")
    host.stream("pub.>", "b.pub.>")
    leaf = link(host.b)
    assert b"LS+ my.req\r\n" in text(leaf)
    alice = host.of(host.a)
    alice.receive(b"SUB svc 1\r\n")
    leaf.receive(b"LS+ in.1\r\nLS+ b.pub.x\r\nLS+ b.pub.*\r\nLMSG my.req in.1 1\r\nx\r\n")
    asked = said(alice)
    assert b'{"acc":"B"}' in asked
    alice.receive(b"PUB %b 2\r\nok\r\nPUB pub.x 1\r\ny\r\n" % reply_in(asked))
    assert text(leaf) == b"LMSG in.1 2\r\nok\r\nLMSG b.pub.x 1\r\ny\r\n"


def test_a_queue_group_behind_a_link_gets_an_imported_message_once() -> None:
    host = Two()
    host.stream("pub.>", "b.pub.>")
    leaf = link(host.b)
    leaf.receive(b"LS+ b.pub.x q 2\r\n")
    text(leaf)
    host.of(host.a).receive(b"PUB pub.x 1\r\ny\r\n")
    assert text(leaf) == b"LMSG b.pub.x | q 1\r\ny\r\n"
