"""Whether what accounts import is exported to them, under names that fit, and does not go round in circles. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from leafnode.config.options import AccountConfig, ExportConfig, ImportConfig
from leafnode.route.passage import Passage
from leafnode.route.subject import is_literal, is_subset, overlap
from leafnode.route.transform import TransformError

ImportsOf = Callable[[str], Iterable[ImportConfig]]
"""Account to what it imports."""


def problems(accounts: Mapping[str, AccountConfig]) -> Iterator[str]:
    """What is wrong, in words for whoever wrote it."""
    for account in accounts.values():
        yield from _export_problems(account, accounts)
        sound = True
        for problem in _import_problems(account, accounts):
            sound = False
            yield problem
        if sound:
            yield from _repeated(account)

    def imports_of(name: str) -> Iterable[ImportConfig]:
        return accounts[name].imports if name in accounts else ()

    for account in accounts.values():
        for wanted in account.imports:
            if returns(wanted, imports_of):
                yield f"{_adding(wanted, account)}: import forms a cycle"


def _export_problems(account: AccountConfig, accounts: Mapping[str, AccountConfig]) -> Iterator[str]:
    for export in account.exports:
        for name in export.accounts or ():
            if name not in accounts:
                yield f"{name!r} account not defined for {export.kind} export of {account.name!r}"


def _import_problems(account: AccountConfig, accounts: Mapping[str, AccountConfig]) -> Iterator[str]:
    for wanted in account.imports:
        exporter = accounts.get(wanted.account)
        if exporter is None:
            yield f"{wanted.account!r} account not defined for {wanted.kind} import of {account.name!r}"
            continue
        if export_for(wanted, account.name, exporter.exports) is None:
            yield (
                f"{_adding(wanted, account)}: {wanted.kind} import not authorized: "
                f"{wanted.account!r} does not export it{' to this account' if _is_private(wanted, exporter) else ''}"
            )
        if not is_literal(wanted.prefix.encode()):
            yield f"{_adding(wanted, account)}: stream import prefix can not contain wildcard tokens"
            continue
        try:
            passage_of(wanted)
        except TransformError as error:
            yield f"{_adding(wanted, account)} as {wanted.to or wanted.prefix!r}: {error}"


def _adding(wanted: ImportConfig, account: AccountConfig) -> str:
    return f"Error adding {wanted.kind} import {wanted.subject!r} to {account.name!r}"


def _is_private(wanted: ImportConfig, exporter: AccountConfig) -> bool:
    subject = wanted.subject.encode()
    return any(
        export.kind == wanted.kind and is_subset(subject, export.subject.encode()) for export in exporter.exports
    )


def _repeated(account: AccountConfig) -> Iterator[str]:
    """Two services of an account cannot answer to one name, and a stream imported twice would come twice."""
    seen = set()
    for wanted in account.imports:
        local = passage_of(wanted).local
        mark = (wanted.kind, wanted.account, local if wanted.kind == "service" else wanted.subject)
        if mark in seen:
            yield f"{_adding(wanted, account)}: {wanted.kind} import already exists as {local.decode()!r}"
        seen.add(mark)


def returns(wanted: ImportConfig, imports_of: ImportsOf) -> bool:
    """Whether what is imported is, where it comes from, imported from here again."""
    return _leads_to(wanted, wanted, imports_of, [wanted])


def _leads_to(goal: ImportConfig, wanted: ImportConfig, imports_of: ImportsOf, seen: list[ImportConfig]) -> bool:
    for further in imports_of(wanted.account):
        if further.kind != wanted.kind or not overlap(_local(further), wanted.subject.encode()):
            continue
        if further == goal:
            return True
        if further not in seen:
            seen.append(further)
            if _leads_to(goal, further, imports_of, seen):
                return True
    return False


def _local(wanted: ImportConfig) -> bytes:
    try:
        return passage_of(wanted).local
    except TransformError:
        return wanted.subject.encode()


def passage_of(wanted: ImportConfig) -> Passage:
    """Raises TransformError where there is no way from one subject to the other."""
    if wanted.prefix:
        return Passage(wanted.subject, f"{wanted.prefix.removesuffix('.')}.{wanted.subject}")
    return Passage(wanted.subject, wanted.to or wanted.subject)


def export_for(wanted: ImportConfig, importer: str, exports: Iterable[ExportConfig]) -> ExportConfig | None:
    """The export that allows an import: the one with just its subject, else a wider one; None: there is none.

    Whether an activation token that the export requires is good is not looked at.
    """
    subject = wanted.subject.encode()
    fitting = [
        export for export in exports if export.kind == wanted.kind and is_subset(subject, export.subject.encode())
    ]
    exact = [export for export in fitting if export.subject == wanted.subject]
    return next((export for export in exact or fitting if _admits(export, wanted, importer)), None)


def _admits(export: ExportConfig, wanted: ImportConfig, importer: str) -> bool:
    position = export.account_token_position
    if position:
        return wanted.subject.split(".")[position - 1 : position] == [importer]
    return export.accounts is None or importer in export.accounts
