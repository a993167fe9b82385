"""Runs the demo: `python -m tests.demo [--keep]`. Exit status: 0 when every step came true, 1 when not, 130 on Ctrl-C.

`--keep` leaves everything running afterwards and says what to try, until Ctrl-C. `--site-broker nats-server` runs the
sites with the stock server instead of ours: when something fails, it tells whose fault it is.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Final

from tests.demo.stage import LOOK_EVERY_SECONDS, SITE_BROKERS, Stage, Untrue
from tests.demo.steps import STEPS, Step, next_things
from tests.demo.telling import Outcome, Teller

FAILED: Final = 1
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count


def main(argv: list[str]) -> int:
    """Plays everything in a temporary folder, which stays only when something failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--keep", action="store_true", help="leave everything running afterwards, until Ctrl-C")
    parser.add_argument("--site-broker", choices=SITE_BROKERS, default="leafnode", help="what the sites run (leafnode)")
    arguments = parser.parse_args(argv)
    tell = Teller()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # a closed terminal ends the processes as Ctrl-C does
    folder = Path(tempfile.mkdtemp(prefix="fleetleaf-"))
    failed = False
    try:
        with Stage(tell, folder, site_broker=arguments.site_broker) as stage:
            failed = not play(stage, tell)
            if arguments.keep and not failed:
                keep(stage, tell)
    except KeyboardInterrupt:
        tell.line()
        tell.line("Interrupted: everything that was started is ended.")
        return INTERRUPTED
    finally:
        if not failed:
            shutil.rmtree(folder, ignore_errors=True)
    if failed:
        tell.line(f"All logs and files: {folder}")
    return FAILED if failed else 0


def play(stage: Stage, tell: Teller) -> bool:
    """Every step until one fails, then the summary; whether all came true."""
    tell.line(tell.styled("bold", "Fleetleaf: a hub, two sites, three devices and a Pico, all on this machine"))
    start = time.monotonic()
    outcomes: list[Outcome] = []
    going = True
    for number, step in enumerate(STEPS, 1):
        if going:
            tell.heading(number, len(STEPS), step.title)
            tell.say(step.story)
            outcomes.append(perform(stage, tell, step))
            tell.verdict(outcomes[-1])
            going = outcomes[-1].true is True
        else:
            outcomes.append(Outcome(step.title, None, 0.0, "not reached"))
    tell.summary(outcomes, time.monotonic() - start)
    return going


def perform(stage: Stage, tell: Teller, step: Step) -> Outcome:
    """One step; a failure is told with the log that may explain it."""
    start = time.monotonic()
    try:
        words, true = step.act(stage), True
    except Untrue as untrue:
        words, true = str(untrue), False
        stage.tail(untrue.log)
    except Exception as error:  # whatever it is, the spectator gets a summary and the processes get their end
        words, true = f"{type(error).__name__}: {error}".partition("\n")[0], False
        tell.tail("the demo itself stumbled:", traceback.format_exc().splitlines())
        stage.tail(None)
    return Outcome(step.title, true, time.monotonic() - start, words)


def keep(stage: Stage, tell: Teller) -> None:
    """Leaves everything running until Ctrl-C."""
    tell.line()
    tell.line(tell.styled("bold", "Everything keeps running. In another terminal, with .venv/bin on PATH, try:"))
    tell.line()
    for each in next_things(stage):
        tell.line(f"   {each}")
    tell.line()
    tell.line(f"Files and logs: {stage.folder}   Ctrl-C ends everything.")
    while True:
        time.sleep(LOOK_EVERY_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
