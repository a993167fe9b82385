"""The same requests to both servers, and what differs in their answers.

Of results every key and value is compared, of errors type, codes and text (see `essence`). Left out are fields that
differ from run to run or name the server: see VOLATILE.
"""

import asyncio
import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

import nats

from tests.support.servers import Broker

VOLATILE = {
    "created",
    "ts",
    "time",
    "cluster",
    "first_ts",
    "last_ts",
    "last_active",
    "active",
    "event_time",
    "id",
}
SILENCE_SECONDS = 1.5  # not answered within: silence, which is compared as well
VERSIONS = ("_nats.ver", "_nats.level")  # metadata that a server adds about itself

Step = tuple[str, Any] | tuple[str, Any, dict[str, str]]
"""An API verb, or `PUB subject`; the body (an object, a text or nothing); headers."""


def tidy(value: Any) -> Any:
    """Without what no two runs have in common."""
    if isinstance(value, dict):
        return {key: tidy(item) for key, item in value.items() if key not in VOLATILE and key not in VERSIONS}
    if isinstance(value, list):
        return [tidy(item) for item in value]
    return value


def essence(answer: Any) -> Any:
    """Of an error, what clients go by: its type, codes and text.

    Results without content beside an error depend on nats-server's version; what follows "invalid JSON:" are words of
    Go's library.
    """
    if not isinstance(answer, dict) or "error" not in answer:
        return answer
    error = dict(answer["error"])
    if error["description"].startswith("invalid JSON:"):
        error["description"] = "invalid JSON"
    return {"type": answer.get("type"), "error": error}


async def answers(broker: Broker, steps: Sequence[Step]) -> list[Any]:
    """What the server says to each step; a message that is delivered counts as an answer too."""
    client = await nats.connect(broker.url, allow_reconnect=False)
    found: list[Any] = []
    for verb, body, *headers in steps:
        payload = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        subject = verb[4:] if verb.startswith("PUB ") else f"$JS.API.{verb.split()[0]}"
        try:
            message = await client.request(
                subject, payload, timeout=SILENCE_SECONDS, headers=headers[0] if headers else None
            )
        except nats.errors.NoRespondersError:
            found.append("no responders")
            continue
        except nats.errors.TimeoutError:
            found.append("silence")
            continue
        try:
            found.append(essence(tidy(json.loads(message.data))))
        except ValueError:
            found.append((message.data, without_time(message.headers)))
    await client.close()
    return found


def without_time(headers: dict[str, str] | None) -> dict[str, str]:
    return {name: value for name, value in (headers or {}).items() if name != "Nats-Time-Stamp"}


def whole(answer: Any) -> Any:
    return answer


async def differences(
    brokers: Sequence[Broker],
    steps: Sequence[Step],
    exceptions: Collection[str] = (),
    part: Callable[[Any], Any] = whole,
) -> list[Any]:
    """Fail with what the two answer differently; returns leafnode's answers.

    `exceptions`: verbs that may differ; `part`: what of an answer is compared.
    """
    theirs, ours = await asyncio.gather(*(answers(broker, steps) for broker in brokers))
    different = [
        f"{' '.join(map(str, step))}\n  nats-server: {their}\n  leafnode:    {our}"
        for step, their, our in zip(steps, theirs, ours, strict=True)
        if part(their) != part(our) and step[0] not in exceptions
    ]
    assert not different, "\n".join(different)
    return ours
