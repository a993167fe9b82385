"""`python -m agent.fleet`, the same as `fleet`."""

import sys

from agent.fleet.cli import main

if __name__ == "__main__":
    sys.exit(main())
