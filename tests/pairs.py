"""Few cases that have every pair of values: each combination of dtype, layout and options is a kernel to compile.

Most faults need one value, or two that meet; a kernel takes most of a second.  The default run has the pairs, and what
is left of the product is for ``-m exhaustive``.
"""

from itertools import combinations, product

import pytest


def covering(cases, strength=2, about=tuple):
    """A few of the cases: every pair of values that occurs in one of them occurs in one of these.

    Parameters
    ----------
    cases
        In the order in which they are preferred.
    strength
        2 for pairs, 1 for single values, 3 for triples.
    about
        A function that says which (hashable) values a case has.
    """
    met = [set(combinations(enumerate(about(case)), strength)) for case in cases]
    missing, chosen = set().union(*met), []
    while missing:
        best = max(range(len(met)), key=lambda i: len(missing & met[i]))  # the first of those that are as good
        missing -= met[best]
        chosen.append(best)
    return [cases[i] for i in sorted(chosen)]


def pairwise(*axes, possible=lambda *_: True, strength=2):
    """Few combinations of a value of each axis that have every possible pair of values (or what `strength` says)."""
    every = [at for at in product(*(range(len(axis)) for axis in axes)) if possible(*_values(axes, at))]
    return [_values(axes, at) for at in covering(every, strength)]


def _values(axes, at):
    return tuple(axis[i] for axis, i in zip(axes, at, strict=True))


def exhaustive_but(usual, cases):
    """All the cases as parameters of a test, marked as exhaustive but for the usual ones."""
    return [
        pytest.param(*(case if type(case) is tuple else (case,)), marks=() if case in usual else pytest.mark.exhaustive)
        for case in cases
    ]
