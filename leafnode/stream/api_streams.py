"""The API's stream verbs: create, update, info, list, names, purge, delete."""

from typing import TYPE_CHECKING, Any

from leafnode import __version__
from leafnode.route.subject import matches, overlap
from leafnode.stream import faults, reads, schema, source_rules, stream_rules, times
from leafnode.stream.api import Api, Endpoint, Request
from leafnode.stream.level import API_LEVEL
from leafnode.stream.purge import Purge
from leafnode.stream.purged import tell_consumers
from leafnode.stream.stream import STORE_DOWN, Stream
from leafnode.stream.stream_config import REQUEST_SHAPE, StreamConfig

if TYPE_CHECKING:
    from leafnode.stream.jetstream import JetStream

NAMES_LIMIT = 1024  # in one answer; nats-server's
LIST_LIMIT = 256  # in one answer; nats-server's
DETAILS_LIMIT = 100_000  # subjects or deleted sequences in one answer; nats-server's
_PAGE: dict[str, schema.Kind] = {"offset": schema.integer, "subject": schema.text}
_INFO: dict[str, schema.Kind] = {
    "deleted_details": schema.boolean,
    "subjects_filter": schema.text,
    "offset": schema.integer,
}
_PURGE: dict[str, schema.Kind] = {"filter": schema.text, "seq": schema.unsigned, "keep": schema.unsigned}
_NO_PAGE: dict[str, object] = {"total": 0, "offset": 0, "limit": 0}


