"""A message on its way through a lane, what is left of one that is gone, and what a lane needs of its flow."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from leafnode.stream.stored import Stored


class Entry:
    """One message from reading to settling."""

    __slots__ = ("hub_seq", "is_refused", "reason", "sent", "stored", "subject", "tries", "weight")

    def __init__(self, stored: Stored, subject: bytes, weight: int, reason: str = "") -> None:
        self.stored = stored
        self.subject = subject  # at the hub
        self.weight = weight  # bytes, as the local stream counts them
        self.is_refused = False  # the hub will not have it
        self.reason = reason  # how it ended: ARRIVED, COUNTED, or why it did not go; empty: it has not
        self.sent = 0  # in the order of sending; 0: it waits
        self.tries = 0
        self.hub_seq = 0

    @property
    def size(self) -> int:
        return len(self.stored.headers) + len(self.stored.payload)


ARRIVED = "arrived"
COUNTED = "counted"  # it did not go, and is in a tally already


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a lane needs of the flow that it belongs to."""

    instance: str
    """Who we are, at the hub."""
    server: str
    new_id: Callable[[], str]
    keep: Callable[[], None]
    """Ask for the memory to be stored before anything more is sent."""
    keep_soon: Callable[[], None]
    """Ask for it to be stored now."""
    settled: Callable[[Entry], None]
    """Told of each message that was read, in order."""
    lost: Callable[[bytes, str, int, int, int], None]
    """Subject, reason, sequence, time and size of a message that is gone before it was read or sent."""


class Orphan(NamedTuple):
    """What is left of a message that may be at the hub and left the local stream meanwhile."""

    subject: str
    size: int
    time: int
    reason: str


class Orphans:
    """All of one lane, by sequence; each is a row of its own in the store."""

    def __init__(self) -> None:
        self._kept: dict[int, Orphan] = {}
        self._changed: set[int] = set()

    def load(self, rows: Mapping[int, bytes]) -> None:
        self._kept = {seq: Orphan(*json.loads(row)) for seq, row in rows.items()}

    def add(self, seq: int, orphan: Orphan) -> None:
        self._kept[seq] = orphan
        self._changed.add(seq)

    def forget(self, seq: int) -> None:
        if self._kept.pop(seq, None) is not None:
            self._changed.add(seq)

    def clear(self) -> None:
        self._changed.update(self._kept)
        self._kept.clear()

    def all(self) -> list[tuple[int, Orphan]]:
        return list(self._kept.items())

    def take_rows(self) -> Iterator[tuple[int, bytes | None]]:
        """Those that changed; None: it is none any more."""
        for seq in self._changed:
            orphan = self._kept.get(seq)
            yield seq, json.dumps(orphan).encode() if orphan is not None else None
        self._changed.clear()
