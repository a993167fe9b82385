"""/metrics: the broker's figures in Prometheus' text format, under names of our own. Pure.

One scrape of this endpoint needs no exporter beside the broker; docs/monitoring.md explains every metric. A metric is
one line of `METRICS`: name, kind, help. Samples come from `Samples`, filled by `figures`; labels are few and bounded
by what is configured (accounts, links, streams, consumers), never by what clients send.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from leafnode.stream.jetstream import JetStream

Kind = Literal["counter", "gauge"]


class Metric(NamedTuple):
    kind: Kind
    help: str


METRICS: dict[str, Metric] = {
    "leafnode_info": Metric("gauge", "1, labelled with the server's id, name and version"),
    "leafnode_start_time_seconds": Metric("gauge", "when the broker started, seconds since 1970"),
    "leafnode_healthy": Metric("gauge", "1 when /healthz says ok, else 0"),
    "leafnode_process_resident_memory_bytes": Metric("gauge", "resident memory of the broker"),
    "leafnode_process_cpu_seconds_total": Metric("counter", "CPU time used by the broker"),
    "leafnode_connections": Metric("gauge", "clients connected now"),
    "leafnode_connections_total": Metric("counter", "clients that connected since the start"),
    "leafnode_subscriptions": Metric("gauge", "subscriptions of all accounts"),
    "leafnode_received_messages_total": Metric("counter", "messages received from clients and links"),
    "leafnode_received_bytes_total": Metric("counter", "their payload bytes"),
    "leafnode_sent_messages_total": Metric("counter", "messages sent to clients and links"),
    "leafnode_sent_bytes_total": Metric("counter", "their payload bytes"),
    "leafnode_slow_consumers_total": Metric("counter", "clients dropped because they did not read"),
    "leafnode_stale_connections_total": Metric("counter", "clients dropped because they did not answer pings"),
    "leafnode_stalled_reads_total": Metric("counter", "pauses of publishers whose receivers were congested"),
    "leafnode_leaf_links": Metric("gauge", "links that carry messages now, dialled and accepted"),
    "leafnode_leaf_link_up": Metric("gauge", "1 while the link to a configured remote is up, else 0"),
    "leafnode_leaf_link_outages_total": Metric("counter", "times that a link was lost"),
    "leafnode_leaf_link_down_seconds": Metric("gauge", "for how long there has been no link; 0 while it is up"),
    "leafnode_leaf_link_last_outage_seconds": Metric("gauge", "how long the last outage lasted"),
    "leafnode_leaf_link_attempts_total": Metric("counter", "attempts to reach the hub"),
    "leafnode_leaf_link_rtt_seconds": Metric("gauge", "the last round trip of a PING over the link"),
    "leafnode_leaf_link_received_messages_total": Metric("counter", "messages received over a configured link"),
    "leafnode_leaf_link_sent_messages_total": Metric("counter", "messages sent over a configured link"),
    "leafnode_account_connections": Metric("gauge", "clients of an account"),
    "leafnode_store_write_failures_total": Metric("counter", "commits that the disk refused"),
    "leafnode_store_lost_messages_total": Metric(
        "counter", "messages acknowledged before their commit (persist_mode async) that the disk then refused"
    ),
    "leafnode_store_damaged_messages_total": Metric("counter", "messages found damaged and taken out"),
    "leafnode_store_salvaged": Metric("gauge", "1 if the store was damaged when it was opened, and was salvaged"),
    "leafnode_store_refuses": Metric("gauge", "1 while messages are refused because they cannot be stored"),
    "leafnode_journal_messages": Metric("gauge", "messages accepted but not yet on the disk"),
    "leafnode_journal_bytes": Metric("gauge", "their bytes"),
    "leafnode_forward_running": Metric("gauge", "1 while all lanes of a forward run"),
    "leafnode_forward_rate": Metric("gauge", "messages that the hub took in a second, of late"),
    "leafnode_forward_delivered_total": Metric("counter", "messages that the hub acknowledged"),
    "leafnode_forward_delivered_bytes_total": Metric("counter", "their bytes, as the local stream counts them"),
    "leafnode_forward_not_delivered_total": Metric("counter", "messages that did not go, by reason"),
    "leafnode_forward_backlog_messages": Metric("gauge", "messages that wait for the hub"),
    "leafnode_forward_backlog_bytes": Metric("gauge", "their bytes"),
    "leafnode_forward_backlog_age_seconds": Metric("gauge", "age of the oldest of them"),
    "leafnode_jetstream_memory_bytes": Metric("gauge", "bytes in memory streams of an account"),
    "leafnode_jetstream_storage_bytes": Metric("gauge", "bytes in file streams of an account"),
    "leafnode_jetstream_api_requests_total": Metric("counter", "JetStream API requests of an account"),
    "leafnode_jetstream_api_errors_total": Metric("counter", "those that failed"),
    "leafnode_stream_messages": Metric("gauge", "messages in a stream"),
    "leafnode_stream_bytes": Metric("gauge", "bytes in a stream"),
    "leafnode_stream_first_seq": Metric("gauge", "first sequence in a stream"),
    "leafnode_stream_last_seq": Metric("gauge", "last sequence in a stream"),
    "leafnode_stream_consumers": Metric("gauge", "consumers of a stream"),
    "leafnode_consumer_pending": Metric("gauge", "messages a consumer has not delivered yet"),
    "leafnode_consumer_ack_pending": Metric("gauge", "messages delivered and not acknowledged"),
    "leafnode_consumer_redelivered": Metric("gauge", "of those, delivered more than once"),
    "leafnode_consumer_waiting": Metric("gauge", "pull requests that wait for messages"),
}


class Sample(NamedTuple):
    name: str
    value: float
    labels: Mapping[str, str] = {}


def exposition(samples: Iterable[Sample]) -> str:
    """The whole page: metrics in the order of `METRICS`, each with its help, those without samples left out."""
    by_name: dict[str, list[Sample]] = {name: [] for name in METRICS}
    for sample in samples:
        by_name[sample.name].append(sample)
    lines: list[str] = []
    for name, found in by_name.items():
        if found:
            lines += [f"# HELP {name} {METRICS[name].help}", f"# TYPE {name} {METRICS[name].kind}"]
            lines += [f"{name}{_labels(sample.labels)} {_number(sample.value)}" for sample in found]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def jetstream_samples(account: str, js: "JetStream") -> Iterable[Sample]:
    """Of one account: its stores, streams and consumers."""
    of = {"account": account}
    yield Sample("leafnode_jetstream_memory_bytes", js.around.memory.bytes, of)
    yield Sample("leafnode_jetstream_storage_bytes", js.around.disk.bytes, of)
    yield Sample("leafnode_jetstream_api_requests_total", js.api.total, of)
    yield Sample("leafnode_jetstream_api_errors_total", js.api.errors, of)
    for name, stream in sorted(js.streams.items()):
        contents, labels = stream.contents, {**of, "stream": name}
        yield Sample("leafnode_stream_messages", contents.messages, labels)
        yield Sample("leafnode_stream_bytes", contents.bytes, labels)
        yield Sample("leafnode_stream_first_seq", contents.first_seq, labels)
        yield Sample("leafnode_stream_last_seq", contents.last_seq, labels)
        yield Sample("leafnode_stream_consumers", len(stream.consumers), labels)
        for consumer_name, consumer in sorted(stream.consumers.items()):
            if consumer.config.direct or not consumer.config.is_durable:
                continue  # the short-lived would fill a time series database with names
            own = {**labels, "consumer": consumer_name}
            yield Sample("leafnode_consumer_pending", max(0, consumer.num_pending), own)
            yield Sample("leafnode_consumer_ack_pending", len(consumer.pending), own)
            yield Sample("leafnode_consumer_redelivered", consumer.num_redelivered, own)
            yield Sample("leafnode_consumer_waiting", getattr(consumer.outlet, "num_waiting", 0), own)
