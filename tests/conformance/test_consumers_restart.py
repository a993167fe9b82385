"""What consumers keep over a restart: nats-server is stopped in order, leafnode is killed; they go on alike."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import pytest

from tests.conformance.conftest import MAKERS
from tests.conformance.pair import Pair
from tests.conformance.test_consumers import Bench
from tests.support.servers import Broker, jetstream, leafnode, stock_hub

MS = 1_000_000
SECOND = 1_000_000_000


class Both:
    """The two servers, started and started again on what they have stored."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._brokers: list[Broker] = []
        self.pair: Pair
        self.start()

    def start(self) -> None:
        made = [(stock_hub, self._folder / "stock"), (leafnode, self._folder / "ours")]
        self._brokers = [make(folder, config=jetstream(folder)) for make, folder in made]
        for broker in self._brokers:
            broker.start()
        self.pair = Pair(self._brokers[0].port, self._brokers[1].port)

    def restart(self) -> None:
        """Deliveries, and acknowledgements that want no answer, are kept with the next commit: make one."""
        self.pair.api("STREAM.CREATE.LAST", {"name": "LAST"})
        self.pair.close()
        self._brokers[1].kill()
        self._brokers[0].stop()
        self.start()

    def stop(self) -> None:
        self.pair.close()
        for broker in self._brokers:
            broker.stop()


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    servers = Both(tmp_path)
    yield servers
    servers.stop()


def shown(bench: Bench, name: str) -> Any:
    """A consumer's info; when it delivered and acknowledged last is forgotten by a restart."""
    info = bench.info(name)
    return {key: info[key] for key in ("delivered", "ack_floor", "num_ack_pending", "num_redelivered", "num_pending")}


def test_positions_floors_and_deliveries(both: Both) -> None:
    bench = Bench(both.pair, "S")
    bench.stream(9)
    bench.consumer("floor", filter_subject="S.0")
    inbox = bench.pull("floor", batch=3)
    bench.heard(inbox, least=3)
    bench.answer(inbox, 1)
    bench.consumer("all", ack_policy="all")
    inbox = bench.pull("all", batch=5)
    bench.heard(inbox, least=5)
    bench.answer(inbox, 2)
    bench.consumer("again")
    inbox = bench.pull("again", batch=2)
    bench.heard(inbox, least=2)
    bench.answer(inbox, 0, b"-NAK")
    assert bench.heard(bench.pull("again"), least=1) == ["1x2"]
    bench.consumer("worn", max_deliver=1, ack_wait=100 * MS)
    inbox = bench.pull("worn", batch=2)
    bench.heard(inbox, least=2)
    bench.answer(inbox, 0)
    bench.events_heard(least=6)
    bench.consumer("quiet", ack_policy="none", filter_subjects=["S.1", "S.2"])
    bench.heard(bench.pull("quiet", batch=2), least=2)
    bench.consumer("paused", pause_until="2099-01-01T00:00:00Z")
    bench.consumer("group", priority_policy="overflow", priority_groups=["A"])
    before = {name: shown(bench, name) for name in ("floor", "all", "again", "quiet")}

    both.restart()

    bench = Bench(both.pair, "S")
    for name, state in before.items():
        after = shown(bench, name)
        assert _without_times(after) == _without_times(state), name
    assert bench.info("paused")["paused"]
    assert bench.info("group")["priority_groups"][0]["group"] == "A"
    assert bench.heard(bench.pull("floor", batch=2, no_wait=True), least=1) == ["404 No Messages"]
    assert bench.heard(bench.pull("all", batch=9, no_wait=True), least=5)[:4] == ["6x1", "7x1", "8x1", "9x1"]
    assert bench.heard(bench.pull("quiet", batch=9, no_wait=True), least=5)[:4] == ["5x1", "6x1", "8x1", "9x1"]
    assert bench.heard(bench.pull("worn", batch=1), least=1) == ["3x1"]


def _without_times(state: dict[str, Any]) -> Any:
    text = json.dumps(state)
    return json.loads(text.replace(', "last_active": "TIME"', ""))


def test_deliveries_are_counted_on(both: Both) -> None:
    """What was delivered twice before comes for the third time after."""
    bench = Bench(both.pair, "S")
    bench.stream(1)
    bench.consumer("c", ack_wait=SECOND, max_deliver=4)
    inbox = bench.pull("c", batch=2)
    assert bench.heard(inbox, least=1) == ["1x1"]
    bench.answer(inbox, 0, b"-NAK")
    assert bench.heard(inbox, least=2)[1] == "1x2"
    bench.info("c")
    both.restart()
    bench = Bench(both.pair, "S")
    assert bench.heard(bench.pull("c"), least=1) == ["1x3"]


def test_flow_control_acknowledgements_stay(both: Both) -> None:
    bench = Bench(both.pair, "S")
    bench.stream(3)
    inbox = bench.pair.listen("to.me")
    bench.consumer("c", ack_policy="flow_control", deliver_subject="to.me", max_ack_pending=3)
    assert bench.heard(inbox, least=4)[3] == "100 FlowControl Request"
    headers = b"NATS/1.0\r\nNats-Last-Consumer: 2\r\nNats-Last-Stream: 2\r\n\r\n"
    for side in bench.pair.sides:
        bench.pair._publish(side, side.acks[inbox][3], b"", headers, "")
    state = shown(bench, "c")
    assert state["ack_floor"]["stream_seq"] == 2
    both.restart()
    bench = Bench(both.pair, "S")
    assert _without_times(shown(bench, "c")) == _without_times(state)


@pytest.mark.parametrize("maker", list(MAKERS))
async def test_who_waits_for_messages_hears_that_the_server_ends(maker: str, tmp_path: Path) -> None:
    with MAKERS[maker](tmp_path, config=jetstream(tmp_path)) as broker:
        client = await nats.connect(broker.url, allow_reconnect=False)
        context = client.jetstream()
        await context.add_stream(name="S", subjects=["s.>"])
        await context.add_consumer("S", durable_name="d", ack_policy="explicit")
        inbox = client.new_inbox()
        waiting = await client.subscribe(inbox)
        body = b'{"batch": 7, "expires": 60000000000}'
        await client.publish("$JS.API.CONSUMER.MSG.NEXT.S.d", body, reply=inbox)
        await client.flush()
        ending = asyncio.create_task(asyncio.to_thread(broker.stop))
        said = await waiting.next_msg(timeout=10)
        assert said.headers == {
            "Status": "409", "Description": "Server Shutdown", "Nats-Pending-Messages": "7", "Nats-Pending-Bytes": "0",
        }  # fmt: skip
        await ending
        await client.close()
