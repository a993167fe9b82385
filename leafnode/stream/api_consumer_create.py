"""The API's way to a consumer: create, update, or either (spec jetstream-api section 7).

A request is checked in nats-server's order: the subject it came on, the configuration by itself, the stream and what is
there already. Then the consumer finds its start, and the answer follows the commit.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from leafnode.stream import consumer_rules, faults, schema, times
from leafnode.stream.api import Api, Endpoint, Request
from leafnode.stream.consumer import Consumer
from leafnode.stream.consumer_config import REQUEST_SHAPE, ConsumerConfig
from leafnode.stream.consumer_defaults import stamp_threshold
from leafnode.stream.consumer_info import describe
from leafnode.stream.push import Push
from leafnode.stream.short_hash import short_hash
from leafnode.stream.stream import Stream
from leafnode.wire import headers as header_block

if TYPE_CHECKING:
    from leafnode.stream.jetstream import JetStream

NAME_LENGTH = 8  # characters of a name made here
IDENTITY = (
    b"Nats-Stream-Identity"  # which incarnation of a stream: an origin made anew must not be taken for the old one
)


class Wanted(NamedTuple):
    """What a request asks for."""

    stream: str
    config: ConsumerConfig
    action: str
    pedantic: bool


class ConsumerCreation:
    """Handlers of one account's requests to create and update consumers."""

    def __init__(self, jetstream: "JetStream", api: Api) -> None:
        self._js = jetstream
        self._around = jetstream.around
        api.endpoint("CONSUMER.CREATE", Endpoint(self.create, "consumer_create_response"), tokens=-1)
        api.endpoint("CONSUMER.DURABLE.CREATE", Endpoint(self.create_durable, "consumer_create_response"), tokens=2)

    # the subject -------------------------------------------------------------------------------------------------

    def create_durable(self, request: Request) -> None:
        wanted = _parse(request)
        _check_subject(request, wanted)
        config = wanted.config
        if not config.durable_name:
            raise faults.fault(faults.DURABLE_NAME_MISSING)
        if config.durable_name != request.tokens[1]:
            raise faults.fault(faults.DURABLE_NAME_NO_MATCH)
        config.name = config.durable_name
        self._create(request, wanted)

    def create(self, request: Request) -> None:
        wanted = _parse(request)
        _check_subject(request, wanted)
        if len(request.tokens) > 1:
            _take_name(request.tokens, wanted.config)
        elif wanted.config.durable_name:
            raise faults.fault(faults.EPHEMERAL_WITH_DURABLE_NAME)
        self._create(request, wanted)

    # the stream --------------------------------------------------------------------------------------------------

    def _create(self, request: Request, wanted: Wanted) -> None:
        if wanted.config.num_replicas > 1:
            raise faults.fault(faults.NO_REPLICAS)
        stream = self._js.stream(wanted.stream)
        self._around.journal.after(
            lambda failure: request.attempt(lambda: self._create_now(request, stream, wanted, failure))
        )

    def _create_now(self, request: Request, stream: Stream, wanted: Wanted, failure: str) -> None:
        """Everything published before is committed: start positions can be computed."""
        if failure:
            raise faults.fault(faults.CONSUMER_CREATE, failure)
        if stream.deleted:
            raise faults.fault(faults.STREAM_NOT_FOUND)
        config = wanted.config
        if config.direct and config.sourcing and config.name:
            self._fit_sourcing(config, stream)
        _check_identity(request, config, stream)
        existing = stream.consumers.get(config.name) if config.name else None
        if existing is not None:
            _keep_position(config, existing.config)
        config = consumer_rules.accept(config, stream.config, self._around.limits, pedantic=wanted.pedantic)
        if existing is not None:
            self._update(request, existing, wanted)
            return
        if wanted.action == "update":
            raise faults.fault(faults.CONSUMER_DOES_NOT_EXIST)
        consumer_rules.check_new(config, stream, self._around.limits)
        stamp_threshold(config)
        name = config.name or self._around.new_id()[-NAME_LENGTH:]
        self._js.create_consumer(stream, name, config, lambda consumer: self._created(request, consumer))

    def _fit_sourcing(self, config: ConsumerConfig, stream: Stream) -> None:
        """A mirror or source asks under its one name: a retention that waits for it needs a consumer that stays."""
        if stream.config.retention == "limits":
            config.name = f"{config.name}-{self._around.new_id()[-NAME_LENGTH:]}"
            return
        config.direct = False
        config.durable_name = config.name
        config.ack_policy = "flow_control"
        config.ack_wait = config.max_deliver = config.inactive_threshold = 0

    # the consumer ------------------------------------------------------------------------------------------------

    def _created(self, request: Request, consumer: Consumer) -> None:
        def kept(failure: str) -> None:
            if failure:
                self._js.delete_consumer(consumer, "Consumer Deleted")
                request.fail(faults.fault(faults.CONSUMER_CREATE, failure))
                return
            if not consumer.config.direct:
                advise_action(consumer, "CREATED", "create")
            if isinstance(consumer.outlet, Push):
                consumer.outlet.check_interest()
            self._answer(request, consumer)
            if consumer.is_paused():
                consumer.advise_pause()
            self._js.watch_interest(consumer)

        if consumer.is_kept:
            self._around.journal.after(kept)
        else:
            kept("")

    def _answer(self, request: Request, consumer: Consumer) -> None:
        config = consumer.config
        headers = b""
        if config.direct or config.sourcing:
            headers = header_block.with_lines(b"", (IDENTITY, identity(consumer.stream).encode()))
        request.answer(describe(consumer), headers)

    def _update(self, request: Request, consumer: Consumer, wanted: Wanted) -> None:
        config = wanted.config
        if wanted.action == "create" and not consumer_rules.same(consumer.config, config):
            raise faults.fault(faults.CONSUMER_EXISTS)
        consumer_rules.check_neighbours(config, consumer.stream)
        bound = isinstance(consumer.outlet, Push) and consumer.outlet.bound
        consumer_rules.check_update(consumer.config, config, bound=bound)
        stamp_threshold(config)

        def kept(failure: str) -> None:
            if failure:
                request.fail(faults.fault(faults.CONSUMER_CREATE, failure))
            else:
                self._answer(request, consumer)
            self._js.watch_interest(consumer)

        def updated() -> None:
            if config.sourcing:
                consumer.reset(consumer.ledger.floor_stream_seq + 1, lambda: self._around.journal.after(kept))
            else:
                self._around.journal.after(kept)

        if consumer_rules.same(consumer.config, config) and not config.sourcing:
            self._answer(request, consumer)
        else:
            self._js.update_consumer(consumer, config, updated)


