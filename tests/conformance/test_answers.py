"""The same requests to JetStream's API of both servers: the JSON they answer with, side by side.

Nothing may differ but what `side_by_side` leaves out.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conformance.conftest import MAKERS
from tests.conformance.side_by_side import Step, differences
from tests.support.servers import Broker, jetstream

FIRST: list[Step] = [
    ("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "allow_direct": True, "max_age": 3_600_000_000_000}),
    ("STREAM.CREATE.W", {"name": "W", "subjects": ["w.>"], "retention": "workqueue", "storage": "memory"}),
    (
        "STREAM.CREATE.L",
        {"name": "L", "subjects": ["l.>"], "max_msgs": 3, "max_msgs_per_subject": 2, "metadata": {"a": "b"}},
    ),
    ("PUB s.1", "one"),
    ("PUB s.2", "two"),
    ("PUB s.1", "three"),
    *[(f"PUB l.{n % 2}", "x" * n) for n in range(9)],
    ("PUB w.1", "job"),
    ("CONSUMER.CREATE.S.pull", {"stream_name": "S", "config": {"durable_name": "pull", "ack_policy": "explicit"}}),
    (
        "CONSUMER.CREATE.S.push.s.1",
        {
            "stream_name": "S",
            "config": {"name": "push", "deliver_subject": "to.me", "filter_subject": "s.1", "ack_policy": "none"},
        },
    ),
    ("CONSUMER.MSG.NEXT.S.pull", {"batch": 1, "no_wait": True}),
]
"""Makes the same state on both servers; these answers are compared too."""

REQUESTS: list[Step] = [
    ("INFO", None),
    ("INFO with a body", {"x": 1}),
    ("STREAM.INFO.S", None),
    ("STREAM.INFO.S", {"subjects_filter": ">", "deleted_details": True}),
    ("STREAM.INFO.L", {"subjects_filter": "l.1"}),
    ("STREAM.INFO.W", None),
    ("STREAM.INFO.none", None),
    ("STREAM.INFO.S", "[]"),
    ("STREAM.NAMES", None),
    ("STREAM.NAMES", {"subject": "s.1", "offset": 0}),
    ("STREAM.NAMES", {"offset": 2}),
    ("STREAM.NAMES", {"offset": 99}),
    ("STREAM.LIST", None),
    ("STREAM.LIST", {"subject": "w.>"}),
    ("STREAM.CREATE.bad", {"name": "worse"}),
    ("STREAM.CREATE.bad", {"name": "bad", "subjects": ["s.1"]}),
    ("STREAM.CREATE.bad", {"name": "bad", "retention": "forever"}),
    ("STREAM.CREATE.bad", "{"),
    ("STREAM.CREATE.a.b", {"name": "a.b"}),
    ("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "max_age": 1}),
    ("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>", "t"], "allow_direct": True, "description": "changed"}),
    ("STREAM.MSG.GET.S", {"seq": 2}),
    ("STREAM.MSG.GET.S", {"last_by_subj": "s.1"}),
    ("STREAM.MSG.GET.S", {"seq": 99}),
    ("STREAM.MSG.GET.S", {}),
    ("STREAM.MSG.DELETE.S", {"seq": 2}),
    ("STREAM.MSG.DELETE.S", {"seq": 2}),
    ("STREAM.MSG.DELETE.none", {"seq": 2}),
    ("STREAM.PURGE.L", {"filter": "l.1"}),
    ("STREAM.PURGE.L", {"seq": 1, "keep": 1}),
    ("STREAM.PURGE.L", None),
    ("CONSUMER.INFO.S.pull", None),
    ("CONSUMER.INFO.S.push", None),
    ("CONSUMER.INFO.S.none", None),
    ("CONSUMER.INFO.none.none", None),
    ("CONSUMER.NAMES.S", None),
    ("CONSUMER.NAMES.S", {"offset": 1}),
    ("CONSUMER.LIST.S", None),
    ("CONSUMER.CREATE.S.pull", {"stream_name": "S", "config": {"durable_name": "pull", "ack_policy": "all"}}),
    ("CONSUMER.CREATE.S.x", {"stream_name": "T", "config": {}}),
    ("CONSUMER.CREATE.S.x", {"stream_name": "S", "config": {"filter_subject": "other"}}),
    ("CONSUMER.CREATE.W.x", {"stream_name": "W", "config": {"durable_name": "x"}}),
    (
        "CONSUMER.DURABLE.CREATE.S.old",
        {"stream_name": "S", "config": {"durable_name": "old", "ack_policy": "explicit"}},
    ),
    ("CONSUMER.PAUSE.S.pull", {"pause_until": "2020-01-01T00:00:00Z"}),
    ("CONSUMER.DELETE.S.old", None),
    ("CONSUMER.DELETE.S.old", None),
    ("STREAM.LEADER.STEPDOWN.S", None),
    ("STREAM.PEER.REMOVE.S", {"peer": "x"}),
    ("META.LEADER.STEPDOWN", None),
    ("PUB w.1", ""),
    ("STREAM.SNAPSHOT.S", {"deliver_subject": "backup"}),
    ("STREAM.DELETE.W", {"x": 1}),
    ("STREAM.DELETE.W", None),
    ("STREAM.DELETE.W", None),
    ("INFO", None),
]


@pytest.fixture
def both(tmp_path: Path) -> Iterator[list[Broker]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(make(tmp_path / name, config=jetstream(tmp_path / name)))
            for name, make in MAKERS.items()
        ]


async def test_both_servers_answer_alike(both: list[Broker]) -> None:
    steps = FIRST + REQUESTS
    ours = await differences(both, steps)
    assert sum("error" not in answer for answer in ours if isinstance(answer, dict)) > len(steps) / 2
