"""A stream with consumers against the simplest thing that could be right: a list of messages.

Whatever is published, deleted, purged, delivered, acknowledged, committed, refused or forgotten by a restart, in any
order: counters agree with the list, `num_pending` is exact, nobody gets a message twice that it acknowledged, and what
was acknowledged to a publisher is there.
"""

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from leafnode.route.message import Message
from leafnode.route.subject import matches
from leafnode.stream.times import SECOND
from tests.leafnode.stream.bench import Bench

SUBJECTS = st.sampled_from(["s.a", "s.b", "s.c.d"])
FILTERS = {"all": ">", "one": "s.a", "wild": "s.*"}


class StreamMachine(RuleBasedStateMachine):
    """One stream, three consumers, a publisher that remembers its acknowledgements."""

    @initialize(
        retention=st.sampled_from(["limits", "interest"]),
        per_subject=st.sampled_from([-1, 1, 2]),
        most=st.sampled_from([-1, 5]),
    )
    def begin(self, retention: str, per_subject: int, most: int) -> None:
        self.bench = Bench()
        self.per_subject = per_subject
        self.most = most
        self.retention = retention
        self.bench.create("S", subjects=["s.>"], retention=retention, max_msgs_per_subject=per_subject, max_msgs=most)
        for name, pattern in FILTERS.items():
            self.bench.consumer("S", name, filter_subject=pattern, ack_wait=10 * SECOND, max_ack_pending=-1)
        self.model: dict[int, str] = {}
        self.last = 0
        self.seen: dict[str, int] = dict.fromkeys(FILTERS, 0)
        self.open: dict[str, dict[int, Message]] = {name: {} for name in FILTERS}
        self.done: dict[str, set[int]] = {name: set() for name in FILTERS}

    # what happens ------------------------------------------------------------------------------------------------

    @rule(subjects=st.lists(SUBJECTS, min_size=1, max_size=6))
    def publish(self, subjects: list[str]) -> None:
        reply, inbox = self.bench.inbox()
        for subject in subjects:
            self.bench.account.publish(Message(subject.encode(), reply, b"", subject.encode()))
        self.bench.settle()
        acks = [json.loads(message.payload)["seq"] for message in inbox.take()]
        assert acks == list(range(self.last + 1, self.last + 1 + len(subjects)))
        for seq, subject in zip(acks, subjects, strict=True):
            self._add(seq, subject)

    def _add(self, seq: int, subject: str) -> None:
        self.last = seq
        self.model[seq] = subject
        same = [number for number, other in self.model.items() if other == subject]
        if 0 < self.per_subject < len(same):
            del self.model[same[0]]
        if 0 < self.most < len(self.model):
            del self.model[min(self.model)]

    @rule(subjects=st.lists(SUBJECTS, min_size=1, max_size=4), taken=st.booleans())
    def refused_commit(self, subjects: list[str], taken: bool) -> None:
        """The disk does not take it: as if it had never been sent."""
        for subject in subjects:
            self.bench.send(subject)
        batch = self.bench.journal.take() if taken else None
        if batch is None:
            self.bench.settle()
            for subject in subjects:
                self._add(self.last + 1, subject)
            return
        self.bench.reload(self.bench.journal.fail(batch, "refused"))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        seq = data.draw(st.sampled_from(sorted(self.model)))
        assert self.bench.api("STREAM.MSG.DELETE.S", seq=seq) == {
            "type": "io.nats.jetstream.api.v1.stream_msg_delete_response",
            "success": True,
        }
        del self.model[seq]

    @rule(pattern=st.sampled_from([">", "s.a", "s.*"]), keep=st.integers(0, 2))
    def purge(self, pattern: str, keep: int) -> None:
        concerned = sorted(seq for seq, subject in self.model.items() if self._fits(pattern, subject))
        gone = concerned[: len(concerned) - keep] if keep else concerned
        answer = self.bench.api("STREAM.PURGE.S", filter=pattern, keep=keep)
        assert answer["purged"] == len(gone)
        for seq in gone:
            del self.model[seq]

    @rule(name=st.sampled_from(sorted(FILTERS)), batch=st.integers(1, 5), cold=st.booleans())
    def fetch(self, name: str, batch: int, cold: bool) -> None:
        if cold:  # nothing is remembered: everything comes from the store
            self.bench.js.streams["S"].shelf.clear(self.bench.js.streams["S"].committed)
        for message in self.bench.fetch("S", name, batch):
            seq = int(message.reply.split(b".")[5])
            assert seq in self.model, "delivered what is not there"
            assert seq not in self.done[name], "delivered what was acknowledged"
            assert self.model[seq].encode() == message.subject
            assert self._fits(FILTERS[name], self.model[seq])
            self.seen[name] = max(self.seen[name], seq)
            self.open[name][seq] = message

    @precondition(lambda self: any(self.open.values()))
    @rule(data=st.data(), nak=st.booleans())
    def answer(self, data: Any, nak: bool) -> None:
        name = data.draw(st.sampled_from(sorted(name for name in FILTERS if self.open[name])))
        seq = data.draw(st.sampled_from(sorted(self.open[name])))
        self.bench.ack(self.open[name].pop(seq), b"-NAK" if nak else b"")
        if not nak:
            self.done[name].add(seq)
            self._release(seq)

    def _release(self, seq: int) -> None:
        if self.retention == "interest" and seq in self.model:
            wanting = [name for name, pattern in FILTERS.items() if self._fits(pattern, self.model[seq])]
            if all(seq in self.done[name] for name in wanting):
                del self.model[seq]

    @rule(seconds=st.integers(1, 12))
    def wait(self, seconds: int) -> None:
        self.bench.advance(seconds * SECOND)

    # what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def counters_agree(self) -> None:
        state = self.bench.state("S")
        assert state["messages"] == len(self.model)
        assert state["last_seq"] == self.last
        if self.model:
            assert state["first_seq"] == min(self.model)
        elif self.last:
            assert state["first_seq"] == self.last + 1
        subjects: dict[str, int] = {}
        for subject in self.model.values():
            subjects[subject] = subjects.get(subject, 0) + 1
        assert self.bench.api("STREAM.INFO.S", subjects_filter=">")["state"].get("subjects", {}) == subjects

    @invariant()
    def pending_is_exact(self) -> None:
        for name, pattern in FILTERS.items():
            ahead = [s for s, subject in self.model.items() if s > self.seen[name] and self._fits(pattern, subject)]
            info = self.bench.info("S", name)
            assert info["num_pending"] == len(ahead), name
            waiting = {seq for seq in self.model if seq <= self.seen[name]} - self.done[name]
            assert info["num_ack_pending"] <= len(waiting)

    @invariant()
    def the_newest_of_a_subject_is_found(self) -> None:
        for subject in ("s.a", "s.b", "s.c.d"):
            newest = max((seq for seq, other in self.model.items() if other == subject), default=0)
            answer = self.bench.api("STREAM.MSG.GET.S", last_by_subj=subject)
            assert answer.get("message", {}).get("seq", 0) == newest

    def _fits(self, pattern: str, subject: str) -> bool:
        return matches(pattern.encode(), subject.encode())


TestStream = StreamMachine.TestCase
TestStream.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
