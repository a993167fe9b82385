"""Why a filter matched or did not: its parts, what each came to, and the values that it saw. Pure.

    mem.percent > 80 AND (tag.site = 'roof' OR tag.site = 'attic')

is taken apart at AND, OR, NOT and the parentheses around conditions; what is left is a condition that SQLite judges as
a whole (a comparison, BETWEEN, IN, EXISTS, CASE). The parts are found with the tokens that the sandbox uses, so that
a string or a comment cannot be mistaken for a word.

Also: where in a text SQLite stumbled, with the word that may have been meant.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from agent.sandbox import Word, tokens
from leafnode.base.nearest import hint

MAX_PARTS: Final = 32  # conditions that one explanation evaluates; the rest is judged with what contains it
KEYWORDS: Final = (
    "AND",
    "OR",
    "NOT",
    "LIKE",
    "IN",
    "IS",
    "NULL",
    "BETWEEN",
    "EXISTS",
    "SELECT",
    "FROM",
    "WHERE",
    "CASE",
)
_OPERATORS: Final = {"&": "AND", "|": "OR", "!": "NOT"}
_NEAR: Final = re.compile(r'near "(?P<word>.*)": syntax error', re.S)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a filter: the text, how deep it lies, and the word that binds its own parts (empty: a condition)."""

    depth: int
    text: str
    binds: str


@dataclass(frozen=True, slots=True)
class _Token:
    word: str
    """In upper case; empty for literals and names in quotes."""
    start: int
    end: int


def parts(where: str) -> list[Part]:
    """The filter itself, then its parts, each before its own; at most MAX_PARTS."""
    found: list[Part] = []
    for part in _walk(where, _located(where), 0):
        found.append(part)
        if len(found) == MAX_PARTS:
            break
    return found


def _located(text: str) -> list[_Token]:
    """The tokens that count, with their places. `tokens` gives names their start; the others are found between."""
    found: list[_Token] = []
    at = 0
    for token in tokens(text):
        at = _skip(text, at)
        if isinstance(token, Word):
            end = token.start + len(token.text)
            word = token.text.upper() if token.text[0] not in '"`[' else ""
            found.append(_Token(word, token.start, end))
        elif token:
            end = at + len(token)
            found.append(_Token(token, at, end))
        else:
            end = at + _literal_length(text, at)
            found.append(_Token("", at, end))
        at = end
    return found


_SPACE: Final = re.compile(r"(?:\s+|--[^\n]*|/\*.*?(?:\*/|\Z))*", re.S)
_LITERAL: Final = re.compile(r"'(?:[^']|'')*'|\d[\w.]*|\.\d\w*", re.S)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _literal_length(text: str, at: int) -> int:
    match = _LITERAL.match(text, at)
    return match.end() - at if match else 1


def _walk(text: str, inside: Sequence[_Token], depth: int) -> Iterator[Part]:
    inside = _bare(inside)
    if not inside:
        return
    shown = text[inside[0].start : inside[-1].end]
    for binds in ("OR", "AND"):
        pieces = _split(inside, binds)
        if len(pieces) > 1:
            yield Part(depth, shown, binds)
            for piece in pieces:
                yield from _walk(text, piece, depth + 1)
            return
    if inside[0].word == "NOT":
        yield Part(depth, shown, "NOT")
        yield from _walk(text, inside[1:], depth + 1)
        return
    yield Part(depth, shown, "")


def _bare(inside: Sequence[_Token]) -> Sequence[_Token]:
    """Without the parentheses that enclose all of it, unless they hold a statement."""
    while len(inside) > 2 and inside[0].word == "(" and _closes(inside) == len(inside) - 1:
        if inside[1].word == "SELECT":
            break
        inside = inside[1:-1]
    return inside


def _closes(inside: Sequence[_Token]) -> int:
    """The place of the parenthesis that closes the first one."""
    depth = 0
    for place, token in enumerate(inside):
        depth += (token.word == "(") - (token.word == ")")
        if not depth:
            return place
    return len(inside)


def _split(inside: Sequence[_Token], at: str) -> list[Sequence[_Token]]:
    """The pieces between the words `at` that bind conditions: not in parentheses or CASE, not BETWEEN's own AND."""
    pieces: list[Sequence[_Token]] = []
    depth = begin = 0
    between = False
    for place, token in enumerate(inside):
        depth += (token.word in ("(", "CASE")) - (token.word in (")", "END"))
        if depth:
            continue
        if token.word == "BETWEEN":
            between = True
        elif token.word == "AND" and between:
            between = False
        elif token.word == at:
            pieces.append(inside[begin:place])
            begin = place + 1
    pieces.append(inside[begin:])
    return pieces if all(pieces) else [inside]


def columns_of(text: str) -> list[str]:
    """Every `table.column` in the text as written, once."""
    found = tokens(text)
    names = [
        f"{table.text}.{column.text}"
        for table, dot, column in zip(found, found[1:], found[2:], strict=False)
        if isinstance(table, Word) and dot == "." and isinstance(column, Word)
    ]
    return list({name.lower(): name for name in names}.values())


def stumble(error: str, text: str) -> str:
    """SQLite's syntax error with the place in `text` and what may have been meant; `error` as it is if it is another.

    Three lines: the error, the text, a caret below the place.
    """
    match = _NEAR.match(error)
    if match is None:
        if error in ("incomplete input", "the expression ends too early: syntax error"):
            return _marked("syntax error: the expression ends too early", text.rstrip(), len(text.rstrip()))
        return error
    word = match["word"]
    place = _place(text, word)
    if place is None:
        return error
    return _marked(f"syntax error at {word!r}{_meant(text, place, word)}", text, place)


def _place(text: str, word: str) -> int | None:
    """Where the word stands as a token: the last place is where a parser that reads on stumbles."""
    places = [token.start for token in _located(text) if text[token.start : token.end].lower() == word.lower()]
    return places[-1] if places else None


def _meant(text: str, place: int, word: str) -> str:
    before = text[:place].rstrip()
    for typed, meant in _OPERATORS.items():
        if word == typed or before.endswith(typed):
            return f"; write {meant}"
    suspect = before.rsplit(None, 1)[-1].upper() if before else ""
    earlier = hint(suspect, KEYWORDS) if suspect.isalpha() and suspect not in KEYWORDS else ""
    return earlier or hint(word.upper(), KEYWORDS)


def _marked(reason: str, text: str, place: int) -> str:
    line = " ".join(text.splitlines()) or text
    return f"{reason}\n  {line}\n  {' ' * place}^"
