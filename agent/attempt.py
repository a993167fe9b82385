"""What every kind of configured item has: its record, its lock, and the way a result is settled."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from agent import processes
from agent.desired import Desired
from agent.payloads import ConfigState
from agent.record import Applied, Record
from agent.settings import Item

log = logging.getLogger(__name__)

OUTPUT_BYTES: Final = 4096  # kept of what the item's commands print: the reason, for the status
MAX_ERROR: Final = 1000  # characters of a reason in a status

Step = Callable[[str], None]


class ApplyError(Exception):
    """A step failed; the text is the reason for the status."""


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def reason_of(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'file'}: {error.strerror or error}"
    return str(error)


class Attempts:
    """One item's attempts. `step` hears the name of each step before it is taken; fault tests end the process there."""

    def __init__(self, name: str, item: Item, state_dir: Path, step: Step = lambda name: None) -> None:
        self.name = name
        self.item = item
        self.lock = asyncio.Lock()
        """Held by whoever changes the item."""
        self._record = Record(state_dir, name)
        self._step = step
        self.last = self._record.read()

    @property
    def unconfirmed(self) -> bool:
        """Whether a change is in place that the next attempt must not build upon."""
        return False

    async def look(self) -> Applied | None:
        """See whether what was applied is still in place; what is to be reported, if anything."""
        return None

    async def _must_succeed(self, step: str, argv: Sequence[str], stdin: bytes | None = None) -> None:
        if not argv:
            return
        ended = await processes.run(argv, timeout_s=self.item.timeout_s, output_bytes=OUTPUT_BYTES, stdin=stdin)
        if not ended.succeeded:
            why = "failed; the item is secret, so what it printed is not shown" if self.item.secret else ended.summary()
            raise ApplyError(f"{step} {argv[0]} {why}")

    def _settle(self, desired: Desired, state: ConfigState, digest: str, error: str = "", diff: str = "") -> Applied:
        applied = Applied(
            state=state,
            revision=desired.revision,
            revisions=desired.revisions,
            digest=digest,
            error=error[:MAX_ERROR],
            diff=diff,
            overridden_until=desired.overridden_until,
        )
        self._step("record")
        self._note(applied)
        if state == "applied":
            log.info("config applied item=%s revision=%d", self.name, desired.revision)
        else:
            log.warning("config %s item=%s revision=%d reason=%r", state, self.name, desired.revision, applied.error)
        return applied

    def _note(self, applied: Applied) -> None:
        self._record.write(applied)
        self.last = applied
