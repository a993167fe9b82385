"""Bodies come back as they went, and what is wrong with one is named."""

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import payloads
from agent.errors import PayloadError
from agent.payloads import (
    Command,
    CommandResult,
    ConfigStatus,
    Presence,
    QueryReply,
    QueryRequest,
    Reading,
    SensorReading,
)

AT = datetime(2026, 11, 20, 12, 0, 0, 123000, tzinfo=UTC)
EXAMPLES = [
    QueryRequest(id="q", where="os.name = 'x'", select="cpu.percent", limit=3, quiet=True),
    QueryRequest(),
    QueryReply(id="q", device="pi-7", matched=True, columns=("a", "b"), rows=((1, None), ("x", 2.5)), truncated=True),
    QueryReply(device="pi-7", matched=True, info={"os": {"name": "x"}}),
    QueryReply(device="pi-7", error="no such column"),
    Presence(device="pi-7", boot_id="b", started=AT, seq=1, interval_s=10.0, state="down", reason="stopped"),
    payloads.Inventory(device="pi-7", digest="d", groups=("a",), tags={"k": "v"}, agent_version="1", seen=AT),
    ConfigStatus(device="pi-7", name="motd", state="reverted", revision=4, revisions={"all.motd": 4}, at=AT),
    Command(id="c", argv=("a", "b"), env={"K": "v"}, stdin="x", on_unknown="retry", not_after=AT, issued=AT),
    CommandResult(id="c", device="pi-7", step="outcome", outcome="failed", exit_code=3, started=AT, finished=AT),
    Reading(device="pi-7", metric="cpu", at=AT, values={"percent": 12.5}),
    SensorReading(device="pico-1", metric="temp", seq=1, boot=2, ms=3, value=21.5, unit="C", clock=True),
]


@pytest.mark.parametrize("body", EXAMPLES, ids=lambda body: type(body).__name__)
def test_a_body_comes_back_as_it_went(body: Any) -> None:
    data = body.to_bytes()
    assert json.loads(data)["v"] == 1
    assert type(body).from_bytes(data) == body
    extended = json.dumps({**json.loads(data), "later": "ignored"}).encode()
    assert type(body).from_bytes(extended) == body


def test_the_documented_bodies_are_understood() -> None:
    command = Command.from_bytes(
        b'{"v":1,"id":"CMD","kind":"argv","argv":["systemctl","restart","x"],"timeout_s":60,"cwd":null,"env":{},'
        b'"stdin":null,"on_unknown":"report","not_after":null,"issued":"2026-11-20T12:00:00Z","issued_by":"me"}'
    )
    assert (command.argv, command.timeout_s) == (("systemctl", "restart", "x"), 60.0)
    reading = SensorReading.from_bytes(
        b'{"v":1,"device":"pico-1","metric":"temp","seq":17,"boot":3,"ms":1732100000123,"value":21,"unit":"C","clock":true}'
    )
    assert reading.value == 21.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"v": 2}, "field 'v' is 2: this program speaks version 1"),
        ({"v": True}, "field 'v'"),
        ({"v": None}, "field 'v'"),
        ({"id": 5}, "field 'id' must be a string, not a whole number"),
        ({"id": None}, "field 'id' must be a string, not null"),
        ({"argv": "ls"}, "field 'argv' must be a list, not a string"),
        ({"argv": ["ls", 1]}, "field 'argv'[1] must be a string"),
        ({"timeout_s": "60"}, "field 'timeout_s' must be a number"),
        ({"timeout_s": True}, "field 'timeout_s' must be a number, not true or false"),
        ({"env": {"A": 1}}, "field 'env'['A'] must be a string"),
        ({"env": []}, "field 'env' must be an object, not a list"),
        ({"on_unknown": "maybe"}, "one of report, retry is allowed"),
        ({"issued": "yesterday"}, "field 'issued': 'yesterday' is not a time"),
        ({"issued": "2026-11-20T12:00:00"}, "without a zone"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], words: str) -> None:
    good = json.loads(Command(id="c", argv=("true",), issued=AT).to_bytes())
    with pytest.raises(PayloadError) as caught:
        Command.from_bytes(json.dumps({**good, **change}).encode())
    assert words in str(caught.value)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(PayloadError, match="Command: field 'argv' is missing"):
        Command.from_bytes(b'{"v":1,"id":"c","issued":"2026-11-20T12:00:00Z"}')


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"v":1,"timeout_s":1e999}'])
def test_what_is_no_body_is_refused(data: bytes) -> None:
    with pytest.raises(PayloadError):
        Command.from_bytes(data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["v", "id", "argv", "issued", "timeout_s", "env"]), inner, max_size=6)
        ),
    )
)
def test_anything_is_a_body_or_a_payload_error(values: Any) -> None:
    for cls in (Command, QueryRequest, QueryReply, Reading, CommandResult):
        with contextlib.suppress(PayloadError):
            cls.from_bytes(json.dumps(values).encode())


def test_a_query_may_be_empty_text_or_json() -> None:
    assert QueryRequest.from_bytes(b"").is_info
    assert QueryRequest.from_bytes(b" \n").is_info
    text = QueryRequest.from_bytes(b"os.name = 'Android'")
    assert (text.where, text.quiet, text.is_info) == ("os.name = 'Android'", True, False)
    with pytest.raises(PayloadError, match="leave out 'where'"):
        QueryRequest.from_bytes(b'{"v":1,"sql":"SELECT 1","where":"1"}')
    with pytest.raises(PayloadError, match="UTF-8"):
        QueryRequest.from_bytes(b"os.name = '\xff'")


def test_times_are_utc_on_the_wire() -> None:
    berlin = AT.astimezone(timezone(timedelta(hours=1)))
    assert payloads.rfc3339(berlin) == "2026-11-20T12:00:00.123Z"
    assert payloads.parse_rfc3339("2026-11-20T13:00:00.123+01:00") == AT
