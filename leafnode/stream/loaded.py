"""What the store hands back at start, and after a failed commit: plain rows, before they are objects."""

import dataclasses

from leafnode.stream.journal import ConsumerState, StreamState


@dataclasses.dataclass(slots=True, kw_only=True)
class LoadedConsumer:
    id: int
    name: str
    config: bytes
    created: int
    state: ConsumerState
    pending: list[tuple[int, int, int, int]]  # stream sequence, consumer sequence, first one, deliveries


@dataclasses.dataclass(slots=True, kw_only=True)
class LoadedContents:
    """The counters and indexes of one stream."""

    state: StreamState
    subjects: list[tuple[int, bytes, int, int, int]]  # id, name, last sequence, its size, count
    expiries: list[tuple[int, int]]
    schedules: list[tuple[bytes, int, int]]  # subject, sequence, when it is due
    origins: list[tuple[str, int]]  # source, the newest sequence of it that is here
    tail: tuple[int, ...] = ()  # subject of each message that the store's own counters do not have yet


@dataclasses.dataclass(slots=True, kw_only=True)
class LoadedStream:
    id: int
    account: str
    config: bytes
    created: int
    contents: LoadedContents
    consumers: list[LoadedConsumer]
