"""Two servers side by side, asked the same by one program: whatever one of them says the other must say as well.

Raw and synchronous. A step is sent to both; then both are read until each has said equally much and both are quiet, so
that a message too many is noticed as well as one too few. What has to differ (times, versions, ids made by a server)
is replaced before the comparison, ids by their order of appearance.
"""

import contextlib
import itertools
import json
import re
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.servers import Broker, jetstream, leafnode, stock_hub

CONNECT = b'CONNECT {"verbose":false,"headers":true,"no_responders":true,"protocol":0}\r\nPING\r\n'
QUIET_SECONDS = 0.03  # both have said equally much: wait so long for one that says more
PATIENCE_SECONDS = 4.0  # one has said less than the other: wait so long for it to catch up
NUID_LENGTH = 22
SHOWN = 2000  # characters of a message in an error

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_ACK = re.compile(r"(\$JS\.ACK\..*\.)\d{19}(\.\d+)(?=\r|$)")
_NUID = re.compile(r"\b[0-9A-Za-z]{22}\b")
_FLOW = re.compile(r"(\$JS\.FC\.[^.]+\.[^.]+\.)\w{4}")
_SPANS = re.compile(r'"(pause_remaining|ack_time|processing_time|average_processing_time)": ?\d+')
_MADE = re.compile(r'(?<="name": ")[0-9A-Za-z]{8}(?=", "created")')
_IDENTITY = re.compile(r"(?<=Nats-Stream-Identity: )\w{8}")
_OWN = re.compile(r'"_nats\.(ver|level)": ?"[^"]*"(, ?)?')


class Said(NamedTuple):
    """One message as a client sees it."""

    inbox: str
    subject: str
    reply: str
    headers: str
    payload: str


