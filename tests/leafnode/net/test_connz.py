"""Which connections are shown, in which order, with what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leafnode.net.connz import SORTS, connz
from leafnode.net.monitor import BadRequest
from leafnode.net.questions import Connz
from leafnode.net.sockets import CLOSED_MAX, Gone, Row, by_account, go_duration
from leafnode.route.message import Subscription

NOW = 100_000_000_000


def row(cid: int, **more: object) -> Row:
    base = {"cid": cid, "start_ns": cid, "last_activity_ns": cid, "account": "A"}
    return Row(**(base | more))  # type: ignore[arg-type]


def cids(asked: Connz, live: list[Row], gone: list[Row] | None = None) -> list[int]:
    return [shown["cid"] for shown in connz("N", NOW, asked, live, gone or [])["connections"]]


@given(st.permutations(range(1, 7)), st.integers(0, 8), st.integers(0, 8))
def test_pages_are_parts_of_the_sorted_whole(numbers: list[int], offset: int, limit: int) -> None:
    live = [row(cid) for cid in numbers]
    whole = sorted(numbers)
    assert cids(Connz(offset=offset, limit=limit), live) == whole[offset:][: limit or None]


@pytest.mark.parametrize("sort", sorted(SORTS))
def test_every_order_keeps_everybody(sort: str) -> None:
    rows = [row(1, rtt_ns=5, stop_ns=50), row(2, out_msgs=3, stop_ns=40), row(3, in_bytes=9, stop_ns=60, reason="x")]
    assert sorted(cids(Connz(sort=sort, state="closed"), [], rows)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        ("cid", 1),
        ("start", 1),
        ("subs", 2),
        ("pending", 3),
        ("msgs_to", 3),
        ("bytes_from", 2),
        ("last", 3),
        ("idle", 1),
    ],
)
def test_who_comes_first(sort: str, first: int) -> None:
    live = [row(1), row(2, subscriptions=2, in_bytes=7), row(3, pending_bytes=1, out_msgs=1)]
    assert cids(Connz(sort=sort), live)[0] == first


def test_the_longest_up_comes_first() -> None:
    gone = [row(9, start_ns=0, stop_ns=90)]
    assert cids(Connz(sort="uptime", state="any"), [row(2), row(1)], gone) == [1, 2, 9]


def test_states_accounts_users_and_numbers() -> None:
    live, gone = [row(1), row(2, account="B", user="u")], [row(3, stop_ns=5, reason="Client Closed")]
    assert cids(Connz(), live, gone) == [1, 2]
    assert cids(Connz(state="closed"), live, gone) == [3]
    assert cids(Connz(state="any"), live, gone) == [1, 2, 3]
    assert cids(Connz(acc="B"), live, gone) == [2]
    assert cids(Connz(user="u"), live, gone) == [2]
    assert cids(Connz(cid=2), live, gone) == [2]
    assert cids(Connz(mqtt_client="x"), live, gone) == []


def test_a_subject_finds_who_would_get_it() -> None:
    subs = (Subscription(b"orders.*", None),)  # type: ignore[arg-type]
    live = [row(1, subs=subs), row(2)]
    assert cids(Connz(filter_subject="orders.7"), live) == [1]
    assert cids(Connz(filter_subject="other"), live) == []


def test_details_of_subscriptions() -> None:
    sub = Subscription(b"a", None, b"q", b"7")  # type: ignore[arg-type]
    sub.max = 5
    [shown] = connz("N", NOW, Connz(subs_detail=True), [row(1, subs=(sub,))], [])["connections"]
    assert shown["subscriptions_list_detail"] == [
        {"subject": "a", "qgroup": "q", "sid": "7", "msgs": 0, "max": 5, "cid": 1}
    ]


@pytest.mark.parametrize("asked", [Connz(sort="bad"), Connz(sort="stop"), Connz(sort="reason", state="any")])
def test_an_order_that_makes_no_sense_is_refused(asked: Connz) -> None:
    with pytest.raises(BadRequest):
        connz("N", NOW, asked, [], [])


def test_the_gone_are_bounded_and_all_counted() -> None:
    gone = Gone()
    for cid in range(CLOSED_MAX + 10):
        gone.add(row(cid, stop_ns=cid, in_msgs=1, reason="Slow Consumer (Pending Bytes)" if cid == 0 else "x"))
    assert len(gone.rows) == CLOSED_MAX
    moved = by_account(gone.moved, [("A", row(5000, in_msgs=2)), ("B", row(5001, out_bytes=4))])  # type: ignore[list-item]
    assert (moved["A"]["in_msgs"], moved["A"]["slow_consumers"], moved["B"]["out_bytes"]) == (CLOSED_MAX + 12, 1, 4)
    assert gone.moved["A"]["in_msgs"] == CLOSED_MAX + 10  # looking changes nothing


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0ns"), (999, "999ns"), (722_000, "722µs"), (2_047_508, "2.047508ms"), (1_500_000_000, "1.5s")],
)
def test_short_times(nanoseconds: int, text: str) -> None:
    assert go_duration(nanoseconds) == text


def test_closed_rows_say_when_and_why() -> None:
    shown = row(1, start_ns=0, stop_ns=3_000_000_000, reason="Kicked", rtt_ns=1000).shown(NOW)
    assert (shown["reason"], shown["uptime"], shown["stop"]) == ("Kicked", "3s", "1970-01-01T00:00:03Z")
