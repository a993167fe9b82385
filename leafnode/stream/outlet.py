"""Where a consumer's messages go: waiting requests (`pull`) or a deliver subject with interest (`push`)."""

from typing import Protocol

from leafnode.route.message import Message


class Outlet(Protocol):
    """One consumer's."""

    def is_open(self) -> bool:
        """Whether somebody takes a message now."""
        ...

    def offer(self, message: Message) -> bool:
        """Send one delivery; False if nobody took it after all."""
        ...

    def settle(self, *, exhausted: bool) -> None:
        """The pump stopped; `exhausted` when nothing can be delivered before something new happens."""
        ...

    def next_ns(self) -> int | None: ...

    def on_time(self, now_ns: int) -> None: ...

    def idle_since(self) -> int:
        """Since when nobody reads, as far as that is known without looking; 0 while somebody does."""
        ...

    def is_idle(self) -> bool:
        """Whether nobody reads; looks."""
        ...

    def close(self, reason: str) -> None:
        """The consumer is going; tell whoever waits."""
        ...

    def farewell(self) -> None:
        """The server ends, the consumer does not: tell whoever waits."""
        ...
