"""What a forward writes at the hub: the header that says where a message is from, and the fence of a lane.

    Leafnode-Source: <forward> <stream> <created> <sequence> <time> <subject>

`created` is when the local stream was made: with it, a sequence names one message for ever, whatever happens to the
stream. `time` is when the local stream took the message. Both are nanoseconds since 1970.
"""

import json
from typing import NamedTuple

from leafnode.wire import headers as header_block

SOURCE = b"Leafnode-Source"
ORIGINAL_ID = b"Leafnode-Msg-Id"
FENCE_VERSION = 1
_ID = b"Nats-Msg-Id:"
_TTL = b"Nats-TTL:"
_CONTROLS = (
    b"Nats-Expected-",
    b"Nats-Batch-",
    b"Nats-Schedule",
    b"Nats-Incr:",
    b"Nats-Rollup:",
    b"Nats-Stream-Source:",
    b"Nats-Required-Api-Level:",
    SOURCE + b":",
)  # what controlled the first publish, and would control the second


class Origin(NamedTuple):
    """Which message a copy is of."""

    forward: bytes
    stream: bytes
    created: int
    seq: int
    time: int
    subject: bytes


class Fence(NamedTuple):
    """The newest session of a lane, as the hub keeps it."""

    instance: str
    server: str
    session: str
    created: int  # of the local stream
    position: int  # everything up to this sequence had arrived when the session began
    time: int  # of the message at `position`
    hub_seq: int  # what arrived besides is behind this sequence of the hub


def origin_of(headers: bytes) -> Origin | None:
    """Where a copy at the hub is from; None: it is no copy of a forward."""
    value = header_block.get(headers, SOURCE)
    parts = value.split(b" ", 5) if value else []
    if len(parts) != 6 or not (parts[2].isdigit() and parts[3].isdigit() and parts[4].isdigit()):
        return None
    return Origin(parts[0], parts[1], int(parts[2]), int(parts[3]), int(parts[4]), parts[5])


def source_line(origin: Origin) -> tuple[bytes, bytes]:
    return SOURCE, b"%b %b %d %d %d %b" % origin


def copied(headers: bytes, *, keep_ttl: bool) -> bytes:
    """The headers of a message without what a stream would act on; its id goes on under another name, because the
    hub's duplicate window is about the hub's own publishers.
    """
    if b"\r\nNats-" not in headers and SOURCE not in headers:
        return headers
    kept = []
    for line in headers.split(b"\r\n"):
        if line.startswith(_CONTROLS) or (line.startswith(_TTL) and not keep_ttl):
            continue
        kept.append(ORIGINAL_ID + line[len(_ID) - 1 :] if line.startswith(_ID) else line)
    return b"\r\n".join(kept)


def fence_body(fence: Fence) -> bytes:
    return json.dumps({"v": FENCE_VERSION, **fence._asdict()}, separators=(",", ":")).encode()


def fence_of(body: bytes) -> Fence | None:
    """None: it is not a fence that this version can read."""
    try:
        value = json.loads(body)
        if value["v"] != FENCE_VERSION:
            return None
        return Fence(
            str(value["instance"]),
            str(value["server"]),
            str(value["session"]),
            int(value["created"]),
            int(value["position"]),
            int(value["time"]),
            int(value["hub_seq"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
