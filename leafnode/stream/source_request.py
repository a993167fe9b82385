"""What a mirror or source asks its origin for (spec leafnode-protocol section 9).

Usually a consumer of its own, behind the last message that it has. One that was made beforehand is only reset: its
owner decides what it sends, and its acknowledgements go with the answers to flow control.
"""

from typing import Any, NamedTuple

from leafnode.route.message import Message
from leafnode.stream import schema, times
from leafnode.stream.api import LEVEL_HEADER
from leafnode.stream.surroundings import Surroundings
from leafnode.wire import headers as header_block

HEARTBEAT_NS = times.SECOND
SILENCE_NS = 10 * times.SECOND  # without message or heartbeat: the consumer is gone
ACK_WAIT_NS = 22 * 60 * times.MINUTE  # what nats-server asks for; nothing is acknowledged
TOKEN = 8  # characters of the random part of a name
MIRROR_LEVEL, SOURCE_LEVEL = b"4", b"5"  # the API level that nats-server asks of an origin
OLD_LEVEL = b"4"  # of an origin that knows consumers made beforehand, but not its own identity
IDENTITY = b"Nats-Stream-Identity"
FLOW_ACKS = "flow_control"  # what a consumer made beforehand must acknowledge by


class Wanted(NamedTuple):
    """What the request depends on."""

    config: dict[str, Any]  # of the mirror or source
    api: str
    is_mirror: bool
    is_old: bool  # the origin does not know the newest requests
    last_seq: int  # the newest that is here
    identity: str  # of the origin that this is about; empty: not known
    stream: str  # that it is copied to


def made_beforehand(config: dict[str, Any]) -> dict[str, str] | None:
    """The consumer that somebody else has made for us."""
    consumer: dict[str, str] | None = config.get("consumer")
    return consumer


def request(wanted: Wanted, around: Surroundings, reply: bytes) -> tuple[Message, bytes]:
    """The request, and the subject that the origin will deliver to."""
    consumer = made_beforehand(wanted.config)
    if consumer is not None:
        subject = f"{wanted.api}.CONSUMER.RESET.{wanted.config['name']}.{consumer['name']}"
        lines = [(LEVEL_HEADER, OLD_LEVEL if wanted.is_old else SOURCE_LEVEL)]
        if not wanted.is_old:
            lines.append((IDENTITY, wanted.identity.encode()))
        return Message(subject.encode(), reply, header_block.with_lines(b"", *lines)), consumer[
            "deliver_subject"
        ].encode()
    config = _consumer(wanted, around)
    subject = f"{wanted.api}.CONSUMER.CREATE.{wanted.config['name']}"
    headers = b""
    if wanted.is_old:
        subject += f".{config['name']}"
        subject += f".{config['filter_subject']}" if config.get("filter_subject") else ""
    else:
        lines = [(LEVEL_HEADER, MIRROR_LEVEL if wanted.is_mirror else SOURCE_LEVEL)]
        lines += [(IDENTITY, wanted.identity.encode())] if wanted.identity else []
        headers = header_block.with_lines(b"", *lines)
    body = {"stream_name": wanted.config["name"], "config": config, "action": ""}
    return Message(subject.encode(), reply, headers, schema.encode(body)), config["deliver_subject"].encode()


def _consumer(wanted: Wanted, around: Surroundings) -> dict[str, Any]:
    kind, word, letter = ("MIRROR", "mirror", "M") if wanted.is_mirror else ("SRC", "src", "S")
    prefix = (wanted.config.get("external") or {}).get("deliver") or "$JS"
    config: dict[str, Any] = {
        "name": f"JS_{kind}_{around.new_id()[-TOKEN:]}",
        **_start_position(wanted),
        "ack_policy": "none",
        "ack_wait": ACK_WAIT_NS,
        "max_deliver": 1,
        "replay_policy": "instant",
        "flow_control": True,
        "deliver_subject": f"{prefix}.{letter}.{around.new_id()[-TOKEN:]}",
        "idle_heartbeat": HEARTBEAT_NS,
        "inactive_threshold": SILENCE_NS,
        "num_replicas": 0,
        "direct": True,
        "metadata": {
            f"_nats.{word}.acc": around.account.name,
            f"_nats.{word}.domain": around.domain,
            f"_nats.{word}.stream": wanted.stream,
        },
    }
    if not wanted.is_old:
        config["sourcing"] = True
    filters = [pair.get("src", ">") for pair in wanted.config.get("subject_transforms", [])]
    if wanted.config.get("filter_subject"):
        filters = [wanted.config["filter_subject"]]
    if len(filters) == 1:
        config["filter_subject"] = filters[0]
    elif filters:
        config["filter_subjects"] = filters
    return config


def _start_position(wanted: Wanted) -> dict[str, Any]:
    config = wanted.config
    if wanted.last_seq:
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": wanted.last_seq + 1}
    if config.get("opt_start_seq"):
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": config["opt_start_seq"]}
    if config.get("opt_start_time"):
        return {"deliver_policy": "by_start_time", "opt_start_time": times.to_text(config["opt_start_time"])}
    return {"deliver_policy": "all"}
