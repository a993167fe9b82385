"""Which reader of a `pinned_client` consumer gets all the messages (ADR-42).

The first reader served is pinned: it learns an id with its messages and repeats it with its requests. When it has not
asked for the priority timeout, or an administrator says so, the next one is.
"""

from typing import TYPE_CHECKING

from leafnode.stream.request import Request

if TYPE_CHECKING:
    from leafnode.stream.consumer import Consumer


class Pin:
    """The pin of one consumer."""

    def __init__(self, consumer: "Consumer") -> None:
        self._consumer = consumer
        self._around = consumer.stream.around
        self.id = ""  # empty: nobody is pinned
        self.since_ns = 0
        self.ends_ns = 0  # unless the reader asks before
        self._group = ""

    def assign(self, request: Request) -> bool:
        """Pin the reader of a request; False if it names no group."""
        if not request.group:
            return False
        now = self._around.now_ns()
        self.id = request.id = self._around.new_id()
        self.since_ns = now
        self._group = request.group
        self.renew(now)
        self._advise("PINNED", "consumer_group_pinned", group=request.group, pinned_id=self.id)
        return True

    def renew(self, now_ns: int) -> None:
        """The reader has shown itself."""
        self.ends_ns = now_ns + self._consumer.config.priority_timeout

    def clear(self) -> None:
        self.id = ""
        self.since_ns = self.ends_ns = 0

    def take_away(self, group: str, reason: str) -> None:
        """By the `admin`, or by `timeout`."""
        self.clear()
        self._advise("UNPINNED", "consumer_group_unpinned", group=group, reason=reason)

    def on_time(self, now_ns: int) -> None:
        if self.id and self.ends_ns <= now_ns:
            self.take_away(self._group, "timeout")

    def _advise(self, word: str, kind: str, **more: object) -> None:
        stream, name = self._consumer.stream, self._consumer.name
        self._around.advise(
            f"ADVISORY.CONSUMER.{word}.{stream.name}.{name}",
            f"advisory.v1.{kind}",
            account=self._around.account.name,
            stream=stream.name,
            consumer=name,
            **more,
        )
