"""A standing query on one device: of what it finds, only the differences are told, and only those that hold. Pure.

A change (a row that appears, goes, or, with a key column, becomes another) is a candidate first. It is told when it
held for the watch's `hold_s`; when it went back before that, or turned into another change, it is counted as damped.
What was told is remembered, so that after a restart a row that flaps has to hold as before. A report has a number;
a full state is sent where a reader could not know better, so that he can always rebuild what the device sees.
"""

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import Any, Final

from agent.errors import PayloadError, QueryError
from agent.payloads import Watch, WatchReport
from leafnode.base.nearest import hint

UNSENT_REPORTS: Final = 64  # of a watch, remembered over a restart without a broker: an hour of a change a minute
UNSENT_BYTES: Final = 64 * 1024  # of them, in the file
REPEAT_SECONDS: Final = 6 * 3600.0  # between full states: the stream of a busy hub keeps about a day

Row = tuple[Any, ...]
Rows = Mapping[Hashable, Row]


def keyed(columns: Sequence[str], rows: Iterable[Row], key: str = "") -> dict[Hashable, Row]:
    """Rows by what tells them apart; rows that are the same count once.

    Raises:
        QueryError: no such column, or two rows have the same key.
    """
    if not key:
        return {row: row for row in rows}
    wanted = key.lower()
    place = next((at for at, name in enumerate(columns) if name.lower() in (wanted, wanted.rpartition(".")[2])), None)
    if place is None:
        raise QueryError(f"the key {key!r} is not among the columns {', '.join(columns)}{hint(key, columns)}")
    found: dict[Hashable, Row] = {}
    for row in rows:
        if found.setdefault(row[place], row) != row:
            raise QueryError(f"{key!r} is no key: two rows have {row[place]!r}; choose another column, or none")
    return found


@dataclass(frozen=True, slots=True)
class Change:
    """Rows that came and went at one moment, and held since."""

    since: datetime
    added: tuple[Row, ...]
    removed: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    row: Row | None
    since: datetime
    clock: float


class Damper:
    """Compares rows with those that were told last. `told` is what a reader knows."""

    def __init__(self, hold_s: float, told: Rows) -> None:
        self.told: dict[Hashable, Row] = dict(told)
        self.damped = 0
        self._hold_s = hold_s
        self._candidates: dict[Hashable, _Candidate] = {}

    def take(self, rows: Rows, at: datetime, clock: float) -> list[Change]:
        """The changes that held, the oldest first; they count as told. `clock`: seconds that never go back."""
        due: dict[datetime, list[Hashable]] = {}
        for key in dict.fromkeys([*self.told, *rows, *self._candidates]):
            candidate = self._candidate(key, rows.get(key), at, clock)
            if candidate and clock - candidate.clock >= self._hold_s:
                due.setdefault(candidate.since, []).append(key)
        return [self._change(since, due[since]) for since in sorted(due)]

    def _candidate(self, key: Hashable, row: Row | None, at: datetime, clock: float) -> _Candidate | None:
        waiting = self._candidates.get(key)
        if waiting and waiting.row != row:
            self.damped += 1
            waiting = None
            del self._candidates[key]
        if row == self.told.get(key):
            return None
        if waiting is None:
            waiting = self._candidates[key] = _Candidate(row, at, clock)
        return waiting

    def _change(self, since: datetime, keys: Iterable[Hashable]) -> Change:
        added, removed = [], []
        for key in keys:
            row = self._candidates.pop(key).row
            before = self.told.pop(key, None)
            if before is not None:
                removed.append(before)
            if row is not None:
                added.append(row)
                self.told[key] = row
        return Change(since, tuple(added), tuple(removed))


