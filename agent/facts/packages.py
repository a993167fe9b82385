"""Installed Debian packages, from dpkg's status file (deb822(5)): paragraphs of `Key: value` lines."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from agent.facts.linux import ROOT

AGE_SECONDS: Final = 60.0  # a megabyte of text to read; packages change with an upgrade

PACKAGE: Final = {
    "name": "`openssh-server`",
    "version": "as dpkg compares it",
    "arch": "`arm64`, `all`",
    "section": "`net`",
    "size": "bytes installed",
    "held": "1: kept at its version",
}

_KEYS: Final = ("Package", "Status", "Version", "Architecture", "Section", "Installed-Size")
_KIBIBYTE: Final = 1024  # Installed-Size counts these


def packages(root: Path = ROOT) -> Iterator[dict[str, Any]]:
    """What is installed, in dpkg's order."""
    try:
        with (root / "var/lib/dpkg/status").open(encoding="utf-8", errors="replace") as file:
            fields: dict[str, str] = {}
            for line in file:
                if line == "\n":
                    yield from _row(fields)
                    fields = {}
                    continue
                key, mark, value = line.partition(": ")
                if mark and key in _KEYS:
                    fields[key] = value.rstrip("\n")
            yield from _row(fields)
    except OSError:
        return


def _row(fields: dict[str, str]) -> Iterator[dict[str, Any]]:
    want, _, state = fields.get("Status", "").partition(" ok ")
    if state != "installed":
        return
    size = fields.get("Installed-Size", "")
    yield {
        "name": fields.get("Package"),
        "version": fields.get("Version"),
        "arch": fields.get("Architecture"),
        "section": fields.get("Section"),
        "size": int(size) * _KIBIBYTE if size.isdigit() else None,
        "held": int(want == "hold"),
    }
