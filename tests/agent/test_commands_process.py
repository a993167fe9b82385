"""A command runs once: across a device that is off, a SIGKILL at each step, and messages that come again."""

import asyncio
import os
import random
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent import subjects
from agent.bus import Bus
from tests.agent import fleet_world as world
from tests.support.servers import Process

KILLS = 6
COMMANDS_PER_LIFE = 5
FAST = {"commands": "ack_wait_s = 1", "telemetry": "interval_s = 0"}


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


async def has_line(path: Path) -> bool:
    return lines(path) > 0


async def none_waits(bus: Bus) -> bool:
    return await world.waiting(bus) == 0


def note(path: Path, *then: str) -> list[str]:
    """A command that leaves a line each time it runs."""
    return ["sh", "-c", f"echo ran >> {path}" + "".join(f"; {each}" for each in then)]


async def test_outcomes_tell_what_happened(tmp_path: Path) -> None:
    async with world.hub(tmp_path / "hub") as (broker, bus):
        with world.agent(tmp_path / "pi-7", broker.url, commands="ack_wait_s = 1\noutput_bytes = 1000"):
            good = world.command(
                "sh", "-c", "cat; echo $WHO; pwd; echo oops >&2", stdin="in ", env={"WHO": "me"}, cwd="/"
            )
            bad = world.command("sh", "-c", "exit 3")
            absent = world.command("/no/such/program")
            slow = world.command("sh", "-c", "sleep 100 & sleep 100", timeout_s=0.3)
            loud = world.command("sh", "-c", "yes | head -c 100000")
            late = world.command("true", not_after=datetime.now(UTC) - timedelta(seconds=1))
            strange = world.command("true", kind="shell")
            for each in (good, bad, absent, slow, loud, late, strange):
                await world.send(bus, each)
            await bus.local.publish(subjects.command("pi-7", "broken"), b"not json")
            found = {
                each.id: await world.outcome(bus, each.id) for each in (good, bad, absent, slow, loud, late, strange)
            }
            broken = await world.outcome(bus, "broken")
            await world.eventually(lambda: none_waits(bus), "all acknowledged")
        assert [found[each.id].outcome for each in (good, bad, absent, slow, loud, late, strange)] == [
            "succeeded",
            "failed",
            "failed",
            "timed_out",
            "succeeded",
            "expired",
            "refused",
        ]
        assert (found[good.id].stdout, found[good.id].stderr) == ("in me\n/\n", "oops\n")
        assert found[bad.id].exit_code == 3
        assert "cannot be started" in found[absent.id].error
        assert (len(found[loud.id].stdout), found[loud.id].truncated) == (1000, True)
        assert (broken.outcome, broken.error) == ("refused", "Command: the body is not JSON (JSONDecodeError)")
        steps = [each.step for each in await world.results(bus, good.id)]
        assert steps == ["started", "outcome"]


