"""Subject transforms and mappings, with nats-server's results (spec client-protocol section 13)."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafnode.route.mapping import DROPPED, Mapping, Mappings
from leafnode.route.transform import Transform, TransformError
from tests.leafnode.route.host import FakeHost, said

TOKENS = st.lists(st.sampled_from([b"a", b"b", b"*x"]), min_size=1, max_size=4).map(b".".join)


@pytest.mark.parametrize(
    ("source", "destination", "subject", "result"),
    [
        ("a.*.*", "x.$2.$1", b"a.1.2", b"x.2.1"),
        ("a.*.>", "x.{{wildcard(1)}}.>", b"a.1.2.3", b"x.1.2.3"),
        ("a.*", "b", b"a.1", b"b"),
        ("a", "b.x$1", b"a", b"b.x$1"),
        ("", "x.>", b"a.b", b"x.a.b"),
        ("a.>", "", b"a.b", b"a.b"),
        ("a", "b", b"c", None),
        ("p.*.*", "o.{{partition(7,1,2)}}.$2", b"p.a.b", b"o.2.b"),
        ("p.*.*", "o.{{Partition(7, 1, 2)}}.$2", b"p.x.yy", b"o.5.yy"),
        ("pw", "o.{{partition(7)}}", b"pw", b"o.6"),
        ("pw2.*", "o.{{partition(7)}}.$1", b"pw2.x", b"o.2.x"),
        ("s.*", "o.{{split(1,-)}}.end", b"s.a-b--c", b"o.a.b.c.end"),
        ("s.*", "o.{{split(1,-)}}", b"s.-a", b"o.a"),
        ("s.*", "o.{{splitfromleft(1,3)}}", b"s.abcdefg", b"o.abc.defg"),
        ("s.*", "o.{{splitFromLeft(1,3)}}", b"s.abc", b"o.abc"),
        ("s.*", "o.{{SplitFromRight(1,3)}}", b"s.abcdefg", b"o.abcd.efg"),
        ("s.*", "o.{{slicefromleft(1,3)}}", b"s.abcdefg", b"o.abc.def.g"),
        ("s.*", "o.{{slicefromright(1,3)}}", b"s.abcdefg", b"o.a.bcd.efg"),
        ("s.*", "o.{{slicefromright(1,3)}}", b"s.abcdef", b"o.abc.def"),
        ("s.*", "o.{{slicefromright(1,3)}}", b"s.ab", b"o.ab"),
        ("s.*", "o.{{left(1,3)}}.{{right(1,3)}}", b"s.abcdefg", b"o.abc.efg"),
        ("s.*", "o.{{left(1,3)}}.{{right(1,3)}}", b"s.ab", b"o.ab.ab"),
    ],
)
def test_tokens_go_where_the_destination_says(
    source: str, destination: str, subject: bytes, result: bytes | None
) -> None:
    assert Transform(source, destination).apply(subject) == result


@pytest.mark.parametrize(
    ("source", "destination", "words"),
    [
        ("a.*", "b.*", "invalid subject"),
        ("a.>", "b", "invalid subject"),
        ("a", "b.>", "invalid subject"),
        ("a", "b..c", "invalid transform"),
        ("a.*", "b.$2", r"out of range in \$2: \[2\]"),
        ("a", "b.{{wildcard(1)}}", "out of range"),
        ("a.*", "b.{{partition(3,2)}}", "out of range"),
        ("a.*", "b.{{foo(1)}}", "unknown function in {{foo"),
        ("a.*", "b.{{split(1)}}", "not enough arguments"),
        ("a.*", "b.{{wildcard(1,2)}}", "too many arguments"),
        ("a.*", "b.{{partition(3,x)}}", "invalid or in the wrong format"),
        ("a.*", "b.{{partition(0,1)}}", "invalid or in the wrong format"),
        ("a..b", "c", "invalid transform source"),
    ],
)
def test_destinations_that_cannot_be_filled_are_refused(source: str, destination: str, words: str) -> None:
    with pytest.raises(TransformError, match=words):
        Transform(source, destination)


def test_random_numbers_are_asked_for_or_come_in_turn() -> None:
    assert Transform("a", "b.{{random(9)}}", lambda below: below - 1).apply(b"a") == b"b.8"
    turns = Transform("a", "b.{{random(2)}}")
    assert [turns.apply(b"a") for _ in range(3)] == [b"b.0", b"b.1", b"b.0"]


@given(TOKENS, TOKENS)
def test_a_source_without_wildcards_concerns_itself_only(source: bytes, subject: bytes) -> None:
    mappings = Mappings([Mapping(source.decode(), [("to", 100)])])
    assert mappings.apply(subject) == (b"to" if source == subject else subject)
    assert mappings.concerns(subject) == (source == subject)


def shares(source: str, *destinations: tuple[str, int]) -> dict[bytes | None, int]:
    """How often each result comes in a hundred messages."""
    numbers = itertools.cycle(range(100))
    mapping = Mapping(source, destinations, lambda below: next(numbers) % below)
    results = [mapping.apply(source.encode()) for _ in range(100)]
    return {result: results.count(result) for result in results}


def test_weights_are_shares() -> None:
    assert shares("a", ("b", 60), ("c", 40)) == {b"b": 60, b"c": 40}


def test_what_weights_leave_over_keeps_its_subject_unless_it_is_listed() -> None:
    assert shares("a", ("b", 30)) == {b"b": 30, b"a": 70}
    assert shares("a", ("a", 50), ("b", 20)) == {b"a": 50, b"b": 20, DROPPED: 30}
    assert shares("a", ("a", 0)) == {DROPPED: 100}


def test_publishers_reach_the_new_subject_only_and_only_once() -> None:
    host = FakeHost()
    host.account.map([Mapping("old.*", [("new.$1", 100)]), Mapping("new.*", [("newer.$1", 100)])])
    alice, bob = host.client(), host.client()
    alice.receive(b"SUB > 1\r\n")
    bob.receive(b"PUB old.a 1\r\nx\r\n" * 3 + b"PUB other 1\r\ny\r\n")
    assert said(alice) == b"MSG new.a 1 1\r\nx\r\n" * 3 + b"MSG other 1 1\r\ny\r\n"


def test_a_mapping_made_later_changes_what_was_prepared() -> None:
    host = FakeHost()
    alice, bob = host.client(), host.client()
    alice.receive(b"SUB > 1\r\n")
    bob.receive(b"PUB a 1\r\nx\r\n" * 20)
    said(alice)
    host.account.map([Mapping("a", [("b", 100)])])
    bob.receive(b"PUB a 1\r\nx\r\n" * 20)
    assert said(alice) == b"MSG b 1 1\r\nx\r\n" * 20


def test_a_dropped_message_reaches_nobody_and_has_no_responders() -> None:
    host = FakeHost()
    host.account.map([Mapping("a", [("a", 0)])])
    alice = host.client()
    alice.receive(b"SUB > 1\r\nPUB a 1\r\nx\r\n")
    assert said(alice) == b""
    alice.receive(b"PUB a in 1\r\nx\r\n")
    assert said(alice) == b"HMSG in 1 32 32\r\nNATS/1.0 503\r\nNats-Subject: \r\n\r\n\r\n"
