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
from agent.errors import ConfigError, FleetError
from agent.settings import Settings, load
from leafnode import __version__
from leafnode.base import logs

DEFAULT_FILE: Final = Path("/etc/fleetleaf/agent.toml")
EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        settings = load(arguments.config)
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
    return parser


def _checked(path: Path, settings: Settings) -> int:
    """What reading the file alone does not find: credentials, certificates, addresses."""
    prepare(settings.bus_options())
    sys.stderr.write(f"{path}: good; device {settings.device_id}, {len(settings.config)} managed files\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
