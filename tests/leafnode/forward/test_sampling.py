"""Each option of `sample` and `watch` changes which messages go, or what is said about their senders."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from leafnode.forward.plan import SECOND, Class, Sampling, Watch
from leafnode.forward.sampling import SENDERS_MAX, Sampler
from leafnode.stream.stored import Stored

Spec = tuple[float, str, bytes, bytes]  # seconds, subject, headers, body


def message(seq: int, at: float, subject: str = "t.a", body: bytes = b"1", headers: bytes = b"") -> Stored:
    return Stored(seq, subject.encode(), int((1000 + at) * SECOND), headers, body)


def went(rules: Sampling, messages: Iterable[Stored]) -> list[int]:
    sampler = Sampler(Class(sampling=rules), {})
    return [stored.seq for stored in messages if not sampler.judge(stored)]


def block(**lines: str) -> bytes:
    return ("NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n").encode()


def test_without_a_rule_everything_goes() -> None:
    assert went(Sampling(token=1), [message(n, n / 10) for n in range(1, 6)]) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("key", "others"),
    [
        ({"token": 2}, {"subject": "t.b"}),
        ({"token": -1}, {"subject": "t.a.x"}),
        ({"header": "Unit"}, {"headers": block(Unit="2")}),
        ({"field": "who.id"}, {"body": b'{"who": {"id": 2}}'}),
    ],
)
def test_first_sight_goes_at_once_then_one_in_an_interval(key: dict[str, Any], others: dict[str, Any]) -> None:
    """Two senders, told apart in each of the ways."""
    ours = {"headers": block(Unit="1"), "body": b'{"who": {"id": 1}}'}
    one = [message(n, n, **ours) for n in range(1, 13)]
    two = [message(20 + n, n + 0.5, **{**ours, **others}) for n in range(1, 13)]
    rules = Sampling(interval_ns=5 * SECOND, splay=0.0, **key)
    order = sorted([*one, *two], key=lambda stored: stored.time)
    assert went(rules, order) == [1, 21, 6, 26, 11, 31]
    assert went(Sampling(interval_ns=5 * SECOND, splay=0.0, token=1), order) == [1, 6, 11]


def test_a_message_without_a_sender_always_goes() -> None:
    assert went(Sampling(header="Unit", interval_ns=SECOND), [message(n, 0) for n in range(1, 4)]) == [1, 2, 3]
    assert went(Sampling(field="id", interval_ns=SECOND), [message(1, 0, body=b"not json"), message(2, 0)]) == [1, 2]


def test_splay_makes_intervals_of_senders_differ() -> None:
    def second_one(sender: str, splay: float) -> int:
        rules = Sampling(token=2, interval_ns=10 * SECOND, splay=splay)
        return went(rules, [message(n, n / 10, f"t.{sender}") for n in range(1, 200)])[1]

    assert {second_one(f"s{n}", 0.0) for n in range(8)} == {101}
    spread = {second_one(f"s{n}", 0.5) for n in range(8)}
    assert len(spread) > 4
    assert min(spread) >= 76
    assert max(spread) <= 127


def test_a_change_of_size_goes() -> None:
    sizes = [10, 12, 19, 20, 31, 30]
    messages = [message(n, 0, body=b"x" * size) for n, size in enumerate(sizes, start=1)]
    assert went(Sampling(token=1, size_change=10), messages) == [1, 4, 5]


def test_a_change_of_content_goes() -> None:
    messages = [message(n, 0, body=body) for n, body in enumerate([b"a", b"a", b"b", b"b", b"a"], start=1)]
    assert went(Sampling(token=1, content_change=True), messages) == [1, 3, 5]


@pytest.mark.parametrize("path", ["", "t"])
def test_a_number_that_left_its_dead_band_goes(path: str) -> None:
    numbers = [20.0, 20.4, 20.6, 19.9, 20.1, 21.1]
    bodies = [json.dumps({"t": number} if path else number).encode() for number in numbers]
    messages = [message(n, 0, body=body) for n, body in enumerate(bodies, start=1)]
    assert went(Sampling(token=1, value=path, deadband=0.6), messages) == [1, 3, 4, 6]


def test_a_body_without_the_number_goes() -> None:
    messages = [message(1, 0, body=b"20"), message(2, 0, body=b"fault"), message(3, 0, body=b"20")]
    assert went(Sampling(token=1, deadband=1.0), messages) == [1, 2]


def test_a_force_flag_goes_if_it_is_true() -> None:
    bodies = [b'{"now": false}', b'{"now": false}', b'{"now": true}', b'{"now": "yes"}']
    messages = [message(n, 0, body=body) for n, body in enumerate(bodies, start=1)]
    assert went(Sampling(token=1, interval_ns=SECOND, force="now"), messages) == [1, 3]


def test_a_force_header_goes_unless_it_says_no() -> None:
    values = ["no", "false", "0", "yes", "1"]
    messages = [message(n, 0, headers=block(Now=value)) for n, value in enumerate(values, start=1)]
    assert went(Sampling(token=1, interval_ns=SECOND, force_header="Now"), messages) == [1, 4, 5]


def test_windows_become_their_minimum_maximum_mean_and_count() -> None:
    sampler = Sampler(Class(sampling=Sampling(token=1, aggregate_ns=10 * SECOND)), {})
    reasons = [sampler.judge(message(n, n, body=b"%d" % n)) for n in range(1, 13)]
    assert reasons == [""] + ["aggregated"] * 11
    (event,) = sampler.take_events()
    body = event.body
    assert (body["count"], body["min"], body["max"], body["mean"]) == (10, 1.0, 10.0, 5.5)
    sampler.look((1000 + 30) * SECOND)
    (last,) = sampler.take_events()
    assert (last.body["count"], last.body["min"], last.body["max"]) == (2, 11.0, 12.0)


def test_senders_are_told_of_when_they_come_fall_silent_come_back_and_go() -> None:
    plan = Class(sampling=Sampling(token=1), watch=Watch(timeout_ns=5 * SECOND, expire_ns=60 * SECOND))
    sampler = Sampler(plan, {})
    heard: list[str] = []

    def at(seconds: float) -> None:
        sampler.look(int((1000 + seconds) * SECOND))
        heard.extend(event.kind for event in sampler.take_events())

    sampler.judge(message(1, 0))
    at(2)
    at(6)
    at(20)
    rows = {key: row for key, row in sampler.take_rows() if row is not None}
    sampler = Sampler(plan, rows)  # a restart forgets nothing: it is silent still, and not new
    at(21)
    sampler.judge(message(2, 30))
    at(31)
    at(95)
    assert heard == ["new", "timeout", "recover", "timeout", "expire"]
    assert not sampler.senders
    assert dict(sampler.take_rows()) == {"t": None}


def test_what_was_sampled_is_known_after_a_restart() -> None:
    plan = Class(sampling=Sampling(token=1, interval_ns=10 * SECOND, content_change=True, deadband=1.0))
    first = Sampler(plan, {})
    assert not first.judge(message(1, 0))
    again = Sampler(plan, {key: row for key, row in first.take_rows() if row is not None})
    assert again.judge(message(2, 1)) == "sampled"


def test_senders_are_bounded_and_the_stalest_is_forgotten() -> None:
    sampler = Sampler(Class(sampling=Sampling(token=2, interval_ns=SECOND)), {})
    for number in range(SENDERS_MAX + 5):
        sampler.judge(message(number, number / 1000, f"t.s{number}"))
    assert len(sampler.senders) == SENDERS_MAX
    assert "s0" not in sampler.senders
