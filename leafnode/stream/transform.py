"""Subject transforms (ADR-36): tokens caught by a source pattern are placed into a destination.

    src `orders.*.*`   dest `ord.{{wildcard(2)}}.$1`

`$n` and `{{wildcard(n)}}` stand for the n-th `*`; a trailing `>` carries the rest over. Of the functions of ADR-36 this
is the part built; others are refused when the transform is made.
"""

import re

from leafnode.route.subject import is_valid, matches

_PLACE = re.compile(r"\$(\d+)|\{\{\s*[wW]ildcard\(\s*(\d+)\s*\)\s*\}\}")


class TransformError(ValueError):
    """The pair of patterns makes no sense; says why."""


class Transform:
    """One source pattern and where what it matches goes."""

    def __init__(self, source: str, destination: str) -> None:
        """An empty source stands for everything, an empty destination for no change.

        Raises:
            TransformError: not a pattern, or a destination that cannot be filled.
        """
        self.source = (source or ">").encode()
        if not is_valid(self.source):
            raise TransformError(f"invalid transform source: {source}")
        self._keeps = not destination
        self._parts = [self._part(token) for token in (destination or ">").split(".")]
        self._check(destination)

    def _part(self, token: str) -> bytes | int:
        found = _PLACE.fullmatch(token)
        if found:
            return int(found[1] or found[2])
        if "{{" in token:
            raise TransformError(f"invalid mapping destination: unknown function in {token}")
        return token.encode()

    def _check(self, destination: str) -> None:
        wildcards = self.source.split(b".").count(b"*")
        carries = self.source.split(b".")[-1] == b">"
        if destination and not is_valid(re.sub(r"\{\{[^}]*\}\}", "x", destination).encode()):
            raise TransformError("invalid mapping destination")
        stars = 0
        for part in self._parts:
            if isinstance(part, int) and not 1 <= part <= wildcards:
                raise TransformError(f"invalid mapping destination: wildcard index out of range: {part}")
            stars += part == b"*"
        if not self._keeps and (stars > wildcards or (self._parts[-1] == b">") != carries):
            raise TransformError("invalid mapping destination: wildcards do not match the source's")

    def apply(self, subject: bytes) -> bytes | None:
        """The new subject; None if the source does not match."""
        if not matches(self.source, subject):
            return None
        if self._keeps:
            return subject
        tokens = subject.split(b".")
        pattern = self.source.split(b".")
        caught = [token for token, want in zip(tokens, pattern, strict=False) if want == b"*"]
        rest = tokens[len(pattern) - 1 :]
        made: list[bytes] = []
        stars = 0
        for part in self._parts:
            if isinstance(part, int):
                made.append(caught[part - 1])
            elif part == b"*":
                made.append(caught[stars])
                stars += 1
            elif part == b">":
                made.extend(rest)
            else:
                made.append(part)
        return b".".join(made)
