"""Pull: readers ask for batches, messages go to their inboxes (spec jetstream-api section 9).

Requests are served in order of arrival. Each ends by its batch, its bytes or its time, or because its inbox lost
interest.
"""

import json
from collections import deque
from typing import TYPE_CHECKING, Any

from leafnode.route.message import Message
from leafnode.stream import times
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.consumer import Consumer


DIGITS_MAX = 18  # of a batch size: what fits in 64 bits


class Request:
    """One request for messages."""

    __slots__ = ("batch", "bytes", "expires_ns", "heartbeat", "heartbeat_ns", "no_wait", "reply", "sent", "sized")

    def __init__(self, reply: bytes) -> None:
        self.reply = reply
        self.batch = 1  # messages still wanted
        self.bytes = 0  # bytes still wanted, when `sized`
        self.sized = False
        self.expires_ns = 0  # 0: never
        self.no_wait = False
        self.heartbeat = 0  # period
        self.heartbeat_ns = 0  # when the next one is due
        self.sent = 0


class BadRequest(ValueError):  # noqa: N818 -- a reason, turned into a status at once
    """Cannot be served; the text goes out after `400 Bad Request - `."""


def parse(message: Message, now_ns: int) -> Request:
    """Read the body of a request. What is neither JSON nor a number asks for one message.

    Raises:
        BadRequest: an object that is not valid JSON, or a heartbeat too large for its expiry.
    """
    request = Request(message.reply)
    body = message.payload.strip()
    if not body.startswith(b"{"):
        if body.isdigit() and len(body) <= DIGITS_MAX:
            request.batch = max(1, int(body))
        return request
    try:
        asked: dict[str, Any] = json.loads(body)
        request.batch = max(1, int(asked.get("batch") or 1))
        request.bytes = int(asked.get("max_bytes") or 0)
        expires = int(asked.get("expires") or 0)
        request.heartbeat = int(asked.get("idle_heartbeat") or 0)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadRequest(f"invalid character or type: {error}") from None
    request.sized = request.bytes > 0
    request.no_wait = asked.get("no_wait") is True
    request.expires_ns = now_ns + expires if expires > 0 else 0
    if request.heartbeat and (expires <= 0 or 2 * request.heartbeat > expires):
        raise BadRequest("heartbeat value too large")
    request.heartbeat_ns = now_ns + request.heartbeat if request.heartbeat else 0
    return request


