"""The command line by Go's rules, and that it beats the file."""

from pathlib import Path

import pytest

from leafnode.config.flags import GROUPS, REFUSED, configure, help_text, parse_args
from leafnode.config.load import FILE_MAX
from leafnode.errors import ConfigError


@pytest.mark.parametrize(
    "args",
    [["-p", "4333"], ["--p", "4333"], ["-p=4333"], ["--port", "4333"], ["-port=4333"], ["-p", "1", "-p", "4333"]],
)
def test_spellings_of_a_flag(args: list[str]) -> None:
    assert configure(args, {}).port == 4333


@pytest.mark.parametrize(
    ("args", "debug", "trace", "verbose"),
    [
        (["-D"], True, False, False),
        (["--debug=true"], True, False, False),
        (["-D=false"], False, False, False),
        (["-V"], False, True, False),
        (["-DV"], True, True, False),
        (["-VV"], False, True, True),
        (["-DVV"], True, True, True),
    ],
)
def test_debug_and_trace(args: list[str], debug: bool, trace: bool, verbose: bool) -> None:
    config = configure(args, {})
    assert (config.debug, config.trace, config.trace_verbose) == (debug, trace, verbose)


def test_a_boolean_takes_no_next_argument() -> None:
    config = configure(["-js", "-p", "-1", "-sd=/x", "-T=0"], {})
    assert config.jetstream.enabled
    assert config.jetstream.store_dir == "/x"
    assert (config.port, config.logtime) == (-1, False)


def test_what_the_clients_tests_start_with() -> None:
    config = configure(
        ["-a", "127.0.0.1", "--port", "4333", "-m", "8333", "--user", "u", "-pass", "p", "--server_name", "n",
         "-l", "/l", "-cluster_name", '"local"', "--cluster", "nats://127.0.0.1:6222", "-P", "/p",
         "--ports_file_dir", "/d"],
        {},
    )  # fmt: skip
    assert (config.host, config.port, config.http_port, config.http_host) == ("127.0.0.1", 4333, 8333, "127.0.0.1")
    assert (config.authorization.user, config.authorization.password) == ("u", "p")
    assert (config.server_name, config.log_file, config.pid_file, config.ports_file_dir) == ("n", "/l", "/p", "/d")
    assert config.cluster.name == '"local"'
    assert configure(["-auth", "t"], {}).authorization.token == "t"
    assert not configure(["-sd", "/x"], {}).jetstream.enabled


def test_the_command_line_beats_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.conf"
    file.write_text(
        'listen: "1.2.3.4:5"\nhttp: 7\nserver_name: f\njetstream { store_dir: "/f", domain: d }\nmax_payload: 5\n'
    )
    config = configure(["-p", "6", "-sd", "/c", "-c", str(file)], {})
    assert (config.host, config.port, config.http_port, config.server_name) == ("1.2.3.4", 6, 7, "f")
    assert (config.jetstream.store_dir, config.jetstream.domain, config.max_payload) == ("/c", "d", 5)
    assert config.config_file == str(file)
    assert configure(config.argv, {}) == config


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-prt", "5"], "not defined: -prt; did you mean 'port'"),
        (["-p"], "needs an argument: -p <port>"),
        (["-p", "x"], "invalid value 'x' for flag -p"),
        (["-p", "70000"], "port must be from 1 to 65535"),
        (["-D=maybe"], "invalid boolean value 'maybe'"),
        (["start"], "unrecognized command: 'start'"),
        (["-c", "/nowhere/a.conf"], "open /nowhere/a.conf: no such file or directory"),
        (["-c", "/"], "open /: is a directory"),
        (["--routes", "nats://a"], "no routes"),
        (["-r", "tcp://h:514"], "hung server"),
        (["--cluster_name", "a b"], "cluster name cannot contain spaces"),
    ],
)
def test_mistakes(args: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configure(args, {})
    assert words in str(caught.value)


@pytest.mark.parametrize("name", REFUSED)
def test_flags_of_nats_server_that_we_lack_say_so(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^-{name}: "):
        parse_args([f"-{name}", "x"])


@pytest.mark.parametrize(
    ("args", "action"),
    [(["-h"], "help"), (["--help"], "help"), (["help"], "help"), (["-v"], "version"), (["version"], "version"),
     (["-t", "-c", "x"], "test"), (["-sl", "reload=1"], "signal"), ([], "run")],
)  # fmt: skip
def test_actions(args: list[str], action: str) -> None:
    assert parse_args(args).action == action


def test_help_names_every_flag() -> None:
    text = help_text()
    for group in GROUPS.values():
        for flag in group:
            assert not flag.does or all(f"-{name}" in text for name in flag.names)


def test_a_file_that_is_no_text_is_a_parse_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="Parse error"):
        configure(["-c", str(tmp_path / "a")], {})


def test_tls_flags_are_refused_or_complete(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --tlscert and --tlskey"):
        configure(["--tls", "--tlscert", "c"], {})
    for name in ("cert", "key", "ca"):
        (tmp_path / name).write_text("")
    paths = {name: str(tmp_path / name) for name in ("cert", "key", "ca")}
    given = ["-tlscert", paths["cert"], "-tlskey", paths["key"], "-tlscacert", paths["ca"], "-tlsverify"]
    found = configure(given, {}).tls
    assert found
    assert (found.cert_file, found.key_file, found.ca_file, found.verify) == (*paths.values(), True)
    with pytest.raises(ConfigError, match="no such file"):
        configure(["-tlscert", "/nowhere/c", "-tlskey", paths["key"]], {})


def test_a_disk_image_given_by_mistake_is_no_configuration(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(FILE_MAX + 1)
    with pytest.raises(ConfigError, match="not a configuration file"):
        configure(["-c", str(tmp_path / "a")], {})
