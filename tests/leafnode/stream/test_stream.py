"""One stream: numbering, acknowledging after the commit, limits, age, duplicates, failed commits."""

import json

from leafnode.route.message import Message
from leafnode.stream.surroundings import Limits
from leafnode.stream.times import MINUTE, SECOND
from tests.leafnode.stream.bench import Bench, header_block, status


def test_acknowledged_only_after_the_commit() -> None:
    bench = Bench()
    bench.create("S", subjects=["s"])
    reply, inbox = bench.inbox()
    bench.account.publish(Message(b"s", reply, b"", b"hi"))
    batch = bench.journal.take()
    assert batch is not None
    assert inbox.take() == []
    bench.store.apply(batch)
    bench.journal.confirm(batch)
    assert [message.payload for message in inbox.take()] == [b'{"stream":"S","seq":1}']


def test_a_duplicate_is_acknowledged_with_the_commit_of_the_first_copy() -> None:
    bench = Bench()
    bench.create("S", subjects=["s"])
    reply, inbox = bench.inbox()
    copy = Message(b"s", reply, header_block(Nats_Msg_Id="a"), b"hi")
    bench.account.publish(copy)
    batch = bench.journal.take()
    assert batch is not None
    bench.account.publish(copy)
    assert inbox.take() == []
    bench.journal.confirm(batch)
    bench.commit()
    acks = [json.loads(message.payload) for message in inbox.take()]
    assert acks == [{"stream": "S", "seq": 1}, {"stream": "S", "seq": 1, "duplicate": True}]


def test_the_domain_is_in_the_ack() -> None:
    bench = Bench(domain="leaf")
    bench.create("S", subjects=["s"])
    assert bench.publish("s") == {"stream": "S", "domain": "leaf", "seq": 1}


def test_consumers_see_only_what_is_committed() -> None:
    bench = Bench()
    bench.create("S", subjects=["s"])
    bench.consumer("S", "c")
    inbox, _ = bench.pull("S", "c", batch=1)
    bench.send("s", b"hi")
    batch = bench.journal.take()
    assert batch is not None
    assert inbox.take() == []
    bench.store.apply(batch)
    bench.journal.confirm(batch)
    assert [message.payload for message in inbox.take()] == [b"hi"]


def test_a_failed_commit_acknowledges_nothing_and_gives_the_sequence_again() -> None:
    """Nothing of it was kept, so nobody has seen the number; the next message may have it."""
    bench = Bench()
    bench.create("S", subjects=["s"], max_msgs=1)
    bench.publish("s", b"kept")
    reply, inbox = bench.inbox()
    bench.account.publish(Message(b"s", reply, header_block(Nats_Msg_Id="a"), b"lost"))
    batch = bench.journal.take()
    assert batch is not None
    broken = bench.journal.fail(batch, "disk is full")
    errors = [json.loads(message.payload)["error"]["err_code"] for message in inbox.take()]
    assert errors == [10077]
    assert bench.publish("s")["error"]["err_code"] == 10077
    bench.reload(broken)
    assert bench.state("S")["messages"] == 1
    assert bench.api("STREAM.MSG.GET.S", seq=1)["message"]["data"] == "a2VwdA=="
    assert bench.publish("s", b"again", Nats_Msg_Id="a") == {"stream": "S", "seq": 2}


def test_acks_taken_while_a_commit_failed_are_kept_with_the_next() -> None:
    bench = Bench()
    bench.create("W", subjects=["w"], retention="workqueue")
    bench.consumer("W", "c")
    bench.publish("w", b"1")
    bench.publish("w", b"2")
    first, second = bench.fetch("W", "c", 2)
    bench.settle()
    bench.account.publish(Message(first.reply))
    batch = bench.journal.take()
    assert batch is not None
    bench.reload(bench.journal.fail(batch, "disk is full"))
    assert bench.state("W")["messages"] == 1
    bench.ack(second)
    assert bench.state("W")["messages"] == 0


def test_messages_go_at_their_age() -> None:
    bench = Bench()
    bench.create("S", subjects=["s"], max_age=10 * SECOND)
    bench.publish("s")
    bench.advance(6 * SECOND)
    bench.publish("s")
    assert bench.state("S")["messages"] == 2
    bench.advance(4 * SECOND)
    state = bench.state("S")
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (1, 2, 2)
    bench.advance(10 * SECOND)
    assert bench.state("S")["messages"] == 0


