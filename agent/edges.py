"""One log line when something begins to fail, one when it works again; silence in between.

While the connection itself is down nothing is said: the bus says that once, for everybody.
"""

import logging

from agent.errors import NotConnected


class Edge:
    """Remembers whether one thing is failing. `what` begins both lines."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._told = False

    def failed(self, reason: Exception | str) -> None:
        if not self._told and not isinstance(reason, NotConnected):
            self._told = True
            self._log.warning("%s waiting reason=%r", self._what, str(reason))

    def works(self, more: str = "") -> None:
        """`more` are fields of the line."""
        if self._told:
            self._told = False
            self._log.info("%s resumed%s", self._what, f" {more}" if more else "")
