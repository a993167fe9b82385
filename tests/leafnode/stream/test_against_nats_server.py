"""The same requests to a real nats-server and to our core: the answers must agree.

Left out of the comparison: times, versions, ids, and the levels of an API of which we offer the first.
"""

import json
import re
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from tests.leafnode.stream.bench import Bench, header_block
from tests.support.servers import jetstream, stock_hub

Step = tuple[str, bytes] | tuple[str, bytes, bytes]


def create(name: str, **config: Any) -> Step:
    return f"$JS.API.STREAM.CREATE.{name}", json.dumps({"name": name, **config}).encode()


def update(name: str, **config: Any) -> Step:
    return f"$JS.API.STREAM.UPDATE.{name}", json.dumps({"name": name, **config}).encode()


def api(verb: str, **fields: Any) -> Step:
    return f"$JS.API.{verb}", json.dumps(fields).encode() if fields else b""


def consumer(stream: str, name: str, *, action: str = "", **config: Any) -> Step:
    body = {"stream_name": stream, "config": {"durable_name": name, **config}, "action": action}
    return f"$JS.API.CONSUMER.CREATE.{stream}.{name}", json.dumps(body).encode()


def pub(subject: str, payload: bytes = b"", **headers: str) -> Step:
    return subject, payload, header_block(**headers)


def ack(where: str, deliveries: int, stream_seq: int, consumer_seq: int, body: bytes = b"") -> Step:
    return f"$JS.ACK.{where}.{deliveries}.{stream_seq}.{consumer_seq}.1.0", body


