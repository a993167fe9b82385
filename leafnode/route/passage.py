"""The two names of what one account imports from another.

    exporter `pub.*.>`  <->  importer `theirs.$1.>`        pub.a.b <-> theirs.a.b

A `*` on the importer's side stands for the exporter's of the same rank; `$n` and `{{wildcard(n)}}` name one.
"""

import re

from leafnode.route.subject import intersection, is_valid
from leafnode.route.transform import Transform, TransformError

_WILDCARD = re.compile(r"\*|\$(\d{1,3})|\{\{\s*wildcard\(\s*(\d{1,3})\s*\)\s*\}\}", re.IGNORECASE)


class Passage:
    """Translates subjects, and patterns of them, between exporter and importer."""

    def __init__(self, exported: str, local: str) -> None:
        """`local`: the importer's name, possibly with places for the exporter's wildcards.

        Raises:
            TransformError: one does not say all that the other needs.
        """
        order: list[int] = []  # which of the exporter's wildcards each of the importer's is
        tokens = [self._place(token, order) for token in local.split(".")]
        count = exported.split(".").count("*")
        if sorted(order) != list(range(1, count + 1)):
            reason = "wildcard index out of range" if any(index > count for index in order) else _UNUSED
            raise TransformError(f"invalid mapping destination: {reason} in {local}")
        self.exported = exported.encode()
        self.local = ".".join("*" if isinstance(token, int) else token for token in tokens).encode()
        if not is_valid(self.exported) or not is_valid(self.local):
            raise TransformError("invalid subject")
        inward = _numbered(exported, [order.index(rank) + 1 for rank in range(1, count + 1)])
        self._out = Transform(exported, ".".join(f"${token}" if isinstance(token, int) else token for token in tokens))
        self._in = Transform(self.local.decode(), inward)

    @staticmethod
    def _place(token: str, order: list[int]) -> str | int:
        found = _WILDCARD.fullmatch(token)
        if not found:
            if "{{" in token:
                raise TransformError(f"invalid mapping destination: only {{{{wildcard(n)}}}} is allowed, not {token}")
            return token
        order.append(int(found[1] or found[2] or len(order) + 1))
        return order[-1]

    def to_local(self, subject: bytes) -> bytes | None:
        """What the importer calls a subject of the exporter; None if it is not imported."""
        return self._out.apply(subject)

    def to_exported(self, subject: bytes) -> bytes | None:
        """What the exporter calls a subject of the importer; None if it is not imported."""
        return self._in.apply(subject)

    def wanted(self, pattern: bytes) -> bytes | None:
        """What the importer's interest in a pattern means to the exporter; None: nothing."""
        both = intersection(self.local, pattern)
        return self._in.apply(both) if both is not None else None


_UNUSED = "not using all of the token wildcard(s)"


def _numbered(pattern: str, numbers: list[int]) -> str:
    """The pattern with `$n` for its wildcards, n from `numbers`."""
    following = iter(numbers)
    return ".".join(f"${next(following)}" if token == "*" else token for token in pattern.split("."))
