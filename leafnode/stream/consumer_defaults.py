"""What a consumer's configuration becomes where it says nothing, or something that means nothing.

A pedantic asker is refused instead of corrected (spec jetstream-api sections 1 and 7).
"""

from typing import TYPE_CHECKING

from leafnode.stream import faults, times
from leafnode.stream.consumer_config import ConsumerConfig
from leafnode.stream.stream_config import StreamConfig

if TYPE_CHECKING:
    from leafnode.stream.surroundings import Limits

ACK_WAIT = 30 * times.SECOND
EPHEMERAL_THRESHOLD = 5 * times.SECOND
PINNED_TIMEOUT = 2 * times.MINUTE
MAX_WAITING = 512  # pull requests
MAX_ACK_PENDING = 1000
FLOW_HEARTBEAT = times.SECOND  # of a consumer whose flow control acknowledges

# what must not be negative, and what a pedantic asker is told
_NEGATIVE = (
    ("max_waiting", "max_waiting must not be negative"),
    ("max_batch", "max_batch must not be negative"),
    ("max_expires", "max_expires must not be negative"),
    ("max_bytes", "max_bytes must not be negative"),
    ("idle_heartbeat", "idle_heartbeat must not be negative"),
    ("inactive_threshold", "inactive_threshold must not be negative"),
    ("priority_timeout", "priority_timeout must not be negative"),
)


def fill_in(config: ConsumerConfig, stream: StreamConfig, limits: "Limits", *, pedantic: bool) -> None:
    """Correct a new configuration in place.

    Raises:
        ApiError: 10157, a pedantic asker would have to be corrected.
    """
    _unlimited(config, pedantic=pedantic)
    for key, text in _NEGATIVE:
        if getattr(config, key) < 0:
            _mind(text, pedantic=pedantic)
            setattr(config, key, 0)
    if not config.is_push and not config.max_waiting:
        config.max_waiting = MAX_WAITING
    if not config.ack_wait and config.ack_policy in ("explicit", "all"):
        config.ack_wait = ACK_WAIT
    if config.backoff:
        if config.ack_wait != config.backoff[0]:
            _mind("first backoff value has to equal batch AckWait", pedantic=pedantic)
        config.ack_wait = config.backoff[0]
    _take_stream_limits(config, stream, pedantic=pedantic)
    if not config.max_ack_pending and config.ack_policy != "none":
        caps = [cap for cap in (limits.server_max_ack_pending, limits.max_ack_pending) if cap > 0]
        config.max_ack_pending = min([MAX_ACK_PENDING, *caps])
    if not config.is_push and not config.max_batch and limits.max_request_batch > 0:
        _mind("max_request_batch must be set if it's JetStream limits are set", pedantic=pedantic)
        config.max_batch = limits.max_request_batch
    if config.priority_policy == "pinned_client" and not config.priority_timeout:
        config.priority_timeout = PINNED_TIMEOUT
    if config.ack_policy == "flow_control" and not pedantic:
        config.flow_control = True
        config.idle_heartbeat = FLOW_HEARTBEAT


def stamp_threshold(config: ConsumerConfig) -> None:
    """An ephemeral consumer always ends some time; shown only once it exists, so a create never equals it."""
    if not config.is_durable and config.inactive_threshold <= 0:
        config.inactive_threshold = EPHEMERAL_THRESHOLD


def _unlimited(config: ConsumerConfig, *, pedantic: bool) -> None:
    """-1 is "no limit"."""
    if config.max_deliver < -1:
        _mind("max_deliver must be set to -1", pedantic=pedantic)
    if config.max_deliver <= 0:
        config.max_deliver = -1
    if config.max_ack_pending < -1:
        _mind("max_ack_pending must be set to -1", pedantic=pedantic)
        config.max_ack_pending = -1


def _take_stream_limits(config: ConsumerConfig, stream: StreamConfig, *, pedantic: bool) -> None:
    for key in ("max_ack_pending", "inactive_threshold"):
        limit = stream.consumer_limits.get(key, 0)
        if limit > 0 and not getattr(config, key):
            _mind(f"{key} must be set if it's configured in stream limits", pedantic=pedantic)
            setattr(config, key, limit)


def _mind(text: str, *, pedantic: bool) -> None:
    if pedantic:
        raise faults.fault(faults.PEDANTIC, text)
