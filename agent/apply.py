"""Putting a managed file in place so that a bad one undoes itself.

    render → temporary file beside the target → validate → keep the old file → rename → reload → verify → record

Before the rename nothing of the device is touched (`refused`). From the rename on, a failure brings back the old bytes
and mode and reloads again (`reverted`). The record of an item is written as `pending` before the rename, together with
a copy of the old file: a power cut in between finds both, and the next start begins again from the same old file.
"""

import hashlib
import json
import logging
import os
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from agent import processes
from agent.desired import Desired
from agent.payloads import ConfigState
from agent.render import RenderError, render
from agent.settings import Item
from leafnode.base import files, nuid

log = logging.getLogger(__name__)

OUTPUT_BYTES: Final = 4096  # kept of what validate, reload and verify print: the reason, for the status
FILE_PLACE: Final = "{file}"
RECORD_MODE: Final = 0o600  # managed files may hold secrets, and so may their previous versions
MAX_ERROR: Final = 1000  # characters of a reason in a status


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What the agent knows of an item: its last attempt, kept across restarts."""

    state: ConfigState
    revision: int = 0
    revisions: dict[str, int] = field(default_factory=dict)
    digest: str = ""
    """SHA-256 of the file that was wanted."""
    error: str = ""
    existed: bool = True
    """Whether there was a file before; only for `pending`."""
    old_mode: int = 0o644


class ApplyError(Exception):
    """A step failed; the text is the reason for the status."""


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Applier:
    """Keeps one item's file as desired. One call at a time."""

    def __init__(self, name: str, item: Item, state_dir: Path) -> None:
        self.name = name
        self.item = item
        self._record = state_dir / "config" / f"{name}.json"
        self._previous = state_dir / "config" / f"{name}.previous"
        self.last = self._read_record()

    async def apply(self, desired: Desired) -> Applied | None:
        """Make the file as desired; what came of it, or None when there was nothing to do.

        A content that was refused or reverted is tried again only when a newer revision asks for it.
        """
        if not desired.revisions:
            return None
        try:
            if desired.error:
                raise ApplyError(desired.error)
            content = render(desired.values, self.item.format)
        except (ApplyError, RenderError) as error:
            if self._is_settled(desired, ""):
                return None
            return self._settle(desired, "refused", "", str(error))
        digest = digest_of(content)
        if self._is_settled(desired, digest):
            return None
        if self._is_in_place(content) and self.last is not None and self.last.state == "applied":
            return self._settle(desired, "applied", digest)  # another revision of the same content
        return await self._replace(desired, content, digest)

    def _is_settled(self, desired: Desired, digest: str) -> bool:
        last = self.last
        if last is None or last.state == "pending" or last.revisions != desired.revisions or last.digest != digest:
            return False
        return last.state != "applied" or self._file_digest() == digest

    def _is_in_place(self, content: bytes) -> bool:
        return self._file_digest() == digest_of(content)

    def _file_digest(self) -> str:
        try:
            return digest_of(self.item.path.read_bytes())
        except OSError:
            return ""

    # The steps

    async def _replace(self, desired: Desired, content: bytes, digest: str) -> Applied:
        path = self.item.path
        temporary = path.parent / f".{path.name}.{nuid.new()}.new"
        try:
            _check_target(path)
            files.write_atomic(temporary, content, self.item.mode_bits)
            _same_owner(temporary, path)
            await self._must_succeed("validate", _with_file(self.item.validate, temporary))
            self._keep_previous(desired, digest)
            os.replace(temporary, path)
            files.sync_folder(path.parent)
        except (ApplyError, OSError) as error:
            temporary.unlink(missing_ok=True)
            return self._settle(desired, "refused", digest, _reason(error))
        try:
            await self._must_succeed("reload", self.item.reload)
            await self._must_succeed("verify", self.item.verify)
        except ApplyError as error:
            return self._settle(desired, "reverted", digest, await self._revert(_reason(error)))
        return self._settle(desired, "applied", digest)

    def _keep_previous(self, desired: Desired, digest: str) -> None:
        """Copy the old file aside and note that a change is under way; unless one already is, and was cut short."""
        if self.last is not None and self.last.state == "pending":
            existed, mode = self.last.existed, self.last.old_mode
        else:
            existed, mode = self.item.path.exists(), 0o644
            if existed:
                mode = stat.S_IMODE(self.item.path.stat().st_mode)
                self._write(self._previous, self.item.path.read_bytes())
        self._note(
            Applied(
                state="pending",
                revision=desired.revision,
                revisions=desired.revisions,
                digest=digest,
                existed=existed,
                old_mode=mode,
            )
        )

    async def _revert(self, reason: str) -> str:
        """Bring the old file back and reload; the reason, with what else went wrong."""
        assert self.last is not None
        path = self.item.path
        try:
            if self.last.existed:
                owner = path.stat()
                files.write_atomic(path, self._previous.read_bytes(), self.last.old_mode)
                _own(path, owner.st_uid, owner.st_gid)
            else:
                path.unlink(missing_ok=True)
                files.sync_folder(path.parent)
            await self._must_succeed("reload of the old file", self.item.reload)
        except (ApplyError, OSError) as error:
            return f"{reason}; then {_reason(error)}"
        return reason

    async def _must_succeed(self, step: str, argv: Sequence[str]) -> None:
        if not argv:
            return
        ended = await processes.run(argv, timeout_s=self.item.timeout_s, output_bytes=OUTPUT_BYTES)
        if not ended.succeeded:
            raise ApplyError(f"{step} {argv[0]} {ended.summary()}")

    # The record

    def _settle(self, desired: Desired, state: ConfigState, digest: str, error: str = "") -> Applied:
        applied = Applied(
            state=state,
            revision=desired.revision,
            revisions=desired.revisions,
            digest=digest,
            error=error[:MAX_ERROR],
        )
        self._note(applied)
        if state == "applied":
            log.info("config applied item=%s revision=%d", self.name, desired.revision)
        else:
            log.warning("config %s item=%s revision=%d reason=%r", state, self.name, desired.revision, applied.error)
        return applied

    def _note(self, applied: Applied) -> None:
        self._write(self._record, json.dumps(asdict(applied)).encode())
        self.last = applied

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_atomic(path, data, RECORD_MODE)

    def _read_record(self) -> Applied | None:
        """None if there is none, or it is not ours: the item is then applied as if for the first time."""
        try:
            values: Any = json.loads(self._record.read_bytes())
            return Applied(**values)
        except (OSError, ValueError, TypeError):
            return None


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'file'}: {error.strerror or error}"
    return str(error)


def _with_file(argv: Sequence[str], path: Path) -> list[str]:
    return [part.replace(FILE_PLACE, str(path)) for part in argv]


def _check_target(path: Path) -> None:
    """Only regular files are managed: replacing a link, a device or a folder would surprise."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise ApplyError(f"folder {path.parent} does not exist") from None
        return
    if not stat.S_ISREG(mode):
        raise ApplyError(f"{path} is not a regular file")


def _same_owner(temporary: Path, path: Path) -> None:
    """The new file belongs to whom the old one belonged."""
    if path.exists():
        owner = path.stat()
        _own(temporary, owner.st_uid, owner.st_gid)


def _own(path: Path, user: int, group: int) -> None:
    """Only root may give files away; to anybody else this is not an error."""
    if os.geteuid() == 0:
        os.chown(path, user, group)