SCRIPTS: dict[str, list[Step]] = {
    "stream configuration": [
        create("A"),
        create("A"),
        create("A", subjects=["b"]),
        create("B", subjects=["a.*", "a.b"]),
        create("B", subjects=["A"]),
        create("B", subjects=["x.>"], max_msgs=5, discard="new", description="d", metadata={"k": "v"}),
        create("C", subjects=["x.1"]),
        create("C", subjects=[">"]),
        create("C", subjects=["$JS.API.INFO"]),
        create("C", subjects=["bad..subject"]),
        create("C", max_age=1),
        create("C", max_age=1_000_000_000, duplicate_window=2_000_000_000),
        create("C", max_age=1_000_000_000),
        create("D", num_replicas=3),
        create("D", num_replicas=-1),
        create("D", num_replicas=7),
        create("D", allow_rollup_hdrs=True, deny_purge=True),
        create("D", discard_new_per_subject=True),
        create("D", discard="new", discard_new_per_subject=True),
        create("D", sealed=True),
        create("D", mirror_direct=True),
        create("D", first_seq=10),
        create("E", storage="memory", retention="interest", republish={"dest": "again.>"}),
        create("F", republish={"src": "F", "dest": "F"}),
        create("F", subject_transform={"src": "a.*", "dest": "b.$1"}, subjects=["a.*"]),
        create("G", subject_delete_marker_ttl=2_000_000_000),
        create("H", subject_delete_marker_ttl=1),
        create("H", mirror={"name": "A"}, subjects=["q"]),
        create("H", mirror={"name": "A"}, sources=[{"name": "A"}]),
        create("H", mirror={"name": "A"}, first_seq=4),
        create("H", sources=[{"name": "A"}, {"name": "A"}]),
        create("H/I"),
        create("J", foo=1),
        create("J", max_msgs="x"),
        ("$JS.API.STREAM.CREATE.J", b'{"name":"K"}'),
        ("$JS.API.STREAM.CREATE.J", b'{"name":'),
        ("$JS.API.STREAM.CREATE.J", b""),
        api("STREAM.INFO.A"),
        api("STREAM.INFO.NOPE"),
        api("STREAM.NAMES"),
        api("STREAM.NAMES", subject="x.5"),
        api("STREAM.NAMES", subject="none"),
        api("STREAM.NAMES", bad=1),
        update("NOPE"),
        update("A", subjects=["A"], storage="memory"),
        update("A", subjects=["A"], retention="workqueue"),
        update("A", subjects=["A"], max_consumers=3),
        update("A", subjects=["A", "A2"], deny_delete=True),
        update("A", subjects=["A", "A2"]),
        update("G"),
        ("$JS.API.STREAM.DELETE.A", b"x"),
        api("STREAM.DELETE.A"),
        api("STREAM.DELETE.A"),
        api("STREAM.LEADER.STEPDOWN.B"),
    ],
    "publish": [
        create("S", subjects=["s.>"], allow_rollup_hdrs=True, max_msg_size=150, allow_msg_ttl=True),
        pub("s.1", b"one"),
        pub("s.1", b"two", Nats_Msg_Id="a"),
        pub("s.2", b"two", Nats_Msg_Id="a"),
        pub("s.2", b"x", Nats_Expected_Stream="T"),
        pub("s.2", b"x", Nats_Expected_Last_Sequence="1"),
        pub("s.2", b"x", Nats_Expected_Last_Sequence="2"),
        pub("s.2", b"x", Nats_Expected_Last_Subject_Sequence="0"),
        pub("s.2", b"x", Nats_Expected_Last_Subject_Sequence="3"),
        pub("s.2", b"x", Nats_Expected_Last_Subject_Sequence="3"),
        pub("s.2", b"x", Nats_Expected_Last_Subject_Sequence_Subject="s.1"),
        pub(
            "s.2",
            b"x",
            Nats_Expected_Last_Subject_Sequence="4",
            Nats_Expected_Last_Subject_Sequence_Subject="s.>",
        ),
        pub("s.2", b"x", Nats_Expected_Last_Msg_Id="b"),
        pub("s.2", b"y", Nats_Msg_Id="c"),
        pub("s.2", b"x", Nats_Expected_Last_Msg_Id="c"),
        pub("s.2", b"x", Nats_Rollup="nope"),
        pub("s.2", b"x" * 151),
        pub("s.2", b"x" * 151, Nats_Expected_Stream="no"),
        pub("s.2", b"x" * 151, Nats_Msg_Id="c"),
        pub("s.2", b"x" * 151, Nats_TTL="0"),
        pub("s.2", b"x" * 151, Nats_Rollup="no"),
        pub("s.2", b"x" * 151, Nats_Expected_Last_Sequence="99"),
        pub("s.2", b"x" * 151, Nats_Incr="9"),
        pub("s.2", b"x", Nats_TTL="0"),
        pub("s.2", b"x", Nats_TTL="500ms"),
        pub("s.2", b"x", Nats_TTL="never"),
        pub("s.2", b"x", Nats_Incr="+1"),
        pub("s.2", b"x", Nats_Stream_Source="x"),
        api("STREAM.INFO.S", subjects_filter=">"),
        pub("s.2", b"rolled", Nats_Rollup="sub"),
        api("STREAM.INFO.S", subjects_filter=">", deleted_details=True),
        pub("s.3", b"rolled", Nats_Rollup="all"),
        api("STREAM.INFO.S", deleted_details=True),
        create("N", subjects=["n.>"]),
        pub("n.1", b"x", Nats_TTL="5s"),
        pub("n.1", b"x", Nats_Rollup="sub"),
    ],
    "limits": [
        create("M", subjects=["m.>"], max_msgs=3),
        *[pub(f"m.{n}", b"x") for n in range(6)],
        api("STREAM.INFO.M", subjects_filter=">"),
        create("N", subjects=["n.>"], max_msgs=2, discard="new"),
        *[pub(f"n.{n}", b"x") for n in range(3)],
        create("P", subjects=["p.>"], max_msgs_per_subject=2),
        *[pub(f"p.{n % 2}", b"x") for n in range(7)],
        api("STREAM.INFO.P", subjects_filter="p.*", deleted_details=True),
        create("Q", subjects=["q.>"], max_msgs_per_subject=1, discard="new", discard_new_per_subject=True),
        pub("q.1"),
        pub("q.1"),
        pub("q.2"),
        create("R", subjects=["r"], max_bytes=100),
        *[pub("r", b"0123456789") for n in range(4)],
        api("STREAM.INFO.R"),
        create("T", subjects=["t"], max_bytes=100, discard="new"),
        *[pub("t", b"0123456789") for n in range(4)],
        update("M", subjects=["m.>"], max_msgs=1),
        api("STREAM.INFO.M"),
        create("U", subjects=["u.>"], storage="memory"),
        pub("u.1", b"abc", A="b"),
        api("STREAM.INFO.U"),
        create("KV_B", subjects=["$KV.B.>"], max_msgs_per_subject=1, discard="new", max_msgs=2),
        pub("$KV.B.a", b"1"),
        pub("$KV.B.a", b"2"),
        pub("$KV.B.b", b"2"),
        pub("$KV.B.c", b"2"),
        pub("$KV.B.b", b"3"),
        api("STREAM.INFO.KV_B", subjects_filter=">", deleted_details=True),
        update("KV_B", subjects=["$KV.B.>"], max_msgs_per_subject=1, discard="new", max_msgs=2, sealed=True),
        pub("$KV.B.a", b"9"),
    ],
    "purge and delete": [
        create("S", subjects=["s.>"]),
        *[pub(f"s.{n % 3}", b"x") for n in range(9)],
        api("STREAM.MSG.DELETE.S", seq=2),
        api("STREAM.MSG.DELETE.S", seq=2),
        api("STREAM.MSG.DELETE.S", seq=20),
        api("STREAM.MSG.DELETE.S", seq=0),
        api("STREAM.MSG.DELETE.S"),
        api("STREAM.MSG.DELETE.NOPE", seq=1),
        api("STREAM.INFO.S", deleted_details=True, subjects_filter=">"),
        api("STREAM.PURGE.S", filter="s.0", keep=1),
        api("STREAM.INFO.S", deleted_details=True, subjects_filter=">"),
        api("STREAM.PURGE.S", seq=6),
        api("STREAM.INFO.S", deleted_details=True, subjects_filter=">"),
        api("STREAM.PURGE.S", seq=3, keep=2),
        api("STREAM.PURGE.S", keep=2),
        api("STREAM.PURGE.S", filter="s.*"),
        api("STREAM.INFO.S"),
        api("STREAM.PURGE.S"),
        pub("s.1"),
        api("STREAM.PURGE.S"),
        api("STREAM.PURGE.NOPE"),
        api("STREAM.INFO.S"),
        create("D", deny_delete=True, deny_purge=True),
        pub("D"),
        api("STREAM.MSG.DELETE.D", seq=1),
        api("STREAM.PURGE.D"),
    ],
    "gets": [
        create("S", subjects=["s.>"], allow_direct=True),
        pub("s.1", b"a", X="y"),
        pub("s.2", b"b"),
        pub("s.1", b"c"),
        api("STREAM.MSG.GET.S", seq=1),
        api("STREAM.MSG.GET.S", seq=1, no_hdr=True),
        api("STREAM.MSG.GET.S", seq=9),
        api("STREAM.MSG.GET.S", last_by_subj="s.1"),
        api("STREAM.MSG.GET.S", last_by_subj="s.*"),
        api("STREAM.MSG.GET.S", next_by_subj="s.1", seq=2),
        api("STREAM.MSG.GET.S", next_by_subj="s.2"),
        api("STREAM.MSG.GET.S", next_by_subj="s.9"),
        api("STREAM.MSG.GET.S", seq=1, last_by_subj="s.1"),
        api("STREAM.MSG.GET.S", start_time="2020-01-01T00:00:00Z"),
        api("STREAM.MSG.GET.S"),
        api("STREAM.MSG.GET.NOPE", seq=1),
        api("DIRECT.GET.S", seq=1),
        api("DIRECT.GET.S", seq=1, no_hdr=True),
        api("DIRECT.GET.S", seq=9),
        api("DIRECT.GET.S.s.1"),
        api("DIRECT.GET.S.s.9"),
        api("DIRECT.GET.S", next_by_subj="s.1", seq=2),
        api("DIRECT.GET.S"),
        ("$JS.API.DIRECT.GET.S", b"{}"),
        ("$JS.API.DIRECT.GET.S", b"{bad"),
        api("DIRECT.GET.S", seq=1, last_by_subj="s.1"),
        api("DIRECT.GET.S", batch=2, seq=1),
        api("DIRECT.GET.S", batch=2, next_by_subj="s.1"),
        api("DIRECT.GET.S", batch=2, next_by_subj="s.7"),
        api("DIRECT.GET.S", multi_last=["s.>"]),
        api("DIRECT.GET.S", multi_last=["z.>"]),
        api("DIRECT.GET.NOPE", seq=1),
    ],
    "consumer configuration": [
        create("S", subjects=["s.>"]),
        pub("s.1"),
        pub("s.2"),
        pub("s.1"),
        consumer("S", "none"),
        consumer("S", "none"),
        consumer("S", "none", action="create"),
        consumer("S", "none", ack_policy="explicit"),
        consumer("S", "a", ack_policy="explicit"),
        consumer("S", "a", ack_policy="explicit", ack_wait=5_000_000_000, max_deliver=4, filter_subject="s.1"),
        consumer("S", "a", ack_policy="explicit", max_waiting=3),
        consumer("S", "b", action="update"),
        consumer("S", "b", action="nope"),
        consumer("S", "b", deliver_policy="last"),
        consumer("S", "c", deliver_policy="new"),
        consumer("S", "d", deliver_policy="last_per_subject"),
        consumer("S", "d", deliver_policy="last_per_subject", filter_subject=">"),
        consumer("S", "e", deliver_policy="by_start_sequence"),
        consumer("S", "e", deliver_policy="by_start_sequence", opt_start_seq=2),
        consumer("S", "f", deliver_policy="by_start_time", opt_start_time="2020-01-01T00:00:00Z"),
        consumer("S", "g", deliver_policy="all", opt_start_seq=2),
        consumer("S", "g", filter_subject="s.1", filter_subjects=["s.2"]),
        consumer("S", "g", filter_subjects=["s.1", "s.*"]),
        consumer("S", "g", filter_subjects=["s.1", ""]),
        consumer("S", "g", filter_subjects=["s.1", "s.2"], ack_policy="all", backoff=[1_000_000_000, 2_000_000_000]),
        consumer("S", "h", backoff=[1, 2, 3], max_deliver=2, ack_policy="explicit"),
        consumer("S", "h", deliver_subject="x.*"),
        consumer("S", "h", deliver_subject="s.4"),
        consumer("S", "h", deliver_subject="x", max_waiting=3),
        consumer("S", "h", deliver_subject="x", max_ack_pending=3),
        consumer("S", "h", deliver_subject="x", idle_heartbeat=3),
        consumer("S", "h", deliver_subject="x", flow_control=True),
        consumer("S", "h", deliver_subject="x", ack_policy="explicit", deliver_group="g"),
        consumer("S", "i", idle_heartbeat=1_000_000_000),
        consumer("S", "i", flow_control=True),
        consumer("S", "i", rate_limit_bps=5),
        consumer("S", "i", direct=True),
        consumer("S", "i", max_expires=5),
        consumer("S", "i", sample_freq="x"),
        consumer("S", "i", ack_wait=-1),
        consumer("S", "i", num_replicas=3),
        consumer("S", "i", foo=1),
        consumer("NOPE", "i"),
        ("$JS.API.CONSUMER.CREATE.S", b'{"stream_name":"S","config":{"durable_name":"z"}}'),
        ("$JS.API.CONSUMER.CREATE.S", b'{"stream_name":"T","config":{}}'),
        ("$JS.API.CONSUMER.CREATE.S", b""),
        ("$JS.API.CONSUMER.DURABLE.CREATE.S.y", b'{"stream_name":"S","config":{}}'),
        ("$JS.API.CONSUMER.DURABLE.CREATE.S.y", b'{"stream_name":"S","config":{"durable_name":"z"}}'),
        (
            "$JS.API.CONSUMER.CREATE.S.y.s.1",
            b'{"stream_name":"S","config":{"name":"y","filter_subject":"s.2"}}',
        ),
        (
            "$JS.API.CONSUMER.CREATE.S.y.s.>",
            b'{"stream_name":"S","config":{"name":"y","filter_subject":"s.>"}}',
        ),
        api("CONSUMER.NAMES.S"),
        api("CONSUMER.NAMES.NOPE"),
        api("CONSUMER.INFO.S.a"),
        api("CONSUMER.INFO.S.nope"),
        api("CONSUMER.DELETE.S.a"),
        api("CONSUMER.DELETE.S.a"),
        api("CONSUMER.PAUSE.S.b"),
        create("W", subjects=["w.>"], retention="workqueue"),
        consumer("W", "a"),
        consumer("W", "a", ack_policy="explicit", deliver_policy="new"),
        consumer("W", "a", ack_policy="explicit", filter_subject="w.1"),
        consumer("W", "b", ack_policy="explicit", filter_subject="w.*"),
        consumer("W", "b", ack_policy="explicit"),
        consumer("W", "b", ack_policy="explicit", filter_subject="w.2"),
        consumer("W", "c", deliver_subject="z"),
        api("CONSUMER.MSG.NEXT.S.nope"),
        api("CONSUMER.MSG.NEXT.S.h"),
        create("L", consumer_limits={"max_ack_pending": 5, "inactive_threshold": 1_000_000_000}, max_consumers=1),
        consumer("L", "a", ack_policy="explicit"),
        consumer("L", "b", ack_policy="explicit", max_ack_pending=6),
        consumer("L", "b", ack_policy="explicit", inactive_threshold=2_000_000_000),
        consumer("L", "b", ack_policy="explicit"),
    ],
    "pull": [
        create("S", subjects=["s.>"]),
        *[pub(f"s.{n % 2}", b"m%d" % n, A="b") for n in range(6)],
        consumer("S", "c", ack_policy="explicit"),
        ("$JS.API.CONSUMER.MSG.NEXT.S.c", b""),
        ("$JS.API.CONSUMER.MSG.NEXT.S.c", b"2"),
        api("CONSUMER.INFO.S.c"),
        ("$JS.API.CONSUMER.MSG.NEXT.S.c", b'{"batch":1,"expires":1000000000,"idle_heartbeat":900000000}'),
        ("$JS.API.CONSUMER.MSG.NEXT.S.c", b"{bad"),
        ("$JS.API.CONSUMER.MSG.NEXT.S.c", b'{"batch":9,"no_wait":true}'),
        ("$JS.API.CONSUMER.MSG.NEXT.S.c", b'{"batch":9,"no_wait":true}'),
        api("CONSUMER.INFO.S.c"),
        consumer("S", "m", ack_policy="none"),
        ("$JS.API.CONSUMER.MSG.NEXT.S.m", b'{"batch":9,"no_wait":true,"max_bytes":150}'),
        ("$JS.API.CONSUMER.MSG.NEXT.S.m", b'{"batch":1,"no_wait":true,"max_bytes":10}'),
        ("$JS.API.CONSUMER.MSG.NEXT.S.m", b'{"batch":1,"no_wait":true,"max_bytes":1000}'),
        consumer("S", "caps", max_batch=2, max_expires=1_000_000_000, max_bytes=100),
        ("$JS.API.CONSUMER.MSG.NEXT.S.caps", b'{"batch":9,"no_wait":true}'),
        ("$JS.API.CONSUMER.MSG.NEXT.S.caps", b'{"batch":1,"expires":9000000000}'),
        ("$JS.API.CONSUMER.MSG.NEXT.S.caps", b'{"batch":1,"no_wait":true,"max_bytes":1000}'),
        consumer("S", "h", headers_only=True, filter_subject="s.1"),
        ("$JS.API.CONSUMER.MSG.NEXT.S.h", b'{"batch":2,"no_wait":true}'),
        consumer("S", "l", deliver_policy="last_per_subject", filter_subject="s.>"),
        ("$JS.API.CONSUMER.MSG.NEXT.S.l", b'{"batch":9,"no_wait":true}'),
        consumer("S", "p", ack_policy="explicit", max_ack_pending=2, filter_subjects=["s.0"]),
        ("$JS.API.CONSUMER.MSG.NEXT.S.p", b"2"),
        api("CONSUMER.INFO.S.p"),
        api("CONSUMER.RESET.S.p", seq=3),
        ("$JS.API.CONSUMER.MSG.NEXT.S.p", b"1"),
        api("STREAM.MSG.DELETE.S", seq=5),
        api("CONSUMER.INFO.S.p"),
        api("STREAM.PURGE.S"),
        api("CONSUMER.INFO.S.p"),
    ],
    "acknowledgements": [
        create("S", subjects=["s.>"]),
        *[pub(f"s.{n}", b"x") for n in range(8)],
        consumer("S", "c", ack_policy="explicit", filter_subjects=["s.0", "s.2", "s.3", "s.5", "s.7"]),
        ("$JS.API.CONSUMER.MSG.NEXT.S.c", b"4"),
        ack("S.c", 1, 3, 2),
        api("CONSUMER.INFO.S.c"),
        ack("S.c", 1, 1, 1),
        api("CONSUMER.INFO.S.c"),
        ack("S.c", 1, 1, 1),
        ack("S.c", 1, 4, 3, b"-NAK"),
        ("$JS.API.CONSUMER.MSG.NEXT.S.c", b"1"),
        api("CONSUMER.INFO.S.c"),
        ack("S.c", 2, 4, 5, b"+TERM because"),
        api("CONSUMER.INFO.S.c"),
        ack("S.c", 1, 6, 4, b"garbage"),
        ack("S.c", 1, 6, 4),
        api("CONSUMER.INFO.S.c"),
        ("$JS.API.CONSUMER.MSG.NEXT.S.c", b"1"),
        ack("S.nope", 1, 6, 4),
        consumer("S", "all", ack_policy="all"),
        ("$JS.API.CONSUMER.MSG.NEXT.S.all", b"5"),
        ack("S.all", 1, 3, 3),
        api("CONSUMER.INFO.S.all"),
        ack("S.all", 1, 4, 4, b"-NAK"),
        ("$JS.API.CONSUMER.MSG.NEXT.S.all", b"1"),
        api("CONSUMER.INFO.S.all"),
        consumer("S", "quiet"),
        ("$JS.API.CONSUMER.MSG.NEXT.S.quiet", b"3"),
        api("CONSUMER.INFO.S.quiet"),
        consumer("S", "u", ack_policy="explicit"),
        ("$JS.API.CONSUMER.MSG.NEXT.S.u", b"2"),
        consumer("S", "u", ack_policy="explicit", filter_subject="s.5"),
        api("CONSUMER.INFO.S.u"),
        ("$JS.API.CONSUMER.MSG.NEXT.S.u", b"1"),
        api("CONSUMER.INFO.S.u"),
    ],
    "retention": [
        create("W", subjects=["w.>"], retention="workqueue"),
        *[pub(f"w.{n % 2}", b"x") for n in range(5)],
        consumer("W", "c", ack_policy="explicit"),
        ("$JS.API.CONSUMER.MSG.NEXT.W.c", b"4"),
        ack("W.c", 1, 2, 2),
        ack("W.c", 1, 3, 3, b"+TERM"),
        api("STREAM.INFO.W", deleted_details=True, subjects_filter=">"),
        ack("W.c", 1, 1, 1),
        api("STREAM.INFO.W", deleted_details=True, subjects_filter=">"),
        api("CONSUMER.INFO.W.c"),
        create("I", subjects=["i.>"], retention="interest"),
        pub("i.0"),
        pub("i.0"),
        api("STREAM.INFO.I"),
        consumer("I", "a", ack_policy="explicit"),
        consumer("I", "b", ack_policy="explicit", filter_subject="i.1"),
        consumer("I", "n", filter_subject="i.1"),
        pub("i.0"),
        pub("i.1"),
        pub("i.1"),
        ("$JS.API.CONSUMER.MSG.NEXT.I.a", b"3"),
        ack("I.a", 1, 3, 1),
        ack("I.a", 1, 4, 2),
        api("STREAM.INFO.I", deleted_details=True),
        ("$JS.API.CONSUMER.MSG.NEXT.I.b", b"2"),
        ack("I.b", 1, 4, 1),
        ack("I.b", 1, 5, 2),
        api("STREAM.INFO.I", deleted_details=True),
        ("$JS.API.CONSUMER.MSG.NEXT.I.n", b"2"),
        api("STREAM.INFO.I", deleted_details=True),
        api("CONSUMER.DELETE.I.a"),
        api("STREAM.INFO.I", deleted_details=True),
    ],
    "lists": [
        create("B", subjects=["b"], description="two"),
        create("A", subjects=["a"]),
        api("STREAM.LIST"),
        api("STREAM.LIST", offset=1),
        api("STREAM.LIST", subject="b"),
        consumer("A", "y", ack_policy="explicit", deliver_policy="new"),
        consumer("A", "x"),
        api("CONSUMER.LIST.A"),
        api("CONSUMER.LIST.A", offset=1),
        api("CONSUMER.LIST.B"),
        api("CONSUMER.LIST.NOPE"),
        api("CONSUMER.NAMES.B"),
        api("STREAM.PEER.REMOVE.A", peer="x"),
        api("CONSUMER.LEADER.STEPDOWN.A.x"),
        api("STREAM.DELETE.A"),
        api("STREAM.LIST", offset=5),
    ],
}

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_ACK = re.compile(r"(\$JS\.ACK\.[^ ]*\.)\d{19}(\.\d+)")
_OWN = ("_nats.ver", "_nats.level")
_ZERO_OF_RESPONSE = ("ts", "created")


