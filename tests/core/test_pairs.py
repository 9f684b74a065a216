"""The choice of few cases that have every pair of values."""

from itertools import combinations, product

import pytest

from tests.pairs import covering, pairwise

AXES = ("abcde", range(4), (True, False), [None, 1.5, "x"])


def parts(cases, size):
    return {part for case in cases for part in combinations(enumerate(case), size)}


def test_every_pair_occurs_in_few_cases():
    chosen = pairwise(*AXES)
    assert parts(chosen, 2) == parts(product(*AXES), 2)
    assert 20 <= len(chosen) <= 25  # of 120; the two longest axes have 20 pairs
    assert chosen == pairwise(*AXES)


def test_impossible_cases_are_left_out():
    def possible(letter, number, *_):
        return letter != "a" or number == 0

    chosen = pairwise(*AXES, possible=possible)
    assert all(possible(*case) for case in chosen)
    assert parts(chosen, 2) == parts((case for case in product(*AXES) if possible(*case)), 2)


@pytest.mark.parametrize("strength", [1, 2, 3])
def test_some_of_a_list(strength):
    cases = [case for case in product(*AXES) if len(str(case)) % 3]
    chosen = covering(cases, strength)
    assert parts(chosen, strength) == parts(cases, strength)
    assert len(chosen) < len(cases)
    assert set(chosen) <= set(cases)


def test_values_that_count():
    assert covering(["b", "a", "bb", "ab"], 1, about=lambda text: (len(text), text[0])) == ["b", "ab"]
