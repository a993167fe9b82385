"""A key-value bucket: the newest message of each subject `$KV.BUCKET.KEY` of the stream `KV_BUCKET` (ADR-8).

A put into a bucket of another domain goes to `$JS.DOMAIN.API.$KV.BUCKET.KEY`, which that domain's servers map back to
`$KV.BUCKET.KEY` (nats-server, generateJSMappingTable). The library has a key-value class, but its ordered consumers
cannot read the acknowledgement subjects of another domain, and a watch is made of one: hence our own.

A watch is an ephemeral push consumer whose deliveries are numbered. A gap, a missing heartbeat or a lost connection
means: set up another consumer that starts behind the last revision seen. So a watch never misses the newest revision
of a key, and never ends by itself.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from agent.edges import Edge
from agent.errors import ApiError, ConnectionFailed, NotAnswered
from agent.jetstream import INTERRUPTED, NANOSECONDS, Inbox, JetStream, Message, delivered
from leafnode.base import nuid

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 5  # a watch whose server says nothing for twice this long is set up anew
IDLE_SECONDS: Final = 60  # the server forgets a watch whose reader vanished for this long
RETRY_SECONDS: Final = 1.0  # between attempts to set up a watch while the broker or the bucket is away
HEADER_OPERATION: Final = "KV-Operation"
HEADER_MARKER: Final = "Nats-Marker-Reason"
HEADER_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
HEADER_TTL: Final = "Nats-TTL"

Operation = Literal["put", "delete", "purge", "expired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One revision of a key. `value` is empty unless `operation` is put; `expired`: its time to live ran out."""

    key: str
    value: bytes
    revision: int
    operation: Operation
    created: datetime

    @property
    def is_put(self) -> bool:
        return self.operation == "put"


class Conflict(ApiError):  # noqa: N818 (a state of the bucket)
    """The key has another revision than expected, or exists already."""


def bucket_config(name: str, *, history: int = 1, ttl_markers_s: float = 0.0, **more: Any) -> dict[str, Any]:
    """The stream configuration of a bucket as the NATS clients make it; `ttl_markers_s` allows keys that expire and
    says how long the marker of an expired key stays."""
    config: dict[str, Any] = {
        "name": f"KV_{name}",
        "subjects": [f"$KV.{name}.>"],
        "max_msgs_per_subject": history,
        "discard": "new",
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
    }
    if ttl_markers_s:
        config |= {"allow_msg_ttl": True, "subject_delete_marker_ttl": int(ttl_markers_s * NANOSECONDS)}
    return config | more


