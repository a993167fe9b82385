"""The protocol in the log: what a connection is to do about it when it begins. Like the log, it is the process's.

Off, it costs a look at an attribute for each chunk that a socket gave or takes.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from leafnode.base.logs import TRACE
from leafnode.config.options import Config
from leafnode.wire.trace import Conversation, quoted

log = logging.getLogger("leafnode.protocol")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is shown."""

    on: bool = False
    of_system: bool = False
    """What the server itself says in the system account, too."""
    limit: int = 0
    """Bytes of a payload; 0 = all."""
    headers_only: bool = False
    """Of payloads, only headers."""


_rules = Rules()


def set_rules(config: Config) -> None:
    """For connections to come; `begin` again for those that are there."""
    global _rules
    _rules = Rules(
        on=config.trace,
        of_system=config.trace_verbose,
        limit=config.max_traced_msg_len,
        headers_only=config.trace_headers,
    )


def begin(name: Callable[[], str]) -> Conversation | None:
    """A follower for a connection that calls itself `name()`; None where nothing is traced."""
    if not _rules.on:
        return None

    def say(line: str) -> None:
        log.log(TRACE, "%s - %s", name(), line)

    return Conversation(say, limit=_rules.limit, headers_only=_rules.headers_only)


def system_said(subject: bytes, reply: bytes, payload: bytes) -> None:
    """A message that the server itself published."""
    if _rules.on and _rules.of_system:
        to = b" ".join(part for part in (subject, reply) if part).decode(errors="replace")
        log.log(TRACE, "SYSTEM - <<- [PUB %s %d]", to, len(payload))
        shown = payload[: _rules.limit] if 0 < _rules.limit < len(payload) else payload
        more = "..." if shown is not payload else ""
        log.log(TRACE, 'SYSTEM - <<- MSG_PAYLOAD: ["%s%s"]', quoted(shown), more)
