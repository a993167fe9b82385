"""Configuration without a file: an executable on the device takes the values.

It gets them as one JSON object on its standard input; exit code 0 means applied, anything else refused. A device that
lost its power meanwhile runs it again, so it must be able to take the same values twice.
"""

import json

from agent.attempt import ApplyError, Attempts, digest_of
from agent.desired import Desired
from agent.record import Applied


class HookApplier(Attempts):
    """Hands one item's values to its executable. One call at a time."""

    async def apply(self, desired: Desired) -> Applied | None:
        """Run the hook unless it took these values already; None when there was nothing to do."""
        if not desired.revisions:
            return None
        body = json.dumps(desired.values, sort_keys=True, ensure_ascii=False).encode(errors="replace")
        digest = "" if desired.error else digest_of(body)
        last = self.last
        if last is not None and last.state != "pending" and last.digest == digest:
            if (last.revisions, last.overridden_until) == (desired.revisions, desired.overridden_until):
                return None
            if last.state == "applied":
                return self._settle(desired, "applied", digest)  # another revision of the same values
        if desired.error:
            return self._settle(desired, "refused", digest, desired.error)
        self._note(Applied(state="pending", revision=desired.revision, revisions=desired.revisions, digest=digest))
        try:
            await self._must_succeed("hook", self.item.hook, body)
        except ApplyError as error:
            return self._settle(desired, "refused", digest, str(error))
        return self._settle(desired, "applied", digest)
