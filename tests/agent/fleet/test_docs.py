"""docs/fleet-cli.md names every command, every long option, every variable and every exit code."""

import re

from agent.fleet.arguments import build
from agent.fleet.exits import Exit
from agent.fleet.settings import CONTEXT_VARIABLE, ENVIRONMENT, FILE_VARIABLE
from tests.agent.fleet.conftest import ROOT
from tests.agent.fleet.test_arguments import tree

PAGE = (ROOT / "docs" / "fleet-cli.md").read_text(encoding="utf-8")


def sections() -> dict[str, str]:
    """`fleet COMMAND` -> the text of the reference section whose heading names it."""
    found = {}
    for part in re.split(r"^### ", PAGE.partition("## Reference")[2], flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        for command in re.findall(r"`fleet ([a-z ]+[a-z])", heading):
            found[command] = text
    return found


def options(path: str) -> set[str]:
    [parser] = [parser for name, parser in tree(build()) if name == path]
    return {option for action in parser._actions for option in action.option_strings if option.startswith("--")}


def test_every_command_has_a_section() -> None:
    assert set(sections()) == {path for path, _ in tree(build())}


def test_every_long_option_stands_in_its_commands_section() -> None:
    shared = options("version")
    text = sections()
    text["config rm"] += text["config set"]
    text["config revert"] += text["config set"]
    for path, section in text.items():
        for option in options(path) - shared:
            assert f"`{option}" in section, f"{path} {option}"


def test_the_connection_options_stand_in_the_table() -> None:
    head = PAGE.partition("## Reference")[0]
    for option in options("version") - {"--help", "--verbose"}:
        assert f"`{option}" in head, option
    assert "`--verbose`" in PAGE


def test_every_variable_and_key_is_documented() -> None:
    for key, variable in ENVIRONMENT.items():
        assert f"`{variable}`" in PAGE
        assert f"`{key}`" in PAGE
    assert CONTEXT_VARIABLE in PAGE
    assert FILE_VARIABLE in PAGE


def test_every_exit_code_is_documented() -> None:
    for code in Exit:
        assert f"| {code.value} | {code.name} |" in PAGE
