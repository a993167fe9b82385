"""`make fuzz`: minutes of noise for each target, led by coverage (libFuzzer, by way of atheris).

    python -m tests.fuzz [SECONDS] [TARGET…]

What was found interesting is kept in .cache/fuzz/TARGET and is where the next run begins; an input that breaks a target
is written beside it, with the traceback on stderr, and the exit status is 1.
"""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(".cache/fuzz")
SECONDS = 60  # for each target
LENGTH_MAX = 2048  # bytes of an input: enough for a few operations or a small file


def run(name: str, seconds: int) -> int:
    """One target in a process of its own, which libFuzzer ends."""
    corpus = FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-max_len={LENGTH_MAX}", f"-artifact_prefix={FOLDER}/broke-{name}-"]
    argv = [sys.executable, "-m", "tests.fuzz", "--one", name, str(corpus), *options]
    return subprocess.run(argv, check=False).returncode


def one(name: str, arguments: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["leafnode"]):
        from tests.fuzz.targets import TARGETS, seeds
    corpus = Path(arguments[0])
    for number, seed in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--one"]:
        one(arguments[1], arguments[2:])
        return 0
    from tests.fuzz.targets import TARGETS

    seconds = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else SECONDS
    broken = [name for name in arguments or TARGETS if run(name, seconds)]
    if broken:
        print(f"broken: {', '.join(broken)}; see {FOLDER}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
