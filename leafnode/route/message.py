"""What travels: one message, and whoever it may be handed to."""

from typing import NamedTuple, Protocol


class Message(NamedTuple):
    """One published message; everything as it came off the wire."""

    subject: bytes
    reply: bytes = b""  # empty: none wanted
    headers: bytes = b""  # the whole block, from NATS/1.0 to the empty line; empty: none
    payload: bytes = b""


class Subscription:
    """One expression of interest: a sink wants what matches `subject`.

    `queue` names a group of which only one member gets each message; empty for a plain subscription. `max` and
    `delivered` belong to UNSUB with a limit. `weight` is the number of members behind a leaf's queue interest.
    """

    __slots__ = (
        "active",
        "delivered",
        "filtered",
        "is_client",
        "is_stream",
        "max",
        "queue",
        "sid",
        "sink",
        "subject",
        "weight",
    )

    def __init__(self, subject: bytes, sink: "Sink", queue: bytes = b"", sid: bytes = b"") -> None:
        self.subject = subject
        self.sink = sink
        self.queue = queue
        self.sid = sid
        self.max = 0
        self.delivered = 0
        self.weight = 1
        self.is_client = False  # the sink is a client connection: routes may write into its output
        self.is_stream = False  # the sink takes every message, and nothing that it does ends the publisher
        self.filtered = False  # some of what matches must not be delivered: ask for each message
        self.active = True

    def __repr__(self) -> str:
        return f"Subscription({self.subject!r}, queue={self.queue!r}, sid={self.sid!r})"


class Sink(Protocol):
    """Where a matched message goes: a client, a leaf, a stream, an API handler."""

    is_remote: bool
    """True for links to other servers: local queue members win over them."""

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        """Take one message; `to` is the subject that was matched (a consumer's deliver subject or inbox may differ
        from `message.subject`, which is what the receiver is shown). Returns whether it was accepted.

        Must not raise and must not wait.
        """
        ...
