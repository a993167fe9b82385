"""What stands between accounts, kept in step with what is written: in the configuration, or in accounts' JWTs.

`settle` is told everything that is wanted and changes only what differs from what stands: an import that nobody touched
keeps its interest and the answers it waits for. What was allowed first stays when a later import would close a circle.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from leafnode.base import nuid
from leafnode.config.options import AccountConfig, ExportConfig, ImportConfig
from leafnode.config.sharing import export_for, passage_of, returns
from leafnode.errors import TrustError
from leafnode.route.account import Account
from leafnode.route.bridge import Replies, ServiceImport, StreamImport
from leafnode.route.subject import is_literal
from leafnode.route.transform import TransformError

REPLY_ID_LENGTH = 6  # characters, of which there are 62: as in nats-server; 65,536 at a time hardly meet

CheckToken = Callable[[str, ImportConfig, ExportConfig], float]
"""(importer, import, export that requires a token) -> when the token ends, s, 0 = never. Raises TrustError."""


def no_tokens(importer: str, one: ImportConfig, export: ExportConfig) -> float:
    """In configuration files nobody needs one."""
    raise TrustError("an activation token is required")


class _Standing(NamedTuple):
    bridge: StreamImport | ServiceImport
    export: ExportConfig
    ends_s: float
    """When its activation ends; 0 = never."""

    @property
    def ends(self) -> bool:
        """Whether time alone may end it."""
        return self.ends_s > 0


class Imports:
    """Of all accounts of a broker."""

    def __init__(self, accounts: Mapping[str, Account], check_token: CheckToken) -> None:
        self._accounts = accounts
        self._check_token = check_token
        self._standing: dict[str, dict[ImportConfig, _Standing]] = {}  # by importer
        self._replies: dict[str, Replies] = {}
        self._wanted: Mapping[str, AccountConfig] = {}  # as last settled

    def settle(self, wanted: Mapping[str, AccountConfig]) -> list[str]:
        """Make what stands what `wanted` says; returns what cannot be made, and why."""
        problems: list[str] = []
        allowed = {name: dict(self._allowed(account, wanted, problems)) for name, account in wanted.items()}
        for name, standing in list(self._standing.items()):
            for one, made in list(standing.items()):
                terms = allowed.get(name, {}).get(one)
                if terms is None or terms[0] != made.export or self._is_of_the_past(made.bridge, name, one):
                    made.bridge.close()
                    del standing[one]
        for name, imports in allowed.items():
            for one, (export, ends_s) in imports.items():
                self._make(name, one, export, ends_s, problems)
        self._wanted = dict(wanted)
        return problems

    def next_end_s(self) -> float:
        """When the first activation ends; 0: none does."""
        ends = (made.ends_s for standing in self._standing.values() for made in standing.values() if made.ends_s)
        return min(ends, default=0.0)

    def forget(self, name: str) -> None:
        """An account is no more; nothing that is wanted names it."""
        self._standing.pop(name, None)
        self._replies.pop(name, None)

    def _allowed(
        self, importer: AccountConfig, wanted: Mapping[str, AccountConfig], problems: list[str]
    ) -> Iterator[tuple[ImportConfig, tuple[ExportConfig, float]]]:
        standing, before = self._standing.get(importer.name, {}), self._wanted
        is_same = before.get(importer.name) is importer
        for one in importer.imports:
            made = standing.get(one)
            if made is not None and is_same and before.get(one.account) is wanted.get(one.account) and not made.ends:
                yield one, (made.export, made.ends_s)  # nothing was written that could change it
                continue
            try:
                yield one, self._terms(importer.name, one, wanted)
            except (TrustError, TransformError) as error:
                problems.append(_told(importer.name, one, error))

    def _terms(
        self, importer: str, one: ImportConfig, wanted: Mapping[str, AccountConfig]
    ) -> tuple[ExportConfig, float]:
        """The export that allows an import, and until when. Raises TrustError, TransformError."""
        exporter = wanted.get(one.account)
        if exporter is None or one.account not in self._accounts:
            raise TrustError("the account is not known, or not valid")
        export = export_for(one, importer, exporter.exports)
        if export is None:
            raise TrustError(f"{one.kind} import not authorized")
        if not is_literal(one.prefix.encode()):
            raise TransformError("stream import prefix can not contain wildcard tokens")
        passage_of(one)
        return export, self._check_token(importer, one, export) if export.token_required else 0.0

    def _is_of_the_past(self, bridge: StreamImport | ServiceImport, importer: str, one: ImportConfig) -> bool:
        """Whether it joins accounts that went and came again."""
        parties = self._accounts.get(one.account), self._accounts.get(importer)
        return parties != (bridge.exporter, bridge.importer)

    def _make(self, name: str, one: ImportConfig, export: ExportConfig, ends_s: float, problems: list[str]) -> None:
        standing = self._standing.setdefault(name, {})
        made = standing.get(one)
        if made is not None:
            standing[one] = made._replace(ends_s=ends_s)
            return
        twin = next((other for other in standing if _is_same(one, other)), None)
        if twin is not None:
            problems.append(_told(name, one, f"duplicate of the import of {twin.subject!r} from {twin.account!r}"))
        elif returns(
            one, lambda account: (one, *self._imports_of(account)) if account == name else self._imports_of(account)
        ):
            problems.append(_told(name, one, "import forms a cycle"))
        else:
            standing[one] = _Standing(self._bridge(name, one, export), export, ends_s)

    def _imports_of(self, account: str) -> Iterable[ImportConfig]:
        return self._standing.get(account, {})

    def _bridge(self, name: str, one: ImportConfig, export: ExportConfig) -> StreamImport | ServiceImport:
        exporter, importer, passage = self._accounts[one.account], self._accounts[name], passage_of(one)
        if one.kind == "stream":
            return StreamImport(exporter, importer, passage)
        theirs, ours = self._replies_of(exporter), self._replies_of(importer)
        theirs.back[importer], ours.back[exporter] = ours, theirs
        return ServiceImport(
            exporter,
            importer,
            passage,
            theirs,
            is_single=export.response_type == "singleton",
            ttl_ns=int(export.response_threshold_s * 1e9),
            share=one.share,
        )

    def _replies_of(self, account: Account) -> Replies:
        known = self._replies.get(account.name)
        if known is None or known.account is not account:
            known = self._replies[account.name] = Replies(account, reply_id, time.time_ns)
        return known


def _is_same(one: ImportConfig, other: ImportConfig) -> bool:
    """Two services of one account cannot answer to one name, and a stream imported twice would come twice."""
    if (one.kind, one.account) != (other.kind, other.account):
        return False
    return one.subject == other.subject if one.kind == "stream" else passage_of(one).local == passage_of(other).local


def _told(importer: str, one: ImportConfig, why: object) -> str:
    return f"account {importer} does not import {one.kind} {one.subject!r} from {one.account}: {why}"


def reply_id() -> bytes:
    return nuid.new()[:REPLY_ID_LENGTH].encode()
