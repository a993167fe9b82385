"""More random SIGKILLs than a test run has time for: `test_kill`, again and again, each time with another seed.

    python -m tests.faults.kills --kills 1000 --seed 7

Ends with the first broken promise, and names the seed that found it.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.test_kill import survive

KILLS_A_ROUND = 50  # with one store: few enough for reading everything back in between


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.faults.kills", description=__doc__.split("\n")[0])
    options.add_argument("--kills", type=int, default=1000)
    options.add_argument("--seed", type=int, default=1, help="of the first round")
    chosen = options.parse_args()
    began, done, acknowledged, seed = time.monotonic(), 0, 0, chosen.seed
    while done < chosen.kills:
        kills = min(KILLS_A_ROUND, chosen.kills - done)
        with tempfile.TemporaryDirectory(prefix="fleetleaf-kills-") as folder:
            try:
                acknowledged += asyncio.run(survive(Path(folder), seed, kills))
            except BaseException:
                print(f"broken with seed {seed}, after {done} kills in other rounds", file=sys.stderr)
                raise
        done += kills
        seed += 1
        print(f"{done} kills, {acknowledged} acknowledged messages, {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
