"""The talk with the hub that opens a lane's session: look at the stream, read the fence, write ours, see what arrived.

    STREAM.INFO        does it take our subjects, what are its limits
    STREAM.MSG.GET     the lane's fence: whose session was the last, and how far was it
    (publish)          our fence, expecting the one just read: from here on, nothing of an earlier session is stored,
                       however long it was on its way, because each message expects its own session's fence
    CONSUMER.*         what arrived between the position that we know and our fence, by its headers

After that it is known exactly which messages the hub has. No duplicate window is involved, and the hub's stream needs
nothing but the subjects. Why so: docs/decisions.
"""

import base64
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from leafnode.forward import record
from leafnode.forward.memory import Memory
from leafnode.forward.plan import Forward
from leafnode.forward.record import Fence
from leafnode.route.message import Message
from leafnode.route.subject import is_subset
from leafnode.wire import headers as header_block

PAGE = 256  # headers of one request while looking: about 50 KB, so that a slow link answers in time
CONSUMER_NS = 60_000_000_000  # after which the hub forgets the consumer that we looked with
FOUND_MAX = 200_000  # messages found, about 100 bytes each; lanes renew their fence long before
_NO_MESSAGE = 10037
_NO_STREAM = 10059
_ACK_PENDING, _ACK_STREAM_SEQ = -1, -4  # places in an acknowledgement subject, from its end

Ask = Callable[[str, bytes, bytes, Callable[[Message], None]], None]
"""subject, headers, body, what to do with each answer."""


class HubStream(NamedTuple):
    """What the hub's stream is like."""

    created: str
    first_seq: int
    last_seq: int
    max_msg_size: int
    keeps_ttl: bool
    one_per_subject: bool  # it may refuse one message and take the next: keep order by waiting
    one_at_a_time: bool  # replicas refuse a second message that expects the same fence


class Opened(NamedTuple):
    """The session stands."""

    session: str
    fence: int
    hub: HubStream
    known: tuple[int, int]  # our store was restored: messages up to this sequence and time had arrived
    back_to: int | None  # the hub was restored: what is behind this sequence is gone there
    found: dict[int, int]  # sequence -> time of messages that the hub has
    is_complete: bool  # the hub still has everything since: what was not found is not there
    rolled_back: bool  # our store is older than the hub's knowledge: it was restored


