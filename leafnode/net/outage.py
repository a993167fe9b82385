"""The time without a link: why it began, what was tried, and one line about all of it when the link is back.

Each cause of a failed attempt is said once an outage, and counted. A hub that is away for a week is a handful of lines.
"""

import os
import socket
import ssl
from collections import Counter

from leafnode.net.tls import reason_of

CAUSES_MAX = 16  # different causes kept apart in one outage; there are about ten
OTHERS = "other causes"

_SAYINGS = {  # beginnings of what a hub says before it closes, and what that means here
    "authorization violation": "the hub refuses the credentials",
    "authentication timeout": "the hub did not get the credentials in time",
    "user authentication": "the hub refuses the credentials",
    "loop detected": "the links form a loop",
    "remote leafnode has same cluster name": "hub and leaf have the same cluster name",
    "maximum": "the hub is full",
    "permissions violation": "the hub ended the link over a permission",
    "connection rejected since minimum version": "the hub wants another version",
    "duplicate remote leafnode connection": "another leaf node of the same name took the place",
}


def explain(error: BaseException | str, *, host: str, timeout_s: float) -> str:
    """Why an attempt failed or a link ended, in words that are the same for the same cause."""
    match error:
        case str(said):
            meaning = next((text for start, text in _SAYINGS.items() if said.lower().startswith(start)), "")
            return f"{meaning}: {said}" if meaning else said
        case ssl.SSLError():
            return f"TLS handshake failed: {reason_of(error)}"
        case socket.gaierror():
            return f"the name {host} cannot be resolved: {error.strerror}"
        case TimeoutError() if not error.errno:
            return f"no answer within {timeout_s:.3g} s"
        case OSError() if error.errno:
            return _system_error(error.errno)
    return str(error)


def _system_error(number: int) -> str:
    """The system's words without the address, of which there may be several."""
    return os.strerror(number).lower()


class Outage:
    """From the loss of a link, or from the start, to the next link."""

    def __init__(self, began_s: float, lost_because: str = "", stored: tuple[int, int] = (0, 0)) -> None:
        """`began_s` on the monotonic clock. `stored`: messages ever, and bytes now, in the streams of the account."""
        self.began_s = began_s
        self.lost_because = lost_because
        self.attempts = 0
        self.failures: Counter[str] = Counter()
        self.last_failure = ""
        self.stored_before = stored

    def failed(self, cause: str) -> bool:
        """Note a failed attempt; whether its cause is new."""
        self.attempts += 1
        self.last_failure = cause
        known = cause if cause in self.failures or len(self.failures) < CAUSES_MAX else OTHERS
        is_new = known not in self.failures
        self.failures[known] += 1
        return is_new

    def tally(self) -> str:
        return ", ".join(f"{count} x {cause}" for cause, count in self.failures.most_common())

    def autopsy(self, now_s: float, stored: tuple[int, int]) -> str:
        """What there is to say when the link is back."""
        messages = max(stored[0] - self.stored_before[0], 0)
        size = max(stored[1] - self.stored_before[1], 0)
        parts = [f"after {now_s - self.began_s:.1f} s"]
        if self.lost_because:
            parts.append(f"it was lost: {self.lost_because}")
        parts.append(f"{self.attempts + 1} attempts (failed: {self.tally()})" if self.attempts else "1 attempt")
        parts.append(f"{messages} messages stored meanwhile ({size} bytes more)")
        return "; ".join(parts)
