"""Where JWTs of accounts are kept: in memory, or in a folder, one file each (`<account id>.jwt`), as by nats-server.

Everything is in memory as well: the folder is read at the start, when an unknown account is asked for, and again every
interval, so that files put there by hand count too. What is in a file is not trusted here; whoever reads it checks it.
"""

import hashlib
import re
from pathlib import Path

from leafnode.base.files import sync_folder, write_atomic
from leafnode.errors import ConfigError, TrustError

LIMIT = 1000  # JWTs where the configuration names no limit (nats-server: none at all)
SUFFIX = ".jwt"
DELETED = ".deleted"
FILE_MAX = 1024 * 1024  # bytes; larger is no JWT
_ID = re.compile(r"A[A-Z2-7]{55}")


def is_account(name: str) -> bool:
    """Whether it has the form of an account's id."""
    return _ID.fullmatch(name) is not None


class Resolver:
    """Account ids to JWTs. `folder` None: in memory only."""

    def __init__(
        self,
        known: dict[str, str] | None = None,
        *,
        folder: Path | None = None,
        limit: int = 0,
        evicts: bool = False,
        unlinks: bool = False,
    ) -> None:
        """`evicts`: when it is full, what was not asked for longest gives way; it can be had again. `unlinks`: files of
        deleted accounts are not kept under another name.

        Raises:
            ConfigError: the folder cannot be used.
        """
        self._evicts = evicts
        self._unlinks = unlinks
        self._known = dict(known or {})
        self.folder = folder
        self._limit = limit or LIMIT
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self.rescan()
            except OSError as error:
                raise ConfigError(f"resolver: cannot use the folder {folder}: {error.strerror}") from error

    def ids(self) -> list[str]:
        return sorted(self._known)

    def get(self, account: str) -> str:
        """Its JWT; empty: nobody knows it."""
        text = self._known.get(account)
        if text and self._evicts:
            self._known[account] = self._known.pop(account)  # the last one is what was asked for last
        return text or self._read(account)

    def put(self, account: str, text: str) -> None:
        """Keep it, durably where there is a folder. Raises TrustError when there is no room or the disk refuses."""
        if not _ID.fullmatch(account):
            raise TrustError("not an account id")
        if account not in self._known and len(self._known) >= self._limit:
            self._evict()
        if account not in self._known and len(self._known) >= self._limit:
            raise TrustError(f"the resolver holds its limit of {self._limit} accounts: raise 'limit' or delete some")
        if self.folder is not None:
            try:
                write_atomic(self._path(account), text.encode())
            except OSError as error:
                raise TrustError(f"the JWT cannot be written: {error.strerror}") from error
        self._known[account] = text

    def _evict(self) -> None:
        if self._evicts and self._known:
            oldest = next(iter(self._known))
            del self._known[oldest]
            if self.folder is not None:
                self._path(oldest).unlink(missing_ok=True)

    def delete(self, account: str) -> bool:
        """Forget it; its file is kept under another name. False: it was not there."""
        if self._known.pop(account, None) is None:
            return False
        if self.folder is not None:
            path = self._path(account)
            if self._unlinks or self._evicts:
                path.unlink(missing_ok=True)
            elif path.exists():
                path.rename(path.with_name(path.name + DELETED))
                sync_folder(self.folder)
        return True

    def digest(self) -> bytes:
        """The same for the same set of JWTs, whatever their order."""
        found = 0
        for text in self._known.values():
            found ^= int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
        return found.to_bytes(32, "big")

    def rescan(self) -> list[str]:
        """Look at the folder again; returns the accounts whose JWTs are new or other ones."""
        if self.folder is None:
            return []
        fresh = []
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            account = path.name.removesuffix(SUFFIX)
            before, now = self._known.get(account), self._read(account)
            if now and now != before:
                fresh.append(account)
        return fresh

    def _read(self, account: str, otherwise: str = "") -> str:
        """From the folder, if it is there and there is room for it."""
        if self.folder is None or not _ID.fullmatch(account):
            return otherwise
        if account not in self._known and len(self._known) >= self._limit:
            return otherwise
        try:
            with self._path(account).open("rb") as file:
                text = file.read(FILE_MAX).decode().strip()
        except (OSError, UnicodeDecodeError):
            return otherwise
        self._known[account] = text
        return text

    def _path(self, account: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{account}{SUFFIX}"
