"""What streams and consumers of one account share: where to publish, keep, ask, and be called at a time."""

import dataclasses
from collections.abc import Callable

from leafnode.route.account import Account
from leafnode.route.message import Message
from leafnode.stream import schema, times
from leafnode.stream.batches import Staging
from leafnode.stream.journal import Journal
from leafnode.stream.reads import Reads
from leafnode.stream.recent import Recent
from leafnode.stream.timers import Timers


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one account may use; -1 is "no limit"."""

    max_streams: int = -1
    max_consumers: int = -1  # per stream
    max_memory: int = -1  # bytes
    max_storage: int = -1  # bytes
    max_ack_pending: int = -1
    server_max_ack_pending: int = -1  # of all accounts, from the server's own limits; so are the next two
    max_request_batch: int = -1
    duplicate_window_ns: int = -1
    memory_max_stream_bytes: int = -1
    storage_max_stream_bytes: int = -1
    max_bytes_required: bool = False
    tier: str = ""
    """Name of the tier that these are of, for who asks; empty: they are not by tier."""


NEAR_BYTES = 16 << 20  # more than what may be on its way to the disk


class Usage:
    """Bytes that one kind of storage holds, against its limit (-1: none)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.bytes = 0  # as of the last batch that was taken to the disk
        self.is_over = False
        self.is_near = False  # so near to the limit that each message is weighed
        self.change(0)

    def take_limit(self, limit: int) -> None:
        """From now on; what is kept already stays."""
        self._limit = limit
        self.change(0)

    def change(self, by: int) -> None:
        self.bytes += by
        self.is_over = 0 <= self._limit <= self.bytes
        self.is_near = 0 <= self._limit <= self.bytes + NEAR_BYTES

    def has_room(self, more: int) -> bool:
        return self._limit < 0 or self.bytes + more <= self._limit


@dataclasses.dataclass(slots=True, kw_only=True)
class Surroundings:
    """The world of one JetStream. Time and ids come from outside."""

    account: Account
    journal: Journal
    now_ns: Callable[[], int]
    new_id: Callable[[], str]
    """A fresh id of 22 letters and digits."""
    domain: str = ""
    server_name: str = "leafnode"
    limits: Limits = Limits()
    reads: Reads = dataclasses.field(default_factory=Reads)
    timers: Timers = dataclasses.field(default_factory=Timers)
    recent: Recent = dataclasses.field(default_factory=Recent)
    staging: Staging = dataclasses.field(default_factory=Staging)
    memory: Usage = dataclasses.field(init=False)
    disk: Usage = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.memory = Usage(self.limits.max_memory)
        self.disk = Usage(self.limits.max_storage)

    def take_limits(self, limits: Limits) -> None:
        """The account's limits have changed; what is there already stays."""
        self.limits = limits
        self.memory.take_limit(limits.max_memory)
        self.disk.take_limit(limits.max_storage)

    def advise(self, subject: str, kind: str, /, **fields: object) -> None:
        """Publish an advisory if anybody listens (spec jetstream-api section 13)."""
        to = f"$JS.EVENT.{subject}".encode()
        if not self.account.has_interest(to):
            return
        body = {
            "type": f"io.nats.jetstream.{kind}",
            "id": self.new_id(),
            "timestamp": times.to_text(self.now_ns()),
            **fields,
        }
        if self.domain:
            body["domain"] = self.domain
        self.account.publish(Message(to, payload=schema.encode(body)))
