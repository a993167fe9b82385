"""What a site's own JetStream must hold: telemetry and results until the hub has them, and copies of its buckets that
devices read (configuration, standing queries).

Only with `hub_domain`. Without it there is one JetStream, and the operator's `fleet init` prepared it.
"""

import asyncio
import contextlib
import logging
from typing import Any, Final

from agent import subjects
from agent.bus import Bus
from agent.edges import Edge
from agent.errors import ConnectionFailed, FleetError, NotAnswered
from agent.jetstream import NANOSECONDS
from agent.settings import Telemetry

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 20.0  # between looks at whether the hub's bucket is still the one that the mirror copies
ORIGIN: Final = "fleet_origin"  # key of the mirror's metadata: when the bucket that it copies was made
RETRY_SECONDS: Final = 2.0  # while the leafnode's JetStream is not there
RESULTS_AGE_SECONDS: Final = 30 * 86_400  # a site cut off for a month still reports what its commands did
RESULTS_BYTES: Final = 64 * 1024 * 1024  # a few thousand outcomes with output
DUPLICATE_SECONDS: Final = 3600  # a publication repeated after an outage or a restart is recognised for this long


def streams(hub_domain: str, telemetry: Telemetry) -> list[dict[str, Any]]:
    """The configurations, in the API's own words."""
    return [
        {
            "name": subjects.STREAM_TELEMETRY,
            "subjects": [subjects.TELEMETRY_ALL],
            "max_age": int(telemetry.max_age_s * NANOSECONDS),
            "max_bytes": telemetry.max_bytes,
            "duplicate_window": DUPLICATE_SECONDS * NANOSECONDS,
        },
        {
            "name": subjects.STREAM_RESULTS,
            "subjects": [subjects.RESULTS_ALL],
            "max_age": RESULTS_AGE_SECONDS * NANOSECONDS,
            "max_bytes": RESULTS_BYTES,
            "duplicate_window": DUPLICATE_SECONDS * NANOSECONDS,
        },
        *(_mirror(hub_domain, f"KV_{bucket}", history) for bucket, history in MIRRORED.items()),
    ]


def _mirror(hub_domain: str, name: str, history: int) -> dict[str, Any]:
    return {
        "name": name,
        "mirror": {"name": name, "external": {"api": f"$JS.{hub_domain}.API"}},
        "mirror_direct": True,
        "allow_direct": True,
        "max_msgs_per_subject": history,
    }


CONFIG_HISTORY: Final = 20  # revisions of a key, as the bucket itself keeps (docs/fleet-protocol.md)
MIRRORED: Final = {subjects.BUCKET_CONFIG: CONFIG_HISTORY, subjects.BUCKET_WATCHES: 1}
"""Buckets that a site reads without its hub, with the revisions kept of a key."""


async def ensure(bus: Bus, telemetry: Telemetry) -> None:
    """Return once the site's streams exist. What an operator configured beyond these settings stays as it is."""
    edge = Edge(log, "site streams")
    for config in streams(bus.options.hub_domain, telemetry):
        while True:
            try:
                if await bus.local.stream_info(config["name"]) is None:
                    await bus.local.ensure_stream(config)
                    log.info("stream created name=%s", config["name"])
                edge.works()
                break
            except FleetError as error:
                edge.failed(error)
                await asyncio.sleep(RETRY_SECONDS)


async def follow_hub(bus: Bus, look_now: asyncio.Event) -> None:
    """Keep each mirror a copy of the bucket that the hub has now, for ever. `look_now` hurries it.

    A mirror goes on after the last number that it has. Of a hub with a new store it would never get what is numbered
    below that, so it is made again.
    """
    edge = Edge(log, "site mirror")
    while True:
        try:
            with contextlib.suppress(NotAnswered, ConnectionFailed):  # the hub is away; the mirror is for that
                for bucket in MIRRORED:
                    await _renew_mirror(bus, f"KV_{bucket}")
            edge.works()
        except FleetError as error:
            edge.failed(error)
        look_now.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await look_now.wait()


async def _renew_mirror(bus: Bus, name: str) -> None:
    here = await bus.local.stream_info(name)
    there = await bus.hub.stream_info(name)
    if here is None or there is None or not here["config"].get("mirror"):
        return
    origin = str(there["created"])
    known = (here["config"].get("metadata") or {}).get(ORIGIN)
    if known == origin:
        return
    config = {**here["config"], "metadata": {**(here["config"].get("metadata") or {}), ORIGIN: origin}}
    # The hub was asked second, so that a bucket that has less than its copy cannot be the one that was copied.
    if known is None and int(there["state"]["last_seq"]) >= int(here["state"]["last_seq"]):
        await bus.local.api(f"STREAM.UPDATE.{name}", config)
        return
    log.warning("the hub's bucket is a new one; copying it again stream=%s", name)
    await bus.local.api(f"STREAM.DELETE.{name}")
    await bus.local.api(f"STREAM.CREATE.{name}", config)
