"""Which consumers of a stream want messages of a subject: the index that every message and every removal asks.

A thousand consumers, each with a filter of its own, cost a message no more than one.
"""

from typing import TYPE_CHECKING

from leafnode.route.message import Subscription
from leafnode.route.sublist import Sublist

if TYPE_CHECKING:
    from leafnode.stream.consumer import Consumer

CACHE_MAX = 4096  # subjects whose consumers are remembered


class Audience:
    """The consumers of one stream, by filter."""

    def __init__(self) -> None:
        self._filters = Sublist()
        self._owners: dict[Subscription, Consumer] = {}
        self._filed: dict[Consumer, list[Subscription]] = {}
        self._known: dict[bytes, tuple[Consumer, ...]] = {}

    def of(self, subject: bytes) -> "tuple[Consumer, ...]":
        found = self._known.get(subject)
        if found is None:
            if len(self._known) >= CACHE_MAX:
                self._known.clear()
            wanting = dict.fromkeys(self._owners[sub] for sub in self._filters.match(subject))
            found = self._known[subject] = tuple(wanting)
        return found

    def add(self, consumer: "Consumer") -> None:
        """File it under each of its filters; again when they have changed."""
        self.remove(consumer)
        filed = [Subscription(pattern, consumer.answers) for pattern in consumer.filters or [b">"]]
        self._filed[consumer] = filed
        for sub in filed:
            self._owners[sub] = consumer
            self._filters.insert(sub)

    def remove(self, consumer: "Consumer") -> None:
        for sub in self._filed.pop(consumer, ()):
            self._filters.remove(sub)
            del self._owners[sub]
        self._known.clear()
