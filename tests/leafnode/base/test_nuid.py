"""Ids have the length and alphabet of nuids and do not repeat."""

from leafnode.base import nuid


def test_shape_and_uniqueness() -> None:
    made = {nuid.new() for _ in range(2000)}
    assert len(made) == 2000
    assert all(len(one) == 22 and set(one) <= set(nuid.ALPHABET) for one in made)


def test_every_position_uses_the_whole_alphabet() -> None:
    made = [nuid.new() for _ in range(3000)]
    assert all(len({one[position] for one in made}) == 62 for position in range(22))
