"""Good, bad and odd stream configurations, created and updated on both servers: every answer must be the same.

Each configuration is tried on a stream of its own beside two that are there; what was created is deleted again.
"""

from typing import Any

from tests.conformance.side_by_side import Step, differences
from tests.support.servers import Broker

SECOND = 1_000_000_000  # nanoseconds
MANY = "x" * 5000
BESIDE: list[Step] = [
    ("STREAM.CREATE.ORIGIN", {"name": "ORIGIN", "subjects": ["o.>"], "allow_direct": True, "max_msg_size": 1000}),
    ("STREAM.CREATE.COPY", {"name": "COPY", "sources": [{"name": "LOOP"}]}),
    ("STREAM.CREATE.MIRROR", {"name": "MIRROR", "mirror": {"name": "T2"}}),
]
NEW: list[dict[str, Any]] = [
    {},
    {"name": "other"},
    {"subjects": []},
    {"subjects": None},
    {"subjects": ["a", "a"]},
    {"subjects": ["a.*", "a.b"]},
    {"subjects": ["a..b"]},
    {"subjects": [""]},
    {"subjects": ["a b"]},
    {"subjects": ["a.>.b"]},
    {"subjects": [">"]},
    {"subjects": [">"], "no_ack": True},
    {"subjects": ["*"]},
    {"subjects": ["$JS.API.x"]},
    {"subjects": ["$JS.EVENT.OTHER.>"]},
    {"subjects": ["$JS.ACK.>"]},
    {"subjects": ["$JSC.x"]},
    {"subjects": ["$NRG.x"]},
    {"subjects": ["$SYS.x"]},
    {"subjects": ["$SYS.ACCOUNT.*.CONNECT"]},
    {"subjects": ["$KV.b.>"]},
    {"subjects": ["o.x"]},
    {"subjects": "a"},
    {"subjects": [1]},
    {"retention": "forever"},
    {"retention": 1},
    {"retention": "interest"},
    {"retention": "workqueue", "discard": "new"},
    {"discard": "newest"},
    {"storage": "disk"},
    {"storage": "memory"},
    {"compression": "zip"},
    {"compression": "s2"},
    {"persist_mode": "sync"},
    {"persist_mode": "default"},
    {"persist_mode": "async"},
    {"persist_mode": "async", "storage": "memory"},
    {"persist_mode": "async", "allow_atomic": True},
    {"persist_mode": "async", "allow_batched": True},
    {"num_replicas": -1},
    {"num_replicas": 0},
    {"num_replicas": 3},
    {"num_replicas": 6},
    {"max_msgs": -5},
    {"max_msgs": 0},
    {"max_msgs": "1"},
    {"max_msgs": 1.5},
    {"max_bytes": -5},
    {"max_age": -1},
    {"max_age": 1},
    {"max_age": SECOND},
    {"max_age": SECOND, "duplicate_window": 2 * SECOND},
    {"duplicate_window": -1},
    {"duplicate_window": 1},
    {"duplicate_window": 3600 * SECOND},
    {"max_msg_size": -3},
    {"max_consumers": -3},
    {"max_msgs_per_subject": -3},
    {"description": MANY},
    {"metadata": {"a": "b" * 131_072}},
    {"metadata": {"a": "b", "_nats.req.level": "9", "_nats.ver": "x"}},
    {"metadata": {"a": 1}},
    {"metadata": []},
    {"sealed": True},
    {"sealed": "yes"},
    {"deny_delete": True, "deny_purge": True},
    {"deny_purge": True, "allow_rollup_hdrs": True},
    {"discard_new_per_subject": True},
    {"discard": "new", "discard_new_per_subject": True},
    {"discard": "new", "discard_new_per_subject": True, "max_msgs_per_subject": 2},
    {"first_seq": -1},
    {"mirror_direct": True},
    {"allow_direct": True, "max_msgs_per_subject": 5},
    {"placement": {}},
    {"placement": {"cluster": "x"}},
    {"placement": {"preferred": "x"}},
    {"placement": {"tags": ["a"]}},
    {"consumer_limits": {"inactive_threshold": SECOND, "max_ack_pending": 5}},
    {"consumer_limits": {"nothing": 5}},
    {"nothing": 5},
    {"allow_msg_ttl": True},
    {"subject_delete_marker_ttl": 1},
    {"subject_delete_marker_ttl": -1},
    {"subject_delete_marker_ttl": 2 * SECOND},
    {"subject_delete_marker_ttl": 2 * SECOND, "deny_purge": True},
    {"subject_delete_marker_ttl": 2 * SECOND, "pedantic": True},
    {"subject_delete_marker_ttl": 2 * SECOND, "pedantic": True, "allow_msg_ttl": True},
    {"allow_msg_counter": True},
    {"allow_msg_counter": True, "discard": "new"},
    {"allow_msg_counter": True, "allow_msg_ttl": True},
    {"allow_msg_counter": True, "allow_msg_schedules": True},
    {"allow_msg_counter": True, "retention": "interest"},
    {"allow_msg_counter": True, "subject_delete_marker_ttl": 2 * SECOND},
    {"allow_msg_schedules": True},
    {"allow_msg_schedules": True, "discard": "new"},
    {"allow_msg_schedules": True, "deny_purge": True},
    {"allow_msg_schedules": True, "pedantic": True},
    {"allow_msg_schedules": True, "sources": [{"name": "ORIGIN"}]},
    {"allow_atomic": True, "allow_batched": True},
    {"subject_transform": {"src": "a.*", "dest": "b.$1"}},
    {"subject_transform": {"src": "a.*", "dest": "b.$2"}},
    {"subject_transform": {"src": "a..b", "dest": "b"}},
    {"subject_transform": {"src": "a", "dest": "b..c"}},
    {"subject_transform": {"src": "a", "dest": "b.>"}},
    {"subject_transform": {"src": "a.*", "dest": "b.{{nothing(1)}}"}},
    {"subject_transform": {"src": "a.*", "dest": "b.{{wildcard()}}"}},
    {"subject_transform": {"dest": "b.>"}},
    {"subject_transform": {}},
    {"republish": {"src": "a.>", "dest": "r.>"}},
    {"republish": {"dest": "r.>"}},
    {"republish": {"dest": "r.>"}, "pedantic": True},
    {"republish": {"src": ">", "dest": "T"}},
    {"republish": {"src": "a", "dest": "r.>"}},
    {"republish": {}},
    {"republish": {"src": ">", "dest": ">"}, "subject_transform": {"src": "T", "dest": "tt"}},
    {"mirror": {"name": "ORIGIN"}},
    {"mirror": {"name": "ORIGIN"}, "pedantic": True},
    {"mirror": {"name": "ORIGIN"}, "max_msg_size": 10},
    {"mirror": {"name": "nothing"}},
    {"mirror": {"name": "nothing"}, "mirror_direct": True},
    {"mirror": {"name": ""}},
    {"mirror": {"name": "a.b"}},
    {"mirror": {"name": "T"}},
    {"mirror": {"name": "COPY"}},
    {"mirror": {"name": "ORIGIN"}, "subjects": ["x"]},
    {"mirror": {"name": "ORIGIN"}, "sources": [{"name": "ORIGIN"}]},
    {"mirror": {"name": "ORIGIN"}, "first_seq": 5},
    {"mirror": {"name": "ORIGIN"}, "allow_msg_counter": True},
    {"mirror": {"name": "ORIGIN"}, "allow_atomic": True},
    {"mirror": {"name": "ORIGIN"}, "allow_batched": True},
    {"mirror": {"name": "ORIGIN"}, "allow_msg_schedules": True},
    {"mirror": {"name": "ORIGIN"}, "subject_delete_marker_ttl": 2 * SECOND},
    {"mirror": {"name": "ORIGIN", "filter_subject": "o.1"}},
    {"mirror": {"name": "ORIGIN", "filter_subject": "o..1"}},
    {"mirror": {"name": "ORIGIN", "filter_subject": "o.1", "subject_transforms": [{"src": "o.1", "dest": "p"}]}},
    {"mirror": {"name": "ORIGIN", "subject_transforms": [{"src": "o.*", "dest": "p"}, {"src": "o.1", "dest": "q"}]}},
    {"mirror": {"name": "ORIGIN", "subject_transforms": [{"src": "o..", "dest": "p"}]}},
    {"mirror": {"name": "ORIGIN", "subject_transforms": [{"src": "o.*", "dest": "p.$3"}]}},
    {"mirror": {"name": "ORIGIN", "opt_start_seq": 3}},
    {"mirror": {"name": "ORIGIN", "opt_start_time": "2026-01-02T03:04:05.678Z"}},
    {"mirror": {"name": "ORIGIN", "opt_start_time": "yesterday"}},
    {"mirror": {"name": "ORIGIN", "consumer": {}}},
    {"mirror": {"name": "ORIGIN", "consumer": {"name": "a.b", "deliver_subject": "d"}}},
    {"mirror": {"name": "ORIGIN", "consumer": {"name": "c", "deliver_subject": "d.*"}}},
    {"mirror": {"name": "ORIGIN", "consumer": {"name": "c", "deliver_subject": "d"}, "opt_start_seq": 4}},
    {"mirror": {"name": "ORIGIN", "consumer": {"name": "c", "deliver_subject": "d"}, "filter_subject": "o.1"}},
    {"mirror": {"name": "X", "external": {"api": "$JS.far.API", "deliver": "here"}}},
    {"mirror": {"name": "X", "external": {"api": "$JS.API"}}},
    {"mirror": {"name": "X", "external": {"api": "$JS.*.API"}}},
    {"mirror": {"name": "X", "external": {"api": "$JS.far.API", "deliver": "here.*"}}},
    {"mirror": {}},
    {"sources": [{"name": "ORIGIN"}]},
    {"sources": [{"name": "ORIGIN"}], "duplicate_window": SECOND},
    {"sources": [{"name": "ORIGIN"}], "subjects": ["x"]},
    {"sources": [{"name": "ORIGIN"}], "max_msg_size": 10},
    {"sources": [{"name": "ORIGIN"}, {"name": "ORIGIN"}]},
    {"sources": [{"name": "ORIGIN"}, {"name": "ORIGIN", "filter_subject": ">"}]},
    {"sources": [{"name": "ORIGIN", "filter_subject": "o.1"}, {"name": "ORIGIN", "filter_subject": "o.2"}]},
    {"sources": [{"name": ""}]},
    {"sources": [{"name": "a*b"}]},
    {"sources": [{}]},
    {"sources": [{"name": "T"}]},
    {"sources": [{"name": "T", "filter_subject": "elsewhere"}]},
    {"sources": [{"name": "COPY"}]},
    {"sources": [{"name": "ORIGIN", "filter_subject": "a b"}]},
    {"sources": [{"name": "ORIGIN", "filter_subject": "o.1", "subject_transforms": [{"src": "o.1", "dest": "p"}]}]},
    {"sources": [{"name": "ORIGIN", "subject_transforms": [{"src": "o.1", "dest": "p"}, {"src": "o.*", "dest": "q"}]}]},
    {"sources": [{"name": "ORIGIN", "subject_transforms": [{"src": "o..", "dest": "p"}]}]},
    {"sources": [{"name": "ORIGIN", "subject_transforms": [{"src": "o.*", "dest": "p.{{split(1)}}"}]}]},
    {"sources": [{"name": "ORIGIN", "consumer": {"name": "c"}}]},
    {
        "sources": [
            {"name": "ORIGIN", "consumer": {"name": "c", "deliver_subject": "d"}},
            {"name": "ORIGIN", "consumer": {"name": "c", "deliver_subject": "e"}},
        ]
    },
    {"sources": [{"name": "ORIGIN", "external": {"api": "$JS.far.API"}}, {"name": "ORIGIN"}]},
    {"sources": {}},
    {"max_msgs": -2, "pedantic": True},
    {"max_bytes": -2, "pedantic": True},
    {"max_consumers": -2, "pedantic": True},
    {"max_age": SECOND, "pedantic": True},
    {"max_msgs": 0, "pedantic": True},
    {"first_seq": 10},
]
LOOPS: list[dict[str, Any]] = [
    {"mirror": {"name": "COPY"}},
    {"sources": [{"name": "COPY"}]},
    {"sources": [{"name": "COPY", "filter_subject": "x"}], "subjects": ["x"]},
]
"""Of the stream that COPY copies."""
CHANGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"subjects": ["b"]}),
    ({}, {"subjects": ["o.9"]}),
    ({}, {"name": "NOT"}),
    ({}, {"storage": "memory"}),
    ({}, {"retention": "interest"}),
    ({}, {"retention": "workqueue"}),
    ({"retention": "workqueue"}, {}),
    ({"retention": "workqueue"}, {"retention": "interest"}),
    ({}, {"num_replicas": 3}),
    ({}, {"sealed": True}),
    ({"max_age": SECOND, "allow_rollup_hdrs": True}, {"sealed": True, "max_age": SECOND}),
    ({"deny_delete": True}, {}),
    ({"deny_purge": True}, {}),
    ({}, {"deny_delete": True, "deny_purge": True}),
    ({}, {"allow_msg_ttl": True}),
    ({"allow_msg_ttl": True}, {}),
    ({"subject_delete_marker_ttl": 2 * SECOND}, {"allow_msg_ttl": True}),
    ({}, {"allow_msg_counter": True}),
    ({"allow_msg_counter": True}, {}),
    ({}, {"allow_msg_schedules": True}),
    ({"allow_msg_schedules": True}, {}),
    ({}, {"allow_atomic": True, "allow_batched": True}),
    ({"allow_atomic": True, "allow_batched": True}, {}),
    ({}, {"persist_mode": "async"}),
    ({"persist_mode": "async"}, {}),
    ({"mirror": {"name": "ORIGIN"}}, {"mirror": {"name": "COPY"}}),
    ({"mirror": {"name": "ORIGIN"}}, {"subjects": ["m"]}),
    ({"mirror": {"name": "ORIGIN"}}, {}),
    ({}, {"mirror": {"name": "ORIGIN"}}),
    ({}, {"sources": [{"name": "ORIGIN"}]}),
    ({"sources": [{"name": "ORIGIN"}]}, {"sources": [{"name": "ORIGIN", "filter_subject": "o.1"}]}),
    ({}, {"discard": "new", "discard_new_per_subject": True}),
    ({}, {"max_msgs": 5, "max_bytes": 1000, "max_age": SECOND}),
    ({}, {"first_seq": 100}),
    ({}, {"description": "d", "metadata": {"k": "v"}}),
    ({"metadata": {"k": "v"}}, {}),
    ({}, {"compression": "s2"}),
    ({}, {"placement": {"cluster": "c"}}),
    ({}, {"republish": {"dest": "r.>"}}),
    ({}, {"subject_transform": {"src": "x", "dest": "y"}}),
    ({}, {"max_consumers": 5}),
    ({}, {"allow_direct": True, "no_ack": True}),
]


