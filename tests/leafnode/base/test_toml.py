"""Settings: what fits becomes a frozen dataclass, what does not is an error that says how to mend it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from leafnode.base import toml


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    interval_s: float = 10.0
    metrics: tuple[str, ...] = ("cpu",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    name: str
    port: int = 4222
    mode: Literal["push", "pull"] = "push"
    folder: Path | None = None
    sampling: Sampling = field(default_factory=Sampling)
    items: dict[str, Sampling] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    limit: int | str = 0
    nested: Sampling | None = None
    free: Any = None

    def __post_init__(self) -> None:
        if self.port < 1:
            raise ValueError("port must be positive")


def test_defaults_fill_what_is_not_given() -> None:
    assert toml.load(Settings, {"name": "pi-1"}, "a.toml") == Settings(name="pi-1")


def test_every_understood_type() -> None:
    loaded = toml.load(
        Settings,
        {
            "name": "pi-1",
            "mode": "pull",
            "folder": "/var/lib/x",
            "sampling": {"interval_s": 5, "metrics": ["cpu", "mem"]},
            "items": {"motd": {"interval_s": 0.5}},
            "groups": ["roof"],
            "limit": "none",
            "free": {"a": 1},
        },
        "a.toml",
    )
    assert loaded.folder == Path("/var/lib/x")
    assert loaded.sampling == Sampling(interval_s=5.0, metrics=("cpu", "mem"))
    assert isinstance(loaded.sampling.interval_s, float)
    assert loaded.items["motd"].interval_s == 0.5
    assert loaded.groups == ["roof"]
    assert (loaded.limit, loaded.free) == ("none", {"a": 1})


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({}, ["a.toml", "'name'", "missing", "a string"]),
        ({"name": "x", "prot": 1}, ["a.toml", "unknown key 'prot'", "did you mean 'port'"]),
        ({"name": "x", "port": "1"}, ["'port'", "a whole number", "not a string"]),
        ({"name": "x", "port": True}, ["'port'", "a whole number", "not true or false"]),
        ({"name": "x", "mode": "pusch"}, ["'mode'", "'push', 'pull'"]),
        ({"name": "x", "sampling": {"intervall_s": 1}}, ["'sampling.intervall_s'", "'interval_s'"]),
        ({"name": "x", "sampling": 3}, ["'sampling'", "a table with interval_s, metrics"]),
        ({"name": "x", "sampling": {"metrics": ["a", 1]}}, ["'sampling.metrics[1]'", "a string"]),
        ({"name": "x", "items": {"motd": {"interval_s": "1"}}}, ["'items.motd.interval_s'", "a number"]),
        ({"name": "x", "folder": 1}, ["'folder'", "a path"]),
        ({"name": "x", "limit": 1.5}, ["'limit'", "a whole number or a string", "fraction"]),
        ({"name": "x", "nested": {"interval_s": []}}, ["'nested.interval_s'", "a number", "not a list"]),
        ({"name": "x", "groups": {}}, ["'groups'", "a list, each a string", "not a table"]),
        ({"name": "x", "items": 1}, ["'items'", "a table, each value a table with interval_s, metrics"]),
        ({"name": "x", "port": 0}, ["a.toml", "port must be positive"]),
    ],
)
def test_errors_say_where_and_what(mapping: dict[str, object], words: list[str]) -> None:
    with pytest.raises(toml.SettingsError) as caught:
        toml.load(Settings, mapping, "a.toml")
    for word in words:
        assert word in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_wrong_value_is_not_repeated_in_the_error() -> None:
    with pytest.raises(toml.SettingsError) as caught:
        toml.load(Settings, {"name": "x", "port": "s3cret"}, "a.toml")
    assert "s3cret" not in str(caught.value)


def test_read_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    with pytest.raises(toml.SettingsError, match=r"x\.toml: cannot be read"):
        toml.read(file)
    file.write_text("a = [")
    with pytest.raises(toml.SettingsError, match=r"x\.toml: is not TOML"):
        toml.read(file)
    file.write_text("a = 1")
    assert toml.read(file) == {"a": 1}