class Opening:
    """One attempt. Ends with `done(Opened)` or `failed(reason, is_final)`."""

    def __init__(
        self,
        forward: Forward,
        fence_subject: str,
        memory: Memory,
        *,
        instance: str,
        server: str,
        session: str,
        ask: Ask,
        keep: Callable[[], None],
        done: Callable[[Opened], None],
        failed: Callable[[str, bool], None],
        may_adopt: bool,
        must_look: bool,
        is_split: bool,
        sends_notices: bool,
    ) -> None:
        """`keep()` stores the memory before the fence is written. `must_look`: something may have been on its way."""
        self._forward = forward
        self._fence_subject = fence_subject
        self._memory = memory
        self._instance = instance
        self._server = server
        self._session = session
        self._ask = ask
        self._keep = keep
        self._done = done
        self._failed = failed
        self._may_adopt = may_adopt
        self._must_look = must_look
        self._is_split = is_split
        self._sends_notices = sends_notices
        self._hub: HubStream
        self._filters: list[str] = []
        self._known = (0, 0)
        self._back_to: int | None = None
        self._from = 0  # the hub's sequence behind which to look
        self._rolled_back = False
        self._fence = 0
        self._found: dict[int, int] = {}
        self._due = 0  # messages of the page that are still to come
        self._consumer = f"FWD_{session[-8:]}"

    def begin(self) -> None:
        self._ask(f"{self._forward.to.api}.STREAM.INFO.{self._forward.to.stream}", b"", b"", self._on_info)

    # the stream --------------------------------------------------------------------------------------------------

    def _on_info(self, message: Message) -> None:
        answer = _json(message)
        error = answer.get("error")
        if error:
            missing = error.get("err_code") == _NO_STREAM
            hint = f": make it there, with the subjects {', '.join(self._needs())}" if missing else ""
            self._failed(f"hub stream {self._forward.to.stream}: {error.get('description')}{hint}", missing)
            return
        config, state = answer.get("config", {}), answer.get("state", {})
        reason = self._unfit(config)
        if reason:
            self._failed(f"hub stream {self._forward.to.stream}: {reason}", True)
            return
        self._filters = [] if config.get("subject_transform") else _disjoint([*self._own_targets(), *self._targets()])
        self._hub = HubStream(
            created=str(answer.get("created", "")),
            first_seq=int(state.get("first_seq", 0)),
            last_seq=int(state.get("last_seq", 0)),
            max_msg_size=int(config.get("max_msg_size", -1)),
            keeps_ttl=bool(config.get("allow_msg_ttl")),
            one_per_subject=config.get("discard") == "new",
            one_at_a_time=int(config.get("num_replicas", 1)) > 1,
        )
        body = json.dumps({"last_by_subj": self._fence_subject}).encode()
        self._ask(f"{self._forward.to.api}.STREAM.MSG.GET.{self._forward.to.stream}", b"", body, self._on_fence)

    def _targets(self) -> list[str]:
        """Where our messages go, as patterns."""
        template = self._forward.to.subject
        if not template:
            return list(self._forward.filters or (">",))
        return [".".join("*" if "{{" in token or token.startswith("$") else token for token in template.split("."))]

    def _own_targets(self) -> list[str]:
        """Where notices go, besides."""
        control = self._forward.control
        return [f"{control}.receipt", f"{control}.advisory.*"] if self._sends_notices else []

    def _needs(self) -> list[str]:
        return [*self._targets(), f"{self._forward.control}.>"]

    def _unfit(self, config: dict[str, Any]) -> str:
        """Why a stream cannot be forwarded to; empty: it can."""
        taken = [str(subject) for subject in config.get("subjects") or []]
        for needed in self._needs():
            if not any(is_subset(needed.encode(), one.encode()) for one in taken):
                return f"does not take {needed}: add it to the stream's subjects ({', '.join(taken)})"
        if config.get("retention", "limits") != "limits":
            return (
                f"has retention {config['retention']}, which takes messages away before we can see that they arrived:"
                " forward to a stream with limits, and let the other one source it"
            )
        if config.get("sealed"):
            return "is sealed"
        if config.get("no_ack"):
            return "does not acknowledge (no_ack)"
        return ""

    # the fence ---------------------------------------------------------------------------------------------------

    def _on_fence(self, message: Message) -> None:
        answer = _json(message)
        error = answer.get("error")
        if error and error.get("err_code") != _NO_MESSAGE:
            self._failed(f"reading the fence: {error.get('description')}", False)
            return
        last, fence = 0, None
        if not error:
            kept = answer.get("message", {})
            last = int(kept.get("seq", 0))
            fence = record.fence_of(_decoded(kept.get("data", "")))
        reason = self._judge(fence, last)
        if reason:
            self._failed(reason, True)
            return
        self._write_fence(last)

    def _judge(self, fence: Fence | None, last: int) -> str:
        """Take in what the last fence says; why it forbids to go on, or empty."""
        memory, hub = self._memory, self._hub
        if memory.hub_created != hub.created:
            memory.hub_created, memory.hub_seq, memory.fence = hub.created, 0, 0  # made anew: nothing of ours is there
        known = fence is not None and fence.session in (memory.session, memory.pending)
        if fence is not None and not known and fence.instance != self._instance and not self._may_adopt:
            return (
                f"'{self._forward.name}' is forwarded to {self._forward.to.stream} by another leafnode "
                f"(server {fence.server}, instance {fence.instance[:8]}): names must be unique;"
                " if that one is gone for good, set adopt: true here"
            )
        self._from = min(memory.hub_seq, hub.last_seq)
        if not (memory.session or memory.pending):
            self._must_look = False  # we never sent anything
        if fence is not None and fence.created == memory.created:
            if last < memory.fence or memory.hub_seq > hub.last_seq:  # the hub was restored: it gets again what it lost
                self._back_to = fence.position
                self._must_look = True
                self._from = min(fence.hub_seq, hub.last_seq)
            elif not known:  # our own, later than we remember: this store was restored
                self._rolled_back = True
                self._must_look = True
                if not self._is_split:  # else its position says nothing of what old messages went
                    self._known = (fence.position, fence.time)
                    self._from = min(fence.hub_seq, hub.last_seq)
        return ""

    def _write_fence(self, expected: int) -> None:
        memory = self._memory
        memory.pending = self._session
        self._keep()
        position, time = max(self._known, (memory.position, memory.time))
        if self._back_to is not None:
            position = self._back_to
        fence = Fence(self._instance, self._server, self._session, memory.created, position, time, self._from)
        body = record.fence_body(fence)
        headers = header_block.with_lines(b"", (b"Nats-Expected-Last-Subject-Sequence", b"%d" % expected))
        self._ask(self._fence_subject, headers, body, self._on_fenced)

    def _on_fenced(self, message: Message) -> None:
        answer = _json(message)
        error = answer.get("error")
        if error or not answer.get("seq"):
            self._failed(f"writing the fence: {(error or {}).get('description', 'no answer that can be read')}", False)
            return
        self._fence = int(answer["seq"])
        if self._must_look and self._from + 1 < self._fence:
            self._look()
        else:
            self._finish()

    # what arrived ------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        config: dict[str, object] = {
            "name": self._consumer,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._from + 1,
            "ack_policy": "none",
            "replay_policy": "instant",
            "headers_only": True,
            "mem_storage": True,
            "inactive_threshold": CONSUMER_NS,
        }
        if self._filters:
            config["filter_subjects"] = self._filters
        stream = self._forward.to.stream
        body = json.dumps({"stream_name": stream, "config": config, "action": "create"}).encode()
        self._ask(f"{self._forward.to.api}.CONSUMER.CREATE.{stream}.{self._consumer}", b"", body, self._on_consumer)

    def _on_consumer(self, message: Message) -> None:
        answer = _json(message)
        if answer.get("error"):
            self._failed(f"looking for what arrived: {answer['error'].get('description')}", False)
        elif answer.get("num_pending", 0):
            self._next_page()
        else:
            self._finish()

    def _next_page(self) -> None:
        self._due = PAGE
        body = json.dumps({"batch": PAGE, "no_wait": True}).encode()
        subject = f"{self._forward.to.api}.CONSUMER.MSG.NEXT.{self._forward.to.stream}.{self._consumer}"
        self._ask(subject, b"", body, self._on_page)

    def _on_page(self, message: Message) -> None:
        parts = message.reply.split(b".")
        if not message.reply.startswith(b"$JS.ACK.") or len(parts) < 9:
            if message.headers.startswith((b"NATS/1.0 404", b"NATS/1.0 408")):
                self._finish()
            else:
                self._failed(f"looking for what arrived: {message.headers[:60]!r}", False)
            return
        self._due -= 1
        origin = record.origin_of(message.headers)
        if self._is_ours(origin) and len(self._found) < FOUND_MAX:
            assert origin is not None
            self._found[origin.seq] = origin.time
        if int(parts[_ACK_PENDING]) == 0 or int(parts[_ACK_STREAM_SEQ]) >= self._fence:
            self._finish()
        elif self._due == 0:
            self._next_page()

    def _is_ours(self, origin: record.Origin | None) -> bool:
        return (
            origin is not None
            and origin.forward == self._forward.name.encode()
            and origin.created == self._memory.created
        )

    def _finish(self) -> None:
        memory = self._memory
        memory.session, memory.pending, memory.fence = self._session, "", self._fence
        self._done(
            Opened(
                session=self._session,
                fence=self._fence,
                hub=self._hub,
                known=self._known,
                back_to=self._back_to,
                found=self._found,
                is_complete=self._hub.first_seq <= self._from + 1,
                rolled_back=self._rolled_back,
            )
        )


def _disjoint(patterns: list[str]) -> list[str]:
    """Without those that others hold."""
    kept = list(dict.fromkeys(patterns))
    return [one for one in kept if not any(other != one and is_subset(one.encode(), other.encode()) for other in kept)]


def _json(message: Message) -> dict[str, Any]:
    if message.headers.startswith(b"NATS/1.0 503"):
        return {"error": {"description": "nobody answers for the hub's JetStream", "code": 503}}
    try:
        value = json.loads(message.payload)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"error": {"description": "an answer that cannot be read"}}


def _decoded(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except ValueError:
        return b""
