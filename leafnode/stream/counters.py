"""Counters (ADR-49): each message of a subject carries the sum of all increments so far.

A publish has `Nats-Incr: +5` and no body; what is stored has the same header and the body `{"val":"12"}`. Counters that
are sourced from other streams merge: `Nats-Counter-Sources` keeps the last value seen of each source and subject, and
only the difference to it is added, so that nothing counts twice whatever is sent again or left out.

The last values are kept in memory for the newest subjects only; others are looked up when they are counted again.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from leafnode.stream import faults, schema
from leafnode.stream.contents import Subject
from leafnode.stream.intake import Wishes
from leafnode.stream.lookups import NeedsLookUp
from leafnode.stream.stored import Stored
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream

KNOWN_MAX = 4096  # subjects whose last value is remembered, some 300 bytes each
DIGITS_MAX = 4000  # of an increment or a value: beyond, converting would hold up the loop
SOURCE_FIELDS = 5  # of Nats-Stream-Source: stream, sequence, filter, destination, subject
INCREMENT, SOURCES, SOURCE = b"Nats-Incr", b"Nats-Counter-Sources", b"Nats-Stream-Source"
_INTEGER = re.compile(rb"[+-]?[0-9]{1,%d}" % DIGITS_MAX)
Sources = dict[str, dict[str, str]]  # by stream and subject there: the last value


class Count(NamedTuple):
    """A counter after one message."""

    total: int
    sources: Sources
    is_broken: bool = False  # the message is none of a counter


class Counted(NamedTuple):
    """A message with its sum, and the counter after it."""

    headers: bytes
    payload: bytes
    after: Count


ZERO = Count(0, {})
BROKEN = Count(0, {}, is_broken=True)


def increment(wishes: Wishes | None) -> int | None:
    """What a publish adds; None if it says nothing.

    Raises:
        ApiError: 10171, not an integer.
    """
    value = wishes.get(INCREMENT) if wishes is not None else b""
    if not value:
        return None
    if not _INTEGER.fullmatch(value):
        raise faults.fault(faults.COUNTER_INVALID)
    return int(value)


def add(count: Count, subject: bytes, headers: bytes, payload: bytes, amount: int) -> Counted:
    """One more message on a counter.

    Raises:
        ApiError: 10172, the last message or the one that is sourced is none of a counter.
    """
    if count.is_broken:
        raise faults.fault(faults.COUNTER_BROKEN)
    sources = count.sources
    origin = header_block.get(headers, SOURCE)
    if origin:
        sourced = _value(payload)
        if sourced is None:
            raise faults.fault(faults.COUNTER_BROKEN)
        fields = origin.decode(errors="replace").split(" ")
        there = fields[SOURCE_FIELDS - 1] if len(fields) >= SOURCE_FIELDS else subject.decode(errors="replace")
        of_stream = sources.get(fields[0], {})
        amount = sourced - _integer(of_stream.get(there, ""))
        sources = {**sources, fields[0]: {**of_stream, there: str(sourced)}}
        headers = header_block.with_value(headers, INCREMENT, b"%d" % amount)
    total = count.total + amount
    if sources:
        text = json.dumps(sources, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
        headers = header_block.with_value(headers, SOURCES, text.encode())
    return Counted(headers, b'{"val":"%d"}' % total, Count(total, sources))


def read(stored: Stored) -> Count:
    """The counter as its newest message says."""
    total = _value(stored.payload)
    if total is None:
        return BROKEN
    text = header_block.get(stored.headers, SOURCES)
    try:
        sources = _read_sources(json.loads(text)) if text else {}
    except (ValueError, RecursionError):
        return BROKEN
    return Count(total, sources)


def _read_sources(value: object) -> Sources:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return {stream: schema.strings_by_name(values) for stream, values in value.items()}


def _value(payload: bytes) -> int | None:
    """`{"val":"12"}`; None if it is not of that shape."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("val", ""), str):
        return None
    return _integer(value.get("val", ""))


def _integer(text: str) -> int:
    raw = text.encode(errors="replace")
    return int(raw) if _INTEGER.fullmatch(raw) else 0


class Counters:
    """The last values of one stream."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream
        self._known: OrderedDict[bytes, tuple[int, Count]] = OrderedDict()  # by subject: sequence, value

    def last(self, subject: bytes) -> Count:
        """A counter as it is now.

        Raises:
            NeedsLookUp: its newest message is not in memory.
        """
        entry = self._stream.contents.subjects.get(subject)
        if entry is None:
            return ZERO
        known = self._known.get(subject)
        if known is not None and known[0] == entry.last_seq:
            return known[1]
        raise NeedsLookUp(partial(self._look_up, entry))

    def keep(self, subject: bytes, seq: int, count: Count) -> None:
        """The message with this value was taken."""
        self._known[subject] = (seq, count)
        self._known.move_to_end(subject)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    def clear(self) -> None:
        self._known.clear()

    def _look_up(self, entry: Subject, again: Callable[[], None]) -> None:
        recall = self._stream.recall
        if not entry.last_seq:
            recall.look_up_last(entry, again)  # comes back here with a sequence
            return

        def found(stored: Stored | None) -> None:
            if stored is not None:
                self.keep(entry.name, stored.seq, read(stored))
            elif self._stream.contents.subjects.get(entry.name) is entry and entry.last_seq == seq:
                self.keep(entry.name, seq, BROKEN)  # the store does not have what it should
            again()

        seq = entry.last_seq
        self._stream.around.journal.after(lambda _failure: recall.message(seq, found))
