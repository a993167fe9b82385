"""Keeps what waits for the hub within its budget: drops, keeps the latest, or refuses, as each class has it.

Drops are removals from the local stream; the forward hears of them like of any other and counts them.
"""

import shutil
import time

from leafnode.forward.flow import Flow, Group
from leafnode.forward.lane import Lane
from leafnode.forward.plan import Forward
from leafnode.stream import reads
from leafnode.stream.stream import Stream

LOOK_SECONDS = 1.0  # between looks at the disk's free space
FROZEN_LEAST = 1 << 20  # bytes that may wait although the disk is short: what comes and goes is no backlog
MARGIN = 64  # the part of a budget by which a drop goes below it: not a search for each message


class Budgets:
    """Of one forward."""

    def __init__(self, forward: Forward, store_dir: str) -> None:
        self._plans = [plan for plan in forward.classes if plan.budget.policy != "keep"]
        self._store_dir = store_dir
        self._busy = False
        self._looked = 0.0
        self._rests_until = 0.0
        self._searched: dict[str, int] = {}  # by class: how far the last search came
        self._frozen: dict[str, int] = {}  # by class: what may wait while the disk is short of space

    def attach(self, flow: Flow, stream: Stream) -> None:
        if any(plan.budget.policy == "refuse" for plan in self._plans):
            stream.guard = lambda subject, size: self._refusal(flow, subject, size)

    def detach(self, stream: Stream) -> None:
        stream.guard = None

    def limit(self, group: Group) -> int:
        """Bytes that may wait; 0 = no limit."""
        limits = (self._frozen.get(group.plan.name, 0), group.plan.budget.bytes)
        return min((limit for limit in limits if limit), default=0)

    def _refusal(self, flow: Flow, subject: bytes, size: int) -> str:
        if not flow.forward.wants(subject):
            return ""
        group = flow.group_of(subject)
        limit = self.limit(group) if group.plan.budget.policy == "refuse" else 0
        if limit and group.backlog[1] + size > limit:
            return f"forward budget of class {group.plan.name} exceeded: {limit} bytes wait for the hub"
        return ""

    def keep_to(self, flow: Flow, stream: Stream) -> None:
        """Drop what is over, a bounded portion at a time."""
        self.look_at_disk(flow)
        if self._busy or stream.suspended or time.monotonic() < self._rests_until:
            return
        for group in flow.groups:
            limit = self.limit(group)
            excess = group.backlog[1] - limit
            if limit and excess > 0 and group.plan.budget.policy in ("latest", "drop-oldest"):
                self._drop(flow, group, stream, excess + limit // MARGIN)
                return

    def look_at_disk(self, flow: Flow) -> None:
        """Whether there is the space that classes want to stay free; at most once in LOOK_SECONDS."""
        if not self._plans or time.monotonic() < self._looked + LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        free = shutil.disk_usage(self._store_dir).free
        for group in flow.groups:
            plan = group.plan
            if plan.budget.headroom and free < plan.budget.headroom:
                self._frozen.setdefault(plan.name, max(FROZEN_LEAST, group.backlog[1]))
            else:
                self._frozen.pop(plan.name, None)

    def _drop(self, flow: Flow, group: Group, stream: Stream, excess: int) -> None:
        """The oldest that wait, or all but the newest of each subject."""
        lanes: list[Lane] = [*group.old, *group.lanes]
        name = group.plan.name
        first = min((lane.position for lane in lanes if lane.memory.backlog), default=stream.committed)
        after = max(first, self._searched.get(name, 0)) if group.plan.budget.policy == "latest" else first
        latest = group.plan.budget.policy == "latest"
        self._busy = True
        stream.recall.started()

        def found(answer: reads.Metas) -> None:
            stream.recall.finished()
            self._busy = False
            left = excess
            self._searched[name] = answer.scanned_to if answer.scanned_to < stream.committed else 0
            for meta in answer.metas:
                lane = flow.lane_of(meta.seq, meta.subject)
                weight = stream.recall.weigh(meta)
                if lane not in lanes or weight is None or meta.seq <= lane.position:
                    continue
                if latest and weight.subject.last_seq == meta.seq:
                    continue
                if not latest and left <= 0:
                    break
                left -= weight.size
                stream.remove(meta.seq, weight.subject, weight.size, "budget")
            if left == excess and not self._searched[name]:
                self._rests_until = time.monotonic() + LOOK_SECONDS  # there is nothing that may go

        ids = stream.subject_ids([one.encode() for one in group.plan.subjects])
        stream.around.reads.ask(reads.Weights(stream.id, after, stream.committed, ids, found))