def configuration(answer: Any) -> Any:
    """What a stream was made to be, or why it was not; how its copies begin is a matter of moments."""
    return answer.get("config", answer) if isinstance(answer, dict) else answer


async def test_new_streams(pair: list[Broker]) -> None:
    steps = list(BESIDE)
    for config in NEW:
        steps += [("STREAM.CREATE.T", {"name": "T", **config}), ("STREAM.DELETE.T", None)]
    steps += [("STREAM.CREATE.LOOP", {"name": "LOOP", **config}) for config in LOOPS]
    await differences(pair, steps + _cleared(), part=configuration)


async def test_created_again(pair: list[Broker]) -> None:
    """The same configuration again is no error; any other is."""
    steps: list[Step] = [
        ("STREAM.CREATE.T", {"name": "T", "subjects": ["a"], "max_age": SECOND, "metadata": {"a": "b"}})
    ]
    for change in (
        {},
        {"max_age": SECOND + 1},
        {"metadata": {"a": "c"}},
        {"duplicate_window": SECOND},
        {"max_msgs": 0},
    ):
        body = {"name": "T", "subjects": ["a"], "max_age": SECOND, "metadata": {"a": "b"}, **change}
        steps.append(("STREAM.CREATE.T", body))
    await differences(pair, [*steps, ("STREAM.DELETE.T", None)], part=configuration)


async def test_changed_streams(pair: list[Broker]) -> None:
    steps = list(BESIDE)
    for before, after in CHANGES:
        steps += [
            ("STREAM.CREATE.T", {"name": "T", **before}),
            ("STREAM.UPDATE.T", {"name": "T", **after}),
            ("STREAM.DELETE.T", None),
        ]
    await differences(
        pair, [*steps, ("STREAM.UPDATE.T", {"name": "T"}), ("STREAM.UPDATE.T", ""), *_cleared()], part=configuration
    )


def _cleared() -> list[Step]:
    return [(f"STREAM.DELETE.{body['name']}", None) for _, body in BESIDE]


def test_there_are_enough() -> None:
    assert len(NEW) + len(CHANGES) >= 150
