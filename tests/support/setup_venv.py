"""Make the virtual environment that `make demo` and `make test` run in.

Runs under the system's Python with the standard library only, so that its messages can say what is missing.
"""

import os
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)


def fail(message: str) -> None:
    print(f"setup: {message}", file=sys.stderr)
    raise SystemExit(1)


def main(where: str) -> None:
    if sys.version_info < OLDEST:
        fail(
            f"Python {sys.version.split()[0]} is too old: Fleetleaf needs {OLDEST[0]}.{OLDEST[1]} or newer. "
            "Name another one with: make PYTHON=python3.12 ..."
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        fail("Python's venv module is missing. Debian, Ubuntu, Raspberry Pi OS: sudo apt install python3-venv")
    python = Path(where) / "bin" / "python"
    if not python.exists():
        print(f"setup: making {where}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", where], check=True)
    print("setup: installing what Fleetleaf needs (once; about a minute)", file=sys.stderr)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    done = subprocess.run([*pip, "-e", ".[operator,hub,dev]"], env=environment, check=False)
    if done.returncode:
        fail("pip could not install the dependencies (its message is above); is a package index reachable?")
    # As pip does with what it copies: else a start compiles everything where Python may not write (70 ms of it).
    subprocess.run([str(python), "-m", "compileall", "-q", "leafnode", "agent"], check=False)


if __name__ == "__main__":
    main(sys.argv[1])
