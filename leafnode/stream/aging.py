"""Messages that go at a time: the stream's max_age, their own TTL, and the markers they leave (ADR-43).

The next to go by age is at the old end of the window; those with a TTL of their own are in `expiry`.
"""

from typing import TYPE_CHECKING

from leafnode.stream import intake, times
from leafnode.stream.contents import Weight
from leafnode.stream.expiry import MARKER_SIGN, NEVER, Expiry

if TYPE_CHECKING:
    from leafnode.stream.stream import Stream

EXPIRE_AT_ONCE = 1024  # messages that one call of the timer removes; the rest follows in the next


class Aging:
    """The clock of one stream."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream
        self.expiry = Expiry()
        self.armed_ns = 0

    def keep(self, seq: int, kept: int) -> None:
        """A message with a time of its own was taken (`kept` as in `expiry`)."""
        self.expiry.add(seq, kept)
        self._stream.changes().expiries.append((seq, kept))
        if kept != NEVER:
            self._stream.around.timers.arm(self, abs(kept))

    def taken(self, seq: int, headers: bytes, ttl: int, now_ns: int) -> None:
        """A message that may have a time of its own: a TTL, or, being a marker itself, that it leaves none."""
        if ttl == intake.NEVER:
            self.keep(seq, NEVER)
            return
        is_marker = bool(self._stream.config.subject_delete_marker_ttl) and intake.is_marker(headers)
        lifetime = ttl or (self._stream.config.max_age if is_marker else 0)
        if lifetime:
            self.keep(seq, (now_ns + lifetime) * (MARKER_SIGN if is_marker else 1))

    def kept_by_age(self, time_ns: int) -> None:
        """A message was taken on a stream with max_age."""
        when = time_ns + self._stream.config.max_age
        if not self.armed_ns or when < self.armed_ns:
            self._stream.around.timers.arm(self, when)

    def arm(self) -> None:
        """Ask to be called when the next message is due to go."""
        stream = self._stream
        when = self.expiry.next_ns()
        if when is not None:
            stream.around.timers.arm(self, when)
        if stream.config.max_age:
            for seq, weight in stream.contents.head.items():
                if not self.expiry.is_exempt(seq):
                    stream.around.timers.arm(self, weight.time + stream.config.max_age)
                    break

    def disarm(self) -> None:
        self._stream.around.timers.disarm(self)

    def on_time(self, now_ns: int) -> None:
        """Messages whose time has come go, at most EXPIRE_AT_ONCE by age."""
        stream = self._stream
        if stream.deleted or stream.suspended:
            return
        due = [(seq, weight) for seq in self.expiry.due(now_ns) if (weight := self._weight_or_ask(seq)) is not None]
        if stream.config.max_age:
            horizon = now_ns - stream.config.max_age
            for seq, weight in stream.contents.head.items():
                exempt = self.expiry.is_exempt(seq)
                if len(due) >= EXPIRE_AT_ONCE or (weight.time > horizon and not exempt):
                    break
                if not exempt:
                    due.append((seq, weight))
        for seq, weight in due:
            if not stream.contents.is_gone(seq):
                self._expire(seq, weight, now_ns)
        self.arm()

    def _weight_or_ask(self, seq: int) -> Weight | None:
        """A weight that is not known here is looked up, once its message is on the disk."""
        stream = self._stream
        weight = stream.recall.weight(seq)
        if weight is None and not stream.contents.is_gone(seq):

            def found(weights: dict[int, Weight]) -> None:
                if seq in weights and not stream.contents.is_gone(seq):
                    self._expire(seq, weights[seq], stream.around.now_ns())

            stream.around.journal.after(lambda _failure: stream.recall.weights([seq], found))
        return weight

    def _expire(self, seq: int, weight: Weight, now: int) -> None:
        stream = self._stream
        marker_ttl = stream.config.subject_delete_marker_ttl
        leaves_marker = marker_ttl and weight.subject.count == 1 and not self.expiry.is_marker(seq)
        stream.remove(seq, weight.subject, weight.size, "expired")
        if leaves_marker:
            headers = b"NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-TTL: %ds\r\nNats-Rollup: sub\r\n\r\n" % (
                marker_ttl // times.SECOND
            )
            kept = stream.keep(weight.subject.name, b"", headers, b"", now)
            self.keep(kept, MARKER_SIGN * (now + marker_ttl))
