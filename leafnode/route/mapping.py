"""Subject mappings: what is published to one subject really goes to another (spec client-protocol section 13).

    orders.*  ->  by.{{partition(3,1)}}.$1         one destination
    old       ->  old 90%, new 10%                 shares, chosen for each message

Applied once, to what clients and leaf links publish, before anybody is looked for and before permissions are asked.
"""

from collections.abc import Callable, Iterable, Sequence

from leafnode.route.subject import is_literal, literal_start
from leafnode.route.transform import Transform, TransformError

WHOLE_PERCENT = 100
DROPPED = b""  # what a message that goes nowhere is mapped to


class Mapping:
    """One source and its destinations."""

    def __init__(
        self,
        source: str,
        destinations: Sequence[tuple[str, int]],
        choose: Callable[[int], int] | None = None,
    ) -> None:
        """`destinations`: (subject, percent). What they leave over keeps its subject, but is dropped if the source is
        itself a destination. `choose(n)` gives a random number below n; without it destinations come in turn.

        Raises:
            TransformError: a destination that cannot be filled.
        """
        self.source = source.encode()
        self.prefix = literal_start(self.source)
        self._choose = choose
        self._turn = 0
        self._shares: list[tuple[int, Transform]] = []  # (sum of percents up to and with it, where to)
        share = 0
        for subject, percent in destinations:
            if not subject:
                raise TransformError("invalid mapping destination: it is empty")
            share += percent
            self._shares.append((share, Transform(source, subject, choose)))
        if all(subject != source for subject, _ in destinations):
            self._shares.append((WHOLE_PERCENT, Transform(source, "")))

    def apply(self, subject: bytes) -> bytes | None:
        """Where a message goes, DROPPED for nowhere; None if this mapping is not about its subject."""
        pick = self._pick() if len(self._shares) > 1 or self._shares[0][0] < WHOLE_PERCENT else 0
        for share, transform in self._shares:
            if pick < share:
                return transform.apply(subject)
        return None if self._shares[0][1].apply(subject) is None else DROPPED

    def _pick(self) -> int:
        if self._choose is not None:
            return self._choose(WHOLE_PERCENT)
        self._turn = (self._turn + 1) % WHOLE_PERCENT
        return self._turn


class Mappings:
    """All mappings of an account; the first that fits is used, ones without wildcards before others."""

    def __init__(self, mappings: Iterable[Mapping]) -> None:
        self.all = tuple(mappings)
        self._literal: dict[bytes, Mapping] = {}
        for mapping in self.all:
            if is_literal(mapping.source):
                self._literal.setdefault(mapping.source, mapping)
        self._wild = [mapping for mapping in self.all if not is_literal(mapping.source)]
        self._prefixes = tuple(mapping.prefix for mapping in self._wild)

    def concerns(self, subject: bytes) -> bool:
        """False: `apply` would give the same subject; True: perhaps not."""
        return subject in self._literal or subject.startswith(self._prefixes)

    def concerns_below(self, stem: bytes) -> bool:
        """Whether it may concern some subject that begins with a stem, which ends with a dot."""
        if any(subject.startswith(stem) for subject in self._literal):
            return True
        return any(stem.startswith(prefix) or prefix.startswith(stem) for prefix in self._prefixes)

    def apply(self, subject: bytes) -> bytes:
        """Where a message of this subject goes: the same object if no mapping is about it, DROPPED for nowhere."""
        literal = self._literal.get(subject)
        if literal is not None:
            return literal.apply(subject) or DROPPED
        if subject.startswith(self._prefixes):
            for mapping in self._wild:
                if subject.startswith(mapping.prefix):
                    found = mapping.apply(subject)
                    if found is not None:
                        return found
        return subject
