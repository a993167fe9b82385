"""Limits that the server's configuration puts on streams, consumers and clients: the same on both servers."""

import json
from pathlib import Path
from typing import Any

import nats
import pytest

from tests.conformance.conftest import MAKERS
from tests.conformance.raw import Wire
from tests.support.servers import Broker

LIMITS = 'limits { max_ack_pending: 50, max_request_batch: 10, duplicate_window: "30s" }'
STREAM = {"name": "S", "subjects": ["s"]}
MINUTE_NS = 60_000_000_000

REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("STREAM.CREATE.S", STREAM),
    ("STREAM.UPDATE.S", {**STREAM, "duplicate_window": MINUTE_NS}),
    ("STREAM.UPDATE.S", {**STREAM, "duplicate_window": MINUTE_NS // 6}),
    ("CONSUMER.CREATE.S.a", {"stream_name": "S", "config": {"durable_name": "a", "ack_policy": "explicit"}}),
    (
        "CONSUMER.CREATE.S.b",
        {"stream_name": "S", "config": {"durable_name": "b", "ack_policy": "explicit", "max_ack_pending": 51}},
    ),
    ("CONSUMER.CREATE.S.c", {"stream_name": "S", "config": {"durable_name": "c", "max_batch": 11}}),
    ("CONSUMER.CREATE.S.d", {"stream_name": "S", "config": {"durable_name": "d", "max_batch": 5}}),
]


async def outcomes(broker: Broker) -> list[Any]:
    client = await nats.connect(broker.url, allow_reconnect=False)
    found = []
    for request, body in REQUESTS:
        answer = json.loads((await client.request(f"$JS.API.{request}", json.dumps(body).encode(), timeout=5)).data)
        config = answer.get("config", {})
        shown = {key: config.get(key) for key in ("duplicate_window", "max_ack_pending", "max_batch")}
        found.append(answer.get("error") or shown)
    await client.close()
    return found


async def test_limits_of_jetstream(tmp_path: Path) -> None:
    answers = {}
    for name, make in MAKERS.items():
        config = f'jetstream {{ store_dir: "{tmp_path / name / "js"}", {LIMITS} }}'
        with make(tmp_path / name, config=config) as broker:
            answers[name] = await outcomes(broker)
    assert answers["leafnode"] == answers["nats-server"]
    assert [bool(answer.get("code")) for answer in answers["leafnode"]] == [
        False,
        True,
        False,
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("name", list(MAKERS))
def test_a_server_without_headers(tmp_path: Path, name: str) -> None:
    with MAKERS[name](tmp_path, config="no_header_support: true") as broker:
        with Wire(broker.port) as wire:
            assert json.loads(wire.info.removeprefix(b"INFO "))["headers"] is False
            wire.send(b'CONNECT {"verbose":false,"headers":true}\r\nHPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n')
            assert wire.rest() == b""
        with Wire(broker.port) as wire:
            wire.send(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n')
            assert wire.rest() == b"-ERR 'no responders requires headers support'\r\n"
