"""Subjects: validity, matching, subsets, overlaps, each against its definition."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafnode.route import subject

TOKENS = st.sampled_from([b"a", b"b", b"*"])
LITERALS = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=4).map(b".".join)
PATTERNS = st.builds(
    lambda tokens, tail: b".".join([*tokens, b">"] if tail else tokens),
    st.lists(TOKENS, min_size=1, max_size=4),
    st.booleans(),
)
UNIVERSE = [b".".join(t) for n in range(1, 6) for t in itertools.product([b"a", b"b", b"c"], repeat=n)]


@pytest.mark.parametrize("good", [b"a", b"a.b", b"*", b">", b"a.*.>", b"foo*.b>", b"$JS.API", "ü.x".encode()])
def test_valid(good: bytes) -> None:
    assert subject.is_valid(good)


@pytest.mark.parametrize("bad", [b"", b".", b"a.", b".a", b"a..b", b"a b", b"a\t", b">.a", b"a.>.b", b"a\r"])
def test_invalid(bad: bytes) -> None:
    assert not subject.is_valid(bad)


def test_wildcards_count_only_as_whole_tokens() -> None:
    assert subject.is_literal(b"foo*.b>")
    assert subject.matches(b"foo*", b"foo*")
    assert not subject.matches(b"foo*", b"foox")


@given(PATTERNS, PATTERNS)
def test_subset_and_overlap_agree_with_their_definitions(one: bytes, two: bytes) -> None:
    first = {s for s in UNIVERSE if subject.matches(one, s)}
    second = {s for s in UNIVERSE if subject.matches(two, s)}
    assert subject.overlap(one, two) == bool(first & second)
    assert subject.is_subset(one, two) == (first <= second)


@given(PATTERNS, LITERALS)
def test_matching_token_by_token(pattern: bytes, literal: bytes) -> None:
    want, have = pattern.split(b"."), literal.split(b".")
    if want[-1] == b">":
        expected = len(have) >= len(want) and all(w in (b"*", h) for w, h in zip(want[:-1], have, strict=False))
    else:
        expected = len(have) == len(want) and all(w in (b"*", h) for w, h in zip(want, have, strict=True))
    assert subject.matches(pattern, literal) == expected
