"""A hub sources a site's work queue: it is emptied as the hub has it on its disk, whichever server the site runs."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.js.api import RetentionPolicy, StreamConfig

from tests.support.ports import free_port
from tests.support.servers import Broker, jetstream, leafnode, stock_hub

PATIENCE_SECONDS = 20.0
COUNT = 20


@pytest.mark.parametrize("make", [stock_hub, leafnode])
async def test_a_sourced_work_queue_is_emptied(tmp_path: Path, make: Callable[..., Broker]) -> None:
    port = free_port()
    hub_config = jetstream(tmp_path / "hub", "hub") + f'\nleafnodes {{ listen: "127.0.0.1:{port}" }}'
    remote = f'leafnodes {{ remotes: [ {{ url: "nats://127.0.0.1:{port}" }} ] }}'
    site_config = f"{jetstream(tmp_path / 'site', 'site')}\n{remote}"
    with stock_hub(tmp_path / "hub", config=hub_config) as hub, make(tmp_path / "site", config=site_config) as site:
        at_hub, at_site = await nats.connect(hub.url), await nats.connect(site.url)
        queue, copies = at_site.jetstream(), at_hub.jetstream()
        await queue.add_stream(StreamConfig(name="W", subjects=["w.>"], retention=RetentionPolicy.WORK_QUEUE))
        for number in range(COUNT):
            await queue.publish(f"w.{number}", b"x")
        source: dict[str, Any] = {"name": "W", "external": {"api": "$JS.site.API", "deliver": ""}}
        await at_hub.request("$JS.API.STREAM.CREATE.C", json.dumps({"name": "C", "sources": [source]}).encode())
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (await queue.stream_info("W")).state.messages and time.monotonic() < deadline:
            pass
        assert (await queue.stream_info("W")).state.messages == 0
        assert (await copies.stream_info("C")).state.messages == COUNT
        (reader,) = await queue.consumers_info("W")
        assert (str(reader.config.ack_policy), reader.num_ack_pending) == ("flow_control", 0)
        await at_hub.close()
        await at_site.close()
