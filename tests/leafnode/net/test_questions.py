"""Options of the monitor's endpoints, as words of a query and as JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafnode.net.monitor import BadRequest
from leafnode.net.questions import Accstatz, Connz, Healthz, Jsz, Nothing, ServerFilter, Subsz, parse


def test_both_ways_say_the_same() -> None:
    by_query = Connz.from_query({"subs": "detail", "state": "closed", "limit": "5", "acc": "A", "auth": "1"})
    by_json = Connz.from_json(b'{"subscriptions_detail":true,"state":1,"limit":5,"acc":"A","auth":true}')
    assert by_query == by_json == Connz(subs_detail=True, state="closed", limit=5, acc="A", auth=True)
    assert Subsz.from_query({"subs": "1", "acc": "A"}) == Subsz.from_json(b'{"subscriptions":true,"account":"A"}')
    assert Jsz.from_query({"consumers": "1", "acc": "A"}) == Jsz.from_json(b'{"consumer":true,"account":"A"}')
    assert Healthz.from_query({"js-enabled-only": "true"}) == Healthz.from_json(b'{"js-enabled-only":true}')


def test_nothing_asked_is_nothing_special() -> None:
    assert Connz.from_query({}) == Connz.from_json(b"") == Connz.from_json(b" {} ") == Connz()
    assert Nothing.from_query({"any": "thing"}) == Nothing.from_json(b'{"any":1}')
    assert Accstatz.from_query({"accounts": "A"}) == Accstatz()


@pytest.mark.parametrize(
    "body",
    [b"x", b"[]", b'"a"', b'{"limit":"5"}', b'{"auth":1}', b'{"state":7}', b'{"state":"open"}', b"[" * 100_000],
)
def test_what_is_no_question_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        Connz.from_json(body)


def test_lists_are_lists_of_names() -> None:
    assert Accstatz.from_json(b'{"accounts":["A","B"],"include_unused":true}') == Accstatz(
        accounts=("A", "B"), unused=True
    )
    with pytest.raises(BadRequest):
        Accstatz.from_json(b'{"accounts":[1]}')


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_any_value_is_read_or_refused(value: object) -> None:
    body = json.dumps({"limit": value, "sort": value, "accounts": value, "state": value, "tags": value}).encode()
    for options in (Connz, Accstatz, Jsz, ServerFilter):
        try:
            options.from_json(body)
        except BadRequest:
            continue


SERVER = {"server_name": "site-7", "cluster": "", "host": "10.0.0.7", "domain": "leaf", "tags": ("Region:EU", "x")}


@pytest.mark.parametrize(
    ("asked", "accepted"),
    [
        ({}, True),
        ({"server_name": "site"}, True),
        ({"server_name": "site", "exact_match": True}, False),
        ({"server_name": "site-7", "exact_match": True}, True),
        ({"cluster": "c"}, False),
        ({"host": "10.0"}, True),
        ({"domain": "lea"}, False),
        ({"domain": "leaf"}, True),
        ({"tags": ["region:eu", "X"]}, True),
        ({"tags": ["region:eu", "y"]}, False),
    ],
)
def test_filters(asked: dict[str, object], accepted: bool) -> None:
    assert ServerFilter.from_json(json.dumps(asked).encode()).accepts(**SERVER) is accepted  # type: ignore[arg-type]


def test_an_empty_body_is_an_empty_object() -> None:
    assert parse(b"") == {}