class StreamApi:
    """Handlers of one account's stream requests."""

    def __init__(self, jetstream: "JetStream", api: Api) -> None:
        self._js = jetstream
        self._around = jetstream.around
        api.endpoint("STREAM.CREATE", Endpoint(self.create, "stream_create_response"), tokens=1)
        api.endpoint("STREAM.UPDATE", Endpoint(self.update, "stream_update_response"), tokens=1)
        api.endpoint("STREAM.INFO", Endpoint(self.info, "stream_info_response", _NO_PAGE), tokens=1)
        api.endpoint(
            "STREAM.NAMES", Endpoint(self.names, "stream_names_response", {**_NO_PAGE, "streams": None}), tokens=0
        )
        api.endpoint(
            "STREAM.LIST", Endpoint(self.listing, "stream_list_response", {**_NO_PAGE, "streams": []}), tokens=0
        )
        api.endpoint("STREAM.DELETE", Endpoint(self.delete, "stream_delete_response"), tokens=1)
        api.endpoint("STREAM.PURGE", Endpoint(self.purge, "stream_purge_response", {"purged": 0}), tokens=1)

    # configuration -----------------------------------------------------------------------------------------------

    def _config(self, request: Request) -> tuple[StreamConfig, bool]:
        """What the request asks for, and whether it is pedantic."""
        value = schema.parse(request.body, REQUEST_SHAPE) if request.body.strip() else {}
        pedantic = value.pop("pedantic", False)
        return StreamConfig.from_json(value), pedantic

    def _accept(self, config: StreamConfig, *, pedantic: bool) -> StreamConfig:
        known = {name: stream.config for name, stream in self._js.streams.items()}
        return stream_rules.accept(config, self._around.limits, known, pedantic=pedantic)

    def create(self, request: Request) -> None:
        config, pedantic = self._config(request)
        _check_name(request, config)
        if "/" in config.name or "\\" in config.name:
            raise faults.fault(faults.STREAM_NAME_PATH)
        if config.sealed:
            raise stream_rules.invalid("stream configuration for create can not be sealed")
        if config.mirror_direct and config.mirror is None:
            raise stream_rules.invalid("stream has no mirror but does have mirror direct")
        if config.name in self._js.restoring:
            raise faults.fault(faults.STREAM_NAME_IN_USE)
        existing = self._js.streams.get(config.name)
        if existing is None:
            self._check_number()
        self._accept(config, pedantic=pedantic)
        stream_rules.check_replicas(config)
        if existing is not None:
            if not stream_rules.same(existing.config, config):
                raise faults.fault(faults.STREAM_NAME_IN_USE)
            request.answer({**self.describe(existing), "did_create": True})
            return
        self.check_new(config)
        stream = self._js.create_stream(config)

        def created(failure: str) -> None:
            if failure:
                self._js.delete_stream(stream)
                request.fail(faults.fault(faults.STREAM_CREATE, f"{STORE_DOWN}: {failure}"))
                return
            self._advise("CREATED", "create", config.name)
            request.answer({**_without_errors(self.describe(stream)), "did_create": True})

        self._around.journal.after(created)

    def _check_number(self) -> None:
        if 0 <= self._around.limits.max_streams <= len(self._js.streams):
            raise faults.fault(faults.MAX_STREAMS)

    def check_new(self, config: StreamConfig) -> None:
        """Whether an accepted configuration has a place in the account.

        Raises:
            ApiError: why not.
        """
        self._check_number()
        self._check_room(config, config.max_bytes)
        source_rules.check_filters(config)
        stream_rules.check_overlap(config, [other.config for other in self._js.streams.values()])

    def _check_room(self, config: StreamConfig, more: int) -> None:
        """Whether the account has `more` bytes to promise.

        Raises:
            ApiError: 10026, 10028, 10047.
        """
        limits = self._around.limits
        if 0 < limits.max_consumers < config.max_consumers:
            raise faults.fault(faults.MAX_CONSUMERS)
        most = limits.max_memory if config.storage == "memory" else limits.max_storage
        if most >= 0 and max(more, 0) + self._js.reserved(config.storage) > most:
            raise faults.fault(faults.NO_MEMORY if config.storage == "memory" else faults.NO_STORAGE)

    def update(self, request: Request) -> None:
        config, pedantic = self._config(request)
        self._accept(config, pedantic=pedantic)
        _check_name(request, config)
        stream = self._js.stream(config.name)
        stream_rules.check_update(stream.config, config)
        self._check_room(config, max(config.max_bytes, 0) - max(stream.config.max_bytes, 0))
        _check_consumers(stream, config)
        stream_rules.check_overlap(config, [other.config for other in self._js.streams.values()])

        def updated(failure: str) -> None:
            if failure:
                request.fail(faults.fault(faults.STREAM_GENERAL, failure))
                return
            self._advise("UPDATED", "modify", config.name)
            request.answer(self.describe(stream))

        self._js.update_stream(stream, config, lambda: self._around.journal.after(updated))

    def delete(self, request: Request) -> None:
        request.needs_empty_body()
        stream = self._js.stream(request.tokens[0])
        self._js.delete_stream(stream)
        self._advise("DELETED", "delete", stream.name)
        self._around.journal.after(lambda _failure: request.answer({"success": True}))

    def _advise(self, word: str, action: str, name: str) -> None:
        self._around.advise(f"ADVISORY.STREAM.{word}.{name}", "advisory.v1.stream_action", stream=name, action=action)

    # what there is -----------------------------------------------------------------------------------------------

    def info(self, request: Request) -> None:
        stream = self._js.stream(request.tokens[0])
        asked = schema.parse(request.body, _INFO) if request.body.strip() else {}
        offset = max(0, asked.get("offset", 0))
        page: dict[str, object] = {"total": 0, "offset": 0, "limit": 0}
        subjects: dict[str, int] | None = None
        pattern = asked.get("subjects_filter")
        if pattern:
            found = sorted(stream.contents.matching(pattern.encode()), key=lambda subject: subject.name)
            subjects = {
                item.name.decode(errors="replace"): item.count for item in found[offset : offset + DETAILS_LIMIT]
            }
            if found:
                page = {"total": len(found), "offset": offset, "limit": DETAILS_LIMIT}

        def reply(deleted: list[int] | None) -> None:
            request.answer({**page, **self.describe(stream, subjects=subjects, deleted=deleted, cluster=True)})

        if asked.get("deleted_details") and stream.contents.num_deleted:
            first, last = stream.contents.first_seq, stream.committed
            if stream.contents.num_deleted > DETAILS_LIMIT:
                raise faults.fault(faults.TOO_MANY_DETAILS)
            self._around.journal.after(
                lambda _failure: self._around.reads.ask(reads.Gaps(stream.id, first, last, DETAILS_LIMIT, reply))
            )
        else:
            reply(None)

    def names(self, request: Request) -> None:
        found, offset = self._page(request)
        page = [stream.name for stream in found[offset : offset + NAMES_LIMIT]]
        request.answer({"total": len(found), "offset": offset, "limit": NAMES_LIMIT, "streams": page or None})

    def listing(self, request: Request) -> None:
        found, offset = self._page(request)
        page = [self.describe(stream, own_metadata=False) for stream in found[offset : offset + LIST_LIMIT]]
        request.answer({"total": len(found), "offset": offset, "limit": LIST_LIMIT, "streams": page})

    def _page(self, request: Request) -> tuple[list[Stream], int]:
        asked = schema.parse(request.body, _PAGE) if request.body.strip() else {}
        wanted = asked.get("subject", "").encode()
        found = [
            stream
            for _, stream in sorted(self._js.streams.items())
            if not wanted or any(overlap(wanted, subject.encode()) for subject in stream.config.subjects)
        ]
        return found, min(max(0, asked.get("offset", 0)), len(found))

    def describe(
        self,
        stream: Stream,
        *,
        subjects: dict[str, int] | None = None,
        deleted: list[int] | None = None,
        cluster: bool = False,
        own_metadata: bool = True,
    ) -> dict[str, Any]:
        """A stream as nats-server shows it."""
        config = stream.config.to_json()
        if own_metadata:
            config["metadata"] = {**config.get("metadata", {}), "_nats.level": str(API_LEVEL), "_nats.ver": __version__}
            config["metadata"] = dict(sorted(config["metadata"].items()))
        shown: dict[str, Any] = {
            "config": config,
            "created": times.to_text(stream.created),
            "state": _state(stream, subjects, deleted),
        }
        if self._around.domain:
            shown["domain"] = self._around.domain
        if cluster:
            shown["cluster"] = {"leader": self._around.server_name}
        shown.update(self._js.origins(stream))
        shown["ts"] = times.to_text(self._around.now_ns())
        return shown

    # purge -------------------------------------------------------------------------------------------------------

    def purge(self, request: Request) -> None:
        asked = schema.parse(request.body, _PURGE) if request.body.strip() else {}
        stream = self._js.stream(request.tokens[0])
        seq, keep = asked.get("seq", 0), asked.get("keep", 0)
        if stream.config.sealed:
            raise faults.fault(faults.SEALED)
        if stream.config.deny_purge:
            raise faults.fault(faults.PURGE, "stream purge not permitted")
        if seq and keep:
            raise faults.fault(faults.BAD_REQUEST)
        pattern = asked.get("filter", "").encode()

        def done(removed: int, failure: str) -> None:
            if failure:
                request.fail(faults.fault(faults.PURGE, failure))
                return
            self._around.journal.after(lambda late: finish(removed, late))

        def finish(removed: int, failure: str) -> None:
            if failure:
                request.fail(faults.fault(faults.PURGE, failure))
            else:
                tell_consumers(stream, pattern or b">", lambda: request.answer({"success": True, "purged": removed}))

        filters = None if pattern in (b"", b">") else [pattern]
        if seq > stream_rules.FIRST_SEQ_MAX:
            raise faults.fault(faults.PURGE, f"sequence is too large, maximum allowed is {stream_rules.FIRST_SEQ_MAX}")
        Purge(stream, filters, below=seq, keep=keep, done=done).start()