async def test_commands_sent_while_the_device_is_off_run_once_and_in_order(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    async with world.hub(tmp_path / "hub") as (broker, bus):
        device = world.agent(tmp_path / "pi-7", broker.url, **FAST)
        with device:
            pass  # the consumer exists from now on; the device is off
        each = [world.command("sh", "-c", f"echo {number} >> {trace}") for number in range(3)]
        for one in each:
            await world.send(bus, one)
            await world.send(bus, one)  # sent twice with one message id: the stream keeps one
        with device.start():
            assert (await world.outcome(bus, each[-1].id)).outcome == "succeeded"
            await world.eventually(lambda: none_waits(bus), "all acknowledged")
        assert trace.read_text().split() == ["0", "1", "2"]


async def kill_during(device: Process, trace: Path) -> None:
    await world.eventually(lambda: has_line(trace), "the command runs")
    device.kill()


async def test_sigkill_in_the_middle_is_unknown_and_never_runs_again(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    async with world.hub(tmp_path / "hub") as (broker, bus):
        device = world.agent(tmp_path / "pi-7", broker.url, **FAST)
        each = world.command(*note(trace, "echo $$ > " + str(tmp_path / "pid"), "exec sleep 60"))
        with device:
            await world.send(bus, each)
            await kill_during(device, tmp_path / "pid")
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        with device.start():
            result = await world.outcome(bus, each.id)
            after = world.command("true")
            await world.send(bus, after)
            assert (await world.outcome(bus, after.id)).outcome == "succeeded"
            await world.eventually(lambda: none_waits(bus), "all acknowledged")
        assert (result.outcome, lines(trace)) == ("unknown", 1)
        assert await world.outcomes(bus, each.id) == ["unknown"]


async def test_a_command_that_may_be_repeated_is_run_again_after_sigkill(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    gate = tmp_path / "gate"
    async with world.hub(tmp_path / "hub") as (broker, bus):
        device = world.agent(tmp_path / "pi-7", broker.url, **FAST)
        each = world.command(*note(trace, f"while [ ! -e {gate} ]; do sleep 0.05; done"), on_unknown="retry")
        with device:
            await world.send(bus, each)
            await kill_during(device, trace)
        gate.touch()
        with device.start():
            result = await world.outcome(bus, each.id)
        assert (result.outcome, result.attempt, lines(trace)) == ("succeeded", 2, 2)


async def test_a_message_delivered_three_times_runs_once(tmp_path: Path) -> None:
    """The hub is without acknowledgements: results cannot be stored, so the message comes again and again."""
    trace = tmp_path / "trace"
    async with world.hub(tmp_path / "hub") as (broker, bus):
        results_config = (await bus.local.stream_info(subjects.STREAM_RESULTS) or {})["config"]
        await bus.local.api(f"STREAM.DELETE.{subjects.STREAM_RESULTS}")
        with world.agent(tmp_path / "pi-7", broker.url, **FAST):
            each = world.command(*note(trace))
            await world.send(bus, each)

            async def came_again() -> bool:
                info = await bus.local.api(f"CONSUMER.INFO.{subjects.STREAM_COMMANDS}.agent-pi-7")
                return int(info["delivered"]["consumer_seq"]) >= 3

            await world.eventually(lambda: has_line(trace), "it ran")
            for _ in range(2):  # another reader takes it and gives it back
                for again in await bus.local.fetch(subjects.STREAM_COMMANDS, "agent-pi-7", wait_s=world.PATIENCE_S):
                    await bus.local.refuse(again)
            await world.eventually(came_again, "it was delivered three times")
            await bus.local.ensure_stream(results_config)
            assert (await world.outcome(bus, each.id)).outcome == "succeeded"
            await world.eventually(lambda: none_waits(bus), "acknowledged")
        assert lines(trace) == 1
        assert await world.outcomes(bus, each.id) == ["succeeded"]


async def test_sigkill_between_finish_and_report_reports_the_true_outcome(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    async with world.hub(tmp_path / "hub") as (broker, bus):
        results_config = (await bus.local.stream_info(subjects.STREAM_RESULTS) or {})["config"]
        await bus.local.api(f"STREAM.DELETE.{subjects.STREAM_RESULTS}")
        device = world.agent(tmp_path / "pi-7", broker.url, **FAST)
        each = world.command(*note(trace, "exit 7"))
        with device:
            await world.send(bus, each)

            async def finished() -> bool:
                return f"command finished id={each.id}" in device.output()

            await world.eventually(finished, "it finished")
            device.kill()
        await bus.local.ensure_stream(results_config)
        with device.start():
            result = await world.outcome(bus, each.id)
            await world.eventually(lambda: none_waits(bus), "acknowledged")
        assert (result.outcome, result.exit_code, lines(trace)) == ("failed", 7, 1)
        assert await world.outcomes(bus, each.id) == ["failed"]


async def test_a_command_longer_than_ack_wait_runs_once(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    async with world.hub(tmp_path / "hub") as (broker, bus):
        with world.agent(tmp_path / "pi-7", broker.url, **FAST):
            each = world.command(*note(trace, "sleep 2.5"))
            await world.send(bus, each)
            assert (await world.outcome(bus, each.id)).outcome == "succeeded"
            await world.eventually(lambda: none_waits(bus), "acknowledged")
            info = await bus.local.api(f"CONSUMER.INFO.{subjects.STREAM_COMMANDS}.agent-pi-7")
        assert info["delivered"]["consumer_seq"] == 1
        assert lines(trace) == 1


async def test_commands_survive_sigkill_at_any_moment(tmp_path: Path) -> None:
    """Power cuts at random: nothing runs twice, each has one outcome, and what says `succeeded` did run."""
    moments = random.Random(7)
    traces = tmp_path / "traces"
    traces.mkdir()
    async with world.hub(tmp_path / "hub") as (broker, bus):
        device = world.agent(tmp_path / "pi-7", broker.url, **FAST)
        sent = []
        for _ in range(KILLS):
            with device.start():
                for _ in range(COMMANDS_PER_LIFE):
                    each = world.command("true")
                    each = replace(each, argv=tuple(note(traces / each.id)))
                    sent.append(each)
                    await world.send(bus, each)
                await asyncio.sleep(moments.uniform(0, 0.08))
                device.kill()
        with device.start():
            await world.eventually(lambda: none_waits(bus), "all acknowledged")
        for each in sent:
            (outcome,) = await world.outcomes(bus, each.id)
            ran = lines(traces / each.id)
            assert (outcome, ran) in {("succeeded", 1), ("unknown", 0), ("unknown", 1)}