def test_a_ttl_of_its_own_ends_a_message_and_never_exempts_one() -> None:
    bench = Bench()
    bench.create("S", subjects=["s.>"], max_age=60 * SECOND, allow_msg_ttl=True)
    bench.publish("s.short", Nats_TTL="2s")
    bench.publish("s.never", Nats_TTL="never")
    bench.publish("s.usual")
    bench.advance(2 * SECOND)
    assert bench.state("S")["messages"] == 2
    bench.advance(100 * SECOND)
    assert bench.api("STREAM.INFO.S", subjects_filter=">")["state"]["subjects"] == {"s.never": 1}


def test_expiry_of_a_keys_last_message_leaves_a_marker_which_goes_too() -> None:
    bench = Bench()
    bench.create("KV_P", subjects=["$KV.P.>"], max_msgs_per_subject=1, subject_delete_marker_ttl=20 * SECOND)
    watcher = bench.subscribe(b"watch")
    bench.api(
        "CONSUMER.CREATE.KV_P",
        stream_name="KV_P",
        config={"deliver_policy": "new", "ack_policy": "none", "deliver_subject": "watch"},
    )
    bench.publish("$KV.P.pi", b"up", Nats_TTL="30s")
    bench.advance(30 * SECOND)
    assert [message.payload for message in watcher.take()] == [b"up", b""]
    last = bench.request("$JS.API.STREAM.MSG.GET.KV_P", b'{"last_by_subj":"$KV.P.pi"}')[0]
    assert json.loads(last.payload)["message"]["seq"] == 2
    bench.advance(20 * SECOND)
    assert bench.state("KV_P")["messages"] == 0


def test_a_refreshed_ttl_starts_anew() -> None:
    bench = Bench()
    bench.create("KV_P", subjects=["$KV.P.>"], max_msgs_per_subject=1, subject_delete_marker_ttl=SECOND)
    for _ in range(5):
        bench.publish("$KV.P.pi", b"up", Nats_TTL="3s")
        bench.advance(2 * SECOND)
    assert bench.state("KV_P")["messages"] == 1
    assert bench.state("KV_P")["last_seq"] == 5


def test_the_duplicate_window_counts_from_the_first_arrival() -> None:
    bench = Bench()
    bench.create("S", subjects=["s"])
    assert bench.publish("s", Nats_Msg_Id="a")["seq"] == 1
    bench.advance(MINUTE)
    assert bench.publish("s", Nats_Msg_Id="a")["duplicate"]
    bench.advance(MINUTE)
    assert bench.publish("s", Nats_Msg_Id="a") == {"stream": "S", "seq": 2}


def test_a_purged_messages_id_is_still_a_duplicate() -> None:
    bench = Bench()
    bench.create("S", subjects=["s"])
    bench.publish("s", Nats_Msg_Id="a")
    bench.api("STREAM.PURGE.S")
    assert bench.publish("s", Nats_Msg_Id="a") == {"stream": "S", "seq": 1, "duplicate": True}


def test_the_limit_reaches_messages_behind_the_window_in_memory() -> None:
    """The head window is bounded: what it does not hold is asked from the store."""
    bench = Bench()
    bench.create("S", subjects=["s.>"])
    for number in range(9000):
        bench.send(f"s.{number % 7}", b"x")
    bench.settle()
    stream = bench.js.streams["S"]
    assert len(stream.contents.head) < 9000
    answer = bench.api("STREAM.UPDATE.S", name="S", subjects=["s.>"], max_msgs=100)
    assert "error" not in answer
    state = bench.state("S")
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (100, 8901, 9000)
    assert sum(bench.api("STREAM.INFO.S", subjects_filter=">")["state"]["subjects"].values()) == 100


def test_a_subject_limit_set_later_is_applied_to_what_is_there() -> None:
    bench = Bench()
    bench.create("S", subjects=["s.>"])
    for number in range(12):
        bench.publish(f"s.{number % 3}")
    bench.api("STREAM.UPDATE.S", name="S", subjects=["s.>"], max_msgs_per_subject=2)
    bench.settle()
    subjects = bench.api("STREAM.INFO.S", subjects_filter=">")["state"]["subjects"]
    assert subjects == {"s.0": 2, "s.1": 2, "s.2": 2}
    bench.publish("s.0")
    assert bench.api("STREAM.INFO.S", subjects_filter="s.0")["state"]["subjects"] == {"s.0": 2}


def test_republish_comes_before_the_ack_and_names_the_previous_message() -> None:
    bench = Bench()
    bench.create("S", subjects=["s.>"], republish={"src": "s.>", "dest": "again.>"})
    again = bench.subscribe(b"again.>")
    bench.publish("s.1", b"one")
    bench.publish("s.1", b"two")
    sent = again.take()
    assert [message.subject for message in sent] == [b"again.1"] * 2
    assert b"Nats-Sequence: 2\r\n" in sent[1].headers
    assert b"Nats-Last-Sequence: 1\r\n" in sent[1].headers


