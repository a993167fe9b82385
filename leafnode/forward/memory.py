"""What a lane remembers across restarts. It may be older than the truth: the hub knows better, and is asked."""

import dataclasses
import json
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Memory:
    """One lane's row in the store."""

    created: int = 0
    """When the local stream was made; another value: it is another stream, and begins anew."""
    position: int = 0
    """Everything up to here has arrived, or is in a receipt."""
    time: int = 0
    """Of the message at `position`."""
    session: str = ""
    """The last fence that the hub acknowledged."""
    fence: int = 0
    """Its sequence at the hub."""
    pending: str = ""
    """A fence that was being written: the hub may have it."""
    hub_created: str = ""
    """When the hub's stream was made."""
    hub_seq: int = 0
    """The hub's newest sequence that we know of: what we did is not before it."""
    reserved: int = 0
    """Nothing behind this sequence was ever sent."""
    spans: list[list[int]] | None = None
    """Of a lane of old messages: what it has to send, each behind the first sequence and up to the second."""
    backlog: int = 0
    """Messages that wait, of those up to `counted`."""
    backlog_bytes: int = 0
    counted: int = 0
    judged: int = 0
    """Up to here it was decided what goes."""
    skipped: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    """By reason: messages behind `position` that do not go."""
    delivered: int = 0
    delivered_bytes: int = 0

    def to_bytes(self) -> bytes:
        values = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(values, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, row: bytes) -> "Memory":
        """Of a row; what this version does not know is left out, what is missing has its default."""
        value = json.loads(row)
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: item for name, item in value.items() if name in known})
