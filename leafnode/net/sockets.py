"""What the monitor shows of one connection, open or gone: the row of /connz, of events and of the ring of the gone.

A row is a copy: it stays as it was when the connection is long closed.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from leafnode.net.varz import rfc3339, uptime
from leafnode.route.message import Subscription

CLOSED_MAX = 10_000  # connections remembered after their end, about 0.7 KB each (nats-server)
NS_PER_S = 1_000_000_000
TRAFFIC = ("in_msgs", "in_bytes", "out_msgs", "out_bytes")

Kind = Literal["Client", "Leafnode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One connection."""

    cid: int
    kind: Kind = "Client"
    type: str = "nats"
    """How a client speaks: nats or websocket; empty for leaf links."""
    ip: str = ""
    port: int = 0
    start_ns: int
    last_activity_ns: int
    stop_ns: int = 0
    """0: still open."""
    reason: str = ""
    """Why it was closed."""
    rtt_ns: int = 0
    """0: not measured."""
    pending_bytes: int = 0
    in_msgs: int = 0
    in_bytes: int = 0
    out_msgs: int = 0
    out_bytes: int = 0
    subscriptions: int = 0
    name: str = ""
    lang: str = ""
    version: str = ""
    tls_version: str = ""
    tls_cipher: str = ""
    user: str = ""
    account: str = ""
    subs: tuple[Subscription, ...] = field(default=(), repr=False)
    """Empty unless asked for."""

    def shown(self, now_ns: int, *, auth: bool = False, subs: Literal["", "list", "detail"] = "") -> dict[str, Any]:
        """The object of /connz, with nats-server's keys in its order (spec monitoring-and-ops 1.2)."""
        until = self.stop_ns or now_ns
        answer: dict[str, Any] = {"cid": self.cid, "kind": self.kind}
        if self.type:
            answer["type"] = self.type
        answer |= {
            "ip": self.ip,
            "port": self.port,
            "start": rfc3339(self.start_ns),
            "last_activity": rfc3339(self.last_activity_ns),
        }
        if self.stop_ns:
            answer |= {"stop": rfc3339(self.stop_ns), "reason": self.reason}
        if self.rtt_ns:
            answer["rtt"] = go_duration(self.rtt_ns)
        answer |= {
            "uptime": uptime((until - self.start_ns) // NS_PER_S),
            "idle": uptime((until - self.last_activity_ns) // NS_PER_S),
            "pending_bytes": self.pending_bytes,
            "in_msgs": self.in_msgs,
            "out_msgs": self.out_msgs,
            "in_bytes": self.in_bytes,
            "out_bytes": self.out_bytes,
            "subscriptions": self.subscriptions,
        }
        words = {
            "name": self.name,
            "lang": self.lang,
            "version": self.version,
            "tls_version": self.tls_version,
            "tls_cipher_suite": self.tls_cipher,
        }
        answer |= {key: value for key, value in words.items() if value}
        if auth:
            answer |= {key: value for key, value in self._who().items() if value}
        if subs == "list" and self.subs:
            answer["subscriptions_list"] = [text(sub.subject) for sub in self.subs]
        elif subs == "detail" and self.subs:
            answer["subscriptions_list_detail"] = [sub_detail(sub, self.cid) for sub in self.subs]
        if auth and self.account:
            answer["name_tag"] = self.account
        return answer

    def _who(self) -> dict[str, str]:
        return {"authorized_user": self.user, "account": self.account}


def sub_detail(sub: Subscription, cid: int, account: str = "") -> dict[str, Any]:
    """One subscription as /connz and /subsz show it."""
    answer: dict[str, Any] = {"account": account, "account_tag": account} if account else {}
    answer["subject"] = text(sub.subject)
    if sub.queue:
        answer["qgroup"] = text(sub.queue)
    answer |= {"sid": text(sub.sid), "msgs": sub.delivered}
    if sub.max:
        answer["max"] = sub.max
    answer["cid"] = cid
    return answer


class Gone:
    """Connections that ended: the last ones in full, of the others what they moved, by account."""

    def __init__(self, remembers: int = CLOSED_MAX) -> None:
        self.rows: deque[Row] = deque(maxlen=remembers)
        self.moved: dict[str, Counter[str]] = {}

    def add(self, row: Row) -> None:
        self.rows.append(row)
        counted = self.moved.setdefault(row.account, Counter())
        counted.update({name: getattr(row, name) for name in TRAFFIC})
        if row.reason.startswith("Slow Consumer"):
            counted["slow_consumers"] += 1


class Mover(Protocol):
    """What counts its messages and their bytes."""

    in_msgs: int
    in_bytes: int
    out_msgs: int
    out_bytes: int


def by_account(gone: Mapping[str, Counter[str]], live: Iterable[tuple[str, Mover]]) -> dict[str, Counter[str]]:
    """Messages and bytes since the start by account; `live`: who is there, with its account."""
    sums = {name: Counter(counted) for name, counted in gone.items()}
    for account, mover in live:
        counted = sums.setdefault(account, Counter())
        counted["in_msgs"] += mover.in_msgs
        counted["in_bytes"] += mover.in_bytes
        counted["out_msgs"] += mover.out_msgs
        counted["out_bytes"] += mover.out_bytes
    return sums


def go_duration(nanoseconds: int) -> str:
    """`722µs`, `2.047508ms`, `1.5s`: a short time as Go prints it."""
    for unit, size in (("s", NS_PER_S), ("ms", 1_000_000), ("µs", 1000)):
        if nanoseconds >= size:
            whole, rest = divmod(nanoseconds, size)
            digits = f".{rest:0{len(str(size)) - 1}d}".rstrip("0").rstrip(".")
            return f"{whole}{digits}{unit}"
    return f"{nanoseconds}ns"


def text(words: bytes) -> str:
    return words.decode(errors="replace")
