"""Copying from another stream: a mirror keeps one stream as it is, a source adds one to a stream of our own.

The origin is asked for a consumer (`<api>.CONSUMER.CREATE.<stream>`) that pushes to a subject which only we know. It
may be in this account, or behind a link in another JetStream domain (`external.api`), where requests and messages
travel by interest (spec leafnode-protocol section 9):

    WAITING  --start-->  ASKING  --answer-->  RUNNING  --gap, silence, link, refused commit-->  WAITING

Consumer sequences must rise by one: anything else is a loss, and the copy starts again behind the last message that it
has. Nothing is lost or doubled whatever the link does, because the place to go on from is committed with the messages.
Flow control is answered after the commit, so that the origin never sends more than the disk takes.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from leafnode.errors import ApiError
from leafnode.route.message import Message, Subscription
from leafnode.route.transform import Transform
from leafnode.stream import ack, faults, intake, schema, source_request, times
from leafnode.stream.short_hash import from_number, short_hash, to_number
from leafnode.stream.source_request import FLOW_ACKS, IDENTITY, SILENCE_NS, TOKEN, made_beforehand
from leafnode.stream.stored import Stored
from leafnode.stream.stream import Stream, error_json
from leafnode.stream.stream_config import source_to_json
from leafnode.wire import headers as header_block

ANSWER_NS = 30 * times.SECOND  # how long an origin may take to make the consumer; nats-server's
RETRY_FIRST_NS = times.SECOND
RETRY_MAX_NS = 2 * times.MINUTE
SEQUENCE_MAX = 1 << 62  # half of what SQLite counts
LOCAL_API = "$JS.API"
_OLD_ORIGIN = (10185, 10025)  # it knows neither the level nor the `sourcing` key
_CONTROLS = (b"Nats-Expected-", b"Nats-Batch-")
_IDENTITY_KEY = " identity"  # after a source's key: which incarnation of its origin the sequence is of
_OTHER_ORIGIN = 10225  # the origin was deleted and made anew


class Heartbeat(NamedTuple):
    """What a status message of the origin says."""

    last_consumer: int
    stalled: bytes


class Origin:
    """One mirror or source of a stream: where it copies from and how far it is."""

    is_remote = False

    def __init__(
        self, stream: Stream, config: dict[str, Any], *, is_mirror: bool, on_other_origin: Callable[[], None]
    ) -> None:
        """`on_other_origin`: of a mirror; makes it anew, which ends this."""
        self.stream = stream
        self._on_other_origin = on_other_origin
        self.config = config
        self.is_mirror = is_mirror
        self.key = schema.encode(source_to_json(config)).decode()
        self.armed_ns = 0
        self.lag = 0
        self.last_ns = 0  # when the origin was last heard
        self.error: dict[str, object] | None = None
        self._around = stream.around
        self.api = (config.get("external") or {}).get("api") or LOCAL_API
        self._is_old = False
        self._failures = 0
        self._deadline_ns = 0
        self._subscription: Subscription | None = None
        self._asking = False
        self._consumer_seq = 0
        self._stopped = False
        self._moves = [
            Transform(pair.get("src", ""), pair.get("dest", "")) for pair in config.get("subject_transforms", [])
        ]
        self._tag = self._make_tag()
        self._rule = self._make_rule()

    @property
    def is_external(self) -> bool:
        return self.api != LOCAL_API

    @property
    def is_running(self) -> bool:
        """Messages may come at any time."""
        return self._subscription is not None and not self._asking

    @property
    def name(self) -> str:
        return str(self.config["name"])

    @property
    def last_seq(self) -> int:
        """The newest sequence of the origin that we have."""
        if self.is_mirror:
            return self.stream.contents.last_seq
        return self.stream.origins.get(self.key, 0)

    def _make_tag(self) -> bytes:
        """The first word of Nats-Stream-Source."""
        tag = self.name if not self.is_external else f"{self.name}:{short_hash(self.api)}"
        consumer = made_beforehand(self.config)
        if consumer is not None:
            tag += f":C={short_hash(consumer['name'])}"
        return tag.encode()

    def _make_rule(self) -> tuple[bytes, bytes]:
        """Its third and fourth word: by which filters, to which destinations."""
        pairs = self.config.get("subject_transforms") or [{"src": self.config.get("filter_subject")}]
        return (
            "\f".join(pair.get("src") or ">" for pair in pairs).encode(),
            "\f".join(pair.get("dest") or ">" for pair in pairs).encode(),
        )

    @property
    def _identity(self) -> str:
        """Of the origin that `last_seq` is about; empty: not known."""
        return from_number(self.stream.origins.get(self.key + _IDENTITY_KEY, 0))

    def _is_other(self, told: str) -> bool:
        """Whether the origin is not the one that we have copied from; learns who it is if nobody was known."""
        if not to_number(told) or told == self._identity:
            return False
        if self._identity:
            return True
        self.stream.keep_origin(self.key + _IDENTITY_KEY, to_number(told))
        return False

    def _begin_anew(self) -> None:
        """The origin was deleted and made again: what it has now is new. A source goes on with it; a mirror of
        something that is no more is replaced by a mirror of what there is.
        """
        if self.is_mirror:
            self._on_other_origin()
            return
        self.stream.keep_origin(self.key, 0)
        self.stream.keep_origin(self.key + _IDENTITY_KEY, 0)
        self.start()

    # life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Ask the origin for a consumer behind what we have; a running copy begins anew."""
        if self._stopped or self.stream.suspended:
            return
        self._unsubscribe()
        self._asking = True
        token = self._around.new_id()[-TOKEN:]
        self._listen(f"$JSC.R.{token}".encode())
        self._set_deadline(self._around.now_ns() + ANSWER_NS)
        reached = self._around.account.publish(self._request(f"$JSC.R.{token}".encode()))
        if not reached and self._asking:
            self._fail()

    def origin_is_back(self) -> None:
        """It can be reached again, so earlier failures say nothing any more."""
        self._failures = 0
        self.start()

    def stop(self) -> None:
        """For good."""
        self._stopped = True
        self._unsubscribe()
        self._around.timers.disarm(self)

    def _listen(self, subject: bytes) -> None:
        self._subscription = Subscription(subject, self)
        self._around.account.subscribe(self._subscription)

    def _unsubscribe(self) -> None:
        self._asking = False
        if self._subscription is not None:
            self._around.account.unsubscribe(self._subscription)
            self._subscription = None

    def _fail(self) -> None:
        """Try again later; longer after each failure."""
        self._unsubscribe()
        wait = min(RETRY_FIRST_NS << min(self._failures, 10), RETRY_MAX_NS)
        self._failures += 1
        self._set_deadline(self._around.now_ns() + wait)

    def _set_deadline(self, when_ns: int) -> None:
        self._deadline_ns = when_ns
        self._around.timers.arm(self, when_ns)

    def on_time(self, now_ns: int) -> None:
        """The answer did not come, the origin fell silent, or it is time for another attempt."""
        if self._stopped:
            return
        if now_ns < self._deadline_ns:
            self._around.timers.arm(self, self._deadline_ns)
        elif self._asking:
            self._fail()
        else:
            self.start()

    # asking ------------------------------------------------------------------------------------------------------

    def _request(self, reply: bytes) -> Message:
        wanted = source_request.Wanted(
            self.config, self.api, self.is_mirror, self._is_old, self.last_seq, self._identity, self.stream.name
        )
        message, self._deliver_subject = source_request.request(wanted, self._around, reply)
        return message

    # what comes --------------------------------------------------------------------------------------------------

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        """An answer to the request, a message of the origin, or a status."""
        if sub is not self._subscription or self._stopped:
            return False
        if self._asking:
            self._on_answer(message)
            return True
        self.last_ns = self._around.now_ns()
        self._set_deadline(self.last_ns + SILENCE_NS)
        if message.headers.startswith(b"NATS/1.0 100"):
            self._on_status(message)
        elif message.reply.startswith(ack.PREFIX):
            self._on_message(message)
        return True

    def _on_answer(self, message: Message) -> None:
        try:
            answer: dict[str, Any] = json.loads(message.payload) if message.payload else {"error": {"code": 503}}
            error: dict[str, Any] | None = answer.get("error") or self._check_consumer(answer)
        except (ValueError, AttributeError):
            error = {"code": 500, "description": "the origin's answer cannot be read"}
        if error:
            self._on_refusal(error)
            return
        if self._is_other((header_block.get(message.headers, IDENTITY) or b"").decode(errors="replace")):
            self._begin_anew()
            return
        self.error = None
        self._failures = 0
        self._unsubscribe()
        self._consumer_seq = 0
        self.last_ns = self._around.now_ns()
        self._set_deadline(self.last_ns + SILENCE_NS)
        self._listen(self._deliver_subject)

    def _check_consumer(self, answer: dict[str, Any]) -> dict[str, Any] | None:
        """Without acknowledgements that go with flow control, a consumer made beforehand would lose its place."""
        if made_beforehand(self.config) is None or answer.get("config", {}).get("ack_policy") == FLOW_ACKS:
            return None
        fault = faults.MIRROR_CONSUMER_POLICY if self.is_mirror else faults.SOURCE_CONSUMER_POLICY
        return error_json(faults.fault(fault))

    def _on_refusal(self, error: dict[str, object]) -> None:
        if error.get("err_code") in _OLD_ORIGIN and not self._is_old:
            self._is_old = True
            self.start()
            return
        if error.get("err_code") == _OTHER_ORIGIN and self._identity:
            self._begin_anew()
            return
        self.error = error
        self._fail()

    def _on_status(self, message: Message) -> None:
        if message.reply:
            self._answer_flow(message.reply)
            return
        beat = _heartbeat(message.headers)
        if beat.last_consumer > self._consumer_seq:
            self.start()  # messages were lost on the way
        elif beat.stalled:
            self._answer_flow(beat.stalled)

    def _answer_flow(self, reply: bytes) -> None:
        """More may come once what came is on the disk."""
        lines = (
            (b"Nats-Last-Consumer", b"%d" % self._consumer_seq),
            (b"Nats-Last-Stream", b"%d" % self.last_seq),
        )
        answer = Message(reply, b"", header_block.with_lines(b"", *lines))
        self._around.journal.after(lambda failure: None if failure else self._publish(answer))

    def _publish(self, message: Message) -> None:
        self._around.account.publish(message)

    def _on_message(self, message: Message) -> None:
        parts = message.reply.rsplit(b".", 5)
        which = ack.delivery(message.reply)
        if which is None or which.stream_seq > SEQUENCE_MAX or int(parts[4]) > times.LATEST:
            return
        if which.consumer_seq != self._consumer_seq + 1:
            self.start()
            return
        self._consumer_seq = which.consumer_seq
        self.lag = int(parts[5])
        if self.stream.suspended or which.stream_seq <= self.last_seq:
            return
        subscription, time = self._subscription, int(parts[4])

        def step() -> None:
            if self._subscription is not subscription or which.stream_seq <= self.last_seq:
                return  # it was asked for again meanwhile
            try:
                self._keep(message, which.stream_seq, time)
            except ApiError as error:  # a limit with discard new: wait for room
                self.error = error_json(error)
                self._fail()

        self.stream.lookups.run(step, len(message.payload) + len(message.headers))

    def _keep(self, message: Message, seq: int, time: int) -> None:
        subject = self._moved(message.subject)
        headers = _stripped(message.headers)
        if self.is_mirror:
            self.stream.keep_copy(Stored(seq, subject, time, headers, message.payload))
            return
        words = [self._tag, b"%d" % seq, *self._rule, message.subject]
        if self._identity:
            words.append(self._identity.encode())
        headers = header_block.with_lines(headers, (b"Nats-Stream-Source", b" ".join(words)))
        self.stream.keep_from_source(subject, headers, message.payload)
        self.stream.keep_origin(self.key, seq)

    def _moved(self, subject: bytes) -> bytes:
        """The subject under which it is kept."""
        for move in self._moves:
            moved = move.apply(subject)
            if moved is not None:
                return moved
        return subject

    # info --------------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """As stream info shows it."""
        shown: dict[str, Any] = {"name": self.name}
        if "external" in self.config:
            shown["external"] = source_to_json(self.config)["external"]
        shown["lag"] = self.lag
        if self.last_seq and not self.is_mirror:
            shown["seq"] = self.last_seq
        shown["active"] = self._around.now_ns() - self.last_ns if self.last_ns else -1
        if self.error:
            shown["error"] = self.error
        config = source_to_json(self.config)
        for name in ("filter_subject", "subject_transforms"):
            if config.get(name):
                shown[name] = config[name]
        return shown


def _heartbeat(headers: bytes) -> Heartbeat:
    last = header_block.get(headers, b"Nats-Last-Consumer") or b""
    stalled = header_block.get(headers, b"Nats-Consumer-Stalled") or b""
    return Heartbeat(int(last) if last.isdigit() and len(last) <= intake.DIGITS_MAX else 0, stalled)


def _stripped(headers: bytes) -> bytes:
    """Without what controlled the first publish and where it was copied from before."""
    if b"\r\nNats-" not in headers:
        return headers
    lines = headers.split(b"\r\n")
    kept = [line for line in lines if not line.startswith((*_CONTROLS, b"Nats-Stream-Source:"))]
    if len(kept) == len(lines):
        return headers
    return b"\r\n".join(kept) if any(kept[1:]) else b""
