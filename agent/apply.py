"""Putting a managed file in place so that a bad one undoes itself.

    prepare (render, temporary file beside the target) → validate → keep the old file → rename → reload → verify
    → confirm (items with `confirm_s`) → record

Before the rename nothing of the device is touched (`refused`). From the rename on, a failure brings back the old bytes,
mode and owner and reloads again (`reverted`). The record of an item is written as `pending` before the rename, together
with a copy of the old file: a power cut in between finds both, and the next start begins again from the same old file.
"""

import os
import stat
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from agent import drift, owners
from agent.attempt import ApplyError, Attempts, Step, digest_of, reason_of
from agent.desired import Desired
from agent.payloads import ConfigState
from agent.record import NOBODY, Applied, left_s, moment
from agent.render import RenderError, render
from agent.settings import Item
from leafnode.base import files, nuid

FILE_PLACE: Final = "{file}"
TEMPLATE_BYTES: Final = 1_048_576  # of a template: what one message can fill in is no larger

QUIET_SECONDS: Final = 3.0  # after a change before reaching the hub counts: interfaces go down a moment later
QUIET_SHARE: Final = 0.25  # of a short window at most
PUT_BACK_MAX: Final = 5  # times within an hour that a file changed by hand is put back
HOUR_SECONDS: Final = 3600.0
NOT_SEEN: Final = (0,)  # the signature of no file


