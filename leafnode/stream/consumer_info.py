"""A consumer as the API shows it: ConsumerInfo (spec jetstream-api section 7)."""

from typing import Any

from leafnode import __version__
from leafnode.stream import times
from leafnode.stream.consumer import Consumer
from leafnode.stream.level import API_LEVEL
from leafnode.stream.pull import Pull
from leafnode.stream.push import Push


def describe(consumer: Consumer) -> dict[str, Any]:
    """Its configuration, its position and what waits, in nats-server's order."""
    outlet, ledger = consumer.outlet, consumer.ledger
    waiting = outlet.num_waiting if isinstance(outlet, Pull) else 0  # first: it answers those whose time is up
    shown: dict[str, Any] = {
        "stream_name": consumer.stream.name,
        "name": consumer.name,
        "created": times.to_text(consumer.created),
        "config": _config(consumer),
        "delivered": _position(ledger.delivered_seq, _delivered_to(consumer), ledger.delivered_ns),
        "ack_floor": _position(ledger.floor_seq, ledger.floor_stream_seq, ledger.acked_ns),
        "num_ack_pending": len(consumer.pending),
        "num_redelivered": ledger.num_redelivered,
        "num_waiting": waiting,
        "num_pending": consumer.num_pending,
    }
    if isinstance(outlet, Push) and outlet.bound:
        shown["push_bound"] = True
    if consumer.is_paused():
        shown["paused"] = True
        shown["pause_remaining"] = consumer.config.pause_until - consumer.stream.around.now_ns()
    shown["ts"] = times.to_text(consumer.stream.around.now_ns())
    if isinstance(outlet, Pull) and consumer.config.priority_groups:
        shown["priority_groups"] = [_group(consumer.config.priority_groups[0], outlet)]
    return shown


def _delivered_to(consumer: Consumer) -> int:
    """The last delivery; of one in memory that has had none since the stream's beginning, how far it has looked."""
    ledger = consumer.ledger
    is_fresh = not (consumer.is_kept or consumer.position or ledger.delivered_seq or ledger.floor_stream_seq)
    return consumer.feed.reach if is_fresh else consumer.position


def _config(consumer: Consumer) -> dict[str, Any]:
    config = consumer.config.to_json()
    metadata = {**config.get("metadata", {}), "_nats.level": str(API_LEVEL), "_nats.ver": __version__}
    config["metadata"] = dict(sorted(metadata.items()))
    return config


def _position(consumer_seq: int, stream_seq: int, last_ns: int) -> dict[str, object]:
    shown: dict[str, object] = {"consumer_seq": consumer_seq, "stream_seq": stream_seq}
    if last_ns:
        shown["last_active"] = times.to_text(last_ns)
    return shown


def _group(name: str, outlet: Pull) -> dict[str, object]:
    shown: dict[str, object] = {"group": name}
    if outlet.pin.id:
        shown["pinned_client_id"] = outlet.pin.id
    shown["pinned_ts"] = times.to_text(outlet.pin.since_ns)
    return shown
