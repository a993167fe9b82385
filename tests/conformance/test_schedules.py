"""Scheduled messages on both servers: what is refused, what comes when, and what is left."""

import asyncio
import datetime

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg

from tests.conformance.side_by_side import Step, differences
from tests.support.servers import Broker

WAIT_SECONDS = 10.0  # nats-server looks at its schedules up to a second late
TARGET = {"Nats_Schedule_Target": "s.out"}


def scheduled(subject: str, when: str, body: str = "tick", **headers: str) -> Step:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return (f"PUB {subject}", body, {"Nats-Schedule": when, **named})


def at(seconds: float) -> str:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return f"@at {moment.strftime('%Y-%m-%dT%H:%M:%SZ')}"


BAD_PATTERNS = [
    "@every 0.5s",
    "@every x",
    "@every -1s",
    "@at x",
    "@at 2020-01-01",
    "@hour",
    "* * * * *",
    "60 * * * * *",
    "0 0 0 30 2 *",
    "*/0 * * * * *",
    "5-3 * * * * *",
    "1-2-3 * * * * *",
    "1/2/3 * * * * *",
    "x * * * * *",
    "0 0 0 1 foo *",
    "0 0 0 0 * *",
    "0 0 0 * * 7",
]
ZONES = {"@every 1h": "UTC", "@at 2030-01-01T00:00:00Z": "UTC"}


async def test_what_is_refused(pair: list[Broker]) -> None:
    config = {"name": "S", "subjects": ["s.>"], "allow_msg_schedules": True}
    steps: list[Step] = [
        ("STREAM.CREATE.N", {"name": "N", "subjects": ["n.>"]}),
        scheduled("n.1", at(1)),
        scheduled("n.1", "bad"),
        ("PUB n.1", "", {"Nats-Schedule-Time-Zone": "UTC"}),
        ("PUB n.1", "", {"Nats-Schedule-Time-Zone": ""}),
        ("PUB n.1", "", {"Nats-Scheduler": "x"}),
        ("PUB n.1", "", {"Nats-Schedule-Next": "purge", "Nats-Scheduler": "n.2"}),
        ("STREAM.CREATE.S", config),
        ("STREAM.CREATE.T", {**config, "name": "T", "subjects": ["t.>"], "allow_msg_ttl": True}),
        *[scheduled("s.1", pattern, **TARGET) for pattern in BAD_PATTERNS],
        *[scheduled("s.1", pattern, Nats_Schedule_Time_Zone=zone, **TARGET) for pattern, zone in ZONES.items()],
        *[scheduled("s.1", "@daily", Nats_Schedule_Time_Zone=zone, **TARGET) for zone in ("", "Mars/X", "+02:00")],
        *[scheduled("s.1", "@daily", Nats_Schedule_Target=to) for to in ("", "other", "s.1", "s.*", "s..x")],
        *[scheduled("s.1", "@daily", Nats_Schedule_Source=it, **TARGET) for it in ("s.1", "s.out", "zz", "s.*")],
        *[scheduled("s.1", "@daily", Nats_Schedule_Rollup=value, **TARGET) for value in ("all", "x")],
        scheduled("s.1", "@daily", Nats_Rollup="all", **TARGET),
        scheduled("s.1", "@daily", Nats_Schedule_TTL="5m", **TARGET),
        *[scheduled("t.1", "@daily", Nats_Schedule_TTL=ttl, Nats_Schedule_Target="t.o") for ttl in ("x", "0.5s")],
        scheduled("s.1", "@daily", Nats_Expected_Last_Subject_Sequence="3", **TARGET),
        scheduled("s.1", "@daily", Nats_Schedule_Time_Zone="Europe/Berlin", **TARGET),
        scheduled("s.2", "0 30 7 * jan-mar mon,FRI", Nats_Schedule_Time_Zone="Local", **TARGET),
        scheduled("s.3", "? 1/5 2-4/2 1 * *", Nats_Schedule_Rollup="sub", **TARGET),
        scheduled("s.4", "@yearly", Nats_Rollup="sub", **TARGET),
        scheduled("s.4", "@monthly", **TARGET),
        ("STREAM.INFO.S", {"subjects_filter": ">"}),
        ("PUB s.c", "", {"Nats-Schedule-Next": "purge"}),
        ("PUB s.c", "", {"Nats-Schedule-Next": "x", "Nats-Scheduler": "s.1"}),
        ("PUB s.1", "", {"Nats-Schedule-Next": "purge", "Nats-Scheduler": "s.1"}),
        ("PUB s.c", "", {"Nats-Schedule-Next": "purge", "Nats-Scheduler": "s.*"}),
        ("PUB s.c", "", {"Nats-Scheduler": "s.1"}),
        ("PUB s.c", "", {"Nats-Schedule-Next": "2030-01-01T00:00:00Z", "Nats-Scheduler": "s.1"}),
        ("PUB s.c", "stop", {"Nats-Schedule-Next": "purge", "Nats-Scheduler": "s.1"}),
        ("PUB s.c", "stop", {"Nats-Schedule-Next": "purge", "Nats-Scheduler": "s.nothing"}),
        ("PUB s.d", "stop", {"Nats-Schedule-Next": "purge", "Nats-Scheduler": "s.c"}),
        ("STREAM.INFO.S", {"subjects_filter": ">"}),
        *[(f"STREAM.DELETE.{name}", None) for name in "NST"],
    ]
    await differences(pair, steps)