class Bucket:
    """The bucket `name` in the JetStream `js`. Every method raises NotAnswered when it cannot be reached."""

    def __init__(self, js: JetStream, name: str) -> None:
        self.name = name
        self.stream = f"KV_{name}"
        self._js = js
        self._subjects = f"$KV.{name}."
        self._puts = f"{js.prefix}.{self._subjects}" if js.domain else self._subjects

    async def ensure(self, *, history: int = 1, ttl_markers_s: float = 0.0, **more: Any) -> bool:
        """Make the bucket exist as configured; True if it was created or changed."""
        return await self._js.ensure_stream(
            bucket_config(self.name, history=history, ttl_markers_s=ttl_markers_s, **more)
        )

    async def exists(self) -> bool:
        return await self._js.stream_info(self.stream) is not None

    # Writing

    async def put(self, key: str, value: bytes, *, ttl_s: float | None = None) -> int:
        """Set the key; with `ttl_s` (whole seconds, at least 1) it expires. Returns the revision."""
        return await self._write(key, value, _ttl(ttl_s))

    async def create(self, key: str, value: bytes, *, ttl_s: float | None = None) -> int:
        """Set a key that does not exist, or was deleted.

        Raises:
            Conflict: it exists.
        """
        last = await self._last(key)
        if last is not None and last.is_put:
            raise Conflict(key, 400, 10071, f"key exists with revision {last.revision}")
        return await self.update(key, value, last.revision if last else 0, ttl_s=ttl_s)

    async def update(self, key: str, value: bytes, revision: int, *, ttl_s: float | None = None) -> int:
        """Set the key only if `revision` is its last one (0: it must not exist).

        Raises:
            Conflict: it is not.
        """
        return await self._write(key, value, {HEADER_EXPECTED: str(revision), **_ttl(ttl_s)})

    async def delete(self, key: str, *, revision: int | None = None) -> int:
        """Mark the key as deleted; its history stays."""
        expected = {HEADER_EXPECTED: str(revision)} if revision is not None else {}
        return await self._write(key, b"", {HEADER_OPERATION: "DEL", **expected})

    async def purge(self, key: str) -> int:
        """Mark the key as deleted and remove its history."""
        return await self._write(key, b"", {HEADER_OPERATION: "PURGE", "Nats-Rollup": "sub"})

    async def _write(self, key: str, value: bytes, headers: Mapping[str, str]) -> int:
        try:
            return (await self._js.publish(f"{self._puts}{key}", value, headers=headers)).seq
        except ApiError as error:
            if error.is_conflict:
                raise Conflict(key, error.code, error.err_code, error.description) from error
            raise

    # Reading

    async def get(self, key: str, *, revision: int | None = None) -> Entry | None:
        """The newest revision, or the numbered one; None when absent, deleted or expired."""
        entry = await (self._at(key, revision) if revision else self._last(key))
        return entry if entry and entry.is_put else None

    async def _last(self, key: str) -> Entry | None:
        found = await self._js.message(self.stream, last_of=f"{self._subjects}{key}")
        return self._entry(found.subject, found.data, found.headers, found.seq, found.created) if found else None

    async def _at(self, key: str, revision: int) -> Entry | None:
        found = await self._js.message(self.stream, seq=revision)
        if not found or found.subject != f"{self._subjects}{key}":
            return None
        return self._entry(found.subject, found.data, found.headers, found.seq, found.created)

    async def entries(self, pattern: str = ">", *, timeout_s: float = 10.0) -> dict[str, Entry]:
        """The newest revision of every key that matches and exists now.

        Raises:
            NotAnswered: not all of it came within `timeout_s`.
        """
        found: dict[str, Entry] = {}
        try:
            async with (
                asyncio.timeout(timeout_s),
                contextlib.aclosing(self._follow(pattern, "last_per_subject")) as all_,
            ):
                async for entry in all_:
                    if entry is None:
                        break
                    found[entry.key] = entry
        except TimeoutError as error:
            raise NotAnswered(f"bucket {self.name} was not read within {timeout_s:g} s") from error
        return {key: entry for key, entry in found.items() if entry.is_put}

    async def history(self, key: str, *, timeout_s: float = 10.0) -> list[Entry]:
        """Every revision that is kept, oldest first, deletions included."""
        found: list[Entry] = []
        try:
            async with asyncio.timeout(timeout_s), contextlib.aclosing(self._follow(key, "all")) as all_:
                async for entry in all_:
                    if entry is None:
                        break
                    found.append(entry)
        except TimeoutError as error:
            raise NotAnswered(f"bucket {self.name} was not read within {timeout_s:g} s") from error
        return found

    async def watch(
        self, *patterns: str, renewed: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[Entry | None, None]:
        """The newest revision of each matching key, then None once, then every change; for ever, across outages.

        `renewed` is called when the bucket was deleted and made again: what follows is all that there is now. Close it
        (`contextlib.aclosing`) when leaving early.
        """
        seen = 0
        made = ""
        told = False
        edge = Edge(log, f"watch of {self.name}")
        while True:
            try:
                earlier, made = made, await self._made()
                if earlier not in ("", made):
                    seen = 0
                    renewed()
                async with contextlib.aclosing(self._follow(patterns or (">",), "", after=seen)) as entries:
                    async for entry in entries:
                        edge.works()
                        if entry is not None:
                            seen = max(seen, entry.revision)
                            yield entry
                        elif not told:
                            told = True
                            yield None
            except (NotAnswered, ConnectionFailed, ApiError) as error:
                edge.failed(error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _made(self) -> str:
        """When the bucket was made, in the server's words: another answer means another bucket.

        Raises:
            NotAnswered: it is not there.
        """
        info = await self._js.stream_info(self.stream)
        if info is None:
            raise NotAnswered(f"there is no bucket {self.name}; a hub is prepared by: fleet init")
        return str(info["created"])

    async def _follow(
        self, patterns: str | tuple[str, ...], policy: str, *, after: int = 0
    ) -> AsyncGenerator[Entry | None, None]:
        """Entries of one consumer, with None where what was there at the start ends.

        Raises:
            NotAnswered: a delivery or a heartbeat is missing.
        """
        transport = self._js.transport
        patterns = (patterns,) if isinstance(patterns, str) else patterns
        async with transport.listen() as inbox:
            pending = await self._consume(inbox.subject, patterns, policy, after)
            if not pending:
                yield None
            initial = pending > 0
            expected = 1
            while True:
                message = await _next(inbox, self.name)
                if message.status == "100":
                    await self._control(message, expected)
                    continue
                about = delivered(message)
                if about.consumer_seq != expected:
                    raise NotAnswered(f"bucket {self.name}: delivery {expected} is missing")
                expected += 1
                yield self._entry(message.subject, message.data, message.headers, about.stream_seq, about.created)
                if initial and about.pending == 0:
                    initial = False
                    yield None

    async def _consume(self, inbox: str, patterns: tuple[str, ...], policy: str, after: int) -> int:
        """Create the consumer; how many messages it will deliver at once."""
        start: dict[str, Any] = {"deliver_policy": policy or "last_per_subject"}
        if after:
            start = {"deliver_policy": "by_start_sequence", "opt_start_seq": after + 1}
        filters = [f"{self._subjects}{pattern}" for pattern in patterns]
        name = nuid.new()
        config = {
            "name": name,
            **({"filter_subject": filters[0]} if len(filters) == 1 else {"filter_subjects": filters}),
            **start,
            "deliver_subject": inbox,
            "ack_policy": "none",
            "max_deliver": 1,
            "replay_policy": "instant",
            "flow_control": True,
            "idle_heartbeat": HEARTBEAT_SECONDS * NANOSECONDS,
            "inactive_threshold": IDLE_SECONDS * NANOSECONDS,
            "mem_storage": True,
            "num_replicas": 1,
        }
        body = {"stream_name": self.stream, "config": config, "action": "create"}
        info = await self._js.api(f"CONSUMER.CREATE.{self.stream}.{name}", body)
        return int(info.get("num_pending", 0)) + int(info.get("delivered", {}).get("consumer_seq", 0))

    async def _control(self, message: Message, expected: int) -> None:
        """Answer flow control, so that the server goes on; notice what a heartbeat says was sent and never came."""
        stalled = message.headers.get("Nats-Consumer-Stalled", "")
        for reply in filter(None, (message.reply, stalled)):
            await self._js.transport.publish(reply, b"")
        if int(message.headers.get("Nats-Last-Consumer") or 0) >= expected:
            raise NotAnswered(f"bucket {self.name}: delivery {expected} is missing")

    def _entry(self, subject: str, data: bytes, headers: Mapping[str, str], revision: int, created: datetime) -> Entry:
        operation = _operation(headers)
        return Entry(
            key=subject.removeprefix(self._subjects),
            value=data if operation == "put" else b"",
            revision=revision,
            operation=operation,
            created=created,
        )


def _operation(headers: Mapping[str, str]) -> Operation:
    """ADR-8 for deletions; ADR-43 and ADR-48 for markers that the server sets when a key expired."""
    marked = {"DEL": "delete", "PURGE": "purge"}.get(headers.get(HEADER_OPERATION, ""))
    if marked:
        return "delete" if marked == "delete" else "purge"
    reason = headers.get(HEADER_MARKER, "")
    if reason:
        return {"MaxAge": "expired", "Purge": "purge"}.get(reason, "delete")  # type: ignore[return-value]
    return "put"


def _ttl(ttl_s: float | None) -> dict[str, str]:
    return {} if ttl_s is None else {HEADER_TTL: f"{max(1, math.ceil(ttl_s))}s"}


async def _next(inbox: Inbox, bucket: str) -> Message:
    try:
        async with asyncio.timeout(2 * HEARTBEAT_SECONDS + 1):
            message = await anext(inbox)
    except TimeoutError:
        raise NotAnswered(f"bucket {bucket}: no heartbeat for {2 * HEARTBEAT_SECONDS} s") from None
    if message.status == INTERRUPTED:
        raise NotAnswered(f"bucket {bucket}: the connection was lost")
    return message
