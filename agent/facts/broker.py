"""The site's broker as facts, from its monitoring port (/varz, /leafz, /jsz): leafnode and nats-server answer alike."""

import http.client
import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from agent.facts.table import Table, many, single

ASK_SECONDS: Final = 2.0  # on this machine or its network
MAX_ANSWER: Final = 4 * 1024 * 1024  # bytes; some thousand streams
AGE_SECONDS: Final = 2.0

LEAFNODE: Final = {
    "version": "what the broker says",
    "uptime": "in its words: `3d4h`",
    "connections": "clients now",
    "subscriptions": "now",
    "in_msgs": "messages from clients since its start",
    "out_msgs": "messages to clients since its start",
    "slow_consumers": "clients closed because they did not read",
    "mem": "resident bytes",
    "links": "leaf links that stand",
    "link_rtt": "round trip of the first of them, in its words",
    "streams": "number",
    "messages": "stored, in all streams",
    "bytes": "stored, in all streams",
    "storage": "bytes of storage in use",
}
STREAM: Final = {
    "name": "stream",
    "account": "whose it is",
    "messages": "stored",
    "bytes": "stored",
    "first_seq": "oldest message",
    "last_seq": "newest message",
    "last_at": "when the newest came",
    "consumers": "number",
    "backlog": "messages that its slowest consumer has not had",
}


def tables(monitor: str) -> list[Table]:
    """`monitor` is the base address of the port, `http://127.0.0.1:8222`; empty: the tables say nothing."""
    about = "the site's broker; NULL without `[facts] monitor`"
    return [
        single("leafnode", lambda: leafnode(monitor), LEAFNODE, about, AGE_SECONDS),
        many("stream", lambda: streams(monitor), STREAM, "one stream of the site's broker", AGE_SECONDS),
    ]


def leafnode(monitor: str) -> dict[str, Any]:
    if not monitor:
        return {}
    varz, leafz, jsz = _get(monitor, "/varz"), _get(monitor, "/leafz"), _get(monitor, "/jsz")
    leafs = leafz.get("leafs") or []
    return {
        **{key: varz.get(key) for key in ("version", "uptime", "connections", "subscriptions", "in_msgs", "out_msgs")},
        "slow_consumers": varz.get("slow_consumers"),
        "mem": varz.get("mem"),
        "links": len(leafs),
        "link_rtt": leafs[0].get("rtt") if leafs else None,
        **{key: jsz.get(key) for key in ("streams", "messages", "bytes", "storage")},
    }


def streams(monitor: str) -> Iterator[dict[str, Any]]:
    if not monitor:
        return
    for account in _get(monitor, "/jsz?streams=true&consumers=true").get("account_details") or []:
        for stream in account.get("stream_detail") or []:
            state = stream.get("state", {})
            waiting = [consumer.get("num_pending", 0) for consumer in stream.get("consumer_detail") or []]
            yield {
                "name": stream.get("name"),
                "account": account.get("name"),
                **{key: state.get(key) for key in ("messages", "bytes", "first_seq", "last_seq")},
                "last_at": state.get("last_ts"),
                "consumers": state.get("consumer_count"),
                "backlog": max(waiting, default=None),
            }


def _get(monitor: str, path: str) -> dict[str, Any]:
    """Raises OSError when the broker is not there: the table is then without rows, or of NULL."""
    address = urlsplit(monitor)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.hostname or "127.0.0.1", address.port, timeout=ASK_SECONDS)
    try:
        connection.request("GET", path)
        found = json.loads(connection.getresponse().read(MAX_ANSWER))
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
    return found if isinstance(found, dict) else {}
