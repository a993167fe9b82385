"""The API's consumer verbs: create, info, list, names, delete, pause, reset, and the pull request."""

from typing import TYPE_CHECKING, Any

from leafnode import __version__
from leafnode.route.message import Message
from leafnode.stream import consumer_rules, faults, schema, times
from leafnode.stream.api import Api, Endpoint, Request, level_is_fine
from leafnode.stream.api_streams import LIST_LIMIT, NAMES_LIMIT
from leafnode.stream.consumer import Consumer
from leafnode.stream.consumer_config import REQUEST_SHAPE, ConsumerConfig
from leafnode.stream.pull import Pull
from leafnode.stream.push import Push
from leafnode.stream.stream import Stream
from leafnode.stream.stream_rules import API_LEVEL
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.jetstream import JetStream

NAME_LENGTH = 8  # characters of a name made here
_PAGE: dict[str, schema.Kind] = {"offset": schema.integer}
_PAUSE: dict[str, schema.Kind] = {"pause_until": schema.moment}
_RESET: dict[str, schema.Kind] = {"seq": schema.unsigned}
_EMPTY_PAGE: dict[str, object] = {"total": 0, "offset": 0, "limit": 0, "consumers": []}
_NOT_PAUSED: dict[str, object] = {"paused": False, "pause_until": times.ZERO_TIME}


