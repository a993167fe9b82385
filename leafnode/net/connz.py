"""/connz: which connections, in which order, how many of them. Pure; sources: spec monitoring-and-ops 1 and 1.2."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

from leafnode.net.monitor import BadRequest
from leafnode.net.questions import LIMIT, Connz
from leafnode.net.sockets import Row
from leafnode.net.varz import rfc3339
from leafnode.route.subject import matches

FOR_EVER_NS = 1 << 63  # later than any end: what is open outlasts what is closed

SORTS: dict[str, tuple[Callable[[Row], Any], bool]] = {  # name -> key, descending
    "cid": (lambda row: row.cid, False),
    "start": (lambda row: row.start_ns, False),
    "subs": (lambda row: row.subscriptions, True),
    "pending": (lambda row: row.pending_bytes, True),
    "msgs_to": (lambda row: row.out_msgs, True),
    "msgs_from": (lambda row: row.in_msgs, True),
    "bytes_to": (lambda row: row.out_bytes, True),
    "bytes_from": (lambda row: row.in_bytes, True),
    "last": (lambda row: row.last_activity_ns, True),
    "idle": (lambda row: row.last_activity_ns, False),
    "uptime": (lambda row: row.start_ns - row.stop_ns if row.stop_ns else row.start_ns - FOR_EVER_NS, False),
    "stop": (lambda row: row.stop_ns, True),
    "reason": (lambda row: row.reason, False),
    "rtt": (lambda row: row.rtt_ns, True),
}
OF_CLOSED = ("stop", "reason")


def connz(server_id: str, now_ns: int, asked: Connz, live: Iterable[Row], gone: Iterable[Row]) -> dict[str, Any]:
    """The whole answer. `live` rows carry their subscriptions when the question needs them (`needs_subs`).

    Raises:
        BadRequest: an option makes no sense.
    """
    rows = _considered(asked, live, gone)
    chosen = [row for row in rows if _is_meant(asked, row)]
    limit = asked.limit if asked.limit > 0 else LIMIT
    offset = max(asked.offset, 0)
    if asked.cid:
        limit, offset = 1, 0
    page = chosen[offset : offset + limit]
    subs: Literal["", "list", "detail"] = "detail" if asked.subs_detail else "list" if asked.subs else ""
    return {
        "server_id": server_id,
        "now": rfc3339(now_ns),
        "num_connections": len(page),
        "total": len(rows),
        "offset": offset,
        "limit": limit,
        "connections": [row.shown(now_ns, auth=asked.auth, subs=subs) for row in page],
    }


def needs_subs(asked: Connz) -> bool:
    return asked.subs or asked.subs_detail or bool(asked.filter_subject)


def _considered(asked: Connz, live: Iterable[Row], gone: Iterable[Row]) -> list[Row]:
    """In order, of the account that was asked for."""
    if asked.sort not in SORTS:
        raise BadRequest(f"invalid sorting option: {asked.sort}")
    if asked.sort in OF_CLOSED and asked.state != "closed":
        raise BadRequest(f"sort by {asked.sort} only valid on closed connections")
    rows = [] if asked.state == "closed" else list(live)
    if asked.state != "open":
        rows += gone
    if asked.acc:
        rows = [row for row in rows if row.account == asked.acc]
    key, descending = SORTS[asked.sort]
    return sorted(rows, key=key, reverse=descending)


def _is_meant(asked: Connz, row: Row) -> bool:
    if asked.cid and row.cid != asked.cid:
        return False
    if asked.user and row.user != asked.user:
        return False
    if asked.mqtt_client:
        return False  # nobody here speaks MQTT
    if asked.filter_subject:
        wanted = asked.filter_subject.encode()
        return any(matches(sub.subject, wanted) or sub.subject == wanted for sub in row.subs)
    return True
