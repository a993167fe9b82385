"""`leafnode check`: reads a whole store and says what is damaged; with `--repair` salvages it.

    leafnode check -c /etc/leafnode/leafnode.conf     # or --store DIR; a broker may be running
    leafnode check --store DIR --repair               # none may

Exit status: 0 all is well (or is again, after a repair), 1 damage was found, 2 the store cannot be looked at.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from leafnode.base import files
from leafnode.errors import LeafnodeError
from leafnode.store import FILE_NAME, LOCK_NAME
from leafnode.store.salvage import Report, salvage
from leafnode.store.scrub import Finding, scrub

GOOD, DAMAGED, IMPOSSIBLE = 0, 1, 2


def main(args: Sequence[str]) -> int:
    """Run with the arguments behind `check`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="leafnode check", description="Read a whole store; say what is damaged.")
    parser.add_argument("-c", "--config", help="configuration file that names the store")
    parser.add_argument("--store", type=Path, help="the store's folder, instead")
    parser.add_argument(
        "--repair", action="store_true", help="put a damaged file aside and salvage it; stop the broker"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    chosen = parser.parse_args(args)
    try:
        path = _folder(chosen.store, chosen.config) / FILE_NAME
        if not path.is_file():
            raise LeafnodeError(f"{path}: there is no such store")
        findings = list(scrub(path))
        report = _repair(path, findings) if chosen.repair and findings else None
    except LeafnodeError as error:
        sys.stderr.write(f"leafnode check: {error}\n")
        return IMPOSSIBLE
    sys.stdout.write(_as_json(path, findings, report) if chosen.json else _as_text(path, findings, report))
    return GOOD if not findings or report is not None else DAMAGED


def _folder(store: Path | None, config: str | None) -> Path:
    if store is not None:
        return store
    if not config:
        raise LeafnodeError("say which store: -c FILE or --store DIR")
    from leafnode.config.flags import configure

    folder = configure(["-c", config], os.environ).jetstream.store_dir
    if not folder:
        raise LeafnodeError(f"{config}: names no store_dir: say which with --store DIR")
    return Path(folder)


def _repair(path: Path, findings: Sequence[Finding]) -> Report:
    try:
        lock = files.hold(path.with_name(LOCK_NAME))
    except OSError as error:
        raise LeafnodeError(f"{path}: a broker has it open: stop that one to repair") from error
    try:
        return salvage(path, f"check: {findings[0].text}")
    finally:
        os.close(lock)


def _as_json(path: Path, findings: Sequence[Finding], report: Report | None) -> str:
    found = [finding._asdict() for finding in findings]
    return json.dumps({"store": str(path), "good": not findings, "findings": found, "repair": report}) + "\n"


def _as_text(path: Path, findings: Sequence[Finding], report: Report | None) -> str:
    if not findings:
        return f"{path}: good\n"
    lines = [_line(finding) for finding in findings]
    if report is not None:
        lines += [
            f"salvaged: stream {stream['name']}: {stream['kept']} messages, at least {stream['lost_at_least']} lost"
            for stream in report["streams"]
        ]
        lines.append(f"the damaged file is kept as {report['kept']}")
    return "".join(f"{line}\n" for line in lines)


def _line(finding: Finding) -> str:
    where = f"stream {finding.stream} of account {finding.account}: " if finding.stream else ""
    return where + (f"sequence {finding.sequence}: " if finding.sequence else "") + finding.text
