"""Subject mappings of accounts: the same publishes with the same results on both servers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import pytest

from tests.conformance.conftest import MAKERS
from tests.conformance.raw import Wire
from tests.support.ports import free_port
from tests.support.servers import Broker

CONFIG = """
mappings {
  old: new
  new: newer
  "two.*.*": "owt.$2.{{wildcard(1)}}"
  "tail.>": "x.>"
  "part.*.*": "p.{{partition(7,1,2)}}.$2"
  "whole.*": "w.{{partition(5)}}.$1"
  "split.*": "s.{{split(1,-)}}.end"
  "ends.*": "e.{{left(1,3)}}.{{right(1,2)}}"
  "cut.*": "c.{{splitFromLeft(1,3)}}.{{SplitFromRight(1,3)}}"
  "slice.*": "d.{{sliceFromLeft(1,3)}}.{{SliceFromRight(1,3)}}"
  lost: [ {destination: lost, weight: 0%} ]
  elsewhere: [ {destination: other, weight: 100%, cluster: far} ]
  shared: [ {destination: one, weight: 50%}, {destination: two, weight: 30%} ]
  die: "die.{{random(6)}}"
}
authorization { users: [
  { user: all, password: p }
  { user: few, password: p, permissions: { publish: ["old", "lost", "owt.>", in.>], subscribe: ">" } }
] }
"""
ALL = b'CONNECT {"user":"all","pass":"p","verbose":false,"headers":true,"no_responders":true}\r\n'


@pytest.fixture(scope="module", params=list(MAKERS))
def mapping_broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with MAKERS[request.param](tmp_path_factory.mktemp(request.param), config=CONFIG) as running:
        yield running


@pytest.mark.parametrize(
    ("published", "heard"),
    [
        (b"old", b"new"),
        (b"two.a.b", b"owt.b.a"),
        (b"tail.a.b", b"x.a.b"),
        (b"part.a.b", b"p.2.b"),
        (b"part.x.yy", b"p.5.yy"),
        (b"whole.x", b"w.4.x"),
        (b"split.a-b--c", b"s.a.b.c.end"),
        (b"split.-a", b"s.a.end"),
        (b"ends.abcdef", b"e.abc.ef"),
        (b"ends.a", b"e.a.a"),
        (b"cut.abcdefg", b"c.abc.defg.abcd.efg"),
        (b"slice.abcdefg", b"d.abc.def.g.a.bcd.efg"),
        (b"elsewhere", b"elsewhere"),
        (b"untouched", b"untouched"),
        (b"lost", b""),
    ],
)
def test_where_messages_go(mapping_broker: Broker, published: bytes, heard: bytes) -> None:
    with Wire(mapping_broker.port) as wire:
        wire.send(ALL + b"SUB > 1\r\nPUB %b 1\r\nx\r\nPING\r\n" % published)
        expected = b"MSG %b 1 1\r\nx\r\n" % heard if heard else b""
        assert wire.until(b"PONG\r\n") == expected + b"PONG\r\n"


def test_errors_are_about_the_new_subject(mapping_broker: Broker) -> None:
    with Wire(mapping_broker.port) as wire:
        wire.send(ALL + b"SUB in.> 1\r\nPUB old in.x 0\r\n\r\nPING\r\n")
        answer = b"HMSG in.x 1 35 35\r\nNATS/1.0 503\r\nNats-Subject: new\r\n\r\n\r\n"
        assert wire.until(b"PONG\r\n") == answer + b"PONG\r\n"
    with Wire(mapping_broker.port) as wire:
        wire.send(ALL.replace(b"all", b"few") + b"SUB > 1\r\n")
        wire.send(b"PUB old 0\r\n\r\nPUB lost 0\r\n\r\nPUB two.a.b 0\r\n\r\nPING\r\n")
        assert wire.until(b"PONG\r\n") == (
            b"-ERR 'Permissions Violation for Publish to \"new\"'\r\n"
            b"-ERR 'Permissions Violation for Publish to \"\"'\r\n"
            b"MSG owt.b.a 1 0\r\n\r\nPONG\r\n"
        )


def test_shares_and_dice_reach_all_their_destinations(mapping_broker: Broker) -> None:
    with Wire(mapping_broker.port) as wire:
        wire.send(ALL + b"SUB one 1\r\nSUB two 2\r\nSUB shared 3\r\nSUB die.* 4\r\n")
        wire.send(b"PUB shared 0\r\n\r\n" * 400 + b"PUB die 0\r\n\r\n" * 200 + b"PING\r\n")
        heard = wire.until(b"PONG\r\n")
        counts = [heard.count(b"MSG " + name) for name in (b"one ", b"two ", b"shared ")]
        assert sum(counts) == 400
        assert counts[0] > counts[1] > 0
        assert counts[2] > 0
        assert all(heard.count(b"MSG die.%d " % side) for side in range(6))


async def test_what_a_link_brings_is_mapped(
    tmp_path: Path, mapping_hub: Callable[[Path], tuple[Broker, Broker]]
) -> None:
    site, hub = mapping_hub(tmp_path)
    there = await nats.connect(site.url)
    here = await nats.connect(hub.url)
    heard = await here.subscribe("new", queue="q")
    await here.flush()
    for _ in range(200):  # until the link is up and has told
        await there.publish("old", b"x")
        await there.flush()
        try:
            message = await heard.next_msg(timeout=0.05)
        except nats.errors.TimeoutError:
            continue
        break
    assert (message.subject, message.data) == ("new", b"x")
    await there.close()
    await here.close()


@pytest.fixture(params=list(MAKERS))
def mapping_hub(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], tuple[Broker, Broker]]]:
    """A hub that maps and a site of nats-server that links to it."""
    started: list[Broker] = []

    def start(folder: Path) -> tuple[Broker, Broker]:
        port = free_port()
        hub = MAKERS[request.param](
            folder / "hub", config=f'leafnodes {{ listen: "127.0.0.1:{port}" }}\nmappings {{ old: new }}'
        )
        hub.start()
        started.append(hub)
        remote = f'leafnodes {{ remotes: [ {{ url: "nats-leaf://127.0.0.1:{port}" }} ] }}'
        site = MAKERS["nats-server"](folder / "site", config=remote)
        site.start()
        started.append(site)
        return site, hub

    yield start
    for broker in reversed(started):
        broker.stop()
