"""`leafnode status`: how a running leafnode is doing, for people, from its monitoring port.

Exit status: 0 all is well, 1 something is not (a link down, a forward that does not run, the store refuses), 2 nobody
answers.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

TIMEOUT_SECONDS = 5.0
DEFAULT_URL = "http://127.0.0.1:8222"
_UNITS = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB"))


def main(args: Sequence[str]) -> int:
    """Run the command with its arguments; returns the exit status."""
    parser = argparse.ArgumentParser(prog="leafnode status", description="How a running leafnode is doing.")
    parser.add_argument("--url", default=DEFAULT_URL, help=f"its monitoring address (default {DEFAULT_URL})")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    options = parser.parse_args(list(args))
    try:
        found = collect(options.url.rstrip("/"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        sys.stderr.write(
            f"leafnode status: {options.url} does not answer ({reason}): is it running, with http_port (-m) set?\n"
        )
        return 2
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if options.json else "\n".join(lines(found)) + "\n")
    return 0 if found["ok"] else 1


def collect(url: str) -> dict[str, Any]:
    """What the endpoints say.

    Raises:
        OSError: nobody answers.
        ValueError: it is not a leafnode.
    """
    server, links, forwards = _get(f"{url}/varz"), _get(f"{url}/linkz"), _get(f"{url}/forwardz")
    health = _get(f"{url}/healthz")
    streams = [
        {"account": account["name"], **stream}
        for account in _get(f"{url}/jsz?accounts=1&streams=1").get("account_details") or []
        for stream in account.get("stream_detail") or []
    ]
    found: dict[str, Any] = {
        "server": {name: server.get(name) for name in ("server_name", "version", "uptime", "mem", "connections")},
        "health": health,
        "links": links.get("links") or [],
        "streams": [
            {
                "account": stream["account"],
                "name": stream["name"],
                "messages": stream["state"]["messages"],
                "bytes": stream["state"]["bytes"],
            }
            for stream in streams
        ],
        "forwards": forwards.get("forwards") or [],
    }
    well = [link.get("state") == "up" for link in found["links"]]
    well += [forward["state"] == "running" for forward in found["forwards"]]
    found["ok"] = health.get("status") == "ok" and all(well)
    return found


def _get(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()  # /healthz says what is wrong with a status of 503
    value = json.loads(body)
    if not isinstance(value, dict):
        raise ValueError(f"{url} is not a leafnode's")
    return value


def lines(found: dict[str, Any]) -> list[str]:
    """The page."""
    server, health = found["server"], found["health"]
    shown = [
        f"{server['server_name']}  up {server['uptime']}  {size(server['mem'] or 0)} of memory  "
        f"{server['connections']} clients  {health.get('error') or health.get('status')}"
    ]
    shown += ["", "links"] if found["links"] else ["", "no links"]
    shown += [_link(link) for link in found["links"]]
    if found["forwards"]:
        shown += ["", "forwards"]
        for forward in found["forwards"]:
            shown += _forward(forward)
    if found["streams"]:
        shown += ["", "streams"]
        shown += [
            f"  {one['name']:<24} {one['messages']:>10} messages  {size(one['bytes'])}" for one in found["streams"]
        ]
    return shown


def _link(link: dict[str, Any]) -> str:
    where = link.get("hub") or link["urls"][0]
    state = link["state"]
    if state == "up":
        outages = link.get("outages", 0)
        return f"  {where}: up for {span(link.get('up_s'))}, {outages} outage{'' if outages == 1 else 's'}"
    waiting = f"{link.get('stored_messages', 0)} messages ({size(link.get('stored_bytes') or 0)}) stored meanwhile"
    return f"  {where}: {state}, down for {span(link.get('down_s'))}: {link.get('last_error') or '?'}; {waiting}"


def _forward(forward: dict[str, Any]) -> list[str]:
    target = f"{forward['to']['stream']}@{forward['to']['domain']}"
    head = f"  {forward['name']}: {forward['stream']} -> {target}: {forward['state']}"
    if forward["reason"]:
        head += f" ({forward['reason']})"
    if "messages" not in forward:
        return [head]
    going = f"{forward['rate']:g} messages/s"
    if forward["messages"]:
        going += f", drained in {span(forward['eta_s'])}" if forward["eta_s"] is not None else ", not draining"
    shown = [head, f"    delivered {forward['delivered']}; backlog {_waiting(forward)}; {going}"]
    if len(forward["classes"]) > 1:
        shown += [f"    {one['name']:<20} {_waiting(one)}" for one in forward["classes"]]
    shown += [f"    not delivered, {reason}: {count}" for reason, count in forward["not_delivered"].items()]
    return shown


def _waiting(one: dict[str, Any]) -> str:
    if not one["messages"]:
        return "empty"
    age = f", oldest {span(one['oldest_s'])}" if one["oldest_s"] is not None else ""
    return f"{one['messages']} messages, {size(one['bytes'])}{age}"


def size(count: int) -> str:
    """Bytes in words."""
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"


def span(seconds: float | None) -> str:
    """A time in words: its two largest units."""
    if seconds is None:
        return "?"
    rest = int(seconds)
    parts = []
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if rest >= unit:
            parts.append(f"{rest // unit} {name}")
            rest %= unit
    return " ".join(parts[:2]) or "0 s"
