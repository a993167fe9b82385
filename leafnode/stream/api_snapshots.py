"""The API's verbs for backups: STREAM.SNAPSHOT and STREAM.RESTORE."""

from typing import TYPE_CHECKING, Any

from leafnode.route.subject import is_publishable
from leafnode.stream import faults, schema, stream_rules, times
from leafnode.stream.api import Api, Endpoint, Request
from leafnode.stream.restore import Restore
from leafnode.stream.snapshot import Snapshot
from leafnode.stream.stream import Stream
from leafnode.stream.stream_config import REQUEST_SHAPE, StreamConfig

if TYPE_CHECKING:
    from leafnode.stream.jetstream import JetStream

_SNAPSHOT: dict[str, schema.Kind] = {
    "deliver_subject": schema.text,
    "no_consumers": schema.boolean,
    "chunk_size": schema.integer,
    "window_size": schema.integer,
    "jsck": schema.boolean,
}


def _anything(value: Any) -> Any:
    return value


_RESTORE: dict[str, schema.Kind] = {"config": schema.object_of(REQUEST_SHAPE), "state": _anything}


class SnapshotApi:
    """Handlers of one account's backups."""

    def __init__(self, jetstream: "JetStream", api: Api) -> None:
        self._js = jetstream
        self._around = jetstream.around
        api.endpoint("STREAM.SNAPSHOT", Endpoint(self.snapshot, "stream_snapshot_response"), tokens=1)
        api.endpoint(
            "STREAM.RESTORE", Endpoint(self.restore, "stream_restore_response", {"deliver_subject": ""}), tokens=1
        )

    def snapshot(self, request: Request) -> None:
        if request.body.strip() in (b"", b"{}"):
            raise faults.fault(faults.BAD_REQUEST)
        stream = self._js.stream(request.tokens[0])
        asked = schema.parse(request.body, _SNAPSHOT)
        if not is_publishable(asked.get("deliver_subject", "").encode()):
            raise faults.fault(faults.DELIVER_SUBJECT)
        self._around.journal.after(lambda _failure: self._send(request, stream, asked))

    def _send(self, request: Request, stream: Stream, asked: dict[str, Any]) -> None:
        shown = self._js.stream_api.describe(stream, own_metadata=False)
        start = self._around.now_ns()
        request.answer({"config": shown["config"], "state": shown["state"]})
        self._advise("SNAPSHOT_CREATE", stream.name, state=shown["state"])

        def done(error: str) -> None:
            more: dict[str, object] = {"error": error} if error else {}
            self._advise("SNAPSHOT_COMPLETE", stream.name, **self._span(start), **more)

        Snapshot(stream, asked, shown["state"], done).start()

    def restore(self, request: Request) -> None:
        if request.body.strip() in (b"", b"{}"):
            raise faults.fault(faults.BAD_REQUEST)
        asked = schema.parse(request.body, _RESTORE)
        value = asked.get("config", {})
        value.pop("pedantic", None)
        config = StreamConfig.from_json(value)
        config.name = config.name or request.tokens[0]
        if config.name != request.tokens[0]:
            raise faults.fault(faults.STREAM_MISMATCH)
        known = {name: stream.config for name, stream in self._js.streams.items()}
        stream_rules.accept(config, self._around.limits, known)
        stream_rules.check_replicas(config)
        if config.name in self._js.streams or config.name in self._js.restoring:
            raise faults.fault(faults.RESTORE_EXISTS)
        self._js.stream_api.check_new(config)
        self._receive(request, config)

    def _receive(self, request: Request, config: StreamConfig) -> None:
        start = self._around.now_ns()

        def done(size: int) -> None:
            self._js.restoring.discard(config.name)
            self._advise("RESTORE_COMPLETE", config.name, **self._span(start), bytes=size)

        self._js.restoring.add(config.name)
        self._advise("RESTORE_CREATE", config.name)
        restore = Restore(self._js, config, self._js.stream_api.describe, done)
        restore.start()
        request.answer({"deliver_subject": restore.subject})

    def _span(self, start_ns: int) -> dict[str, object]:
        return {"start": times.to_text(start_ns), "end": times.to_text(self._around.now_ns())}

    def _advise(self, word: str, name: str, **fields: object) -> None:
        client = {"acc": self._around.account.name}
        self._around.advise(
            f"ADVISORY.STREAM.{word}.{name}", f"advisory.v1.{word.lower()}", stream=name, **fields, client=client
        )
