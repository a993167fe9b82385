"""Settings are strict, their errors say what to do, and the manual has every key."""

import dataclasses
from pathlib import Path

import pytest

from agent import settings
from agent.__main__ import main
from agent.errors import ConfigError
from agent.facts import reference

ROOT = Path(__file__).resolve().parents[2]
MANUAL = (ROOT / "docs" / "agent.md").read_text()
CLASSES = [
    settings.Settings, settings.Device, settings.Nats, settings.Presence, settings.Query, settings.Role, settings.Facts,
    settings.History, settings.Commands, settings.Telemetry, settings.Item,
]  # fmt: skip


def write(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text)
    return path


def example() -> str:
    return MANUAL.split("```toml\n")[1].split("```")[0]


def test_the_example_in_the_manual_is_good(tmp_path: Path) -> None:
    loaded = settings.load(write(tmp_path, example()))
    assert loaded.device_id == "pi-7"
    assert loaded.config["ntp"].mode_bits == 0o644
    assert loaded.bus_options().hub_domain == "hub"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_manual_has_every_key(cls: type) -> None:
    for field in dataclasses.fields(cls):
        tables = field.name in {
            "device",
            "nats",
            "presence",
            "query",
            "facts",
            "history",
            "commands",
            "telemetry",
            "config",
        }
        assert (f"[{field.name}" if tables else f"`{field.name}`") in MANUAL, field.name


def test_the_page_of_facts_is_what_the_code_says() -> None:
    """Made anew by: python -m agent.facts.reference > docs/facts.md"""
    assert (ROOT / "docs" / "facts.md").read_text() == reference.page()


def test_every_column_has_a_meaning() -> None:
    for table in reference.tables():
        assert table.about, table.name
        assert set(table.meanings) == set(table.columns), table.name
        assert all(table.meanings.values()), table.name


def test_nothing_is_needed_but_the_file(tmp_path: Path) -> None:
    loaded = settings.load(write(tmp_path, ""))
    assert loaded.nats.urls == ("nats://127.0.0.1:4222",)
    assert loaded.device_id


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[devise]", "unknown key 'devise'; did you mean 'device'?"),
        ("[device]\nid = 'Pi 7'", "device id 'Pi 7' is not valid"),
        ("[device]\ngroups = ['a.b']", "group 'a.b' is not valid"),
        ("[device]\ntags = { 'a b' = 'x' }", "tag 'a b' is not valid"),
        ("[nats]\nurls = []", "name at least one broker"),
        ("[nats]\ntls_cert = '/x'", "belong together"),
        ("[presence]\ninterval_s = 0", "at least 1"),
        ("[commands]\noutput_bytes = 1000000", "at most 131072"),
        ("[telemetry]\nmetrics = ['noise']", "telemetry.metrics"),
        ("[config.x]\nformat = 'json'", "[config.x] either key 'path'"),
        ("[config.x]\npath = 'relative'", "must be absolute"),
        ("[config.x]\npath = '/a'\nmode = 'rw'", "octal"),
        ("[config.x]\npath = '/a'\n[config.y]\npath = '/a'", "same path"),
        ("[config.'a b']\npath = '/a'", "config item 'a b' is not valid"),
        ("x = ", "is not TOML"),
    ],
)
def test_an_error_names_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        settings.load(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_check_tells_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-c", str(write(tmp_path, "[device]\nid = 'pi-7'")), "--check"]) == 0
    assert "device pi-7" in capsys.readouterr().err
    assert main(["-c", str(write(tmp_path, "[nats]\ncredentials = '/none'")), "--check"]) == 2
    assert main(["-c", str(tmp_path / "absent.toml")]) == 2
    assert "cannot be read" in capsys.readouterr().err
