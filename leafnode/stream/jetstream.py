"""JetStream of one account: its streams, its consumers, its API.

Built by `net.storage` with what the store had; from then on everything happens in `deliver` of the sinks that it
subscribes, in `on_time`, and when the journal and the reads are answered. Nothing here waits.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from leafnode.route.message import Subscription
from leafnode.route.subject import is_literal, matches
from leafnode.stream import consumer_rules, faults, schema, start
from leafnode.stream.api import Api, Endpoint, Request
from leafnode.stream.api_consumer_create import advise_action
from leafnode.stream.api_consumers import ConsumerApi
from leafnode.stream.api_messages import MessageApi
from leafnode.stream.api_snapshots import SnapshotApi
from leafnode.stream.api_streams import StreamApi
from leafnode.stream.consumer import Consumer
from leafnode.stream.consumer_config import SHAPE as CONSUMER_SHAPE
from leafnode.stream.consumer_config import ConsumerConfig
from leafnode.stream.consumer_rules import required_level
from leafnode.stream.contents import Contents
from leafnode.stream.journal import (
    ConsumerState,
    CreateConsumer,
    CreateStream,
    DropConsumer,
    DropStream,
    UpdateConsumer,
    UpdateStream,
)
from leafnode.stream.level import API_LEVEL
from leafnode.stream.loaded import LoadedConsumer, LoadedContents, LoadedStream
from leafnode.stream.pull import Pull
from leafnode.stream.push import Push
from leafnode.stream.restore import RestoredConsumer
from leafnode.stream.source import Origin
from leafnode.stream.stream import Stream, keeps_history
from leafnode.stream.stream_config import SHAPE as STREAM_SHAPE
from leafnode.stream.stream_config import StreamConfig
from leafnode.stream.surroundings import Limits, Surroundings

_NEW = ConsumerState(0, 0, 0, 0)
_CLUSTERED = {
    "STREAM.LEADER.STEPDOWN": "stream_leader_stepdown_response",
    "CONSUMER.LEADER.STEPDOWN": "consumer_leader_stepdown_response",
    "STREAM.PEER.REMOVE": "stream_remove_peer_response",
}
CONSUMERS = b".CONSUMER.>"  # end of the interest by which a JetStream behind a link offers its API
RESTORING = "_leafnode.restoring"  # in the stored configuration of a stream that is being restored
NO_LIMITS = Limits(
    max_streams=0,
    max_consumers=0,
    max_memory=0,
    max_storage=0,
    max_ack_pending=0,
    memory_max_stream_bytes=0,
    storage_max_stream_bytes=0,
)
"""What is said of an account as a whole where limits are by tier."""


class JetStream:
    """All streams of one account."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self.streams: dict[str, Stream] = {}
        self.restoring: set[str] = set()  # names of streams that come back from a snapshot
        self._by_id: dict[int, Stream] = {}
        self._push: dict[bytes, dict[Consumer, None]] = {}  # by deliver subject
        self._origins: dict[int, list[Origin]] = {}  # by stream
        around.account.interest_listeners.append(self._interest_changed)
        self._held = ""  # why file streams refuse messages
        self.api = Api(around)
        self.api.endpoint("INFO", Endpoint(self._info, "account_info_response", {}), tokens=0)
        self.stream_api = StreamApi(self, self.api)
        self.consumer_api = ConsumerApi(self, self.api)
        MessageApi(self, self.api)
        SnapshotApi(self, self.api)
        self._refuse_rest()

    def _refuse_rest(self) -> None:
        def no_cluster(request: Request) -> None:
            raise faults.fault(faults.CLUSTERING_REQUIRED)

        for verb, kind in _CLUSTERED.items():
            self.api.endpoint(verb, Endpoint(no_cluster, kind), tokens=-1)

    # life --------------------------------------------------------------------------------------------------------

    def open(self, loaded: Iterable[LoadedStream]) -> None:
        """Take on what the store has and begin to listen."""
        for item in loaded:
            self._load(item)
        self.around.account.interest_listeners.append(self._on_interest)
        self.api.subscribe()
        for stream in list(self.streams.values()):
            self._start_copying(stream)

    def farewell(self) -> None:
        """The server ends: requests for messages that wait are answered, so that clients ask again."""
        for stream in self.streams.values():
            for consumer in stream.consumers.values():
                consumer.outlet.farewell()

    def close(self) -> None:
        """Stop listening; nothing is deleted."""
        self.around.account.interest_listeners.remove(self._on_interest)
        self.api.unsubscribe()
        for stream in self.streams.values():
            stream.unsubscribe()
            self._stop_copying(stream)
            for consumer in list(stream.consumers.values()):
                consumer.close("Server Shutdown")

    def _load(self, item: LoadedStream) -> None:
        if RESTORING.encode() in item.config:  # it was not finished
            self.around.journal.catalog(DropStream(item.id))
            return
        config = StreamConfig.from_json(schema.parse(item.config, STREAM_SHAPE))
        stream = Stream(item.id, config, item.created, self.around)
        self.streams[config.name] = stream
        self._by_id[stream.id] = stream
        stream.restore(contents_of(stream, item.contents), item.contents)
        stream.recall.learn_duplicates()
        for row in item.consumers:
            self._load_consumer(stream, row)
        stream.subscribe()

    def _load_consumer(self, stream: Stream, row: LoadedConsumer) -> None:
        config = ConsumerConfig.from_json(schema.parse(row.config, CONSUMER_SHAPE))
        consumer = self._build(stream, row.id, row.name, config, row.created, row.state)
        consumer.ledger.resume(row.pending)
        consumer.feed.count(consumer.pump)
        self.watch_interest(consumer)

    def restore(self, stream: Stream, loaded: LoadedContents) -> None:
        """A commit failed: go on from what is on the disk."""
        stream.restore(contents_of(stream, loaded), loaded)

    def hold(self, reason: str) -> None:
        """The disk is full: file streams refuse messages until this is called without a reason. All else goes on."""
        self._held = reason
        for stream in self.streams.values():
            if stream.config.storage != "memory":
                stream.hold(reason)
        if not reason:
            for origin in self._all_origins():
                origin.start()

    def stream_by_id(self, number: int) -> Stream | None:
        return self._by_id.get(number)

    def owns(self, stream: Stream) -> bool:
        return self._by_id.get(stream.id) is stream

    # streams -----------------------------------------------------------------------------------------------------

    def stream(self, name: str) -> Stream:
        """A stream by name.

        Raises:
            ApiError: 10059.
        """
        found = self.streams.get(name)
        if found is None:
            raise faults.fault(faults.STREAM_NOT_FOUND)
        return found

    def direct_stream(self, name: str) -> Stream | None:
        """Who answers direct gets for a name: the stream itself, or a mirror of it that may."""
        found = self.streams.get(name)
        if found is not None:
            return found if found.config.allow_direct else None
        for stream in self.streams.values():
            if stream.config.mirror_direct and stream.config.mirror and stream.config.mirror.get("name") == name:
                return stream
        return None

    def create_stream(self, config: StreamConfig) -> Stream:
        stream = self._new_stream(config, _encode(config))
        if config.first_seq:
            stream.changes()  # its first sequence belongs on the disk too
        self._open_stream(stream)
        return stream

    def _new_stream(self, config: StreamConfig, stored: bytes) -> Stream:
        now = self.around.now_ns()
        stream = Stream(next(self.around.journal.stream_ids), config, now, self.around)
        self._by_id[stream.id] = stream
        self.around.journal.catalog(
            CreateStream(stream.id, self.around.account.name, stored, now, config.storage == "memory")
        )
        if config.storage != "memory":
            stream.hold(self._held)
        return stream

    def _open_stream(self, stream: Stream) -> None:
        """From now on it takes messages and is found by name."""
        self.streams[stream.name] = stream
        stream.subscribe()
        self._start_copying(stream)
        for origin in self._all_origins():
            if not origin.is_external and origin.name == stream.name:
                origin.start()

    def begin_restore(self, config: StreamConfig) -> Stream:
        """A stream that nobody sees yet; gone at the next start unless `finish_restore` was called."""
        return self._new_stream(config, schema.encode({**config.to_json(), RESTORING: True}))

    def finish_restore(self, stream: Stream, consumers: Iterable[RestoredConsumer]) -> None:
        """All its messages are there.

        Raises:
            ApiError: a consumer cannot be.
        """
        limits = self.around.limits
        accepted = [(item, consumer_rules.accept(item.config, stream.config, limits)) for item in consumers]
        self.around.journal.catalog(UpdateStream(stream.id, _encode(stream.config)))
        stream.recall.learn_duplicates()
        for item, config in accepted:
            self._restore_consumer(stream, item, config)
        self._open_stream(stream)

    def _restore_consumer(self, stream: Stream, item: RestoredConsumer, config: ConsumerConfig) -> None:
        now = self.around.now_ns()
        consumer = self._build(stream, next(self.around.journal.consumer_ids), item.name, config, now, item.state)
        if consumer.is_kept:
            self.around.journal.catalog(CreateConsumer(consumer.id, stream.id, item.name, _encode(config), now))
        consumer.ledger.resume(item.pending)
        consumer.ledger.changed(soon=True).rewrite = True
        consumer.feed.count(consumer.pump)
        self.watch_interest(consumer)

    def abort_restore(self, stream: Stream) -> None:
        stream.forget()
        self._by_id.pop(stream.id, None)
        self.around.journal.catalog(DropStream(stream.id))

    def _all_origins(self) -> list[Origin]:
        return [origin for origins in self._origins.values() for origin in origins]

    def _start_copying(self, stream: Stream) -> None:
        """Begin what a stream's mirror or sources ask for."""
        config = stream.config

        def copy(source: dict[str, Any], *, is_mirror: bool) -> Origin:
            return Origin(stream, source, is_mirror=is_mirror, on_other_origin=lambda: self._mirror_anew(stream))

        origins = [copy(config.mirror, is_mirror=True)] if config.mirror else []
        origins += [copy(source, is_mirror=False) for source in config.sources]
        if not origins:
            return
        self._origins[stream.id] = origins

        def restart() -> None:
            for origin in origins:
                origin.start()

        stream.on_reloaded = restart
        self.around.journal.after(lambda _failure: restart())

    def _mirror_anew(self, stream: Stream) -> None:
        """What it mirrored was made anew, so its sequences mean other messages now. Durable consumers begin again."""
        durables = [each for each in stream.consumers.values() if each.config.is_durable]
        self.delete_stream(stream)
        fresh = self.create_stream(stream.config)
        for consumer in durables:
            self.create_consumer(fresh, consumer.name, consumer.config, self.watch_interest)

    def _stop_copying(self, stream: Stream) -> None:
        stream.on_reloaded = lambda: None
        for origin in self._origins.pop(stream.id, []):
            origin.stop()

    def update_stream(self, stream: Stream, config: StreamConfig, then: Callable[[], None]) -> None:
        """Change a stream; `then` when what is over lower limits is gone."""
        self.around.journal.catalog(UpdateStream(stream.id, _encode(config)))
        resubscribe = stream.config.subjects != config.subjects
        copies = (stream.config.mirror, stream.config.sources) != (config.mirror, config.sources)
        if copies:
            self._stop_copying(stream)
        if resubscribe:
            stream.unsubscribe()
        stream.reconfigure(config, then)
        if copies:
            self._start_copying(stream)
        if resubscribe:
            stream.subscribe()

    def delete_stream(self, stream: Stream) -> None:
        self.forget_stream(stream)
        self.around.journal.catalog(DropStream(stream.id))

    def forget_stream(self, stream: Stream) -> None:
        """Take a stream out of everything that knows it."""
        stream.forget()
        self._stop_copying(stream)
        self.streams.pop(stream.name, None)
        self._by_id.pop(stream.id, None)
        for consumer in list(stream.consumers.values()):
            self._forget_consumer(consumer, "Consumer Deleted")

    def reserved(self, storage: str) -> int:
        """Bytes promised to streams by their limits."""
        kept = (stream.config for stream in self.streams.values() if stream.config.storage == storage)
        return sum(max(config.max_bytes, 0) for config in kept)

    def origins(self, stream: Stream) -> dict[str, Any]:
        """How a stream's mirror or sources are doing, for its info."""
        origins = self._origins.get(stream.id)
        if not origins:
            return {}
        if stream.config.mirror:
            return {"mirror": origins[0].describe()}
        return {"sources": [origin.describe() for origin in origins]}

    # consumers ---------------------------------------------------------------------------------------------------

    def create_consumer(
        self, stream: Stream, name: str, config: ConsumerConfig, done: Callable[[Consumer], None]
    ) -> None:
        """Build a consumer and find its start; `done` when its num_pending is known."""
        now = self.around.now_ns()
        consumer = self._build(stream, next(self.around.journal.consumer_ids), name, config, now, _NEW)
        if consumer.is_kept:
            self.around.journal.catalog(CreateConsumer(consumer.id, stream.id, name, _encode(config), now))
        start.start(consumer, done)

    def _build(
        self, stream: Stream, number: int, name: str, config: ConsumerConfig, created: int, state: ConsumerState
    ) -> Consumer:
        consumer = Consumer(number, stream, name, config, created, state)
        if config.is_push:
            push = Push(consumer)
            consumer.outlet = push
            push.subscribe()
            self._push.setdefault(config.deliver_subject.encode(), {})[consumer] = None
        else:
            pull = Pull(consumer)
            consumer.outlet = pull
            consumer.next_request = pull.request
        consumer.on_inactive = self._on_inactive
        stream.add_consumer(consumer)
        consumer.answers.subscribe()
        return consumer

    def watch_interest(self, consumer: Consumer) -> None:
        """The asker knows of it, or of its change: from now on messages may flow."""
        if isinstance(consumer.outlet, Push):
            consumer.outlet.check_interest()
        consumer.pump()

    def update_consumer(self, consumer: Consumer, config: ConsumerConfig, then: Callable[[], None]) -> None:
        """Change a consumer; `then` when its num_pending is known again."""
        if consumer.is_kept:
            self.around.journal.catalog(UpdateConsumer(consumer.id, _encode(config)))
        self._forget_push(consumer)
        filtered = consumer.config.filters != config.filters
        consumer.configure(config)
        if isinstance(consumer.outlet, Push):
            if consumer.outlet.subject != config.deliver_subject.encode():
                consumer.outlet.move()
            self._push.setdefault(consumer.outlet.subject, {})[consumer] = None
        if filtered:
            consumer.stream.refile_consumer(consumer)
            consumer.feed.restart(then)
        else:
            then()

    def pause_consumer(self, consumer: Consumer, until_ns: int) -> None:
        """Pause until a time; 0, or one that has passed: go on."""
        config = dataclasses.replace(consumer.config, pause_until=until_ns)
        config.metadata = {**config.metadata, "_nats.req.level": str(required_level(config))}
        changed = until_ns != consumer.config.pause_until
        consumer.configure(config)
        if consumer.is_kept:
            self.around.journal.catalog(UpdateConsumer(consumer.id, _encode(config)))
        if changed:
            consumer.advise_pause()
        consumer.pump()

    def delete_consumer(self, consumer: Consumer, reason: str) -> None:
        """It goes; messages that only it still wanted go with it on an interest stream."""
        if consumer.deleted:
            return
        self._forget_consumer(consumer, reason)
        if consumer.is_kept:
            self.around.journal.catalog(DropConsumer(consumer.id))
        if consumer.stream.config.retention == "interest":
            consumer.stream.retention.drop_unneeded(consumer.filters)

    def _forget_consumer(self, consumer: Consumer, reason: str) -> None:
        self._forget_push(consumer)
        consumer.close(reason)
        consumer.stream.remove_consumer(consumer)

    def _forget_push(self, consumer: Consumer) -> None:
        subject = consumer.config.deliver_subject.encode()
        known = self._push.get(subject)
        if known is not None:
            known.pop(consumer, None)
            if not known:
                del self._push[subject]

    def _on_inactive(self, consumer: Consumer) -> None:
        self.delete_consumer(consumer, "Consumer Deleted")
        if not consumer.config.direct:
            advise_action(consumer, "DELETED", "delete")

    def _on_interest(self, sub: Subscription, added: bool) -> None:
        """Somebody came to, or left, a subject: push consumers may start or stop."""
        if not self._push:
            return
        if is_literal(sub.subject):
            concerned = list(self._push.get(sub.subject, ()))
        else:
            concerned = [
                consumer
                for subject, consumers in list(self._push.items())
                if matches(sub.subject, subject)
                for consumer in consumers
            ]
        for consumer in concerned:
            if isinstance(consumer.outlet, Push) and consumer.outlet.check_interest():
                consumer.pump()

    # account info ------------------------------------------------------------------------------------------------

    def _info(self, request: Request) -> None:
        limits = self.around.limits
        memory = [stream for stream in self.streams.values() if stream.config.storage == "memory"]
        disk = [stream for stream in self.streams.values() if stream.config.storage != "memory"]
        shown: dict[str, Any] = {
            "memory": sum(stream.contents.bytes for stream in memory),
            "storage": sum(stream.contents.bytes for stream in disk),
            "reserved_memory": self.reserved("memory"),
            "reserved_storage": self.reserved("file"),
            "streams": len(self.streams),
            "consumers": sum(len(stream.consumers) for stream in self.streams.values()),
            "limits": _shown_limits(limits),
        }
        tiers = {limits.tier: dict(shown)} if limits.tier else {}
        if tiers:
            shown["limits"] = _shown_limits(NO_LIMITS)
        if self.around.domain:
            shown["domain"] = self.around.domain
        shown["api"] = {"level": API_LEVEL, "total": self.api.total - 1, "errors": self.api.errors}
        request.answer(shown | ({"tiers": tiers} if tiers else {}))

    # time and links ----------------------------------------------------------------------------------------------

    def next_deadline_ns(self) -> int | None:
        """When `on_time` should be called next."""
        return self.around.timers.next_deadline_ns()

    def on_time(self, now_ns: int) -> None:
        """Redeliver, expire, beat: whatever is due."""
        self.around.timers.on_time(now_ns)

    def on_link_up(self) -> None:
        """A link to another server is up again: what waits for its origin looks for it there."""
        for origin in self._all_origins():
            if origin.is_external and not origin.is_running:
                origin.start()

    def _interest_changed(self, sub: Subscription, added: bool) -> None:
        """The API of another JetStream came within reach: whoever copies from there asks at once, also who thinks that
        nothing has happened, since the link between them is new."""
        if added and sub.sink.is_remote and sub.subject.endswith(CONSUMERS) and self._origins:
            api = sub.subject[: -len(CONSUMERS)].decode(errors="replace")
            for origin in self._all_origins():
                if origin.api == api:
                    origin.origin_is_back()


