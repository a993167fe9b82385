"""/healthz: what is asked for, and what is wrong."""

from typing import Any

import pytest

from leafnode.net.jsz import healthz
from leafnode.net.questions import Healthz


def ask(asked: Healthz, *, enabled: bool = True, wrong: str = "", store_wrong: str = "") -> tuple[int, Any]:
    return healthz(asked, enabled=enabled, wrong=wrong, store_wrong=store_wrong, jetstreams={})


def test_well() -> None:
    assert ask(Healthz()) == (200, {"status": "ok"})
    assert ask(Healthz(), enabled=False) == (200, {"status": "ok"})


def test_a_store_that_refuses_is_not_well() -> None:
    status, body = ask(Healthz(), store_wrong="the disk is full")
    assert (status, body) == (
        503,
        {"status": "unavailable", "error": "the store refuses messages: the disk is full"},
    )
    assert ask(Healthz(js_server_only=True), store_wrong="x")[0] == 503
    assert ask(Healthz(js_enabled_only=True), store_wrong="x")[0] == 200


def test_a_broker_in_trouble_is_not_well_whatever_is_asked() -> None:
    for asked in (Healthz(), Healthz(js_enabled_only=True), Healthz(account="A")):
        assert ask(asked, wrong="ending")[0] == 503


@pytest.mark.parametrize("asked", [Healthz(js_enabled_only=True), Healthz(js_enabled=True)])
def test_no_jetstream_where_it_is_asked_for(asked: Healthz) -> None:
    assert ask(asked, enabled=False) == (503, {"status": "unavailable", "error": "JetStream is not enabled"})


def test_details() -> None:
    status, body = ask(Healthz(account="A", details=True))
    assert status == 404
    assert body == {
        "status": "error",
        "errors": [{"type": "ACCOUNT", "account": "A", "error": 'JetStream account "A" not found'}],
    }


def test_incomplete_questions() -> None:
    assert ask(Healthz(stream="S"))[0] == 400
    assert ask(Healthz(account="A", consumer="C"))[0] == 400
