"""The command as users run it: exit status, stdout, stderr."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from leafnode import __main__ as command
from leafnode.errors import LeafnodeError

SECONDS = 30  # for a process that takes a quarter of one


def run(*args: str, argv0: Path | None = None) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "leafnode"] if argv0 is None else [sys.executable, str(argv0)]
    root = str(Path(command.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": root}
    return subprocess.run([*program, *args], capture_output=True, text=True, timeout=SECONDS, check=False, env=env)


def test_help_and_version_go_to_stdout() -> None:
    helped = run("--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith("Usage: leafnode")
    versioned = run("-v")
    assert versioned.returncode == 0
    assert versioned.stdout.startswith("leafnode: v")
    assert len(versioned.stdout.splitlines()) == 1


def test_under_nats_servers_name_it_says_nats_servers_version(tmp_path: Path) -> None:
    stand_in = tmp_path / "nats-server"
    stand_in.write_text("import sys\nfrom leafnode.__main__ import main\nsys.exit(main())\n")
    assert run("-v", argv0=stand_in).stdout == "nats-server: v2.15.1\n"


def test_the_check_of_a_good_file(tmp_path: Path) -> None:
    file = tmp_path / "a.conf"
    file.write_text("port: 4222\n")
    done = run("-t", "-c", str(file))
    assert (done.returncode, done.stdout) == (0, "")
    assert f"configuration file {file} is valid (sha256:" in done.stderr


@pytest.mark.parametrize("check", [["-t"], []])
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, check: list[str]) -> None:
    file = tmp_path / "a.conf"
    file.write_text("port: 4222\nauthorization { user: a password: b }\n")
    done = run(*check, "-c", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("leafnode: Parse error on line 2: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_warning_fails_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.conf"
    file.write_text("ping_interval: 5\n")
    assert command.main(["leafnode", "-t", "-c", str(file)]) == 1
    assert f"{file}:1: " in capsys.readouterr().err


def test_a_log_file_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["leafnode", "-l", "/nowhere/leafnode.log"]) == 1
    assert "open /nowhere/leafnode.log: " in capsys.readouterr().err


@pytest.mark.parametrize("through_a_file", [False, True])
def test_signals_reach_the_process(tmp_path: Path, through_a_file: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        try:
            target = str(child.pid)
            if through_a_file:
                (tmp_path / "pid").write_text(f"{child.pid}\n")
                target = str(tmp_path / "pid")
            assert command.main(["leafnode", "--signal", f"term={target}"]) == 0
            assert child.wait(SECONDS) == -signal.SIGTERM
        finally:
            child.kill()


@pytest.mark.parametrize("order", ["reload", "dance=1", "reload=/nowhere/pid", "reload=x"])
def test_signals_that_cannot_be_sent_say_why(order: str) -> None:
    with pytest.raises(LeafnodeError):
        command.send_signal(order)
