"""Random programs of requests at both servers: a few here, thousands with `make compare`."""

from collections.abc import Iterator

import pytest

from tests.conformance.pair import Pair, pair_of
from tests.conformance.programs import check

SEEDS = range(1000, 1012)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair_of(tmp_path_factory.mktemp("pair")) as both:
        yield both


@pytest.mark.parametrize("seed", SEEDS)
def test_both_say_the_same(pair: Pair, seed: int) -> None:
    difference = check(pair, seed)
    if difference:
        pytest.fail(difference, pytrace=False)
