"""What a `forward` block asks for. Times in nanoseconds, sizes in bytes; `config.forward` builds it."""

from dataclasses import dataclass, field

from leafnode.route.subject import matches
from leafnode.route.transform import Transform

CONTROL = "$FWD"  # first token of what forwards keep at the hub: fences, receipts, advisories
SECOND = 1_000_000_000
DAY_MINUTES = 24 * 60
DEFAULT_CLASS = "default"
LOWEST_PRIORITY = 9
UNLIMITED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """The hub's stream and how to reach it."""

    stream: str
    domain: str = ""
    subject: str = ""
    """Where messages go, as in a transform (`up.site7.>`); empty: they keep their subjects."""

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
class Rate:
    """What may go in a second; 0 = no limit."""

    messages: float = UNLIMITED
    bytes: float = UNLIMITED


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """A part of the day in which a class may go, local time; over midnight if it ends before it begins."""

    first_minute: int
    last_minute: int
    """The first that is outside."""
    days: frozenset[int] = frozenset(range(7))
    """Monday is 0; the day on which it begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which messages of a sender go: the first, then those that a rule picks. Exactly one of the first three."""

    field: str = ""
    """Path in a JSON body, with dots."""
    header: str = ""
    token: int = 0
    """Of the subject, from 1; -1 is the whole subject."""
    interval_ns: int = 0
    """Once in so much time; 0 = only the other rules."""
    splay: float = 0.1
    """The interval varies by this share, a fixed amount for each sender: they do not all go at once."""
    size_change: int = 0
    """Bytes; the body grew or shrank by at least so much since the last that went."""
    content_change: bool = False
    """The body differs from the last that went."""
    value: str = ""
    """Path of a number in a JSON body: for `deadband` and `aggregate`."""
    deadband: float = 0.0
    """The number moved by at least so much since the last that went."""
    force: str = ""
    """Path in a JSON body; true there: it goes."""
    force_header: str = ""
    """A header; present and not false or 0: it goes."""
    aggregate_ns: int = 0
    """Length of windows of which minimum, maximum, mean and count go; 0 = none."""

    @property
    def samples(self) -> bool:
        """Something can be left out."""
        return bool(self.interval_ns or self.size_change or self.content_change or self.deadband or self.aggregate_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Advisories about senders."""

    timeout_ns: int = 0
    """Not seen for so long: `timeout`; 0 = never."""
    expire_ns: int = 0
    """And forgotten after so long, with `expire`; 0 = never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may wait here for the hub."""

    policy: str = "keep"
    """`keep`, `latest`, `drop-oldest` or `refuse`."""
    bytes: int = UNLIMITED
    headroom: int = 0
    """Bytes that must stay free on the disk: with less, what waits may not grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Class:
    """Messages that are treated alike."""

    name: str = DEFAULT_CLASS
    subjects: tuple[str, ...] = ()
    """Empty: all that no class before takes."""
    priority: int = 5
    """0 goes first."""
    live_first: bool = False
    """After an outage new messages do not wait for old ones, which go in a lane of their own."""
    rate: Rate = Rate()
    hours: tuple[Hours, ...] = ()
    """Empty: always."""
    sampling: Sampling = Sampling()
    watch: Watch = Watch()
    budget: Budget = Budget()

    def takes(self, subject: bytes) -> bool:
        return not self.subjects or any(matches(one.encode(), subject) for one in self.subjects)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """One `forward` block."""

    name: str
    stream: str
    to: Destination
    account: str = "$G"
    filters: tuple[str, ...] = ()
    """Subjects of the local stream; empty: all of it."""
    classes: tuple[Class, ...] = (Class(),)
    """The first that takes a message has it; the last takes all."""
    window: Window = field(default_factory=Window)
    rate: Rate = Rate()
    """Of all classes together."""
    partitions: int = 1
    """Lanes of each class that go in parallel; a key always takes the same one."""
    partition_token: int = 0
    """The subject's token that is the key, from 1."""
    start: Start = Start()
    receipts_ns: int = 60 * SECOND
    """Between receipts of what did not go."""
    delete: bool = False
    """Messages leave the local stream when the hub has them."""
    adopt: bool = False
    """Take over the name from an instance that is gone."""

    @property
    def control(self) -> str:
        """Where this forward's own messages are, at the hub."""
        return f"{CONTROL}.{self.to.stream}.{self.name}"

    @property
    def notices(self) -> str:
        """The local stream of receipts, aggregates and advisories that wait for the hub."""
        return f"FORWARD_{self.name}"

    @property
    def parked(self) -> str:
        """The local stream of messages that the hub would not have."""
        return f"PARKED_{self.name}"

    def wants(self, subject: bytes) -> bool:
        return not self.filters or any(matches(one.encode(), subject) for one in self.filters)

    def class_of(self, subject: bytes) -> Class:
        return next(one for one in self.classes if one.takes(subject))

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
