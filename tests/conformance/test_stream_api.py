"""Lists and their pages, details, purges, deletions and required levels: the raw answers of both servers."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.conformance.conftest import MAKERS
from tests.conformance.side_by_side import Step, differences
from tests.support.servers import Broker, jetstream

PAGES: list[Any] = [
    None,
    {},
    *[{"offset": offset} for offset in (3, 12, 99, -1)],
    *[{"subject": subject} for subject in ("x.*", "s1.a", ">", "nothing", "a b")],
    {"subject": "s1.>", "offset": 1},
    {"x": 1},
]
DETAILS: list[Any] = [
    *[{"subjects_filter": pattern} for pattern in (">", "s1.2", "none", "a..b")],
    {"subjects_filter": ">", "offset": 2},
    {"subjects_filter": ">", "offset": 9},
    {"offset": 3},
    {"deleted_details": True},
]
PURGES: list[Any] = [
    {"filter": "s1.0", "keep": 1},
    {"filter": "s1.1", "seq": 8},
    {"filter": "s1.*", "keep": 100},
    {"seq": 4, "keep": 2},
    {"keep": 12},
    {"filter": "a b"},
    {"filter": "other"},
    {"seq": 5},
    {"filter": ""},
    {"seq": 100},
    {"x": 1},
]
DELETIONS: list[Any] = [
    *[{"seq": seq} for seq in (103, 103, 21, 999, 0)],
    {},
    {"seq": 104, "no_erase": True},
    {"x": 1},
]


def published(count: int) -> list[Step]:
    return [(f"PUB s1.{number % 5}", f"m{number}") for number in range(count)]


async def test_lists_details_and_removals(pair: list[Broker]) -> None:
    steps: list[Step] = [
        (f"STREAM.CREATE.S{place:02}", {"name": f"S{place:02}", "subjects": [f"s{place}.>", f"x.{place}"]})
        for place in range(12)
    ]
    steps += published(20)
    steps += [(f"STREAM.{verb}", body) for verb in ("NAMES", "LIST") for body in PAGES]
    steps += [("STREAM.INFO.S01", body) for body in DETAILS]
    for body in PURGES:
        steps += [("STREAM.PURGE.S01", body), ("STREAM.INFO.S01", {"deleted_details": True})]
    steps += published(8)
    steps += [("STREAM.MSG.DELETE.S01", body) for body in DELETIONS]
    steps += [
        ("STREAM.INFO.S01", {"deleted_details": True, "subjects_filter": ">"}),
        ("STREAM.PURGE.S01", None),
        ("STREAM.INFO.S01", {"deleted_details": True}),
        ("INFO", None),
        *[(f"STREAM.{verb}.NO", {"seq": 1}) for verb in ("PURGE", "MSG.DELETE", "MSG.GET")],
        ("STREAM.UPDATE.S02", "["),
        ("STREAM.NAMES.x", None),
        ("STREAM", None),
        *[(f"STREAM.DELETE.S{place:02}", None) for place in range(12)],
    ]
    await differences(pair, steps)


async def test_closed_streams(pair: list[Broker]) -> None:
    config = {"name": "D", "deny_delete": True, "deny_purge": True}
    attempts: list[Step] = [("PUB D", "x"), ("STREAM.MSG.DELETE.D", {"seq": 1}), ("STREAM.PURGE.D", None)]
    steps: list[Step] = [("STREAM.CREATE.D", config), *attempts, ("STREAM.UPDATE.D", {**config, "sealed": True})]
    await differences(pair, [*steps, *attempts, ("STREAM.INFO.D", None), ("STREAM.DELETE.D", None)])


async def test_required_levels(pair: list[Broker]) -> None:
    requests: list[tuple[str, Any]] = [
        ("STREAM.NAMES", None),
        ("STREAM.CREATE.L", {"name": "L", "allow_direct": True}),
        ("STREAM.INFO.L", None),
        ("INFO", None),
        ("STREAM.MSG.GET.L", {"seq": 1}),
        ("DIRECT.GET.L", {"seq": 1}),
    ]
    steps: list[Step] = [
        (verb, body, {"Nats-Required-Api-Level": level})
        for level in ("6", "5", "x", "-1", "")
        for verb, body in requests
    ]
    await differences(pair, [*steps, ("STREAM.DELETE.L", None)])


ACCOUNT = """accounts { A {
    users: [{user: a, password: a}]
    jetstream { max_mem: 2000, max_file: 5000, max_streams: 3, max_consumers: 2, memory_max_stream_bytes: 1500,
        store_max_stream_bytes: 3000, max_ack_pending: 50 }
} }
no_auth_user: a"""


async def test_limits_of_an_account(tmp_path: Path) -> None:
    """Reserved and used bytes, numbers of streams and of consumers, and what INFO says of them."""

    def create(name: str, **config: Any) -> Step:
        return (f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"{name.lower()}.>"], **config})

    def update(name: str, **config: Any) -> Step:
        return (f"STREAM.UPDATE.{name}", {"name": name, "subjects": [f"{name.lower()}.>"], **config})

    steps: list[Step] = [
        ("INFO", None),
        *[create("A", max_bytes=size) for size in (4000, 3000)],
        *[create("B", max_bytes=size) for size in (2500, 2000)],
        *[create("M", storage="memory", max_bytes=size) for size in (1600, 1500)],
        create("X"),
        update("A", max_bytes=3001),
        update("B", max_bytes=2500),
        update("B", max_bytes=100),
        ("STREAM.DELETE.B", None),
        create("C", max_consumers=5),
        create("C"),
        *[("PUB c.1", "x" * 900)] * 7,
        *[("PUB a.1", "x" * 900)] * 2,
        *[("PUB m.1", "x" * 700)] * 4,
        ("INFO", None),
        *[(f"STREAM.INFO.{name}", None) for name in "ACM"],
        ("STREAM.PURGE.C", None),
        ("PUB c.1", "x"),
        ("STREAM.INFO.zz", "x"),
        ("INFO", {"x": 1}),
        ("INFO", None),
    ]
    with ExitStack() as stack:
        limited = [
            stack.enter_context(make(tmp_path / name, config=f"{jetstream(tmp_path / name)}\n{ACCOUNT}"))
            for name, make in MAKERS.items()
        ]
        await differences(limited, steps)
