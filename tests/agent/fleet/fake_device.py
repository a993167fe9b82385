"""A device for tests: speaks docs/fleet-protocol.md over a real broker and does as the test tells it.

It answers queries with scripted replies, reports configuration, and "runs" commands by a function; nothing is read from
the machine. `tests-only`: the real agent is tested beside it.
"""

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

MOMENT = "2026-11-20T12:00:00.000Z"


def rfc3339() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class FakeDevice:
    """`info` is the info document; `answer` may replace the reply to a query by a dict, or None for silence."""

    def __init__(
        self,
        url: str,
        device: str,
        *,
        groups: tuple[str, ...] = (),
        tags: dict[str, str] | None = None,
        info: dict[str, Any] | None = None,
        answer: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None,
        run: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        config: Callable[[str, dict[str, Any]], dict[str, Any]] | None = None,
        items: tuple[str, ...] = (),
    ) -> None:
        self.url = url
        self.device = device
        self.groups = groups
        self.tags = tags or {}
        self.info = info or {"os": {"name": "Linux"}, "host": {"name": device}}
        self._answer = answer
        self._run = run
        self._config = config
        self._items = items
        self._client = Client()
        self._tasks: list[asyncio.Task[None]] = []
        self.queries: list[dict[str, Any]] = []
        self.commands: list[dict[str, Any]] = []

    async def __aenter__(self) -> "FakeDevice":
        await self._client.connect(self.url, allow_reconnect=False)
        await self.announce()
        for subject in ("device.info", "fleet.query", f"fleet.query.dev.{self.device}"):
            await self._client.subscribe(subject, cb=self._queried)
        for group in self.groups:
            await self._client.subscribe(f"fleet.query.group.{group}", cb=self._queried)
        await self._client.flush()
        await self.present("up")
        if self._run:
            self._tasks.append(asyncio.create_task(self._work(), name=f"{self.device} commands"))
        if self._items:
            self._tasks.append(asyncio.create_task(self._watch(), name=f"{self.device} config"))
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    async def announce(self) -> None:
        """Put the inventory entry."""
        await self._put(
            "fleet_devices",
            self.device,
            {
                "v": 1,
                "device": self.device,
                "digest": "d",
                "groups": list(self.groups),
                "tags": self.tags,
                "agent_version": "9.9.9",
                "facts": {"os": {"name": "Linux", "version": "12"}},
                "seen": rfc3339(),
            },
        )

    async def present(self, state: str, ttl: str = "10m") -> None:
        """Put the presence entry."""
        body = {
            "v": 1,
            "device": self.device,
            "boot_id": "b",
            "started": MOMENT,
            "seq": 1,
            "interval_s": 10,
            "state": state,
        }
        await self._put("fleet_presence", self.device, body, {"Nats-TTL": ttl})

    async def _put(self, bucket: str, key: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        await self._client.jetstream().publish(f"$KV.{bucket}.{key}", json.dumps(body).encode(), headers=headers)

    async def _queried(self, message: Msg) -> None:
        query = json.loads(message.data) if message.data else {}
        self.queries.append(query)
        reply: dict[str, Any] | None
        if "FROM config" in query.get("sql", ""):
            [name] = re.findall("'(.*)'", query["sql"])
            reply = {"matched": True, "columns": ["name"], "rows": [[name]] if name in self._items else []}
        elif self._answer is not None and query:
            reply = self._answer(query)
        elif not query:
            reply = {"matched": True, "info": {**self.info, "groups": list(self.groups), "tags": self.tags}}
        else:
            reply = {"matched": True, "columns": ["host.name"], "rows": [[self.device]]}
        same = {"id": query["id"]} if "id" in query else {}
        if reply is not None:
            await message.respond(json.dumps({"v": 1, "device": self.device, **same, **reply}).encode())

    async def _work(self) -> None:
        stream = self._client.jetstream()
        consumer = await stream.pull_subscribe(
            f"fleet.cmd.{self.device}.>", durable=f"agent-{self.device}", stream="FLEET_COMMANDS"
        )
        while True:
            with suppress(TimeoutError):
                for message in await consumer.fetch(1, timeout=5):
                    await self._execute(json.loads(message.data))
                    await message.ack_sync()

    async def _execute(self, command: dict[str, Any]) -> None:
        assert self._run is not None
        self.commands.append(command)
        await self.result(command["id"], {"step": "started", "started": rfc3339()})
        done = {"step": "outcome", "outcome": "succeeded", "exit_code": 0, **self._run(command)}
        await self.result(command["id"], {**done, "started": rfc3339(), "finished": rfc3339()})

    async def result(self, command: str, fields: dict[str, Any]) -> None:
        """Report a step of a command."""
        body = {"v": 1, "id": command, "device": self.device, **fields}
        headers = {"Nats-Msg-Id": f"{command}.{self.device}.{fields['step']}"}
        subject = f"fleet.result.{self.device}.{command}"
        await self._client.jetstream().publish(subject, json.dumps(body).encode(), headers=headers)

    async def telemetry(self, metric: str, values: dict[str, float]) -> None:
        body = {"v": 1, "device": self.device, "metric": metric, "at": rfc3339(), "values": values}
        await self._client.jetstream().publish(f"tele.{self.device}.{metric}", json.dumps(body).encode())

    async def _watch(self) -> None:
        """Report each item whenever one of its layers changes."""
        bucket = await self._client.jetstream().key_value("fleet_config")
        held: dict[str, tuple[int, dict[str, Any]]] = {}
        watcher = await bucket.watchall()
        started = False
        async for entry in watcher:
            if entry is None:
                started = True
                continue
            held.pop(entry.key, None)
            if not entry.operation:
                held[entry.key] = (entry.revision, json.loads(entry.value))
            name = entry.key.rpartition(".")[2]
            if started and name in self._items:
                await self.report(name, held)

    async def report(self, name: str, held: dict[str, tuple[int, dict[str, Any]]]) -> None:
        """Put the status of one item as merged from `held`."""
        keys = [f"all.{name}", *(f"group.{group}.{name}" for group in self.groups), f"device.{self.device}.{name}"]
        mine = {key: held[key] for key in keys if key in held}
        value: dict[str, Any] = {}
        for _, layer in mine.values():
            value.update(layer)
        verdict = self._config(name, value) if self._config else {"state": "applied"}
        body = {
            "v": 1,
            "device": self.device,
            "name": name,
            "revision": max((revision for revision, _ in mine.values()), default=0),
            "revisions": {key: revision for key, (revision, _) in mine.items()},
            "digest": "d",
            "error": "",
            "at": rfc3339(),
            **verdict,
        }
        await self._put("fleet_config_status", f"{self.device}.{name}", body)