def _shown_limits(limits: Limits) -> dict[str, int | bool]:
    return {
        "max_memory": limits.max_memory,
        "max_storage": limits.max_storage,
        "max_streams": limits.max_streams,
        "max_consumers": limits.max_consumers,
        "max_ack_pending": limits.max_ack_pending,
        "memory_max_stream_bytes": limits.memory_max_stream_bytes,
        "storage_max_stream_bytes": limits.storage_max_stream_bytes,
        "max_bytes_required": limits.max_bytes_required,
    }


def contents_of(stream: Stream, loaded: LoadedContents) -> Contents:
    """The counters and indexes of a stream from its rows."""
    state = loaded.state
    config = stream.config
    contents = Contents(config.first_seq or 1, with_history=keeps_history(config))
    if state.last_seq or state.first_seq:
        contents.first_seq, contents.last_seq = state.first_seq, state.last_seq
    contents.messages, contents.bytes, contents.last_time = state.messages, state.bytes, state.last_time
    contents.head_to = contents.first_seq - 1 if contents.messages else contents.last_seq
    for number, name, last_seq, last_size, count in loaded.subjects:
        subject = contents.subject(name)
        subject.id = number
        subject.is_kept = True
        subject.last_seq, subject.last_size, subject.count = last_seq, last_size, count
        contents.next_subject_id = max(contents.next_subject_id, number + 1)
    return contents


def _encode(config: StreamConfig | ConsumerConfig) -> bytes:
    return schema.encode(config.to_json())
