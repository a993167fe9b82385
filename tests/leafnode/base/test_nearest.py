"""Suggestions for mistyped words."""

import pytest

from leafnode.base.nearest import hint, nearest

KEYS = ["port", "host", "root", "http_port", "jetstream", "max_payload"]


@pytest.mark.parametrize(
    ("word", "found"),
    [("prot", "port"), ("jetsream", "jetstream"), ("maxpayload", "max_payload"), ("hots", "host"), ("zzz", None)],
)
def test_nearest(word: str, found: str | None) -> None:
    assert nearest(word, KEYS) == found


def test_hint_is_a_clause_or_nothing() -> None:
    assert hint("prot", KEYS) == "; did you mean 'port'?"
    assert hint("zzz", KEYS) == ""
