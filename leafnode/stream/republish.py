"""Republishing (ADR-28): every stored message goes out once more under another subject, before its PubAck."""

from typing import Any

from leafnode.route.message import Message
from leafnode.route.transform import Transform
from leafnode.stream import times
from leafnode.stream.stored import Stored
from leafnode.wire import headers as header_block


class Republisher:
    """Makes the second message of a stored one."""

    def __init__(self, stream_name: str, config: dict[str, Any]) -> None:
        self._name = stream_name.encode()
        self._transform = Transform(config.get("src", ""), config.get("dest", ""))
        self._bare = bool(config.get("headers_only"))

    def message(self, stored: Stored, previous: int) -> Message | None:
        """None if its subject is not republished. `previous`: the sequence before it on its subject, 0 for none."""
        to = self._transform.apply(stored.subject)
        if to is None:
            return None
        lines = [
            (b"Nats-Stream", self._name),
            (b"Nats-Subject", stored.subject),
            (b"Nats-Sequence", b"%d" % stored.seq),
            (b"Nats-Time-Stamp", times.to_text(stored.time).encode()),
            (b"Nats-Last-Sequence", b"%d" % previous),
        ]
        if self._bare:
            lines.append((b"Nats-Msg-Size", b"%d" % len(stored.payload)))
        headers = header_block.with_lines(stored.headers, *lines)
        return Message(to, b"", headers, b"" if self._bare else stored.payload)
