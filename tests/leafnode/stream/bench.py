"""JetStream without sockets: an account, a store in memory, a clock that a test moves, and a client that records."""

import itertools
import json
from typing import Any

from leafnode.route.account import Account
from leafnode.route.message import Message, Subscription
from leafnode.store.memory import MemoryStore
from leafnode.stream.jetstream import JetStream
from leafnode.stream.journal import Journal
from leafnode.stream.loaded import LoadedStream
from leafnode.stream.stream import Stream
from leafnode.stream.surroundings import Limits, Surroundings
from tests.leafnode.stream.catalog import Catalog

START_NS = 1_800_000_000_000_000_000  # some day in 2027


class Inbox:
    """A client's subscription that keeps what it gets."""

    is_remote = False

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        self.messages.append(message)
        return True

    def take(self) -> list[Message]:
        taken, self.messages = self.messages, []
        return taken


class Bench:
    """One account with JetStream. `settle` does what the shell does: commit, answer, until nothing moves."""

    def __init__(self, *, domain: str = "", limits: Limits | None = None) -> None:
        self.now = START_NS
        self.account = Account("$G", lambda n: n - 1)
        self.journal = Journal()
        self.store = MemoryStore(everything=True)
        self.catalog = Catalog()
        self._ids = itertools.count(1)
        self._inboxes = itertools.count(1)
        self._domain = domain
        self._limits = limits or Limits()
        self._start([])

    def _start(self, loaded: list[LoadedStream]) -> None:
        self.around = Surroundings(
            account=self.account,
            journal=self.journal,
            now_ns=lambda: self.now,
            new_id=lambda: f"{next(self._ids):022d}",
            domain=self._domain,
            limits=self._limits,
        )
        self.js = JetStream(self.around)
        self.js.open(loaded)

    def restart(self) -> None:
        """A new broker on what was committed. What was not is lost."""
        self.js.close()
        self.journal.take()
        fresh = Journal()
        fresh.stream_ids, fresh.consumer_ids = self.journal.stream_ids, self.journal.consumer_ids
        self.journal = fresh
        self._start(
            [
                LoadedStream(
                    id=made.stream_id,
                    account=made.account,
                    config=made.config,
                    created=made.created,
                    contents=self.store.contents_now(made.stream_id),
                    consumers=self.catalog.consumers_of(made.stream_id),
                )
                for made in self.catalog.streams.values()
            ]
        )
        self.settle()

    # shell -------------------------------------------------------------------------------------------------------

    def commit(self) -> bool:
        batch = self.journal.take()
        if batch is None:
            return False
        self.store.apply(batch)
        self.catalog.apply(batch)
        self.journal.confirm(batch)
        return True

    def answer(self) -> bool:
        questions = self.around.reads.take()
        for question in questions:
            done, answer = self.store.answer_now(question)
            done(answer)
        return bool(questions)

    def reload(self, streams: list[Stream]) -> None:
        """What the shell does after a failed commit."""
        for stream in streams:
            self.js.restore(stream, self.store.contents_now(stream.id))
        self.settle()

    def settle(self) -> None:
        while self.commit() or self.answer():
            pass

    def advance(self, ns: int) -> None:
        """Let time pass, calling every deadline on its way."""
        end = self.now + ns
        while (deadline := self.js.next_deadline_ns()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.js.on_time(self.now)
            self.settle()
        self.now = end
        self.js.on_time(self.now)
        self.settle()

    # client ------------------------------------------------------------------------------------------------------

    def subscribe(self, subject: bytes, queue: bytes = b"") -> Inbox:
        inbox = Inbox()
        inbox.subscription = Subscription(subject, inbox, queue)  # type: ignore[attr-defined]
        self.account.subscribe(inbox.subscription)  # type: ignore[attr-defined]
        return inbox

    def unsubscribe(self, inbox: Inbox) -> None:
        self.account.unsubscribe(inbox.subscription)  # type: ignore[attr-defined]

    def inbox(self) -> tuple[bytes, Inbox]:
        subject = b"_INBOX.%d" % next(self._inboxes)
        return subject, self.subscribe(subject)

    def request(self, subject: str, body: bytes = b"", headers: bytes = b"", *, settle: bool = True) -> list[Message]:
        """Publish with a reply and return every answer."""
        reply, inbox = self.inbox()
        taken = self.account.publish(Message(subject.encode(), reply, headers, body))
        if settle:
            self.settle()
        self.unsubscribe(inbox)
        return inbox.take() if taken else [Message(reply, headers=b"NATS/1.0 503\r\n\r\n")]

    def api(self, verb: str, **fields: Any) -> dict[str, Any]:
        """An API request with a JSON body; its answer."""
        body = json.dumps(fields).encode() if fields else b""
        answers = self.request(f"$JS.API.{verb}", body)
        assert len(answers) == 1, answers
        decoded: dict[str, Any] = json.loads(answers[0].payload)
        return decoded

    def create(self, name: str, **config: Any) -> dict[str, Any]:
        answer = self.api(f"STREAM.CREATE.{name}", name=name, **config)
        assert "error" not in answer, answer
        return answer

    def consumer(self, stream: str, name: str, **config: Any) -> dict[str, Any]:
        body = {"stream_name": stream, "config": {"durable_name": name, "ack_policy": "explicit", **config}}
        answer = self.api(f"CONSUMER.CREATE.{stream}.{name}", **body)
        assert "error" not in answer, answer
        return answer

    def publish(self, subject: str, payload: bytes = b"", **headers: str) -> dict[str, Any]:
        """A publish that wants a PubAck; `Nats_Msg_Id="x"` becomes a header."""
        answers = self.request(subject, payload, header_block(**headers))
        assert len(answers) == 1, answers
        decoded: dict[str, Any] = json.loads(answers[0].payload)
        return decoded

    def send(self, subject: str, payload: bytes = b"") -> None:
        self.account.publish(Message(subject.encode(), payload=payload))

    def pull(self, stream: str, name: str, **body: Any) -> tuple[Inbox, bytes]:
        """A pull request; its inbox stays subscribed."""
        reply, inbox = self.inbox()
        request = json.dumps(body).encode() if body else b""
        self.account.publish(Message(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}".encode(), reply, b"", request))
        self.settle()
        return inbox, reply

    def fetch(self, stream: str, name: str, batch: int = 1) -> list[Message]:
        """Messages that are there now."""
        inbox, _ = self.pull(stream, name, batch=batch, no_wait=True)
        self.unsubscribe(inbox)
        return [message for message in inbox.take() if not message.headers.startswith(b"NATS/1.0 4")]

    def ack(self, message: Message, body: bytes = b"") -> None:
        self.account.publish(Message(message.reply, payload=body))
        self.settle()

    def state(self, stream: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.api(f"STREAM.INFO.{stream}")["state"]
        return answer

    def info(self, stream: str, name: str) -> dict[str, Any]:
        return self.api(f"CONSUMER.INFO.{stream}.{name}")


def header_block(**headers: str) -> bytes:
    if not headers:
        return b""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def status(message: Message) -> str:
    """The status line of a message without its version."""
    return message.headers.split(b"\r\n")[0][9:].decode()
