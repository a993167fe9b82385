"""Who a managed file belongs to: `USER` or `USER:GROUP` of the settings as numbers, and giving files away."""

import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ANYBODY: Final = -1  # as os.chown has it: leave as it is


class OwnerError(Exception):
    """There is no such user or group, or we may not give files to them."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Numbers of a user and a group; -1 is anybody."""

    user: int = ANYBODY
    group: int = ANYBODY

    def is_of(self, about: os.stat_result) -> bool:
        return self.user in (ANYBODY, about.st_uid) and self.group in (ANYBODY, about.st_gid)

    def give(self, path: Path) -> None:
        """Make the file theirs, with the mode it has.

        Raises:
            OwnerError: only root may give files away.
        """
        about = path.stat()
        if self.is_of(about):
            return
        try:
            os.chown(path, self.user, self.group)
        except PermissionError as error:
            raise OwnerError(
                f"only root may give a file to another owner, and this agent runs as user {os.geteuid()}"
            ) from error
        os.chmod(path, stat.S_IMODE(about.st_mode))  # giving away takes set-id bits

    def give_if_root(self, path: Path) -> None:
        """The same, and to anybody but root a wish."""
        if os.geteuid() == 0:
            self.give(path)


def find(text: str) -> Owner:
    """The numbers of `USER` or `USER:GROUP`, by name or number. With USER alone, that user's own group. Empty: anybody.

    Raises:
        OwnerError: there is no such user or group.
    """
    if not text:
        return Owner()
    user, _, group = text.partition(":")
    try:
        known = None if user.isdecimal() else pwd.getpwnam(user)
        number = known.pw_uid if known else int(user)
        if group:
            return Owner(number, int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid)
        return Owner(number, known.pw_gid if known else ANYBODY)
    except KeyError:
        raise OwnerError(f"owner {text!r}: this device has no such user or group") from None


def of(about: os.stat_result) -> Owner:
    return Owner(about.st_uid, about.st_gid)