def tidy(payload: bytes, headers: bytes, reply: str) -> Any:
    """What two servers must agree on."""
    try:
        body: Any = json.loads(payload)
    except ValueError:
        body = payload.decode()
    if isinstance(body, dict) and "type" in body:
        body = _tidy_answer(body)
    head = _TIME.sub("TIME", headers.decode())
    if head.startswith("NATS/1.0 503"):
        head = "503"  # the client's library adds to it
    if head.startswith("NATS/1.0 400 Bad Request - invalid character"):
        head = "400"
    return body, head, _ACK.sub(r"\1NS\2", reply)


def _tidy_answer(body: dict[str, Any]) -> Any:
    if "error" in body:
        error = body["error"]
        return body["type"], error["code"], error["err_code"], _words(error["description"])
    text = json.dumps(body)
    for name in _OWN:
        text = re.sub(rf'"{name}": "[^"]*"(, )?', "", text)
    text = re.sub(r'"pause_remaining": \d+', '"pause_remaining": N', text)
    text = re.sub(r'"leader": "[^"]*"', '"leader": "X"', text)
    return json.loads(_TIME.sub("TIME", text).replace(", }", "}"))


def _words(description: str) -> str:
    """Go's JSON errors are worded by its library: only their kind is compared."""
    return description.split(":")[0] if description.startswith("invalid JSON") else description


