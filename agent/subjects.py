"""Every subject, bucket and stream of the fleet, built and taken apart here and nowhere else.

One NATS account is one fleet. A device id is 1 to 63 of `a-z 0-9 -`; names of groups, config items and commands are
1 to 63 of `A-Za-z0-9_-`.

    device.info, fleet.query                 live query of the whole fleet (scatter-gather)
    fleet.query.group.GROUP                  of one group
    fleet.query.dev.ID                       of one device
    fleet.cmd.ID.CMD                         command CMD for device ID      stream FLEET_COMMANDS (at the hub)
    fleet.result.ID.CMD                      what became of it              stream FLEET_RESULTS  (at the site first)
    tele.ID.METRIC                           a reading                      stream TELEMETRY      (at the site first)
    tele.ID.watch.NAME                       what a standing query found    stream TELEMETRY      (at the site first)
    fleet_devices     ID                     inventory          (bucket, at the hub)
    fleet_presence    ID                     who is there       (bucket, at the hub; keys expire)
    fleet_config      all.NAME | group.GROUP.NAME | device.ID.NAME   desired configuration (hub, mirrored at sites)
    fleet_config      schema.NAME            what it must look like
    fleet_config_status   ID.NAME            reported configuration (bucket, at the hub)
    fleet_watches     NAME                   standing queries       (bucket, at the hub, mirrored at sites)
"""

import re
from typing import Final

from agent.errors import UsageError

DEVICE_INFO: Final = "device.info"
QUERY_ALL: Final = "fleet.query"
SERVICE_NAME: Final = "fleet-agent"

STREAM_COMMANDS: Final = "FLEET_COMMANDS"
STREAM_RESULTS: Final = "FLEET_RESULTS"
STREAM_TELEMETRY: Final = "TELEMETRY"

COMMANDS_ALL: Final = "fleet.cmd.>"
RESULTS_ALL: Final = "fleet.result.>"
TELEMETRY_ALL: Final = "tele.>"
READINGS_ALL: Final = "tele.*.*"  # without what standing queries found

BUCKET_DEVICES: Final = "fleet_devices"
BUCKET_PRESENCE: Final = "fleet_presence"
BUCKET_CONFIG: Final = "fleet_config"
BUCKET_CONFIG_STATUS: Final = "fleet_config_status"
BUCKET_WATCHES: Final = "fleet_watches"

_DEVICE_ID = re.compile(r"[a-z0-9-]{1,63}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")


def check_device_id(text: str) -> str:
    """Return `text` if it is a device id, else raise UsageError saying what is allowed."""
    if not _DEVICE_ID.fullmatch(text):
        raise UsageError(f"device id {text!r} is not valid: use 1 to 63 of a-z, 0-9 and '-'")
    return text


def check_name(text: str, what: str = "name") -> str:
    """Return `text` if it is a name of a group, config item or command, else raise UsageError."""
    if not _NAME.fullmatch(text):
        raise UsageError(f"{what} {text!r} is not valid: use 1 to 63 of A-Z, a-z, 0-9, '_' and '-'")
    return text


def query_all(role: str = "") -> str:
    """Where everyone is asked: by whoever may see everything, or in a role."""
    return f"fleet.as.{check_name(role, 'role')}.query" if role else QUERY_ALL


def query_group(group: str, role: str = "") -> str:
    return f"{query_all(role)}.group.{check_name(group, 'group')}"


def query_device(device_id: str, role: str = "") -> str:
    return f"{query_all(role)}.dev.{check_device_id(device_id)}"


def command(device_id: str, command_id: str) -> str:
    return f"fleet.cmd.{check_device_id(device_id)}.{check_name(command_id, 'command id')}"


def commands_of(device_id: str) -> str:
    return f"fleet.cmd.{check_device_id(device_id)}.>"


def command_consumer(device_id: str) -> str:
    """Name of the device's durable consumer on FLEET_COMMANDS."""
    return f"agent-{check_device_id(device_id)}"


def result(device_id: str, command_id: str) -> str:
    return f"fleet.result.{check_device_id(device_id)}.{check_name(command_id, 'command id')}"


def results_of(device_id: str = "*", command_id: str = "*") -> str:
    return f"fleet.result.{device_id}.{command_id}"


def device_and_command(subject: str) -> tuple[str, str]:
    """Take `fleet.cmd.ID.CMD` or `fleet.result.ID.CMD` apart into (ID, CMD)."""
    tokens = subject.split(".")
    if len(tokens) != 4 or tokens[0] != "fleet" or tokens[1] not in ("cmd", "result"):
        raise UsageError(f"subject {subject!r} is neither fleet.cmd.ID.CMD nor fleet.result.ID.CMD")
    return tokens[2], tokens[3]


def telemetry(device_id: str, metric: str) -> str:
    return f"tele.{check_device_id(device_id)}.{check_name(metric, 'metric')}"


def watch(device_id: str, name: str) -> str:
    """Where a device tells what a standing query found."""
    return f"tele.{check_device_id(device_id)}.watch.{check_name(name, 'watch')}"


def watch_of_all(name: str) -> str:
    """What every device tells of a standing query."""
    return f"tele.*.watch.{check_name(name, 'watch')}"


def config_all(name: str) -> str:
    return f"all.{check_name(name, 'config name')}"


def config_group(group: str, name: str) -> str:
    return f"group.{check_name(group, 'group')}.{check_name(name, 'config name')}"


def config_device(device_id: str, name: str) -> str:
    return f"device.{check_device_id(device_id)}.{check_name(name, 'config name')}"


def config_schema(name: str) -> str:
    return f"schema.{check_name(name, 'config name')}"


def config_status(device_id: str, name: str) -> str:
    return f"{check_device_id(device_id)}.{check_name(name, 'config name')}"
