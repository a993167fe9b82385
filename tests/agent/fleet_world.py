"""A small fleet for tests: a real hub prepared as `fleet init` does, real agent processes, ways to wait."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from agent import subjects
from agent.bucket import Bucket
from agent.bus import Bus, BusOptions
from agent.errors import FleetError
from agent.fleet import layout
from agent.payloads import Command, CommandResult, ConfigStatus
from leafnode.base import nuid
from tests.support.ports import free_port
from tests.support.servers import PYTHON, Broker, Process, jetstream, stock_hub

PATIENCE_S = 30.0  # for anything that should happen soon, on a loaded machine
T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T]], what: str, seconds: float = PATIENCE_S) -> T:
    """The first true answer of `look`; an answer that cannot be had yet counts as none."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        with contextlib.suppress(FleetError):
            if found := await look():
                return found
        assert loop.time() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def hub(folder: Path, config: str = "") -> AsyncIterator[tuple[Broker, Bus]]:
    """A stock nats-server with the fleet's streams and buckets, and an operator's connection to it."""
    with stock_hub(folder, config=config + jetstream(folder, "hub")) as broker:
        async with await Bus.open(BusOptions(urls=(broker.url,), name="operator"), patience_s=PATIENCE_S) as bus:
            for stream in layout.streams():
                await bus.local.ensure_stream(stream)
            yield broker, bus


@contextlib.asynccontextmanager
async def site(
    folder: Path, leaf_broker: Callable[..., Broker] = stock_hub
) -> AsyncIterator[tuple[Broker, Broker, Bus]]:
    """A hub, a broker at a site linked to it, each with its JetStream domain, and an operator at the hub."""
    port = free_port()
    listen = f'leafnodes {{ listen: "127.0.0.1:{port}" }}\n'
    remote = (
        f'leafnodes {{ remotes: [{{ url: "nats://127.0.0.1:{port}", deny_exports: ["tele.>", "fleet.result.>"] }}] }}\n'
    )
    async with hub(folder / "hub", listen) as (hub_broker, bus):
        with leaf_broker(folder / "site", config=remote + jetstream(folder / "site", "site")) as leaf:
            yield hub_broker, leaf, bus


def agent(folder: Path, url: str, device: str = "pi-7", **tables: Any) -> Process:
    """An agent as users run it; `tables` are more settings, as TOML text by table name."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "agent.toml"
    extra = "\n".join(f"[{name.replace('__', '.')}]\n{body}" for name, body in tables.items() if name != "nats")
    file.write_text(
        f'state_dir = "{folder / "state"}"\n'
        f'[device]\nid = "{device}"\ngroups = ["pumps", "north"]\ntags = {{ site = "roof" }}\n'
        f'[nats]\nurls = ["{url}"]\n{tables.get("nats", "")}\n'
        f"{extra}\n"
    )
    return Process([PYTHON, "-m", "agent", "-c", str(file)], folder / "agent.log", ready="agent serving")


def command(*argv: str, **fields: Any) -> Command:
    from datetime import UTC, datetime

    return Command(id=nuid.new(), argv=argv, issued=datetime.now(UTC), **fields)


async def send(bus: Bus, each: Command, device: str = "pi-7") -> None:
    await bus.local.publish(subjects.command(device, each.id), each.to_bytes(), message_id=f"{each.id}.{device}")


async def results(bus: Bus, command_id: str, device: str = "pi-7") -> list[CommandResult]:
    """Every result message of a command that the hub has, oldest first."""
    info = await bus.local.stream_info(subjects.STREAM_RESULTS)
    assert info
    found = []
    for seq in range(1, int(info["state"]["last_seq"]) + 1):
        stored = await bus.local.message(subjects.STREAM_RESULTS, seq=seq)
        if stored and stored.subject == subjects.result(device, command_id):
            found.append(CommandResult.from_bytes(stored.data))
    return found


async def outcome(bus: Bus, command_id: str, device: str = "pi-7") -> CommandResult:
    """The outcome, as soon as the hub has it."""

    async def look() -> CommandResult | None:
        return next((each for each in await results(bus, command_id, device) if each.step == "outcome"), None)

    return await eventually(look, f"outcome of {command_id}")  # type: ignore[return-value]


async def outcomes(bus: Bus, command_id: str) -> list[str | None]:
    return [each.outcome for each in await results(bus, command_id) if each.step == "outcome"]


async def waiting(bus: Bus) -> int:
    """Commands that no device acknowledged yet."""
    info = await bus.local.stream_info(subjects.STREAM_COMMANDS)
    assert info
    return int(info["state"]["messages"])


async def status(bus: Bus, name: str, state: str, revision: int = 0, device: str = "pi-7") -> ConfigStatus:
    """The reported status of an item, as soon as it is `state` (of that revision)."""
    bucket = Bucket(bus.local, subjects.BUCKET_CONFIG_STATUS)

    async def look() -> ConfigStatus | None:
        entry = await bucket.get(subjects.config_status(device, name))
        found = ConfigStatus.from_bytes(entry.value) if entry else None
        return found if found and found.state == state and found.revision >= revision else None

    return await eventually(look, f"{name} is {state}")  # type: ignore[return-value]


async def desire(bus: Bus, key: str, values: Mapping[str, Any]) -> int:
    return await Bucket(bus.local, subjects.BUCKET_CONFIG).put(key, json.dumps(values).encode())
