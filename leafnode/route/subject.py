"""The grammar of subjects (ADR-6; spec client-protocol section 5). All on bytes, as they travel.

Tokens separated by dots; `*` stands for exactly one token, `>` for one or more at the end. Both are wildcards only
when they are the whole token.
"""

RESERVED_SUBJECTS = (b"$NRG.", b"_GR_.")  # between servers of a cluster, which clients must not pretend to be
RESERVED_REPLIES = (b"$JS.ACK.", b"_R_.", b"_GR_.")
_FORBIDDEN = frozenset(b" \t\r\n\f")


def is_valid(subject: bytes) -> bool:
    """May be subscribed to: no empty token, no white space, `>` only at the end."""
    if not subject or not _FORBIDDEN.isdisjoint(subject):
        return False
    tokens = subject.split(b".")
    return b"" not in tokens and b">" not in tokens[:-1]


def is_literal(subject: bytes) -> bool:
    """Has no wildcard token."""
    if b"*" not in subject and b">" not in subject:
        return True
    tokens = subject.split(b".")
    return b"*" not in tokens and b">" not in tokens


def literal_start(pattern: bytes) -> bytes:
    """What every subject of a pattern begins with."""
    tokens = pattern.split(b".")
    for position, token in enumerate(tokens):
        if token in (b"*", b">"):
            return b"".join(before + b"." for before in tokens[:position])
    return pattern


def is_publishable(subject: bytes) -> bool:
    """Valid and literal: what pedantic clients may publish to."""
    return is_valid(subject) and is_literal(subject)


def matches(pattern: bytes, subject: bytes) -> bool:
    """Whether a literal subject is covered by a pattern. A wildcard in `subject` is an ordinary token."""
    if pattern == subject or pattern == b">":
        return True
    if b"*" not in pattern and b">" not in pattern:
        return False
    want = pattern.split(b".")
    have = subject.split(b".")
    return _covers(want, have)


def _covers(want: list[bytes], have: list[bytes]) -> bool:
    for position, token in enumerate(want):
        if token == b">":
            return len(have) > position
        if position >= len(have) or (token != b"*" and token != have[position]):
            return False
    return len(want) == len(have)


def is_subset(inner: bytes, outer: bytes) -> bool:
    """Whether everything `inner` matches is matched by `outer`; both may have wildcards."""
    have = inner.split(b".")
    want = outer.split(b".")
    for position, token in enumerate(want):
        if token == b">":
            return len(have) > position
        if position >= len(have):
            return False
        other = have[position]
        if other == b">" or (token != b"*" and token != other):
            return False
    return len(want) == len(have)


def overlap(left: bytes, right: bytes) -> bool:
    """Whether some literal subject is matched by both."""
    one = left.split(b".")
    two = right.split(b".")
    for a, b in zip(one, two, strict=False):
        if a == b">" or b == b">":
            return True
        if a != b and a != b"*" and b != b"*":
            return False
    return len(one) == len(two)


def intersection(left: bytes, right: bytes) -> bytes | None:
    """The pattern of what both match; None if that is nothing."""
    one = left.split(b".")
    two = right.split(b".")
    both: list[bytes] = []
    for position, (a, b) in enumerate(zip(one, two, strict=False)):
        if a == b">":
            return b".".join(both + two[position:])
        if b == b">":
            return b".".join(both + one[position:])
        if a != b and a != b"*" and b != b"*":
            return None
        both.append(b if a == b"*" else a)
    return b".".join(both) if len(one) == len(two) else None
