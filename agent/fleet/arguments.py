"""The tree of commands: every command with its help, its options and an example. Parsing only; nothing is done here.

The connection options may stand before or after the command's name. What stands after a lone `--` is the command line
for devices and is never looked at.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn

from agent.errors import PayloadError, UsageError
from agent.fleet import targets
from agent.fleet.presence import STATES
from leafnode.base.nearest import hint

OVERVIEW: Final = """\
fleet: look after a fleet of small devices over NATS

  set up     fleet init                                  streams and buckets on the hub
             fleet site add DOMAIN                       collect from a site's leafnode
  look       fleet ls                                    who is there
             fleet top                                   live load of every device
             fleet info ID                               everything about one device
             fleet timeline ID                           what happened to it
             fleet events                                who comes and goes, as it happens
  ask        fleet query "os.name = 'Android'"           the whole fleet, now
             fleet why ID "os.name = 'Android'"          which part is not so, with the values
             fleet watch add NAME "mem.percent > 90"     told when it changes: fleet watch follow NAME
  configure  fleet config set NAME KEY=VALUE --group G   and watch devices take it up
             fleet config status | explain | history | diff | revert | get | rm | edit | apply
  do         fleet run --on ID -- systemctl restart x    now, or when the device is back
             fleet commands | fleet result CMD           what became of it
  try        fleet simulate --devices 1000               a fleet of devices on this machine

Where the hub is: --server URL, FLEET_SERVER, or ~/.config/fleet/config.toml (now: {server}).
More: fleet COMMAND --help. Results go to stdout (--json and --csv for programs), all else to stderr.
"""

ON: Final = "these devices; @FILE: those in a file; -: those on standard input"

PROFILES: Final = ("healthy", "lan", "flaky-lte", "mixed")  # agent.simulator.profile; not imported for --help

Adder = Callable[[str], None]
_UNITS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


class Parser(argparse.ArgumentParser):
    """argparse with errors that suggest the nearest word and point to the help."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self._suggest(message)}\n  see: {self.prog} --help")

    def _suggest(self, message: str) -> str:
        if found := re.match(r"argument (\S+): invalid choice: '([^']*)' \(choose from (.*)\)", message):
            what, word, choices = found.groups()
            known = [choice.strip(" '") for choice in choices.split(",")]
            kind = "command" if what == "COMMAND" else f"value for {what}"
            return f"unknown {kind} {word!r}{hint(word, known)} (known: {', '.join(known)})"
        if found := re.match(r"unrecognized arguments: (-\S+)", message):
            options = [option for action in self._actions for option in action.option_strings]
            return f"{message}{hint(found.group(1), options)}"
        return message


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line as a namespace; `command_line` is what stood behind `--`, None without one.

    Raises:
        UsageError: with a suggestion.
        SystemExit: after --help.
    """
    words = list(argv)
    tail: list[str] | None = None
    if "--" in words:
        at = words.index("--")
        words, tail = words[:at], words[at + 1 :]
    parser = build()
    arguments, rest = parser.parse_known_args(words)
    rest = _take_words(arguments, rest)
    if rest:
        hint_ = "; options of the devices' command go behind --" if arguments.command == "run" else ""
        _chosen(parser, arguments).error(f"unrecognized arguments: {' '.join(rest)}{hint_}")
    arguments.command_line = tail
    return arguments


def _take_words(arguments: argparse.Namespace, rest: Sequence[str]) -> list[str]:
    """Words that argparse left over, as an option stood before them (`set NAME --all KEY=VALUE`), join their list."""
    taker = next((name for name in ("values", "keys", "words") if hasattr(arguments, name)), None)
    options = [word for word in rest if word.startswith("-") and word != "-"]
    if taker is None or options:
        return list(rest)
    setattr(arguments, taker, [*getattr(arguments, taker), *rest])
    return []


def _chosen(parser: Parser, arguments: argparse.Namespace) -> Parser:
    """The parser of the command that was named: it knows the options that could have been meant."""
    for name in filter(None, (getattr(arguments, "command", None), getattr(arguments, "subcommand", None))):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parser = action.choices[name]
    return parser


def build() -> Parser:
    """The whole tree."""
    shared = _connection(argparse.SUPPRESS)
    parser = Parser(
        prog="fleet",
        description="Look after a fleet of small devices over NATS.",
        epilog="exit codes: 0 all well, 1 something answered with a failure, 2 usage, 3 hub not reachable or not "
        "initialised,\n4 incomplete (absent, queued, timed out), 130 interrupted",
        parents=[_connection(None)],
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for add in (
        _init,
        _site,
        _ls,
        _info,
        _query,
        _why,
        _watch,
        _timeline,
        _events,
        _top,
        _config,
        _run,
        _commands,
        _result,
        _simulate,
        _version,
    ):
        add(commands, shared)
    return parser


def _connection(default: Any) -> argparse.ArgumentParser:
    """Options that every command has. Only the outermost parser sets defaults, so that both places work."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    group = options.add_argument_group("connection")
    group.add_argument("--server", metavar="URL", default=default, help="the hub, or a leaf node (FLEET_SERVER)")
    group.add_argument("--creds", metavar="FILE", default=default, help="NATS credentials file (FLEET_CREDS)")
    group.add_argument("--user", metavar="NAME", default=default, help="user name (FLEET_USER)")
    group.add_argument(
        "--password", metavar="WORD", default=default, help="better in FLEET_PASSWORD: others can read command lines"
    )
    group.add_argument(
        "--domain",
        "--hub-domain",
        metavar="NAME",
        default=default,
        help="the hub's JetStream domain, when connected to a leaf node (FLEET_DOMAIN); usually: hub",
    )
    group.add_argument("--role", metavar="NAME", default=default, help="ask devices in this role (FLEET_ROLE)")
    group.add_argument(
        "--author", metavar="TEXT", default=default, help="named in revisions of configuration (FLEET_AUTHOR)"
    )
    for name, what in (("ca", "certificates that vouch for it"), ("cert", "our certificate"), ("key", "our key")):
        help_ = f"{what} (FLEET_TLS_{name.upper()})"
        group.add_argument(f"--tls-{name}", metavar="FILE", default=default, help=help_)
    group.add_argument(
        "--context", metavar="NAME", default=default, help="a context of the settings file (FLEET_CONTEXT)"
    )
    group.add_argument(
        "--verbose", action="store_true", default=default if default else False, help="say what happens underneath"
    )
    return options