def _parse(request: Request) -> Wanted:
    if not request.body.strip():
        raise faults.fault(faults.STREAM_MISMATCH)
    value: dict[str, Any] = schema.parse(request.body, REQUEST_SHAPE)
    config = ConsumerConfig.from_json(value.get("config", {}))
    return Wanted(value.get("stream_name", ""), config, value.get("action", ""), value.get("pedantic", False))


def _check_subject(request: Request, wanted: Wanted) -> None:
    if wanted.stream != request.tokens[0]:
        raise faults.fault(faults.STREAM_MISMATCH)
    name = request.tokens[1] if len(request.tokens) > 1 else wanted.config.name
    if "/" in name or "\\" in name:
        raise faults.fault(faults.CONSUMER_NAME_PATH)


def _take_name(tokens: list[str], config: ConsumerConfig) -> None:
    """Name and filter are in the subject, so that permissions can be given for them."""
    if config.durable_name and config.durable_name != tokens[1]:
        raise faults.fault(faults.DURABLE_NAME_NO_MATCH)
    config.name = tokens[1]
    if len(tokens) > 2:
        if config.filter_subjects:
            raise faults.fault(faults.FILTERS_NOT_IN_SUBJECT)
        if config.filter_subject != ".".join(tokens[2:]):
            raise faults.fault(faults.FILTER_MISMATCH)


def identity(stream: Stream) -> str:
    return short_hash(times.to_text(stream.created))


def _check_identity(request: Request, config: ConsumerConfig, stream: Stream) -> None:
    if not (config.direct or config.sourcing):
        return
    expected = header_block.get(request.headers, IDENTITY) if request.headers else None
    if expected and expected != identity(stream).encode():
        raise faults.fault(faults.STREAM_IDENTITY, identity(stream))


def _keep_position(config: ConsumerConfig, old: ConsumerConfig) -> None:
    """A pause is not changed by an update, nor is where a source that stays began."""
    config.pause_until = old.pause_until
    if config.sourcing and config.durable_name:
        config.deliver_policy = old.deliver_policy
        config.opt_start_seq, config.opt_start_time = old.opt_start_seq, old.opt_start_time


def advise_action(consumer: Consumer, word: str, action: str) -> None:
    """Tell whoever listens that a consumer was created or deleted."""
    consumer.stream.around.advise(
        f"ADVISORY.CONSUMER.{word}.{consumer.stream.name}.{consumer.name}",
        "advisory.v1.consumer_action",
        stream=consumer.stream.name,
        consumer=consumer.name,
        action=action,
    )
