"""The same program against nats-server and against leafnode: what one does the other must do."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from tests.support.servers import Broker, jetstream, leafnode, stock_hub

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
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Broker]]:
    """nats-server and leafnode with JetStream, for a whole module."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(make(folder := tmp_path_factory.mktemp(name), config=jetstream(folder)))
            for name, make in MAKERS.items()
        ]
