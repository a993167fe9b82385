"""Who may see which facts: tables and columns taken away before an expression is evaluated. Pure.

A column that is hidden is NULL in answers and in conditions alike, so that nobody finds out its value by asking
`WHERE serial > 'm'`; a table that is hidden does not exist. The past of a table is for those who see all of it.
Roles are told apart by the subject on which a request comes, which is what the broker's permissions are about:
docs/fleet-protocol.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.facts.table import Facts, MoreTables, Row, Table


@dataclass(frozen=True, slots=True)
class Policy:
    """What somebody sees: `tables` (empty: every one) without `hidden`, which are `table` or `table.column`."""

    tables: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()

    @classmethod
    def of(cls, tables: Iterable[str], hidden: Iterable[str]) -> "Policy":
        return cls(frozenset(map(str.lower, tables)), frozenset(map(str.lower, hidden)))

    def sees(self, table: str) -> bool:
        """Whether the table exists at all."""
        return (not self.tables or table in self.tables) and table not in self.hidden

    def sees_all(self, table: str) -> bool:
        """Whether nothing of the table is hidden."""
        return self.sees(table) and not any(name.partition(".")[0] == table for name in self.hidden)

    def applied(self, table: Table) -> Table | None:
        """The table as this policy shows it."""
        if not self.sees(table.name):
            return None
        masked = [f"{table.name}.{column}".lower() in self.hidden for column in table.columns]
        if not any(masked):
            return table
        return Table(
            table.name,
            table.columns,
            table.single,
            lambda: [_masked(row, masked) for row in table.rows()],
            table.about,
            table.meanings,
            table.age_s,
        )


def _masked(row: Row, masked: Iterable[bool]) -> tuple[Any, ...]:
    return tuple(None if hide else value for value, hide in zip(row, masked, strict=True))


class _More:
    """Custom tables under a policy; a hidden one is not even run."""

    def __init__(self, more: MoreTables, policy: Policy) -> None:
        self._more = more
        self._policy = policy

    def names(self) -> list[str]:
        return [name for name in self._more.names() if self._policy.sees(name)]

    def table(self, name: str) -> Table | None:
        if not self._policy.sees(name):
            return None
        found = self._more.table(name)
        return self._policy.applied(found) if found else None


def view(facts: Facts, policy: Policy) -> Facts:
    """The facts as the policy shows them. Rows that are kept for a while are kept in each view by itself."""
    if policy == Policy():
        return facts
    shown = [table for table in map(policy.applied, facts) if table is not None]
    more = facts.more
    return Facts(shown, _More(more, policy) if more is not None else None, facts.clock)


def unknown(names: Iterable[str], facts: Facts) -> list[str]:
    """Names of tables and columns in a policy that are none, as they stand in the settings."""
    known = {name.lower() for name in (*facts.names(), *facts.columns())}
    customs = set(facts.names()) - {table.name for table in facts}
    return [name for name in names if name.lower() not in known and name.partition(".")[0].lower() not in customs]


class Roles:
    """The views of a device's facts: everybody's, and one for each role."""

    def __init__(self, facts: Facts, everyone: Policy, roles: Mapping[str, Policy]) -> None:
        """What is hidden from everyone is hidden from each role too."""
        self._policies = {"": everyone} | {
            name: Policy(policy.tables, policy.hidden | everyone.hidden) for name, policy in roles.items()
        }
        self._views = {name: view(facts, policy) for name, policy in self._policies.items()}

    def names(self) -> list[str]:
        """Every role; the empty one is who may see what everyone may."""
        return list(self._policies)

    def facts(self, role: str) -> Facts:
        return self._views[role]

    def policy(self, role: str) -> Policy:
        return self._policies[role]
