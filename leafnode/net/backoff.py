"""Growing delays with full jitter, for ever.

A site whose power comes back restarts every leaf at once; jitter keeps them from reaching the hub in the same second.
"""

from collections.abc import Callable, Iterator

CAP_SECONDS = 1.5  # a hub that is back is found within this, however long it was away; an attempt costs a few packets


def delays(
    uniform: Callable[[float, float], float], *, first_seconds: float = 1.0, cap_seconds: float = CAP_SECONDS
) -> Iterator[float]:
    """The n-th delay is between half and all of min(cap, first * 2^n)."""
    top = first_seconds
    while True:
        yield uniform(top / 2, top)
        top = min(top * 2, cap_seconds)