async def ask_server(client: Client, step: Step) -> list[Any]:
    subject, payload, *rest = step
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    await client.flush()
    answers = []
    headers = rest[0] if rest else b""
    await _publish_raw(client, subject, inbox, headers, payload)
    patience = 2.0
    while True:
        try:
            message = await subscription.next_msg(timeout=patience)
        except (TimeoutError, nats.errors.TimeoutError):
            break
        answers.append(tidy(message.data, _raw(message), message.reply))
        patience = 0.05 if _is_many(step) else 0.0
        if not patience:
            break
    await subscription.unsubscribe()
    return answers


def _is_many(step: Step) -> bool:
    return "MSG.NEXT" in step[0] or b"batch" in step[1] or b"multi_last" in step[1]


async def _publish_raw(client: Client, subject: str, reply: str, headers: bytes, payload: bytes) -> None:
    size = len(headers) + len(payload)
    head = f"HPUB {subject} {reply} {len(headers)} {size}" if headers else f"PUB {subject} {reply} {size}"
    client._transport.write(head.encode() + b"\r\n" + headers + payload + b"\r\n")  # type: ignore[union-attr]
    await client._transport.drain()  # type: ignore[union-attr]


def _raw(message: Any) -> bytes:
    if not message.headers:
        return b""
    lines = dict(message.headers)
    status, description = lines.pop("Status", ""), lines.pop("Description", "")
    first = " ".join(part for part in ("NATS/1.0", status, description) if part)
    return (first + "\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n").encode()


def ask_core(bench: Bench, step: Step) -> list[Any]:
    subject, payload, *rest = step
    answers = bench.request(subject, payload, rest[0] if rest else b"")
    return [tidy(message.payload, message.headers, message.reply.decode()) for message in answers]


@pytest.fixture(scope="module")
def hub_url(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("hub")
    with stock_hub(folder, config=jetstream(folder)).start() as hub:
        yield hub.url


@pytest.mark.parametrize("name", SCRIPTS)
async def test_our_answers_are_nats_servers(hub_url: str, name: str) -> None:
    """Whatever is asked, in order, from an empty server."""
    bench = Bench()
    client = await nats.connect(hub_url)
    try:
        for step in SCRIPTS[name]:
            expected = await ask_server(client, step)
            assert ask_core(bench, step) == expected, step
    finally:
        await clean(client)
        await client.close()


async def clean(client: Client) -> None:
    names = json.loads((await client.request("$JS.API.STREAM.NAMES", b"")).data)["streams"] or []
    for name in names:
        await client.request(f"$JS.API.STREAM.DELETE.{name}", b"")
