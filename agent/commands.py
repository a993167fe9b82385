"""Commands: taken from the device's durable consumer one at a time, run once, reported, acknowledged, in that order.

    fetch → ledger: received → ledger: started → run → ledger: finished → results stream → ledger: reported → ack

While a command runs, the consumer is told so every third of its ack_wait. A message that comes again finds the ledger
ahead of it and continues there. The consumer hands over one message at a time (max_ack_pending 1), so a later command
never overtakes one that waits for its redelivery.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Final

from agent import processes, subjects
from agent.bus import Bus
from agent.edges import Edge
from agent.errors import ApiError, FleetError, NotAnswered, PayloadError, UsageError
from agent.jetstream import NANOSECONDS, Message
from agent.ledger import Ledger, LedgerError, Record, command_of
from agent.payloads import Command, CommandResult, Outcome
from agent.settings import Commands as CommandSettings

log = logging.getLogger(__name__)

FETCH_SECONDS: Final = 20.0  # of waiting for the next command; the request is then made anew
RETRY_SECONDS: Final = 2.0  # between attempts while hub or stream is away
PROGRESS_SHARE: Final = 3  # a running command is kept alive this often within ack_wait
STARTED_SECONDS: Final = 3.0  # for the notice that a command started; the outcome matters, the notice is a courtesy
REPORT_BATCH: Final = 50  # outcomes published after an outage before looking at the ledger again
RECENT: Final = 50  # outcomes shown in the table `command`


def consumer_config(device: str, settings: CommandSettings) -> dict[str, Any]:
    """The durable consumer of a device (docs/fleet-protocol.md, Commands)."""
    return {
        "durable_name": subjects.command_consumer(device),
        "filter_subject": subjects.commands_of(device),
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": int(settings.ack_wait_s * NANOSECONDS),
        "max_deliver": -1,
        "max_ack_pending": 1,
        "replay_policy": "instant",
    }


def message_id(result: CommandResult) -> str:
    """What makes the results stream keep one message of each step of each attempt."""
    step = result.step if result.step == "outcome" or result.attempt == 1 else f"{result.step}-{result.attempt}"
    return f"{result.id}.{result.device}.{step}"


class Commands:
    """Runs the commands of one device."""

    def __init__(
        self,
        bus: Bus,
        ledger: Ledger,
        device: str,
        boot_id: str,
        settings: CommandSettings,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._bus = bus
        self._ledger = ledger
        self._device = device
        self._boot_id = boot_id
        self._settings = settings
        self._now = now
        self._recent: deque[CommandResult] = deque(maxlen=RECENT)
        self._edge = Edge(log, "commands")
        self._unacknowledged: Message | None = None

    def recent(self) -> list[CommandResult]:
        """The newest outcomes, newest first; safe to call from another thread."""
        return list(self._recent)

    async def prepare(self) -> None:
        """Before anything else: what was running when the agent ended gets its outcome."""
        for record in reversed(await self._ledger.recent(RECENT)):
            if record.result:
                self._recent.appendleft(record.result)
        for record in await self._ledger.interrupted():
            if not _may_repeat(record):
                log.warning("command interrupted id=%s outcome=unknown", record.id)
                await self._finish(self._result(record, "unknown", error="the agent ended while it ran"))

    async def run(self) -> None:
        """For ever. Raises LedgerError when what is done cannot be recorded."""
        ready = False
        while True:
            try:
                await self._report()
                if not ready:
                    await self._bus.hub.ensure_consumer(
                        subjects.STREAM_COMMANDS, consumer_config(self._device, self._settings)
                    )
                    ready = True
                    log.info("commands ready consumer=%s", subjects.command_consumer(self._device))
                self._edge.works()
                await self._acknowledge_late()
                for message in await self._bus.hub.fetch(
                    subjects.STREAM_COMMANDS, subjects.command_consumer(self._device), wait_s=FETCH_SECONDS
                ):
                    await self._handle(message)
            except LedgerError:
                raise
            except FleetError as error:
                ready = False
                self._edge.failed(_in_words(error))
                await asyncio.sleep(RETRY_SECONDS)

    # One message

    async def _handle(self, message: Message) -> None:
        try:
            _, command_id = subjects.device_and_command(message.subject)
        except UsageError:
            log.warning("message ignored subject=%r", message.subject)
            await self._bus.hub.acknowledge(message)
            return
        record = await self._ledger.find(command_id)
        if record is None:
            await self._ledger.received(command_id, message.data)
            record = await self._ledger.find(command_id)
        assert record is not None
        if record.state in ("received", "started"):
            async with _kept_alive(self._bus, message, self._settings.ack_wait_s / PROGRESS_SHARE):
                await self._carry_out(record)
        self._unacknowledged = message
        await self._report()
        await self._bus.hub.acknowledge(message)
        self._unacknowledged = None
        await self._ledger.forget(self._settings.kept)

    async def _acknowledge_late(self) -> None:
        """A message whose acknowledgement the hub did not get, because it was away: sooner than its redelivery.

        If this fails too, redelivery it is: the ledger knows that the command is done.
        """
        message, self._unacknowledged = self._unacknowledged, None
        if message:
            with contextlib.suppress(NotAnswered):
                await self._bus.hub.acknowledge(message)

    async def _carry_out(self, record: Record) -> None:
        """Bring a command that is not finished to its outcome."""
        try:
            command = command_of(record)
        except PayloadError as error:
            await self._finish(self._result(record, "refused", error=str(error)))
            return
        if record.state == "started" and not _may_repeat(record):
            await self._finish(self._result(record, "unknown", error="the agent ended while it ran"))
        elif refusal := self._refusal(record, command):
            await self._finish(self._result(record, "refused", error=refusal))
        elif command.not_after and self._now() > command.not_after:
            await self._finish(self._result(record, "expired", error="it was to start earlier"))
        else:
            await self._finish(await self._execute(record, command))

    def _refusal(self, record: Record, command: Command) -> str:
        """Why a command is not even tried; empty if it is."""
        if command.kind != "argv":
            return f"kind {command.kind!r} is not known to this agent"
        if command.id != record.id:
            return f"the body says id {command.id!r}, the subject {record.id!r}"
        if not command.argv or not command.argv[0]:
            return "argv is empty"
        if not 0 < command.timeout_s <= self._settings.max_timeout_s:
            return (
                f"timeout_s must be above 0 and at most {self._settings.max_timeout_s:g}:"
                " max_timeout_s in [commands] of this device's settings"
            )
        return ""

    async def _execute(self, record: Record, command: Command) -> CommandResult:
        started = self._now()
        attempt = await self._ledger.started(record.id, self._boot_id, started)
        log.info("command started id=%s program=%r attempt=%d", record.id, command.argv[0], attempt)
        notice = asyncio.create_task(self._tell_started(command, started, attempt), name="started")
        try:
            ended = await processes.run(
                command.argv,
                timeout_s=command.timeout_s,
                output_bytes=self._settings.output_bytes,
                cwd=command.cwd,
                env=command.env,
                stdin=command.stdin.encode() if command.stdin is not None else None,
            )
            await notice
        except asyncio.CancelledError:
            await self._finish(self._stopped(command, started, attempt))
            raise
        finally:
            notice.cancel()
        return CommandResult(
            id=record.id,
            device=self._device,
            step="outcome",
            outcome="timed_out" if ended.timed_out else "succeeded" if ended.succeeded else "failed",
            exit_code=ended.exit_code,
            stdout=ended.stdout,
            stderr=ended.stderr,
            truncated=ended.truncated,
            started=started,
            finished=self._now(),
            attempt=attempt,
            error=ended.error,
            argv=command.argv,
        )

    def _stopped(self, command: Command, started: datetime, attempt: int) -> CommandResult:
        """An orderly stop of the agent kills the command: that is known, so it is not `unknown`."""
        return CommandResult(
            id=command.id,
            device=self._device,
            step="outcome",
            outcome="failed",
            argv=command.argv,
            started=started,
            finished=self._now(),
            attempt=attempt,
            error="killed, because the agent was stopped while it ran",
        )

    async def _tell_started(self, command: Command, started: datetime, attempt: int) -> None:
        result = CommandResult(
            id=command.id, device=self._device, step="started", started=started, attempt=attempt, argv=command.argv
        )
        with contextlib.suppress(FleetError):
            await self._publish(result, STARTED_SECONDS)

    def _result(self, record: Record, outcome: Outcome, error: str) -> CommandResult:
        return CommandResult(
            id=record.id,
            device=self._device,
            step="outcome",
            outcome=outcome,
            started=record.started,
            finished=self._now(),
            attempt=max(1, record.attempt),
            error=error,
        )

    async def _finish(self, result: CommandResult) -> None:
        await self._ledger.finished(result)
        self._recent.appendleft(result)
        log.info("command finished id=%s outcome=%s exit_code=%s", result.id, result.outcome, result.exit_code)

    # Outcomes

    async def _report(self) -> None:
        """Publish every outcome that the results stream does not surely have."""
        while records := await self._ledger.unreported(REPORT_BATCH):
            for record in records:
                if record.result:
                    await self._publish(record.result)
                await self._ledger.reported(record.id)

    async def _publish(self, result: CommandResult, timeout_s: float = 5.0) -> None:
        await self._bus.local.publish(
            subjects.result(self._device, result.id),
            result.to_bytes(),
            message_id=message_id(result),
            timeout_s=timeout_s,
        )


def _may_repeat(record: Record) -> bool:
    """Whether a command that was interrupted is run again."""
    try:
        return command_of(record).on_unknown == "retry"
    except PayloadError:
        return False


def _in_words(error: FleetError) -> Exception | str:
    if isinstance(error, ApiError) and error.is_missing:
        return f"stream {subjects.STREAM_COMMANDS} does not exist at the hub: run 'fleet init' there"
    return error


@contextlib.asynccontextmanager
async def _kept_alive(bus: Bus, message: Message, every_s: float) -> AsyncIterator[None]:
    """Tell the consumer every so often that the message is being worked on."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(every_s)
            with contextlib.suppress(FleetError):
                await bus.hub.in_progress(message)

    task = asyncio.create_task(beat(), name="in-progress")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
