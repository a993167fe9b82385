"""What the publishers of an account have learned from each other: the memory behind the fast ways.

Nothing is decided here. A `Route` is what the account found out about one subject; a prepared line stands on a route,
and the account clears both the moment interest changes. Publishers share one `Known` if the same rules hold for them:
the same largest payload, headers or none.
"""

import re
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from leafnode.route.message import Sink, Subscription
from leafnode.route.rows import ROW_PAYLOAD_MAX, Rows, row_of_line
from leafnode.wire.control import CRLF, SIZE_DIGITS_MAX

LINES_MAX = 2048  # whole control lines that are prepared; about 0.5 KB each
SEEN_MAX = 4096  # lines seen once: only what comes again is worth preparing
SIZES_MAX = 1024  # different payload sizes
LINE_ROWS_MAX = 64  # lines with a regular expression of their own; compiling one costs as much as 500 messages
COMPILE_WORTH = 32  # frames handled one by one that cost as much as compiling one size into the rows
PATIENCE = 64  # refusals for each entry after which what is remembered is no longer what comes

Key = TypeVar("Key")
Value = TypeVar("Value")
Appender = Callable[[bytes], None]
Targets = list[tuple[Appender, bytes]]
"""For each receiver: append to the output of its connection, and what its copies begin with."""


class FastSink(Sink, Protocol):
    """A client connection: what a route may write to without asking."""

    out: list[bytes]
    takes_headers: bool
    congested: bool
    client_id: int
    out_msgs: int
    out_bytes: int

    def wake(self) -> None: ...


class Route:
    """Where messages of one subject go, as long as interest stays as it is.

    `targets` begin with `MSG subject sid `; None when each message needs the complete way. A route of all subjects
    below a stem has ` sid ` there instead: the subject differs from message to message. `stream`: who takes the
    messages of this subject if that is one stream and nobody else.
    """

    __slots__ = ("all_differ", "all_take_headers", "messages", "prepared", "size", "stream", "subs", "targets")

    def __init__(self, subs: tuple[Subscription, ...], targets: Targets | None) -> None:
        self.subs = subs
        self.stream: Subscription | None = None
        self.targets = targets
        self.prepared = False  # lines stand on it
        self.messages = 0  # delivered but not yet counted, and their payload bytes
        self.size = 0
        self.all_differ = len({id(sub.sink) for sub in subs}) == len(subs)  # else copies for one connection alternate
        self.all_take_headers = targets is not None and all(sub.sink.takes_headers for sub in subs)  # type: ignore[attr-defined]

    def count(self) -> "list[FastSink]":
        """Add what was delivered to the receivers' counters; returns the receivers."""
        messages, size = self.messages, self.size
        self.messages = self.size = 0
        sinks: list[FastSink] = []
        for sub in self.subs:
            sub.delivered += messages
            sink: FastSink = sub.sink  # type: ignore[assignment]
            sink.out_msgs += messages
            sink.out_bytes += size
            sinks.append(sink)
        return sinks


def route_of_subject(subject: bytes, subs: tuple[Subscription, ...], *, simple: bool) -> Route:
    """`simple`: all are plain subscriptions of clients, and nothing has to be asked for a message."""
    if not simple:
        return Route(subs, None)
    return Route(subs, [(sub.sink.out.append, b"MSG %b %b " % (subject, sub.sid)) for sub in subs])  # type: ignore[attr-defined]


def route_of_stem(subs: tuple[Subscription, ...]) -> Route:
    return Route(subs, [(sub.sink.out.append, b" %b " % sub.sid) for sub in subs])  # type: ignore[attr-defined]


class Line(NamedTuple):
    """A prepared control line: who gets its message, with the lines that go out."""

    size: int  # of the payload with its line end
    route: Route
    targets: Targets
    payload: int  # size without the line end


class Remembered(dict[Key, Value]):
    """A dict of limited size. Full, it takes nothing new; full for long, it starts afresh."""

    __slots__ = ("most", "refused")

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.refused = 0

    def admit(self, key: Key, value: Value) -> None:
        if len(self) < self.most:
            self[key] = value
        elif self.is_outdated():
            self.clear()
            self[key] = value

    def is_outdated(self) -> bool:
        """To be asked for each entry that finds no room: whether what is in here is no longer what comes."""
        self.refused = (self.refused + 1) % (PATIENCE * self.most)
        return not self.refused


class Known:
    """What was learned of the lines that publishers under the same rules send."""

    def __init__(self, max_payload: int, *, takes_headers: bool) -> None:
        """`max_payload` in bytes; -1: any."""
        self.lines: Remembered[bytes, Line] = Remembered(LINES_MAX)
        self.sizes: Remembered[bytes, int] = Remembered(SIZES_MAX)  # as written, with line end -> bytes, with line end
        self.takes_headers = takes_headers
        self._max_payload = max_payload
        self._seen: set[bytes] = set()
        self._line_rows: dict[bytes, re.Pattern[bytes]] = {}
        self._rows: Rows | None = None
        self._compiled = 0  # sizes that the rows know
        self._singles = 0  # frames handled one by one since

    def learn_size(self, number: bytes) -> int:
        """The bytes that follow a line that ends with this number, with their line end; 0: the complete way must
        say what it thinks of it."""
        digits = number[:-2]
        if not digits.isdigit() or number[-2:] != CRLF or len(digits) > SIZE_DIGITS_MAX:
            return 0
        if digits[:1] == b"0" and digits != b"0":
            return 0  # goes out without its zeros
        payload = int(digits)
        if payload > self._max_payload >= 0:
            return 0
        self.sizes.admit(number, payload + 2)
        return payload + 2

    def prepare(self, line: bytes, route: Route, payload: int, header_size: int = -1) -> None:
        """Remember a line without a reply that comes for the second time."""
        if line not in self._seen:
            if len(self._seen) >= SEEN_MAX:
                self._seen.clear()
            self._seen.add(line)
            return
        if header_size < 0:
            kind, tail = b"", b"%d\r\n" % payload
        else:
            kind, tail = b"H", b"%d %d\r\n" % (header_size, payload)
        route.prepared = True
        targets = [(append, kind + head + tail) for append, head in route.targets or ()]
        self.lines.admit(line, Line(payload + 2, route, targets, payload))

    def row_of_line(self, line: bytes, payload: int) -> re.Pattern[bytes] | None:
        """What eats frames with this line; None when enough lines have one."""
        row = self._line_rows.get(line)
        if row is None and len(self._line_rows) < LINE_ROWS_MAX:
            row = self._line_rows[line] = row_of_line(line, payload)
        return row

    def rows(self, singles: int) -> Rows | None:
        """What eats frames of different lines; None before it is worth it. `singles`: frames handled one by one
        since the last call."""
        self._singles += singles
        if len(self.sizes) != self._compiled and self._singles >= COMPILE_WORTH * len(self.sizes):
            self._compiled = len(self.sizes)
            self._singles = 0
            self._rows = Rows(number[:-2] for number, size in self.sizes.items() if size <= ROW_PAYLOAD_MAX)
        return self._rows
