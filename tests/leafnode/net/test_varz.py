"""/varz has the keys of nats-server, in its order."""

import json
import urllib.request
from pathlib import Path

from leafnode.config.load import load_text
from leafnode.net.varz import JetStreamFigures, Snapshot, rfc3339, uptime, varz
from tests.support.ports import free_port
from tests.support.servers import stock_hub

EXTRA = {"sync_always"}  # said by nats-server, too, when it syncs always as we do


def settings(folder: Path, leaf_port: int, http_port: int) -> str:
    return f"""
    http: "127.0.0.1:{http_port}"
    server_tags: [a, b]
    jetstream {{ store_dir: "{folder / "js"}", domain: leaf }}
    leafnodes {{
      listen: "127.0.0.1:{leaf_port}"
      remotes: [ {{ url: "nats://u:p@127.0.0.1:1", deny_exports: ["a"], deny_imports: "b" }} ]
    }}"""


def keys(value: object, prefix: str = "") -> list[str]:
    """Every key path, in order; what differs by contents is left out."""
    if not isinstance(value, dict) or prefix in ("feature_flags.", "http_req_stats.", "jetstream.limits."):
        return []
    found = []
    for key, inner in value.items():
        if key not in EXTRA:
            found += [prefix + key, *keys(inner, f"{prefix}{key}.")]
    return found


def snapshot(config_text: str, **more: object) -> Snapshot:
    config = load_text(config_text)
    base = {
        "config": config, "server_id": "N", "server_name": "n", "version": "2.15.1", "git_commit": "x", "go": "python3",
        "port": 4222, "start_ns": 0, "now_ns": 90_000_000_000, "config_loaded_ns": 0,
    }  # fmt: skip
    return Snapshot(**(base | more))  # type: ignore[arg-type]


def test_same_keys_in_the_same_order_as_nats_server(tmp_path: Path) -> None:
    http_port = free_port()
    text = settings(tmp_path, free_port(), http_port)
    with stock_hub(tmp_path, config=text), urllib.request.urlopen(f"http://127.0.0.1:{http_port}/varz") as answer:
        reference = json.load(answer)
    ours = varz(snapshot(text, jetstream=JetStreamFigures()))
    assert keys(ours) == keys(reference)
    assert ours["leaf"]["remotes"][0]["deny"] == {"exports": ["a"], "imports": ["b"]}
    for key in ("max_payload", "ping_interval", "write_deadline", "auth_timeout", "max_pending", "http_host", "tags"):
        assert ours[key] == reference[key]


def test_secrets_of_remotes_are_not_shown() -> None:
    shown = json.dumps(varz(snapshot('leafnodes { remotes: [ { url: "nats://user:s3cret@h" } ] }')))
    assert "s3cret" not in shown
    assert "user" not in shown


def test_groups_that_are_off_are_empty() -> None:
    answer = varz(snapshot("port: 4222"))
    assert [answer[group] for group in ("cluster", "gateway", "leaf", "mqtt", "websocket", "jetstream")] == [{}] * 6


def test_times() -> None:
    assert rfc3339(1795173213301878972) == "2026-11-20T11:13:33.301878972Z"
    assert rfc3339(1795173213_000000000) == "2026-11-20T11:13:33Z"
    assert rfc3339(1795173213_500000000) == "2026-11-20T11:13:33.5Z"
    assert [uptime(n) for n in (0, 13, 123, 3600, 93784, 31536001)] == [
        "0s", "13s", "2m3s", "1h0m0s", "1d2h3m4s", "1y0d0h0m1s",
    ]  # fmt: skip
