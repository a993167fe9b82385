"""Account JWTs that are fetched when they are first needed: once, however many clients wait for the same one."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from leafnode.errors import TrustError
from leafnode.net.account_source import Source

FETCHES_MAX = 256  # accounts asked for at a time; a flood of made-up users finds itself refused at once
AGAIN_SECONDS = 30.0  # until an account that was not found is asked for again without a client


class Fetching:
    """Asks a source."""

    def __init__(self, source: Source, take: Callable[[str, str], Awaitable[None]]) -> None:
        """`take(account, JWT)` makes the account, or raises TrustError."""
        self._source = source
        self._take = take
        self._running: dict[str, asyncio.Task[None]] = {}
        self._tried: dict[str, float] = {}  # account to when (s, monotonic)

    async def fetch(self, account: str) -> None:
        """Returns when the account is there.

        Raises:
            TrustError: it will not be.
        """
        task = self._running.get(account)
        if task is None:
            if len(self._running) >= FETCHES_MAX:
                raise TrustError(f"too many accounts are being looked for: {account} is not")
            task = self._running[account] = asyncio.create_task(self._fetch(account), name=f"fetch {account}")
            task.add_done_callback(lambda done: self._end(account, done))
        await asyncio.shield(task)

    async def _fetch(self, account: str) -> None:
        text = await self._source.fetch(account)
        if not text:
            raise TrustError(f"account {account} is not known to the resolver")
        await self._take(account, text)

    def _end(self, account: str, done: "asyncio.Task[None]") -> None:
        self._running.pop(account, None)
        if not done.cancelled():
            done.exception()  # whoever waited has it; nobody may have

    def tried_lately(self, account: str) -> bool:
        """Whether a try for this account, in the background, has to wait; if not, it counts as made now."""
        now = time.monotonic()
        if now - self._tried.get(account, -AGAIN_SECONDS) < AGAIN_SECONDS:
            return True
        self._tried = {name: at for name, at in self._tried.items() if now - at < AGAIN_SECONDS}
        self._tried[account] = now
        return False

    def close(self) -> None:
        for task in self._running.values():
            task.cancel()
        self._source.close()
