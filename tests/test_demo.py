"""`make demo` does what it says: every step comes true, and nothing of it stays behind, however it ends."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.demo.steps import STEPS

ROOT = Path(__file__).resolve().parents[1]
WHOLE_SECONDS = 150.0  # alone it takes under thirty; the machine may be busy with other tests
PART_SECONDS = 60.0  # for one thing to be seen or to end


class Run:
    """The demo as a process, its temporary folders below `folder`, its output in a file."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder / "tmp"
        self.folder.mkdir()
        self.out = folder / "out"
        with self.out.open("wb") as sink:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "tests.demo", *arguments],
                stdout=sink,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env={**os.environ, "TMPDIR": str(self.folder)},
            )

    @property
    def said(self) -> str:
        return self.out.read_text(errors="replace")

    def until_said(self, words: str) -> None:
        deadline = time.monotonic() + PART_SECONDS
        while words not in self.said:
            assert self.child.poll() is None, f"ended without saying {words!r}:\n{self.said}"
            assert time.monotonic() < deadline, f"did not say {words!r}:\n{self.said}"
            time.sleep(0.05)

    def leftovers(self) -> list[str]:
        """Processes that have our folder in their command line."""
        found = []
        for each in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = each.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:  # it ended while we looked
                continue
            if str(self.folder) in line:
                found.append(line)
        return found


@pytest.fixture
def run(tmp_path):
    started = []

    def start(*arguments: str) -> Run:
        started.append(Run(tmp_path, *arguments))
        return started[-1]

    yield start
    for each in started:
        if each.child.poll() is None:
            each.child.terminate()
            each.child.wait(PART_SECONDS)


def test_every_step_comes_true(run):
    demo = run()
    code = demo.child.wait(WHOLE_SECONDS)
    assert code == 0, demo.said
    summary = demo.said.partition("── Summary")[2]
    ticked = re.findall(r"^ ✓ (.+?) +\d+\.\d s", summary, re.MULTILINE)
    assert ticked == [step.title for step in STEPS], demo.said
    assert f"{len(STEPS)} of {len(STEPS)} steps came true" in summary
    assert "✗" not in demo.said
    assert list(demo.folder.glob("fleetleaf-*")) == []
    assert demo.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ends_everything_when_interrupted(run, number):
    demo = run()
    demo.until_said("$ fleet ls")
    assert demo.leftovers() != []
    demo.child.send_signal(number)
    assert demo.child.wait(PART_SECONDS) == 130, demo.said
    assert demo.leftovers() == []
    assert list(demo.folder.glob("fleetleaf-*")) == []


def test_says_what_went_wrong_and_keeps_the_logs(tmp_path, monkeypatch, capsys):
    """A step that does not come true: a summary that says so, the end of a log, exit status 1, the folder kept."""
    from tests.demo import __main__ as demo
    from tests.demo.stage import Stage, Untrue
    from tests.demo.steps import Step

    def fail(stage: Stage) -> str:
        log = stage.folder / "roof.log"
        log.write_text("the reason\n")
        raise Untrue("not so: the roof is dry", log)

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(demo.tempfile, "tempdir", None)
    monkeypatch.setattr(demo.signal, "signal", lambda *_: None)
    monkeypatch.setattr(demo, "STEPS", (Step("Rain", "It rains.", fail), Step("Sun", "It shines.", lambda stage: "")))
    assert demo.main([]) == 1
    said = capsys.readouterr().out
    assert "✗ not so: the roof is dry" in said
    assert "│ the reason" in said
    assert "not reached" in said
    assert "0 of 2 steps came true" in said
    (kept,) = tmp_path.glob("fleetleaf-*")
    assert str(kept) in said
