"""Pull: readers ask for batches, messages go to their inboxes (spec jetstream-api section 9).

Each request ends by its batch, its bytes or its time, or because its inbox lost interest. Priority groups (ADR-42)
decide which of the waiting requests may have the next message:

    overflow         only those whose `min_pending` or `min_ack_pending` is reached
    pinned_client    only the pinned reader's
    prioritized      those of the lowest number first
"""

from typing import TYPE_CHECKING

from leafnode.route.message import Message
from leafnode.stream import times
from leafnode.stream.pin import Pin
from leafnode.stream.request import PRIORITY_LAST, BadRequest, Request, parse
from leafnode.stream.waiting import Waiting
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.consumer import Consumer

PIN_HEADER = b"Nats-Pin-Id"


class Pull:
    """The outlet of a pull consumer: its waiting requests."""

    def __init__(self, consumer: "Consumer") -> None:
        self._consumer = consumer
        self._account = consumer.stream.around.account
        self._now_ns = consumer.stream.around.now_ns
        self._waiting = Waiting()
        self.pin = Pin(consumer)
        self.last_request_ns = self._now_ns()

    @property
    def num_waiting(self) -> int:
        """Requests that are still open: those whose time is up are answered first, not when the timer comes."""
        self._look_through()
        return len(self._waiting)

    # a request comes ---------------------------------------------------------------------------------------------

    def request(self, message: Message) -> None:
        """A reader asks."""
        if not message.reply:
            return
        now = self._now_ns()
        try:
            request = parse(message, now)
        except BadRequest as error:
            self._status(message.reply, 400, f"Bad Request - {error}")
            return
        refusal = self._over_limit(request, now) or self._misfit(request, now)
        if refusal:
            self._status(request.reply, *refusal)
            return
        if not self._has_room(request) or self._is_in_vain(request, now):
            return
        self.last_request_ns = now
        self._waiting.add(request, by_rank=self._is_prioritized)
        self._consumer.pump()

    @property
    def _is_prioritized(self) -> bool:
        return self._consumer.config.priority_policy == "prioritized"

    def _over_limit(self, request: Request, now: int) -> tuple[int, str] | None:
        config = self._consumer.config
        if 0 < config.max_batch < request.batch:
            return 409, f"Exceeded MaxRequestBatch of {config.max_batch}"
        if request.expires_ns and 0 < config.max_expires < request.expires_ns - now:
            return 409, f"Exceeded MaxRequestExpires of {times.to_go(config.max_expires)}"
        if 0 < config.max_bytes < request.bytes:
            return 409, f"Exceeded MaxRequestMaxBytes of {config.max_bytes}"
        return None

    def _misfit(self, request: Request, now: int) -> tuple[int, str] | None:
        """A request that does not fit the consumer's priority policy."""
        if request.is_plain:
            return None
        config = self._consumer.config
        if (request.min_pending or request.min_ack_pending) and config.priority_policy != "overflow":
            return 400, "Bad Request - Not a Overflow Priority consumer"
        if request.id and config.priority_policy != "pinned_client":
            return 400, "Bad Request - Not a Pinned Client Priority consumer"
        if not 0 <= request.priority < PRIORITY_LAST:
            return 400, "Bad Request - Priority must be between 0 and 9"
        if config.priority_policy in ("", "none"):
            return None
        if not request.group:
            return 400, "Bad Request - Priority Group missing"
        if request.group not in config.priority_groups:
            return 400, "Bad Request - Invalid Priority Group"
        if self.pin.id and request.id == self.pin.id:
            self.pin.renew(now)
        elif self.pin.id and request.id:
            return 423, "Nats-Pin-Id mismatch"
        return None

    def _has_room(self, request: Request) -> bool:
        """Whether the queue takes another one. A reader with heartbeats is not told: it would just ask again."""
        most = self._consumer.config.max_waiting
        if len(self._waiting) >= most:
            self._look_through()
        if len(self._waiting) < most:
            return True
        if not request.heartbeat:
            self._status(request.reply, 409, "Exceeded MaxWaiting")
        return False

    def _is_in_vain(self, request: Request, now: int) -> bool:
        """A request that does not wait finds nothing, or others before it."""
        if not request.no_wait:
            return False
        ahead = self._consumer.num_pending + self._consumer.num_queued_again
        if not ahead and not request.expires_ns:
            self.last_request_ns = now
            return self._status(request.reply, 404, "No Messages")
        if ahead:
            self._look_through()
            if ahead < sum(waiting.batch for waiting in self._waiting):
                self.last_request_ns = now
                return self._status(request.reply, 408, "Requests Pending")
        return False

    # outlet ------------------------------------------------------------------------------------------------------

    def is_open(self) -> bool:
        return bool(self._waiting)

    def offer(self, message: Message) -> bool:
        size = len(message.subject) + len(message.reply) + len(message.headers) + len(message.payload)
        while (request := self._next(size)) is not None:
            if self._is_pinned:
                headers = header_block.with_lines(message.headers, (PIN_HEADER, self.pin.id.encode()))
                message = message._replace(headers=headers)
            if self._account.publish(message, to=request.reply):
                self._count(request, size)
                return True
            self._waiting.drop_head()  # nobody listens there any more
        return False

    @property
    def _is_pinned(self) -> bool:
        return self._consumer.config.priority_policy == "pinned_client"

    def _next(self, size: int) -> Request | None:
        """The request that gets the next message, put at the head; None if none may have it."""
        waiting = self._waiting
        now = self._now_ns() if waiting.due_ns else 0
        passed = 0
        while waiting and passed < len(waiting):
            request = waiting.head
            if request.expires_ns and request.expires_ns <= now:
                self._end(request, 408, "Request Timeout")
            elif self._has_wrong_pin(request):
                self._end(request, 423, "Nats-Wrong-Pin-Id")
            elif not self._is_in_turn(request):
                waiting.turn()
                passed += 1
            elif 0 < request.bytes < size:
                self._end(request, 409, "Message Size Exceeds MaxBytes")
            else:
                if self._is_pinned and not self.pin.id:
                    self.pin.assign(request)
                return request
        return None

    def _has_wrong_pin(self, request: Request) -> bool:
        return self._is_pinned and bool(request.id) and request.id != self.pin.id

    def _is_in_turn(self, request: Request) -> bool:
        """Whether its priority group lets it have a message now."""
        if self._is_pinned:
            return not self.pin.id or request.id == self.pin.id
        if request.min_pending <= 0 and request.min_ack_pending <= 0:
            return True
        consumer = self._consumer
        return 0 < request.min_pending <= consumer.num_pending or 0 < request.min_ack_pending <= len(consumer.pending)

    def _count(self, request: Request, size: int) -> None:
        request.sent += 1
        request.batch -= 1
        if request.bytes > 0:
            request.bytes -= size
            if not request.bytes:
                request.batch = 0
        if self._consumer.config.inactive_threshold:
            self.last_request_ns = self._now_ns()
        if request.batch > 0:
            if request.heartbeat > 0:
                request.heartbeat_ns = self._now_ns() + request.heartbeat
            self._waiting.turn(by_rank=self._is_prioritized)
            return
        self._waiting.drop_head()
        if request.bytes > 0:
            self._status(request.reply, 409, "Batch Completed", *request.rest)

    def settle(self, *, exhausted: bool) -> None:
        """Requests that do not wait are answered now."""
        if exhausted and self._waiting:
            self._look_through(is_end=True)

    def next_ns(self) -> int | None:
        if self.pin.ends_ns and self._waiting.due_ns:
            return min(self.pin.ends_ns, self._waiting.due_ns)
        return self.pin.ends_ns or self._waiting.due_ns or None

    def on_time(self, now_ns: int) -> None:
        self.pin.on_time(now_ns)
        if self._waiting.due_ns and self._waiting.due_ns <= now_ns:
            self._look_through()

    def idle_since(self) -> int:
        return self.last_request_ns

    def is_idle(self) -> bool:
        self._look_through()
        return not self._waiting

    def close(self, reason: str) -> None:
        for request in self._waiting.take_all():
            self._status(request.reply, 409, reason)

    def farewell(self) -> None:
        for request in self._waiting.take_all():
            self._status(request.reply, 409, "Server Shutdown", *request.rest)

    # ----------------------------------------------------------------------------------------------------------------

    def _look_through(self, *, is_end: bool = False) -> None:
        """Answer requests whose time has come and forget those that nobody waits for. `is_end`: there is no more."""
        now = self._now_ns()
        kept: list[Request] = []
        for request in self._waiting:
            if request.expires_ns and request.expires_ns <= now:
                self._status(request.reply, 408, "Request Timeout", *request.rest)
            elif request.no_wait and self._has_waited(request, now, is_end=is_end):
                self._status(request.reply, 404, "No Messages")
            elif self._account.has_interest(request.reply):
                if request.heartbeat_ns and request.heartbeat_ns <= now:
                    request.heartbeat_ns = now + request.heartbeat
                    self._heartbeat(request)
                kept.append(request)
        self._waiting.keep(kept)

    @staticmethod
    def _has_waited(request: Request, now: int, *, is_end: bool) -> bool:
        """Long enough for one that does not wait: to the end of the stream, or a heartbeat after it got something."""
        if is_end:
            return bool(request.sent or not request.expires_ns)
        return bool(request.sent) and 0 < request.heartbeat_ns <= now

    def _heartbeat(self, request: Request) -> None:
        consumer = self._consumer
        self._status(
            request.reply,
            100,
            "Idle Heartbeat",
            ("Nats-Last-Consumer", str(consumer.delivered_seq)),
            ("Nats-Last-Stream", str(consumer.feed.reach)),
        )

    def _end(self, request: Request, code: int, text: str) -> None:
        """The request at the head gets nothing more."""
        self._waiting.drop_head()
        self._status(request.reply, code, text, *request.rest)

    def _status(self, reply: bytes, code: int, text: str, *lines: tuple[str, str]) -> bool:
        self._account.publish(Message(reply, headers=header_block.status(code, text, *lines)))
        return True
