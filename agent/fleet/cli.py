"""`fleet`: the operator's command line. Reads the command line, opens the fleet, hands over to one command, ends.

Every command is a function (arguments, fleet, output, stop) -> Exit in one of the cli_* modules, imported only when it
is named: `fleet --help` must be instant. Ctrl-C sets `stop`; commands then finish with what they have.
"""

import importlib
import os
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from agent.errors import ConfigError, ConnectionFailed, FleetError, UsageError
from agent.fleet import arguments as command_line
from agent.fleet import settings
from agent.fleet.exits import Exit
from agent.fleet.output import Output

if TYPE_CHECKING:
    import asyncio

    from agent.fleet.client import Fleet

Command = Callable[[Namespace, "Fleet", Output, "asyncio.Event"], Awaitable[Exit]]

COMMANDS: Final = {
    "init": "cli_hub:init",
    "site add": "cli_hub:site_add",
    "site rm": "cli_hub:site_rm",
    "site ls": "cli_hub:site_ls",
    "ls": "cli_devices:ls",
    "info": "cli_devices:info",
    "top": "cli_devices:top",
    "query": "cli_query:query",
    "why": "cli_query:why",
    "watch add": "cli_watch:add",
    "watch ls": "cli_watch:ls",
    "watch rm": "cli_watch:rm",
    "watch show": "cli_watch:show",
    "watch follow": "cli_watch:follow",
    "config get": "cli_config:get",
    "config set": "cli_config:set_",
    "config rm": "cli_config:rm",
    "config history": "cli_config:history",
    "config revert": "cli_config:revert",
    "config edit": "cli_config:edit",
    "config apply": "cli_config:apply",
    "config explain": "cli_config:explain",
    "config status": "cli_config:status",
    "config diff": "cli_config:diff",
    "run": "cli_commands:run",
    "commands": "cli_commands:commands",
    "result": "cli_commands:result",
    "simulate": "cli_simulate:simulate",
    "timeline": "cli_timeline:timeline",
    "events": "cli_timeline:events",
}
"""Command -> module:function."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    output = Output()
    try:
        return int(_main(sys.argv[1:] if argv is None else argv, output))
    except (UsageError, ConfigError) as error:
        output.note(f"fleet: {error}")
        return int(Exit.USAGE)
    except ConnectionFailed as error:
        output.note(f"fleet: {error}")
        return int(Exit.UNREACHABLE)
    except FleetError as error:
        output.note(f"fleet: {error}")
        return int(Exit.FAILED)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:  # `fleet ... | head`: whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.OK)


def _main(argv: Sequence[str], output: Output) -> Exit:
    arguments = command_line.parse(argv)
    if arguments.command is None:
        output.line(command_line.OVERVIEW.format(server=_connection(arguments).server).rstrip())
        return Exit.OK
    if arguments.command == "version":
        from leafnode import __version__

        output.line(f"fleet {__version__}")
        return Exit.OK
    _set_up_logging(arguments.verbose)
    output.shape = arguments.shape
    if arguments.password:
        output.note("fleet: --password shows in process lists: FLEET_PASSWORD or the settings file keeps it private")
    import asyncio  # a third of the time that `fleet --help` would take

    return asyncio.run(_run(arguments, _connection(arguments), output))


def _connection(arguments: Namespace) -> settings.Connection:
    options = {key: getattr(arguments, key) for key in settings.ENVIRONMENT}
    return settings.resolve(options, os.environ, arguments.context)


def _set_up_logging(verbose: bool) -> None:
    """The connection's log lines are for --verbose; what matters is said as an error."""
    import logging

    if verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s", stream=sys.stderr)
    else:
        logging.getLogger().addHandler(logging.NullHandler())


async def _run(arguments: Namespace, connection: settings.Connection, output: Output) -> Exit:
    import asyncio
    import signal

    from agent.fleet.client import Fleet

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    working = asyncio.current_task()
    assert working is not None

    def interrupted() -> None:
        """The first Ctrl-C asks, the second insists."""
        if stop.is_set():
            working.cancel()
        stop.set()

    try:
        async with Fleet.open(connection) as fleet:
            loop.add_signal_handler(signal.SIGINT, interrupted)
            return await _function(arguments)(arguments, fleet, output, stop)
    except asyncio.CancelledError:
        return Exit.INTERRUPTED
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _function(arguments: Namespace) -> Command:
    subcommand = getattr(arguments, "subcommand", None)
    name = f"{arguments.command} {subcommand}" if subcommand else arguments.command
    module, _, function = COMMANDS[name].partition(":")
    command: Command = getattr(importlib.import_module(f"agent.fleet.{module}"), function)
    return command
