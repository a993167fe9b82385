"""What may change while the broker runs."""

import dataclasses

import pytest

from leafnode.config.load import load_text
from leafnode.config.options import Config
from leafnode.config.reload import RELOADABLE, changed, refusal, report


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
        ("port: 5351\nmax_payload: 5", "port"),
    ],
)
def test_addresses_names_and_stores_may_not(text: str, words: str) -> None:
    assert words in refusal(load_text("port: 4222"), load_text(text))


def test_secrets_are_not_shown() -> None:
    old = load_text('leafnodes { remotes: [ { url: "nats://u:s3cret@h" } ] }')
    new = load_text('leafnodes { remotes: [ { url: "nats://u:s3cret@h", no_randomize: true } ] }')
    told = refusal(old, new)
    assert "no_randomize" in told
    assert "s3cret" not in told
    assert "s3cret" not in " ".join(report(load_text("port: 4222"), old))


def remotes(*more: str) -> Config:
    return load_text("leafnodes { remotes: [ " + ", ".join(f'{{ url: "nats://{one} }}' for one in more) + " ] }")


def test_remotes_may_come_go_and_be_disabled() -> None:
    one = remotes('a:1"')
    assert refusal(one, remotes('a:1"', 'b:1"')) == ""
    assert refusal(one, remotes('b:1"')) == ""
    assert refusal(one, remotes('a:1", disabled: true')) == ""
    assert "deny_imports" in refusal(one, remotes('a:1", deny_imports: "x"'))
    assert "leafnodes.reconnect_s" in refusal(one, load_text('leafnodes { reconnect: "9s" }'))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("", "jetstream { store_dir: /x }", ""),
        ("jetstream { store_dir: /x, domain: d }", "", ""),
        ("jetstream { store_dir: /x }", "jetstream { store_dir: /y }", "jetstream.store_dir"),
        ("jetstream { store_dir: /x }", "jetstream { store_dir: /x, domain: d }", "jetstream.domain"),
        ("jetstream { max_file: 1GB }", "jetstream { max_file: 2GB }", ""),
        ("jetstream { max_file: 2GB }", "jetstream { max_file: 1GB }", "decreasing jetstream.max_file_store"),
        ("jetstream { max_mem: 2GB }", "jetstream { }", "jetstream.max_memory_store from or to"),
        ("jetstream { }", "jetstream { max_mem: 2GB }", "jetstream.max_memory_store from or to"),
        ("accounts { A { jetstream: enabled } }", "accounts { A { }, B { } }", ""),
        ("accounts { A { exports: [ {stream: a} ] } }", "accounts { A { mappings { a: b } } }", ""),
        ("mappings { a: b }", "mappings { a: c }", ""),
    ],
)
def test_of_jetstream_a_part_may_change(old: str, new: str, words: str) -> None:
    told = refusal(load_text(old), load_text(new))
    assert words in told
    assert bool(told) == bool(words)


def test_an_auth_callout_may_change_but_not_come() -> None:
    def text(*users: str) -> str:
        rules = f"auth_callout {{ issuer: A{'B' * 55}, auth_users: [a], account: A }}" if users else ""
        return f"accounts {{ A {{ users: [ {{user: a, password: p}} ] }} }}\nauthorization {{ {rules} }}"

    without, with_it = load_text(text()), load_text(text("a"))
    assert "auth_callout" in refusal(without, with_it)
    assert refusal(with_it, without) == ""


def test_the_report_names_what_changed() -> None:
    old, new = load_text("max_payload: 5"), load_text("max_payload: 6\nauthorization { token: s3cret }")
    assert report(old, new) == ["authorization", "max_payload = 6 (was 5)"]
    assert report(old, old) == []


def test_only_options_are_listed() -> None:
    assert {field.name for field in dataclasses.fields(Config)} >= RELOADABLE