class Pull:
    """The outlet of a pull consumer: its waiting requests."""

    def __init__(self, consumer: "Consumer") -> None:
        self._consumer = consumer
        self._account = consumer.stream.around.account
        self._waiting: deque[Request] = deque()
        self.last_request_ns = consumer.stream.around.now_ns()

    @property
    def num_waiting(self) -> int:
        """Requests that are still open: those whose time is up are answered first, not when the timer comes."""
        self.on_time(self._consumer.stream.around.now_ns())
        self._drop_uninterested()
        return len(self._waiting)

    def request(self, message: Message) -> None:
        """A reader asks."""
        if not message.reply:
            return
        now = self._consumer.stream.around.now_ns()
        self.last_request_ns = now
        try:
            request = parse(message, now)
        except BadRequest as error:
            self._status(message.reply, 400, f"Bad Request - {error}")
            return
        if self._refuse(request, now):
            return
        self._waiting.append(request)
        self._consumer.pump()

    def _refuse(self, request: Request, now: int) -> bool:
        config = self._consumer.config
        if config.max_batch and request.batch > config.max_batch:
            return self._status(request.reply, 409, f"Exceeded MaxRequestBatch of {config.max_batch}")
        wait = request.expires_ns - now if request.expires_ns else 0
        if config.max_expires and (wait > config.max_expires or not (wait or request.no_wait)):
            return self._status(request.reply, 409, f"Exceeded MaxRequestExpires of {_go(config.max_expires)}")
        if config.max_bytes and request.bytes > config.max_bytes:
            return self._status(request.reply, 409, f"Exceeded MaxRequestMaxBytes of {config.max_bytes}")
        if len(self._waiting) >= config.max_waiting > 0:
            self._drop_uninterested()
            if len(self._waiting) >= config.max_waiting:
                return bool(request.heartbeat) or self._status(request.reply, 409, "Exceeded MaxWaiting")
        if request.no_wait and self._waiting:
            wanted = sum(waiting.batch for waiting in self._waiting)
            if 0 < self._consumer.num_pending < wanted:
                return self._status(request.reply, 408, "Requests Pending")
        return False

    # outlet ------------------------------------------------------------------------------------------------------

    def is_open(self) -> bool:
        while self._waiting:
            if self._account.has_interest(self._waiting[0].reply):
                return True
            self._waiting.popleft()
        return False

    def offer(self, message: Message) -> bool:
        size = len(message.subject) + len(message.reply) + len(message.headers) + len(message.payload)
        while self.is_open():
            request = self._waiting[0]
            if request.sized and size > request.bytes:
                self._waiting.popleft()
                self._status_with_rest(request, 409, "Message Size Exceeds MaxBytes")
                continue
            if not self._account.publish(message, to=request.reply):
                self._waiting.popleft()
                continue
            self._count(request, size)
            return True
        return False

    def _count(self, request: Request, size: int) -> None:
        request.sent += 1
        request.batch -= 1
        if request.heartbeat:
            request.heartbeat_ns = self._consumer.stream.around.now_ns() + request.heartbeat
        if request.sized:
            request.bytes -= size
        if request.batch > 0 and not (request.sized and request.bytes <= 0):
            return
        self._waiting.popleft()
        if request.sized and request.bytes > 0:
            self._status_with_rest(request, 409, "Batch Completed")

    def settle(self, *, exhausted: bool) -> None:
        """Requests that do not wait are answered now."""
        if not exhausted or not self._waiting:
            return
        done = [waiting for waiting in self._waiting if waiting.no_wait and (waiting.sent or not waiting.expires_ns)]
        for request in done:
            self._waiting.remove(request)
            self._status(request.reply, 404, "No Messages")

    def next_ns(self) -> int | None:
        deadlines = [waiting.expires_ns for waiting in self._waiting if waiting.expires_ns]
        deadlines += [waiting.heartbeat_ns for waiting in self._waiting if waiting.heartbeat_ns]
        return min(deadlines, default=None)

    def on_time(self, now_ns: int) -> None:
        for request in list(self._waiting):
            if request.expires_ns and request.expires_ns <= now_ns:
                self._waiting.remove(request)
                self._status_with_rest(request, 408, "Request Timeout")
            elif request.heartbeat_ns and request.heartbeat_ns <= now_ns:
                request.heartbeat_ns = now_ns + request.heartbeat
                self._heartbeat(request)

    def _heartbeat(self, request: Request) -> None:
        consumer = self._consumer
        self._status(
            request.reply,
            100,
            "Idle Heartbeat",
            ("Nats-Last-Consumer", str(consumer.delivered_seq)),
            ("Nats-Last-Stream", str(consumer.position)),
        )

    def idle_since(self) -> int:
        self._drop_uninterested()
        return 0 if self._waiting else self.last_request_ns

    def close(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        for request in waiting:
            self._status(request.reply, 409, reason)

    # ----------------------------------------------------------------------------------------------------------------

    def _drop_uninterested(self) -> None:
        self._waiting = deque(waiting for waiting in self._waiting if self._account.has_interest(waiting.reply))

    def _status(self, reply: bytes, code: int, text: str, *lines: tuple[str, str]) -> bool:
        self._account.publish(Message(reply, headers=header_block.status(code, text, *lines)))
        return True

    def _status_with_rest(self, request: Request, code: int, text: str) -> None:
        lines = (
            ("Nats-Pending-Messages", str(max(0, request.batch))),
            ("Nats-Pending-Bytes", str(max(0, request.bytes))),
        )
        self._status(request.reply, code, text, *lines)


def _go(duration_ns: int) -> str:
    """A duration as Go prints it, for whole seconds and milliseconds."""
    if duration_ns % times.SECOND == 0:
        return f"{duration_ns // times.SECOND}s"
    return f"{duration_ns / times.MILLISECOND:g}ms"
