"""Requests to `$JS.API.>`: find the handler, check the envelope, answer in JSON (spec jetstream-api sections 1 and 2).

One subscription takes the whole API. A subject that no handler knows is taken and never answered, as nats-server does
it; a pull request or direct get for something that does not exist is *not* taken, so that the asker hears 503 at once.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from leafnode.errors import ApiError
from leafnode.route.message import Message, Subscription
from leafnode.stream import faults, schema
from leafnode.stream.stream import error_json
from leafnode.stream.surroundings import Surroundings
from leafnode.wire import headers as header_block

PREFIX = b"$JS.API."
LEVEL_MAX = 5  # of ADR-44; a request may require it, what we lack is refused by name
LEVEL_HEADER = b"Nats-Required-Api-Level"
_LEVEL = re.compile(rb"[+-]?[0-9]{1,18}")
_TYPE = "io.nats.jetstream.api.v1."


class Request:
    """One request under way. Exactly one of `answer` and `fail` is called, now or after a commit or a read."""

    __slots__ = ("_api", "_endpoint", "body", "headers", "reply", "subject", "tokens")

    def __init__(self, api: "Api", endpoint: "Endpoint", message: Message, subject: bytes, tokens: list[str]) -> None:
        self._api = api
        self._endpoint = endpoint
        self.subject = subject
        self.tokens = tokens  # of the subject after the verb
        self.body = message.payload
        self.headers = message.headers
        self.reply = message.reply

    def answer(self, fields: dict[str, object], headers: bytes = b"") -> None:
        self._api.send(self, {"type": _TYPE + self._endpoint.kind, **fields}, headers)

    def answer_quietly(self, fields: dict[str, object]) -> None:
        """Reads are many: they are neither counted nor audited, as with nats-server."""
        self._api.total -= 1
        self._api.reply(self, schema.encode({"type": _TYPE + self._endpoint.kind, **fields}))

    def fail(self, error: ApiError, *, counts: bool = True) -> None:
        """`counts`: as an error in the account's figures; what the store finds out does not, as with nats-server."""
        self._api.errors += counts
        self._api.send(self, {"type": _TYPE + self._endpoint.kind, "error": error_json(error), **self._endpoint.zeros})

    def attempt(self, step: Callable[[], None]) -> None:
        """Run a later step of the handler; its errors are answered."""
        try:
            step()
        except ApiError as error:
            self.fail(error)

    def needs_empty_body(self) -> None:
        if self.body.strip() not in (b"", b"{}"):
            raise faults.fault(faults.NOT_EMPTY)


class Endpoint(NamedTuple):
    """One verb of the API."""

    handle: Callable[[Request], None]
    kind: str  # of the response
    zeros: dict[str, object] = {}  # noqa: RUF012 -- shown with an error, never changed


RawHandler = Callable[[Message, str, bytes], bool]


class Api:
    """The sink of all API requests of one account."""

    is_remote = False

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._endpoints: dict[str, tuple[Endpoint, int]] = {}
        self._raw: list[tuple[bytes, RawHandler]] = []
        self.total = 0
        self.errors = 0
        self._subscription = Subscription(PREFIX + b">", self)

    def endpoint(self, verb: str, endpoint: Endpoint, *, tokens: int) -> None:
        """`tokens`: how many follow the verb; negative: at least so many."""
        self._endpoints[verb] = (endpoint, tokens)

    def raw(self, verb: str, handler: RawHandler) -> None:
        """A verb answered with messages instead of JSON; the handler says whether it takes the request."""
        self._raw.append((verb.encode() + b".", handler))

    def subscribe(self) -> None:
        self._around.account.subscribe(self._subscription)

    def unsubscribe(self) -> None:
        self._around.account.unsubscribe(self._subscription)

    def deliver(self, sub: Subscription, message: Message, to: bytes) -> bool:
        subject = to or message.subject
        rest = subject[len(PREFIX) :]
        for verb, handler in self._raw:
            if rest.startswith(verb):
                return handler(message, rest[len(verb) :].decode(errors="replace"), subject)
        found = self._find(rest.decode(errors="replace"))
        if found is not None:
            endpoint, tokens = found
            self.total += 1
            self._run(endpoint, Request(self, endpoint, message, subject, tokens))
        return True

    def _find(self, rest: str) -> tuple[Endpoint, list[str]] | None:
        """The handler of the longest verb that fits, with the tokens after it."""
        tokens = rest.split(".")
        for length in range(min(3, len(tokens)), 0, -1):
            known = self._endpoints.get(".".join(tokens[:length]))
            if known is None:
                continue
            endpoint, count = known
            left = tokens[length:]
            if len(left) == count or (count < 0 and len(left) >= -count):
                return endpoint, left
        return None

    def _run(self, endpoint: Endpoint, request: Request) -> None:
        if not level_is_fine(request.headers):
            request.fail(faults.fault(faults.API_LEVEL))
            return
        request.attempt(lambda: endpoint.handle(request))

    def send(self, request: Request, body: dict[str, object], headers: bytes = b"") -> None:
        encoded = schema.encode(body)
        self.reply(request, encoded, headers)
        self._around.advise(
            "ADVISORY.API",
            "advisory.v1.api_audit",
            server=self._around.server_name,
            client={"acc": self._around.account.name},
            subject=request.subject.decode(errors="replace"),
            request=request.body.decode(errors="replace"),
            response=encoded.decode(errors="replace"),
        )

    def reply(self, request: Request, encoded: bytes, headers: bytes = b"") -> None:
        if request.reply:
            self._around.account.publish(Message(request.reply, headers=headers, payload=encoded))


def level_is_fine(headers: bytes) -> bool:
    """Whether a request asks for no more than LEVEL_MAX."""
    level = header_block.get(headers, LEVEL_HEADER) if headers else None
    return not level or (_LEVEL.fullmatch(level) is not None and int(level) <= LEVEL_MAX)
