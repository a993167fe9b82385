"""The thread that commits: one job is one hop there and one callback back, whatever the job does.

aiosqlite, which opens and reads everything else, has a public method for each call of sqlite3: a commit would be
several hops, and each answer takes two turns of the event loop, for its future and for the task behind it. An
acknowledgement that waits for a disk of 150 us notices (docs/decisions/0008). So the commit has a connection and a
thread of its own.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")
Job = Callable[[sqlite3.Connection], Any]
Done = Callable[[Any, BaseException | None], None]


class Writer:
    """Runs jobs one after the other with the one connection that writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """`connection` was opened for another thread's use; it is closed at the end."""
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[tuple[Job, Done] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job, done: Done) -> None:
        """Run `job` in the thread, then `done(result, None)` or `done(None, error)` in the event loop."""
        self._jobs.put((job, done))

    async def run(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        """The same for those who can wait for it."""
        answer: asyncio.Future[Result] = self._loop.create_future()

        def done(result: Any, error: BaseException | None) -> None:
            if answer.cancelled():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)

        self.submit(job, done)
        return await answer

    async def close(self) -> None:
        """Do what was submitted, close the connection, end the thread."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        back = self._loop.call_soon_threadsafe
        while (job := self._jobs.get()) is not None:
            call, done = job
            try:
                result = call(self._connection)
            except BaseException as error:  # whoever asked decides
                back(done, None, error)
            else:
                back(done, result, None)
            del job, call, done
        self._connection.close()
