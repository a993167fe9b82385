"""Which messages of a sender go to the hub, and what is said about senders that come, fall silent and go.

A message goes when its sender is seen for the first time, and from then on when a rule of its class says so. Time is
the time that the stream gave the message, so that what waited for a month is sampled as it would have been at once, and
reading a message again gives the same answer. Silence is measured by the clock.

Senders are kept in rows of their own (`take_rows`), with the positions: a restart forgets nothing.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from leafnode.forward.plan import Class, fnv
from leafnode.stream import times
from leafnode.stream.stored import Stored
from leafnode.wire import headers as header_block

SENDERS_MAX = 20_000  # of one class, about 400 bytes each; the one not seen for longest is forgotten
DIGEST_BYTES = 8
SPLAY_STEPS = 1000
LOOKS_PER_SPAN = 4  # silence is noticed late by a quarter of its span at most
LOOK_MIN_NS, LOOK_MAX_NS = 50 * times.MILLISECOND, 40 * times.SECOND  # between looks at all senders
LATE_NS = times.SECOND  # after its end, a window is open for messages that are still being stored


class Sender:
    """What is known of one sender."""

    KEPT = (
        "first_ns",
        "seen_ns",
        "sent_ns",
        "size",
        "digest",
        "value",
        "is_silent",
        "window_ns",
        "count",
        "low",
        "high",
        "sum",
    )
    __slots__ = KEPT

    def __init__(self, now_ns: int) -> None:
        self.first_ns = self.seen_ns = now_ns
        self.sent_ns = 0
        self.size = 0
        self.digest = ""
        self.value: float | None = None
        self.is_silent = False
        self.window_ns = 0  # when the window of its aggregate began; 0: none is open
        self.count = 0
        self.low = self.high = self.sum = 0.0

    def to_row(self) -> bytes:
        return json.dumps([getattr(self, name) for name in self.KEPT], separators=(",", ":")).encode()

    @classmethod
    def from_row(cls, row: bytes) -> "Sender":
        sender = cls(0)
        for name, value in zip(cls.KEPT, json.loads(row), strict=False):
            setattr(sender, name, value)
        return sender


class Event(NamedTuple):
    """Something to be said about a sender."""

    kind: str
    """`new`, `timeout`, `recover`, `expire` or `aggregate`."""
    key: str
    subject: bytes
    body: dict[str, Any]


class Sampler:
    """Of one class."""

    def __init__(self, plan: Class, rows: Mapping[str, bytes]) -> None:
        """`rows`: senders by key."""
        self._plan = plan
        self._rules = plan.sampling
        self.senders: OrderedDict[str, Sender] = OrderedDict()
        for key, sender in sorted(((k, Sender.from_row(v)) for k, v in rows.items()), key=lambda pair: pair[1].seen_ns):
            self.senders[key] = sender
        self._dirty: set[str] = set()
        self.events: list[Event] = []
        self._next_look_ns = 0

    @property
    def is_on(self) -> bool:
        return self._rules.samples or bool(self._plan.watch.timeout_ns or self._plan.watch.expire_ns)

    @property
    def samples(self) -> bool:
        """Something may be left out."""
        return self._rules.samples

    # messages ----------------------------------------------------------------------------------------------------

    def judge(self, stored: Stored, *, arrived: bool = False) -> str:
        """Why a message does not go; empty: it does. `arrived`: it is at the hub already, from before a crash."""
        body = _Body(stored.payload)
        key = self._key(stored, body)
        if key is None:
            return ""  # it names no sender: never left out
        sender = self._meet(key, stored)
        reason = "" if arrived else self._reason(key, sender, stored, body)
        if self._rules.aggregate_ns:
            self._gather(key, sender, stored, body)
        if not reason:
            sender.sent_ns, sender.size = stored.time, len(stored.payload)
            if self._rules.content_change:
                sender.digest = _digest(stored.payload)
            number = body.number(self._rules.value)
            sender.value = number if number is not None else sender.value
        self._dirty.add(key)
        return reason

    def _key(self, stored: Stored, body: "_Body") -> str | None:
        rules = self._rules
        if rules.field:
            found = body.at(rules.field)
            return None if found is None else found if isinstance(found, str) else json.dumps(found)
        if rules.header:
            value = header_block.get(stored.headers, rules.header.encode()) if stored.headers else None
            return value.decode(errors="replace") if value is not None else None
        if rules.token > 0:
            tokens = stored.subject.split(b".")
            return tokens[rules.token - 1].decode(errors="replace") if rules.token <= len(tokens) else None
        return stored.subject.decode(errors="replace")

    def _meet(self, key: str, stored: Stored) -> Sender:
        sender = self.senders.get(key)
        if sender is None:
            while len(self.senders) >= SENDERS_MAX:
                gone, _ = self.senders.popitem(last=False)
                self._dirty.add(gone)
            sender = self.senders[key] = Sender(stored.time)
            self._tell("new", key, sender, stored.subject, stored.time)
        else:
            self.senders.move_to_end(key)
            if sender.is_silent:
                sender.is_silent = False
                self._tell("recover", key, sender, stored.subject, stored.time)
        sender.seen_ns = max(sender.seen_ns, stored.time)
        return sender

    def _reason(self, key: str, sender: Sender, stored: Stored, body: "_Body") -> str:
        """Empty when it goes."""
        rules = self._rules
        if not rules.samples or not sender.sent_ns or self._is_forced(stored, body):
            return ""
        if rules.interval_ns and stored.time - sender.sent_ns >= self._interval(key):
            return ""
        if rules.size_change and abs(len(stored.payload) - sender.size) >= rules.size_change:
            return ""
        if rules.content_change and _digest(stored.payload) != sender.digest:
            return ""
        if rules.deadband:
            number = body.number(rules.value)
            if number is None or sender.value is None or abs(number - sender.value) >= rules.deadband:
                return ""
        return "aggregated" if rules.aggregate_ns else "sampled"

    def _interval(self, key: str) -> int:
        """The class's, with the sender's own splay."""
        rules = self._rules
        step = fnv(key.encode()) % SPLAY_STEPS / SPLAY_STEPS
        return int(rules.interval_ns * (1 + rules.splay * (step - 0.5)))

    def _is_forced(self, stored: Stored, body: "_Body") -> bool:
        rules = self._rules
        if rules.force and body.at(rules.force) is True:
            return True
        if rules.force_header and stored.headers:
            value = header_block.get(stored.headers, rules.force_header.encode())
            return value is not None and value.lower() not in (b"", b"false", b"0", b"no")
        return False

    # aggregates --------------------------------------------------------------------------------------------------

    def _gather(self, key: str, sender: Sender, stored: Stored, body: "_Body") -> None:
        number = body.number(self._rules.value)
        if sender.window_ns and stored.time >= sender.window_ns + self._rules.aggregate_ns:
            self._close_window(key, sender, stored.subject)
        if number is None:
            return
        if not sender.window_ns:
            sender.window_ns = stored.time
            sender.count, sender.low, sender.high, sender.sum = 0, number, number, 0.0
        sender.count += 1
        sender.low, sender.high, sender.sum = min(sender.low, number), max(sender.high, number), sender.sum + number

    def _close_window(self, key: str, sender: Sender, subject: bytes) -> None:
        if sender.count:
            body = {
                "v": 1,
                "type": "aggregate",
                "sender": key,
                "from": times.to_text(sender.window_ns),
                "to": times.to_text(sender.window_ns + self._rules.aggregate_ns),
                "count": sender.count,
                "min": sender.low,
                "max": sender.high,
                "mean": sender.sum / sender.count,
            }
            self.events.append(Event("aggregate", key, subject, body))
        sender.window_ns = sender.count = 0
        self._dirty.add(key)

    # silence -----------------------------------------------------------------------------------------------------

    def look(self, now_ns: int) -> None:
        """Who has fallen silent by `now_ns`; whose window is over."""
        watch = self._plan.watch
        if now_ns < self._next_look_ns or not self.is_on:
            return
        spans = (watch.timeout_ns, watch.expire_ns, self._rules.aggregate_ns, LOOK_MAX_NS)
        self._next_look_ns = now_ns + max(min(span for span in spans if span) // LOOKS_PER_SPAN, LOOK_MIN_NS)
        for key, sender in list(self.senders.items()):
            subject = key.encode()
            if sender.window_ns and now_ns >= sender.window_ns + self._rules.aggregate_ns + LATE_NS:
                self._close_window(key, sender, subject)
            age = now_ns - sender.seen_ns
            if watch.timeout_ns and age >= watch.timeout_ns and not sender.is_silent:
                sender.is_silent = True
                self._dirty.add(key)
                self._tell("timeout", key, sender, subject, now_ns)
            if watch.expire_ns and age >= watch.expire_ns:
                del self.senders[key]
                self._dirty.add(key)
                self._tell("expire", key, sender, subject, now_ns)

    def _tell(self, kind: str, key: str, sender: Sender, subject: bytes, now_ns: int) -> None:
        watch = self._plan.watch
        if not (watch.timeout_ns or watch.expire_ns):
            return
        body = {
            "v": 1,
            "type": f"advisory.{kind}",
            "class": self._plan.name,
            "sender": key,
            "first_seen": times.to_text(sender.first_ns),
            "last_seen": times.to_text(sender.seen_ns),
            "at": times.to_text(now_ns),
        }
        self.events.append(Event(kind, key, subject, body))

    # memory ------------------------------------------------------------------------------------------------------

    @property
    def changed(self) -> bool:
        return bool(self._dirty or self.events)

    def take_events(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def take_rows(self) -> Iterator[tuple[str, bytes | None]]:
        """Senders that changed; None: forgotten."""
        for key in self._dirty:
            sender = self.senders.get(key)
            yield key, sender.to_row() if sender is not None else None
        self._dirty.clear()


class _Body:
    """A payload that is read as JSON when somebody asks."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._value: Any = None
        self._read = False

    def at(self, path: str) -> Any:
        """What a path of names and list places leads to; None: nowhere."""
        if not self._read:
            self._read = True
            try:
                self._value = json.loads(self._payload)
            except (ValueError, RecursionError):
                self._value = None
        value = self._value
        for name in path.split("."):
            if isinstance(value, dict):
                value = value.get(name)
            elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
                value = value[int(name)]
            else:
                return None
        return value

    def number(self, path: str) -> float | None:
        """A number at a path; of a body that is a bare number, the path may be empty."""
        value = self.at(path) if path else self._bare()
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def _bare(self) -> Any:
        self.at("")
        return self._value


def _digest(payload: bytes) -> str:
    return hashlib.blake2b(payload, digest_size=DIGEST_BYTES).hexdigest()