class FileApplier(Attempts):
    """Keeps one item's file as desired. One call at a time."""

    def __init__(self, name: str, item: Item, state_dir: Path, step: Step = lambda name: None) -> None:
        super().__init__(name, item, state_dir, step)
        assert item.path is not None
        self._path = item.path
        left = self.last
        self._untouched = left is None or left.state != "pending" or self._digest() != left.digest
        self._seen: drift.Signature = NOT_SEEN
        self._put_back: deque[float] = deque(maxlen=PUT_BACK_MAX)

    def _digest(self) -> str:
        try:
            return digest_of(self._path.read_bytes())
        except OSError:
            return ""

    async def apply(self, desired: Desired) -> Applied | None:
        """Make the file as desired; what came of it, or None when there was nothing to do.

        A content that was refused or reverted is tried again only when a newer revision asks for it.
        """
        if not desired.revisions:
            return None
        self._step("prepare")
        try:
            content = self._rendered(desired)
        except (ApplyError, RenderError) as error:
            return None if self._is_settled(desired, "") else await self._refuse(desired, "", str(error))
        digest = digest_of(content)
        if self._is_settled(desired, digest):
            return None
        if self._is_in_place(digest) and self.last is not None and self.last.state == "applied":
            return self._settle(desired, "applied", digest)  # another revision of the same content
        return await self._replace(desired, content, digest)

    def _rendered(self, desired: Desired) -> bytes:
        if desired.error:
            raise ApplyError(desired.error)
        template = _read_template(self.item.template) if self.item.template else ""
        return render(desired.values, self.item.format, template)

    def _is_settled(self, desired: Desired, digest: str) -> bool:
        last = self.last
        if last is None or last.state == "pending" or last.revisions != desired.revisions or last.digest != digest:
            return False
        if last.overridden_until != desired.overridden_until:
            return False
        return last.state != "applied" or self.item.on_drift == "report" or self._is_in_place(digest)

    def _is_in_place(self, digest: str) -> bool:
        """Whether the file has this content, and the mode and owner that the item wants."""
        try:
            about = self._path.stat()
            owner = owners.find(self.item.owner)
            return (
                digest_of(self._path.read_bytes()) == digest
                and stat.S_IMODE(about.st_mode) == self.item.mode_bits
                and owner.is_of(about)
            )
        except (OSError, owners.OwnerError):
            return False

    # The steps

    async def _replace(self, desired: Desired, content: bytes, digest: str) -> Applied:
        path = self._path
        temporary = path.parent / f".{path.name}.{nuid.new()}.new"
        try:
            _check_target(path)
            files.write_atomic(temporary, content, self.item.mode_bits)
            self._give(temporary)
            self._step("validate")
            await self._must_succeed("validate", _with_file(self.item.validate, temporary))
            self._step("keep")
            self._keep_previous(desired, digest)
            self._step("rename")
            self._untouched = False
            os.replace(temporary, path)
            files.sync_folder(path.parent)
        except (ApplyError, OSError, owners.OwnerError) as error:
            temporary.unlink(missing_ok=True)
            return await self._refuse(desired, digest, reason_of(error))
        return await self._take_effect(desired, digest)

    async def _take_effect(self, desired: Desired, digest: str) -> Applied:
        try:
            self._step("reload")
            await self._must_succeed("reload", self.item.reload)
            self._step("verify")
            await self._must_succeed("verify", self.item.verify)
        except ApplyError as error:
            return self._settle(desired, "reverted", digest, await self._revert(reason_of(error)))
        if self.last is not None and self.last.confirm_s:
            self._step("confirm")
            self._note(replace(self.last, verified=True, began=moment(), error="it has yet to reach the hub"))
            return self.last
        return self._settle(desired, "applied", digest)

    def _settle(self, desired: Desired, state: ConfigState, digest: str, error: str = "", diff: str = "") -> Applied:
        if state == "applied":
            self._keep_wanted(digest)
        self._seen = NOT_SEEN
        return super()._settle(desired, state, digest, error, diff)

    # Changes by hand

    def _keep_wanted(self, digest: str) -> None:
        """Keep the content that drift is measured against."""
        kept = self._wanted()
        if kept is None or digest_of(kept) != digest:
            content = self._path.read_bytes()
            if digest_of(content) == digest:  # else somebody was quicker: the next look tells
                self._record.keep(self._record.wanted, content)

    def _wanted(self) -> bytes | None:
        try:
            return self._record.wanted.read_bytes()
        except OSError:
            return None

    async def look(self) -> Applied | None:
        """See whether the file is as it was applied; put it back, or tell."""
        last = self.last
        now = drift.signature(self._path)
        if last is None or last.state not in ("applied", "drifted") or now == self._seen:
            return None
        self._seen = now
        applied = Desired({}, last.revisions, overridden_until=last.overridden_until)
        if self._is_in_place(last.digest):
            if last.state == "applied":
                self._keep_wanted(last.digest)  # an agent before this one may not have
                return None
            settled = self._settle(applied, "applied", last.digest)
            self._seen = now
            return settled
        wanted = self._wanted()
        known = wanted is not None and digest_of(wanted) == last.digest
        if self.item.on_drift == "correct" and not known and last.state == "applied":
            return None  # nothing to put back: the fleet's values do, as soon as they are read
        diff = self._drift(wanted) if wanted is not None and known else ""
        if self.item.on_drift == "correct" and wanted is not None and known and self._may_put_back():
            put_back = await self._replace(applied, wanted, last.digest)
            if put_back.state != "applied":
                return put_back
            return self._settle(applied, "applied", last.digest, "it was changed by hand, and put back", diff)
        if last.state == "drifted" and last.diff == diff:
            return None
        often = f"; it was put back {PUT_BACK_MAX} times within an hour: something else writes it"
        why = "it was changed by hand" + (often if self.item.on_drift == "correct" and known else "")
        settled = self._settle(applied, "drifted", last.digest, why, diff)
        self._seen = now
        return settled

    def _drift(self, wanted: bytes) -> str:
        """How the file differs from `wanted`, in content, mode and owner."""
        try:
            about = self._path.lstat()
            found = self._path.read_bytes()
        except OSError as error:
            return f"the file cannot be read: {error.strerror}"
        lines = []
        if (mode := stat.S_IMODE(about.st_mode)) != self.item.mode_bits:
            lines.append(f"mode {mode:04o} instead of {self.item.mode_bits:04o}")
        try:
            if not owners.find(self.item.owner).is_of(about):
                lines.append(f"owner {about.st_uid}:{about.st_gid} instead of {self.item.owner}")
        except owners.OwnerError as error:
            lines.append(str(error))
        if self.item.secret:
            lines += ["the content differs, and is secret"] if found != wanted else []
        else:
            lines += [drift.difference(wanted, found)]
        return "\n".join(filter(None, lines))

    def _may_put_back(self) -> bool:
        """Two programs that each insist on their file would restart a service for ever."""
        now = moment()[1]
        if len(self._put_back) == PUT_BACK_MAX and now - self._put_back[0] < HOUR_SECONDS:
            return False
        self._put_back.append(now)
        return True

    # Confirming that the device still reaches the hub

    @property
    def unconfirmed(self) -> bool:
        last = self.last
        return last is not None and last.state == "pending" and last.confirm_s > 0 and not self._untouched

    def left_s(self) -> float:
        """Of the time within which the hub must be reached."""
        return left_s(self.last, moment()) if self.last is not None else 0.0

    @property
    def may_confirm(self) -> bool:
        """Whether reaching the hub now would prove anything: a link takes a moment to break."""
        last = self.last
        if last is None or not last.verified:
            return False
        return 0 < self.left_s() <= last.confirm_s - min(QUIET_SECONDS, last.confirm_s * QUIET_SHARE)

    async def confirm(self, reason: str) -> Applied | None:
        """Settle the change: kept when `reason` why the hub is out of reach is empty, undone when its time is over.

        Also goes on where an agent that was killed left off. None while nothing is decided.
        """
        last = self.last
        if last is None or not self.unconfirmed:
            return None
        desired = Desired({}, last.revisions, overridden_until=last.overridden_until)
        if not reason and last.verified:
            return self._settle(desired, "applied", last.digest)
        if not self.left_s():
            why = f"the hub was not reached within {last.confirm_s:g} s: {reason}"
            return self._settle(desired, "reverted", last.digest, await self._revert(why))
        return None if last.verified else await self._take_effect(desired, last.digest)

    async def _refuse(self, desired: Desired, digest: str, reason: str) -> Applied:
        """Nothing was touched; unless an attempt that was cut short left its file, which nobody has verified."""
        if self.last is not None and self.last.state == "pending":
            return self._settle(desired, "reverted", digest, await self._revert(reason))
        return self._settle(desired, "refused", digest, reason)

    def _give(self, temporary: Path) -> None:
        """To the item's owner, or to whom the old file belonged."""
        if self.item.owner:
            owners.find(self.item.owner).give(temporary)
        elif self._path.exists():
            owners.of(self._path.stat()).give_if_root(temporary)

    def _keep_previous(self, desired: Desired, digest: str) -> None:
        """Copy the old file aside and note that a change is under way; unless one already is, and was cut short."""
        pending = Applied(
            state="pending",
            revision=desired.revision,
            revisions=desired.revisions,
            digest=digest,
            existed=False,
            confirm_s=self.item.confirm_s,
            overridden_until=desired.overridden_until,
            began=moment(),
        )
        if self.last is not None and self.last.state == "pending":
            old = self.last
            pending = replace(
                pending, existed=old.existed, old_mode=old.old_mode, old_user=old.old_user, old_group=old.old_group
            )
        elif self._path.exists():
            about = self._path.stat()
            self._record.keep(self._record.previous, self._path.read_bytes())
            pending = replace(
                pending,
                existed=True,
                old_mode=stat.S_IMODE(about.st_mode),
                old_user=about.st_uid,
                old_group=about.st_gid,
            )
        self._note(pending)

    async def _revert(self, reason: str) -> str:
        """Bring the old file back and reload; the reason, with what else went wrong."""
        assert self.last is not None
        path = self._path
        try:
            if self.last.existed:
                restored = path.parent / f".{path.name}.{nuid.new()}.old"
                files.write_atomic(restored, self._record.previous.read_bytes(), self.last.old_mode)
                if self.last.old_user != NOBODY:
                    owners.Owner(self.last.old_user, self.last.old_group).give_if_root(restored)
                    os.chmod(restored, self.last.old_mode)  # giving away takes set-id bits
                os.replace(restored, path)
            else:
                path.unlink(missing_ok=True)
            files.sync_folder(path.parent)
            await self._must_succeed("reload of the old file", self.item.reload)
        except (ApplyError, OSError) as error:
            return f"{reason}; then {reason_of(error)}"
        return reason


def _read_template(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(TEMPLATE_BYTES + 1)
        if len(content) > TEMPLATE_BYTES:
            raise ApplyError(f"template {path} is larger than {TEMPLATE_BYTES} bytes")
        return content.decode()
    except OSError as error:
        raise ApplyError(f"template {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ApplyError(f"template {path} is not UTF-8 text") from error


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
