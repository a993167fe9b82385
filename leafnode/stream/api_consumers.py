"""The API's verbs for consumers that exist: info, list, names, delete, pause, reset, unpin, and the pull request."""

from typing import TYPE_CHECKING, Any

from leafnode.route.message import Message
from leafnode.stream import faults, reads, schema, times
from leafnode.stream.api import Api, Endpoint, Request, level_is_fine
from leafnode.stream.api_consumer_create import IDENTITY, ConsumerCreation, advise_action, identity
from leafnode.stream.api_streams import LIST_LIMIT, NAMES_LIMIT
from leafnode.stream.consumer import Consumer
from leafnode.stream.consumer_info import describe
from leafnode.stream.consumer_rules import GROUP_NAME
from leafnode.stream.pull import Pull
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.jetstream import JetStream

_PAGE: dict[str, schema.Kind] = {"offset": schema.integer}
_PAUSE: dict[str, schema.Kind] = {"pause_until": schema.moment}
_RESET: dict[str, schema.Kind] = {"seq": schema.unsigned}
_NOT_RESET: dict[str, object] = {"reset_seq": 0}
_EMPTY_PAGE: dict[str, object] = {"total": 0, "offset": 0, "limit": 0, "consumers": []}
_NOT_PAUSED: dict[str, object] = {"paused": False, "pause_until": times.ZERO_TIME}


