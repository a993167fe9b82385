"""The known word nearest to a mistyped one, for error messages."""

from collections.abc import Iterable

_SIMILARITY = 0.6  # of difflib's ratio; below it suggestions look like guesses


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The most similar of `known`, or None when none resembles `word`."""
    import difflib  # only wanted when something is already wrong

    found = difflib.get_close_matches(word, list(known), n=1, cutoff=_SIMILARITY)
    return found[0] if found else None


def hint(word: str, known: Iterable[str]) -> str:
    """Words to append to an error: `; did you mean 'listen'?` or nothing."""
    found = nearest(word, known)
    return f"; did you mean {found!r}?" if found else ""
