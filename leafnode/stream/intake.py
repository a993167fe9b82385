"""The headers of a publish that decide whether and how a stream takes it (spec jetstream-api section 4).

`read` collects them in one pass over the block; the checks that need the stream's state are made in `admission`, in
nats-server's order. Names are compared exactly, and of several headers of one name the first counts, as there.
"""

from leafnode.errors import ApiError
from leafnode.stream import faults, times
from leafnode.wire import headers as header_block

HEADERS_MAX = 65535  # bytes; nats-server keeps the length of stored headers in 16 bits
DIGITS_MAX = 20  # of a sequence: all that 64 bits hold
NEVER = -1  # a TTL without an end
NO_NUMBER = -1  # what a header says instead of a sequence: equal to none
_PREFIX = b"\r\nNats-"


class Wishes:
    """What a publisher asks by headers. An empty value is as good as none."""

    __slots__ = ("expected_last", "expected_subject_last", "given", "msg_id", "rollup")

    def __init__(self, given: dict[bytes, bytes]) -> None:
        self.given = given  # the first value of each header whose name begins with Nats-
        self.msg_id = given.get(b"Nats-Msg-Id", b"")
        self.rollup = given.get(b"Nats-Rollup", b"").lower()
        self.expected_last = _sequence(given.get(b"Nats-Expected-Last-Sequence"))
        self.expected_subject_last = _sequence(given.get(b"Nats-Expected-Last-Subject-Sequence"))

    def get(self, name: bytes) -> bytes:
        return self.given.get(name, b"")

    @property
    def expected_subject(self) -> bytes:
        return self.given.get(b"Nats-Expected-Last-Subject-Sequence-Subject", b"")

    @property
    def expected_stream(self) -> bytes:
        return self.given.get(b"Nats-Expected-Stream", b"")

    @property
    def expected_id(self) -> bytes:
        return self.given.get(b"Nats-Expected-Last-Msg-Id", b"")

    @property
    def ttl(self) -> bytes:
        return self.given.get(b"Nats-TTL", b"")

    @property
    def expects(self) -> bool:
        """Whether anything is said about the stream's state or name."""
        return (
            self.expected_last is not None
            or self.expected_subject_last is not None
            or bool(self.expected_subject or self.expected_stream or self.expected_id)
        )


def read(headers: bytes) -> Wishes | None:
    """The publish controls in a header block; None if there are none."""
    if _PREFIX not in headers:
        return None
    given: dict[bytes, bytes] = {}
    for line in headers.split(b"\r\n")[1:]:
        if line.startswith(b"Nats-"):
            name, _, value = line.partition(b":")
            given.setdefault(name, value.lstrip(b" "))
    return Wishes(given)


def is_marker(block: bytes) -> bool:
    """Whether a message says that its subject is gone: the server's marker, or a key's purge. It leaves no marker of
    its own when it expires (measured against nats-server; `KV-Operation: DEL` does leave one).
    """
    return header_block.get(block, b"Nats-Marker-Reason") is not None or (
        header_block.get(block, b"KV-Operation") == b"PURGE"
    )


def _sequence(value: bytes | None) -> int | None:
    return number(value) if value else None


def number(value: bytes) -> int:
    """A count in digits, or NO_NUMBER."""
    return int(value) if value.isdigit() and len(value) <= DIGITS_MAX else NO_NUMBER


def ttl_ns(value: bytes) -> int:
    """Nanoseconds of whole seconds, or NEVER.

    Raises:
        ApiError: 10165.
    """
    text = value.decode(errors="replace")
    if text.lower() == "never":
        return NEVER
    try:
        ttl = min(int(text) * times.SECOND, times.LONGEST) if text.isdigit() else times.duration(text)
    except ValueError:
        raise invalid_ttl() from None
    if ttl < times.SECOND:
        raise invalid_ttl()
    return ttl - ttl % times.SECOND


def invalid_ttl() -> ApiError:
    return faults.fault(faults.INVALID_TTL)
