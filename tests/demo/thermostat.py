"""A user's own little service, as the demo's devices run it: what `fleet-agent` asks before and after a new setting.

thermostat.py check FILE    validate: would the service take this file?
thermostat.py works FILE    verify: does the heating run with it?
"""

import json
import sys

LOWEST, HIGHEST = 5, 30  # °C that the service accepts: frost protection, and what a room can stand
TRIPS_AT = 26  # °C at which the boiler of the demo switches itself off: only running it shows that


def main(verb: str, file: str) -> str:
    """Empty when all is well, else the complaint."""
    with open(file, encoding="utf-8") as source:
        target = json.load(source).get("target")
    if not isinstance(target, int | float):
        return f"target {target!r} is not a number"
    if verb == "check" and not LOWEST <= target <= HIGHEST:
        return f"target {target} is outside {LOWEST} to {HIGHEST}"
    if verb == "works" and target >= TRIPS_AT:
        return f"the boiler tripped at {target}"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]) or 0)