def _state(stream: Stream, subjects: dict[str, int] | None, deleted: list[int] | None) -> dict[str, Any]:
    contents = stream.contents
    first = contents.head.get(contents.first_seq)
    empty_from_start = not contents.messages and not contents.last_seq
    state: dict[str, Any] = {
        "messages": contents.messages,
        "bytes": contents.bytes,
        "first_seq": 0 if empty_from_start else contents.first_seq,
        "first_ts": times.to_text(first.time if first is not None else 0),
        "last_seq": contents.last_seq,
        "last_ts": times.to_text(contents.last_time),
    }
    if contents.subjects:
        state["num_subjects"] = len(contents.subjects)
    if subjects:
        state["subjects"] = subjects
    if contents.num_deleted:
        state["num_deleted"] = contents.num_deleted
    if deleted is not None:
        state["deleted"] = deleted
    state["consumer_count"] = sum(1 for consumer in stream.consumers.values() if not consumer.config.direct)
    return state


def _check_name(request: Request, config: StreamConfig) -> None:
    if config.name != request.tokens[0]:
        raise faults.fault(faults.STREAM_MISMATCH)


def _without_errors(shown: dict[str, Any]) -> dict[str, Any]:
    """Of a new stream: whether its origins are there is not known yet, nor what a mirror's filter is."""
    (shown.get("mirror") or {}).pop("filter_subject", None)
    for origin in [*shown.get("sources", []), *filter(None, [shown.get("mirror")])]:
        origin.pop("error", None)
    return shown


def _check_consumers(stream: Stream, config: StreamConfig) -> None:
    """Limits for consumers that become lower must hold for those that are there."""
    old, new = stream.config.consumer_limits, config.consumer_limits
    broken = [
        consumer.name
        for consumer in stream.consumers.values()
        if any(
            0 < new.get(limit, 0) < getattr(consumer.config, limit) and new[limit] != old.get(limit, 0)
            for limit in ("inactive_threshold", "max_ack_pending")
        )
    ]
    if broken:
        raise faults.fault(faults.STREAM_UPDATE, f"change to limits violates consumers: {', '.join(broken)}")


def serves(stream: Stream, subject: bytes) -> bool:
    return any(matches(pattern.encode(), subject) for pattern in stream.config.subjects)
