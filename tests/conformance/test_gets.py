"""Messages read back by the API and directly, one, many in a row, and the newest of each subject, on both servers."""

import asyncio
import datetime
import json
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from tests.conformance.side_by_side import Step, differences, without_time
from tests.support.servers import Broker

WAIT_SECONDS = 5.0  # for what arrives at once on an idle machine
BETWEEN = "@between"  # in a request: a moment after the first half of the messages
PAST, FUTURE = "2020-01-01T00:00:00Z", "2090-01-01T00:00:00Z"
CONFIG = {"name": "S", "subjects": ["s.>"], "allow_direct": True}
ONE: list[dict[str, Any]] = [
    {},
    {"seq": 3},
    {"seq": 5},
    {"seq": 99},
    {"last_by_subj": "s.0"},
    {"last_by_subj": "s.*"},
    {"last_by_subj": "x"},
    {"next_by_subj": "s.1"},
    {"next_by_subj": "s.1", "seq": 5},
    {"next_by_subj": "s.1", "seq": 50},
    {"seq": 3, "last_by_subj": "s.0"},
    {"start_time": PAST},
    {"start_time": FUTURE},
    {"start_time": PAST, "next_by_subj": "s.2"},
    {"start_time": PAST, "seq": 2},
    {"start_time": PAST, "last_by_subj": "s.2"},
    {"seq": 3, "no_hdr": True},
    {"no_hdr": True},
    {"batch": 3},
    {"batch": 3, "last_by_subj": "s.0"},
    {"next_by_subj": "s.0", "last_by_subj": "s.0"},
    {"multi_last": ["s.0"], "last_by_subj": "s.0"},
    {"multi_last": ["s.0"], "next_by_subj": "s.0"},
    {"multi_last": ["s.0"], "up_to_seq": 3, "up_to_time": PAST},
    {"multi_last": []},
    {"unknown": 1},
    {"unknown": 1, "seq": 1},
    {"seq": "a"},
    {"seq": -1},
    {"up_to_seq": 3},
    {"max_bytes": 3},
    {"batch": -1, "seq": 1},
]
MANY: list[dict[str, Any]] = [
    {"seq": 1, "batch": 3},
    {"seq": 1, "batch": 100},
    {"seq": 4, "batch": 3},
    {"seq": 20, "batch": 3},
    {"seq": 2, "batch": 1},
    {"seq": 5, "batch": 1},
    {"seq": 1, "batch": 3, "no_hdr": True},
    {"seq": 1, "batch": 10, "max_bytes": 12},
    {"seq": 1, "batch": 10, "max_bytes": 1},
    {"next_by_subj": "s.1", "batch": 2},
    {"next_by_subj": "s.*", "batch": 2},
    {"next_by_subj": "s.1", "seq": 3, "batch": 9},
    {"next_by_subj": "s.1", "batch": 2, "max_bytes": 1},
    {"next_by_subj": "none", "batch": 2},
    {"start_time": BETWEEN, "batch": 3},
    {"start_time": BETWEEN, "next_by_subj": "s.1", "batch": 3},
    {"start_time": FUTURE, "batch": 3},
    {"multi_last": ["s.>"]},
    {"multi_last": ["s.1", "s.2"]},
    {"multi_last": ["s.1", "s.*"]},
    {"multi_last": ["x"]},
    {"multi_last": ["a..b"]},
    {"multi_last": ["s.>"], "up_to_seq": 6},
    {"multi_last": ["s.>"], "up_to_seq": 5},
    {"multi_last": ["s.>"], "up_to_seq": 3},
    {"multi_last": ["s.>"], "up_to_seq": 500},
    {"multi_last": ["s.>"], "up_to_time": BETWEEN},
    {"multi_last": ["s.>"], "up_to_time": PAST},
    {"multi_last": ["s.>"], "up_to_time": FUTURE},
    {"multi_last": ["s.>"], "batch": 2},
    {"multi_last": ["s.>"], "batch": 2, "up_to_seq": 6},
    {"multi_last": ["s.>"], "max_bytes": 30},
    {"multi_last": ["s.>"], "seq": 10},
    {"multi_last": ["s.>"], "seq": 10, "up_to_seq": 10},
    {"multi_last": ["s.>"], "seq": 50},
    {"multi_last": ["s.>"], "no_hdr": True},
]


@pytest.mark.parametrize("storage", ["file", "memory"])
async def test_one_message(pair: list[Broker], storage: str) -> None:
    steps: list[Step] = [("STREAM.CREATE.S", {**CONFIG, "storage": storage})]
    steps += [(f"PUB s.{number % 3}", f"m{number}", {"H": "1"} if number % 2 else {}) for number in range(1, 13)]
    steps += [("STREAM.MSG.DELETE.S", {"seq": 5}), ("STREAM.MSG.DELETE.S", {"seq": 12, "no_erase": True})]
    steps += [("DIRECT.GET.S", asked) for asked in ONE] + [("STREAM.MSG.GET.S", asked) for asked in ONE]
    steps += [("DIRECT.GET.S", text) for text in ("{", "[]", "")] + [("STREAM.MSG.GET.S", text) for text in ("{", "")]
    steps += [("DIRECT.GET.S.s.0", body) for body in (None, {}, {"no_hdr": True}, {"seq": 1}, "x")]
    steps += [("DIRECT.GET.S.s.*", None), ("DIRECT.GET.S.zz", None), ("DIRECT.GET.NO", {"seq": 1})]
    await differences(pair, [*steps, ("STREAM.DELETE.S", None)])


async def filled(client: Client) -> str:
    """Twelve messages, two of them deleted; a moment in the middle."""
    js = client.jetstream()
    await client.request("$JS.API.STREAM.CREATE.S", json.dumps(CONFIG).encode())
    moment = ""
    for number in range(1, 13):
        await js.publish(f"s.{number % 4}", b"m%d" % number, headers={"H": "1"} if number % 2 else None)
        if number == 6:
            taken = (await js.get_msg("S", 6)).time
            assert taken is not None
            while datetime.datetime.now(datetime.UTC) <= taken:
                await asyncio.sleep(0.001)
            moment = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
    for seq in (5, 12):
        await js.delete_msg("S", seq)
    return moment


async def everything(client: Client, request: bytes) -> list[Any]:
    """All messages of an answer, up to the one with a status."""
    inbox = client.new_inbox()
    sub = await client.subscribe(inbox)
    await client.publish("$JS.API.DIRECT.GET.S", request, reply=inbox)
    found: list[Any] = []
    while not found or "Status" not in found[-1][1]:
        message = await sub.next_msg(WAIT_SECONDS)
        found.append((message.data, without_time(message.headers)))
    await sub.unsubscribe()
    return found


async def all_answers(broker: Broker) -> list[Any]:
    client = await nats.connect(broker.url, allow_reconnect=False)
    moment = await filled(client)
    requests = [json.dumps(asked).replace(BETWEEN, moment).encode() for asked in MANY]
    found = [await everything(client, request) for request in requests]
    await client.jetstream().delete_stream("S")
    await client.close()
    return found


async def test_many_messages(pair: list[Broker]) -> None:
    theirs, ours = await asyncio.gather(*(all_answers(broker) for broker in pair))
    different = [f"{asked}\n  {a}\n  {b}" for asked, a, b in zip(MANY, theirs, ours, strict=True) if a != b]
    assert not different, "\n".join(different)
