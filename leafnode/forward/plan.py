"""What a `forward` block asks for. Times in nanoseconds, sizes in bytes; `config.forward` builds it."""

from dataclasses import dataclass

from leafnode.route.subject import matches
from leafnode.route.transform import Transform

CONTROL = "$FWD"  # first token of what forwards keep at the hub: fences, receipts, advisories
SECOND = 1_000_000_000
DEFAULT_CLASS = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """The hub's stream and how to reach it."""

    stream: str
    domain: str = ""
    subject: str = ""
    """Where messages go, as in a transform (`up.site7.{{wildcard(1)}}`); empty: they keep their subjects."""

    @property
    def api(self) -> str:
        return f"$JS.{self.domain}.API"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What may be on its way unanswered, of one lane."""

    messages: int = 256
    bytes: int = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where a forward begins that has no position yet."""

    policy: str = "all"
    """`all`, `new`, `sequence` or `time`."""
    sequence: int = 0
    time_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """One `forward` block."""

    name: str
    stream: str
    to: Destination
    account: str = "$G"
    filters: tuple[str, ...] = ()
    """Subjects of the local stream; empty: all of it."""
    window: Window = Window()
    partitions: int = 1
    """Lanes that go in parallel; a key always takes the same one."""
    partition_token: int = 0
    """The subject's token that is the key, from 1."""
    start: Start = Start()
    adopt: bool = False
    """Take over the name from an instance that is gone."""

    @property
    def control(self) -> str:
        """Where this forward's own messages are, at the hub."""
        return f"{CONTROL}.{self.to.stream}.{self.name}"

    def wants(self, subject: bytes) -> bool:
        return not self.filters or any(matches(one.encode(), subject) for one in self.filters)

    def transforms(self) -> list[Transform]:
        """One for each filter; the first that matches applies."""
        return [Transform(source, self.to.subject) for source in self.filters or (">",)]

    def partition(self, subject: bytes) -> int:
        """The lane of a subject."""
        if self.partitions == 1:
            return 0
        tokens = subject.split(b".")
        key = tokens[self.partition_token - 1] if self.partition_token <= len(tokens) else subject
        return fnv(key) % self.partitions


def fnv(key: bytes) -> int:
    """FNV-1a of 32 bits, as subject transforms use it for `partition`."""
    mixed = 2166136261
    for byte in key:
        mixed = (mixed ^ byte) * 16777619 & 0xFFFFFFFF
    return mixed
