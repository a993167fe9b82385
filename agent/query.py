"""From a request for facts to a statement, and from its rows to an answer. Pure but for collecting the facts.

A filter such as `os.name = 'Android' AND mem.percent > 80` becomes
`SELECT os.name, mem.percent FROM "os", "mem" WHERE (…)`: the single-row tables that it names are put into FROM, so
it either leaves one row (matched) or none. Tables with many rows are asked in a subquery,
`EXISTS (SELECT 1 FROM process WHERE name = 'sshd')`, or with a whole statement. Tags are both: `tag.site` in a filter
is the value of the tag `site` (NULL without one), `SELECT … FROM tag` sees rows of name and value.
Only tables that the expression names are collected.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from agent import explaining
from agent.errors import QueryError
from agent.facts.history import PREFIX, History
from agent.facts.table import Facts, Table
from agent.payloads import QueryReply, QueryRequest
from agent.sandbox import Answer, FileSource, Limits, Source, Word, evaluate, quoted, tokens
from leafnode.base.nearest import hint

INFO_TABLES: Final = ("host", "os", "kernel", "cpu", "load", "mem", "swap", "disk", "net", "temperature", "pi", "agent")
TAG: Final = "tag"
TAG_ROW: Final = "tag of this device"  # the one-row form; a name that nobody's subquery uses by accident


Sees = Callable[[str], bool]


def everything(table: str) -> bool:
    """Whose past may be seen: all of it."""
    return True


def answer(
    request: QueryRequest,
    facts: Facts,
    device: str,
    limits: Limits,
    history: History | None = None,
    sees: Sees = everything,
) -> QueryReply:
    """This device's answer; an expression that cannot be evaluated is an answer too."""
    if request.is_info:
        return QueryReply(id=request.id, device=device, matched=True, info=info(facts))
    try:
        if request.explain and request.where:
            found = explain(request.where, facts, limits, history, sees)
            matched = bool(found.rows[0][2])
            return QueryReply(id=request.id, device=device, matched=matched, columns=found.columns, rows=found.rows)
        found = ask(request, facts, limits, history, sees)
    except QueryError as error:
        return QueryReply(id=request.id, device=device, matched=None, error=str(error))
    matched = bool(found.rows) or request.where is None
    return QueryReply(
        id=request.id,
        device=device,
        matched=matched,
        columns=found.columns if matched else None,
        rows=found.rows if matched else None,
        truncated=found.truncated,
    )


def info(facts: Facts) -> dict[str, Any]:
    """The info document: the facts that fit a screen, tags and groups."""
    return {
        **facts.document(name for name in INFO_TABLES if name in facts),
        "tags": {str(name): value for name, value in facts[TAG].rows()} if TAG in facts else {},
        "groups": [row[0] for row in facts["groups"].rows()] if "groups" in facts else [],
    }


def ask(
    request: QueryRequest, facts: Facts, limits: Limits, history: History | None = None, sees: Sees = everything
) -> Answer:
    """The rows of a request that names `where`, `select` or `sql`.

    Raises:
        QueryError: as SQLite says it, with the nearest known name where one is unknown.
    """
    within = Limits(time_ms=limits.time_ms, rows=min(limits.rows, max(1, request.limit)), bytes=limits.bytes)
    tags: list[str] = []
    try:
        if request.sql:
            statement = request.sql
        else:
            statement, tags = filter_statement(request.where, request.select, facts)
        return evaluate(statement, sources(statement, tags, facts), within, file=past(statement, history, sees))
    except QueryError as error:
        said = explaining.stumble(_ours(str(error), request.where), request.where or request.sql or "")
        raise QueryError(_helpful(said, facts)) from error


def explain(
    where: str, facts: Facts, limits: Limits, history: History | None = None, sees: Sees = everything
) -> Answer:
    """What each part of the filter comes to, the filter itself first.

    Rows are (depth, part, result, values): result 1, 0 or None, values the columns that the part names, as JSON.

    Raises:
        QueryError: as for asking.
    """
    _balanced(where)
    found = explaining.parts(where)
    columns = explaining.columns_of(where)
    singles, tags = _named(where, facts)
    known = [name for name in columns if name.partition(".")[0].strip('"`[]').lower() in {*singles, TAG}]
    wanted = [f"({part.text}\n)" for part in found] + known
    statement = f"SELECT {', '.join(wanted)}{_from(singles, tags)}"
    try:
        answer = evaluate(statement, sources(statement, tags, facts), limits, file=past(statement, history, sees))
    except QueryError as error:
        raise QueryError(_helpful(explaining.stumble(_ours(str(error), where), where), facts)) from error
    [row] = answer.rows
    values = dict(zip(known, row[len(found) :], strict=True))
    rows = [
        (part.depth, part.text, _truth(result), _seen(part.text, values))
        for part, result in zip(found, row, strict=False)
    ]
    return Answer(("depth", "part", "result", "values"), tuple(rows), answer.truncated)


