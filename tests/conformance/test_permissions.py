"""What users may do, in the combinations that sites use: queues, answers, defaults, users without a password."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.conformance.conftest import MAKERS
from tests.conformance.raw import Wire
from tests.support.servers import Broker

CONFIG = """
authorization {
  default_permissions { publish: ["open.>", "_INBOX.>"], subscribe: ["open.>", "_INBOX.>"] }
  users: [
    {user: plain, password: p}
    {user: own, password: p, permissions: {publish: "mine"}}
    {user: empty, password: p, permissions: {}}
    {user: queues, password: p, permissions: {
      subscribe: {allow: ["a one", "b", "c *.x", "d.> v.*"], deny: ["b two", "b.>"]}}}
    {user: once, password: p, permissions: {subscribe: ">", allow_responses: true}}
    {user: thrice, password: p, permissions: {subscribe: ">", allow_responses: {max: 3, expires: "1h"}}}
    {user: brief, password: p, permissions: {subscribe: ">", allow_responses: {max: -1, expires: "50ms"}}}
    {user: also, password: p, permissions: {subscribe: ">", publish: "also", allow_responses: {max: 1}}}
    {user: not, password: p, permissions: {subscribe: ">", publish: {deny: "r.secret"}, allow_responses: {max: 2}}}
    {user: free, password: p, permissions: {publish: ">", subscribe: ">"}}
  ]
}
no_auth_user: plain
"""


@pytest.fixture(scope="module", params=list(MAKERS))
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with MAKERS[request.param](tmp_path_factory.mktemp(request.param), config=CONFIG) as running:
        yield running


class Party(Wire):
    def __init__(self, broker: Broker, user: str = "", **options: object) -> None:
        super().__init__(broker.port)
        named = {"user": user, "pass": "p"} if user else {}
        self.send(b"CONNECT " + json.dumps({"verbose": False, **named, **options}).encode() + b"\r\n")
        assert self.says(b"") == b""

    def says(self, lines: bytes) -> bytes:
        """What comes back for some lines."""
        self.send(lines + b"PING\r\n")
        return self.until(b"PONG\r\n").removesuffix(b"PONG\r\n")

    def subscribes(self, *wanted: str) -> list[str]:
        """Of these (`subject` or `subject queue`), those that are allowed."""
        lines = b"".join(b"SUB %b %d\r\n" % (one.encode(), sid) for sid, one in enumerate(wanted, 10))
        said = self.says(lines).decode()
        assert said.count("-ERR") == sum(not _is_taken(one, said) for one in wanted), said
        return [one for one in wanted if _is_taken(one, said)]

    def publishes(self, *subjects: str) -> list[str]:
        said = self.says(b"".join(b"PUB %b 0\r\n\r\n" % subject.encode() for subject in subjects)).decode()
        return [subject for subject in subjects if f'Violation for Publish to "{subject}"\'' not in said]


def _is_taken(wanted: str, said: str) -> bool:
    subject, _, queue = wanted.partition(" ")
    using = f' using queue "{queue}"' if queue else ""
    return f'Violation for Subscription to "{subject}"{using}\'' not in said


def test_queues(broker: Broker) -> None:
    with Party(broker, "queues") as party:
        allowed = ["a one", "b", "b one", "c d.x", "d.e v.1", "d.> v.2"]
        refused = ["a", "a two", "b two", "b.c", "b.c one", "c", "c x", "c d.y", "d.e v1", "d.e w.1", "d.e", "e"]
        assert party.subscribes(*allowed, *refused) == allowed


def test_defaults_are_for_who_has_no_rules(broker: Broker) -> None:
    for user in ("plain", ""):
        with Party(broker, user) as party:
            assert party.publishes("open.a", "mine", "else") == ["open.a"]
            assert party.subscribes("open.a", "else", "_INBOX.x") == ["open.a", "_INBOX.x"]
    with Party(broker, "own") as party:
        assert party.publishes("open.a", "mine", "else") == ["mine"]
        assert party.subscribes("open.a", "else") == ["open.a", "else"]
    with Party(broker, "empty") as party:
        assert party.publishes("open.a", "mine", "else") == ["open.a", "mine", "else"]


def asked(broker: Broker, party: Party, reply: str) -> None:
    """Somebody asks the party for an answer."""
    party.says(b"SUB q 1\r\n")
    with Party(broker, "free") as asker:
        asker.says(b"PUB q %b 0\r\n\r\n" % reply.encode())
    party.says(b"UNSUB 1\r\n")


@pytest.mark.parametrize(
    ("user", "tried", "done"),
    [
        ("once", ["r.1", "r.1", "r.2", "also"], ["r.1"]),
        ("thrice", ["r.1", "r.1", "r.1", "r.1", "r.2"], ["r.1", "r.1", "r.1"]),
        ("also", ["also", "r.1", "r.1", "else"], ["also", "r.1"]),
        ("not", ["r.1", "r.1", "r.1", "any", "r.secret"], ["r.1", "r.1"]),
        ("free", ["r.1", "r.1", "any"], ["r.1", "r.1", "any"]),
    ],
)
def test_answers(broker: Broker, user: str, tried: list[str], done: list[str]) -> None:
    with Party(broker, user) as party:
        asked(broker, party, "r.1")
        assert [subject for subject in tried if party.publishes(subject)] == done


def test_what_is_denied_may_be_answered_all_the_same(broker: Broker) -> None:
    with Party(broker, "not") as party:
        asked(broker, party, "r.secret")
        assert [bool(party.publishes("r.secret")) for _ in range(3)] == [True, True, False]


def test_answers_in_time_only(broker: Broker) -> None:
    with Party(broker, "brief") as party:
        asked(broker, party, "r.1")
        deadline = time.monotonic() + 10
        while party.publishes("r.1"):  # any number of them, while there is time
            assert time.monotonic() < deadline
        asked(broker, party, "r.1")  # asked anew, there is time anew


def test_who_names_nobody_or_a_stranger(broker: Broker) -> None:
    with Party(broker) as party:
        assert party.publishes("open.a", "mine") == ["open.a"]
    for options in ({"user": "plain"}, {"user": "nobody", "pass": "p"}, {"pass": "p"}, {"auth_token": "t"}):
        with Wire(broker.port) as wire:
            wire.send(b"CONNECT " + json.dumps({"verbose": False, "protocol": 0, **options}).encode() + b"\r\nPING\r\n")
            assert wire.until(b"\r\n") == b"-ERR 'Authorization Violation'\r\n", options


def test_who_never_sends_connect_is_the_user_for_that(broker: Broker) -> None:
    with Wire(broker.port) as wire:
        assert "auth_required" not in json.loads(wire.info[5:])
        wire.send(b"PUB open.a 0\r\n\r\nPUB mine 0\r\n\r\nPING\r\n")
        refused = b"-ERR 'Permissions Violation for Publish to \"mine\"'\r\n"
        assert wire.until(b"PONG\r\n") == b"+OK\r\n" + refused + b"PONG\r\n"
