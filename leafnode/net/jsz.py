"""/jsz and /healthz: what is stored, and whether all is well. Sources: spec monitoring-and-ops 1.4 and 1.6. Pure."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from leafnode.config.options import Config
from leafnode.net.monitor import Answer
from leafnode.net.questions import LIMIT, Healthz, Jsz
from leafnode.net.varz import JetStreamFigures, jetstream_config, jetstream_limits, jetstream_stats, rfc3339
from leafnode.stream.level import API_LEVEL

if TYPE_CHECKING:
    from leafnode.stream.jetstream import JetStream
    from leafnode.stream.stream import Stream

UNLIMITED = (1 << 64) - 1  # how an unsigned -1 is shown: nats-server's "no limit" of an account
SHOWN_OF_STREAM = ("mirror", "sources")


def figures(
    config: Config, store_dir: str, jetstreams: "Mapping[str, JetStream]", machine: tuple[int, int]
) -> JetStreamFigures:
    """Sums over the accounts. `machine`: bytes of memory and disk that it could spare, shown where nothing is set."""
    every = jetstreams.values()
    memory, disk = config.jetstream.max_memory_store, config.jetstream.max_file_store
    return JetStreamFigures(
        store_dir=store_dir,
        max_memory=memory if memory >= 0 else machine[0],
        max_storage=disk if disk >= 0 else machine[1],
        memory=sum(js.around.memory.bytes for js in every),
        storage=sum(js.around.disk.bytes for js in every),
        reserved_memory=sum(js.reserved("memory") for js in every),
        reserved_storage=sum(js.reserved("file") for js in every),
        accounts=len(jetstreams),
        api_level=API_LEVEL,
        api_total=sum(js.api.total for js in every),
        api_errors=sum(js.api.errors for js in every),
    )


def jsz(
    server_id: str,
    now_ns: int,
    asked: Jsz,
    config: Config,
    totals: JetStreamFigures | None,
    jetstreams: "Mapping[str, JetStream]",
) -> dict[str, Any]:
    """The whole answer; `totals` None: JetStream is off."""
    shown = totals or JetStreamFigures()
    body: dict[str, Any] = {**jetstream_stats(shown), "server_id": server_id, "now": rfc3339(now_ns)}
    if totals is None:
        off: dict[str, Any] = {"disabled": True, "config": {"max_memory": 0, "max_storage": 0}, "limits": {}}
        return body | off | {"streams": 0, "consumers": 0, "messages": 0, "bytes": 0, "total": 0}
    streams = [stream for js in jetstreams.values() for stream in js.streams.values()]
    body |= {
        "config": jetstream_config(config, shown),
        "limits": jetstream_limits(config),
        "streams": len(streams),
        "consumers": sum(len(_consumers(stream)) for stream in streams),
        "messages": sum(stream.contents.messages for stream in streams),
        "bytes": sum(stream.contents.bytes for stream in streams),
    }
    page = _page(asked, jetstreams)
    if page:
        body["account_details"] = [account_detail(jetstreams[name], asked) for name in page]
    return body | {"total": len(jetstreams)}


def store(config: Config, damaged_messages: int, salvaged: dict[str, Any] | None) -> dict[str, Any]:
    """What is not as it should be with the file (ours alone; nothing where there is nothing to say)."""
    shown: dict[str, Any] = {}
    if config.jetstream.sync != "always":
        shown["sync"] = config.jetstream.sync
    if damaged_messages:
        shown["damaged_messages"] = damaged_messages
    if salvaged is not None:
        shown["salvaged"] = salvaged
    return {"store": shown} if shown else {}


def _page(asked: Jsz, jetstreams: "Mapping[str, JetStream]") -> list[str]:
    """Names of the accounts that are shown in detail."""
    if asked.acc:
        return [asked.acc] if asked.acc in jetstreams else []
    if not (asked.accounts or asked.streams or asked.consumers or asked.direct_consumers or asked.config):
        return []
    offset = max(asked.offset, 0)
    return sorted(jetstreams)[offset : offset + (asked.limit if asked.limit > 0 else LIMIT)]


def account_detail(js: "JetStream", asked: Jsz) -> dict[str, Any]:
    """One account, as in `account_details` and as the account's JSZ request is answered."""
    around = js.around
    detail: dict[str, Any] = {
        "name": around.account.name,
        "id": around.account.name,
        "memory": around.memory.bytes,
        "storage": around.disk.bytes,
        "reserved_memory": _limit(around.limits.max_memory),
        "reserved_storage": _limit(around.limits.max_storage),
        "accounts": 0,
        "ha_assets": 0,
        "api": {"level": 0, "total": js.api.total, "errors": js.api.errors},
    }
    if (asked.streams or asked.consumers or asked.direct_consumers or asked.config) and js.streams:
        detail["stream_detail"] = [_stream(js, stream, asked) for _, stream in sorted(js.streams.items())]
    return detail