def test_a_subject_transform_decides_what_is_stored() -> None:
    bench = Bench()
    bench.create("S", subjects=["in.*"], subject_transform={"src": "in.*", "dest": "out.$1.x"})
    bench.publish("in.7", b"hi")
    assert bench.api("STREAM.MSG.GET.S", seq=1)["message"]["subject"] == "out.7.x"


def test_mapped_subjects_are_stored_under_their_target() -> None:
    """The account says which subject matched; that one is kept."""
    bench = Bench()
    bench.create("KV_B", subjects=["$KV.B.>"])
    bench.account.publish(Message(b"$JS.hub.API.$KV.B.k", b"", b"", b"v"), to=b"$KV.B.k")
    bench.settle()
    assert bench.api("STREAM.MSG.GET.KV_B", seq=1)["message"]["subject"] == "$KV.B.k"


def test_nobody_hears_of_a_missing_stream_or_consumer() -> None:
    bench = Bench()
    assert status(bench.request("$JS.API.DIRECT.GET.NOPE", b'{"seq":1}')[0]) == "503"
    assert status(bench.request("$JS.API.CONSUMER.MSG.NEXT.NOPE.c")[0]) == "503"
    assert bench.request("$JS.API.UNKNOWN") == []


def test_advisories_are_only_made_for_listeners() -> None:
    bench = Bench()
    events = bench.subscribe(b"$JS.EVENT.ADVISORY.STREAM.>")
    bench.create("S", subjects=["s"])
    bench.api("STREAM.DELETE.S")
    kinds = [json.loads(message.payload)["action"] for message in events.take()]
    assert kinds == ["create", "delete"]


def test_the_journal_is_full_before_memory_is() -> None:
    bench = Bench()
    bench.create("S", subjects=["s"])
    while not bench.journal.full:
        bench.send("s", bytes(1 << 20))
    rooms: list[bool] = []
    bench.journal.on_room = lambda: rooms.append(True)
    assert bench.js.streams["S"].contents.messages <= 17
    bench.settle()
    assert rooms == [True]


def test_the_accounts_limit_refuses_messages_until_there_is_room() -> None:
    bench = Bench(limits=Limits(max_storage=1000))
    bench.create("S", subjects=["s"])
    while "error" not in (answer := bench.publish("s", bytes(200))):
        pass
    assert answer["error"]["err_code"] == 10002
    bench.api("STREAM.PURGE.S")
    assert "error" not in bench.publish("s", bytes(200))
    assert bench.api("STREAM.CREATE.T", name="T", max_bytes=2000)["error"]["err_code"] == 10047


def test_a_short_age_is_kept_beside_a_long_ttl() -> None:
    bench = Bench()
    bench.create("S", subjects=["s.>"], max_age=5 * SECOND, allow_msg_ttl=True)
    bench.publish("s.1", Nats_TTL="1h")
    bench.advance(SECOND)
    bench.publish("s.2")
    bench.advance(5 * SECOND)
    assert bench.state("S")["messages"] == 0


def test_a_stream_that_could_not_be_created_leaves_nothing() -> None:
    bench = Bench()
    reply, inbox = bench.inbox()
    bench.account.publish(Message(b"$JS.API.STREAM.CREATE.S", reply, b"", b'{"name":"S"}'))
    batch = bench.journal.take()
    assert batch is not None
    bench.journal.fail(batch, "disk is full")
    assert json.loads(inbox.take()[0].payload)["error"]["err_code"] == 10049
    bench.settle()
    assert bench.api("STREAM.INFO.S")["error"]["err_code"] == 10059
    bench.create("S")
    assert bench.publish("S")["seq"] == 1


def test_what_a_wildcard_rolls_up_is_gone_when_it_is_acknowledged() -> None:
    """A client may publish to a subject with wildcards: a key-value bucket purges many keys so."""
    bench = Bench()
    bench.create("S", subjects=["s.*"], allow_rollup_hdrs=True)
    for number in range(3):
        bench.publish(f"s.{number}", b"x")
    reply, inbox = bench.inbox()
    bench.account.publish(Message(b"s.*", reply, header_block(Nats_Rollup="sub"), b""))
    while not inbox.messages:
        assert bench.commit() or bench.answer()
    assert bench.api("STREAM.INFO.S")["state"]["messages"] == 1
