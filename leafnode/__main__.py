"""The broker's command: read flags and file, set up the log, run until stopped.

Exit status: 0 after an orderly stop, `-t` on a good configuration, help and version; 1 when it cannot start or the
configuration is bad, with the reason on stderr.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from leafnode import __version__
from leafnode.errors import LeafnodeError

if TYPE_CHECKING:
    from leafnode.config.options import Config

_SIGNALS = {
    "stop": signal.SIGKILL,
    "quit": signal.SIGINT,
    "term": signal.SIGTERM,
    "reload": signal.SIGHUP,
    "reopen": signal.SIGUSR1,
    "ldm": signal.SIGUSR2,
}
"""Words of `--signal`, as nats-server has them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: that of this process); returns the exit status."""
    words = list(sys.argv if argv is None else argv)
    try:
        return _run(_program(words[0]), words[1:])
    except LeafnodeError as error:
        sys.stderr.write(f"leafnode: {error}\n")
        return 1


def _program(argv0: str) -> str:
    """What the log, the ports file and `--version` call us: the name we were started by."""
    name = Path(argv0).name
    return "leafnode" if name == "__main__.py" else name


def _run(program: str, args: list[str]) -> int:
    if args[:1] == ["check"]:
        from leafnode import checking

        return checking.main(args[1:])
    from leafnode.config import flags

    if args[:1] == ["status"]:
        from leafnode import status

        return status.main(args[1:])
    invocation = flags.parse_args(args)
    match invocation.action:
        case "help":
            sys.stdout.write(flags.help_text() + "\n")
        case "version":
            sys.stdout.write(version_line(program) + "\n")
        case "signal":
            send_signal(invocation.given["sl"])
        case "test":
            return _test(flags.configure(args, os.environ))
        case "run":
            return _serve(program, args)
    return 0


def version_line(program: str) -> str:
    """One line. Under nats-server's name it is nats-server's, which launchers parse."""
    from leafnode.identity import SPOKEN_VERSION

    if program == "nats-server":
        return f"nats-server: v{SPOKEN_VERSION}"
    return f"leafnode: v{__version__} (speaks NATS {SPOKEN_VERSION})"


def _test(config: "Config") -> int:
    """The verdict of `-t`; as with nats-server a warning makes the check fail."""
    for warning in config.warnings:
        sys.stderr.write(f"leafnode: {warning}\n")
    if config.warnings:
        return 1
    sys.stderr.write(f"leafnode: configuration file {config.config_file} is valid ({config.config_digest})\n")
    return 0


def _serve(program: str, args: list[str]) -> int:
    import asyncio
    import logging

    from leafnode.config.flags import configure
    from leafnode.net.process import start_log

    config = configure(args, os.environ)
    start_log(config)
    for warning in config.warnings:
        logging.getLogger("leafnode").warning("%s", warning)

    from leafnode import broker

    return asyncio.run(broker.serve(config, argv0=program))


def send_signal(order: str) -> None:
    """Carry out `--signal WORD=PID`, where PID is a number or the path of a PID file."""
    word, _, target = order.partition("=")
    if word not in _SIGNALS:
        raise LeafnodeError(f"unknown signal {word!r}: one of {', '.join(_SIGNALS)} is expected")
    if not target:
        raise LeafnodeError(f"say which process: --signal {word}=PID or --signal {word}=PIDFILE")
    try:
        pid = int(target if target.isdigit() else Path(target).read_text(encoding="ascii"))
        if pid <= 0:
            raise ValueError(target)
        os.kill(pid, _SIGNALS[word])
    except ValueError:
        raise LeafnodeError(f"{target}: does not hold a process id") from None
    except OSError as error:
        raise LeafnodeError(f"cannot signal {target}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
