"""What did not go, counted until a receipt of it is written: subject, reason, how many, how much, from where to where.

Each is a row, kept in one commit with the positions, so that each message is counted once: produced = delivered +
receipted + waiting.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from leafnode.stream import times

TALLIES_MAX = 1024  # subjects and reasons kept apart, about 150 bytes each; then they share one for each reason
REST = ">"


@dataclass(slots=True)
class Tally:
    """Messages of one subject that did not go for one reason."""

    count: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0
    first_time: int = 0
    last_time: int = 0

    def add(self, seq: int, time: int, size: int) -> None:
        if not self.count or seq < self.first_seq:
            self.first_seq, self.first_time = seq, time
        if not self.count or seq > self.last_seq:
            self.last_seq, self.last_time = seq, time
        self.count += 1
        self.bytes += size


class Tallies:
    """All of one forward."""

    def __init__(self, rows: Iterable[bytes] = ()) -> None:
        self._kept: dict[tuple[str, str], Tally] = {}
        self._changed: set[tuple[str, str]] = set()
        for subject, reason, *numbers in map(json.loads, rows):
            self._kept[subject, reason] = Tally(*numbers)

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, subject: bytes, reason: str, seq: int, time: int, size: int) -> None:
        """One message; `size` is its headers and body."""
        key = (subject.decode(errors="replace"), reason)
        if key not in self._kept and len(self._kept) >= TALLIES_MAX:
            key = (REST, reason)
        self._kept.setdefault(key, Tally()).add(seq, time, size)
        self._changed.add(key)

    def add_many(self, reason: str, count: int, size: int, first_seq: int, last_seq: int) -> None:
        """Messages that are not known one by one."""
        tally = self._kept.setdefault((REST, reason), Tally())
        self._changed.add((REST, reason))
        first = min(tally.first_seq, first_seq) if tally.count else first_seq
        tally.count, tally.bytes = tally.count + count, tally.bytes + size
        tally.first_seq, tally.last_seq = first, max(tally.last_seq, last_seq)

    def take_rows(self) -> Iterator[tuple[str, bytes | None]]:
        """Those that changed, by a key of their own; None: it is in a receipt."""
        for subject, reason in self._changed:
            tally = self._kept.get((subject, reason))
            row = None
            if tally is not None:
                row = json.dumps([subject, reason, *(getattr(tally, name) for name in tally.__slots__)]).encode()
            yield f"{reason}:{subject}", row
        self._changed.clear()

    def total(self) -> int:
        """Messages counted and not yet in a receipt."""
        return sum(tally.count for tally in self._kept.values())

    def take_receipts(self, forward: str, stream: str) -> list[bytes]:
        """A receipt for each, and none are left."""
        receipts = [_receipt(forward, stream, *key, tally) for key, tally in self._kept.items()]
        self._changed.update(self._kept)
        self._kept.clear()
        return receipts


def _receipt(forward: str, stream: str, subject: str, reason: str, tally: Tally) -> bytes:
    body = {
        "v": 1,
        "type": "receipt",
        "forward": forward,
        "stream": stream,
        "subject": subject,
        "reason": reason,
        "count": tally.count,
        "bytes": tally.bytes,
        "first_seq": tally.first_seq,
        "last_seq": tally.last_seq,
    }
    if tally.first_time:
        body |= {"first_time": times.to_text(tally.first_time), "last_time": times.to_text(tally.last_time)}
    return json.dumps(body, separators=(",", ":")).encode()
