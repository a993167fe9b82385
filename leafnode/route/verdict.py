"""Whether somebody may come in, where that is not known at once: another server, or a service, is asked first.

Who waits says what to do `then`; who found out says `settle`. It happens once, and nobody waits for ever: whoever makes
a verdict settles it in time, with None if need be.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Verdict(Generic[T]):
    """Somebody, or None: refused."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[T | None], None]] = []
        self._found: T | None = None
        self.is_settled = False

    def then(self, call: Callable[[T | None], None]) -> None:
        """Call with the outcome: now, if it is known."""
        if self.is_settled:
            call(self._found)
        else:
            self._waiting.append(call)

    def settle(self, found: T | None) -> None:
        """This is the outcome; only the first counts."""
        if self.is_settled:
            return
        self.is_settled, self._found = True, found
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call(found)

    def turned(self, into: Callable[[T], U | None]) -> "Verdict[U]":
        """The same in other terms."""
        other: Verdict[U] = Verdict()
        self.then(lambda found: other.settle(into(found) if found is not None else None))
        return other
