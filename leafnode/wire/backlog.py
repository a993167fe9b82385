"""What arrived of an operation that is not complete yet.

A large payload comes in many pieces. They are kept apart and joined once, when as many bytes are there as the operation
needs: looking at them again with each piece would cost quadratic time.
"""


class Backlog:
    """The unfinished end of one connection's input."""

    __slots__ = ("_held", "_need", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._held = 0
        self._need = 0

    def join(self, data: bytes) -> bytes | None:
        """Everything there is, with `data` at its end; None while it is known not to be enough."""
        if not self._parts:
            return data
        self._parts.append(data)
        self._held += len(data)
        if self._held < self._need:
            return None
        data = b"".join(self._parts)
        self._parts.clear()
        return data

    def keep(self, rest: bytes, need: int) -> None:
        """Hold the bytes of an operation that takes `need` of them in all; 0: not known yet."""
        self._parts.append(rest)
        self._held = len(rest)
        self._need = need

    def clear(self) -> None:
        self._parts.clear()
