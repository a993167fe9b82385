"""The same program against nats-server and against leafnode: what one does the other must do."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from tests.support.servers import Broker, jetstream, leafnode, stock_hub

GONE_SECONDS = 20.0  # for the removal of a few files on a loaded machine
MAKERS = {"nats-server": stock_hub, "leafnode": leafnode}


@pytest.fixture(scope="module", params=list(MAKERS))
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One server with JetStream for a whole module."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    with MAKERS[request.param](folder, config=jetstream(folder)) as running:
        yield running


@pytest.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    connection = await nats.connect(broker.url, allow_reconnect=False)
    await _deleted_streams_are_gone(broker, connection)
    yield connection
    await connection.close()


async def _deleted_streams_are_gone(broker: Broker, connection: Client) -> None:
    """Wait until no folder of a deleted stream is left.

    nats-server answers a deletion before the files are removed: a stream that is made again at once under the same
    name may begin with the messages of the old one.
    """
    folder = broker.folder / "js" / "jetstream" / "$G" / "streams"
    async with asyncio.timeout(GONE_SECONDS):
        while folder.exists() and (left := {path.name for path in folder.iterdir()}):
            names = json.loads((await connection.request("$JS.API.STREAM.NAMES", b"")).data)["streams"] or []
            if left <= set(names):
                return
            await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Broker]]:
    """nats-server and leafnode with JetStream, for a whole module."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(make(folder := tmp_path_factory.mktemp(name), config=jetstream(folder)))
            for name, make in MAKERS.items()
        ]