@dataclass(frozen=True, slots=True)
class Memory:
    """What outlives the agent: the number of the last report, and what it had told by then.

    `unsent` are reports of which nobody said that a stream has them.
    """

    revision: int
    watch: Watch
    n: int
    columns: tuple[str, ...] = ()
    rows: tuple[Row, ...] | None = None
    unsent: tuple[WatchReport, ...] = ()

    def to_bytes(self) -> bytes:
        values = {
            "revision": self.revision,
            "watch": json.loads(self.watch.to_bytes()),
            "n": self.n,
            "columns": self.columns,
            "rows": self.rows,
            "unsent": [json.loads(report.to_bytes()) for report in self.unsent],
        }
        return json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")

    @classmethod
    def from_bytes(cls, data: bytes) -> "Memory | None":
        """None for what is none: it begins anew."""
        try:
            values = json.loads(data)
            rows = values["rows"]
            return cls(
                int(values["revision"]),
                Watch.from_bytes(json.dumps(values["watch"]).encode()),
                int(values["n"]),
                tuple(map(str, values["columns"])),
                None if rows is None else tuple(map(_row, rows)),
                tuple(WatchReport.from_bytes(json.dumps(each).encode()) for each in values["unsent"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError, PayloadError):
            return None


def _row(values: Iterable[Any]) -> Row:
    row = tuple(values)
    hash(row)  # TypeError for what can be no row: lists and objects
    return row


@dataclass(slots=True)
class Standing:
    """One watch on one device: from what it finds, the reports to send, in order."""

    device: str
    name: str
    revision: int
    watch: Watch
    memory: Memory | None = None
    _full: str = field(init=False, default="")
    _n: int = field(init=False, default=0)
    _columns: tuple[str, ...] = field(init=False, default=())
    _damper: Damper | None = field(init=False, default=None)
    _unsent: dict[int, WatchReport] = field(init=False, default_factory=dict)
    _failing_since: float | None = field(init=False, default=None)
    _failed: bool = field(init=False, default=False)
    _full_at: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._full = "registered"
        if self.memory is None:
            return
        self._n = self.memory.n
        same = (self.memory.revision, self.memory.watch) == (self.revision, self.watch)
        self._full = "restarted" if same else "changed"
        if same:
            self._unsent = {report.n: report for report in self.memory.unsent}
        if same and self.memory.rows is not None:
            self._columns = self.memory.columns
            self._restore(self.memory)

    def _restore(self, memory: Memory) -> None:
        try:
            told = keyed(memory.columns, memory.rows or (), self.watch.key)
        except QueryError:  # a file that somebody changed
            return
        self._damper = Damper(self.watch.hold_s, told)

    def again(self, reason: str) -> None:
        """Send the full state with the next rows: reports may have been lost."""
        self._full = self._full or reason

    def rows(self, columns: tuple[str, ...], rows: Iterable[Row], at: datetime, clock: float) -> list[WatchReport]:
        """What to tell when the query found these rows.

        Raises:
            QueryError: the key column does not tell them apart.
        """
        found = keyed(columns, rows, self.watch.key)
        if self._damper is None or columns != self._columns:
            self._full = self._full or "changed"
            self._damper = Damper(self.watch.hold_s, found)
            self._columns = columns
        changes = self._damper.take(found, at, clock)
        if self._failed:
            self._full = self._full or "recovered"
        self._failed, self._failing_since = False, None
        if not self._full and clock - self._full_at >= REPEAT_SECONDS:
            self._full = "repeated"
        if self._full:
            return [self._full_state(at, clock)]
        return [
            self._report(
                at,
                since=change.since if change.since != at else None,
                columns=columns,
                added=change.added,
                removed=change.removed,
                damped=self._count_damped(),
            )
            for change in changes
        ]

    def failed(self, error: str, at: datetime, clock: float) -> list[WatchReport]:
        """What to tell when the query could not be answered: the error once it holds, until it works again."""
        self._failing_since = clock if self._failing_since is None else self._failing_since
        if self._failed or clock - self._failing_since < self.watch.hold_s:
            return []
        self._failed = True
        return [self._report(at, error=error)]

    def ended(self, at: datetime) -> WatchReport:
        """What to tell when this device is no longer meant."""
        return self._report(at, full="ended", rows=())

    def unsent(self) -> list[WatchReport]:
        """Reports of which nobody said that a stream has them, the oldest first."""
        return list(self._unsent.values())

    def sent(self, n: int) -> None:
        """A stream has report number `n`."""
        self._unsent.pop(n, None)

    def remember(self) -> Memory:
        """What to keep for the next start. Of too many unsent reports the newest: the full state then mends the gap."""
        rows = tuple(self._damper.told.values()) if self._damper else None
        sizes = accumulate(len(report.to_bytes()) for report in reversed(self._unsent.values()))
        kept = sum(size <= UNSENT_BYTES for size in sizes)
        return Memory(
            self.revision, self.watch, self._n, self._columns, rows, tuple(self.unsent()[len(self._unsent) - kept :])
        )

    def _full_state(self, at: datetime, clock: float) -> WatchReport:
        assert self._damper
        reason, self._full = self._full, ""
        self._full_at = clock
        rows = tuple(self._damper.told.values())
        return self._report(at, full=reason, columns=self._columns, rows=rows, damped=self._count_damped())

    def _count_damped(self) -> int:
        assert self._damper
        count, self._damper.damped = self._damper.damped, 0
        return count

    def _report(self, at: datetime, **fields: Any) -> WatchReport:
        self._n += 1
        report = WatchReport(device=self.device, watch=self.name, revision=self.revision, n=self._n, at=at, **fields)
        self._unsent[report.n] = report
        if len(self._unsent) > UNSENT_REPORTS:
            del self._unsent[min(self._unsent)]
        return report