def _command(commands: Any, shared: argparse.ArgumentParser, name: str, text: str, example: str) -> Any:
    return commands.add_parser(name, help=text, description=text, epilog=f"example:\n  {example}", parents=[shared])


def _shapes(command: Any, *, csv: bool = True) -> None:
    group = command.add_argument_group("output").add_mutually_exclusive_group()
    group.add_argument("--json", dest="shape", action="store_const", const="json", help="one JSON object a line")
    if csv:
        group.add_argument("--csv", dest="shape", action="store_const", const="csv", help="comma-separated values")
    command.set_defaults(shape="table")


def _init(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = _command(
        commands, shared, "init", "Create the fleet's streams and buckets on the hub.", "fleet init --site site-3"
    )
    command.add_argument(
        "--site", metavar="DOMAIN", action="append", default=[], help="also collect from this site (repeatable)"
    )
    _shapes(command)


def _site(commands: Any, shared: argparse.ArgumentParser) -> None:
    site = _command(commands, shared, "site", "Sites whose leafnode the hub collects from.", "fleet site add site-3")
    parts = site.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    for name, text in (
        ("add", "Collect results and telemetry from a site (its JetStream domain)."),
        ("rm", "Stop collecting from a site; what came stays."),
    ):
        command = _command(parts, shared, name, text, f"fleet site {name} site-3")
        command.add_argument("site", metavar="DOMAIN", help="the leafnode's JetStream domain")
        _shapes(command)
    _shapes(_command(parts, shared, "ls", "The sites, and how far the hub is with them.", "fleet site ls"))


def _ls(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = _command(
        commands,
        shared,
        "ls",
        "Devices with their state and when they were seen.",
        "fleet ls --tag site=roof --state absent",
    )
    command.add_argument("--group", metavar="G", help="only devices of this group")
    command.add_argument("--tag", metavar="K=V", action="append", default=[], help="only with this tag (repeatable)")
    command.add_argument("--state", choices=STATES, help="only devices in this state")
    _shapes(command)


def _info(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = _command(commands, shared, "info", "Everything that a device tells about itself, now.", "fleet info pi-7")
    command.add_argument("device", metavar="ID", help="the device")
    command.add_argument("--timeout", type=seconds, default=5.0, metavar="S", help="time for its answer (5 s)")
    _shapes(command, csv=False)


def _query(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = _command(
        commands,
        shared,
        "query",
        "Ask devices, live; rows as they come, and an account of everyone at the end.",
        'fleet query "mem.percent > 80" --select "host.name, mem.percent"\n'
        '  fleet query --sql "SELECT name, address FROM net" --group lab --json\n'
        '  fleet query --select "os.version" --reduce "SELECT version, count(*) FROM r GROUP BY 1"\n'
        '  fleet query "disk.percent > 90" --ids | fleet run --on - -- apt-get clean',
    )
    command.add_argument("where", nargs="?", metavar="FILTER", help="e.g. \"os.name = 'Android' AND mem.percent > 80\"")
    command.add_argument("--select", metavar="COLUMNS", help='what to show, e.g. "host.name, cpu.percent"')
    command.add_argument("--sql", metavar="STATEMENT", help="a whole SELECT statement, instead of FILTER and --select")
    command.add_argument("--group", metavar="G", help="ask this group only")
    command.add_argument("--on", type=ids, metavar="ID[,ID]", help=ON)
    command.add_argument("--tag", metavar="K=V", action="append", default=[], help="only with this tag (repeatable)")
    command.add_argument(
        "--limit", type=share, metavar="N|P%", help="ask so many of the devices, or such a part of them, chosen by lot"
    )
    command.add_argument("--seed", default="", metavar="WORD", help="of the lot: the same word, the same devices")
    command.add_argument("--rows", type=positive, default=100, metavar="N", help="rows per device (100)")
    command.add_argument("--timeout", type=seconds, default=5.0, metavar="S", help="time for the answers (5 s)")
    after = command.add_argument_group("instead of the rows").add_mutually_exclusive_group()
    after.add_argument("--reduce", metavar="SQL", help="a SELECT over the table r of all rows (device, columns)")
    after.add_argument("--histogram", metavar="COLUMN", help="how often which value of this column")
    after.add_argument("--ids", action="store_true", help="the devices that match, an id a line")
    after.add_argument("--explain", action="store_true", help="what each part of FILTER came to on every device")
    _shapes(command)


def _why(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = _command(
        commands,
        shared,
        "why",
        "Why a device matches a filter or not: each part, and the values that it saw.",
        "fleet why pi-7 \"mem.percent > 80 AND tag.site = 'roof'\"",
    )
    command.add_argument("device", metavar="ID", help="the device")
    command.add_argument("where", metavar="FILTER", help="as for fleet query")
    command.add_argument("--timeout", type=seconds, default=5.0, metavar="S", help="time for its answer (5 s)")
    _shapes(command)


def _watch(commands: Any, shared: argparse.ArgumentParser) -> None:
    watch = _command(
        commands,
        shared,
        "watch",
        "Standing queries: devices ask themselves and tell what changes, also what changed while they were offline.",
        'fleet watch add full "disk.percent > 90" --hold 5min',
    )
    parts = watch.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    _watch_add(parts, shared)
    _shapes(_command(parts, shared, "ls", "What is watched.", "fleet watch ls"))
    for name, text in (
        ("rm", "Stop watching."),
        ("show", "The rows now over all devices, from what they told."),
        ("follow", "Rows that come and go, as devices tell it; Ctrl-C ends it."),
    ):
        command = _command(parts, shared, name, text, f"fleet watch {name} full")
        command.add_argument("name", metavar="NAME", help="the watch")
        if name != "rm":
            _shapes(command)
        else:
            command.set_defaults(shape="table")


def _watch_add(parts: Any, shared: argparse.ArgumentParser) -> None:
    command = _command(
        parts,
        shared,
        "add",
        "Register a standing query, or replace the one of this name.",
        'fleet watch add full "disk.percent > 90" --every 1min --hold 5min\n'
        "  fleet watch add units --sql \"SELECT name, state FROM unit WHERE state = 'failed'\" --key name --group lab",
    )
    command.add_argument("name", metavar="NAME", help="what to call it")
    command.add_argument("where", nargs="?", metavar="FILTER", help="as for fleet query")
    command.add_argument("--select", metavar="COLUMNS", help="what makes a row; each change of it is told")
    command.add_argument("--sql", metavar="STATEMENT", help="a whole SELECT statement, instead of FILTER and --select")
    command.add_argument("--key", metavar="COLUMN", help="what tells rows apart (without it: all columns)")
    command.add_argument("--every", type=seconds, default=30.0, metavar="S", help="between evaluations (30 s)")
    command.add_argument(
        "--hold", type=seconds, default=0.0, metavar="S", help="a change is told when it held for so long (at once)"
    )
    target = command.add_argument_group("where").add_mutually_exclusive_group()
    target.add_argument("--group", metavar="G", help="only devices of this group")
    target.add_argument("--on", type=ids, metavar="ID[,ID]", help=ON)
    target.add_argument("--all", action="store_true", help="every device (so it is without these)")
    _shapes(command, csv=False)


def _top(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = _command(
        commands, shared, "top", "Live table of load, memory, disk and temperature.", "fleet top --group lab"
    )
    command.add_argument("--group", metavar="G", help="only devices of this group")
    command.add_argument("--once", action="store_true", help="print one table and end")
    command.add_argument("--interval", type=seconds, default=2.0, metavar="S", help="time between refreshes (2 s)")
    _shapes(command)


def _timeline(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = _command(
        commands,
        shared,
        "timeline",
        "What happened to a device, also while nobody saw it: starts and why, outages, commands, configuration.",
        "fleet timeline pi-7 --since 30d",
    )
    command.add_argument("device", metavar="ID", help="the device")
    command.add_argument("--since", type=age, default=timedelta(days=7), metavar="AGE", help="how far back (7d)")
    _shapes(command)


def _events(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = _command(
        commands,
        shared,
        "events",
        "Devices that are new, time out, stop, recover or are forgotten, as it happens; Ctrl-C ends it.",
        "fleet events --json",
    )
    _shapes(command)


def _simulate(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = _command(
        commands,
        shared,
        "simulate",
        "Play many devices on this machine, with the agent's own code, to try things on.",
        "fleet simulate --devices 2000 --profile flaky-lte",
    )
    command.add_argument("--devices", type=positive, default=100, metavar="N", help="how many (100)")
    command.add_argument("--profile", choices=PROFILES, default="healthy", help="what they are like (healthy)")
    for name, what in (("off", "are known and not there"), ("slow", "answer late"), ("raising", "cannot answer")):
        command.add_argument(f"--{name}", type=part, metavar="P%", help=f"so many {what}; replaces the profile's")
    command.add_argument("--seed", default="fleetleaf", metavar="WORD", help="the same word, the same fleet")
    command.add_argument("--prefix", default="sim", metavar="NAME", help="devices are NAME-1, NAME-2 … (sim)")
    command.add_argument("--interval", type=seconds, default=10.0, metavar="S", help="between signs of life (10 s)")
    command.add_argument("--processes", type=positive, default=1, metavar="N", help="to share the devices among (1)")
    command.add_argument("--for", dest="duration", type=seconds, metavar="S", help="end after this time")
    command.set_defaults(shape="table")


def _layer(command: Any, *, required: bool = True) -> None:
    group = command.add_argument_group("layer").add_mutually_exclusive_group(required=required)
    group.add_argument("--all", action="store_true", help="every device")
    group.add_argument("--group", metavar="G", help="the devices of a group")
    group.add_argument("--device", metavar="ID", help="one device")


def _waiting(command: Any) -> None:
    command.add_argument("--detach", action="store_true", help="do not wait for devices to take it up")
    command.add_argument("--timeout", type=seconds, default=60.0, metavar="S", help="how long to wait (60 s)")


def _config(commands: Any, shared: argparse.ArgumentParser) -> None:
    config = _command(
        commands,
        shared,
        "config",
        "Desired configuration, in layers: all, group, device.",
        "fleet config set motd text=hi --all",
    )
    parts = config.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    _config_get(parts, shared)
    _config_set(parts, shared)
    command = _command(
        parts, shared, "rm", "Delete a layer's value, or keys of it.", "fleet config rm motd --device pi-7"
    )
    _named(command)
    command.add_argument("keys", nargs="*", metavar="KEY", help="dotted keys to remove; without any, the whole value")
    _layer(command)
    _forcing(command)
    _waiting(command)
    _shapes(command, csv=False)
    command = _command(parts, shared, "history", "Revisions of a layer's value.", "fleet config history motd --all")
    _named(command)
    _layer(command)
    _shapes(command)
    command = _command(
        parts,
        shared,
        "revert",
        "Put an earlier revision back, as a new one; or everything as it was at a moment.",
        "fleet config revert motd --all --to 17\n  fleet config revert --to-time 2026-11-20T12:00:00Z --plan",
    )
    command.add_argument("name", nargs="?", metavar="NAME", help="the item; with --to-time, by default every one")
    _layer(command, required=False)
    command.add_argument("--to", type=positive, metavar="REVISION", help="which one (default: the last but one)")
    command.add_argument("--to-time", type=moment, metavar="TIME", help="every layer as it was then (RFC 3339)")
    command.add_argument("--plan", action="store_true", help="with --to-time: show what would change, and end")
    _forcing(command)
    _waiting(command)
    _shapes(command, csv=False)
    command = _command(
        parts, shared, "edit", "Change a layer's value in $EDITOR.", "fleet config edit mqtt --group lab"
    )
    _named(command)
    _layer(command)
    _waiting(command)
    _shapes(command, csv=False)
    command = _command(
        parts,
        shared,
        "apply",
        "Make the bucket hold what a folder of files says; only what differs is written.",
        "fleet config apply -f fleet-config --plan",
    )
    command.add_argument(
        "-f", "--file", metavar="DIR", required=True, help="all/NAME.json, group/G/NAME.json, device/ID/NAME.json, …"
    )
    command.add_argument("--plan", action="store_true", help="show what would change, and end")
    command.add_argument("--prune", action="store_true", help="delete what the folder does not have")
    _forcing(command)
    _waiting(command)
    _shapes(command, csv=False)
    command = _command(
        parts, shared, "status", "What devices report about their configuration.", "fleet config status motd"
    )
    command.add_argument("name", nargs="?", metavar="NAME", help="only this item")
    command.add_argument("--device", metavar="ID", help="only this device")
    _shapes(command)
    command = _command(
        parts, shared, "explain", "Each value on a device: layer, revision, author.", "fleet config explain pi-7 mqtt"
    )
    command.add_argument("id", metavar="ID", help="the device")
    _named(command)
    _shapes(command)
    command = _command(
        parts, shared, "diff", "What changed between two revisions.", "fleet config diff motd --all --from 17 --to 41"
    )
    _named(command)
    _layer(command)
    command.add_argument("--from", dest="from_", type=positive, metavar="REVISION", help="default: the last but one")
    command.add_argument("--to", type=positive, metavar="REVISION", help="default: the newest")
    _shapes(command, csv=False)


def _forcing(command: Any) -> None:
    command.add_argument("--force", action="store_true", help="write it although its schema forbids it")


def _named(command: Any) -> None:
    command.add_argument("name", metavar="NAME", help="the configuration item, as the devices' settings call it")


def _config_get(parts: Any, shared: argparse.ArgumentParser) -> None:
    command = _command(
        parts, shared, "get", "Values by layer, or what they come to on a device.", "fleet config get motd --for pi-7"
    )
    command.add_argument("name", nargs="?", metavar="NAME", help="only this item")
    group = command.add_argument_group("which").add_mutually_exclusive_group()
    group.add_argument("--all", action="store_true", help="only the layer of every device")
    group.add_argument("--group", metavar="G", help="only a group's layer")
    group.add_argument("--device", metavar="ID", help="only a device's layer")
    group.add_argument("--for", dest="for_", metavar="ID", help="merged for this device, with the layer of each key")
    _shapes(command)


def _config_set(parts: Any, shared: argparse.ArgumentParser) -> None:
    command = _command(
        parts,
        shared,
        "set",
        "Set values in a layer, and watch devices take them up.",
        "fleet config set mqtt port=1883 tls.on=true --group lab\n"
        "  fleet config set mqtt --file mqtt.json --all\n"
        "  echo hello | fleet config set motd --text - --device pi-7",
    )
    _named(command)
    command.add_argument(
        "values",
        nargs="*",
        metavar="KEY=VALUE",
        help="laid on the layer's value; dotted keys nest; VALUE is JSON, or else text; or one JSON object, or -",
    )
    command.add_argument("--file", metavar="FILE", help="a JSON object that replaces the layer's value; - is stdin")
    command.add_argument("--text", metavar="FILE", help="a file taken as it is, for items of format text; - is stdin")
    command.add_argument("--replace", action="store_true", help="KEY=VALUE replace the whole value of the layer")
    _layer(command)
    _forcing(command)
    _waiting(command)
    _shapes(command, csv=False)


def _run(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = _command(
        commands,
        shared,
        "run",
        "Run a command on devices: now, or when they are back.",
        "fleet run --group lab -- systemctl restart mosquitto",
    )
    target = command.add_argument_group("where").add_mutually_exclusive_group(required=True)
    target.add_argument("--on", type=ids, metavar="ID[,ID]", help=ON)
    target.add_argument("--group", metavar="G", help="the devices of a group")
    target.add_argument("--where", metavar="FILTER", help="devices that match a query now")
    target.add_argument("--all", action="store_true", help="every known device")
    command.add_argument("words", nargs="*", metavar="WORD", help="the command line; options of its own go behind --")
    command.add_argument("--detach", action="store_true", help="do not wait for outcomes; print the command's id")
    command.add_argument("--wait", type=seconds, default=90.0, metavar="S", help="how long to wait for outcomes (90 s)")
    command.add_argument("--timeout", type=seconds, default=60.0, metavar="S", help="how long it may run there (60 s)")
    command.add_argument("--cwd", metavar="DIR", help="working directory there")
    command.add_argument("--env", metavar="K=V", action="append", default=[], help="variable for it (repeatable)")
    command.add_argument("--stdin", metavar="FILE", help="file for its standard input; - is ours")
    command.add_argument(
        "--on-unknown",
        choices=("report", "retry"),
        default="report",
        help="if the device crashed in the middle: report it as unknown, or run it again (report)",
    )
    command.add_argument("--expires", type=age, metavar="AGE", help="not to be started later than that, e.g. 2h")
    _shapes(command, csv=False)


def _commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = _command(commands, shared, "commands", "Recent commands and their state.", "fleet commands --since 7d")
    command.add_argument("--since", type=age, default=timedelta(days=1), metavar="AGE", help="look back that far (1d)")
    command.add_argument("--limit", type=positive, default=20, metavar="N", help="at most so many (20)")
    _shapes(command)


def _result(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = _command(
        commands, shared, "result", "What became of a command, with its output.", "fleet result Xk3… --device pi-7"
    )
    command.add_argument("id", metavar="CMD", help="the command's id, as `fleet run` printed it")
    command.add_argument("--device", metavar="ID", help="only this device")
    _shapes(command)


def _version(commands: Any, shared: argparse.ArgumentParser) -> None:
    _command(commands, shared, "version", "The version of fleet.", "fleet version")


def seconds(text: str) -> float:
    """A positive number of seconds, or with a unit: `90`, `90s`, `2min`."""
    return age(text).total_seconds()


def moment(text: str) -> datetime:
    """`2026-11-20T12:00:00Z`."""
    from agent.payloads import parse_rfc3339

    try:
        return parse_rfc3339(text)
    except PayloadError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def age(text: str) -> timedelta:
    """`90`, `90s`, `15min`, `2h`, `7d`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip())
    unit = _UNITS.get((found.group(2) or "s") if found else "")
    if not found or not unit or float(found.group(1)) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: write for example 90s, 15min, 2h or 7d")
    return timedelta(seconds=float(found.group(1)) * unit)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def ids(text: str) -> tuple[str, ...]:
    """`pi-1,pi-2`, `@FILE` or `-`."""
    try:
        return targets.names(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def share(text: str) -> targets.Share:
    """`10` or `5%`."""
    try:
        return targets.share(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def part(text: str) -> float:
    """`5%` as 0.05."""
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a part of the devices: write for example 5%")
    return value
