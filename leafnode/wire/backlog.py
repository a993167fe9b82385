"""What arrived of an operation that is not complete yet.

A large payload comes in many pieces. They are kept apart and joined once, when as many bytes are there as the operation
needs: looking at them again with each piece would cost quadratic time. Small pieces are put together as they come: an
object for each would cost twenty times what it holds.
"""

SMALL_BYTES = 4096


class Backlog:
    """The unfinished end of one connection's input."""

    __slots__ = ("_held", "_need", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes | bytearray] = []
        self._held = 0
        self._need = 0

    def join(self, data: bytes) -> bytes | None:
        """Everything there is, with `data` at its end; None while it is known not to be enough."""
        if not self._parts:
            return data
        last = self._parts[-1]
        if len(data) >= SMALL_BYTES:
            self._parts.append(data)
        elif isinstance(last, bytearray):
            last += data
        else:
            self._parts.append(bytearray(data))
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
