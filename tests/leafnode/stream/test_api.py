"""The API against anything: one answer a request, never an exception, never a change that cannot be kept."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from leafnode.stream.consumer_config import SHAPE as CONSUMER_SHAPE
from leafnode.stream.stream_config import SHAPE as STREAM_SHAPE
from tests.leafnode.stream.bench import Bench

WORDS = st.sampled_from(
    [
        "",
        "S",
        "s.>",
        "s.1",
        "*",
        ">",
        "old",
        "new",
        "limits",
        "workqueue",
        "interest",
        "all",
        "last",
        "none",
        "explicit",
        "memory",
        "file",
        "by_start_time",
        "2026-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "x y",
        "a/b",
        "�",
        "é",
    ]
)
NUMBERS = st.sampled_from([-1, 0, 1, 2, 100, 10**8, 10**9, 2**31, 2**62, 2**63 - 1, 2**63, 10**30, 0.5])
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "src", "dest", "api", "max_ack_pending", "external"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)
VERBS = st.sampled_from(
    [
        "STREAM.UPDATE.S",
        "STREAM.CREATE.S",
        "STREAM.CREATE.T",
        "STREAM.INFO.S",
        "STREAM.PURGE.S",
        "STREAM.MSG.GET.S",
        "STREAM.MSG.DELETE.S",
        "STREAM.NAMES",
        "STREAM.LIST",
        "STREAM.DELETE.S",
        "CONSUMER.CREATE.S",
        "INFO",
        "CONSUMER.CREATE.S.c",
        "CONSUMER.CREATE.S.c.s.1",
        "CONSUMER.DURABLE.CREATE.S.c",
        "CONSUMER.INFO.S.c",
        "CONSUMER.NAMES.S",
        "CONSUMER.LIST.S",
        "CONSUMER.DELETE.S.c",
        "CONSUMER.PAUSE.S.c",
        "CONSUMER.RESET.S.c",
        "STREAM.SNAPSHOT.S",
        "STREAM.RESTORE.S",
        "CONSUMER.UNPIN.S.c",
    ]
)
KEYS = sorted({*STREAM_SHAPE, *CONSUMER_SHAPE, "seq", "keep", "filter", "offset", "batch", "last_by_subj"})
BODIES = st.one_of(
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6),
    st.builds(
        lambda config: {"name": "S", **config},
        st.dictionaries(st.sampled_from(sorted(STREAM_SHAPE)), VALUES, max_size=3),
    ),
    st.builds(
        lambda config, name: {"stream_name": "S", "config": {**config, "durable_name": name}},
        st.dictionaries(st.sampled_from(sorted(CONSUMER_SHAPE)), VALUES, max_size=4),
        st.sampled_from(["c", "d"]),
    ),
    VALUES,
)


def encoded(body: Any) -> bytes:
    return json.dumps(body).encode()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(VERBS, BODIES), min_size=1, max_size=4))
def test_every_request_is_answered_once(requests: list[tuple[str, Any]]) -> None:
    bench = Bench()
    bench.create("S", subjects=["s.>"])
    bench.publish("s.1", b"x")
    bench.consumer("S", "c")
    for verb, body in requests:
        answers = bench.request(f"$JS.API.{verb}", encoded(body))
        if not answers and verb == "CONSUMER.RESET.S.c":
            continue  # as with nats-server nobody answers for a consumer that is gone
        assert len(answers) == 1
        assert json.loads(answers[0].payload)["type"].startswith("io.nats.jetstream.api.v1.")
    bench.advance(10**9)


@settings(deadline=None)
@given(st.binary(max_size=40), VERBS)
def test_bytes_that_mean_nothing_are_answered_too(body: bytes, verb: str) -> None:
    bench = Bench()
    bench.create("S", subjects=["s.>"])
    bench.consumer("S", "c")
    assert len(bench.request(f"$JS.API.{verb}", body)) == 1


@settings(deadline=None)
@given(
    st.one_of(st.binary(max_size=40), st.builds(encoded, BODIES), st.sampled_from([b'{"batch":1e999}', b"9" * 5000]))
)
def test_pull_requests_and_direct_gets_take_anything(body: bytes) -> None:
    bench = Bench()
    bench.create("S", subjects=["s.>"], allow_direct=True)
    bench.publish("s.1", b"x")
    bench.consumer("S", "c")
    bench.request("$JS.API.CONSUMER.MSG.NEXT.S.c", body)
    assert bench.request("$JS.API.DIRECT.GET.S", body)
    (message,) = bench.fetch("S", "c") or [None]
    bench.request("$JS.ACK.S.c.1.1.1.1.0", body)
    assert message is None or message.subject == b"s.1"


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "Nats-Msg-Id",
                "Nats-TTL",
                "Nats-Rollup",
                "Nats-Expected-Last-Sequence",
                "Nats-Expected-Stream",
                "Nats-Incr",
                "Nats-Expected-Last-Subject-Sequence",
                "Nats-Expected-Last-Subject-Sequence-Subject",
                "Other",
            ]
        ),
        st.sampled_from(
            ["", "0", "1", "9" * 50, "never", "5s", "1e9h", "99999999999999h", "sub", "all", "s.>", "é", "-1"]
        ),
    )
)
def test_any_headers_get_an_ack_or_an_error(headers: dict[str, str]) -> None:
    bench = Bench()
    bench.create("S", subjects=["s.>"], allow_msg_ttl=True, allow_rollup_hdrs=True)
    block = "NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    (answer,) = bench.request("s.1", b"x", block.encode())
    assert json.loads(answer.payload)["stream"] == "S"
    assert all(abs(when) < 2**63 for _, when in bench.store.contents_now(1).expiries)


def test_an_unknown_key_is_named() -> None:
    answer = Bench().api("STREAM.CREATE.S", name="S", rollup_hdrs=True)
    assert answer["error"]["description"] == 'invalid JSON: json: unknown field "rollup_hdrs"'


def test_what_is_not_built_is_refused_by_name() -> None:
    bench = Bench()
    bench.create("S")
