"""docs/leafnode-config.md names every key and flag that the program knows."""

import re
from pathlib import Path

import pytest

from leafnode.config.flags import GROUPS, REFUSED
from leafnode.config.load import tables
from leafnode.config.section import Table

TEXT = (Path(__file__).parents[3] / "docs" / "leafnode-config.md").read_text()
WORDS = set(re.findall(r"`(-{0,2}[\w.*\[\]]+)`", TEXT))


@pytest.mark.parametrize("table", list(tables()), ids=lambda table: table.path or "top level")
def test_every_key_is_documented(table: Table) -> None:
    assert set(table.spellings()) <= WORDS


def test_every_flag_is_documented() -> None:
    names = [name for flags in GROUPS.values() for flag in flags for name in flag.names]
    for name in [*names, *REFUSED]:
        assert {f"-{name}", f"--{name}"} & WORDS, name