class Side:
    """One server, one connection."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._ids: dict[str, str] = {}
        self._inboxes: dict[bytes, str] = {}
        self.said: dict[str, list[Said]] = {}
        self.acks: dict[str, list[bytes]] = {}  # reply subjects as they came
        self.bodies: dict[str, list[bytes]] = {}  # payloads as they came
        self.send(CONNECT)
        while b"PONG\r\n" not in self._buffer:
            self._buffer += self.socket.recv(65536)
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def subscribe(self, inbox: str, sid: int, subject: str, queue: str = "") -> None:
        self._inboxes[b"%d" % sid] = inbox
        self.said[inbox] = []
        self.acks[inbox] = []
        self.bodies[inbox] = []
        self.send(f"SUB {subject} {queue} {sid}\r\n".encode())

    def read(self) -> bool:
        """Take what has arrived; False if nothing has."""
        ready, _, _ = select.select([self.socket], [], [], 0)
        if not ready:
            return False
        data = self.socket.recv(1 << 18)
        if not data:
            raise EOFError(f"{self.name} closed the connection")
        self._buffer += data
        while self._frame():
            pass
        return True

    def _frame(self) -> bool:
        line, found, rest = self._buffer.partition(b"\r\n")
        if not found:
            return False
        words = line.split(b" ")
        if words[0] not in (b"MSG", b"HMSG"):
            self._buffer = rest
            if words[0] == b"PING":
                self.send(b"PONG\r\n")
            elif words[0] == b"-ERR":
                raise RuntimeError(f"{self.name}: {line!r}")
            return True
        size = int(words[-1])
        if len(rest) < size + 2:
            return False
        self._buffer = rest[size + 2 :]
        sizes = 2 if words[0] == b"HMSG" else 1
        cut = int(words[-2]) if sizes == 2 else 0
        reply = words[3] if len(words) == 4 + sizes else b""
        self._take(words[1], words[2], reply, rest[:cut], rest[cut:size])
        return True

    def _take(self, subject: bytes, sid: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
        inbox = self._inboxes.get(sid)
        if inbox is None:
            return
        self.acks[inbox].append(reply)
        self.bodies[inbox].append(payload)
        tidy = self._tidy
        said = Said(inbox, tidy(subject.decode()), tidy(reply.decode()), tidy(headers.decode()), tidy(_json(payload)))
        self.said[inbox].append(said)

    def _tidy(self, text: str) -> str:
        if not text:
            return text
        text = _OWN.sub("", _TIME.sub("TIME", _ACK.sub(r"\1NS\2", text)))
        text = _FLOW.sub(r"\1XXXX", text)
        text = _SPANS.sub(r'"\1": 0', text.replace(", }", "}"))
        for found in _MADE.finditer(text):
            self._id(found)
        for true, shown in self._ids.items():
            if len(true) < NUID_LENGTH and true in text:
                text = text.replace(true, shown)
        return _NUID.sub(self._id, _IDENTITY.sub("IDENTITY", text))

    def _id(self, found: re.Match[str]) -> str:
        return self._ids.setdefault(found[0], f"ID{len(self._ids)}")

    def true_id(self, shown: str) -> str:
        """The id that this server made, for one shown as `ID3`."""
        return next(true for true, name in self._ids.items() if name == shown)

    def close(self) -> None:
        self.socket.close()


def _json(payload: bytes) -> str:
    """A JSON answer with what cannot be compared taken out, in the order in which it came."""
    text = payload.decode(errors="replace")
    if not text.startswith("{"):
        return text
    try:
        body: Any = json.loads(text)
    except ValueError:
        return text
    if isinstance(body.get("error"), dict) and str(body["error"].get("description")).startswith("invalid JSON"):
        body["error"]["description"] = "invalid JSON"  # worded by each one's parser
    if str(body.get("type")).endswith("stream_info_response") and not body.get("state", {}).get("messages"):
        body.pop("limit", None)  # of an empty stream nats-server shows no limit, and 0 as a deleted sequence
        for key in ("num_deleted", "deleted", "first_seq"):
            body.get("state", {}).pop(key, None)
    if "cluster" in body:
        del body["cluster"]
    for key in ("server", "client", "id"):
        if "timestamp" in body and key in body:
            body[key] = "X"
    return json.dumps(body)


class Differ(AssertionError):  # noqa: N818 -- what they do
    """The two servers do not say the same."""


class Pair:
    """nats-server and leafnode, asked the same."""

    def __init__(self, stock: int, ours: int) -> None:
        self.sides = (Side("nats-server", stock), Side("leafnode", ours))
        self._numbers = itertools.count(1)

    def close(self) -> None:
        for side in self.sides:
            side.close()

    # asking ------------------------------------------------------------------------------------------------------

    def listen(self, subject: str = "", queue: str = "") -> str:
        """Subscribe both; the inbox's subject."""
        number = next(self._numbers)
        subject = subject or f"_INBOX.{number}"
        for side in self.sides:
            side.subscribe(f"{subject}#{number}", number, subject, queue)
        return f"{subject}#{number}"

    def leave(self, inbox: str) -> None:
        number = inbox.rpartition("#")[2]
        for side in self.sides:
            side.send(f"UNSUB {number}\r\n".encode())

    def publish(self, subject: str, body: bytes = b"", headers: bytes = b"", *, reply: str = "") -> None:
        for side in self.sides:
            self._publish(side, subject.encode(), body, headers, reply)

    def _publish(self, side: Side, subject: bytes, body: bytes, headers: bytes, reply: str) -> None:
        to = subject + (f" {reply.rpartition('#')[0]}".encode() if reply else b"")
        if headers:
            side.send(b"HPUB %b %d %d\r\n%b%b\r\n" % (to, len(headers), len(headers) + len(body), headers, body))
        else:
            side.send(b"PUB %b %d\r\n%b\r\n" % (to, len(body), body))

    def ask(
        self, subject: str, body: bytes | dict[str, Any] = b"", headers: bytes = b"", *, least: int = 1
    ) -> list[Said]:
        """One request; all its answers, which agree. `least`: how many there must be on both sides."""
        inbox = self.listen()
        encoded = json.dumps(body).encode() if isinstance(body, dict) else body
        self.publish(subject, encoded, headers, reply=inbox)
        answers = self.heard(inbox, least=least, step=f"{subject} {encoded!r}")
        self.leave(inbox)
        return answers

    def api(self, verb: str, body: bytes | dict[str, Any] = b"", headers: bytes = b"") -> Any:
        """An API request with one answer; the answer's JSON, the same of both."""
        inbox = self.listen()
        encoded = json.dumps(body).encode() if isinstance(body, dict) else body
        self.publish(f"$JS.API.{verb}", encoded, headers, reply=inbox)
        answers = self.heard(inbox, least=1, quiet=0, step=f"{verb} {encoded!r}")
        self.leave(inbox)
        return json.loads(answers[0].payload) if answers[0].payload else answers[0].headers

    def answer(self, inbox: str, place: int, body: bytes = b"", *, reply: str = "") -> None:
        """Acknowledge the delivery that came as number `place` to an inbox."""
        for side in self.sides:
            self._publish(side, side.acks[inbox][place], body, b"", reply)

    # comparing ---------------------------------------------------------------------------------------------------

    def heard(self, inbox: str, *, least: int = 0, quiet: float = QUIET_SECONDS, step: str = "") -> list[Said]:
        """What came to an inbox so far, when both are quiet. All of it is compared.

        Raises:
            Differ: they did not say the same.
        """
        self._settle(inbox, least, quiet)
        stock, ours = (side.said[inbox] for side in self.sides)
        if stock != ours:
            raise Differ(f"{step or inbox}\nnats-server {_shown(stock)}\nleafnode    {_shown(ours)}")
        return list(stock)

    def _settle(self, inbox: str, least: int, quiet: float) -> None:
        now = time.monotonic()
        deadline, calm = now + PATIENCE_SECONDS, now + quiet
        while True:
            counts = [len(side.said[inbox]) for side in self.sides]
            now = time.monotonic()
            if counts[0] == counts[1] >= least and now >= calm:
                return
            if now > deadline:
                return
            select.select([side.socket for side in self.sides], [], [], 0.005)
            if any([side.read() for side in self.sides]):  # noqa: C419 -- both are read
                calm = time.monotonic() + quiet

    def settles(self, verb: str, body: bytes | dict[str, Any] = b"") -> Any:
        """An API request whose answers agree in the end: what was sent before may still be under way inside."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self.api(verb, body)
            except Differ:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    # one of the two ----------------------------------------------------------------------------------------------

    def api_of(self, side: Side, verb: str, body: bytes = b"") -> dict[str, Any]:
        """An API request to one server, its answer as it came."""
        number = next(self._numbers)
        side.subscribe(f"_INBOX.{number}", number, f"_INBOX.{number}")
        self._publish(side, f"$JS.API.{verb}".encode(), body, b"", f"_INBOX.{number}#")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not side.said[f"_INBOX.{number}"] and time.monotonic() < deadline:
            select.select([side.socket], [], [], 0.1)
            side.read()
        answer: dict[str, Any] = json.loads(side.bodies.pop(f"_INBOX.{number}")[0])
        return answer

    def consumers_of(self, side: Side, stream: str) -> list[str]:
        names: list[str] = self.api_of(side, f"CONSUMER.NAMES.{stream}")["consumers"]
        return names

    def clear(self) -> None:
        """Delete every stream, whatever each of them has."""
        for side in self.sides:
            for name in self.api_of(side, "STREAM.NAMES")["streams"] or []:
                self.api_of(side, f"STREAM.DELETE.{name}")


def _shown(said: list[Said]) -> str:
    return "".join(f"\n    {str(message[1:])[:SHOWN]}" for message in said) or " nothing"


@contextlib.contextmanager
def pair_of(folder: Path, extra: str = "") -> Iterator[Pair]:
    """Start both servers and connect to them."""
    with contextlib.ExitStack() as stack:
        brokers: list[Broker] = []
        for make, name in ((stock_hub, "stock"), (leafnode, "ours")):
            here = folder / name
            brokers.append(stack.enter_context(make(here, config=jetstream(here) + extra)))  # type: ignore[arg-type]
        pair = Pair(brokers[0].port, brokers[1].port)
        stack.callback(pair.close)
        yield pair