async def schedule_stream(js: JetStreamContext, client: Client) -> None:
    await js.add_stream(name="S", subjects=["s.>"])
    fields = "".join(f',"{name}":true' for name in ("allow_msg_schedules", "allow_msg_ttl"))
    await client.request("$JS.API.STREAM.UPDATE.S", f'{{"name":"S","subjects":["s.>"]{fields}}}'.encode())


async def comes(js: JetStreamContext, subject: str) -> RawStreamMsg:
    """The message that a schedule makes."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                return await js.get_last_msg("S", subject)
            except Exception:
                await asyncio.sleep(0.05)


async def test_what_comes(client: Client) -> None:
    js = client.jetstream()
    await schedule_stream(js, client)
    await js.publish("s.source", b"sampled", headers={"H": "1", "Nats-Msg-Id": "m"})
    wants: dict[str, dict[str, str]] = {
        "past": {"Nats-Schedule": at(-100), "X": "b", "Nats-Msg-Id": "i"},
        "soon": {"Nats-Schedule": at(1), "Nats-Schedule-Rollup": "sub", "Nats-Schedule-TTL": "60s"},
        "from": {"Nats-Schedule": at(1), "Nats-Schedule-Source": "s.source", "X": "b"},
        "own": {"Nats-Schedule": at(1), "Nats-Schedule-Source": "s.nothing", "X": "b"},
    }
    for name, headers in wants.items():
        await js.publish(f"s.at.{name}", name.encode(), headers={**headers, "Nats-Schedule-Target": f"s.to.{name}"})
    made = {name: await comes(js, f"s.to.{name}") for name in wants}
    assert {name: message.data for name, message in made.items()} == {
        "past": b"past",
        "soon": b"soon",
        "from": b"sampled",
        "own": b"own",
    }
    purge = {"Nats-Schedule-Next": "purge"}
    assert made["past"].headers == {"X": "b", "Nats-Scheduler": "s.at.past", **purge}
    assert made["soon"].headers == {"Nats-Scheduler": "s.at.soon", **purge, "Nats-TTL": "60s", "Nats-Rollup": "sub"}
    assert made["from"].headers == {"H": "1", "Nats-Scheduler": "s.at.from", **purge}
    assert made["own"].headers == {"X": "b", "Nats-Scheduler": "s.at.own", **purge}
    info = await js.stream_info("S", subjects_filter="s.at.>")
    assert not info.state.subjects
    await js.delete_stream("S")


async def test_a_repeating_schedule_does_not_drift(client: Client) -> None:
    js = client.jetstream()
    await schedule_stream(js, client)
    await js.publish("s.tick", b"t", headers={"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "s.tock"})
    first = await comes(js, "s.tock")
    assert first.headers is not None
    following = datetime.datetime.fromisoformat(first.headers["Nats-Schedule-Next"])
    assert following.microsecond == 0
    async with asyncio.timeout(WAIT_SECONDS):
        while (second := await js.get_last_msg("S", "s.tock")).seq == first.seq:
            await asyncio.sleep(0.05)
    assert second.headers is not None
    later = datetime.datetime.fromisoformat(second.headers["Nats-Schedule-Next"])
    assert (later - following) % datetime.timedelta(seconds=1) == datetime.timedelta()
    assert later > following
    await js.purge_stream("S", subject="s.tick")
    state = (await js.stream_info("S", subjects_filter="s.tick")).state
    assert not state.subjects
    await js.delete_stream("S")
