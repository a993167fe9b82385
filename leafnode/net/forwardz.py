"""/forwardz and the forwards' part of /metrics: what waits for the hub, how old it is, how fast it goes. Pure.

One entry a forward, with its classes and their lanes. `eta_s` is what waits divided by the rate of late; null: nothing
goes now. Ages are of the oldest message that waits; null: there is none, or it is not known yet.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from leafnode.forward.plan import SECOND, Forward
from leafnode.net.metrics import Sample
from leafnode.net.varz import rfc3339

if TYPE_CHECKING:
    from leafnode.forward.flow import Flow, Group
    from leafnode.forward.lane import Lane


class Running(Protocol):
    """A forward that runs."""

    forward: Forward
    flow: "Flow | None"
    trouble: str

    def rate(self) -> float:
        """Messages that the hub took in a second, of late."""
        ...

    def oldest_ns(self, lane: "Lane") -> int | None:
        """When the stream took the oldest message that waits in a lane."""
        ...


def forwardz(server_id: str, now_ns: int, forwards: Iterable[Running]) -> dict[str, Any]:
    """The whole answer."""
    shown = [_forward(one, now_ns) for one in forwards]
    return {"server_id": server_id, "now": rfc3339(now_ns), "forwards": shown}


def _forward(running: Running, now_ns: int) -> dict[str, Any]:
    forward, flow = running.forward, running.flow
    shown: dict[str, Any] = {
        "name": forward.name,
        "account": forward.account,
        "stream": forward.stream,
        "to": {"stream": forward.to.stream, "domain": forward.to.domain, "subject": forward.to.subject or ">"},
        "state": state_of(running),
        "reason": _reason(running),
    }
    if flow is None:
        return shown
    messages, size = backlog(flow)
    rate = running.rate()
    ages = [age for group in flow.groups if (age := _age(running, group, now_ns)) is not None]
    return shown | {
        "messages": messages,
        "bytes": size,
        "oldest_s": max(ages, default=None),
        "rate": round(rate, 3),
        "eta_s": 0 if not messages else round(messages / rate, 1) if rate else None,
        "delivered": sum(lane.memory.delivered for lane in flow.main_lanes),
        "delivered_bytes": sum(lane.memory.delivered_bytes for lane in flow.main_lanes),
        "not_delivered": dict(sorted(flow.not_delivered.items())),
        "receipts_waiting": len(flow.tallies),
        "advisories_suppressed": flow.suppressed,
        "classes": [_class(running, group, now_ns) for group in flow.groups],
    }


def state_of(running: Running) -> str:
    """`running` if all lanes are, else what the worst one is."""
    if running.flow is None or running.trouble:
        return "waiting"
    states = {lane.state for lane in running.flow.lanes}
    return next((state for state in ("refused", "down", "waiting", "opening") if state in states), "running")


def _reason(running: Running) -> str:
    if running.trouble or running.flow is None:
        return running.trouble
    return next((lane.reason for lane in running.flow.lanes if lane.state == state_of(running) and lane.reason), "")


def backlog(flow: "Flow") -> tuple[int, int]:
    """Messages that wait for the hub, and their bytes."""
    waiting = [group.backlog for group in flow.groups]
    return sum(messages for messages, _ in waiting), sum(size for _, size in waiting)


def _age(running: Running, group: "Group", now_ns: int) -> float | None:
    times = [running.oldest_ns(lane) for lane in (*group.lanes, *group.old) if lane.memory.backlog]
    known = [when for when in times if when]
    return round(max(0, now_ns - min(known)) / SECOND, 3) if known else None


def _class(running: Running, group: "Group", now_ns: int) -> dict[str, Any]:
    messages, size = group.backlog
    return {
        "name": group.plan.name,
        "priority": group.plan.priority,
        "messages": messages,
        "bytes": size,
        "oldest_s": _age(running, group, now_ns),
        "policy": group.plan.budget.policy,
        "limit_bytes": group.plan.budget.bytes,
        "senders": len(group.sampler.senders),
        "lanes": [_lane(lane) for lane in (*group.lanes, *group.old)],
    }


def _lane(lane: "Lane") -> dict[str, Any]:
    return {
        "name": lane.name,
        "state": lane.state,
        "reason": lane.reason,
        "position": lane.position,
        "in_flight": lane.in_flight,
        "messages": lane.memory.backlog,
        "bytes": lane.memory.backlog_bytes,
        "sessions_lost": lane.resets,
    }


def samples(forwards: Sequence[Running], now_ns: int) -> Iterator[Sample]:
    """For /metrics."""
    for running in forwards:
        flow, forward = running.flow, running.forward
        if flow is None:
            continue
        of = {"forward": forward.name, "account": forward.account, "stream": forward.stream}
        yield Sample("leafnode_forward_running", state_of(running) == "running", of)
        yield Sample("leafnode_forward_rate", round(running.rate(), 3), of)
        yield Sample("leafnode_forward_delivered_total", sum(lane.memory.delivered for lane in flow.main_lanes), of)
        size = sum(lane.memory.delivered_bytes for lane in flow.main_lanes)
        yield Sample("leafnode_forward_delivered_bytes_total", size, of)
        for reason, count in sorted(flow.not_delivered.items()):
            yield Sample("leafnode_forward_not_delivered_total", count, {**of, "reason": reason})
        for group in flow.groups:
            own = {**of, "class": group.plan.name}
            yield Sample("leafnode_forward_backlog_messages", group.backlog[0], own)
            yield Sample("leafnode_forward_backlog_bytes", group.backlog[1], own)
            yield Sample("leafnode_forward_backlog_age_seconds", _age(running, group, now_ns) or 0, own)