class ConsumerApi:
    """Handlers of one account's consumer requests."""

    def __init__(self, jetstream: "JetStream", api: Api) -> None:
        self._js = jetstream
        self._around = jetstream.around
        create = Endpoint(self.create, "consumer_create_response")
        api.endpoint("CONSUMER.CREATE", create, tokens=-1)
        api.endpoint("CONSUMER.DURABLE.CREATE", Endpoint(self.create_durable, "consumer_create_response"), tokens=2)
        api.endpoint("CONSUMER.INFO", Endpoint(self.info, "consumer_info_response"), tokens=2)
        api.endpoint("CONSUMER.NAMES", Endpoint(self.names, "consumer_names_response", _EMPTY_PAGE), tokens=1)
        api.endpoint("CONSUMER.LIST", Endpoint(self.listing, "consumer_list_response", _EMPTY_PAGE), tokens=1)
        api.endpoint("CONSUMER.DELETE", Endpoint(self.delete, "consumer_delete_response"), tokens=2)
        api.endpoint("CONSUMER.PAUSE", Endpoint(self.pause, "consumer_pause_response", _NOT_PAUSED), tokens=2)
        api.endpoint("CONSUMER.RESET", Endpoint(self.reset, "consumer_reset_response"), tokens=2)
        api.raw("CONSUMER.MSG.NEXT", self.next)

    # create ------------------------------------------------------------------------------------------------------

    def create_durable(self, request: Request) -> None:
        config, action = self._parse(request)
        if not config.durable_name:
            raise faults.fault(faults.DURABLE_NAME_MISSING)
        if config.durable_name != request.tokens[1]:
            raise faults.fault(faults.DURABLE_NAME_NO_MATCH)
        self._create(request, config, action)

    def create(self, request: Request) -> None:
        config, action = self._parse(request)
        if len(request.tokens) == 1:
            if config.durable_name:
                raise faults.fault(faults.EPHEMERAL_WITH_DURABLE_NAME)
        else:
            self._check_name_and_filter(request, config)
        self._create(request, config, action)

    def _check_name_and_filter(self, request: Request, config: ConsumerConfig) -> None:
        name = request.tokens[1]
        if config.durable_name and config.durable_name != name:
            raise faults.fault(faults.DURABLE_NAME_NO_MATCH)
        if config.name and config.name != name:
            raise faults.fault(faults.Fault(400, 10017, "consumer name in subject does not match name in request"))
        config.name = name
        if len(request.tokens) > 2:
            if config.filter_subjects:
                raise faults.fault(faults.FILTERS_NOT_IN_SUBJECT)
            if config.filter_subject != ".".join(request.tokens[2:]):
                raise faults.fault(faults.FILTER_MISMATCH)

    def _parse(self, request: Request) -> tuple[ConsumerConfig, str]:
        if not request.body.strip():
            raise faults.fault(faults.STREAM_MISMATCH)
        value = schema.parse(request.body, REQUEST_SHAPE)
        if value.get("stream_name") != request.tokens[0]:
            raise faults.fault(faults.STREAM_MISMATCH)
        config = ConsumerConfig.from_json(value.get("config", {}))
        return config, value.get("action", "")

    def _create(self, request: Request, config: ConsumerConfig, action: str) -> None:
        stream = self._js.stream(request.tokens[0])
        self._around.journal.after(
            lambda failure: request.attempt(lambda: self._create_now(request, stream, config, action, failure))
        )

    def _create_now(self, request: Request, stream: Stream, config: ConsumerConfig, action: str, failure: str) -> None:
        """Everything published before is committed: start positions can be computed."""
        if failure:
            raise faults.fault(faults.CONSUMER_CREATE, failure)
        if stream.deleted:
            raise faults.fault(faults.STREAM_NOT_FOUND)
        config = consumer_rules.accept(config, stream.config, self._around.limits)
        if config.sourcing and config.direct:
            base = config.name or "JS_SRC"
            config.name = f"{base}-{self._around.new_id()[-NAME_LENGTH:]}"
        existing = stream.consumers.get(config.name) if config.name else None
        if existing is not None:
            self._update(request, existing, config, action)
            return
        if action == "update":
            raise faults.fault(faults.CONSUMER_DOES_NOT_EXIST)
        consumer_rules.check_neighbours(config, stream)
        self._check_room(stream)
        name = config.name or self._around.new_id()[-NAME_LENGTH:]
        self._js.create_consumer(stream, name, config, lambda consumer: self._created(request, consumer))

    def _check_room(self, stream: Stream) -> None:
        for most in (stream.config.max_consumers, self._around.limits.max_consumers):
            if 0 < most <= sum(1 for consumer in stream.consumers.values() if not consumer.config.direct):
                raise faults.fault(faults.MAX_CONSUMERS)

    def _created(self, request: Request, consumer: Consumer) -> None:
        def kept(failure: str) -> None:
            if failure:
                self._js.delete_consumer(consumer, "Consumer Deleted")
                request.fail(faults.fault(faults.CONSUMER_CREATE, failure))
                return
            if not consumer.config.direct:
                self._advise("CREATED", "create", consumer)
            request.answer(self.describe(consumer))
            self._js.watch_interest(consumer)

        if consumer.is_kept:
            self._around.journal.after(kept)
        else:
            kept("")

    def _update(self, request: Request, consumer: Consumer, config: ConsumerConfig, action: str) -> None:
        if action == "create" and (not consumer.config.is_durable or not consumer_rules.same(consumer.config, config)):
            raise faults.fault(faults.CONSUMER_EXISTS)
        bound = isinstance(consumer.outlet, Push) and consumer.outlet.bound
        consumer_rules.check_update(consumer.config, config, bound=bound)
        consumer_rules.check_neighbours(config, consumer.stream)

        def kept(failure: str) -> None:
            if failure:
                request.fail(faults.fault(faults.CONSUMER_CREATE, failure))
            else:
                request.answer(self.describe(consumer))

        if consumer_rules.same(consumer.config, config):
            kept("")
        else:
            self._js.update_consumer(consumer, config, lambda: self._around.journal.after(kept))

    def _advise(self, word: str, action: str, consumer: Consumer) -> None:
        self._around.advise(
            f"ADVISORY.CONSUMER.{word}.{consumer.stream.name}.{consumer.name}",
            "advisory.v1.consumer_action",
            stream=consumer.stream.name,
            consumer=consumer.name,
            action=action,
        )

    # what there is -----------------------------------------------------------------------------------------------

    def _consumer(self, request: Request) -> Consumer:
        stream = self._js.stream(request.tokens[0])
        consumer = stream.consumers.get(request.tokens[1])
        if consumer is None:
            raise faults.fault(faults.CONSUMER_NOT_FOUND)
        return consumer

    def info(self, request: Request) -> None:
        request.needs_empty_body()
        request.answer(self.describe(self._consumer(request)))

    def names(self, request: Request) -> None:
        found, offset = self._page(request)
        page = [consumer.name for consumer in found[offset : offset + NAMES_LIMIT]]
        request.answer({"total": len(found), "offset": offset, "limit": NAMES_LIMIT, "consumers": page})

    def listing(self, request: Request) -> None:
        found, offset = self._page(request)
        page = [self.describe(consumer) for consumer in found[offset : offset + LIST_LIMIT]]
        request.answer({"total": len(found), "offset": offset, "limit": LIST_LIMIT, "consumers": page})

    def _page(self, request: Request) -> tuple[list[Consumer], int]:
        asked = schema.parse(request.body, _PAGE) if request.body.strip() else {}
        stream = self._js.stream(request.tokens[0])
        found = [consumer for _, consumer in sorted(stream.consumers.items()) if not consumer.config.direct]
        return found, max(0, asked.get("offset", 0))

    def describe(self, consumer: Consumer) -> dict[str, Any]:
        """A consumer as nats-server shows it."""
        config = consumer.config.to_json()
        metadata = {**config.get("metadata", {}), "_nats.level": str(API_LEVEL), "_nats.ver": __version__}
        config["metadata"] = dict(sorted(metadata.items()))
        shown: dict[str, Any] = {
            "stream_name": consumer.stream.name,
            "name": consumer.name,
            "created": times.to_text(consumer.created),
            "config": config,
            "delivered": _position(consumer.delivered_seq, consumer.position, consumer.delivered_ns),
            "ack_floor": _position(consumer.floor_seq, consumer.floor_stream_seq, consumer.acked_ns),
            "num_ack_pending": len(consumer.pending),
            "num_redelivered": consumer.num_redelivered,
            "num_waiting": consumer.outlet.num_waiting if isinstance(consumer.outlet, Pull) else 0,
            "num_pending": max(0, consumer.num_pending),
        }
        if isinstance(consumer.outlet, Push) and consumer.outlet.bound:
            shown["push_bound"] = True
        if consumer.is_paused():
            shown["paused"] = True
            shown["pause_remaining"] = consumer.config.pause_until - self._around.now_ns()
        shown["ts"] = times.to_text(self._around.now_ns())
        return shown

    # change ------------------------------------------------------------------------------------------------------

    def delete(self, request: Request) -> None:
        request.needs_empty_body()
        consumer = self._consumer(request)
        self._js.delete_consumer(consumer, "Consumer Deleted")
        self._advise("DELETED", "delete", consumer)
        self._around.journal.after(lambda _failure: request.answer({"success": True}))

    def pause(self, request: Request) -> None:
        asked = schema.parse(request.body, _PAUSE) if request.body.strip() else {}
        consumer = self._consumer(request)
        now = self._around.now_ns()
        until = asked.get("pause_until", 0)
        paused = until > now
        self._js.pause_consumer(consumer, until if paused else 0)
        self._around.advise(
            f"ADVISORY.CONSUMER.PAUSE.{consumer.stream.name}.{consumer.name}",
            "advisory.v1.consumer_pause",
            stream=consumer.stream.name,
            consumer=consumer.name,
            paused=paused,
            pause_until=times.to_text(until if paused else 0),
        )
        shown: dict[str, object] = {"paused": paused, "pause_until": times.to_text(until)}
        if paused:
            shown["pause_remaining"] = until - now
        self._around.journal.after(lambda _failure: request.answer(shown))

    def reset(self, request: Request) -> None:
        asked = schema.parse(request.body, _RESET) if request.body.strip() else {}
        consumer = self._consumer(request)
        seq = asked.get("seq", 0) or consumer.floor_stream_seq + 1
        config = consumer.config
        if config.deliver_policy == "by_start_sequence" and seq < config.opt_start_seq:
            raise faults.fault(faults.INVALID_RESET, "below start seq")
        if config.deliver_policy not in ("all", "by_start_sequence", "by_start_time"):
            raise faults.fault(faults.INVALID_RESET, "not allowed with this deliver policy")

        def counted() -> None:
            shown = {**self.describe(consumer), "reset_seq": seq}
            self._around.journal.after(lambda _failure: request.answer(shown))
            consumer.pump()

        consumer.reset(seq, counted)

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


def _position(consumer_seq: int, stream_seq: int, last_ns: int) -> dict[str, object]:
    shown: dict[str, object] = {"consumer_seq": consumer_seq, "stream_seq": stream_seq}
    if last_ns:
        shown["last_active"] = times.to_text(last_ns)
    return shown
