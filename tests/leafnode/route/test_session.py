"""A client connection as a conversation, without sockets (spec client-protocol)."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafnode.route.auth import User
from leafnode.route.message import Message, Subscription
from leafnode.route.permissions import Permissions, Responses
from leafnode.route.session import Session
from leafnode.route.verdict import Verdict
from tests.leafnode.route.host import CONNECT, FakeHost, said


def test_publish_reaches_every_matching_subscription() -> None:
    host = FakeHost()
    alice, bob = host.client(), host.client()
    alice.receive(b"SUB a.* 1\r\nSUB a.> 2\r\nSUB b 3\r\n")
    bob.receive(b"PUB a.x 2\r\nhi\r\nPUB a.x reply 2\r\nho\r\n")
    heard = said(alice)
    for copy in (b"MSG a.x 1 2\r\nhi\r\n", b"MSG a.x 2 2\r\nhi\r\n", b"MSG a.x 1 reply 2\r\nho\r\n"):
        assert heard.count(copy) == 1
    assert heard.count(b"MSG") == 4
    assert said(bob) == b""


def test_headers_reach_those_who_asked_for_them_and_are_stripped_for_others() -> None:
    host = FakeHost()
    with_headers, without = host.client(), host.client(b'CONNECT {"verbose":false}\r\n')
    for session in (with_headers, without):
        session.receive(b"SUB a 1\r\n")
    said(without)
    for _ in range(3):  # the first way must do as the others
        host.client().receive(HPUB)
        assert said(with_headers) == b"HMSG a 1 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n"
        assert said(without) == b"MSG a 1 2\r\nhi\r\n"


HPUB = b"HPUB a 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n"


def test_an_empty_header_block_makes_a_plain_message() -> None:
    host = FakeHost()
    alice = host.client()
    alice.receive(b"SUB a 1\r\n" + b"HPUB a 0 2\r\nhi\r\n" * 3)
    assert said(alice) == b"MSG a 1 2\r\nhi\r\n" * 3


def test_one_member_of_each_queue_group_gets_the_message() -> None:
    host = FakeHost()
    members = [host.client() for _ in range(3)]
    for member in members:
        member.receive(b"SUB work q 1\r\nSUB work q2 2\r\n")
    host.client().receive(b"PUB work 1\r\nx\r\n")
    heard = b"".join(said(member) for member in members)
    assert heard.count(b"MSG work 1 1") == 1
    assert heard.count(b"MSG work 2 1") == 1


def test_unsub_with_a_maximum_counts_from_the_subscription() -> None:
    host = FakeHost()
    alice, bob = host.client(), host.client()
    alice.receive(b"SUB a 1\r\n")
    bob.receive(b"PUB a 1\r\nx\r\n" * 3)
    alice.receive(b"UNSUB 1 5\r\n")
    bob.receive(b"PUB a 1\r\nx\r\n" * 5)
    assert said(alice).count(b"MSG") == 5
    alice.receive(b"SUB a 2\r\n")
    bob.receive(b"PUB a 1\r\nx\r\n" * 3)
    said(alice)
    alice.receive(b"UNSUB 2 2\r\n")
    bob.receive(b"PUB a 1\r\nx\r\n")
    assert said(alice) == b""


def test_nobody_there_answers_503_only_to_a_requester_who_can_hear_it() -> None:
    host = FakeHost()
    alice = host.client()
    alice.receive(b"PUB nobody in.1 0\r\n\r\n")
    assert said(alice) == b""
    alice.receive(b"SUB in.* 9\r\nPUB nobody in.1 0\r\n\r\n")
    assert said(alice) == b"HMSG in.1 9 38 38\r\nNATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n\r\n"


def test_without_echo_own_messages_do_not_come_back_and_do_not_count() -> None:
    host = FakeHost()
    connect = CONNECT.replace(b"{", b'{"echo":false,')
    alice = host.client(connect)
    alice.receive(b"SUB a 1\r\nSUB in 2\r\nPUB a 1\r\nx\r\n")
    assert said(alice) == b""
    alice.receive(b"PUB a in 1\r\nx\r\n")
    assert b"503" in said(alice)


def test_a_client_that_never_connects_is_verbose_and_pedantic() -> None:
    host = FakeHost()
    alice = host.client(b"")
    alice.receive(b"SUB a 1\r\nPUB a..b 1\r\nx\r\nPING\r\n")
    assert said(alice) == b"+OK\r\n-ERR 'Invalid Publish Subject'\r\n+OK\r\nPONG\r\n"


def test_after_connect_the_first_pong_is_followed_by_an_info() -> None:
    host = FakeHost()
    alice = host.client()
    alice.receive(b"PING\r\nPING\r\n")
    assert said(alice) == b'PONG\r\nINFO {"connect_info": true} \r\nPONG\r\n'


def test_a_second_connect_drops_all_subscriptions() -> None:
    host = FakeHost()
    alice = host.client()
    alice.receive(b"SUB a 1\r\n" + CONNECT + b"PUB a 1\r\nx\r\n")
    assert said(alice) == b""
    assert host.account.subscriptions.count == 0


def test_a_duplicate_sid_leaves_the_first_in_place() -> None:
    host = FakeHost()
    alice = host.client()
    alice.receive(b"SUB a 1\r\nSUB b 1\r\nPUB a 1\r\nx\r\nPUB b 1\r\ny\r\n")
    assert said(alice) == b"MSG a 1 1\r\nx\r\n"


@pytest.mark.parametrize(
    ("bytes_in", "answer"),
    [
        (b"FOO\r\n", b"-ERR 'Unknown Protocol Operation'\r\n"),
        (b"PUB a 5000\r\n", b"-ERR 'Maximum Payload Violation'\r\n"),
        (b"PUB a 2\r\nhi!!", b"-ERR 'Unknown Protocol Operation'\r\n"),
        (b"SUB " + b"a" * 5000, b"-ERR 'maximum control line exceeded'\r\n"),
        (b"SUB a\r\n", b""),
        (b"PUB a -1\r\n", b""),
        (b"-ERR 'x'\r\n", b""),
        (b"CONNECT {bad\r\n", b""),
        (b'CONNECT {"protocol":2}\r\n', b"-ERR 'invalid client protocol'\r\n"),
        (b'CONNECT {"no_responders":true,"headers":false}\r\n', b"-ERR 'no responders requires headers support'\r\n"),
    ],
)
def test_violations_close_the_connection(bytes_in: bytes, answer: bytes) -> None:
    alice = FakeHost().client()
    alice.receive(bytes_in)
    assert alice.closing
    assert said(alice) == answer


@pytest.mark.parametrize(
    ("bytes_in", "answer"),
    [
        (b"SUB a..b 1\r\n", b"-ERR 'Invalid Subject'\r\n"),
        (b"SUB a _sys_ 1\r\n", b'-ERR \'Permissions Violation for Subscription to "a" using queue "_sys_"\'\r\n'),
        (b"PUB a $JS.ACK.x 0\r\n\r\n", b"-ERR 'Permissions Violation for Publish with Reply of \"$JS.ACK.x\"'\r\n"),
        (b"UNSUB 99\r\n", b""),
        (b"INFO {}\r\n+OK\r\n", b""),
    ],
)
def test_what_is_only_complained_about(bytes_in: bytes, answer: bytes) -> None:
    alice = FakeHost().client()
    alice.receive(bytes_in)
    assert said(alice) == answer
    assert not alice.closing


def test_credentials_are_demanded_where_users_are_configured() -> None:
    host = FakeHost(User(name="u", password="p"))
    eve = host.client(b"")
    eve.receive(b"SUB a 1\r\n")
    assert eve.closing
    assert said(eve) == b"-ERR 'Authorization Violation'\r\n"
    eve = host.client(b"")
    eve.receive(b'CONNECT {"user":"u","pass":"wrong"}\r\n')
    assert said(eve) == b"-ERR 'Authorization Violation'\r\n"
    alice = host.client(b'CONNECT {"user":"u","pass":"p","verbose":false}\r\n')
    alice.receive(b"PING\r\n")
    assert said(alice) == b"PONG\r\n"


def test_permissions_deny_filter_and_allow_responses() -> None:
    rules = Permissions(
        publish_allow=(b"a.>",), publish_deny=(b"a.secret",), subscribe_deny=(b"s.private",), responses=Responses(1)
    )
    host = FakeHost(permissions=rules)
    alice = host.client()
    alice.receive(b"PUB b 0\r\n\r\nPUB a.secret 0\r\n\r\nSUB s.private 1\r\nSUB s.* 2\r\n")
    assert said(alice) == (
        b"-ERR 'Permissions Violation for Publish to \"b\"'\r\n"
        b"-ERR 'Permissions Violation for Publish to \"a.secret\"'\r\n"
        b"-ERR 'Permissions Violation for Subscription to \"s.private\"'\r\n"
    )
    host.user = User()
    bob = host.client()
    bob.receive(b"SUB in 7\r\nPUB s.private 0\r\n\r\nPUB s.x in 0\r\n\r\n")
    assert said(alice) == b"MSG s.x 2 in 0\r\n\r\n"
    alice.receive(b"PUB in 2\r\nok\r\nPUB in 2\r\nok\r\n")
    assert said(bob) == b"MSG in 7 2\r\nok\r\n"
    assert said(alice) == b"-ERR 'Permissions Violation for Publish to \"in\"'\r\n"


def test_the_end_of_a_session_takes_its_interest_away() -> None:
    host = FakeHost()
    alice, bob = host.client(), host.client()
    alice.receive(b"SUB a 1\r\n")
    bob.receive(b"PUB a 1\r\nx\r\n" * 2)
    alice.end()
    said(alice)
    bob.receive(b"PUB a 1\r\nx\r\n" * 2)
    assert said(alice) == b""
    assert host.account.subscriptions.count == 0


SUBJECTS = st.sampled_from([b"a", b"a.b", b"c", b"in.1", b"$NRG.x", *(b"s.%d" % n for n in range(6))])
REPLIES = st.sampled_from([b"in.1", b"in.2", b"9", b"$JS.ACK.x", b"_R_.x", b"x\vy"])
PATTERNS = st.sampled_from([b"a", b"a.*", b">", b"c", b"in.*", b"s.*", b"s.3", b"*.4"])
BODIES = st.one_of(st.binary(max_size=20), st.sampled_from([b"x", b"\r\n", b"x\r\nPUB s.1 1\r\n", b"PUB a 3\r\n"]))
HEAD = b"NATS/1.0\r\n\r\n"
PUBLISHED = st.one_of(
    st.builds(lambda s, p: b"PUB %b %d\r\n%b\r\n" % (s, len(p), p), SUBJECTS, BODIES),
    st.builds(lambda s, r, p: b"PUB %b %b %d\r\n%b\r\n" % (s, r, len(p), p), SUBJECTS, REPLIES, BODIES),
    st.builds(lambda s, p: b"HPUB %b 12 %d\r\n%b%b\r\n" % (s, len(p) + 12, HEAD, p), SUBJECTS, BODIES),
    st.builds(
        lambda s, r, p: b"HPUB %b %b 12 %d\r\n%b%b\r\n" % (s, r, len(p) + 12, HEAD, p), SUBJECTS, REPLIES, BODIES
    ),
)
ROWS = st.builds(lambda frames, times: frames * times, st.lists(PUBLISHED, min_size=1, max_size=4), st.integers(1, 9))
OTHERS = st.one_of(
    st.builds(lambda s, p: b"PUB  %b  %d \r\n%b\r\n" % (s, len(p), p), SUBJECTS, BODIES),
    st.builds(lambda s, p: b"PUB %b 00%d\r\n%b\r\n" % (s, len(p), p), SUBJECTS, BODIES),
    st.builds(
        lambda p, i, q: b"SUB %b %b%d\r\n" % (p, q, i), PATTERNS, st.integers(1, 5), st.sampled_from([b"", b"q "])
    ),
    st.builds(lambda i, m: b"UNSUB %d %d\r\n" % (i, m), st.integers(1, 5), st.integers(0, 4)),
    st.just(b"PING\r\n"),
)
ODD = [
    b"PUB a 3\r\nabcd\r\n",
    b"PUB a\vb 1\r\nx\r\n",
    b"PUB s.1 1\nx\r\n",
    CONNECT,
    b"HPUB a 14 13\r\nNATS/1.0\r\n\r\nx\r\n",
]
OPERATIONS = st.one_of(ROWS, ROWS, st.lists(OTHERS, min_size=1, max_size=1), st.lists(st.sampled_from(ODD), max_size=1))


class Effect(NamedTuple):
    said: tuple[bytes, ...]
    """By the player, by a listener, by another."""
    closed: bool
    counts: tuple[int, ...]
    kept: tuple[Message, ...]


class Keeper:
    """A stream: takes what it gets, refuses one in three at once, acknowledges the others together."""

    is_remote = False

    def __init__(self, host: FakeHost) -> None:
        self.taken: list[Message] = []
        self._account = host.account
        self._answers: list[tuple[bytes, bytes]] = []
        sub = Subscription(b"s.*", self)
        sub.is_stream = True
        self._account.subscribe(sub)

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        self.taken.append(message)
        if message.reply and len(self.taken) % 3 == 0:
            self._account.publish(Message(message.reply, payload=b"refused"))
        elif message.reply:
            self._answers.append((message.reply, b"%d" % len(self.taken)))
        return True

    def acknowledge(self) -> None:
        self._account.answer(self._answers)


LISTENERS = (b"SUB > 1\r\nSUB a.> 2\r\n", b"SUB s.* 1\r\nSUB s.2 2\r\nSUB a.b 3\r\n")


def play(
    operations: list[bytes],
    sizes: list[int],
    *,
    fast: bool,
    listeners: tuple[bytes, bytes] = LISTENERS,
    keeps: bool = False,
) -> Effect:
    """One client plays the operations, two others listen; a stream may keep some."""
    host = FakeHost()
    listener, other = host.client(), host.client()
    listener.receive(listeners[0])
    other.receive(listeners[1])
    keeper = Keeper(host) if keeps else None
    player = host.client(fast=fast)
    stream = b"".join(operations)
    position, turn = 0, 0
    while position < len(stream):
        step = sizes[turn % len(sizes)]
        player.receive(stream[position : position + step])
        position += step
        turn += 1
    if keeper is not None:
        keeper.acknowledge()
    sessions = (player, listener, other)
    counts = [player.in_msgs, player.in_bytes]
    for session in sessions:
        counts += [session.out_msgs, session.out_bytes, *(sub.delivered for sub in session.subs.values())]
    kept = tuple(keeper.taken) if keeper is not None else ()
    return Effect(tuple(said(session) for session in sessions), player.closing, tuple(counts), kept)


CHUNKS = st.lists(st.integers(1, 60), min_size=1, max_size=10)


@given(st.lists(OPERATIONS, max_size=12), CHUNKS)
def test_any_chunking_and_either_way_has_the_same_effect(rows: list[list[bytes]], sizes: list[int]) -> None:
    operations = [frame for row in rows for frame in row]
    complete = play(operations, [1 << 20], fast=False)
    assert play(operations, sizes, fast=True) == complete
    assert play(operations, [1 << 20], fast=True) == complete
    assert play(operations, [1], fast=False) == complete


@given(st.lists(OPERATIONS, max_size=12), CHUNKS, st.sampled_from([LISTENERS, (b"SUB in.* 1\r\nSUB 9 2\r\n", b"")]))
def test_a_stream_gets_the_same_either_way(
    rows: list[list[bytes]], sizes: list[int], listeners: tuple[bytes, bytes]
) -> None:
    operations = [frame for row in rows for frame in row]
    complete = play(operations, [1 << 20], fast=False, listeners=listeners, keeps=True)
    assert play(operations, sizes, fast=True, listeners=listeners, keeps=True) == complete
    assert play(operations, [1 << 20], fast=True, listeners=listeners, keeps=True) == complete


ANSWERED = [b"in.1", b"in.2", b"in.1", b"one.2", b"group.1", b"twice.1", b"nobody.x", b"in.3", b"_INBOX.a.b"]


def test_answers_together_are_what_they_are_one_by_one() -> None:
    def heard(*, together: bool) -> tuple[object, ...]:
        host = FakeHost()
        alice, bob, limited = host.client(), host.client(), host.client()
        alice.receive(b"SUB in.* 1\r\nSUB in.3 2\r\nSUB _INBOX.a.* 3\r\nSUB twice.* 4\r\nSUB twice.1 5\r\n")
        bob.receive(b"SUB in.* 1\r\nSUB group.* q 2\r\n")
        limited.receive(b"SUB one.* 1\r\nUNSUB 1 1\r\n")
        answers = [(reply, b"+ACK %d" % n) for n, reply in enumerate(ANSWERED * 3)]
        if together:
            host.account.answer(answers)
        else:
            for reply, payload in answers:
                host.account.publish(Message(reply, payload=payload))
        sessions = (alice, bob, limited)
        counts = [(s.out_msgs, s.out_bytes, [sub.delivered for sub in s.subs.values()]) for s in sessions]
        return [said(session) for session in sessions], counts

    assert heard(together=True) == heard(together=False)


@pytest.mark.parametrize("most", [1, 4, 1000])
@given(st.lists(OPERATIONS, max_size=12))
def test_the_fast_ways_are_right_at_their_limits(most: int, rows: list[list[bytes]]) -> None:
    """Rows from the second frame on, and next to no memory: everything is forgotten and learned again all the time."""
    operations = [frame for row in rows for frame in row]
    complete = play(operations, [1 << 20], fast=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leafnode.route.fast.ROW_MIN", 2)
        patch.setattr("leafnode.route.fast.PAUSE_MAX", 2)
        patch.setattr("leafnode.route.known.COMPILE_WORTH", 0)
        patch.setattr("leafnode.route.known.PATIENCE", 2)
        patch.setattr("leafnode.route.account.FEW_ROUTES", most // 2)
        for limit in (
            "account.ROUTES_MAX",
            "account.STEMS_MAX",
            "known.LINES_MAX",
            "known.SEEN_MAX",
            "known.SIZES_MAX",
        ):
            patch.setattr(f"leafnode.route.{limit}", most)
        assert play(operations, [1 << 20], fast=True) == complete
        assert play(operations, [100], fast=True) == complete


def frames(*starts: bytes, times: int = 12) -> list[bytes]:
    """So many rounds of frames that begin like this, with payloads of a few sizes."""
    bodies = [b"x" * (n % 3) for n in range(len(starts) * times)]
    return [b"%b %d\r\n%b\r\n" % (starts[n % len(starts)], len(body), body) for n, body in enumerate(bodies)]


S = [b"PUB s.%d" % n for n in range(8)]
T = [b"PUB t.%d" % n for n in range(8)]
INBOXES = [b"PUB s.%d _INBOX.x.%d" % (n % 2, n) for n in range(8)]
ONE_WIDE = (b"SUB s.* 1\r\n", b"")
TWO_WIDE = (b"SUB s.* 1\r\nSUB t.* 2\r\n", b"SUB t.> 1\r\n")
ROW_CASES: dict[str, tuple[tuple[bytes, bytes], list[bytes]]] = {
    "one stem": (ONE_WIDE, frames(*S)),
    "one subject, many replies": (ONE_WIDE, frames(*(b"PUB s.1 in.%d" % n for n in range(8)))),
    "one subject, then another": (ONE_WIDE, [*frames(S[0]), *frames(S[1]), *frames(S[0])]),
    "one stem, then another": (TWO_WIDE, [*frames(*S), *frames(*T), *frames(*S)]),
    "stems that alternate": (TWO_WIDE, frames(S[0], T[0], S[1], T[1])),
    "subjects of different depth": (TWO_WIDE, [*frames(*S), *frames(b"PUB s.1.2", b"PUB s.1", b"PUB s."), *frames(*S)]),
    "subjects without a stem": ((b"SUB > 1\r\n", b"SUB b 1\r\n"), [*frames(b"PUB a", b"PUB b"), *frames(b"PUB a")]),
    "inboxes": (ONE_WIDE, frames(*INBOXES)),
    "some want an answer": (ONE_WIDE, frames(*S, *INBOXES, b"PUB s.9 _INBOX.")),
    "a reply beyond the limit of a line": (ONE_WIDE, [*frames(*S), *frames(b"PUB s.1 " + b"r" * 4090)]),
    "a subject beyond the limit of a line": (ONE_WIDE, [*frames(*S), *frames(*S, b"PUB s." + b"r" * 4090)]),
    "white space in subjects": (ONE_WIDE, [*frames(*S), *frames(b"PUB s.1", b"PUB s.\v2"), *frames(b"PUB \ts.1")]),
    "two receivers": ((b"SUB s.* 1\r\n", b"SUB s.> 1\r\n"), frames(*S)),
    "somebody wants one of the subjects": ((b"SUB s.* 1\r\n", b"SUB s.5 1\r\n"), frames(*S)),
    "a wildcard that means one of the subjects": ((b"SUB s.* 1\r\n", b"SUB *.5 1\r\n"), frames(*S)),
    "a queue group": ((b"SUB s.* 1\r\n", b"SUB s.* q 1\r\n"), frames(*S)),
    "a subscription that ends": ((b"SUB s.* 1\r\nUNSUB 1 20\r\n", b"SUB s.> 1\r\n"), frames(*S)),
    "the same receiver twice": ((b"SUB s.* 1\r\nSUB s.> 2\r\n", b""), frames(*S)),
    "nobody": ((b"", b""), frames(*S)),
    "nobody for requests": (
        (b"", b""),
        [b"SUB in.* 9\r\n", *frames(*S), *frames(*(b"PUB s.%d in.%d" % (n, n) for n in range(8)))],
    ),
    "nobody for requests of one subject": ((b"", b""), [b"SUB in.* 9\r\n", *frames(b"PUB s.1 in.1", b"PUB s.1 in.2")]),
    "replies that are refused": (ONE_WIDE, frames(*S, b"PUB s.8 $JS.ACK.x", b"PUB s.8 _R_.x", b"PUB s.8 12")),
    "subjects that are refused": ((b"SUB > 1\r\n", b""), frames(*(b"PUB _GR_.%d" % n for n in range(8)))),
    "headers": (ONE_WIDE, [b"HPUB s.%d 12 13\r\n%bx\r\n" % (n, HEAD) for n in range(8)] * 5),
    "interest that comes": (ONE_WIDE, [*frames(*S), b"SUB s.> 1\r\n", *frames(*S), b"SUB s.4 2\r\n", *frames(*S)]),
    "interest that goes": (ONE_WIDE, [b"SUB s.> 1\r\n", *frames(*S), b"UNSUB 1\r\n", *frames(*S)]),
    "a frame too long": (ONE_WIDE, [*frames(*S), b"PUB s.1 1\r\nxx\r\n", *frames(*S)]),
    "lines in payloads": (ONE_WIDE, [b"PUB s.%d 9\r\nPUB s.1 1\r\n" % n for n in range(8)] * 5),
}


@pytest.mark.parametrize("case", list(ROW_CASES))
def test_rows_do_what_the_complete_way_does(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leafnode.route.known.COMPILE_WORTH", 1)
    listeners, operations = ROW_CASES[case]
    complete = play(operations, [1 << 20], fast=False, listeners=listeners)
    for chunk in (1 << 20, 100, 37):
        assert play(operations, [chunk], fast=True, listeners=listeners) == complete


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_garbage_never_raises(chunks: list[bytes]) -> None:
    session: Session = FakeHost().client()
    for chunk in chunks:
        session.receive(chunk)
    session.receive(b"\r\n")


@pytest.mark.parametrize("chunk", [1 << 20, 100, 37, 1])
def test_rows_of_the_same_line_are_cut_exactly(chunk: int) -> None:
    tricky = [b"PUB a 9\r\n", b"\r\n\r\nxxxxx", b"123456789", b"\r\nPUB a 9"]
    row = [b"PUB a 9\r\n%b\r\n" % tricky[i % 4][:9].ljust(9, b".") for i in range(40)]
    operations = [*row, b"PUB a 3\r\nabc\r\n", *row, b"PING\r\n", *row[:9], b"SUB a 1\r\n", *row]
    complete = play(operations, [1 << 20], fast=False)
    assert play(operations, [chunk], fast=True) == complete
    assert complete.counts[0] == 130


def test_a_row_that_breaks_its_length_ends_the_connection() -> None:
    operations = [b"PUB a 3\r\nabc\r\n"] * 20 + [b"PUB a 3\r\nabcd\r\n"]
    fast, complete = (play(operations, [1 << 20], fast=way) for way in (True, False))
    assert fast == complete
    assert fast.closed
    assert fast.said[0] == b"-ERR 'Unknown Protocol Operation'\r\n"


def test_what_comes_before_the_verdict_waits_for_it() -> None:
    host = FakeHost()
    verdict: Verdict[User] = Verdict()
    host.authenticate = lambda session, options: verdict  # type: ignore[method-assign]
    session = Session(host, 1, auth_required=True)
    session.receive(CONNECT + b"SUB a 1\r\nPI")
    session.receive(b"NG\r\nPUB a 2\r\nhi\r\n")
    assert (session.waits, said(session)) == (True, b"")
    verdict.settle(User())
    assert b"PONG" in (text := said(session))
    assert text.endswith(b"MSG a 1 2\r\nhi\r\n")
    assert not session.waits


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_verdict_may_be_no_and_may_come_too_late(*, is_gone: bool) -> None:
    host = FakeHost()
    verdict: Verdict[User] = Verdict()
    host.authenticate = lambda session, options: verdict  # type: ignore[method-assign]
    session = Session(host, 1, auth_required=True)
    session.receive(CONNECT + b"PING\r\n")
    if is_gone:
        session.end()
        verdict.settle(User())
    else:
        verdict.settle(None)
    assert said(session) == (b"" if is_gone else b"-ERR 'Authorization Violation'\r\n")
    assert (session.closing, host.account.connections) == (True, 0)
