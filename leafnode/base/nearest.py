"""The known word nearest to a mistyped one, for error messages."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from difflib import SequenceMatcher

_SIMILARITY = 0.6  # of difflib's ratio; below it suggestions look like guesses
_CANDIDATES = 5  # looked at more closely
_SAME_LETTERS = 0.1  # outweighs equal ratios, not clearly better ones


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The most similar of `known`, or None when none resembles `word`."""
    import difflib  # only wanted when something is already wrong

    found = difflib.get_close_matches(word, list(known), n=_CANDIDATES, cutoff=_SIMILARITY)
    return max(found, key=lambda each: _likeness(word, each, difflib.SequenceMatcher), default=None)


def _likeness(word: str, other: str, matcher: "type[SequenceMatcher[str]]") -> float:
    """difflib's ratio; among equals the one with the same letters in another order, as fingers mix them up."""
    return matcher(None, word, other).ratio() + (_SAME_LETTERS if sorted(word) == sorted(other) else 0.0)


def hint(word: str, known: Iterable[str]) -> str:
    """Words to append to an error: `; did you mean 'listen'?` or nothing."""
    found = nearest(word, known)
    return f"; did you mean {found!r}?" if found else ""
