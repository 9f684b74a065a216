"""The list of statistics: the result has its fields, and sets of names are checked by it."""

import re

import numpy as np
import pytest

from fastsoftmax.api.statistics import RowStats
from fastsoftmax.core import statistics
from fastsoftmax.core.statistics import BITS, NAMES, Columns, asked, wanted


def test_the_result_has_the_list_as_fields():
    assert RowStats._fields == Columns._fields == NAMES
    assert RowStats() == (None,) * 9


def test_sets_of_names():
    assert wanted("entropy", target=False) == BITS["entropy"]
    assert wanted(["rank", "log_prob", "rank"], target=True) == BITS["log_prob"] | BITS["rank"]
    everything = wanted(NAMES, target=True)
    assert asked(everything) == NAMES
    assert asked(everything, statistics.REAL) == ("log_prob", "entropy", "log_sum_exp", "max_prob", "margin")
    assert asked(BITS["rank"] | BITS["argmax"], statistics.INDEX) == ("argmax", "rank")
    assert asked(BITS["rank"], statistics.REAL) == ()


@pytest.mark.parametrize("want", ["entropie", 3, None, ["entropy", "loss"], np.zeros(2), [b"rank"]])
def test_what_is_no_name_is_refused(want):
    with pytest.raises(ValueError, match=r"^want must name some of 'log_prob', .*'top_k', got "):
        wanted(want, target=True)


def test_no_name_and_a_missing_target_are_refused():
    with pytest.raises(ValueError, match=r"want must name at least one of 'log_prob', .*, got none"):
        wanted((), target=True)
    for name in ("log_prob", "correct", "rank", "margin"):
        message = f"'{name}' needs a target, got None; pass the class index of each row"
        with pytest.raises(ValueError, match=re.escape(message)):
            wanted(("entropy", name), target=False)
