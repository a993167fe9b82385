"""The targets of `make fuzz` on what they begin with, and on a little noise."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, seeds


@pytest.mark.parametrize("name", list(TARGETS))
def test_seeds(name: str) -> None:
    for seed in seeds(name):
        TARGETS[name](seed)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(TARGETS)), st.data())
def test_seeds_that_were_damaged(name: str, data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(list(seeds(name))))
    at = data.draw(st.integers(0, len(seed)))
    noise = data.draw(st.binary(max_size=8))
    TARGETS[name](seed[:at] + noise + seed[at + data.draw(st.integers(0, 8)) :])
