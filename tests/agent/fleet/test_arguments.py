"""The command line: every command has help and an example; mistakes are answered with the nearest word."""

import argparse
from collections.abc import Iterator
from datetime import timedelta

import pytest

from agent.errors import UsageError
from agent.fleet.arguments import build, parse
from agent.fleet.cli import COMMANDS, main


def tree(parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command's path and parser."""
    children = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in children:
        for name, child in action.choices.items():
            yield from tree(child, f"{path} {name}".strip())
    if path and not children:
        yield path, parser


def test_every_command_has_help_an_example_and_a_function() -> None:
    found = dict(tree(build()))
    assert set(found) == set(COMMANDS) | {"version"}
    for path, parser in found.items():
        assert parser.description, path
        assert f"fleet {path.split()[0]}" in (parser.epilog or ""), path
        for action in parser._actions:
            assert action.help, f"{path} {action.dest}"


def test_connection_options_before_and_after_the_command() -> None:
    before = parse(["--server", "nats://a", "ls"])
    after = parse(["ls", "--server", "nats://a"])
    assert before.server == after.server == "nats://a"
    assert parse(["ls"]).server is None
    assert parse(["ls", "--hub-domain", "hub"]).domain == "hub"


def test_everything_behind_two_dashes_is_the_devices() -> None:
    arguments = parse(["run", "--on", "pi-1,pi-2", "--", "ls", "--all", "--", "x"])
    assert arguments.on == ("pi-1", "pi-2")
    assert arguments.command_line == ["ls", "--all", "--", "x"]
    assert arguments.all is False


def test_a_command_without_options_needs_no_dashes() -> None:
    arguments = parse(["run", "--group", "lab", "uptime"])
    assert (arguments.words, arguments.command_line) == (["uptime"], None)


def test_words_may_stand_before_and_after_options() -> None:
    assert parse(["config", "set", "m", "--all", "a=1", "--detach", "b=2"]).values == ["a=1", "b=2"]
    assert parse(["config", "set", "m", "a=1", "--all", "-"]).values == ["a=1", "-"]
    assert parse(["config", "rm", "m", "--device", "pi-1", "a.b"]).keys == ["a.b"]
    assert parse(["run", "uptime", "--on", "pi-1", "now"]).words == ["uptime", "now"]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("qurey x", "unknown command 'qurey'; did you mean 'query'?"),
        ("config hisotry", "unknown command 'hisotry'; did you mean 'history'?"),
        ("ls --gruop lab", "did you mean '--group'?"),
        ("ls --state on", "unknown value for --state 'on'"),
        ("run -- uptime", "one of the arguments --on --group --where --all is required"),
        ("run --on a --all -- x", "not allowed with"),
        ("config set motd a=1", "one of the arguments --all --group --device is required"),
        ("query --timeout soon x", "'soon' is not a time: write for example 90s"),
        ("query --on PI_1 x", "device id 'PI_1' is not valid"),
        ("query --rows 0 x", "'0' is not a whole number from 1"),
        ("query --limit 0 x", "'0' is not a share of the devices: write a number such as 10"),
        ("query --limit 101% x", "'101%' is not a share of the devices"),
        ("query --on @/nowhere x", "the devices in '/nowhere' cannot be read"),
        ("ls --json --csv", "not allowed with"),
        ("ls pi-1", "unrecognized arguments: pi-1"),
        ("run --on a ls -l", "options of the devices' command go behind --"),
        ("site", "required: COMMAND"),
    ],
)
def test_mistakes_are_answered_with_what_to_write(line: str, answer: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(line.split())
    assert answer in str(error.value)
    assert "--help" in str(error.value)


def test_times_with_units() -> None:
    assert parse(["commands", "--since", "7d"]).since == timedelta(days=7)
    assert parse(["query", "x", "--timeout", "1.5"]).timeout == 1.5
    assert parse(["run", "--all", "--wait", "2min", "x"]).wait == 120


def test_without_a_command_an_overview(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_SERVER", "nats://hub.example:4222")
    assert main([]) == 0
    seen = capsys.readouterr()
    for word in ("fleet init", "fleet ls", "fleet query", "fleet config set", "fleet run", "nats://hub.example:4222"):
        assert word in seen.out
    assert seen.err == ""


def test_usage_errors_are_exit_code_2_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lss"]) == 2
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.startswith("fleet: unknown command 'lss'; did you mean 'ls'?")
