"""What a user may publish and subscribe to (spec client-protocol section 10).

An empty allow list allows everything; deny wins over allow. Entries of a subscribe list may name a queue after a
space. `allow_responses` lets a client answer whoever wrote to it: so many messages within so long.
"""

import dataclasses
from typing import NamedTuple

from leafnode.route.subject import is_subset, matches, overlap

REMEMBERED_MAX = 1024  # publish subjects whose verdict a connection remembers
RESPONSES_MAX = 4096  # reply subjects a connection may answer at a time; the oldest are forgotten first


class Responses(NamedTuple):
    max: int = 1  # messages per reply subject; -1: any number
    expires_ns: int = 120_000_000_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    publish_allow: tuple[bytes, ...] = ()
    publish_deny: tuple[bytes, ...] = ()
    subscribe_allow: tuple[bytes, ...] = ()
    subscribe_deny: tuple[bytes, ...] = ()
    responses: Responses | None = None

    def may_publish(self, subject: bytes) -> bool:
        if any(matches(pattern, subject) for pattern in self.publish_deny):
            return False
        if not self.publish_allow:
            return self.responses is None
        return any(matches(pattern, subject) for pattern in self.publish_allow)

    def may_subscribe(self, subject: bytes, queue: bytes) -> bool:
        """Whether the whole subscription is allowed; overlaps with a deny are filtered at delivery."""
        if any(_covers(entry, subject, queue) for entry in self.subscribe_deny):
            return False
        return not self.subscribe_allow or any(_covers(entry, subject, queue) for entry in self.subscribe_allow)

    def needs_filter(self, subject: bytes) -> bool:
        """Whether a wildcard subscription overlaps a denied subject."""
        return any(overlap(entry.split(b" ")[0], subject) for entry in self.subscribe_deny)

    def may_receive(self, subject: bytes) -> bool:
        return not any(b" " not in entry and matches(entry, subject) for entry in self.subscribe_deny)


def _covers(entry: bytes, subject: bytes, queue: bytes) -> bool:
    pattern, space, group = entry.partition(b" ")
    if space:
        return bool(queue) and is_subset(subject, pattern) and matches(group, queue)
    return is_subset(subject, pattern)


class ReplyBudget:
    """Which reply subjects a connection may still answer, and how often (allow_responses)."""

    def __init__(self, rule: Responses) -> None:
        self._rule = rule
        self._open: dict[bytes, tuple[int, int]] = {}  # reply -> messages left, deadline

    def received(self, reply: bytes, now_ns: int) -> None:
        if len(self._open) >= RESPONSES_MAX:
            del self._open[next(iter(self._open))]
        self._open[reply] = (self._rule.max, now_ns + self._rule.expires_ns)

    def take(self, subject: bytes, now_ns: int) -> bool:
        """Use up one answer to `subject`; False if none is left."""
        left, deadline = self._open.get(subject, (0, 0))
        if not left or now_ns > deadline:
            self._open.pop(subject, None)
            return False
        if left == 1:
            del self._open[subject]
        elif left > 0:
            self._open[subject] = (left - 1, deadline)
        return True
