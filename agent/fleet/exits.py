"""Exit codes of `fleet`, chosen in one place and documented in docs/fleet-cli.md.

When several apply, the first of this order wins: INTERRUPTED, FAILED, INCOMPLETE, OK. Nothing that failed hides behind
something that is merely late.
"""

from enum import IntEnum


class Exit(IntEnum):
    OK = 0
    """Every device in question answered, and well."""

    FAILED = 1
    """Something answered with a failure: a device reported an error, a command failed, a configuration was refused."""

    USAGE = 2
    """The command line or the settings ask for something impossible; nothing was done. Also argparse's own code."""

    UNREACHABLE = 3
    """The hub cannot be reached, refuses the credentials, or lacks its streams (`fleet init`)."""

    INCOMPLETE = 4
    """What answered is well, but some devices are absent, queued or have not answered in time."""

    INTERRUPTED = 130
    """Ctrl-C: what had come by then was printed. 128 + SIGINT, as shells count."""


_RANK = (Exit.INTERRUPTED, Exit.UNREACHABLE, Exit.USAGE, Exit.FAILED, Exit.INCOMPLETE, Exit.OK)


def worst(*codes: Exit) -> Exit:
    """The code that speaks for all of `codes`; OK when there are none."""
    return min(codes, key=_RANK.index, default=Exit.OK)
