"""Subject transforms (ADR-36, ADR-6): tokens caught by a source pattern are placed into a destination.

    source `orders.*.*`   destination `by.{{partition(3,1)}}.$2`   orders.7.roof -> by.0.roof

`$n` and `{{wildcard(n)}}` stand for the n-th `*`; a trailing `>` carries the rest over. The functions are in
`_FUNCTIONS`; their names are the same in any case.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from leafnode.route.subject import is_valid, matches

_INDEX = re.compile(r"\$(\d{1,3})")
_CALL = re.compile(r"\{\{\s*(\w+)\s*\(([^()]*)\)\s*\}\}")
_FNV_OFFSET, _FNV_PRIME, _FNV_MASK = 2166136261, 16777619, 0xFFFFFFFF  # FNV-1a of 32 bits


class TransformError(ValueError):
    """The pair of patterns makes no sense; says why."""


class _Call(NamedTuple):
    """One function of the destination with its arguments."""

    apply: Callable[["_Call", Sequence[bytes], bytes], bytes]
    wildcards: tuple[int, ...]  # which caught tokens it works on, from 1; none: see the function
    number: int = 0
    delimiter: bytes = b""
    choose: Callable[[int], int] = int


class Transform:
    """One source pattern and where what it matches goes."""

    def __init__(self, source: str, destination: str, choose: Callable[[int], int] | None = None) -> None:
        """An empty source stands for everything, an empty destination for no change.

        `choose(n)` gives a random number below n, for `{{random(n)}}`; without it the numbers come in turn.

        Raises:
            TransformError: not a pattern, or a destination that cannot be filled.
        """
        self.source = (source or ">").encode()
        if not is_valid(self.source):
            raise TransformError(f"invalid transform source: {source}")
        self._pattern = self.source.split(b".")
        self._wildcards = self._pattern.count(b"*")
        self._keeps = not destination
        self._choose = choose or _in_turn()
        self._parts = [self._part(token) for token in (destination or ">").split(".")]
        if destination:
            self._check(destination)

    def _part(self, token: str) -> bytes | int | _Call:
        index = _INDEX.fullmatch(token)
        if index:
            return self._in_range(int(index[1]), token)
        if "{{" not in token:
            return token.encode()
        called = _CALL.fullmatch(token)
        make = _FUNCTIONS.get(called[1].lower()) if called else None
        if called is None or make is None:
            raise TransformError(f"invalid mapping destination: unknown function in {token}")
        arguments = [argument.strip() for argument in called[2].split(",")]
        call = make([argument for argument in arguments if argument], token)
        for number in call.wildcards:
            self._in_range(number, token)
        if call.apply is _wildcard:
            return call.wildcards[0]
        return call._replace(choose=self._choose)

    def _in_range(self, number: int, token: str) -> int:
        if not 1 <= number <= self._wildcards:
            raise TransformError(f"invalid mapping destination: wildcard index out of range in {token}: [{number}]")
        return number

    def _check(self, destination: str) -> None:
        carries = self._pattern[-1] == b">"
        if not is_valid(re.sub(r"\{\{[^}]*\}\}", "x", destination).encode()):
            raise TransformError("invalid mapping destination: invalid transform")
        if b"*" in self._parts or (self._parts[-1] == b">") != carries:
            raise TransformError("invalid subject: '*' is written as $1, $2, …, and both or neither end with '>'")

    def apply(self, subject: bytes) -> bytes | None:
        """The new subject; None if the source does not match."""
        if not matches(self.source, subject):
            return None
        if self._keeps:
            return subject
        tokens = subject.split(b".")
        pattern = self._pattern
        caught = [token for token, want in zip(tokens, pattern, strict=False) if want == b"*"]
        made: list[bytes] = []
        for part in self._parts:
            if isinstance(part, int):
                made.append(caught[part - 1])
            elif isinstance(part, _Call):
                made.append(part.apply(part, caught, subject))
            elif part == b">":
                made.extend(tokens[len(pattern) - 1 :])
            else:
                made.append(part)
        return b".".join(made)


def _in_turn() -> Callable[[int], int]:
    count = itertools.count()
    return lambda below: next(count) % below


# the functions: first how each is read, then what it does


def _numbers(arguments: Sequence[str], least: int, most: int, token: str) -> list[int]:
    if len(arguments) < least:
        raise TransformError(f"invalid mapping destination: not enough arguments passed to the function in {token}")
    if len(arguments) > most:
        raise TransformError(f"invalid mapping destination: too many arguments passed to the function in {token}")
    if any(re.fullmatch("[0-9]{1,9}", argument) is None for argument in arguments):
        raise _bad_argument(token)
    return [int(argument) for argument in arguments]


def _bad_argument(token: str) -> TransformError:
    wrong = "function argument is invalid or in the wrong format"
    return TransformError(f"invalid mapping destination: {wrong} in {token}")


def _read_wildcard(arguments: Sequence[str], token: str) -> _Call:
    return _Call(_wildcard, tuple(_numbers(arguments, 1, 1, token)))


def _read_partition(arguments: Sequence[str], token: str) -> _Call:
    buckets, *wildcards = _numbers(arguments, 1, len(arguments) or 1, token)
    if not buckets:
        raise _bad_argument(token)
    return _Call(_partition, tuple(wildcards), buckets)


def _read_random(arguments: Sequence[str], token: str) -> _Call:
    (below,) = _numbers(arguments, 1, 1, token)
    if not below:
        raise _bad_argument(token)
    return _Call(_random, (), below)


def _read_split(arguments: Sequence[str], token: str) -> _Call:
    numbers = _numbers(arguments[:1], 1, 1, token)
    if len(arguments) != 2:
        _numbers(["1"] * len(arguments), 2, 2, token)
    return _Call(_split, tuple(numbers), delimiter=arguments[1].encode())


def _with_size(apply: Callable[[bytes, int], bytes]) -> Callable[[Sequence[str], str], _Call]:
    """Functions of one token and a number of bytes; a size that the token does not have leaves it as it is."""

    def run(call: _Call, caught: Sequence[bytes], subject: bytes) -> bytes:
        token = caught[call.wildcards[0] - 1]
        return apply(token, call.number) if 0 < call.number < len(token) else token

    def read(arguments: Sequence[str], token: str) -> _Call:
        index, size = _numbers(arguments, 2, 2, token)
        return _Call(run, (index,), size)

    return read


def _wildcard(call: _Call, caught: Sequence[bytes], subject: bytes) -> bytes:
    return caught[call.wildcards[0] - 1]


def _partition(call: _Call, caught: Sequence[bytes], subject: bytes) -> bytes:
    key = b"".join(caught[number - 1] for number in call.wildcards) if call.wildcards else subject
    mixed = _FNV_OFFSET
    for byte in key:
        mixed = (mixed ^ byte) * _FNV_PRIME & _FNV_MASK
    return b"%d" % (mixed % call.number)


def _random(call: _Call, caught: Sequence[bytes], subject: bytes) -> bytes:
    return b"%d" % call.choose(call.number)


def _split(call: _Call, caught: Sequence[bytes], subject: bytes) -> bytes:
    return b".".join(piece for piece in caught[call.wildcards[0] - 1].split(call.delimiter) if piece)


def _slice(token: bytes, size: int, first: int) -> bytes:
    head = [token[:first]] if first else []
    return b".".join([*head, *(token[at : at + size] for at in range(first, len(token), size))])


_FUNCTIONS: dict[str, Callable[[Sequence[str], str], _Call]] = {
    "wildcard": _read_wildcard,
    "partition": _read_partition,
    "random": _read_random,
    "split": _read_split,
    "splitfromleft": _with_size(lambda token, size: token[:size] + b"." + token[size:]),
    "splitfromright": _with_size(lambda token, size: token[:-size] + b"." + token[-size:]),
    "slicefromleft": _with_size(lambda token, size: _slice(token, size, 0)),
    "slicefromright": _with_size(lambda token, size: _slice(token, size, len(token) % size)),
    "left": _with_size(lambda token, size: token[:size]),
    "right": _with_size(lambda token, size: token[-size:]),
}
