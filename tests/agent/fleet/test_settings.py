"""Where the hub is: options before environment before file before defaults; mistakes are named."""

from pathlib import Path

import pytest

from agent.errors import ConfigError
from agent.fleet.settings import DEFAULT_SERVER, file_path, resolve


def home(tmp_path: Path, text: str = "") -> dict[str, str]:
    """An environment whose settings file holds `text`."""
    file = tmp_path / "fleet" / "config.toml"
    if text:
        file.parent.mkdir()
        file.write_text(text)
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def test_without_anything_the_local_server(tmp_path: Path) -> None:
    assert resolve({}, home(tmp_path)).server == DEFAULT_SERVER


def test_option_before_environment_before_file(tmp_path: Path) -> None:
    environ = home(tmp_path, 'server = "nats://file"\nuser = "file"\npassword = "file"\n')
    environ |= {"FLEET_SERVER": "nats://env", "FLEET_USER": "env"}
    found = resolve({"server": "nats://option"}, environ)
    assert (found.server, found.user, found.password) == ("nats://option", "env", "file")


def test_contexts(tmp_path: Path) -> None:
    text = (
        'context = "home"\n[contexts.home]\nserver = "nats://home"\n'
        '[contexts.work]\nserver = "nats://work"\ndomain = "hub"\n'
    )
    environ = home(tmp_path, text)
    assert resolve({}, environ).server == "nats://home"
    assert resolve({}, environ, "work").domain == "hub"
    assert resolve({}, environ | {"FLEET_CONTEXT": "work"}).server == "nats://work"
    with pytest.raises(ConfigError, match="did you mean 'work'"):
        resolve({}, environ, "wrok")


def test_a_context_without_a_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="create it or drop --context"):
        resolve({}, home(tmp_path), "home")


def test_an_unknown_key_names_file_and_nearest_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.toml: unknown key 'sever'; did you mean 'server'"):
        resolve({}, home(tmp_path, 'sever = "nats://x"\n'))


def test_a_missing_credentials_file_is_found_before_connecting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="FLEET_CREDS"):
        resolve({"creds": str(tmp_path / "nobody.creds")}, home(tmp_path))


def test_paths_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "me.creds").write_text("")
    assert resolve({"creds": "~/me.creds"}, {"HOME": str(tmp_path)}).creds == str(tmp_path / "me.creds")


def test_the_password_does_not_show(tmp_path: Path) -> None:
    assert "secret" not in repr(resolve({"user": "a", "password": "secret"}, home(tmp_path)))


def test_where_the_file_is() -> None:
    assert file_path({"HOME": "/home/u"}) == Path("/home/u/.config/fleet/config.toml")
    assert file_path({"HOME": "/home/u", "XDG_CONFIG_HOME": "/x"}) == Path("/x/fleet/config.toml")
    assert file_path({"FLEET_CONFIG": "/y.toml"}) == Path("/y.toml")
