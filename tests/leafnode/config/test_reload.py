"""What may change while the broker runs."""

import dataclasses

import pytest

from leafnode.config.load import load_text
from leafnode.config.options import Config
from leafnode.config.reload import RELOADABLE, changed, refusal


def test_users_limits_and_logging_may_change() -> None:
    old = load_text("authorization { users: [{user: a}] }")
    new = load_text("authorization { users: [{user: b}] }\nmax_payload: 5\ndebug: true")
    assert changed(old, new) == {"authorization", "max_payload", "debug"}
    assert refusal(old, new) == ""
    assert refusal(old, old) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port: 5351", "config reload not supported for port: old=4222, new=5351"),
        ("server_name: x", "server_name"),
        ("http: 8222", "http_port: old=None, new=8222"),
        ("jetstream { store_dir: /x }", "jetstream"),
        ("port: 5351\nmax_payload: 5", "port"),
    ],
)
def test_addresses_names_and_stores_may_not(text: str, words: str) -> None:
    assert words in refusal(load_text("port: 4222"), load_text(text))


def test_secrets_are_not_shown() -> None:
    new = load_text('leafnodes { remotes: [ { url: "nats://u:s3cret@h" } ] }')
    assert "s3cret" not in refusal(load_text("port: 4222"), new)


def test_only_options_are_listed() -> None:
    assert {field.name for field in dataclasses.fields(Config)} >= RELOADABLE
