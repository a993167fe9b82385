"""The streams and buckets of a fleet at its hub, as JetStream spells them (docs/fleet-protocol.md).

Ages and windows are nanoseconds on this wire. What `fleet init` finds in place is compared by the fields named here;
limits that an operator changed afterwards are kept, not fought over.
"""

from collections.abc import Mapping
from typing import Any, Final

from agent import subjects

NS: Final = 1_000_000_000  # nanoseconds in a second
DAY_S: Final = 86_400

DUPLICATE_WINDOW_S: Final = 120  # JetStream's default; a publisher that got no acknowledgement tries again within it
COMMANDS_MAX_BYTES: Final = 256 << 20  # 256 MiB of waiting commands; beyond it new ones are refused, none is lost
RESULTS_MAX_AGE_S: Final = 30 * DAY_S  # how long `fleet commands` and `fleet result` look back
RESULTS_MAX_BYTES: Final = 1 << 30  # 1 GiB: 30 days of a thousand devices with output, and an end for a runaway script
TELEMETRY_MAX_AGE_S: Final = 7 * DAY_S  # `fleet top` needs the newest only; long keeping is a database's work
TELEMETRY_MAX_BYTES: Final = 4 << 30  # 4 GiB: a thousand devices, five metrics, every ten seconds for about a day
CONFIG_HISTORY: Final = 20  # revisions a key keeps
MARKER_S: Final = 30 * DAY_S  # how long an expired presence key is remembered as "was here"

SOURCED: Final = (subjects.STREAM_RESULTS, subjects.STREAM_TELEMETRY)
"""Streams that the hub fills from its sites."""

Config = dict[str, Any]


def streams() -> list[Config]:
    """Everything that `fleet init` makes, in its order."""
    return [
        _stream(
            subjects.STREAM_COMMANDS,
            subjects.COMMANDS_ALL,
            "commands on their way to devices",
            retention="workqueue",
            discard="new",
            max_bytes=COMMANDS_MAX_BYTES,
        ),
        _stream(
            subjects.STREAM_RESULTS,
            subjects.RESULTS_ALL,
            "what became of commands",
            max_age=RESULTS_MAX_AGE_S * NS,
            max_bytes=RESULTS_MAX_BYTES,
        ),
        _stream(
            subjects.STREAM_TELEMETRY,
            subjects.TELEMETRY_ALL,
            "readings of devices",
            max_age=TELEMETRY_MAX_AGE_S * NS,
            max_bytes=TELEMETRY_MAX_BYTES,
        ),
        _bucket(subjects.BUCKET_CONFIG, "desired configuration", history=CONFIG_HISTORY),
        _bucket(subjects.BUCKET_CONFIG_STATUS, "reported configuration"),
        _bucket(subjects.BUCKET_WATCHES, "standing queries"),
        _bucket(subjects.BUCKET_DEVICES, "inventory"),
        _bucket(subjects.BUCKET_PRESENCE, "who is there", allow_msg_ttl=True, subject_delete_marker_ttl=MARKER_S * NS),
    ]


def stream_of(bucket: str) -> str:
    """The stream below a key-value bucket (ADR-8)."""
    return f"KV_{bucket}"


def title(name: str) -> str:
    """A stream as people know it: `bucket fleet_config` or `stream TELEMETRY`."""
    return f"bucket {name[3:]}" if name.startswith("KV_") else f"stream {name}"


def _stream(name: str, subject: str, description: str, **more: Any) -> Config:
    return {
        "name": name,
        "description": description,
        "subjects": [subject],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msg_size": -1,
        "max_msgs_per_subject": -1,
        "num_replicas": 1,
        "duplicate_window": DUPLICATE_WINDOW_S * NS,
        "allow_direct": True,
        **more,
    }


def _bucket(bucket: str, description: str, *, history: int = 1, **more: Any) -> Config:
    """ADR-8: the stream settings that make a key-value bucket."""
    return _stream(
        stream_of(bucket),
        f"$KV.{bucket}.>",
        description,
        max_msgs_per_subject=history,
        discard="new",
        allow_rollup_hdrs=True,
        deny_delete=True,
        **more,
    )


ESSENTIAL: Final = ("subjects", "retention", "allow_msg_ttl", "allow_rollup_hdrs", "deny_delete")
"""Fields without which the fleet does not work; everything else is the operator's to tune."""


def conflicts(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Which essential fields of a stream in place differ, in words; empty when it will do."""
    return [
        f"{field} is {found.get(field) or 'not set'}, not {wanted[field]}"
        for field in ESSENTIAL
        if wanted.get(field) and found.get(field) != wanted[field]
    ]


def external_api(domain: str) -> str:
    """The JetStream API prefix of a domain (ADR-19 calls it external)."""
    return f"$JS.{domain}.API"


def site_domains(config: Mapping[str, Any]) -> list[str]:
    """The sites whose stream of the same name this one is filled from."""
    found = []
    for source in config.get("sources") or ():
        tokens = ((source.get("external") or {}).get("api") or "").split(".")
        if source.get("name") == config.get("name") and len(tokens) == 3 and tokens[0] == "$JS" and tokens[2] == "API":
            found.append(tokens[1])
    return found


def with_site(config: Mapping[str, Any], domain: str) -> Config:
    """`config` with the site's stream of the same name as a source; as it was when it is one already."""
    if domain in site_domains(config):
        return dict(config)
    source = {"name": config["name"], "external": {"api": external_api(domain)}}
    return {**config, "sources": [*(config.get("sources") or ()), source]}


def without_site(config: Mapping[str, Any], domain: str) -> Config:
    """`config` without that source; other sources stay."""
    gone = external_api(domain)
    kept = [each for each in config.get("sources") or () if (each.get("external") or {}).get("api") != gone]
    changed = {key: value for key, value in config.items() if key != "sources"}
    return {**changed, "sources": kept} if kept else changed
