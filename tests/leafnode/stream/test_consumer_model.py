"""A consumer against its description: which message comes next, how often, and what its info says.

The model is a dict of messages and a few lists. Publishes, deletions, purges, messages that expire, fetches, every kind
of acknowledgement, passing time and restarts, in any order: each delivery and each number is foretold.
"""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from leafnode.route.message import Message
from leafnode.route.subject import matches
from leafnode.stream.times import SECOND
from tests.leafnode.stream.bench import Bench

SUBJECTS = ("s.a", "s.b", "s.c.d")
FILTERS = ([], ["s.a"], ["s.*"], ["s.b", "s.c.>"])
ACK_WAIT = 6  # seconds


class Waiting:
    """One delivery that is not acknowledged."""

    def __init__(self, number: int, due: int) -> None:
        self.first = number  # consumer sequence of the first delivery
        self.deliveries = 1
        self.due = due  # 0: it is to be delivered again


class ConsumerMachine(RuleBasedStateMachine):
    """One stream, one consumer with explicit acknowledgements."""

    @initialize(
        filters=st.sampled_from(FILTERS),
        max_deliver=st.sampled_from([-1, 2]),
        room=st.sampled_from([3, 100]),
        most=st.sampled_from([-1, 2]),
    )
    def begin(self, filters: list[str], max_deliver: int, room: int, most: int) -> None:
        self.bench = Bench()
        self.bench.create("S", subjects=["s.>"], allow_msg_ttl=True, max_msgs_per_subject=most)
        self.bench.consumer(
            "S",
            "c",
            filter_subjects=filters,
            max_deliver=max_deliver,
            max_ack_pending=room,
            ack_wait=ACK_WAIT * SECOND,
        )
        self.filters, self.max_deliver, self.room, self.most = filters, max_deliver, room, most
        self.clock = 0
        self.last = 0
        self.there: dict[int, tuple[str, int]] = {}  # by sequence: subject, second of its end (0: none)
        self.position = 0
        self.number = 0  # consumer sequence of the last delivery
        self.floor = (0, 0)
        self.waiting: dict[int, Waiting] = {}
        self.again: list[int] = []
        self.worn: set[int] = set()
        self.messages: dict[int, Message] = {}

    # the stream --------------------------------------------------------------------------------------------------

    @rule(subjects=st.lists(st.sampled_from(SUBJECTS), min_size=1, max_size=5), ttl=st.sampled_from([0, 0, 3]))
    def publish(self, subjects: list[str], ttl: int) -> None:
        for subject in subjects:
            headers = {"Nats_TTL": f"{ttl}s"} if ttl else {}
            self.last += 1
            assert self.bench.publish(subject, b"x", **headers)["seq"] == self.last
            self.there[self.last] = (subject, self.clock + ttl if ttl else 0)
            same = [seq for seq, (other, _) in self.there.items() if other == subject]
            if 0 < self.most < len(same):
                self._remove(same[0])

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        seq = data.draw(st.sampled_from(sorted(self.there)))
        assert self.bench.api("STREAM.MSG.DELETE.S", seq=seq)["success"]
        self._remove(seq)

    def _remove(self, seq: int) -> None:
        del self.there[seq]
        self.worn.discard(seq)
        if seq in self.waiting:
            self._done(seq)

    def _done(self, seq: int) -> None:
        done = self.waiting.pop(seq)
        if seq in self.again:
            self.again.remove(seq)
        if not self.waiting:
            self.floor = (self.number, self.position)
        elif done.first == self.floor[0] + 1:
            first = min(self.waiting)
            self.floor = (self.waiting[first].first - 1, first - 1)

    # the reader --------------------------------------------------------------------------------------------------

    @rule(batch=st.integers(1, 5), cold=st.booleans())
    def fetch(self, batch: int, cold: bool) -> None:
        if cold:  # nothing is remembered: everything comes from the store
            self.bench.js.streams["S"].shelf.clear(self.bench.js.streams["S"].committed)
        expected = self._foretell(batch)
        came = self.bench.fetch("S", "c", batch)
        numbers = [tuple(int(message.reply.split(b".")[place]) for place in (5, 4, 6, 8)) for message in came]
        assert numbers == expected
        for message, (seq, *_rest) in zip(came, numbers, strict=True):
            assert message.subject.decode() == self.there[seq][0]
            self.messages[seq] = message

    def _foretell(self, batch: int) -> list[tuple[int, ...]]:
        """Stream sequence, deliveries, consumer sequence and what is left, of each message that must come."""
        coming: list[tuple[int, ...]] = []
        while len(coming) < batch:
            if self.again:
                seq = self.again.pop(0)
                if 0 < self.max_deliver <= self.waiting[seq].deliveries:
                    self._give_up(seq)
                    continue
                self.waiting[seq].deliveries += 1
                self.waiting[seq].due = self.clock + ACK_WAIT
            else:
                ahead = self._ahead()
                if len(self.waiting) >= self.room or not ahead:
                    break
                seq = self.position = ahead[0]
                self.waiting[seq] = Waiting(self.number + 1, self.clock + ACK_WAIT)
            self.number += 1
            coming.append((seq, self.waiting[seq].deliveries, self.number, len(self._ahead())))
        return coming

    def _give_up(self, seq: int) -> None:
        del self.waiting[seq]
        self.worn.add(seq)

    def _ahead(self) -> list[int]:
        return [seq for seq in sorted(self.there) if seq > self.position and self._wants(self.there[seq][0])]

    def _wants(self, subject: str) -> bool:
        return not self.filters or any(matches(one.encode(), subject.encode()) for one in self.filters)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), body=st.sampled_from([b"", b"+ACK", b"-NAK", b"+TERM", b"+WPI", b"?"]))
    def answer(self, data: Any, body: bytes) -> None:
        seq = data.draw(st.sampled_from(sorted(self.waiting)))
        self.bench.ack(self.messages[seq], body)
        delivery = self.waiting[seq]
        if body in (b"", b"+ACK", b"+TERM"):
            self._done(seq)
        elif body == b"-NAK" and seq not in self.again:
            delivery.due = 0
            self.again.append(seq)
        elif body == b"+WPI" and delivery.due:
            delivery.due = self.clock + ACK_WAIT

    # time --------------------------------------------------------------------------------------------------------

    @rule(seconds=st.integers(1, 9))
    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock += 1
            for seq in [seq for seq, (_, end) in self.there.items() if 0 < end <= self.clock]:
                self._remove(seq)
            overdue = sorted(seq for seq, one in self.waiting.items() if 0 < one.due <= self.clock)
            for seq in overdue:
                self.waiting[seq].due = 0
                if 0 < self.max_deliver <= self.waiting[seq].deliveries:
                    self._give_up(seq)
                else:
                    self.again.append(seq)
            self.bench.advance(SECOND)

    @rule()
    def restart(self) -> None:
        """What was delivered is known; each delivery gets its whole time again."""
        self.bench.restart()
        self.again.clear()
        for delivery in self.waiting.values():
            delivery.due = self.clock + ACK_WAIT

    # what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def the_info_is_foretold(self) -> None:
        info = self.bench.info("S", "c")
        assert info["num_pending"] == len(self._ahead())
        assert info["num_ack_pending"] == len(self.waiting)
        again = sum(one.deliveries > 1 for one in self.waiting.values())
        assert info["num_redelivered"] == len(self.worn) + again
        assert (info["delivered"]["consumer_seq"], info["delivered"]["stream_seq"]) in (
            (self.number, self.position),
            (0, info["delivered"]["stream_seq"]),  # a fresh one shows how far it has looked
        )
        assert (info["ack_floor"]["consumer_seq"], info["ack_floor"]["stream_seq"]) == self.floor

    @invariant()
    def the_stream_has_what_it_must(self) -> None:
        assert self.bench.state("S")["messages"] == len(self.there)


TestConsumer = ConsumerMachine.TestCase
TestConsumer.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
