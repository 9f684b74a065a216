"""Random calls of the linear functions against the reference."""

from hypothesis import given
from support import seeds
from support_linear_random import Menu, compare, drawn


@given(seeds)
def test_random_calls(seed):
    compare(drawn(seed, Menu()))
