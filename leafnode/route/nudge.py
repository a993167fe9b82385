"""Tells a nats-server that sources from us that we are back, in words that make it ask again at once.

After an outage a nats-server does not notice that an origin behind a leaf link has returned. Each of its mirrors and
sources is in one of two states (nats-server 2.15.1, stream.go):

    waiting     its last request failed; it asks again after 10 s to 2 min
                Any INFO of a leaf makes it look through those, forget their failures, and ask at once.
    asking      its request vanished in the dead link; it waits up to 30 s for the answer
                The inbox of such a request (`$JSC.R.…`) is in the burst of interest with which a link begins. An answer
                that we do not know the request's API level makes it ask again at once, one level lower, which is
                enough for all that we do.

What is asked of somebody else who is away is asked once more as well, and vanishes again: no more harm than that, and
for a bounded number of them. A leafnode hub needs none of this: it asks when it sees our interest.
"""

import json

INBOX = b"$JSC.R."
INBOXES_MAX = 64  # requests that wait at the hub; with more of them ours is hardly among those we would pick
OLD_LEVEL = json.dumps(
    {
        "type": "io.nats.jetstream.api.v1.consumer_create_response",
        "error": {"code": 412, "err_code": 10185, "description": "JetStream minimum api level required"},
    },
    separators=(",", ":"),
).encode()
INFOS = 2  # a hub that would compress takes the first for an offer to do so


class Nudge:
    """Of one link that we dialled: what to say when the hub's first burst of interest is over."""

    def __init__(self, info: dict[str, object]) -> None:
        """`info`: who we are, as an INFO says it."""
        self._info = b"INFO " + json.dumps(info, separators=(",", ":")).encode() + b"\r\n"
        self._inboxes: dict[bytes, None] = {}
        self._is_over = False

    def learned(self, subject: bytes) -> None:
        if subject.startswith(INBOX) and not self._is_over and len(self._inboxes) < INBOXES_MAX:
            self._inboxes[subject] = None

    def settled(self, subject: bytes) -> None:
        """A request that we have got, or one that is over."""
        self._inboxes.pop(subject, None)

    def say(self) -> list[bytes]:
        """Once, after the burst; later nothing."""
        if self._is_over:
            return []
        self._is_over = True
        lines = [self._info] * INFOS
        for inbox in self._inboxes:
            lines.append(b"LMSG %b %d\r\n%b\r\n" % (inbox, len(OLD_LEVEL), OLD_LEVEL))
        self._inboxes.clear()
        return lines
