"""The composition root: builds every object, owns every task, stops in order.

The agent is of use without a broker: files stay as configured, the ledger remembers. So systemd hears READY as soon as
the state directory is open. A task that fails in a way nobody foresaw ends the agent, and systemd starts it again.
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent import identity
from agent.answering import QueryService
from agent.bus import Bus
from agent.commands import Commands
from agent.configuration import Configuration
from agent.errors import ConfigError, ConnectionFailed
from agent.facts import broker, linux, own, system
from agent.facts.custom import CustomFacts
from agent.facts.history import History, HistoryError
from agent.facts.table import Facts
from agent.items import Items
from agent.ledger import Ledger
from agent.life import LifeTask
from agent.policy import Policy, Roles, unknown
from agent.presence import InventoryTask, PresenceTask
from agent.remembering import HistoryTask
from agent.settings import Settings
from agent.site import ensure, follow_hub
from agent.telemetry import TelemetryTask
from agent.watching import Watching
from leafnode import __version__
from leafnode.base import files
from leafnode.base.notify import Notifier

SESSION_PAUSE_SECONDS = 5.0  # before trying a broker again that refused us: it is asked by a whole fleet

log = logging.getLogger(__name__)

WORKERS: Final = 2  # threads that collect facts and evaluate queries: one may be slow without stopping the other
SLOW_FACTS: Final = ("os", "kernel", "pi")  # of the inventory; what changes by the minute is asked, not stored


async def run(settings: Settings) -> None:
    """Be the agent until SIGTERM or SIGINT.

    Raises:
        ConfigError: the state directory cannot be used.
        LedgerError: the ledger cannot be used.
    """
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(WORKERS, thread_name_prefix="facts"))
    state_dir = settings.state_dir
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"state_dir {state_dir} cannot be made: {error.strerror}") from error
    with _alone(state_dir):
        await _run(settings, state_dir)


@contextlib.contextmanager
def _alone(state_dir: Path) -> Iterator[None]:
    """Hold the state directory for this process: two agents would run each other's commands.

    Raises:
        ConfigError: another process holds it, or it cannot be written.
    """
    try:
        lock = files.hold(state_dir / "lock")
    except BlockingIOError as error:
        raise ConfigError(
            f"state_dir {state_dir} is in use by another fleet-agent: stop that one, or give this one a state_dir and"
            " a [device] id of its own"
        ) from error
    except OSError as error:
        raise ConfigError(f"state_dir {state_dir} cannot be used: {error.strerror}") from error
    try:
        yield
    finally:
        os.close(lock)


async def _run(settings: Settings, state_dir: Path) -> None:
    loop = asyncio.get_running_loop()
    ledger = await Ledger.open(state_dir / "commands.db")
    notifier = Notifier()
    try:
        main = asyncio.current_task()
        assert main
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, main.cancel)
        notifier.ready(f"device {settings.device_id}")
        async with asyncio.TaskGroup() as group:
            if notifier.watchdog_interval_s:
                group.create_task(_beat(notifier, notifier.watchdog_interval_s), name="watchdog")
            group.create_task(_sessions(settings, ledger), name="sessions")
    except asyncio.CancelledError:
        log.info("agent stopped")
    finally:
        notifier.stopping()
        await ledger.close()


async def _beat(notifier: Notifier, interval_s: float) -> None:
    while True:
        notifier.watchdog()
        await asyncio.sleep(interval_s)


async def _sessions(settings: Settings, ledger: Ledger) -> None:
    """One session after another: a broker that refuses us for good (a revoked user) may change its mind."""
    history = _open_history(settings)
    life = LifeTask(settings.state_dir, settings.device_id, identity.boot_id(), linux.pi_facts)
    life.begin()
    items = Items(settings.config, settings.state_dir)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(life.run(), name="life")
            group.create_task(items.run(), name="config items")
            group.create_task(_one_after_another(settings, ledger, history, life, items), name="connection")
    finally:
        life.end()
        if history is not None:
            history.close()


def _open_history(settings: Settings) -> History | None:
    """The file of the past; without it everything else goes on."""
    if not settings.history.interval_s:
        return None
    try:
        return History(settings.state_dir / "history.db", settings.history.budget_bytes)
    except HistoryError as error:
        log.error("no history reason=%r", str(error))
        return None


async def _one_after_another(
    settings: Settings, ledger: Ledger, history: History | None, life: LifeTask, items: Items
) -> None:
    while True:
        bus = await Bus.open(settings.bus_options())
        try:
            await _session(settings, bus, ledger, history, life, items)
        except* ConnectionFailed as errors:
            log.warning("session ended reason=%r", str(errors.exceptions[0]))
        finally:
            await bus.close()
        await asyncio.sleep(SESSION_PAUSE_SECONDS)


async def _session(
    settings: Settings, bus: Bus, ledger: Ledger, history: History | None, life: LifeTask, items: Items
) -> None:
    device = settings.device_id
    boot_id = identity.boot_id()
    started = datetime.now(UTC)
    commands = Commands(bus, ledger, device, boot_id, settings.commands)
    configuration = Configuration(bus, settings, device, items)
    facts = Facts(
        [
            *system.tables(system.CpuMeter()),
            *broker.tables(settings.facts.monitor),
            *own.tables(
                device,
                __version__,
                started,
                settings.device.groups,
                settings.device.tags,
                configuration.rows,
                commands.recent,
            ),
        ],
        CustomFacts(settings.facts.folder, timeout_s=settings.facts.timeout_s, age_s=settings.facts.age_s),
        time.monotonic,
    )
    roles = _roles(settings, facts)
    service = QueryService(bus, device, settings.device.groups, settings.query, roles, history)
    inventory = InventoryTask(
        bus, device, settings.device.groups, settings.device.tags, __version__, lambda: slow_facts(facts)
    )

    new_hub = asyncio.Event()

    def tell_again() -> None:
        new_hub.set()
        inventory.again()
        configuration.report_again()

    def reached(hub: bool) -> None:
        (life.hub_back if hub else life.hub_lost)()

    presence = PresenceTask(bus, device, boot_id, settings.presence.interval_s, tell_again, reached)
    telemetry = TelemetryTask(bus, device, settings.telemetry, facts, f"{time.time_ns() // 1_000_000}")
    watching = Watching(
        bus, device, settings.device.groups, service.limits, roles, history, telemetry, settings.state_dir
    )
    await commands.prepare()
    life.to(telemetry.tell)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_until_closed(bus), name="connection")
            if settings.query.enabled:
                await service.start(__version__)
            log.info("agent serving device=%s version=%s", device, __version__)
            for name, work in _tasks(settings, presence, inventory, telemetry, configuration):
                group.create_task(work, name=name)
            if settings.query.enabled:
                group.create_task(watching.run(), name="watches")
            if history is not None:
                group.create_task(HistoryTask(history, facts, settings.history).run(), name="history")
            if bus.options.hub_domain:
                await ensure(bus, settings.telemetry)
                group.create_task(follow_hub(bus, new_hub), name="site")
            if settings.query.enabled:
                group.create_task(watching.follow(), name="watch list")
            group.create_task(configuration.follow(), name="config")
            group.create_task(configuration.apply(), name="config apply")
            if settings.commands.enabled:
                group.create_task(commands.run(), name="commands")
    finally:
        life.to(None)
        watching.stop()
        await service.stop()
        await presence.stopped("stopped")


def _roles(settings: Settings, facts: Facts) -> Roles:
    """Who sees what. A name that is no table or column is said: it would protect nothing."""
    query = settings.query
    named = [*query.hidden, *(name for role in query.roles.values() for name in (*role.tables, *role.hidden))]
    for name in unknown(named, facts):
        log.warning("query policy names what is not there name=%s; see docs/facts.md", name)
    return Roles(facts, Policy.of((), query.hidden), {name: role.policy for name, role in query.roles.items()})


def _tasks(
    settings: Settings,
    presence: PresenceTask,
    inventory: InventoryTask,
    telemetry: TelemetryTask,
    configuration: Configuration,
) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
    """What needs nothing of the site's own streams."""
    yield "presence", presence.run()
    yield "inventory", inventory.run()
    yield "config status", configuration.report()
    yield "telemetry", telemetry.send()
    if settings.telemetry.interval_s > 0:
        yield "sampling", telemetry.sample()


async def _until_closed(bus: Bus) -> None:
    await bus.wait_closed()
    raise ConnectionFailed("the broker closed the connection for good")


def slow_facts(facts: Facts) -> dict[str, Any]:
    """The facts of the inventory: they change with an upgrade, a new card or another network, not by the minute."""
    found = facts.document(SLOW_FACTS)
    found["host"] = {"name": system.host()["name"]}
    cpu = facts["cpu"].records()[0]
    found["cpu"] = {"count": cpu["count"], "model": cpu["model"]}
    found["mem"] = {"total": facts["mem"].records()[0]["total"]}
    found["disk"] = {"total": facts["disk"].records()[0]["total"]}
    found["net"] = [
        {"name": row["name"], "family": row["family"], "address": row["address"], "mac": row["mac"]}
        for row in facts["net"].records()
        if row["name"] != "lo"
    ]
    found["pi"] = {key: found["pi"][key] for key in ("model", "serial")}
    return found
