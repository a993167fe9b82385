"""`fleet-agent -c FILE`: arguments, logging, exit codes.

Exit codes: 0 stopped as asked (or `--check` found nothing wrong), 1 failed while running, 2 the settings or arguments
cannot be used.
"""

import argparse
import asyncio
import logging
import sys
from pathlib import Path
from typing import Final

from agent.bus import prepare
from agent.errors import ConfigError, FleetError, UsageError
from agent.payloads import rfc3339
from agent.settings import Settings, load
from leafnode import __version__
from leafnode.base import logs
from leafnode.base.nearest import hint

DEFAULT_FILE: Final = Path("/etc/fleetleaf/agent.toml")
EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        settings = load(arguments.config)
        if arguments.command == "override":
            return _override(arguments, settings)
        if arguments.check:
            return _checked(arguments.config, settings)
    except FleetError as error:
        sys.stderr.write(f"fleet-agent: {error}\n")
        return EXIT_SETTINGS
    logs.setup_agent(getattr(logging, settings.log_level.upper()))
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # what it says, agent.bus says once and in words
    from agent.app import run  # after the settings are known to be good: `--check` stays quick

    try:
        asyncio.run(run(settings))
    except ConfigError as error:
        logging.getLogger("agent").critical("%s", error)
        return EXIT_SETTINGS
    except FleetError as error:
        logging.getLogger("agent").critical("%s", error)
        return EXIT_FAILED
    except BaseExceptionGroup as errors:
        expected, others = errors.split(FleetError)
        for each in _flat(expected):
            logging.getLogger("agent").critical("%s", each)
        if others:
            logging.getLogger("agent").critical("agent failed", exc_info=others)
        return EXIT_FAILED
    return 0


def _flat(errors: BaseExceptionGroup[FleetError] | None) -> list[BaseException]:
    """The errors themselves, whatever task groups they came through."""
    if errors is None:
        return []
    found: list[BaseException] = []
    for each in errors.exceptions:
        found += _flat(each) if isinstance(each, BaseExceptionGroup) else [each]
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fleet-agent", description="Fleetleaf's device agent.")
    parser.add_argument(
        "-c", "--config", type=Path, default=DEFAULT_FILE, help="settings file (default: %(default)s)", metavar="FILE"
    )
    parser.add_argument("--check", action="store_true", help="read the settings, say whether they are good, and end")
    parser.add_argument("--version", action="version", version=f"fleet-agent {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    local = commands.add_parser("override", help="lay values on a configured item for some time, on this device only")
    local.add_argument("name", metavar="NAME", help="the item, as the settings call it")
    how = local.add_mutually_exclusive_group(required=True)
    how.add_argument("--file", metavar="FILE", help="JSON; TOML if named so; text for format text; - is stdin")
    how.add_argument("--clear", action="store_true", help="end the override now")
    local.add_argument("--for", dest="for_", metavar="TIME", default="1h", help="90s, 15min, 2h, 3d (default: 1h)")
    return parser


def _override(arguments: argparse.Namespace, settings: Settings) -> int:
    """Write or remove a local override; the running agent finds it within a second."""
    from agent import override

    name: str = arguments.name
    if name not in settings.config:
        known = ", ".join(settings.config) or "none"
        raise UsageError(f"no item {name!r} in {arguments.config}{hint(name, settings.config)} (items: {known})")
    try:
        if arguments.clear:
            override.clear(settings.state_dir, name)
            sys.stderr.write(f"{name}: not overridden\n")
            return 0
        values = override.values_of(arguments.file, settings.config[name])
        made = override.write(settings.state_dir, name, values, override.seconds(arguments.for_))
    except OSError as error:
        raise ConfigError(f"state_dir {settings.state_dir} cannot be written: {error.strerror}") from error
    sys.stderr.write(f"{name}: overridden until {rfc3339(made.until)}\n")
    return 0


def _checked(path: Path, settings: Settings) -> int:
    """What reading the file alone does not find: credentials, certificates, addresses."""
    prepare(settings.bus_options())
    sys.stderr.write(f"{path}: good; device {settings.device_id}, {len(settings.config)} managed files\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