class ConsumerApi:
    """Handlers of one account's consumer requests."""

    def __init__(self, jetstream: "JetStream", api: Api) -> None:
        self._js = jetstream
        self._around = jetstream.around
        ConsumerCreation(jetstream, api)
        api.endpoint("CONSUMER.INFO", Endpoint(self.info, "consumer_info_response"), tokens=2)
        api.endpoint("CONSUMER.NAMES", Endpoint(self.names, "consumer_names_response", _EMPTY_PAGE), tokens=1)
        api.endpoint("CONSUMER.LIST", Endpoint(self.listing, "consumer_list_response", _EMPTY_PAGE), tokens=1)
        api.endpoint("CONSUMER.DELETE", Endpoint(self.delete, "consumer_delete_response"), tokens=2)
        api.endpoint("CONSUMER.PAUSE", Endpoint(self.pause, "consumer_pause_response", _NOT_PAUSED), tokens=2)
        api.endpoint("CONSUMER.UNPIN", Endpoint(self.unpin, "consumer_unpin_response"), tokens=2)
        api.endpoint("CONSUMER.RESET", Endpoint(self.reset, "consumer_reset_response", _NOT_RESET), tokens=2)
        api.raw("CONSUMER.MSG.NEXT", self.next)

    # what there is -----------------------------------------------------------------------------------------------

    def _consumer(self, request: Request) -> Consumer:
        stream = self._js.stream(request.tokens[0])
        consumer = stream.consumers.get(request.tokens[1])
        if consumer is None:
            raise faults.fault(faults.CONSUMER_NOT_FOUND)
        return consumer

    def info(self, request: Request) -> None:
        request.needs_empty_body()
        request.answer(describe(self._consumer(request)))

    def names(self, request: Request) -> None:
        found, offset = self._page(request)
        page = [consumer.name for consumer in found[offset : offset + NAMES_LIMIT]]
        request.answer({"total": len(found), "offset": offset, "limit": NAMES_LIMIT, "consumers": page})

    def listing(self, request: Request) -> None:
        found, offset = self._page(request)
        page = [describe(consumer) for consumer in found[offset : offset + LIST_LIMIT]]
        request.answer({"total": len(found), "offset": offset, "limit": LIST_LIMIT, "consumers": page})

    def _page(self, request: Request) -> tuple[list[Consumer], int]:
        asked = _parsed(request, _PAGE)
        stream = self._js.stream(request.tokens[0])
        found = [consumer for _, consumer in sorted(stream.consumers.items()) if not consumer.config.direct]
        return found, min(len(found), max(0, asked.get("offset", 0)))

    # change ------------------------------------------------------------------------------------------------------

    def delete(self, request: Request) -> None:
        request.needs_empty_body()
        consumer = self._consumer(request)
        self._js.delete_consumer(consumer, "Consumer Deleted")
        advise_action(consumer, "DELETED", "delete")
        self._around.journal.after(lambda _failure: request.answer({"success": True}))

    def pause(self, request: Request) -> None:
        asked = _parsed(request, _PAUSE)
        consumer = self._consumer(request)
        until = asked.get("pause_until", 0)
        self._js.pause_consumer(consumer, until)
        paused = consumer.is_paused()
        shown: dict[str, object] = {"paused": paused, "pause_until": times.to_text(until)}
        if paused:
            shown["pause_remaining"] = until - self._around.now_ns()
        self._around.journal.after(lambda _failure: request.answer(shown))

    def reset(self, request: Request) -> None:
        """Back to a sequence, or to what is not acknowledged. An unknown consumer is not answered for."""
        stream = self._js.streams.get(request.tokens[0])
        consumer = stream.consumers.get(request.tokens[1]) if stream is not None else None
        if stream is None or consumer is None or not request.reply:
            return
        asked = schema.parse(request.body, _RESET) if request.body else {}
        wanted = asked.get("seq", 0)
        if not wanted:
            self._reset_to(request, consumer, consumer.ledger.done_to + 1)
            return
        policy = consumer.config.deliver_policy
        if policy == "all":
            self._reset_to(request, consumer, wanted)
        elif policy == "by_start_sequence":
            self._reset_above(request, consumer, wanted, consumer.config.opt_start_seq, "below start seq")
        elif policy == "by_start_time":

            def found(first: int) -> None:
                lowest = first or stream.contents.last_seq + 1
                request.attempt(lambda: self._reset_above(request, consumer, wanted, lowest, "below start time"))

            self._around.reads.ask(reads.FirstAt(stream.id, consumer.config.opt_start_time, found))
        else:
            raise faults.fault(faults.INVALID_RESET, "not allowed")

    def _reset_above(self, request: Request, consumer: Consumer, wanted: int, lowest: int, refusal: str) -> None:
        if wanted < lowest:
            raise faults.fault(faults.INVALID_RESET, refusal)
        self._reset_to(request, consumer, wanted)

    def _reset_to(self, request: Request, consumer: Consumer, seq: int) -> None:
        """A mirror or source asks with its origin's identity, and learns which that is."""
        asks = request.headers and header_block.get(request.headers, IDENTITY) is not None
        lines = [(IDENTITY, identity(consumer.stream).encode())] if asks else []

        def counted() -> None:
            shown = {**describe(consumer), "reset_seq": seq}
            headers = header_block.with_lines(b"", *lines) if lines else b""
            self._around.journal.after(lambda _failure: request.answer(shown, headers))
            consumer.pump()

        consumer.reset(seq, counted)

    def unpin(self, request: Request) -> None:
        """The pinned reader of a group loses its place."""
        group = _group(request.body)
        consumer = self._consumer(request)
        if group not in consumer.config.priority_groups or not isinstance(consumer.outlet, Pull):
            raise faults.fault(faults.GROUP_UNKNOWN)
        consumer.outlet.pin.take_away(group, "admin")
        request.answer({})
        consumer.pump()

    # pull --------------------------------------------------------------------------------------------------------

    def next(self, message: Message, rest: str, subject: bytes) -> bool:
        """A pull request; not taken when there is no such consumer."""
        name, _, consumer_name = rest.partition(".")
        stream = self._js.streams.get(name)
        consumer = stream.consumers.get(consumer_name) if stream is not None else None
        if consumer is None:
            return False
        if not level_is_fine(message.headers):
            self._status(message.reply, 412, "Required Api Level")
        elif isinstance(consumer.outlet, Pull):
            consumer.outlet.request(message)
        else:
            self._status(message.reply, 409, "Consumer is push based")
        return True

    def _status(self, reply: bytes, code: int, text: str) -> None:
        if reply:
            self._around.account.publish(Message(reply, headers=header_block.status(code, text)))


def _parsed(request: Request, shape: dict[str, schema.Kind]) -> dict[str, Any]:
    """The body, if it is JSON at all; anything else counts as empty."""
    return schema.parse(request.body, shape) if request.body.lstrip()[:1] in (b"{", b"[") else {}


def _group(body: bytes) -> str:
    """The priority group that a request names; other keys are ignored.

    Raises:
        ApiError: none, or not a name.
    """
    asked = schema.parse_object(body)
    name = asked.get("group") or ""
    if not name or not isinstance(name, str):
        raise faults.fault(faults.INVALID_JSON, "consumer group not specified")
    if not GROUP_NAME.fullmatch(name):
        raise faults.fault(faults.GROUP_NAME_INVALID)
    return name
