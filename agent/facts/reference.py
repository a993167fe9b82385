"""docs/facts.md, made of the tables themselves: `python -m agent.facts.reference > docs/facts.md`."""

import sys
from datetime import UTC, datetime

from agent.facts import broker, own, system
from agent.facts.table import Facts, Table
from agent.sandbox import FUNCTIONS

HEAD = """\
# Facts: what a device can be asked

Made from the code by `python -m agent.facts.reference`. How to ask: [the command line](fleet-cli.md); how to add
facts of your own: [the agent](agent.md).

Each group of facts is a table. One of a single row can be used in a filter as it stands,
`os.name = 'Android' AND mem.percent > 80`. One of many rows is asked in a subquery,
`EXISTS (SELECT 1 FROM process WHERE name = 'sshd')`, or with a whole statement (`--sql`). Only the tables that a
question names are collected. Sizes are bytes, moments RFC 3339 in UTC; what a machine does not have is NULL.

Functions: {functions}. `ago('90s')`, `'5m'`, `'1h'`, `'7d'`, `'2w'` is the moment that long ago, to compare
moments with.

| Table | Rows | What one row is |
|---|---|---|
{tables}

Every table named in `[history] tables` has a past: `history_cpu`, `history_temperature` …, with the moment `at` in
front (`SELECT max(celsius) FROM history_temperature WHERE at > ago('1h')`). Of single-row tables the numbers are kept.
"""


def tables() -> list[Table]:
    """Every table that an agent has without custom facts."""
    mine = own.tables("", "", datetime.now(UTC), (), {}, list, list)
    return [*system.tables(system.CpuMeter()), *broker.tables(""), *mine]


def page() -> str:
    """The page as Markdown."""
    found = list(Facts(tables()))
    overview = "\n".join(f"| [`{each.name}`](#{each.name}) | {_rows(each)} | {each.about} |" for each in found)
    head = HEAD.format(functions=" ".join(f"`{name}`" for name in sorted(FUNCTIONS)), tables=overview)
    return "\n".join([head, *map(_section, found)])


def _rows(table: Table) -> str:
    kept = f"; at most {table.age_s:g} s old" if table.age_s else ""
    return ("one" if table.single else "many") + kept


def _section(table: Table) -> str:
    lines = [f"| `{column}` | {table.meanings[column]} |" for column in table.columns]
    return "\n".join([f"## {table.name}", "", "| Column | Meaning |", "|---|---|", *lines, ""])


if __name__ == "__main__":
    sys.stdout.write(page())