def _limit(limit: int) -> int:
    return UNLIMITED if limit < 0 else limit


def _stream(js: "JetStream", stream: "Stream", asked: Jsz) -> dict[str, Any]:
    info = js.stream_api.describe(stream, cluster=True)
    shown: dict[str, Any] = {"name": stream.name, "created": info["created"], "cluster": info["cluster"]}
    if asked.config:
        shown["config"] = info["config"]
    shown["state"] = info["state"]
    if asked.consumers and (names := _consumers(stream)):
        shown["consumer_detail"] = [_consumer(js, name, stream, asked) for name in names]
    if asked.direct_consumers and (names := _consumers(stream, True)):
        shown["direct_consumer_detail"] = [_consumer(js, name, stream, asked) for name in names]
    return shown | {key: info[key] for key in SHOWN_OF_STREAM if key in info}


def _consumers(stream: "Stream", direct: bool = False) -> list[str]:
    return sorted(name for name, consumer in stream.consumers.items() if consumer.config.direct == direct)


def _consumer(js: "JetStream", name: str, stream: "Stream", asked: Jsz) -> dict[str, Any]:
    from leafnode.stream.consumer_info import describe

    info = describe(stream.consumers[name])
    return info if asked.config else {key: value for key, value in info.items() if key != "config"}


# health --------------------------------------------------------------------------------------------------------------


def healthz(
    asked: Healthz, *, enabled: bool, wrong: str, store_wrong: str, jetstreams: "Mapping[str, JetStream]"
) -> Answer:
    """The status and the object. `wrong`: why the server as a whole is not well; `store_wrong`: its store."""
    if asked.stream and not asked.account:
        return 400, _trouble('"account" must not be empty when checking stream health', "error")
    if asked.consumer and not asked.stream:
        return 400, _trouble('"stream" must not be empty when checking consumer health', "error")
    if wrong:
        return 503, _said(asked, "SERVER", wrong)
    if (asked.js_enabled_only or asked.js_enabled) and not enabled:
        return 503, _said(asked, "JETSTREAM", "JetStream is not enabled")
    if not enabled:
        return 200, {"status": "ok"}
    if store_wrong and not asked.js_enabled_only:
        return 503, _said(asked, "JETSTREAM", f"the store refuses messages: {store_wrong}")
    missing = _missing(asked, jetstreams)
    return (404, missing) if missing else (200, {"status": "ok"})


def _missing(asked: Healthz, jetstreams: "Mapping[str, JetStream]") -> dict[str, Any] | None:
    if not asked.account:
        return None
    where: dict[str, str] = {"account": asked.account}
    js = jetstreams.get(asked.account)
    if js is None:
        return _said(asked, "ACCOUNT", f'JetStream account "{asked.account}" not found', **where)
    if not asked.stream:
        return None
    where["stream"] = asked.stream
    stream = js.streams.get(asked.stream)
    if stream is None:
        text = f'JetStream stream "{asked.stream}" not found on account "{asked.account}"'
        return _said(asked, "STREAM", text, **where)
    if asked.consumer and asked.consumer not in stream.consumers:
        text = (
            f'JetStream consumer "{asked.consumer}" not found for stream "{asked.stream}" on account "{asked.account}"'
        )
        return _said(asked, "CONSUMER", text, **where, consumer=asked.consumer)
    return None


def _said(asked: Healthz, kind: str, text: str, **where: str) -> dict[str, Any]:
    if asked.details:
        return {"status": "error", "errors": [{"type": kind, **where, "error": text}]}
    return _trouble(text)


def _trouble(text: str, status: str = "unavailable") -> dict[str, Any]:
    return {"status": status, "error": text}