def _truth(value: Any) -> int | None:
    """As WHERE takes it: NULL is unknown, a text counts by the number that it begins with."""
    if value is None or isinstance(value, int | float):
        return value if value is None else int(bool(value))
    match = re.match(r"\s*[+-]?(\d+\.?\d*|\.\d+)", str(value))
    return int(bool(match and float(match.group())))


def _seen(text: str, values: dict[str, Any]) -> str:
    lowered = {name.lower() for name in explaining.columns_of(text)}
    return json.dumps({name: value for name, value in values.items() if name.lower() in lowered}, ensure_ascii=False)


def _named(text: str, facts: Facts) -> tuple[list[str], list[str]]:
    """The single-row tables and the tags that the text names as `table.column`."""
    references = _references(text)
    singles = _unique(table for table, _ in references if table in facts and facts[table].single)
    return singles, _unique(column for table, column in references if table == TAG)


def _from(singles: list[str], tags: list[str]) -> str:
    tables = [quoted(name) for name in singles] + ([f"{quoted(TAG_ROW)} AS {TAG}"] if tags else [])
    return f" FROM {', '.join(tables)}" if tables else ""


def filter_statement(where: str | None, select: str | None, facts: Facts) -> tuple[str, list[str]]:
    """The SELECT for a filter and a select list, and the names of tags used in the form `tag.NAME`."""
    for text in filter(None, (where, select)):
        _balanced(text)
    singles, tags = _named(f"{where or ''} , {select or ''}", facts)
    wanted = select or ", ".join(
        _unique(
            f"{quoted(table)}.{quoted(column)} AS {quoted(f'{table}.{column}')}"
            for table, column in _references(where or "")
            if table in singles or table == TAG
        )
    )
    condition = f" WHERE ({where}\n)" if where else ""  # the line break ends a comment
    return f"SELECT {wanted or '1 AS matched'}{_from(singles, tags)}{condition}", tags


def sources(statement: str, tags: list[str], facts: Facts) -> list[Source]:
    """The tables that the statement names, collected now."""
    named = _unique(token.name.lower() for token in tokens(statement) if isinstance(token, Word))
    tables: list[Table] = [facts[name] for name in named if name in facts]
    found = [Source(table.name, table.columns, facts.rows(table.name)) for table in tables]
    if tags:
        values = {str(name): value for name, value in facts[TAG].rows()}
        found.append(Source(TAG_ROW, tags, [[_tag(values, tag) for tag in tags]]))
    return found


def past(statement: str, history: History | None, sees: Sees = everything) -> FileSource | None:
    """The file of the history when the statement names one of its tables, those of it that may be seen."""
    if history is None or PREFIX not in statement.lower():
        return None
    history.flush()
    return FileSource(history.path, frozenset(name for name in history.columns() if sees(name.removeprefix(PREFIX))))


def _tag(values: dict[str, Any], wanted: str) -> Any:
    """A tag's value; names are compared without case, as SQLite does for columns."""
    return next((value for name, value in values.items() if name.lower() == wanted.lower()), None)


def _references(text: str) -> list[tuple[str, str]]:
    """Every `table.column`, the table in lower case."""
    found = tokens(text)
    triples = zip(found, found[1:], found[2:], strict=False)
    return [
        (table.name.lower(), column.name)
        for table, dot, column in triples
        if isinstance(table, Word) and dot == "." and isinstance(column, Word)
    ]


def _unique(names: Iterable[str]) -> list[str]:
    """In order of first appearance, the same in another case only once."""
    return list({name.lower(): name for name in reversed(list(names))}.values())[::-1]


def _balanced(text: str) -> None:
    """A filter that closes the parenthesis we open around it would mean something else than it says."""
    depth = 0
    for token in tokens(text):
        depth += (token == "(") - (token == ")")
        if depth < 0 or token == ";":
            raise QueryError(f"unexpected {token!r} in the expression")
        if token in ("'", '"', "`", "["):
            raise QueryError(f"a {token} is not closed")
    if depth:
        raise QueryError("a parenthesis is not closed")


def _ours(error: str, where: str | None) -> str:
    """The parenthesis that SQLite stumbles over may be the one that we put behind the filter."""
    if error.startswith('near ")"') and where is not None and ")" not in where:
        return "the expression ends too early: syntax error"
    return error


def _helpful(error: str, facts: Facts) -> str:
    """SQLite's words, and what may have been meant."""
    kind, mark, name = error.partition(": ")
    if not mark:
        return error
    if kind == "no such table":
        return f"{error}{hint(name, facts.names()) or f' (known: {chr(44).join(facts.names())})'}"
    if kind != "no such column":
        return error
    table = name.partition(".")[0].lower()
    if table in facts and not facts[table].single:
        return f"{error}: {table} has many rows: ask EXISTS (SELECT 1 FROM {table} WHERE …)"
    if table in facts:
        near = hint(name, (f"{table}.{column}" for column in facts[table].columns))
        return f"{error}{near or f' ({table} has {chr(44).join(facts[table].columns)})'}"
    if "." not in name:
        near = hint(name, [*facts.names(), *facts.columns()])
        return f"{error}{near}; a text stands in single quotes: {name!r}" if not near else f"{error}{near}"
    return f"{error}{hint(name, facts.columns())}"
